"""Can a network fit random labels?

Claim: 784-256-256-256-10 (335,114 parameters) fits 60,000 MNIST images whose labels are all
shuffled, while its test accuracy ends at chance; with true labels the same network and recipe
generalise. So the number of parameters alone cannot explain why they do. (Zhang et al. 2017, arXiv
1611.03530, figure 1.)

Found: 99.82% train and 9.8% test accuracy with shuffled labels, 98.2% test accuracy with true ones.
That took 35 minutes, for some of them beside another experiment, on two cores of an Intel Xeon.

    python hw1/random_labels.py

writes hw1/logs/random_labels_mnist.csv and the figure of the same name.
"""

import sys

from lab import flags, runs, settings

import train

EPOCHS = {"mnist": 140, "fashion_mnist": 140, "cifar10": 140, "digits": 140}
BATCH_SIZE = {"mnist": 1024, "fashion_mnist": 1024, "cifar10": 1024, "digits": 64}
CORRUPTION = (1.0, 0.75, 0.5, 0.25, 0.0)
COLUMNS = ("label_corruption", "epoch", *train.METRICS)


def main():
    """Train on labels that are shuffled to five degrees; log losses and accuracies on the way."""
    args = flags.arguments(__doc__, dataset="mnist", epochs=EPOCHS, quick_epochs=5)
    model = settings.mlp_for(args.dataset, 256, 256, 256)
    grid = [
        settings.setting(
            args,
            model=model,
            label_corruption=corruption,
            optimizer="adam",
            lr=1e-3,
            batch_size=BATCH_SIZE[args.dataset],
            schedule="linear",
            log_growth=0.05,
            seed=seed,
        )
        for corruption in CORRUPTION
        for seed in args.seeds
    ]
    tasks = [{"log": "random_labels", "runs": [setting]} for setting in grid]
    return runs.run(args, {"random_labels": COLUMNS}, tasks, measure)


def measure(task, states, tensors):
    """Return a row for each epoch that was measured in training."""
    [setting], [state] = task["runs"], states
    row = settings.common(setting) | {"label_corruption": setting["label_corruption"]}
    return [row | measured for measured in state["history"]]


if __name__ == "__main__":
    sys.exit(runs.start(main))
