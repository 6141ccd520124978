"""Calls side by side, as futures: in processes of this machine, or on a Dask cluster.

Each call computes on one thread, so that its result does not depend on how many run at a time. A
call whose process dies is named, and the others go on.
"""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from functools import partial

from lab import HW1
from lab.progress import Progress
from lab.provenance import modules_digest, pin_instructions

import numpy as np
import torch

KILLED = "its process was killed (is there enough memory?)"
PRELOADED = ["torch", "torch._dynamo", "scipy.optimize", "scipy.sparse.linalg"]


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
        for future in as_completed(futures):
            key = futures[future]
            progress.advance(key, 1)
            yield key, *_outcome(future)


def call(workers, function, *arguments):
    """Return the value of one call, None if it failed."""
    if workers is None:
        return call_here(ignore, function, arguments)[0]
    return _outcome(workers.submit(ignore, function, arguments))[0]


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
    return _Processes(jobs) if jobs > 1 else nullcontext()


def call_here(report, function, arguments):
    """Call a function in this process; return (value, None), or (None, what went wrong)."""
    torch.set_num_threads(1)
    np.finfo(np.float32), np.finfo(np.float64)  # older NumPy versions warn if this comes later
    torch.set_flush_denormal(True)
    try:
        return function(report, *arguments), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the other calls go on
        return None, f"{type(error).__name__}: {error}"


# ---- processes of this machine


class _Processes:
    """Processes that are forked from one server, which has imported PyTorch once for all of them.

    A thread waits for each process and hands out its result as a future. There are no semaphores
    (as in ProcessPoolExecutor): a kill leaves none behind, and none are needed in /dev/shm.
    """

    def __init__(self, jobs):
        self.threads, self.mine, self.all = ThreadPoolExecutor(jobs), threading.local(), []
        self.context = _start_server()

    def submit(self, report, function, arguments):
        return self.threads.submit(self._remote, report, function, arguments)

    def _remote(self, report, function, arguments):
        if not getattr(self.mine, "pipe", None):
            self.mine.pipe, theirs = self.context.Pipe()
            arguments_of_process = theirs, modules_digest()
            process = self.context.Process(target=_serve, args=arguments_of_process, daemon=True)
            process.start()
            theirs.close()
            self.all.append(process)
        try:
            self.mine.pipe.send((function, arguments))
            while isinstance(message := self.mine.pipe.recv(), float):
                report(message)
            return message
        except (EOFError, OSError):
            self.mine.pipe = None  # the next call of this thread gets a new process
            raise Died from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.threads.shutdown(wait=False, cancel_futures=True)
        for process in self.all:
            process.kill()
        for process in self.all:
            process.join()


def _start_server():
    """Start the server from which processes are forked, deaf to Ctrl-C; return its context.

    It only imports: CUDA is never initialised in it. It starts in hw1/, since a Python that is
    started with -c looks for modules in the current folder first. Where processes cannot be forked
    (Windows), each of them starts from nothing.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = os.getcwd()
    os.chdir(HW1)
    try:
        resource_tracker.ensure_running()  # it lets Ctrl-C through, so it has to come first
        with _interrupts_blocked():
            forkserver.ensure_running()
    finally:
        os.chdir(before)
    return context


@contextmanager
def _interrupts_blocked():
    """Block Ctrl-C; a process that is started within this block inherits that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe, code):
    """What a process does: compute what comes through the pipe, until the script ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_script, daemon=True).start()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        if modules_digest() == code:
            pipe.send(call_here(lambda part: pipe.send(float(part)), function, arguments))
        else:
            pipe.send((None, "the code changed while the script was running: start it again"))


def _end_with_the_script():
    multiprocessing.parent_process().join()
    os._exit(1)
