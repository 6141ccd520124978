"""Does the sharpness of a minimum say how well it generalises?

(1) Twelve ways to train 784-32-32-10 (26,506 parameters): does sharpness grow with the batch size,
and does it go with the test loss? Sharpness is measured as the slide's ||H|| eps^2 / (2 (1 + L)),
as the maximum in the ball of radius eps itself, in the box of Keskar et al. (2017, arXiv
1609.04836, metric 2.1), and in the ball that scales with each weight (Kwon et al. 2021,
2102.11600); all over the whole training split. (2) Which measures change if the first layer of a
trained network is multiplied by alpha and the next one divided by it, which leaves its function as
it is (Dinh et al. 2017, 1703.04933)?

Found: (1) at equal train loss ||H|| grows from 3.4 to 18.8 with the batch size, but its tau with
the test loss, -0.27, is no clear correlation; (2) alpha = 100 multiplies ||H|| by 4,065. That took
22 minutes, some of them beside another experiment, on two cores of an Intel Xeon.

    python hw1/sharpness.py

writes hw1/logs/sharpness_mnist.csv, with a row for each epsilon, and reparametrization_mnist.csv.
"""

import math
import sys

from lab import flags, runs, settings

import torch

import data
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
    "lr=0.003": {"lr": 3e-3},  # with 0.01 the train loss never came under the target
    "weight_decay=0.1": {"optimizer": "adamw", "weight_decay": 0.1},
    "dropout=0.1": {"dropout": 0.1},
}
TARGET = {"mnist": 0.03, "fashion_mnist": 0.4, "cifar10": 1.7, "digits": 0.2}
MAX_EPOCHS = 1500  # to bring the train loss under TARGET, at which all are compared
EPSILONS = (1e-4, 5e-4, 1e-3)  # the rescaled networks and --quick have the middle one only
SCALES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 100.0)
NORMS = ("input_gradient_norm_test", "jacobian_norm_test")
COLUMNS = ("approach", "stop", "epoch", *train.METRICS, *NORMS, "parameter_gradient_norm")
COLUMNS += ("hessian_norm", "hessian_norm_block", "residual", "epsilon", "sharpness")
COLUMNS += ("sharpness_ball", "sharpness_box", "sharpness_adaptive")
RESCALED = ("scale", *train.METRICS, "max_output_change", "hessian_norm", "sharpness")
RESCALED += ("sharpness_box", "sharpness_adaptive", *NORMS)
MAXIMA = {
    "sharpness_ball": measures.ball_sharpness,
    "sharpness_box": measures.box_sharpness,
    "sharpness_adaptive": measures.adaptive_sharpness,
}


def main():
    """Train one network in twelve ways; measure each at two stops; rescale the base one."""
    args = flags.arguments(__doc__, dataset="mnist", epochs=EPOCHS, quick_epochs=3)
    approaches = {f"batch_size={size}": {"batch_size": size} for size in BATCH_SIZES} | OTHERS
    model = settings.mlp_for(args.dataset, *HIDDEN[args.dataset])
    shared = {"model": model, "max_epochs": max(MAX_EPOCHS, args.epochs)}
    shared["target"] = settings.quick_target(args) or TARGET[args.dataset]
    tasks = []
    for seed in args.seeds:  # the longest to measure come first
        setting = settings.setting(args, **shared, **BASE, seed=seed)
        scales = tuple(sorted({1.0, *SCALES[::5]})) if args.quick else SCALES
        tasks.append({"log": "reparametrization", "scales": scales, "runs": [setting]})
    for approach, changes in settings.thin(args, approaches.items()):
        for seed in args.seeds:
            setting = settings.setting(args, **shared, **(BASE | changes), seed=seed)
            task = {"log": "sharpness", "approach": approach, "runs": [setting]}
            tasks.append(task | {"epsilons": middle(EPSILONS) if args.quick else EPSILONS})
    logs = {"sharpness": COLUMNS, "reparametrization": RESCALED}
    return runs.run(args, logs, tasks, measure, check)


