"""From a list of settings to a log: training runs, measurements, and the cache that keeps both.

The unit of work is one training run; `--jobs` of them go side by side, each on one thread, so that
a log has the same bytes whatever the number of jobs and however often the script was interrupted.
Finished runs and measurements are kept in OUT/checkpoints, in files that are named by a digest of
the setting, of the data and of the code that made them.
"""

import hashlib
import json
import math
import shutil
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path

from lab import HW1, INTERRUPTED, end_if_script, files, interruptible, logs
from lab.parallel import side_by_side, workers
from lab.provenance import capability, code_digest

import torch
from filelock import FileLock, Timeout

import data
import train
from models import count_params

COMMON = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
QUICK = {"train": 1000, "test": 300}  # with --quick, the first rows of each split are all there are


def setting(args, **grid):
    """Return one full setting: the defaults of train.SETTING, then the flags, then `grid`."""
    full = train.SETTING | {"dataset": args.dataset, "epochs": args.epochs} | grid
    if args.quick:
        size = min(full["train_size"] or QUICK["train"], QUICK["train"])
        full |= {"train_size": size, "test_size": QUICK["test"]}
    return full


def mlp_for(dataset, *hidden):
    """Return the name of the MLP with these hidden widths whose ends fit the data set."""
    entry = files.DATASETS[dataset]
    return "-".join(map(str, ("mlp", math.prod(entry.shape), *hidden, entry.classes)))


