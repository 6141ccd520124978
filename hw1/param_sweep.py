"""Do more parameters overfit?

(1) CNNs of one structure on CIFAR-10, on its first 4,000 training images and on all 50,000: where
is the test loss lowest, and does test accuracy fall? (2) One hidden layer on 4,000 MNIST images,
20% of whose labels are shuffled: does the test loss peak near the width at which the train error
first reaches zero, and fall again beyond it? That is called double descent. (Belkin et al. 2019,
arXiv 1812.11118; Nakkiran et al. 2020, 1912.02292.)

Found: (1) the test loss is lowest at 6,362 parameters with 4,000 images (the widest network has
836,554) and at 24,234 with all (the widest has 210,922); (2) it is 1.03 at 6,370 parameters, 2.14
at 27,040 and 0.86 at 407,050. That took 42 and 3 minutes, some of them beside another experiment,
on two cores of an Intel Xeon.

    python hw1/param_sweep.py                    # (1)
    python hw1/param_sweep.py --dataset mnist    # (2)

writes hw1/logs/param_sweep_cifar10.csv or param_sweep_mnist.csv and the figure of the same name.
--train-size N trains on the first N images instead.
"""

import sys

from lab import flags, runs, settings

import data
import train

EPOCHS = {"cifar10": 16, "mnist": 250, "fashion_mnist": 250, "digits": 250}
TRAIN_SIZE = {"cifar10": (4000, 50_000), "mnist": 4000, "fashion_mnist": 4000, "digits": 400}
CNN_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
WIDER = (64, 96)  # where there are few images: beyond the width that fits them all
MLP_WIDTHS = (4, 6, 8, 11, 14, 17, 20, 24, 28, 34, 44, 64, 128, 512)
COLUMNS = ("width", "train_size", "label_corruption", "epoch", *train.METRICS)
FEW = 10_000  # CNNs train on up to so many images in smaller batches, to take enough steps


def main():
    """Train one structure at a dozen widths, for the same epochs and with the same optimizer."""
    args = flags.arguments(__doc__, "cifar10", EPOCHS, quick_epochs=5, train_size=TRAIN_SIZE)
    sizes = args.train_size if isinstance(args.train_size, tuple) else (args.train_size,)
    tasks = []
    for size in sizes[:1] if args.quick else sizes:
        widths, shared = MLP_WIDTHS, {"label_corruption": 0.2, "batch_size": 128}
        if args.dataset == "cifar10":
            widths = CNN_WIDTHS + (WIDER if size <= FEW and not args.quick else ())
            shared = {"batch_size": 16 if size <= FEW else 64}
        for width in settings.thin(args, widths):
            mlp = settings.mlp_for(args.dataset, width)
            shared["model"] = f"cnn-{width}" if args.dataset == "cifar10" else mlp
            for seed in args.seeds:
                setting = settings.setting(
                    args, **shared, train_size=size, lr=2e-3, schedule="linear", seed=seed
                )
                tasks.append({"log": "param_sweep", "width": width, "runs": [setting]})
    return runs.run(args, {"param_sweep": COLUMNS}, tasks, measure)


def measure(task, states, tensors):
    """Return a row for the one epoch that was measured in training, the last."""
    [setting], [state] = task["runs"], states
    examples = len(data.prepare(setting, tensors)[0])
    row = settings.common(setting) | {"width": task["width"], "train_size": examples}
    row["label_corruption"] = setting["label_corruption"]
    return [row | measured for measured in state["history"]]


if __name__ == "__main__":
    sys.exit(runs.start(main))
