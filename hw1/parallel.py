"""Calls side by side in processes, or on a Dask cluster: none can take the others down.

Each call computes on one thread, so that its result does not depend on how many there are.
"""

import os
import signal
import threading
import time
from functools import cache

import joblib
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm


def side_by_side(args, title, function, calls, costs=None):
    """Call function(*calls[key]) for each key, args.jobs at a time; yield (key, value, error).

    An exception is returned as a sentence, so that the other calls go on. loky does not say whose
    process died: after a death, what is left goes one by one, so that a second one names its run.
    """
    costs = costs or dict.fromkeys(calls, 1)
    left = dict(calls)
    parent = None if args.dask else os.getpid()
    bar = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed} gone, {remaining} left"
    title = f"{args.script}: {title}"
    with tqdm(total=sum(costs.values()), desc=title, bar_format=bar) as progress:

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


@cache
def _follow(parent):
    """Leave Ctrl-C to the parent process, and end soon after it does."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def stop_workers():
    """End the processes at once, whatever they are doing."""
    get_reusable_executor().shutdown(wait=False, kill_workers=True)
