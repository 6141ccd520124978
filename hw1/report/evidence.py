"""What each hypothesis looks at: functions that take the data of its statistic out of the logs.

logs: {(log, dataset): structured array}, as lab.tables.read gives them. Most functions here return
a function of the logs. For a trend or a correlation it gives {"x", "y", "setting", "seed"}, an
element for each model; for a statement about every seed {"value", "line"}: a number for each run (a
model, a pair of models, or a sweep of widths), and the line that separates yes from no.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lab.stats import STOPS, TARGETS

import numpy as np

EVERY = "every seed"  # the kind of a statement about every run


@dataclass(frozen=True)
class Hypothesis:
    """One statement; its family, the first part of its name, is corrected as one."""

    name: str  # the same from run to run
    sign: int  # of tau; on every seed: +1 if the values should lie above the line, -1 if below
    source: str
    data: Callable  # logs -> {"x", "y", "setting", "seed"}, or {"value", "line"}
    english: str
    chinese: str
    kind: str = EVERY  # or "trend", "correlation"


class NotTested(LookupError):
    """The logs lack what a hypothesis is about; the message says what."""


def rows(logs, log, dataset, columns=(), **where):
    """Return the rows of a log in which each column has its value, or text that starts with it."""
    if (log, dataset) not in logs:
        raise NotTested(f"{log}_{dataset}.csv is missing")
    t = logs[log, dataset]
    for column in (*columns, *where):
        if column not in t.dtype.names:
            raise NotTested(f"{log}_{dataset}.csv has no column {column}")
    for column, value in where.items():
        text = isinstance(value, str)
        t = t[np.char.startswith(t[column], value) if text else t[column] == value]
    return some(t, f"{log}_{dataset}.csv has no rows with {where}")


def some(t, message):
    """Return t; raise NotTested if it is empty."""
    if not len(t):
        raise NotTested(message)
    return t


def models(log, dataset, x, y, setting, **where):
    """Return the data of a trend or a correlation: columns (or gaps) x and y of each model."""
    (x1, *x2), (y1, *y2) = (TARGETS.get(name, (name,)) for name in (x, y))

    def data(logs):
        t = rows(logs, log, dataset, (x1, *x2, y1, *y2, setting, "seed"), **where)
        found = {"x": t[x1] - sum(t[c] for c in x2), "y": t[y1] - sum(t[c] for c in y2)}
        return found | {"setting": t[setting], "seed": t["seed"]}

    return data


def reached_early(equal, reached):
    """Return how many models reach the train loss before the equal epochs, and how many at all.

    equal, reached: their rows at the two stops. A model that diverged reaches nothing.
    """
    epochs = reached["epoch"][np.isfinite(reached["test_acc"])]
    return sum(epochs < max(equal["epoch"])), len(epochs)


def gain(dataset, model):
    """Return the data of a trend: test accuracy at equal train loss minus that at equal epochs.

    The note says how many models were stopped before the equal epochs: of these a gain says nothing
    about longer training.
    """
    columns = ("batch_size", "seed", "test_acc", "epoch")

    def data(logs):
        equal, reached = (
            rows(logs, "sensitivity", dataset, columns, stop=stop, model=model) for stop in STOPS
        )
        after = {(row["batch_size"], row["seed"]): row["test_acc"] for row in reached}
        both = [after.get((row["batch_size"], row["seed"]), np.nan) for row in equal]
        found = {"x": equal["batch_size"], "y": np.array(both) - equal["test_acc"]}
        early, all_ = reached_early(equal, reached)
        note = f"{early} of {all_} models reach the train loss before the equal epochs end"
        note += ": they were not trained for longer" * bool(early)
        return found | {"setting": equal["batch_size"], "seed": equal["seed"], "note": note}

    return data


def rescaled(line, column, largest=False):
    """Return the data on every seed: the largest value over all scales divided by the smallest.

    largest: the largest value alone, not divided.
    """

    def data(logs):
        t = rows(logs, "reparametrization", "mnist", (column, "seed", "scale"))
        runs = [t[column][t["seed"] == seed] for seed in np.unique(t["seed"])]
        value = [np.max(v) if largest else np.max(v) / np.min(v) for v in runs]
        return {"value": value, "line": line}

    return data


def overconfidence(dataset, model):
    """Return the data on every model at equal epochs: mean confidence minus accuracy, test set."""

    def data(logs):
        columns = ("test_confidence", "test_acc")
        t = rows(logs, "sensitivity", dataset, columns, model=model, stop="epochs")
        return {"value": t["test_confidence"] - t["test_acc"], "line": 0}

    return data
