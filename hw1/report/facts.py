"""Every number of the report in one flat dict, {name: text}, which both languages share.

All of it is derived from the logs, their .json files and two tables of plot_all.py; settings that
no log holds are read from the constants of the script that used them.
"""

import json
import re
import subprocess

import answers
from lab.tables import LOGS, read
from words import HW1, text

WANTED = [("random_labels", "mnist"), ("param_sweep", "cifar10"), ("param_sweep", "mnist"),
          ("interpolation", "mnist"), ("interpolation_shared", "mnist"),
          ("sensitivity", "mnist"), ("sensitivity", "cifar10"),
          ("sharpness", "mnist"), ("reparametrization", "mnist")]  # fmt: skip


class MissingLogError(ValueError):
    """A log or a table is not there; the message names it and the command that makes it."""


def run_details(about):
    """Hardware, versions, dates and core time: a table row for every command."""
    rows, minutes, first = [], 0, next(iter(about.values()))
    for (log, dataset), a in about.items():
        if log in ("interpolation_shared", "reparametrization"):
            continue  # written by the same command as the log before it
        minutes += a["core_seconds"] / 60
        rows.append([LOGS[log], dataset, text(a["core_seconds"], ",.0f"),
                     text(a["seconds"], ",.0f"), str(a["jobs"]), str(a["core_gflops"])])  # fmt: skip
    commits = {a["git_commit"].split(" ")[0] for a in about.values()} - {""}
    d = {"core_minutes": text(minutes, ".0f"), "device": first["device"],
         "commit": ", ".join(sorted(c[:7] for c in commits)) or "unknown",
         "date": max(_day(a) for a in about.values())}  # fmt: skip
    d |= {name: version for name, version in first["versions"].items()}
    note = re.match(
        r"([\d,]+) of the ([\d,]+) images", about["param_sweep", "cifar10"]["data_note"]
    )
    return d | {"jpeg": note[1] if note else "", "images": note[2] if note else ""}, {"cost": rows}


def _day(a):
    """YYYY-MM-DD of a run: its own, else that of its commit."""
    commit = a["git_commit"].partition(" ")[0] or "HEAD"
    show = ["git", "-C", str(HW1), "show", "-s", "--format=%cs", commit]
    try:
        shown = subprocess.run(show, capture_output=True, text=True, check=False).stdout
    except OSError:  # there is no git on this machine
        shown = ""
    return a.get("date") or shown.strip() or "unknown"


def collect(logs, figures):
    """({name: text}, {name: rows}) of everything in the folders `logs` and `figures`."""
    t, about = {}, {}
    for log, dataset in WANTED:
        path = logs / f"{log}_{dataset}.csv"
        default = "cifar10" if log == "param_sweep" else "mnist"
        flag = f" --dataset {dataset}" * (dataset != default)
        if not (path.exists() and path.with_suffix(".json").exists()):
            script = LOGS[log]
            raise MissingLogError(f"{path} or its .json is missing: "
                                  f"`python hw1/{script}.py{flag}` makes both.")  # fmt: skip
        t[log, dataset] = read(path)
        about[log, dataset] = json.loads(path.with_suffix(".json").read_text())
    for name in ("barriers_mnist", "predictors_mnist", "predictors_cifar10"):
        path = figures / f"{name}.csv"
        if not path.exists():
            raise MissingLogError(f"{path} is missing: `python hw1/plot_all.py` makes it.")
        t[name] = read(path)
    parts = {
        "rl": answers.random_labels(t["random_labels", "mnist"]),
        "cnn": answers.param_sweep(t["param_sweep", "cifar10"], "cifar10"),
        "mlp": answers.param_sweep(t["param_sweep", "mnist"], "mnist"),
        "path": answers.interpolation(t["interpolation", "mnist"], t["interpolation_shared", "mnist"],
                              t["barriers_mnist"]),
        "sens": answers.sensitivity(t["sensitivity", "mnist"], "mnist"),
        "conv": answers.sensitivity(t["sensitivity", "cifar10"], "cifar10"),
        "sharp": answers.sharpness(t["sharpness", "mnist"]),
        "scale": answers.reparametrization(t["reparametrization", "mnist"]),
        "pred": answers.predictors(t["predictors_mnist"], "mnist"),
        "predc": answers.predictors(t["predictors_cifar10"], "cifar10"),
        "run": run_details(about),
    }  # fmt: skip
    numbers = {f"{part}.{k}": str(v) for part, (d, _) in parts.items() for k, v in d.items()}
    tables = {
        f"{part}.{k}": rows for part, (_, found) in parts.items() for k, rows in found.items()
    }
    return numbers, tables
