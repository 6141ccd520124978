"""Settings of runs: how an experiment writes them down, and which of them can work."""

import hashlib
import math

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
        size = min(full["train_size"] or QUICK["train"], QUICK["train"])
        full |= {"train_size": size, "test_size": QUICK["test"]}
    return full


def mlp_for(dataset, *hidden):
    """Return the name of the MLP with these hidden widths whose ends fit the data set."""
    entry = files.DATASETS[dataset]
    return "-".join(map(str, ("mlp", math.prod(entry.shape), *hidden, entry.classes)))


def thin(args, grid):
    """Return the grid, or with --quick its first, middle and last value."""
    grid = list(grid)
    return grid[:: (len(grid) - 1) // 2] if args.quick and len(grid) > 3 else grid


def common(setting):
    """Return the common columns of a row about one run."""
    row = {"n_params": count_params(train.network(setting))}
    return row | {name: setting[name] for name in COMMON if name != "n_params"}


class SettingError(ValueError):
    """A setting that no run can be made with; the message is one sentence for the user."""


def check_setting(setting):
    """Raise SettingError, before anything is trained, if a run with this setting cannot work."""
    unknown = sorted(set(setting) - set(train.SETTING))
    choices = {
        "optimizer": train.OPTIMIZERS,
        "schedule": train.SCHEDULES,
        "dataset": files.DATASETS,
    }
    wrong = [name for name, known in choices.items() if setting[name] not in known]
    positive = [name for name in ("lr", "batch_size", "epochs") if not setting[name] > 0]
    if unknown:
        raise SettingError(
            f"unknown setting {unknown[0]!r}: choose from {', '.join(train.SETTING)}"
        )
    if wrong:
        known = ", ".join(choices[wrong[0]])
        raise SettingError(f"{wrong[0]}={setting[wrong[0]]!r} is unknown: choose from {known}")
    if positive:
        raise SettingError(f"{positive[0]} must be positive, not {setting[positive[0]]}")
    if not 0 <= setting["label_corruption"] <= 1:
        raise SettingError(f"label_corruption must be in [0, 1], not {setting['label_corruption']}")
    dataset = files.DATASETS[setting["dataset"]]
    try:
        outputs = train.network(setting)(torch.zeros(1, *dataset.shape))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"model {setting['model']!r} cannot be used: {reason}") from None
    if outputs.shape != (1, dataset.classes):
        raise SettingError(
            f"model {setting['model']!r} has {outputs.shape[-1]} outputs, but"
            f" {setting['dataset']} has {dataset.classes} classes"
        )


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
