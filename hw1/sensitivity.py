"""Does the batch size change how sensitive a trained network is to its input?

And do the more sensitive networks generalise worse? Each network is measured at two stops: after
equal epochs, and as soon as its train loss is under a common target. Two measures, per example,
averaged over fixed probes, the first 10,000 images of each split (5,000 on CIFAR-10): the norm of
the loss's gradient with respect to the input (the course's) and the norm of the Jacobian of the
class probabilities with respect to it (Novak et al. 2018, arXiv 1802.08760).

Found: at equal train loss, Kendall's tau of the test Jacobian with the batch size is 0.88 on MNIST,
and on CIFAR-10 0.91 for the MLP and 0.29 for the CNN, which is no clear trend. MNIST took 8 and
CIFAR-10 24 minutes, most of them beside another experiment, on two cores of an Intel Xeon.

    python hw1/sensitivity.py                      # an MLP on MNIST
    python hw1/sensitivity.py --dataset cifar10    # an MLP and a CNN on 10,000 images of CIFAR-10

writes hw1/logs/sensitivity_mnist.csv or sensitivity_cifar10.csv.
"""

import itertools
import sys

from lab import flags, runs, settings

import torch

import data
import train
from measures import input_gradient_norm, jacobian_norm, or_nan

EPOCHS = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "digits": 60}
HIDDEN = {
    "mnist": (128, 128),
    "fashion_mnist": (128, 128),
    "cifar10": (128, 128),
    "digits": (32, 32),
}
CNN = "cnn-16"  # trained on CIFAR-10 beside the MLP
BATCH_SIZES = {
    "mnist": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "fashion_mnist": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "cifar10": (8, 16, 32, 64, 128, 256, 512, 1024),
    "digits": (4, 8, 16, 32, 64, 128, 256, 512),
}
TRAIN_SIZE = {"mnist": None, "fashion_mnist": None, "cifar10": 10_000, "digits": None}
# Train loss at which all are compared:
TARGET = {"mnist": 0.03, "fashion_mnist": 0.3, "cifar10": 1.2, "digits": 0.1}
MAX_EPOCHS = 1000  # to reach it
LARGEST = 256  # batch size with --quick, whose epochs are short
PROBE = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5000, "digits": 10_000}
COLUMNS = ("stop", "epoch", *train.METRICS, "test_confidence")
COLUMNS += ("input_gradient_norm_train", "input_gradient_norm_test")
COLUMNS += ("jacobian_norm_train", "jacobian_norm_test")


def main():
    """Train each network at every batch size; measure it at two stops."""
    args = flags.arguments(__doc__, "mnist", EPOCHS, quick_epochs=3, train_size=TRAIN_SIZE)
    models = [settings.mlp_for(args.dataset, *HIDDEN[args.dataset])]
    models += [CNN] if args.dataset == "cifar10" else []
    sizes = [size for size in BATCH_SIZES[args.dataset] if size <= LARGEST or not args.quick]
    sizes = settings.thin(args, sizes)
    tasks = []
    for model, batch_size, seed in itertools.product(models, sizes, args.seeds):
        setting = settings.setting(
            args,
            model=model,
            batch_size=batch_size,
            train_size=args.train_size,
            target=settings.quick_target(args) or TARGET[args.dataset],
            max_epochs=max(MAX_EPOCHS, args.epochs),
            seed=seed,
        )
        task = {"log": "sensitivity", "probe": PROBE[args.dataset], "runs": [setting]}
        tasks.append(task)
    return runs.run(args, {"sensitivity": COLUMNS}, tasks, measure, check)


def check(task):
    """Raise SettingError unless PROBE is a number of images."""
    if type(task["probe"]) is not int or task["probe"] < 1:
        raise settings.SettingError(f"PROBE must be a positive integer, not {task['probe']!r}")


def measure(task, states, tensors):
    """Return a row for each stop: after the epochs, and at the common train loss."""
    [setting], [state] = task["runs"], states
    x_train, y_train, x_test, y_test = data.prepare(setting, tensors)
    rows, probes = [], setting["test_size"] or task["probe"]  # fewer with --quick
    for stop, at in sorted(state["stops"].items()):
        model = train.network(setting, at["weights"], x_train.device)
        row = settings.common(setting) | {"stop": stop, "epoch": at["epoch"]}
        row |= train.metrics(model, x_train, y_train, x_test, y_test)
        row["test_confidence"] = confidence(model, x_test)
        for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            x, y = x[:probes], y[:probes]
            row[f"input_gradient_norm_{split}"] = or_nan(input_gradient_norm, model, x, y)
            row[f"jacobian_norm_{split}"] = or_nan(jacobian_norm, model, x)
        rows.append(row)
    return rows


@torch.no_grad()
def confidence(model, x):
    """Return the mean over examples of the largest class probability (Guo et al. 2017)."""
    return sum(model(part).softmax(1).amax(1).sum().item() for part in x.split(2048)) / len(x)


if __name__ == "__main__":
    sys.exit(runs.start(main))
