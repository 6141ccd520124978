"""What each hypothesis looks at: functions that take the data of its statistic out of the logs.

logs: {(log, dataset): structured array}, as lab.tables.read gives them. The functions here return a
function of the logs. For a trend or a correlation it gives {"x", "y", "setting", "seed"}, an
element for each model; for a statement about every seed {"value", "line"}: a number for each run (a
model or a pair of models), and the line that separates yes from no.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lab.stats import TARGETS

import numpy as np


@dataclass(frozen=True)
class Hypothesis:
    """One statement; its family, the first part of its name, is corrected as one."""

    name: str  # the same from run to run
    sign: int  # of tau; on every seed: +1 if the values should lie above the line, -1 if below
    source: str
    data: Callable  # logs -> {"x", "y", "setting", "seed"}, or {"value", "line"}
    english: str
    chinese: str
    kind: str = "every seed"  # or "trend", "correlation"


class NotRun(LookupError):
    """The logs lack what a hypothesis is about; the message says what."""


def rows(logs, log, dataset, columns=(), **where):
    """Return the rows of a log in which each column has its value, or text that starts with it."""
    if (log, dataset) not in logs:
        raise NotRun(f"{log}_{dataset}.csv is missing")
    t = logs[log, dataset]
    for column in (*columns, *where):
        if column not in t.dtype.names:
            raise NotRun(f"{log}_{dataset}.csv has no column {column}")
    for column, value in where.items():
        text = isinstance(value, str)
        t = t[np.char.startswith(t[column], value) if text else t[column] == value]
    return some(t, f"{log}_{dataset}.csv has no rows with {where}")


def some(t, message):
    """Return t; raise NotRun if it is empty."""
    if not len(t):
        raise NotRun(message)
    return t


def models(log, dataset, x, y, setting, **where):
    """Return the data of a trend or a correlation: columns (or gaps) x and y of each model."""
    (x1, *x2), (y1, *y2) = (TARGETS.get(name, (name,)) for name in (x, y))

    def data(logs):
        t = rows(logs, log, dataset, (x1, *x2, y1, *y2, setting, "seed"), **where)
        found = {"x": t[x1] - sum(t[c] for c in x2), "y": t[y1] - sum(t[c] for c in y2)}
        return found | {"setting": t[setting], "seed": t["seed"]}

    return data


def gain(dataset, model):
    """Return the data of a trend: test accuracy at equal train loss minus that at equal epochs."""

    def data(logs):
        at = [
            models(
                "sensitivity", dataset, "batch_size", "test_acc", "batch_size", stop=s, model=model
            )
            for s in ("epochs", "train_loss")
        ]
        one, two = (part(logs) for part in at)
        after = dict(zip(zip(two["x"], two["seed"], strict=True), two["y"], strict=True))
        both = [after.get(key, np.nan) for key in zip(one["x"], one["seed"], strict=True)]
        return one | {"y": np.array(both) - one["y"]}

    return data


def rescaled(line, column, largest=False):
    """Return the data on every seed: a column's largest value over all scales, or over the least."""

    def data(logs):
        t = rows(logs, "reparametrization", "mnist", (column, "seed", "scale"))
        runs = [t[column][t["seed"] == seed] for seed in np.unique(t["seed"])]
        return {"value": [max(v) if largest else max(v) / min(v) for v in runs], "line": line}

    return data


def overconfidence(dataset, model):
    """Return the data on every model at equal epochs: mean confidence minus accuracy, test set."""

    def data(logs):
        columns = ("test_confidence", "test_acc")
        t = rows(logs, "sensitivity", dataset, columns, model=model, stop="epochs")
        return {"value": t["test_confidence"] - t["test_acc"], "line": 0}

    return data
