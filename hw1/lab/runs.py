"""What every experiment shares around its training runs: processes, caches, logs.

The unit of work is one training run; `--jobs` of them go side by side, each on one thread, so that
a log is the same, byte for byte, whatever the number of jobs and however often the script was
killed and started again. Finished runs and measurements rest in OUT/checkpoints under a digest of
their setting, of the data and of the code that made them.
"""

import ast
import hashlib
import json
import math
import shutil
import sys
import time
import zipfile
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout

import train
from data import digest, standardise
from lab import logs
from lab.files import KEYS, DataError, arrays
from lab.parallel import side_by_side, stop_workers
from models import count_params

HW1 = Path(__file__).resolve().parent.parent
COMMON = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
QUICK = {"train": 1000, "test": 300}  # with --quick, the first rows of each split are all there are
TRAINING_CODE = ("data", "models", "optimizers", "train")


def setting(args, **grid):
    """Return one full setting: train.SETTING, then the flags, then the keys of `grid`."""
    full = train.SETTING | {"dataset": args.dataset, "epochs": args.epochs} | grid
    if args.quick:
        size = min(full["train_size"] or QUICK["train"], QUICK["train"])
        full |= {"train_size": size, "test_size": QUICK["test"]}
    if len(full) > len(train.SETTING):
        raise ValueError(f"unknown settings: {set(full) - set(train.SETTING)}")
    return full


