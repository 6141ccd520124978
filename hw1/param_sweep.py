"""Do more parameters overfit?

Claims: (1) CNNs of one structure on CIFAR-10: as the parameters grow 300-fold the train loss falls
towards zero, the test loss has its minimum in between and then rises, and test accuracy keeps what
it gained. (2) One hidden layer on 4,000 MNIST images with 20% of the labels shuffled: the test loss
peaks near the width at which the train error first reaches zero and falls again beyond it: double
descent. (Belkin et al. 2019, arXiv 1812.11118; Nakkiran et al. 2020, arXiv 1912.02292.)

    python hw1/param_sweep.py                    # (1)
    python hw1/param_sweep.py --dataset mnist    # (2)

writes hw1/logs/param_sweep_cifar10.csv or param_sweep_mnist.csv. Both train on the first rows of
the training set only (column train_size): 4,000 of 50,000, and 4,000 of 60,000.
"""

import sys

import train
from lab import flags, runs
from lab.files import SHAPES

EPOCHS = {"cifar10": 28, "mnist": 250, "digits": 250}
CNN_WIDTHS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24)
MLP_WIDTHS = (4, 6, 8, 11, 14, 17, 20, 24, 28, 34, 44, 64, 128, 512)
TRAIN_SIZE = {"cifar10": 4000, "mnist": 4000, "digits": 400}
COLUMNS = ("width", "train_size", "label_corruption", "epoch", *train.METRICS)


def main():
    """Train one structure at a dozen widths, for the same epochs and with the same optimiser."""
    args = flags.arguments(__doc__, dataset="cifar10", epochs=EPOCHS, quick_epochs=5)
    channels, height, side = SHAPES[args.dataset]
    convolutional = args.dataset == "cifar10"
    widths = CNN_WIDTHS if convolutional else MLP_WIDTHS
    tasks = []
    for width in runs.thin(args, widths):
        for seed in args.seeds:
            setting = runs.setting(
                args,
                model=f"cnn-{width}"
                if convolutional
                else f"mlp-{channels * height * side}-{width}-10",
                label_corruption=0.0 if convolutional else 0.2,
                train_size=TRAIN_SIZE[args.dataset],
                lr=2e-3,
                batch_size=32 if convolutional else 128,
                schedule="linear",
                seed=seed,
            )
            tasks.append({"log": "param_sweep", "width": width, "runs": [setting]})
    return runs.run(args, {"param_sweep": COLUMNS}, tasks, measure)


def measure(task, states, tensors):
    """Return a row for each epoch that was measured in training."""
    [setting], [state] = task["runs"], states
    row = runs.common(setting) | {"width": task["width"]}
    row |= {name: setting[name] for name in ("train_size", "label_corruption")}
    return [row | measured for measured in state["history"]]


if __name__ == "__main__":
    sys.exit(main())
