"""How runs are run, kept and drawn: everything the experiments share besides the science.

Importing this package has two effects. In a script of hw1/, Ctrl-C from then on ends the script at
once and without a traceback: PyTorch takes two seconds to import, so this has to come first, and
that is why `lab` stands above PyTorch in the imports of every file. And the program ends with one
sentence if its current folder was deleted, in which PyTorch cannot be imported.
"""

import gc
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

HW1 = Path(__file__).resolve().parent.parent
INTERRUPTED = 130  # the exit code of a program that Ctrl-C has ended
IDLE = "HW1_IDLE"  # run_all.sh sets it (lab/in_turn.py): experiments may overlap
CLEAR_LINE = "\r\033[K"
TEMPORARY = []  # folders that `_end` removes, because it skips Python's own clean-up


def _end(code):
    for folder in TEMPORARY:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def _end_quietly(*_):
    _end(INTERRUPTED)


def is_script():
    """Return whether Python was started to run a script of hw1, and not one that imports it.

    A notebook's %run changes sys.argv, but not sys.orig_argv. Either may be empty.
    """
    path = Path(sys.argv[0]) if sys.argv and sys.argv[0] in sys.orig_argv else HW1
    return path.is_file() and path.resolve().parent == HW1


def end_faster():
    """Let a script end without the garbage collection of PyTorch's objects, which takes 0.5 s."""
    if is_script():
        gc.freeze()


def end_if_script(code):
    """In a script of hw1/ end at once: what PyTorch tidies up at its end takes half a second."""
    if signal.getsignal(signal.SIGINT) is _end_quietly:
        sys.stdout.flush()
        sys.stderr.flush()
        _end(code)


def say(text, stream="stdout"):
    """Print a line; if it cannot be written (a closed pipe, a full disk), set say.lost and go on.

    The script then ends with exit code 1.
    """
    file = getattr(sys, stream)
    if os.environ.get(IDLE) and file and file.isatty():
        text = CLEAR_LINE + text  # the bar of another experiment may stand there
    encoding = getattr(file, "encoding", None) or "utf-8"  # a path may not be writable in it
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)
    except OSError as error:
        say.lost = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if stream == "stdout" else 2)
        if stream == "stdout":
            say(f"cannot write to standard output: {error.strerror}", "stderr")


say.lost = False


@contextmanager
def interruptible():
    """Within this block Ctrl-C raises KeyboardInterrupt, unless the program ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is not _end_quietly:  # not a script, or in a thread, perhaps
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end_quietly)


def _need_a_current_folder():
    """End with a sentence where MKL would end the script with "cannot load libtorch_cpu.so"."""
    try:
        os.getcwd()
    except FileNotFoundError:
        say("error: the current folder was deleted: change to another one", "stderr")
        sys.exit(2)


_need_a_current_folder()
if is_script() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_quietly)
