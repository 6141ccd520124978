"""Processes of this machine that compute calls, forked from a server that has imported PyTorch."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.digests import modules_digest
from lab.parallel import Died, call_here
from lab.start import server


class Processes:
    """Processes that are forked from one server, which has imported PyTorch once for all of them.

    A thread waits for each process and hands out its result as a future. There are no semaphores
    (as in ProcessPoolExecutor): a kill leaves none behind, and none are needed in /dev/shm.
    """

    def __init__(self, jobs):
        self.jobs, self.threads = jobs, ThreadPoolExecutor(jobs)
        self.mine, self.all = threading.local(), []
        self.context = server()
        main = sys.modules["__main__"]  # each process runs its file, if it has one, before all else
        if not Path(getattr(main, "__file__", None) or os.curdir).exists():
            del main.__file__  # "<stdin>", in a program that Python reads from there

    def submit(self, report, function, arguments):
        """Return the future of function(report, *arguments); a kill of its process is Died."""
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
