"""Does your own run agree with the committed one? One seed or one script is enough.

    python hw1/check.py DIR [--logs DIR]

compares each log of DIR/logs (or of DIR itself) with the committed log of the same name: the same
bytes, or how many settings agree within the spread over seeds, and which do not. The exit code is
0, or 1 if a mean is outside of the spread, or 2 if nothing could be compared.

Compared are the means over seeds of all measured values of each setting, at the last epoch. A line
of models (interpolation over alpha, rescaling over scale) counts as one: its mean, and for alpha
also both ends and the highest loss between them, the top of the barrier. Accuracies are compared as
they are and everything else as logarithms.

Statistics: with n committed seeds of mean r and k own seeds of mean m from one distribution,
(m - r) / (s sqrt(1/n + 1/k)) follows Student's t. Three seeds tell little about s, so s is the
larger of two: the setting's own standard deviation, and that of all settings of its log and stop,
pooled; and at least 0.001, for rounding. As settings differ in their spread, at most 10 degrees of
freedom are counted. P-values are Holm-corrected over everything compared, at the joint level 0.01.
In simulated repetitions with the spreads of these logs, a correct single log failed in 0 to 6% of
cases and all logs together in 0 to 15%; the higher numbers take the uneven spreads at face value.
"""

import argparse
import csv
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import t as student

LOGS = Path(__file__).resolve().parent / "logs"
SETTINGS = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed", "width")
SETTINGS += ("label_corruption", "train_size", "pair", "setting_1", "setting_2", "alignment")
SETTINGS += ("stop", "approach", "epsilon", "scale", "epoch", "alpha")  # the rest is measured
ROUNDING = ("residual", "max_output_change")  # measured, but only the error of a computation
SHARE = re.compile("acc|confidence")
FLOOR, MOST_DF, LEVEL = 1e-3, 10, 0.01


