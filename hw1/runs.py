"""What every experiment shares around its training runs: processes, caches, logs.

The unit of work is one training run; `--jobs` of them go side by side, each on one thread, so that
a log is the same, byte for byte, whatever the number of jobs and however often the script was
killed and started again. Finished runs and measurements rest in OUT/checkpoints under a digest of
their setting, of the data and of the code that made them.
"""

import ast
import csv
import hashlib
import io
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import cache, lru_cache, partial
from pathlib import Path

import joblib
import numpy as np
import torch
import train
from data import digest, standardise
from filelock import FileLock, Timeout
from files import DataError, arrays
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from measures import MeasureError
from models import count_params
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
COMMON = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
TRAINING_CODE = ("data", "models", "train")
DATA_NOTES = {  # by the first digits of the digest of the arrays
    "b87e6908b94bd701": "94 of the 60,000 images were decoded from JPEG copies",
}


def setting(args, **grid):
    """Return one full setting: train.SETTING, then the flags, then the keys of `grid`."""
    small = {"train_size": 2000, "test_size": 1000} if args.quick else {}
    full = train.SETTING | {"dataset": args.dataset, "epochs": args.epochs} | grid | small
    if len(full) > len(train.SETTING):
        raise ValueError(f"unknown settings: {set(full) - set(train.SETTING)}")
    return full


def common(setting):
    """Return the common columns of a row about one run."""
    row = {"n_params": count_params(train.network(setting))}
    return row | {name: setting[name] for name in COMMON if name != "n_params"}


def or_nan(measure, *arguments, values=1):
    """Return measure(*arguments), or as many nan where the model cannot be measured."""
    try:
        return measure(*arguments)
    except MeasureError as error:
        print(f"warning: {measure.__name__}: {error}", file=sys.stderr)
        return math.nan if values == 1 else (math.nan,) * values


def run(args, logs, tasks, measure):
    """Train what the tasks need, measure each of them, and write the logs; return the exit code.

    logs: for each CSV's name its columns after COMMON. tasks: dicts of plain values, with "log"
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
            about = _about(args, context) | {"run_seconds": round(seconds, 1)}
            for log, columns in logs.items():
                about["seconds"] = round(time.monotonic() - started, 1)
                _write(args, log, (*COMMON, *columns), rows[log], about)
            return 1 if bad else 0
    except (DataError, OSError) as error:
        print(f"{args.script}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        print(f"\n{args.script}: stopped; what was finished is kept, and the same command goes on "
              "from there", file=sys.stderr)  # fmt: skip
        return 130


def _lock(args):
    lock = FileLock(args.out / "checkpoints" / f"{args.script}_{args.dataset}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{args.script}: another one is at work in {args.out}: waiting for it", flush=True)
        lock.acquire()
    return lock


def _prepare(args):
    """Read and check the data, lay it out for all processes to map, make the caches' folder."""
    folder = args.out / "checkpoints" / f"{args.script}_{args.dataset}"
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for part in [*folder.glob("*.part"), *args.out.glob(f"logs/{args.script}*.part")]:
        part.unlink()  # left by a process that was killed while it wrote
    torch.set_num_threads(1)
    raw = arrays(args.dataset, args.data_dir)
    source = digest(raw)
    tensors = args.out / "checkpoints" / f"{args.dataset}-{_code('data')[:8]}-{source[:8]}.tensors"
    with FileLock(f"{tensors}.lock"):
        if not tensors.exists():
            part = tensors.with_name(f"{tensors.name}.part")
            torch.save(standardise(raw), part)
            part.replace(tensors)
    return {"folder": folder, "tensors": tensors, "device": args.device, "data": source}


def _train_all(args, tasks, context):
    """Train every distinct setting of the tasks.

    Returns a dict from setting to the file of its state, the runs' seconds, and what went wrong.
    """
    salt = [context["data"], torch.__version__, args.device, _code(*TRAINING_CODE)]
    settings = {_key(salt, setting): setting for task in tasks for setting in task["runs"]}
    states = {key: context["folder"] / f"{key}.state" for key in settings}
    longest_first = sorted(settings, key=lambda key: -_cost(settings[key]))
    print(f"{args.script}: {len(settings)} runs of {args.epochs} epochs on {args.dataset}, then "
          f"{len(tasks)} measurements, {args.jobs} at a time on {args.device}", flush=True)  # fmt: skip
    calls = {key: (settings[key], context, states[key]) for key in longest_first}
    costs = {key: _cost(settings[key]) for key in longest_first}
    seconds, bad = 0, []
    for key, value, error in _parallel(args, "training", _train, calls, costs):
        name = ", ".join(f"{k}={v}" for k, v in settings[key].items() if v != train.SETTING[k])
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
    for number, value, error in _parallel(args, "measuring", _measure, calls):
        rows[number] = value
        if error:
            failed.append(f"a measurement for {tasks[number]['log']} failed: {error}")
    by_log = {task["log"]: [] for task in tasks}
    for number, task in enumerate(tasks):
        by_log[task["log"]] += rows[number] or []
    return by_log, failed


