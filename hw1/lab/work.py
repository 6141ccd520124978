"""The work of an experiment, side by side: its training runs, then its measurements.

Each is kept in the cache when it is finished, and read from there by the next start.
"""

import json
import math

from lab import cache, say, tables
from lab.digests import code_digest
from lab.parallel import side_by_side
from lab.settings import COMMON, common
from lab.store import restore, save

import numpy as np
import torch

import data
import train


def training_code(*more):
    """Return the digest of all code on which a trained network depends, and of that of `more`."""
    return code_digest(train.train, data.standardise, *more)


def train_all(args, tasks, context, found):
    """Train every distinct setting of the tasks.

    Returns a dict from setting to the file of its state, the runs' seconds, and what went wrong.
    """
    salt = cache.salt(context, training_code())
    tables.write(context["folder"] / "salt.json", json.dumps(salt).encode())  # for load
    settings = {cache.key(salt, setting): setting for task in tasks for setting in task["runs"]}
    states = {key: context["folder"] / f"{key}.state" for key in settings}
    costs = {key: 0 if states[key].exists() else _cost(settings[key]) for key in settings}
    done = list(costs.values()).count(0)
    say(
        f"{args.script}: {len(settings)} runs on {args.dataset}: {done} finished,"
        f" {len(settings) - done} to do, {args.jobs} at a time on {args.device};"
        f" then {len(tasks)} measurements"
    )
    longest_first = sorted(settings, key=lambda key: -costs[key])
    calls = {key: (settings[key], context, states[key]) for key in longest_first}
    seconds, bad = 0, []
    title = f"{args.script}: training"
    for key, value, error in side_by_side(found, title, _train, calls, costs):
        name = _name(settings[key])
        if error:
            bad.append(f"the run with {name} failed: {error}")
            continue
        finite, reached, run_seconds = value
        seconds += run_seconds
        if not finite:
            bad.append(f"the run with {name} diverged: its loss became infinite or NaN")
        elif not reached:
            bad.append(f"the run with {name} ended before its train loss was under the target")
    return {json.dumps(settings[key]): states[key] for key in settings}, seconds, bad


def measure_all(args, columns, tasks, measure, states, context, found):
    """Measure every task whose runs are finished; return the rows by log, and what went wrong."""
    salt = cache.salt(context, training_code(measure))
    calls = {}
    for number, task in enumerate(tasks):
        paths = [states[json.dumps(setting)] for setting in task["runs"]]
        rows_path = context["folder"] / f"{cache.key(salt, task)}.rows"
        names = (*COMMON, *columns[task["log"]])
        calls[number] = (measure, task, names, paths, context, rows_path)
    rows, failed = {}, {}
    title = f"{args.script}: measuring"
    for number, value, error in side_by_side(found, title, _measure, calls):
        rows[number], log = value, tasks[number]["log"]
        if error:
            names = " and ".join(_name(setting) for setting in tasks[number]["runs"])
            failed.setdefault(str(error), []).append(f"measuring {names} for {log} failed")
    by_log = {log: [] for log in columns}
    for number, task in enumerate(tasks):
        by_log[task["log"]] += rows[number] or []
    return by_log, [_told(reason, those) for reason, those in failed.items()]


def _told(reason, failed):
    """Return one sentence about all measurements that failed for the same reason."""
    others = f", and so did {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{failed[0]}{others}: {reason}"


def _plain(rows):
    """Return what `measure` gave, checked, with the number that an array of one element holds."""

    def number(v):
        single = isinstance(v, (np.generic, np.ndarray, torch.Tensor)) and math.prod(v.shape) == 1
        return v.item() if single else v

    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise ValueError("measure must return a list of dicts, at least one")
    rows = [{name: number(value) for name, value in row.items()} for row in rows]
    plain = (bool, int, float, str, type(None))  # and none of their subclasses
    if odd := sorted({name for row in rows for name, v in row.items() if type(v) not in plain}):
        raise ValueError(
            f"a row must hold a number or a text in each column; not so in {', '.join(odd)}"
        )
    return rows


def _train(report, setting, context, path):
    tensors = cache.tensors(context["tensors"], context["device"])
    state = train.train(setting, tensors, path, report)
    reached = all(stop["reached"] for stop in state["stops"].values())
    losses = [row[name] for row in state["history"] for name in row if name.endswith("loss")]
    return state["finite"] and all(map(math.isfinite, losses)), reached, state["seconds"]


def _measure(report, measure, task, names, paths, context, rows_path):
    if (rows := restore(rows_path)) is None:
        states = [restore(path) for path in paths]
        if not all(states):
            raise RuntimeError("a run that it needs is not finished")
        tensors = cache.tensors(context["tensors"], context["device"])
        rows = _plain(measure(task, states, tensors))
        save(rows_path, rows)
    if differ := sorted({name for row in rows for name in {*row} ^ {*names}}):
        raise ValueError(f"its rows and COLUMNS differ in {', '.join(differ)}")
    return rows


def _name(setting):
    return ", ".join(f"{k}={v}" for k, v in setting.items() if v != train.SETTING[k])


def _cost(setting):
    """Return a guess at the work in one run, in multiply-adds."""
    size = setting["train_size"] or 60_000
    each = 8 if setting["model"].startswith("cnn") else 3  # a kernel works at many positions
    work = each * common(setting)["n_params"] + 2e6 / setting["batch_size"] + 1e5
    late = 30 * setting["batch_size"] / size if setting["target"] else 0  # few steps an epoch
    return setting["epochs"] * (1 + late) * size * work
