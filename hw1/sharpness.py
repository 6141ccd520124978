"""Does the sharpness of a minimum say how well it generalises?

Claims: (1) over twelve ways to train 784-32-32-10 (26,506 parameters) the spectral norm of the
Hessian of the loss, over all training images, grows with the batch size at equal epochs; none of
the models is at a critical point, so that the slide's ||H|| eps^2 / (2 (1 + L)) is far below the
true maximum in the ball, which the gradient sets. (2) Dinh et al. (2017, arXiv 1703.04933, theorem
4): one trained network, its first weights times alpha and the next divided by it, is the same
function with a sharpness as large as one likes; the input measures do not move.

    python hw1/sharpness.py

writes hw1/logs/sharpness_mnist.csv and reparametrization_mnist.csv. Box: Keskar et al. 2017, arXiv
1609.04836, metric 2.1.
"""

import sys

from lab import flags, runs, settings

import torch

import measures
import train
from measures import or_nan
from symmetries import rescale

EPOCHS = {"mnist": 12, "fashion_mnist": 12, "cifar10": 12, "digits": 60}
HIDDEN = {"mnist": (32, 32), "fashion_mnist": (32, 32), "cifar10": (16, 16), "digits": (32, 32)}
BATCH_SIZES = (16, 32, 64, 256, 1024, 2048, 4096, 16384)
BASE = {"batch_size": 256}
OTHERS = {  # approaches beside the batch size, each a change of BASE
    "optimizer=momentum": {"optimizer": "momentum", "lr": 0.05},
    "lr=0.01": {"lr": 1e-2},
    "weight_decay=0.1": {"optimizer": "adamw", "weight_decay": 0.1},
    "dropout=0.1": {"dropout": 0.1},
}
TARGET = {
    "mnist": 0.15,
    "fashion_mnist": 0.4,
    "cifar10": 1.7,
    "digits": 0.2,
}  # train loss at which all are compared
MAX_EPOCHS = 300  # to reach it
EPSILON = 1e-4
SCALES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 100.0)
COLUMNS = ("approach", "stop", "epoch", *train.METRICS, "input_gradient_norm_test")
COLUMNS += ("jacobian_norm_test", "parameter_gradient_norm", "hessian_norm", "hessian_norm_block")
COLUMNS += ("residual", "epsilon", "sharpness", "sharpness_ball", "sharpness_box")
RESCALED = ("scale", *train.METRICS, "max_output_change", "hessian_norm", "sharpness")
RESCALED += ("input_gradient_norm_test", "jacobian_norm_test")


def main():
    """Train one network in twelve ways; measure each at two stops; rescale the base one."""
    args = flags.arguments(__doc__, dataset="mnist", epochs=EPOCHS, quick_epochs=3)
    approaches = {f"batch_size={size}": {"batch_size": size} for size in BATCH_SIZES} | OTHERS
    model = settings.mlp_for(args.dataset, *HIDDEN[args.dataset])
    shared = {"model": model, "max_epochs": max(MAX_EPOCHS, args.epochs)}
    shared["target"] = 2.0 if args.quick else TARGET[args.dataset]
    tasks = []
    for seed in args.seeds:  # the longest to measure come first
        setting = settings.setting(args, **shared, **BASE, seed=seed)
        scales = SCALES[::5] if args.quick else SCALES
        tasks.append({"log": "reparametrization", "scales": scales, "runs": [setting]})
    for approach, changes in settings.thin(args, approaches.items()):
        for seed in args.seeds:
            setting = settings.setting(args, **shared, **(BASE | changes), seed=seed)
            tasks.append({"log": "sharpness", "approach": approach, "runs": [setting]})
    logs = {"sharpness": COLUMNS, "reparametrization": RESCALED}
    return runs.run(args, logs, tasks, measure)


def measure(task, states, tensors):
    """Return the rows of one model, for whichever log the task belongs to."""
    [setting], [state] = task["runs"], states
    tensors = train.prepare(setting, tensors)
    if task["log"] == "reparametrization":
        model = train.network(setting, state["stops"]["epochs"]["weights"], tensors[0].device)
        row = settings.common(setting)
        return [row | rescaled_row(model, scale, *tensors) for scale in task["scales"]]
    rows = []
    for stop, at in sorted(state["stops"].items()):
        model = train.network(setting, at["weights"], tensors[0].device)
        row = settings.common(setting) | {"approach": task["approach"], "stop": stop}
        rows.append(row | {"epoch": at["epoch"]} | sharpness_row(model, *tensors))
    return rows


def both_rows(model, x_train, y_train, x_test, y_test):
    """Return the columns of both logs: losses, accuracies, input measures, ||H||, the slide's."""
    row = train.metrics(model, x_train, y_train, x_test, y_test)
    row["input_gradient_norm_test"] = or_nan(measures.input_gradient_norm, model, x_test, y_test)
    row["jacobian_norm_test"] = or_nan(measures.jacobian_norm, model, x_test)
    row["hessian_norm"], row["residual"] = or_nan(
        measures.hessian_norm, model, x_train, y_train, values=2
    )
    row["sharpness"] = or_nan(measures.sharpness, row["train_loss"], row["hessian_norm"], EPSILON)
    return row


def sharpness_row(model, x_train, y_train, x_test, y_test):
    """Return the measures of one trained model, all of them over the whole training split."""
    row = both_rows(model, x_train, y_train, x_test, y_test) | {"epsilon": EPSILON}
    split = (model, x_train, y_train)
    row["parameter_gradient_norm"] = or_nan(measures.parameter_gradient_norm, *split)
    row["hessian_norm_block"] = or_nan(measures.block_hessian_norm, *split)
    row["sharpness_ball"] = or_nan(measures.ball_sharpness, *split, EPSILON)
    row["sharpness_box"] = or_nan(measures.box_sharpness, *split, EPSILON)
    return row


def rescaled_row(model, scale, x_train, y_train, x_test, y_test):
    """Return the measures of the model after Dinh's reparametrisation with this scale."""
    rescaled = rescale(model, scale)
    row = both_rows(rescaled, x_train, y_train, x_test, y_test) | {"scale": scale}
    with torch.no_grad():
        before, after = model(x_test), rescaled(x_test)
    row["max_output_change"] = ((after - before).abs().max() / before.abs().max()).item()
    del row["residual"]
    return row


if __name__ == "__main__":
    sys.exit(main())
