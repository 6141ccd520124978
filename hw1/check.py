"""Does your own run agree with the committed one? One seed or one script is enough.

    python hw1/check.py DIR [--logs DIR]

compares each log of DIR/logs (or of DIR itself) with the committed log of the same name: the same
bytes, or how many settings agree within the spread over seeds, and which do not. The exit code is
0, or 1 if a mean is outside of the spread, or 2 if nothing could be compared or a log is damaged.

For each setting, the means over seeds of all measured values at the last epoch are compared. A line
of models (interpolation over alpha, rescaling over scale) is compared as a whole: by its mean, and
for alpha also by both ends and the highest loss between them, the top of the barrier. Accuracies
are compared as they are, everything else as logarithms. lab/agreement.py explains the statistics.
"""

import argparse
import os
import re
import sys
from collections import Counter
from pathlib import Path

import lab
from lab.agreement import ALONG, SHARE, compare_means, longest, read, significant
from lab.tables import cells, described, folder

import numpy as np

LOGS = Path(__file__).resolve().parent / "logs"


def differences(own, committed):
    """Return sentences on the settings that only `own` has and on how far equal seeds differ."""
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
        + [f"no column {c}" for c in other if c not in dict(setting)]
        + [f"a column {c}" for c, _ in setting if c not in other]
        for other in map(dict, others)
    ]
    return ", ".join(min(changes, key=len))


def title(setting, others):
    """Name a setting by the columns in which the settings of its log differ."""
    values = {c: {dict(other).get(c) for other in others} for c, _ in setting}
    varied = [(c, v) for c, v in setting if len(values[c]) > 1 and v]
    shown = [c for c, _ in varied if c not in ("model", "n_params")]
    if len({tuple(dict(other).get(c) for c in shown) for other in others}) < len({*others}):
        shown.insert(0, "model")  # else the other columns tell the networks apart
    return ", ".join(f"{c} {dict(setting)[c]}" for c in shown) or "its only setting"


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
    table = cells(path)
    try:
        reference = cells(other)
        committed = read(*reference)
    except ValueError as error:
        raise ValueError(f"in the latter, {error}") from None
    columns = table[0]
    for column in ALONG:
        if column in reference[0] and column not in columns:
            return [f"not comparable: it has no column {column}"], []
    measured = {name.removeprefix("mean ") for _, name in committed}
    own = read(*table, longest(committed), measured)
    lines, theirs = (p.read_bytes().splitlines(keepends=True) for p in (path, other))
    if set(lines) <= set(theirs):
        some = f" in the {len(lines) - 1} rows that both have" if len(lines) < len(theirs) else ""
        return [f"the same bytes{some}"], []
    commands = [str(described(p).get("command", "")).replace("=", " ") for p in (path, other)]
    hidden = "--quick" + r"|--train-size \w+" * ("train_size" not in columns)
    hidden += r"|--epochs \w+" * ("epoch" not in columns)
    made = [" ".join(sorted(re.findall(hidden, command))) for command in commands]
    if made[0] != made[1]:  # by flags that this CSV does not show
        flags = [flag or "the default" for flag in made]
        hint = " (if that is the same, leave the flag out)" * ("" in made)
        return ["not comparable: {} instead of {}".format(*flags) + hint], []
    say, found = differences(own, committed), compare_means(own, committed)
    digests = {str(described(p).get("data_digest") or "") for p in (path, other)} - {""}
    if found and len(digests) > 1:
        say.append("the data are not those of the committed log: its .json may have a data_note")
    if not found and own.keys() & committed.keys():
        say = ["not comparable: the committed log does not tell the spread over seeds", *say]
    return say or ["not comparable: it has no measured values"] * (not found), found


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


def main():
    """Compare every log, judge them all together, and return the exit code."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about, allow_abbrev=False)
    add = parser.add_argument
    add("folder", type=folder, metavar="DIR", help="your logs are in DIR/logs or in DIR")
    add(
        "--logs",
        type=folder,
        default=LOGS,
        metavar="DIR",
        help="committed logs (default: hw1/logs)",
    )
    args = parser.parse_args()
    here, logs, found, told, bad = args.folder, args.logs, {}, [], []
    here = here / "logs" if os.path.isdir(here / "logs") else here
    for path in sorted(here.glob("*.csv")) if os.path.isdir(here) else []:
        other = logs / path.name
        try:
            if path.stem != "benchmark":
                told.append((described(path), described(other)))
                found[path.stem] = compare(path, other)
        except (OSError, ValueError) as error:
            bad.append(f"check: {path} cannot be compared with {other}: {error}")
    failed = significant([test for _, some in found.values() for test in some])
    for name, (say, some) in found.items():
        for line in judge(some, failed) + say:
            lab.say(f"{name}: {line}")
    if not bad and all(not some and "not comparable" in say[0] for say, some in found.values()):
        bad.append(f"check: {here} has no log that can be compared with one in {logs}")
    if bad:
        parser.exit(2, "\n".join([*bad, ""]))
    lab.say(machines(told))
    return 1 if failed or lab.say.lost else 0


if __name__ == "__main__":
    sys.exit(main())
