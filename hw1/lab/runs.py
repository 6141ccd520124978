"""From a list of settings to a log: training runs, measurements, and the cache that keeps both.

The unit of work is one training run; `--jobs` of them go side by side, each on one thread, so that
a log has the same bytes whatever the number of jobs and however often the script was interrupted.
"""

import inspect
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

from lab import HW1, INTERRUPTED, cache, end_faster, end_if_script, files, interruptible, logs, say
from lab.parallel import call, workers
from lab.provenance import core_gflops
from lab.settings import COMMON, SettingError, check_setting, fingerprint
from lab.store import restore
from lab.tables import LOGS
from lab.work import measure_all, train_all, training_code

import train

KEPT = "what was finished is kept, and the same command goes on from there"


def start(main):
    """Return the exit code of a script's main(), which is 2 if the script's settings are wrong.

    An error in the script's own lines, outside `run`, usually means that a list or dictionary at
    the top of the script lacks a name or has an entry of another form: it is reported in one
    sentence. An error inside `run` is raised.
    """
    try:
        return main()
    except SettingError as error:
        say(f"{Path(main.__code__.co_filename).name}: error: {error}", "stderr")
        return 2
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        places = traceback.extract_tb(error.__traceback__)
        engine = any((place.filename, place.name) == (__file__, "run") for place in places)
        own = [place for place in places if place.filename == main.__code__.co_filename]
        if engine or not own:
            raise
        place = own[-1]
        line, script = f"line {place.lineno} ({place.line})", Path(place.filename).name
        what = f"{type(error).__name__}: {error}"
        hint = "is something missing, or of another form, in the settings at the top of the file?"
        say(f"{script}: error in {line}: {what}: {hint}", "stderr")
        return 2


def run(args, columns, tasks, measure, check=None):
    """Train what the tasks need, measure them, write the logs, draw; return the exit code.

    columns: the columns of each log after COMMON, by the log's name. tasks: dicts of plain values
    with the keys "log" (which CSV) and "runs" (a list of settings). measure(task, states, tensors)
    gets the states of these runs (see train.train) and returns the task's rows. check(task), if
    given, raises SettingError for a task that cannot be measured, before any training.
    Exit codes: 0; 1 if a run failed, diverged or did not reach its train loss, or a figure could
    not be drawn; 2 for a mistake of the user or a full disk; 130 after Ctrl-C.
    """
    try:
        with interruptible(), cache.lock(args):
            return _run(args, columns, tasks, measure, check)
    except (files.DataError, SettingError, OSError) as error:
        say(f"{args.script}: error: {error}", "stderr")
        return 2
    except KeyboardInterrupt:
        say(f"\n{args.script}: stopped; {KEPT}", "stderr")
        end_if_script(INTERRUPTED)
        return INTERRUPTED
    finally:
        end_faster()


def _run(args, columns, tasks, measure, check):
    started = time.monotonic()
    tasks = _checked(args, columns, tasks, measure, check)
    with workers(args.jobs, args.dask) as found:
        bits_of_this_machine = call(found, fingerprint, args.device)  # while the data are read
        context = cache.prepare(args)
        speed = core_gflops()  # now: at the end the next experiment may be at work beside this one
        states, seconds, bad = train_all(args, tasks, context, found)
        rows, failed = measure_all(args, columns, tasks, measure, states, context, found)
        bits = bits_of_this_machine()
    for message in bad + failed:
        say(f"{args.script}: {message}", "stderr")
    if failed:
        say(f"{args.script}: no log was written; {KEPT}", "stderr")
        return 1
    about = logs.about(args, context["data"], tasks, bits, speed)
    about |= {"core_seconds": round(seconds, 1), "seconds": round(time.monotonic() - started, 1)}
    for log, further in columns.items():
        path = args.out / "logs" / f"{log}_{args.dataset}"
        for line in logs.write(path, (*COMMON, *further), rows[log], about):
            say(f"{args.script}: {line}")
    return 1 if draw(args, columns) or bad or say.lost else 0


