"""Can a network fit random labels?

Claim: 784-256-256-256-10 (335,114 parameters) fits 60,000 MNIST images whose labels are all
shuffled, to at least 99.9% training accuracy for every seed, while its test accuracy stays at
chance; with true labels the same network and recipe generalise. Capacity alone explains neither.
(Zhang et al. 2017, arXiv 1611.03530, figure 1a and 1c.) The optimizer is Muon, which needs far
fewer epochs for it than Adam.

    python hw1/random_labels.py

writes hw1/logs/random_labels_mnist.csv.
"""

import sys

import train
from lab import flags, runs
from lab.files import SHAPES

EPOCHS = {"mnist": 30, "cifar10": 60, "digits": 60}
BATCH_SIZE = {"mnist": 4096, "cifar10": 4096, "digits": 256}
CORRUPTION = {1.0: None, 0.75: 1, 0.5: 1, 0.25: 1, 0.0: None}  # seeds used; None for all
COLUMNS = ("label_corruption", "epoch", *train.METRICS)


def main():
    """Train on labels that are shuffled to five degrees; log every loss on the way."""
    args = flags.arguments(__doc__, dataset="mnist", epochs=EPOCHS, quick_epochs=5)
    channels, height, width = SHAPES[args.dataset]
    settings = [
        runs.setting(
            args,
            model=f"mlp-{channels * height * width}-256-256-256-10",
            label_corruption=corruption,
            optimizer="muon",
            lr=8e-3,
            batch_size=BATCH_SIZE[args.dataset],
            schedule="linear",
            log_every=5,
            seed=seed,
        )
        for corruption, seeds in CORRUPTION.items()
        for seed in args.seeds[:seeds]
    ]
    tasks = [{"log": "random_labels", "runs": [setting]} for setting in settings]
    return runs.run(args, {"random_labels": COLUMNS}, tasks, measure)


def measure(task, states, tensors):
    """Return a row for each epoch that was measured in training."""
    [setting], [state] = task["runs"], states
    row = runs.common(setting) | {"label_corruption": setting["label_corruption"]}
    return [row | measured for measured in state["history"]]


if __name__ == "__main__":
    sys.exit(main())