def thin(args, grid):
    """Return the grid, or with --quick its first, middle and last value."""
    grid = list(grid)
    return grid[:: (len(grid) - 1) // 2] if args.quick and len(grid) > 3 else grid


def common(setting):
    """Return the common columns of a row about one run."""
    row = {"n_params": count_params(train.network(setting))}
    return row | {name: setting[name] for name in COMMON if name != "n_params"}


def run(args, columns, tasks, measure, check=None):
    """Train what the tasks need, measure them, write the logs, draw; return the exit code.

    columns: the columns of each log after COMMON, by the log's name. tasks: dicts of plain values
    with the keys "log" (which CSV) and "runs" (a list of settings). measure(task, states, tensors)
    gets the states of these runs (see train.train) and returns the task's rows. check(task), if
    given, raises train.SettingError for a task that cannot be measured, before any training.
    Exit codes: 0; 1 if a run failed or diverged; 2 for a mistake of the user; 130 after Ctrl-C.
    """
    try:
        with interruptible(), _lock(args):
            return _run(args, columns, tasks, measure, check)
    except (files.DataError, train.SettingError, OSError) as error:
        print(f"{args.script}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{args.script}: stopped; {KEPT}", file=sys.stderr)
        end_if_script(INTERRUPTED)
        return INTERRUPTED


KEPT = "what was finished is kept, and the same command goes on from there"


def _run(args, columns, tasks, measure, check):
    started = time.monotonic()
    for task in tasks:  # all of them, before the first run is trained
        for setting in task["runs"]:
            train.check(setting)
        if check:
            check(task)
    context = _prepare(args)
    with workers(args.jobs, args.dask) as found:
        states, seconds, bad = _train_all(args, tasks, context, found)
        rows, failed = _measure_all(args, tasks, measure, states, context, found)
    for message in bad + failed:
        print(f"{args.script}: {message}", file=sys.stderr)
    if failed:
        print(f"{args.script}: no log was written; {KEPT}", file=sys.stderr)
        return 1
    about = logs.about(args, context["data"], tasks, train.fingerprint(args.device))
    about |= {"core_seconds": round(seconds, 1), "seconds": round(time.monotonic() - started, 1)}
    for log, further in columns.items():
        path = args.out / "logs" / f"{log}_{args.dataset}"
        for line in logs.write(path, (*COMMON, *further), rows[log], about):
            print(f"{args.script}: {line}", flush=True)
    return 1 if bad or draw(args) else 0


def draw(args):
    """Draw the script's own figures; return the exit code of plot_all.py."""
    command = [sys.executable, HW1 / "plot_all.py", "--out", args.out, "--dataset", args.dataset]
    return subprocess.run([*command, "--only", args.script], check=False).returncode


def load(script, out=HW1, stop="epochs", **wanted):
    """Return the network of a finished run, in evaluation mode, on the CPU.

    script: the experiment's name; out: its --out; stop: when the network was kept, `epochs` or
    `train_loss`; wanted: what is known of the run's setting, e.g. dataset="mnist", seed=0.
    Raises ValueError unless exactly one finished run fits; the message says which there are.
    """
    found = []
    for path in sorted(Path(out).expanduser().glob(f"checkpoints/{script}_*/*.state")):
        state = train.restore(path)
        if state and wanted.items() <= state["setting"].items():
            found.append(state)
    if len(found) != 1:
        keys = {key for a in found for key in a["setting"] for b in found
                if a["setting"][key] != b["setting"][key]}  # fmt: skip
        hint = f"also give one of {', '.join(sorted(keys))}" if found else f"run {script}.py first"
        raise ValueError(f"{len(found)} finished runs of {script} have {wanted}: {hint}")
    [state] = found
    return train.network(state["setting"], state["stops"][stop]["weights"])


def _lock(args):
    lock = FileLock(args.out / "checkpoints" / f"{args.script}_{args.dataset}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{args.script}: another one is at work in {args.out}: waiting for it", flush=True)
        return lock.acquire()


def _prepare(args):
    """Make the cache's folder; read and check the data, and lay it out for processes to map."""
    torch.set_num_threads(1)
    folder = args.out / "checkpoints" / f"{args.script}_{args.dataset}"
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for part in folder.glob("*.part"):
        part.unlink()  # left by a process that was killed while it wrote
    raw = files.arrays(args.dataset, args.data_dir)
    source = data.digest(raw)
    if args.quick:
        raw = {key: value[: QUICK[key.partition("_")[2]]] for key, value in raw.items()}
    path = _laid_out(args, raw, f"{source}{args.quick}{code_digest(data.standardise)}")
    return {"folder": folder, "tensors": path, "device": args.device, "data": source}


def _laid_out(args, raw, version):
    """Write the standardised tensors to a file, once for the whole project, and return its path."""
    digest = hashlib.sha256(version.encode()).hexdigest()[:16]
    folder = HW1 / "checkpoints" / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
    except OSError:  # a checkout that may only be read
        folder = args.out / "checkpoints"
    path = folder / f"{args.dataset}-{digest}.tensors"
    with FileLock(f"{path}.lock"):
        if not _sound(path):
            part = path.with_name(f"{path.name}.part")
            torch.save(data.standardise(raw), part)
            part.replace(path)
    return path


def _sound(path):
    """Return whether the file is there, its checksums are right and it holds four tensors."""
    try:
        with zipfile.ZipFile(path) as file:
            whole = file.testzip() is None
        return whole and len(torch.load(path, mmap=True, weights_only=True)) == len(files.KEYS)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made again
        return False


def _train_all(args, tasks, context, found):
    """Train every distinct setting of the tasks.

    Returns a dict from setting to the file of its state, the runs' seconds, and what went wrong.
    """
    salt = _salt(context, code_digest(train.train))
    settings = {_key(salt, setting): setting for task in tasks for setting in task["runs"]}
    states = {key: context["folder"] / f"{key}.state" for key in settings}
    costs = {key: 0 if states[key].exists() else _cost(settings[key]) for key in settings}
    done = list(costs.values()).count(0)
    print(
        f"{args.script}: {len(settings)} runs on {args.dataset}: {done} finished,"
        f" {len(settings) - done} to do, {args.jobs} at a time on {args.device};"
        f" then {len(tasks)} measurements",
        flush=True,
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


def _measure_all(args, tasks, measure, states, context, found):
    """Measure every task whose runs are finished; return the rows by log, and what went wrong."""
    salt = _salt(context, code_digest(train.train, measure))
    calls = {}
    for number, task in enumerate(tasks):
        paths = [states[json.dumps(setting)] for setting in task["runs"]]
        rows_path = context["folder"] / f"{_key(salt, task)}.rows"
        calls[number] = (measure, task, paths, context, rows_path)
    rows, failed = {}, []
    title = f"{args.script}: measuring"
    for number, value, error in side_by_side(found, title, _measure, calls):
        rows[number] = value
        if error:
            names = " and ".join(_name(setting) for setting in tasks[number]["runs"])
            failed.append(f"measuring {names} for {tasks[number]['log']} failed: {error}")
    by_log = {task["log"]: [] for task in tasks}
    for number, task in enumerate(tasks):
        by_log[task["log"]] += rows[number] or []
    return by_log, failed


def _train(report, setting, context, path):
    tensors = _tensors(context["tensors"], context["device"])
    state = train.train(setting, tensors, path, report)
    reached = all(stop["reached"] for stop in state["stops"].values())
    losses = [row[name] for row in state["history"] for name in row if name.endswith("loss")]
    return state["finite"] and all(map(math.isfinite, losses)), reached, state["seconds"]


def _measure(report, measure, task, paths, context, rows_path):
    rows = train.restore(rows_path)
    if rows is None:
        states = [train.restore(path) for path in paths]
        if not all(states):
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


def _salt(context, code):
    return [context["data"], torch.__version__, context["device"], capability(), code]


def _key(salt, value):
    return hashlib.sha256(json.dumps([salt, value], sort_keys=True).encode()).hexdigest()[:24]


def _cost(setting):
    """Return a guess at the work in one run, in multiply-adds."""
    size = setting["train_size"] or 60_000
    each = 8 if setting["model"].startswith("cnn") else 3  # a kernel works at many positions
    work = each * common(setting)["n_params"] + 2e6 / setting["batch_size"] + 1e5
    late = 30 * setting["batch_size"] / size if setting["target"] else 0  # few steps an epoch
    return setting["epochs"] * (1 + late) * size * work
