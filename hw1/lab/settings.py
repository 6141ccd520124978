"""Settings of runs: how an experiment writes them down, and which of them can work."""

import hashlib
import inspect
import math
from functools import cache

from lab import files

import torch
from torch import optim

import train
from models import count_params

COMMON = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
QUICK = {"train": 1000, "test": 300}  # with --quick, the first rows of each split are all there are


def setting(args, **grid):
    """Return one full setting: the defaults of train.SETTING, then the flags, then `grid`."""
    full = train.SETTING | {"dataset": args.dataset, "epochs": args.epochs} | grid
    if args.quick:
        full["test_size"] = QUICK["test"]
        size = full["train_size"]
        if size is None or (_whole(size) and size > QUICK["train"]):
            full["train_size"] = QUICK["train"]
    return full


def mlp_for(dataset, *hidden):
    """Return the name of the MLP with these hidden widths whose ends fit the data set."""
    if dataset not in files.DATASETS:
        raise SettingError(f"{dataset} has no entry in DATASETS of lab/files.py")
    entry = files.DATASETS[dataset]
    return "-".join(map(str, ("mlp", math.prod(entry.shape), *hidden, entry.classes)))


def thin(args, grid):
    """Return the grid, or with --quick its first, middle and last value."""
    grid = list(grid)
    return [grid[0], grid[len(grid) // 2], grid[-1]] if args.quick and len(grid) > 3 else grid


def quick_target(args):
    """Return an easy target with --quick, 0.93 times the loss of guessing, and otherwise None."""
    return round(0.93 * math.log(files.DATASETS[args.dataset].classes), 2) if args.quick else None


def common(setting):
    """Return the common columns of a row about one run."""
    row = {"n_params": n_params(setting["model"], setting["dataset"])}
    return row | {name: setting[name] for name in COMMON if name != "n_params"}


class SettingError(ValueError):
    """A setting that no run can be made with; the message is one sentence for the user."""


def _whole(value):
    return type(value) is int and 0 < value < 2**62


def _between(low, high):
    """Return a test for numbers from `low` to `high`; NaN fails it."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def _or_none(test):
    return lambda value: value is None or test(value)


RULES = {  # what a value has to be, and the test for it
    "dataset": (f"one of {', '.join(files.DATASETS)}", lambda v: v in [*files.DATASETS]),
    "model": ("a name such as mlp-784-256-10 or cnn-16", lambda v: type(v) is str),
    "optimizer": (f"one of {', '.join(train.OPTIMIZERS)}", lambda v: v in [*train.OPTIMIZERS]),
    "lr": ("a positive number", _between(1e-300, 1e300)),
    "batch_size": ("a positive integer", _whole),
    "seed": ("an integer", lambda v: type(v) is int),
    "epochs": ("a positive integer", _whole),
    "schedule": (f"one of {', '.join(train.SCHEDULES)}", lambda v: v in train.SCHEDULES),
    "weight_decay": ("a number that is not negative", _between(0, 1e300)),
    "dropout": ("a number from 0 to 1", _between(0, 1)),
    "label_corruption": ("a number from 0 to 1", _between(0, 1)),
    "train_size": ("a positive integer or None", _or_none(_whole)),
    "test_size": ("a positive integer or None", _or_none(_whole)),
    "log_growth": ("a positive number or None", _or_none(_between(1e-300, 1e300))),
    "target": ("a number or None", _or_none(_between(-1e300, 1e300))),
    "max_epochs": ("a positive integer or None", _or_none(_whole)),
}

GIVEN = ("lr", "weight_decay", "fused")  # what train.py passes to every optimizer


def check_setting(setting):
    """Raise SettingError, before anything is trained, if a run with this setting cannot work."""
    if wrong := sorted(set(setting) ^ set(RULES)):
        is_known = "is missing" if wrong[0] in RULES else "is unknown"
        raise SettingError(f"setting {wrong[0]!r} {is_known}: there are {', '.join(RULES)}")
    for name, (wanted, test) in RULES.items():
        if not test(setting[name]):
            raise SettingError(f"{name} must be {wanted}, not {setting[name]!r}")
    entry = train.OPTIMIZERS[setting["optimizer"]]
    for name in {*GIVEN} & getattr(entry, "keywords", {}).keys():
        raise SettingError(f"{name} in OPTIMIZERS has no effect: train.py sets it for each run")
    try:
        inspect.signature(entry).bind([], **dict.fromkeys(GIVEN))
    except (TypeError, ValueError) as error:
        what = f"optimizer {setting['optimizer']!r} cannot be used: {error}"
        raise SettingError(f"{what} (train.py passes {', '.join(GIVEN)})") from None
    if setting["target"] is not None and setting["max_epochs"] is None:
        raise SettingError("a run with a target needs max_epochs, where it ends at the latest")
    if setting["target"] is None and setting["max_epochs"] is not None:
        raise SettingError("max_epochs is for a run with a target; without one, epochs end it")
    if setting["max_epochs"] is not None and setting["max_epochs"] < setting["epochs"]:
        raise SettingError("max_epochs must not be less than epochs")
    if setting["target"] is not None and setting["schedule"] == "linear":
        raise SettingError("a linear schedule ends after fixed epochs: it cannot go with a target")
    n_params(setting["model"], setting["dataset"])


@cache
def n_params(model, dataset):
    """Return how many parameters a model has. Raises SettingError unless it fits the data set."""
    entry = files.DATASETS[dataset]
    try:
        network = train.network(train.SETTING | {"model": model, "dataset": dataset})
        outputs = network(torch.zeros(1, *entry.shape))
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SettingError(f"model {model!r} cannot be used: {reason}") from None
    if outputs.shape != (1, entry.classes):
        found = f"{outputs.shape[-1]} outputs, but {dataset} has {entry.classes} classes"
        raise SettingError(f"model {model!r} has {found}")
    return count_params(network)


def fingerprint(report, device="cpu"):
    """Return a digest of the weights after two epochs at batch size 32 on fixed random data.

    Two machines with the same fingerprint compute the same bits in training.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 1, 8, 8, generator=generator).to(device)
    y = torch.randint(10, (2000,), generator=generator).to(device)
    sha = hashlib.sha256()
    for name in ("mlp-64-64-64-10", "cnn-4"):
        setting = train.SETTING | {
            "dataset": "digits",
            "model": name,
            "batch_size": 32,
            "epochs": 2,
        }
        model = train.network(setting, device=device)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for _ in train.epochs(model, optimizer, x, y, setting, 1):
            pass
        for parameter in model.parameters():
            sha.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]
