"""Calls side by side, as futures: in processes of this machine, or on a Dask cluster.

Each call computes on one thread, so that its result does not depend on how many run at a time. A
call whose process dies is named, and the others go on.
"""

from concurrent.futures import as_completed
from contextlib import nullcontext
from functools import partial

from lab.progress import Progress, tell_that_a_core_is_idle
from lab.start import pin_instructions

import numpy as np
import torch
from threadpoolctl import threadpool_limits

KILLED = "its process was killed (is there enough memory?)"


class Died(Exception):
    """A process ended in the middle of a call."""


def side_by_side(workers, title, function, calls, costs=None):
    """Call function(report, *calls[key]) for each key; yield (key, value, error) as they end.

    workers: what `workers` yields. report(part) tells the progress bar which part of the call is
    done. An exception becomes one sentence, `error`, so that the other calls go on.
    """
    with Progress(title, costs or dict.fromkeys(calls, 1)) as progress:
        futures = {}
        for key, arguments in calls.items():
            report = partial(progress.advance, key)
            if workers is None:  # in this very process, one after the other
                yield key, *call_here(report, function, arguments)
                report(1)
            else:
                futures[workers.submit(report, function, arguments)] = key
        left = len(futures)
        for future in as_completed(futures):
            left -= 1
            if left < workers.jobs:
                tell_that_a_core_is_idle()
            key = futures[future]
            progress.advance(key, 1)
            yield key, *_outcome(future)


def call(workers, function, *arguments):
    """Start one call; return a function that waits for its value, which is None if it failed.

    In this process (workers is None) the call is made when that function is called.
    """
    if workers is None:
        return lambda: call_here(ignore, function, arguments)[0]
    future = workers.submit(ignore, function, arguments)
    return lambda: _outcome(future)[0]


def ignore(part):
    """Report to nobody which part of a call is done."""


def _outcome(future):
    error = future.exception()
    if error is None:
        return future.result()
    killed = type(error).__name__ in ("Died", "KilledWorker")
    return None, KILLED if killed else f"{type(error).__name__}: {error}"


def workers(jobs, dask=None):
    """Return what computes the calls, as a context: None (this process), processes, or a cluster.

    jobs: how many calls go on at a time on this machine. dask: the address of a scheduler, or None.
    Raises OSError if there is no scheduler, or if its workers would not compute the same.
    """
    pin_instructions()
    if dask:
        from lab.cluster import Cluster  # needs Dask, which is optional

        return Cluster(dask)
    if jobs > 1:
        from lab.processes import Processes  # both kinds of workers call functions from here

        return Processes(jobs)
    return nullcontext()


def call_here(report, function, arguments):
    """Call a function in this process; return (value, None), or (None, what went wrong)."""
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")  # a second thread would busy-wait while SciPy's searches run
    np.finfo(np.float32), np.finfo(np.float64)  # older NumPy versions warn if this comes later
    torch.set_flush_denormal(True)
    try:
        return function(report, *arguments), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the others go on
        return None, f"{type(error).__name__}: {error}"
