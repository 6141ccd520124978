"""Do two logs agree within the spread over seeds?

Statistics: with n committed seeds of mean r and k own seeds of mean m from one distribution,
(m - r) / (s sqrt(1/n + 1/k)) follows Student's t. Three seeds tell little about s, so s is the
larger of two: the setting's own standard deviation, and that of all settings of its log and stop,
pooled; and at least 0.001, for rounding. As settings differ in their spread, at most 10 degrees of
freedom are counted. P-values are Holm-corrected over everything compared, at the joint level 0.01.
In simulated repetitions with the spreads of these logs, a correct single log failed in 0 to 6% of
cases and all logs together in 0 to 15%; the higher numbers take the uneven spreads at face value.
"""

import re
from collections import defaultdict

from lab.stats import holm

import numpy as np
from scipy.stats import t as student

SETTINGS = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed", "width")
SETTINGS += ("label_corruption", "train_size", "pair", "setting_1", "setting_2", "alignment")
SETTINGS += ("stop", "approach", "epsilon", "scale", "epoch", "alpha")  # the rest is measured
ALONG = ("alpha", "scale", "epoch")  # what a line of models or a curve is drawn against
ROUNDING = ("residual", "max_output_change")  # measured, but only the error of a computation
SHARE = re.compile("acc|confidence")
FLOOR, MOST_DF, LEVEL = 1e-3, 10, 0.01


def read(names, rows, epochs=0, measured=None):
    """Return {(setting, name): {seed: value}} of a CSV; a setting is ((column, text), ...).

    names, rows: what tables.cells returns.
    measured: the columns of measured values that are wanted (default: all, which must be numbers).
    A run that diverged ended early. It is treated as if it had as many epochs as the log's other
    runs, or `epochs` of them if all runs diverged. Raises ValueError if the file is damaged.
    """
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    if "seed" not in names:
        raise ValueError("it has no column seed")
    x = next((c for c in ALONG if c in names), "seed")
    mine = [c for c in names if c not in (*SETTINGS, *ROUNDING)]
    mine = [c for c in mine if measured is None or c in measured]
    runs, found = defaultdict(dict), defaultdict(dict)
    for row in rows:
        setting = tuple((c, row[c]) for c in SETTINGS if c in row and c not in ("seed", x))
        run, at = runs[setting, row["seed"]], number(row[x], x)
        if not row["seed"] or not np.isfinite(at):
            raise ValueError(f"a row has no number in column {x if row['seed'] else 'seed'}")
        if at in run:
            raise ValueError("two rows have the same setting and the same seed")
        run[at] = {c: scaled(c, number(row[c], c)) for c in mine}
    fixed = [points for key, points in runs.items() if ("stop", "train_loss") not in key[0]]
    usual = max((max(points) for points in fixed if not diverged(points)), default=epochs)
    for (setting, seed), points in runs.items():
        first, last = min(points), max(points)
        if x in ("alpha", "scale"):
            setting += ((f"{x}s", f"{len(points)} from {first:g} to {last:g}"),)
        elif ("stop", "train_loss") not in setting:  # else the epoch is a result
            setting += (("epochs", f"{usual if diverged(points) else last:g}"),)
        for name, value in (points[last] if x in ("epoch", "seed") else along(points)).items():
            found[setting, name][seed] = value
    return dict(found)


def diverged(points):
    """Return whether a run ended because its loss was not finite. points: {epoch: values}."""
    return not np.isfinite([*points[max(points)].values()]).all()


def longest(found):
    """Return the epochs of the longest runs of a log, as `read` returns it."""
    return max((float(dict(setting).get("epochs", 0)) for setting, _ in found), default=0)


def number(cell, column):
    """Return the number in a cell."""
    try:
        return float(cell)
    except ValueError:
        found = repr(cell) if cell else "an empty cell"
        raise ValueError(f"column {column} has {found} where a number belongs") from None


def scaled(column, value):
    """Return a measured value as it is compared: accuracies as they are, else the logarithm."""
    return value if SHARE.search(column) else np.log(np.maximum(value, 1e-12))


def along(points):
    """Return what stands for a line of models: {name: value} from {alpha or scale: values}."""
    names = next(iter(points.values()))
    values = {f"mean {c}": np.mean([row[c] for row in points.values()]) for c in names}
    if {0, 1} <= points.keys():
        between = [row for at, row in points.items() if 0 <= at <= 1]
        losses = [c for c in names if c.endswith("loss")]
        values |= {f"highest {c}": np.max([row[c] for row in between]) for c in losses}
        values |= {f"{c} at alpha {at}": points[at][c] for at in (0, 1) for c in names}
    return values


def compare_means(own, committed):
    """Return [p-value, setting, name, own mean, committed mean] of each mean that both have."""
    spreads, found = defaultdict(list), []
    for (setting, name), seeds in committed.items():
        values = list(seeds.values())
        if len(values) > 1 and np.isfinite(values).all():
            spreads[dict(setting).get("stop"), name].append((np.var(values, ddof=1), len(values)))
    for setting, name in (key for key in committed if key in own):
        x, y = (list(runs[setting, name].values()) for runs in (own, committed))
        others = spreads[dict(setting).get("stop"), name]
        if others and np.isfinite(y).all():
            variance = max(FLOOR**2, np.mean([v for v, _ in others]))
            if len(y) > 1:
                variance = max(variance, np.var(y, ddof=1))
            t = (np.mean(x) - np.mean(y)) / np.sqrt(variance * (1 / len(x) + 1 / len(y)))
            df = min(MOST_DF, sum(n - 1 for _, n in others))
            p = 2 * student.sf(abs(t), df) if np.isfinite(t) else 0.0  # a diverged run is out
            found.append((p, setting, name, np.mean(x), np.mean(y)))
    return found


def significant(found):
    """Return the tests that are significant together at LEVEL, the smallest p-value first."""
    found = sorted(found, key=lambda test: test[0])
    corrected = holm([test[0] for test in found])
    return [test for test, p in zip(found, corrected, strict=True) if p <= LEVEL]
