"""What hypotheses look at in curves: along training, widths and the line between two models.

The functions that take a line, and labels_trend, return a function of the logs, as those of
evidence.py do. A run that diverged has nan in its curve, and so is every number that a
statement takes from such a curve.
"""

from lab.stats import FITTED, barriers, first_fit, last_epoch

import numpy as np

from evidence import NotTested, rows, some

SWEEP = ("n_params", "width", "seed", "epoch", "train_acc", "test_loss", "test_acc")
PATH = ("seed", "setting_1", "setting_2", "alpha", "train_loss", "test_loss", "test_acc")


def runs_with_labels(logs):
    """Return the rows of each run of random_labels, by epoch: {(corruption, seed): rows}."""
    columns = ("label_corruption", "seed", "epoch", "train_acc", "test_acc")
    t = np.sort(rows(logs, "random_labels", "mnist", columns), order="epoch")
    keys = sorted(set(zip(t["label_corruption"].tolist(), t["seed"].tolist(), strict=True)))
    return {k: t[(t["label_corruption"] == k[0]) & (t["seed"] == k[1])] for k in keys}


def labels_trend(value):
    """Return the data of a trend with label corruption. value: rows of a run -> a number."""

    def data(logs):
        runs = runs_with_labels(logs)
        level, seed = np.array(list(runs)).T
        y = np.array([value(run) for run in runs.values()])
        return {"x": level, "y": y, "setting": level, "seed": seed}

    return data


def labels(line, value, *levels):
    """Return the data of a statement about every run with one of these shares shuffled."""

    def data(logs):
        found = [value(t) for k, t in runs_with_labels(logs).items() if k[0] in levels]
        return {"value": some(found, f"no run has label_corruption in {levels}"), "line": line}

    return data


def last(column):
    """Return the function that takes the last value of a column of a run."""
    return lambda run: run[column][-1]


def off_chance(run):
    """Return how far the final test accuracy of a run is from guessing one of ten classes."""
    return abs(run["test_acc"][-1] - 0.1)


def fell_by(run):
    """Return how far the final test accuracy of a run is below its best."""
    return np.max(run["test_acc"]) - run["test_acc"][-1]


def epochs_to_fit_or_later(run):
    """Return the first epoch with 99% train accuracy; without one, the epoch after the last.

    A run that diverged has none: it ended early.
    """
    if np.isnan(run["train_acc"][-1]):
        return np.nan
    first = first_fit(run)
    return run["epoch"][-1] + 1 if np.isnan(first) else first


def sweep(line, value, dataset, train_size, corruption=0.0, beyond=False):
    """Return the data of a statement about the widths of a sweep, on every seed.

    value: rows by width -> a number. beyond: only if the sweep goes on after a width that fits.
    """

    def data(logs):
        t = rows(
            logs, "param_sweep", dataset, SWEEP, train_size=train_size, label_corruption=corruption
        )
        end = np.sort(last_epoch(t), order="n_params")
        seeds = [end[end["seed"] == seed] for seed in np.unique(end["seed"])]
        if beyond and not all(max(run["train_acc"][:-1]) >= FITTED for run in seeds):
            fits = f"fits {FITTED:.1%} of the {train_size:,} labels"
            raise NotTested(f"the sweep does not go beyond a width that {fits}")
        return {"value": [value(run) for run in seeds], "line": line}

    return data


def inside(run):
    """Return by how much the lowest test loss inside the sweep is below that of both its ends."""
    loss = run["test_loss"]
    return np.minimum(loss[0], loss[-1]) - np.min(loss[1:-1])


def below_best(run):
    """Return the test accuracy of the widest network minus that of the best one."""
    return run["test_acc"][-1] - np.max(run["test_acc"])


def descent(what):
    """Return the function of a run that gives by what fraction its peak exceeds valley and end.

    what: "loss" or "error", on the test set.
    """

    def excess(run):
        return valley_and_peak(run["test_loss"] if what == "loss" else 1 - run["test_acc"])[2]

    return excess


def valley_and_peak(curve):
    """Return the places of the valley and of the peak of a curve, and the excess of the peak.

    The excess is the part by which a point exceeds both the lowest point before it, the valley, and
    the end of the curve; the peak is where it is largest. Without a peak it is below 0. With nan in
    the curve the excess is nan, and the places are those of the other points.
    """
    excess = [
        curve[k] / np.fmax(np.fmin.reduce(curve[:k]), curve[-1]) - 1
        for k in range(1, len(curve) - 1)
    ]
    peak = 1 + np.argmax(np.nan_to_num(excess, nan=-np.inf))
    valley = np.argmin(np.nan_to_num(curve[:peak], nan=np.inf))
    return valley, peak, np.nan if np.isnan(curve).any() else np.max(excess)


def paths(line, column, dataset, pair="", same=False, log="interpolation"):
    """Return the data of a statement about every path between two trained models.

    column: of stats.barriers; a share removed is that of matching, all else is without it. same:
    the two models are of one approach (setting_1 = setting_2); otherwise of two.
    """
    alignment = "weight_matching" if column.endswith("removed") else "none"

    def data(logs):
        t = rows(logs, log, dataset, (*PATH, "alignment"), pair=pair)
        t = t[(t["setting_1"] == t["setting_2"]) == same]
        some(t, f"{log}_{dataset}.csv has no pairs of {'one approach' if same else 'two'}")
        for key in np.unique(t[["pair", "setting_1", "setting_2", "seed"]]):
            there = set(t["alignment"][t[list(key.dtype.names)] == key])
            if lacks := {"none", alignment} - there:
                raise ValueError(f"a path lacks the alignment {', '.join(sorted(lacks))}")
        found = [row[column] for row in barriers({log: t}) if row["alignment"] == alignment]
        return {"value": found, "line": line}

    return data
