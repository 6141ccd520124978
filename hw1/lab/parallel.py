"""Calls side by side in processes, or on a Dask cluster: none can take the others down.

Each call computes on one thread, so that its result does not depend on how many there are.
"""

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import joblib
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

HW1 = Path(__file__).resolve().parent.parent
KILLED = "its process was killed (is there enough memory?)"


def side_by_side(args, title, function, calls, costs=None):
    """Call function(*calls[key]) for each key, args.jobs at a time; yield (key, value, error).

    An exception is returned as a sentence, so that the other calls go on. loky does not say whose
    process died: after a death, what is left goes one by one, so that a second one names its run.
    """
    costs = costs or dict.fromkeys(calls, 1)
    left = dict(calls)
    look = "{desc} {percentage:3.0f}%|{bar:30}| {elapsed} gone, {remaining} left"
    bar = tqdm(total=sum(costs.values()), desc=f"{args.script}: {title}", bar_format=look)
    with bar as progress, _ticking(progress):

        def results(keys, jobs):
            todo = [(key, function, calls[key]) for key in keys]
            call = _portable if args.dask else joblib.delayed(_call)
            with _backend(args, jobs):
                parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="all")
                with _interrupts_held():  # the processes start in here
                    outcomes = parallel(call(*arguments) for arguments in todo)
                for key, value, error in outcomes:
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
                    yield key, None, KILLED


@contextmanager
def _ticking(bar):
    """On a terminal redraw the bar every second: between two results minutes may go by."""
    over = threading.Event()

    def tick():
        while not over.wait(1):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if sys.stderr.isatty():
        with _interrupts_held():  # inherited: Ctrl-C stays the main thread's
            thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _backend(args, jobs):
    """Have joblib use args.jobs processes or the Dask cluster. Raises OSError if it is not there."""
    if not args.dask:
        options = {"n_jobs": jobs, "inner_max_num_threads": 1, "max_nbytes": None}
        options |= {"initializer": _follow, "initargs": (os.getpid(),)}  # before its first call
        with joblib.parallel_config("loky", **options):
            yield
        return
    from dask.distributed import Client

    try:
        client = Client(args.dask, timeout=10)
    except (OSError, ValueError) as error:
        raise OSError(f"no Dask scheduler answers at {args.dask} ({error})") from None
    with client, joblib.parallel_config(_dask_backend(client)):
        if max(client.nthreads().values(), default=1) > 1:  # runs share a process's generator
            raise OSError("start the Dask workers with --nthreads 1")
        yield


@contextmanager
def _interrupts_held():
    """Hold Ctrl-C back: a process that is started meanwhile never sees it, this one does later."""
    resource_tracker.ensure_running()  # to start it later would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dask_backend(client):
    """Return joblib's Dask backend, mended in two places.

    It would wait for ever for a call that kills its workers, and compute here if one worker is up.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        def submit(self, func, callback=None):
            future = super().submit(func, callback)
            lost = [(call.key, None, KILLED) for call, _, _ in func.items]
            future.add_done_callback(lambda done: done.exception() and callback(lost))
            return future

        def effective_n_jobs(self, n_jobs):
            return max(2, super().effective_n_jobs(n_jobs))

    return Backend(client=client, wait_for_workers_timeout=60)


def _portable(key, *arguments):
    """Pack a call for the scheduler and the workers, which do not know where our modules are."""
    import cloudpickle  # comes with Dask

    content, here = cloudpickle.dumps((_call, (key, *arguments))), str(HW1)

    def call():  # like any local function, this one travels as code, not as a module's name
        sys.path[:0] = [here] * (here not in sys.path)
        function, arguments = pickle.loads(content)
        return function(*arguments)

    call.key = key
    return joblib.delayed(call)()


def _call(key, function, arguments):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        return key, function(*arguments), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the other runs go on
        return key, None, f"{type(error).__name__}: {error}"


def _follow(parent):
    """Leave Ctrl-C to the parent process, and end soon after it does."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def stop_workers():
    """End the processes at once, whatever they are doing; a second Ctrl-C changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    get_reusable_executor(reuse=True, kill_workers=True).shutdown(kill_workers=True)