def _checked(args, columns, tasks, measure, check):
    """Return the tasks; raise SettingError if something cannot work, before any training."""
    if not inspect.isfunction(measure) or measure.__qualname__ != measure.__name__:
        raise SettingError("measure must be a function at the top level of the script")
    if not Path(inspect.unwrap(measure).__code__.co_filename).is_file():
        # Other processes have to import it, and the cache has to know its code.
        raise SettingError("measure must stand in a file: start the script by the name of its file")
    if {task["log"] for task in tasks} != set(columns):
        raise SettingError(f"each log ({', '.join(columns)}) needs a task: is a list empty?")
    for log, further in columns.items():
        if twice := {name for name in further if [*COMMON, *further].count(name) > 1}:
            raise SettingError(f"{log} has a column twice: {', '.join(sorted(twice))}")
    for task in tasks:
        if not task["runs"]:
            raise SettingError(f"a task for {task['log']} names no runs")
        for setting in task["runs"]:
            dataset = setting.get("dataset")
            if dataset in files.DATASETS and dataset != args.dataset:  # the model would not fit it
                hint = f"but a setting names {dataset}: run that with --dataset {dataset}"
                raise SettingError(f"the script was started for {args.dataset}, {hint}")
            check_setting(setting)
        if check:
            check(task)
    try:
        json.dumps(tasks)
    except TypeError as error:
        raise SettingError(f"a task may hold plain values only: {error}") from None
    distinct = [task for number, task in enumerate(tasks) if task not in tasks[:number]]
    if len(distinct) < len(tasks) and not args.quick:  # which makes all large train sizes one
        raise SettingError("the same network is to be measured twice: is a value in a list twice?")
    return distinct


def draw(args, names):
    """Draw the figures of these logs, if they are wanted; return plot_all.py's exit code."""
    if args.no_figures:
        return 0
    scripts = {LOGS[name] for name in names if name in LOGS}  # a copy of a script has another name
    if not scripts:
        say(f"{args.script}: plot_all.py knows no figure of {', '.join(names)}")
        return 0
    command = [sys.executable, HW1 / "plot_all.py", "--out", args.out, "--dataset", args.dataset]
    with logs.lock(args.out):
        return subprocess.run([*command, "--only", *sorted(scripts)], check=False).returncode


def load(script, out=HW1, stop="epochs", **wanted):
    """Return the network of a finished run, in evaluation mode, on the CPU.

    script: the experiment's name; out: its --out; stop: when the network was kept, `epochs` or
    `train_loss`; wanted: what is known of the run's setting, e.g. dataset="mnist", seed=0.
    Raises ValueError unless exactly one finished run fits, of the present code, and has reached the
    stop; the message says which there are.
    """
    every, code = {}, training_code()
    paths = Path(out).expanduser().glob(f"checkpoints/{script}_*/*.state")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        last = path.with_name("salt.json")  # of the last start
        salt = json.loads(last.read_text()) if last.exists() else None
        state = restore(path)
        if state and (not salt or path.stem == cache.key(salt, state["setting"])):
            changed = bool(salt) and salt[-1] != code
            every[json.dumps(state["setting"])] = state | {"changed": changed}
    found = {key: s for key, s in every.items() if wanted.items() <= s["setting"].items()}
    if len(found) != 1:
        values = [state["setting"] for state in (found or every).values()]
        there = {key: {value[key]: None for value in values} for key in train.SETTING}
        told = [f"{key} {', '.join(map(str, v))}" for key, v in there.items() if len(v) > 1]
        hint = f"there are {'; '.join(told)}" if told else f"run {script}.py first"
        raise ValueError(f"{len(found)} finished runs of {script} have {wanted}: {hint}")
    [state] = found.values()
    if state["changed"]:
        raise ValueError(f"the training code has changed since: run {script}.py again first")
    kept = {name: at["weights"] for name, at in state["stops"].items()}  # nan: never reached
    kept = {k: w for k, w in kept.items() if all(v.isfinite().all() for v in w.values())}
    if stop not in kept:
        there = f"it has {', '.join(kept) or 'none'}"
        raise ValueError(f"the run of {script} with {wanted} has no network at {stop!r}: {there}")
    return train.network(state["setting"], kept[stop])