def middle(values):
    """Return a tuple with the middle one of the values."""
    return tuple(values[len(values) // 2 :][:1])


def check(task):
    """Raise SettingError if the network cannot be rescaled, or an epsilon or a scale is wrong."""
    for name, values in (("EPSILONS", EPSILONS), ("SCALES", task.get("scales", (1.0,)))):
        listed = isinstance(values, (list, tuple)) and len(values) > 0
        if not listed or not all(isinstance(v, (int, float)) and 0 < v < math.inf for v in values):
            raise settings.SettingError(f"{name} must be a list of positive numbers, not {values}")
        if len(set(values)) < len(values):
            raise settings.SettingError(f"{name} has a number twice: {values}")
    if 1.0 not in task.get("scales", (1.0,)):
        raise settings.SettingError("SCALES must hold 1.0, with which the others are compared")
    try:
        rescale(train.network(task["runs"][0]), 1.0)
    except ValueError as error:
        raise settings.SettingError(f"the network cannot be rescaled: {error}") from None


def measure(task, states, tensors):
    """Return the rows of one model, for whichever log the task belongs to."""
    [setting], [state] = task["runs"], states
    tensors = data.prepare(setting, tensors)
    if task["log"] == "reparametrization":
        model = train.network(setting, state["stops"]["epochs"]["weights"], tensors[0].device)
        return [settings.common(setting) | rescaled_row(model, s, *tensors) for s in task["scales"]]
    rows = []
    for stop, at in sorted(state["stops"].items()):
        model = train.network(setting, at["weights"], tensors[0].device)
        row = settings.common(setting) | {"approach": task["approach"], "stop": stop}
        row |= {"epoch": at["epoch"]} | plain_row(model, *tensors)
        split = (model, *tensors[:2])
        row["hessian_norm_block"] = or_nan(measures.block_hessian_norm, *split)
        rows += [row | more for more in sharpness_rows(*split, row, task["epsilons"], COLUMNS)]
    return rows


def plain_row(model, *tensors):
    """Return the columns of both logs that need no epsilon."""
    row = train.metrics(model, *tensors)
    row["input_gradient_norm_test"] = or_nan(measures.input_gradient_norm, model, *tensors[2:])
    row["jacobian_norm_test"] = or_nan(measures.jacobian_norm, model, tensors[2])
    found = or_nan(measures.hessian_norm, model, *tensors[:2], values=2)
    return row | dict(zip(("hessian_norm", "residual"), found, strict=True))


def sharpness_rows(model, x, y, row, radii, names):
    """Return those of the named columns that need the gradient or an epsilon, for each epsilon.

    row: what plain_row returned.
    """
    loss, norm, found = row["train_loss"], row["hessian_norm"], {"epsilon": radii}
    known = or_nan(measures.loss_and_gradient, model, x, y, values=2)
    if "parameter_gradient_norm" in names:
        found["parameter_gradient_norm"] = [float(torch.as_tensor(known[1]).norm())] * len(radii)
    found["sharpness"] = [or_nan(measures.sharpness, loss, norm, radius) for radius in radii]
    for name, measure in MAXIMA.items():
        if name in names:
            found[name] = or_nan(measure, model, x, y, radii, known=known, values=len(radii))
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def rescaled_row(model, scale, *tensors):
    """Return the measures of the model after Dinh's reparametrisation with this scale."""
    rescaled = rescale(model, scale)
    row = plain_row(rescaled, *tensors) | {"scale": scale}
    row |= sharpness_rows(rescaled, *tensors[:2], row, middle(EPSILONS), RESCALED)[0]
    before, after = (network(tensors[2]).detach() for network in (model, rescaled))
    row["max_output_change"] = ((after - before).abs().max() / before.abs().max()).item()
    del row["residual"], row["epsilon"]
    return row


if __name__ == "__main__":
    sys.exit(runs.start(main))
