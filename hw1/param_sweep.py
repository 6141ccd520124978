"""Do more parameters overfit?

Claims: (1) CNNs of one structure on CIFAR-10: as the number of parameters grows 300-fold the train
loss falls towards zero, the test loss has its minimum in between and then rises, and test accuracy
keeps what it gained. (2) One hidden layer on 4,000 MNIST images with 20% of the labels shuffled:
the test loss peaks near the width at which the train error first reaches zero, and falls again
beyond it: double descent. (Belkin et al. 2019, arXiv 1812.11118; Nakkiran et al. 2020, 1912.02292.)

    python hw1/param_sweep.py                    # (1)
    python hw1/param_sweep.py --dataset mnist    # (2)

writes hw1/logs/param_sweep_cifar10.csv or param_sweep_mnist.csv and the figure of the same name.
Both train on the first rows of the training set only: 4,000 unless --train-size says otherwise.
"""

import sys

from lab import flags, runs, settings

import train

EPOCHS = {"cifar10": 28, "mnist": 250, "fashion_mnist": 250, "digits": 250}
TRAIN_SIZE = {"cifar10": 4000, "mnist": 4000, "fashion_mnist": 4000, "digits": 400}
CNN_WIDTHS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24)
MLP_WIDTHS = (4, 6, 8, 11, 14, 17, 20, 24, 28, 34, 44, 64, 128, 512)
CNN = {"label_corruption": 0.0, "batch_size": 32}
MLP = {"label_corruption": 0.2, "batch_size": 128}
COLUMNS = ("width", "train_size", "label_corruption", "epoch", *train.METRICS)


def main():
    """Train one structure at a dozen widths, for the same epochs and with the same optimizer."""
    args = flags.arguments(__doc__, "cifar10", EPOCHS, quick_epochs=5, train_size=TRAIN_SIZE)
    convolutional = args.dataset == "cifar10"
    tasks = []
    for width in settings.thin(args, CNN_WIDTHS if convolutional else MLP_WIDTHS):
        for seed in args.seeds:
            setting = settings.setting(
                args,
                model=f"cnn-{width}" if convolutional else settings.mlp_for(args.dataset, width),
                train_size=args.train_size,
                lr=2e-3,
                schedule="linear",
                seed=seed,
                **(CNN if convolutional else MLP),
            )
            tasks.append({"log": "param_sweep", "width": width, "runs": [setting]})
    return runs.run(args, {"param_sweep": COLUMNS}, tasks, measure)


def measure(task, states, tensors):
    """Return a row for each epoch that was measured in training."""
    [setting], [state] = task["runs"], states
    examples = len(train.prepare(setting, tensors)[0])
    row = settings.common(setting) | {"width": task["width"], "train_size": examples}
    row["label_corruption"] = setting["label_corruption"]
    return [row | measured for measured in state["history"]]


if __name__ == "__main__":
    sys.exit(main())
