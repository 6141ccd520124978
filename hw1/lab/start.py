"""What has to happen before PyTorch is imported: choose its instructions, start the server.

The server is a process that has imported PyTorch, and from which all other processes are forked.
Importing this file starts the server if the program is a script of hw1 that is going to use it.
PyTorch takes seconds to import; this way the server and the script import it at the same time.
That is why lab/flags.py, which every experiment imports, imports this file before PyTorch.
"""

import multiprocessing
import os
import platform
import signal
import sys
import tempfile
from contextlib import contextmanager

from lab import HW1, TEMPORARY, is_script, say

PINNED = {  # the vector instructions that every x86-64 machine of the last ten years has
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
}
MEMORY = {  # the C library keeps freed memory: fresh pages would take a tenth of a CNN's time
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
PRELOADED = ["torch", "torch._dynamo", "scipy.optimize", "scipy.sparse.linalg", "lab.frozen"]
LONGEST = 60  # of the folder of the server's socket, whose own path may have a hundred characters


def pin_instructions():
    """Compute with AVX2 on x86-64, so that other machines can give the same bytes.

    This must come before PyTorch's first operation. A variable that the user has set is kept.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        _set_unless_given(PINNED)


def _set_unless_given(variables):
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def server():
    """Start the server, unless it is running, and return its multiprocessing context.

    The server ignores Ctrl-C. It only imports modules: CUDA is never initialised in it. It starts
    in hw1/, because a Python that is started with -c looks for modules in the current folder first.
    Where processes cannot be forked (Windows), there is no server: each process imports everything
    itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker, util

    pin_instructions()
    _set_unless_given(MEMORY)  # for the server and its forks; this process started before
    if len(tempfile.gettempdir()) > LONGEST:  # the server's socket lies below it
        tempfile.tempdir = "/tmp"
    TEMPORARY.append(util.get_temp_dir())  # of the socket
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


def _needs_processes():
    """Return whether this is a script that is going to use processes, as far as one can see."""
    words = " ".join([*sys.argv[1:], ""]).replace("=", " ")
    if any(flag in words for flag in ("--jobs 1 ", "--dask ", "--help ", "-h ")):
        return False
    gpu = sys.platform == "darwin" or os.path.exists("/dev/nvidiactl")  # on it, one job is usual
    several = "--jobs " in words or (cores() > 1 and not gpu)
    return several and is_script() and multiprocessing.current_process().name == "MainProcess"


if _needs_processes():
    try:
        server()
    except OSError as error:
        say(f"error: no processes can be started ({error}); --jobs 1 needs none", "stderr")
        sys.exit(2)