def read(path):
    """Return {(setting, name): {seed: value}} of a CSV; a setting is ((column, text), ...)."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    if not rows or "seed" not in rows[0] or any(None in {*row, *row.values()} for row in rows):
        raise ValueError("it has no rows, no column seed, or a row that is cut off")
    x = next((c for c in ("alpha", "scale", "epoch") if c in rows[0]), "seed")
    runs, found = defaultdict(dict), defaultdict(dict)
    for row in rows:
        setting = tuple((c, row[c]) for c in SETTINGS if c in row and c not in ("seed", x))
        run, at = runs[setting, row["seed"]], float(row[x])
        if at in run:
            raise ValueError("two rows have the same setting and the same seed")
        run[at] = scaled(row)
    for (setting, seed), points in runs.items():
        first, last = min(points), max(points)
        if x in ("alpha", "scale"):
            setting += ((f"{x}s", f"{len(points)} from {first:g} to {last:g}"),)
        elif ("stop", "train_loss") not in setting:  # at that stop the epoch is a result
            setting += (("epochs", f"{last:g}"),)
        for name, value in (points[last] if x in ("epoch", "seed") else along(points)).items():
            found[setting, name][seed] = value
    return dict(found)


def scaled(row):
    """Return the measured values of a row: accuracies as they are, logarithms of the others."""
    values = {c: float(v) for c, v in row.items() if c not in (*SETTINGS, *ROUNDING)}
    return {c: v if SHARE.search(c) else np.log(np.maximum(v, 1e-12)) for c, v in values.items()}


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


def tests(own, committed):
    """Return [p-value, setting, name, own mean, committed mean] of each mean that both have."""
    spreads, found = defaultdict(list), []
    for (setting, name), seeds in committed.items():
        values = list(seeds.values())
        if len(values) > 1 and np.isfinite(values).all():
            spreads[dict(setting).get("stop"), name].append((np.var(values, ddof=1), len(values)))
    for setting, name in own.keys() & committed.keys():
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


def differences(own, committed):
    """Return sentences: settings that only one side has; the largest difference of equal seeds."""
    others = list(dict.fromkeys(setting for setting, _ in committed))
    mine = dict.fromkeys(setting for setting, _ in own)
    say = Counter(nearest(setting, others) for setting in mine if setting not in others)
    say = [f"not comparable: {reason} (settings: {n})" for reason, n in say.items()]
    off = [
        (abs(np.expm1(value - committed[key][seed])), key[1], title(key[0], others))
        for key in own.keys() & committed.keys()
        for seed, value in own[key].items()
        if seed in committed[key] and not SHARE.search(key[1])
    ]
    off = [row for row in off if np.isfinite(row[0])]
    if off:
        say.append("equal seeds differ by up to {:.2%}, in {} at {}".format(*max(off)))
    return say


def nearest(setting, others):
    """Say in which columns a setting differs from the one that is most like it."""
    changes = [
        [f"{c} {v} instead of {other[c]}" for c, v in setting if other.get(c, v) != v]
        for other in map(dict, others)
    ]
    return ", ".join(min(changes, key=len))


def title(setting, others):
    """Name a setting by the columns in which the settings of its log differ."""
    values = {c: {dict(other).get(c) for other in others} for c, _ in setting}
    varied = [(c, v) for c, v in setting if len(values[c]) > 1 and v]
    shown = [f"{c} {v}" for c, v in varied if c not in ("model", "n_params")]
    return ", ".join(shown) or "its only setting"


def about(path):
    """Return the .json beside a log, empty if there is none."""
    path = path.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def machines(pairs):
    """Say in one line whether both machines compute the same bits; pairs: the .json of both."""
    told = [pair for pair in pairs if all(one.get("fingerprint") for one in pair)]
    if not told:
        return "the .json files do not tell whether both machines compute the same bits"
    names = [f"{one.get('device')}, {one.get('cpu_capability')}" for one in told[0]]
    same = all(one["fingerprint"] == other["fingerprint"] for one, other in told)
    same = "the same" if same else "not the same"
    return f"your machine ({names[0]}) and the logs' ({names[1]}) compute {same} bits"


def compare(path, other):
    """Return what to say of a log at once, and the tests that are left to judge."""
    if not other.exists():
        return ["not comparable: there is no committed log of this name"], []
    own, committed = read(path), read(other)
    lines, theirs = (p.read_text(encoding="utf-8").splitlines() for p in (path, other))
    if set(lines) <= set(theirs):
        some = f" in the {len(lines) - 1} rows that both have" if len(lines) < len(theirs) else ""
        return [f"the same bytes{some}"], []
    commands = [about(p).get("command", "") for p in (path, other)]
    made = [" ".join(re.findall(r"--quick|--train-size[ =]\w+", c)) for c in commands]
    if made[0] != made[1]:  # flags that not every CSV shows
        return [f"not comparable: {made[0] or 'all'} instead of {made[1] or 'all'} examples"], []
    say, found = differences(own, committed), tests(own, committed)
    unknown = ["not comparable: the committed log does not tell the spread over seeds"]
    return say if say or found else unknown, found


def judge(found, failed):
    """Return the sentence about one log's tests, and a line for each mean that is out."""
    if not found:
        return []
    out = [test for test in found if test in failed]
    n, bad = len({test[1] for test in found}), len({test[1] for test in out})
    lines = [f"{n - bad} of {n} settings agree within the spread over seeds"]
    for _, setting, name, *means in out:
        shown = [m if SHARE.search(name) else np.exp(m) for m in means]
        where = title(setting, [test[1] for test in found])
        lines.append("out: {} {:.4g} instead of {:.4g} at {}".format(name, *shown, where))
    return lines


def holm(found):
    """Return the tests that are significant together at LEVEL (Holm 1979)."""
    found = sorted(found, key=lambda test: test[0])
    ok = (i for i, test in enumerate(found) if test[0] > LEVEL / (len(found) - i))
    return found[: next(ok, len(found))]


def main():
    """Compare every log, judge them all together, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="your logs are in DIR/logs or in DIR")
    add("--logs", type=Path, default=LOGS, metavar="DIR", help="committed logs (default: hw1/logs)")
    args = parser.parse_args()
    folder, logs = args.folder.expanduser(), args.logs.expanduser()
    folder = folder / "logs" if (folder / "logs").is_dir() else folder
    found, told = {}, []
    for path in sorted(folder.glob("*.csv")):
        other = logs / path.name
        try:
            if path.stem != "benchmark":
                found[path.stem] = compare(path, other)
                told.append((about(path), about(other)))
        except (OSError, ValueError, csv.Error) as error:
            parser.exit(2, f"check: {path} cannot be compared with {other}: {error}\n")
    failed = holm([test for _, some in found.values() for test in some])
    for name, (say, some) in found.items():
        for line in judge(some, failed) + say:
            print(f"{name}: {line}")
    if all(not some and "not comparable" in say[0] for say, some in found.values()):
        parser.exit(2, f"check: {folder} has no log that can be compared with one in {logs}\n")
    print(machines(told))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
