"""Every number of the report in one flat dict, {name: text}, which both languages share.

All of them are derived from the logs, their .json files and two tables of plot_all.py. Settings
that no log holds are read from the constants of the script that used them.
"""

import re
import subprocess
import warnings

from lab.tables import LOGS, described, read

import bonus
import fitting
import flatness
from words import HW1, Contradiction, flag, text

WANTED = [
    ("random_labels", "mnist"),
    ("param_sweep", "cifar10"),
    ("param_sweep", "mnist"),
    ("interpolation", "mnist"),
    ("interpolation_shared", "mnist"),
    ("sensitivity", "mnist"),
    ("sensitivity", "cifar10"),
    ("sharpness", "mnist"),
    ("reparametrization", "mnist"),
]
TABLES = ("barriers_mnist", "predictors_mnist", "predictors_cifar10")


class MissingLogError(ValueError):
    """A log or a table is missing or incomplete; the message names it and what makes it."""


def command(log, dataset):
    """Return the command that makes a log."""
    default = "cifar10" if log == "param_sweep" else "mnist"
    return f"python hw1/{LOGS[log]}.py" + f" --dataset {dataset}" * (dataset != default)


def run_details(about):
    """Hardware, versions, dates and core time; a table row for each command."""
    rows, minutes, first = [], 0, next(iter(about.values()))
    for (log, dataset), a in about.items():
        if log != LOGS[log]:
            continue  # written by the same command as another log
        minutes += a["core_seconds"] / 60
        seconds = [text(a[name], ",.0f") for name in ("core_seconds", "seconds")]
        rows.append([log, dataset, *seconds, str(a["jobs"]), str(a["core_gflops"])])
    commits = {a["git_commit"].split(" ")[0] for a in about.values()} - {""}
    d = {"core_minutes": text(minutes, ".0f"), "device": first["device"]}
    d["commit"] = ", ".join(sorted(c[:7] for c in commits)) or "unknown"
    d["date"] = max(_day(a) for a in about.values())
    d |= first["versions"]
    note = about["param_sweep", "cifar10"]["data_note"]
    note = re.match(r"([\d,]+) of the ([\d,]+) images", note)
    return d | {"jpeg": note[1] if note else "", "images": note[2] if note else ""}, {"cost": rows}


def _day(a):
    """Return YYYY-MM-DD of a run: its own date, otherwise that of its commit."""
    commit = a["git_commit"].partition(" ")[0] or "HEAD"
    show = ["git", "-C", str(HW1), "show", "-s", "--format=%cs", commit]
    try:
        shown = subprocess.run(show, capture_output=True, text=True, check=False).stdout
    except OSError:  # there is no git on this machine
        shown = ""
    return a.get("date") or shown.strip() or "unknown"


def load(logs, figures):
    """Return ({name: table}, {log: its .json}); raise MissingLogError if something is missing."""
    t, about = {}, {}
    for log, dataset in WANTED:
        path, makes = logs / f"{log}_{dataset}.csv", f"`{command(log, dataset)}`"
        if not (path.exists() and path.with_suffix(".json").exists()):
            raise MissingLogError(f"{path} or its .json is missing: {makes} makes both.")
        a = about[log, dataset] = described(path)
        if a.get("quick", False):
            raise MissingLogError(f"{path} is of a quick run: {makes} makes a full one.")
        t[log, dataset] = read(path)
    for name in TABLES:
        path = figures / f"{name}.csv"
        if not path.exists():
            raise MissingLogError(f"{path} is missing: `python hw1/plot_all.py` makes it.")
        t[name] = read(path)
    return t, about


def sections(t):
    """Yield for each section: its name, its function, the function's arguments, the main log."""
    lines = [t["interpolation_shared", "mnist"], t["barriers_mnist"]]
    parts = {
        "rl": (fitting.random_labels, [], ("random_labels", "mnist")),
        "cnn": (fitting.param_sweep, ["cifar10"], ("param_sweep", "cifar10")),
        "mlp": (fitting.param_sweep, ["mnist"], ("param_sweep", "mnist")),
        "path": (flatness.interpolation, lines, ("interpolation", "mnist")),
        "sens": (flatness.sensitivity, ["mnist"], ("sensitivity", "mnist")),
        "conv": (flatness.sensitivity, ["cifar10"], ("sensitivity", "cifar10")),
        "sharp": (bonus.sharpness, [], ("sharpness", "mnist")),
        "scale": (bonus.reparametrization, [], ("reparametrization", "mnist")),
    }
    for part, (function, further, log) in parts.items():
        yield part, function, [t[log], *further], log
    for part, dataset in (("pred", "mnist"), ("predc", "cifar10")):
        table = t[f"predictors_{dataset}"]
        yield part, bonus.predictors, [table, dataset], ("sensitivity", dataset)


def collect(logs, figures):
    """Return ({name: text}, {name: rows}) of everything in the folders `logs` and `figures`."""
    t, about = load(logs, figures)
    found = {"run": run_details(about)}
    for part, function, arguments, log in sections(t):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as the mean of no rows
                found[part] = function(*arguments)
        except Contradiction:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, Warning) as error:
            raise MissingLogError(
                f"{logs / '_'.join(log)}.csv lacks settings that the report speaks of"
                f" ({' '.join(str(error).split())}): `{command(*log)}` makes a full one."
            ) from error
    path = found["path"][0]
    path["epochs"] = flag(about["interpolation", "mnist"], "--epochs", path["epochs"])
    numbers = {f"{part}.{k}": str(v) for part, (d, _) in found.items() for k, v in d.items()}
    tables = {f"{part}.{k}": rows for part, (_, more) in found.items() for k, rows in more.items()}
    return numbers, tables