def _train(setting, context, path):
    state = train.train(setting, _tensors(context["tensors"], context["device"]), path)
    reached = all(stop["reached"] for stop in state["stops"].values())
    return state["finite"], reached, state["seconds"]


def _measure(measure, task, paths, context, rows_path):
    rows = train.restore(rows_path)
    if rows is None:
        states = [train.restore(path) for path in paths]
        if not all(state and state["done"] for state in states):
            raise RuntimeError("a run that it needs is not finished")
        rows = measure(task, states, _tensors(context["tensors"], context["device"]))
        train.save(rows_path, rows)
    return rows


@lru_cache(maxsize=1)
def _tensors(path, device):
    """Map the data: all processes share one copy, in the page cache."""
    return [tensor.to(device) for tensor in torch.load(path, mmap=True, weights_only=True)]


# ------------------------------------------------------------------------------- processes


def _parallel(args, title, function, calls, costs=None):
    """Call function(*calls[key]) for each key, args.jobs at a time; yield (key, value, error).

    An exception is returned as a sentence, so that the other calls go on. loky does not say whose
    process died: after a death, what is left goes one by one, so that a second one names its run.
    """
    costs = costs or dict.fromkeys(calls, 1)
    left = dict(calls)
    parent = None if args.dask else os.getpid()
    bar = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed} gone, {remaining} left"
    with tqdm(
        total=sum(costs.values()), desc=f"{args.script}: {title}", bar_format=bar
    ) as progress:

        def results(keys, jobs):
            todo = [joblib.delayed(_call)(parent, key, function, calls[key]) for key in keys]
            with _backend(args, jobs):
                for key, value, error in joblib.Parallel(return_as="generator_unordered")(todo):
                    del left[key]
                    progress.update(costs[key])
                    yield key, value, error

        try:
            yield from results(list(calls), args.jobs)
        except TerminatedWorkerError:
            for key in list(left):
                try:
                    yield from results([key], 2)
                except TerminatedWorkerError:
                    yield key, None, "its process was killed (is there enough memory?)"


def _backend(args, jobs):
    if args.dask:
        from dask.distributed import Client

        Client(args.dask)
        return joblib.parallel_config("dask")
    return joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, max_nbytes=None)


def _call(parent, key, function, arguments):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if parent not in (None, os.getpid()):
        _follow(parent)
    try:
        return key, function(*arguments), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the other runs go on
        return key, None, f"{type(error).__name__}: {error}"


@lru_cache(maxsize=1)
def _follow(parent):
    """Leave Ctrl-C to the parent process, and end soon after it does."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def _cost(setting):
    """Return a guess at the work in one run, in multiply-adds."""
    work = 3 * common(setting)["n_params"] + 2e6 / setting["batch_size"] + 1e5
    return setting["epochs"] * (setting["train_size"] or 60_000) * work


# ------------------------------------------------------------------------------- digests, logs


def _key(salt, value):
    return hashlib.sha256(json.dumps([salt, value], sort_keys=True).encode()).hexdigest()[:24]


@cache
def _code(*modules):
    """Return a digest of these files that no comment, docstring or line break changes."""
    sha = hashlib.sha256()
    for module in modules:
        tree = ast.parse((HERE / f"{module}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
        sha.update(ast.dump(tree).encode())
    return sha.hexdigest()


def _about(args, context):
    """Return what the .json beside a log says."""
    git = partial(subprocess.run, cwd=HERE, capture_output=True, text=True)
    commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
    changed = git(["git", "status", "--porcelain", "--", "*.py"]).stdout.strip()
    packages = {"torch": torch, "numpy": np, "joblib": joblib}
    versions = {name: package.__version__ for name, package in packages.items()}
    device = torch.cuda.get_device_name() if args.device == "cuda" else _processor()
    return {
        "command": " ".join(["python", f"hw1/{args.script}.py", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | versions,
        "device": device,
        "jobs": args.jobs,
        "threads": 1,
        "git_commit": f"{commit} with changes" if changed else commit,
        "data_digest": context["data"],
        "data_note": DATA_NOTES.get(context["data"][:16], ""),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {os.cpu_count()} cores"


def _write(args, log, columns, rows, about):
    """Write OUT/logs/LOG_DATASET.csv and .json, each beside its place and then renamed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        numbers = {k: format(v, ".8g") for k, v in row.items() if isinstance(v, float)}
        writer.writerow(row | numbers)
    contents = {"csv": text.getvalue(), "json": json.dumps(about, indent=2) + "\n"}
    for suffix, content in contents.items():
        path = args.out / "logs" / f"{log}_{args.dataset}.{suffix}"
        part = path.with_name(f"{path.name}.part")
        part.write_text(content)
        part.replace(path)
    print(f"{args.script}: wrote {path.with_suffix('.csv')}", flush=True)