def thin(args, grid):
    """Return the grid, or with --quick its first, middle and last value."""
    grid = list(grid)
    return grid[:: (len(grid) - 1) // 2] if args.quick else grid


def common(setting):
    """Return the common columns of a row about one run."""
    row = {"n_params": count_params(train.network(setting))}
    return row | {name: setting[name] for name in COMMON if name != "n_params"}


def run(args, columns, tasks, measure):
    """Train what the tasks need, measure each of them, and write the logs; return the exit code.

    columns: for each log's name its columns after COMMON. tasks: dicts of plain values, with "log"
    (which CSV) and "runs" (a list of settings). measure(task, states, tensors) gets the states of
    these runs (see train.train) and returns the task's rows. Exit codes: 0; 1 if a run diverged or
    failed; 2 for a mistake of the user; 130 after Ctrl-C.
    """
    started = time.monotonic()
    try:
        with _lock(args):
            context = _prepare(args)
            states, seconds, bad = _train_all(args, tasks, context)
            rows, failed = _measure_all(args, tasks, measure, states, context)
            for message in bad + failed:
                print(f"{args.script}: {message}", file=sys.stderr)
            if failed:
                print(f"{args.script}: no log was written; what was finished is kept, and the same "
                      "command goes on from there", file=sys.stderr)  # fmt: skip
                return 1
            about = logs.about(args, context["data"]) | {"core_seconds": round(seconds, 1)}
            about["seconds"] = round(time.monotonic() - started, 1)
            for log, further in columns.items():
                path = args.out / "logs" / f"{log}_{args.dataset}"
                logs.write(path, (*COMMON, *further), rows[log], about)
                print(f"{args.script}: wrote {path}.csv", flush=True)
            return 1 if bad else 0
    except (DataError, OSError) as error:
        print(f"{args.script}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        stop_workers()
        print(f"\n{args.script}: stopped; what was finished is kept, and the same command goes on "
              "from there", file=sys.stderr)  # fmt: skip
        return 130


def _lock(args):
    lock = FileLock(args.out / "checkpoints" / f"{args.script}_{args.dataset}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{args.script}: another one is at work in {args.out}: waiting for it", flush=True)
        return lock.acquire()


def _prepare(args):
    """Make the caches' folder; read and check the data, and lay it out for processes to map."""
    torch.set_num_threads(1)
    folder = args.out / "checkpoints" / f"{args.script}_{args.dataset}"
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for part in folder.glob("*.part"):
        part.unlink()  # left by a process that was killed while it wrote
    raw = arrays(args.dataset, args.data_dir)
    source = digest(raw)
    name = f"{args.dataset}{'-quick' * args.quick}-{_code('data')[:8]}-{source[:8]}.tensors"
    path = args.out / "checkpoints" / name
    if args.quick:
        raw = {key: value[: QUICK[key.partition("_")[2]]] for key, value in raw.items()}
    with FileLock(f"{path}.lock"):
        if not _sound(path):
            part = path.with_name(f"{path.name}.part")
            torch.save(standardise(raw), part)
            part.replace(path)
    return {"folder": folder, "tensors": path, "device": args.device, "data": source}


def _sound(path):
    """Return whether the file is there, its checksums are right and it holds four tensors."""
    try:
        with zipfile.ZipFile(path) as file:
            whole = file.testzip() is None
        return whole and len(torch.load(path, mmap=True, weights_only=True)) == len(KEYS)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made again
        return False


def _train_all(args, tasks, context):
    """Train every distinct setting of the tasks.

    Returns a dict from setting to the file of its state, the runs' seconds, and what went wrong.
    """
    salt = [context["data"], torch.__version__, args.device, _code(*TRAINING_CODE)]
    settings = {_key(salt, setting): setting for task in tasks for setting in task["runs"]}
    states = {key: context["folder"] / f"{key}.state" for key in settings}
    longest_first = sorted(settings, key=lambda key: -_cost(settings[key]))
    plan = f"{len(settings)} runs of {args.epochs} epochs on {args.dataset}, then {len(tasks)}"
    plan += f" measurements, {args.jobs} at a time on {args.device}"
    print(f"{args.script}: {plan}", flush=True)
    calls = {key: (settings[key], context, states[key]) for key in longest_first}
    costs = {key: _cost(settings[key]) for key in longest_first}
    seconds, bad = 0, []
    for key, value, error in side_by_side(args, "training", _train, calls, costs):
        name = _name(settings[key])
        if error:
            bad.append(f"the run with {name} failed: {error}")
        else:
            finite, reached, run_seconds = value
            seconds += run_seconds
            if not finite:
                bad.append(f"the run with {name} diverged: its loss became infinite or NaN")
            elif not reached:
                bad.append(f"the run with {name} ended before its train loss was under the target")
    return {json.dumps(settings[key]): states[key] for key in settings}, seconds, bad


def _measure_all(args, tasks, measure, states, context):
    """Measure every task whose runs are finished; return the rows by log, and what went wrong."""
    salt = [context["data"], torch.__version__, args.device]
    salt.append(_code(*TRAINING_CODE, "measures", args.script))
    calls = {}
    for number, task in enumerate(tasks):
        paths = [states[json.dumps(setting)] for setting in task["runs"]]
        rows_path = context["folder"] / f"{_key(salt, task)}.rows"
        calls[number] = (measure, task, paths, context, rows_path)
    rows, failed = {}, []
    for number, value, error in side_by_side(args, "measuring", _measure, calls):
        rows[number] = value
        if error:
            names = " and ".join(_name(setting) for setting in tasks[number]["runs"])
            failed.append(f"measuring {names} for {tasks[number]['log']} failed: {error}")
    by_log = {task["log"]: [] for task in tasks}
    for number, task in enumerate(tasks):
        by_log[task["log"]] += rows[number] or []
    return by_log, failed


def _train(setting, context, path):
    state = train.train(setting, _tensors(context["tensors"], context["device"]), path)
    reached = all(stop["reached"] for stop in state["stops"].values())
    losses = [row[name] for row in state["history"] for name in row if name.endswith("loss")]
    return state["finite"] and all(map(math.isfinite, losses)), reached, state["seconds"]


def _measure(measure, task, paths, context, rows_path):
    rows = train.restore(rows_path)
    if rows is None:
        states = [train.restore(path) for path in paths]
        if not all(state and state["done"] for state in states):
            raise RuntimeError("a run that it needs is not finished")
        rows = measure(task, states, _tensors(context["tensors"], context["device"]))
        train.save(rows_path, rows)
    return rows


@cache
def _tensors(path, device):
    """Map the data: all processes share one copy, in the page cache."""
    return [tensor.to(device) for tensor in torch.load(path, mmap=True, weights_only=True)]


def _name(setting):
    return ", ".join(f"{k}={v}" for k, v in setting.items() if v != train.SETTING[k])


def _key(salt, value):
    return hashlib.sha256(json.dumps([salt, value], sort_keys=True).encode()).hexdigest()[:24]


def _cost(setting):
    """Return a guess at the work in one run, in multiply-adds."""
    size = setting["train_size"] or 60_000
    each = 8 if setting["model"].startswith("cnn") else 3  # a kernel works at many positions
    work = each * common(setting)["n_params"] + 2e6 / setting["batch_size"] + 1e5
    late = 30 * setting["batch_size"] / size if setting["target"] else 0  # few steps an epoch
    return setting["epochs"] * (1 + late) * size * work


@cache
def _code(*modules):
    """Return a digest of these files that no comment, docstring or line break changes."""
    sha = hashlib.sha256()
    for module in modules:
        tree = ast.parse((HW1 / f"{module}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
        sha.update(ast.dump(tree).encode())
    return sha.hexdigest()
