"""The experiments of run_all.sh, in turn: the next one starts when a core would be idle.

    python hw1/lab/in_turn.py SCRIPT:DATASET ... -- FLAGS

At the end of its training an experiment has fewer runs left than processes. It then makes the file
that the variable HW1_IDLE names, and the next experiment starts beside it, so that for a while two
are at work, but never three. At the end this program prints how long each one took, and the total.

Exit code: 0, or 1 if an experiment ended with exit code 1. After any other exit code the remaining
experiments are not run or are stopped, and this program ends with that code.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HW1 = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HW1))  # run_all.sh runs this file, whose folder is not that of `lab`

from lab import IDLE, say

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # they ask this program to end
SECONDS_TO_END = 3  # then an experiment is killed; it would go on from its last checkpoint


class Experiment:
    """A script that is at work, and the file with which it says that a core is idle."""

    def __init__(self, name, flags, idle):
        self.name, self.idle, self.started = name, idle, time.monotonic()
        script, _, dataset = name.partition(":")
        command = [sys.executable, HW1 / f"{script}.py", "--dataset", dataset, "--no-figures"]
        self.process = subprocess.Popen([*command, *flags], env=os.environ | {IDLE: str(idle)})

    def is_over(self):
        """Return whether the script has ended."""
        return self.process.poll() is not None


def run(names, flags, folder, signals):
    """Run the experiments; return the exit code, as a shell tells it, and the minutes of each.

    folder: for the files with which they say that a core is idle; signals: what note_signals gave.
    """
    waiting, running, minutes, status, parent = list(names), [], {}, 0, os.getppid()
    try:
        while waiting or running:
            if os.getppid() != parent:  # run_all.sh was killed
                signals.append(signal.SIGTERM)
            if signals:
                return 128 + signals[0], minutes
            if waiting and len(running) < 2 and all(e.idle.exists() for e in running):
                running.append(Experiment(waiting.pop(0), flags, folder / str(len(waiting))))
            for experiment in filter(Experiment.is_over, list(running)):
                running.remove(experiment)
                minutes[experiment.name] = (time.monotonic() - experiment.started) / 60
                code = experiment.process.returncode
                if code not in (0, 1):
                    return code if code > 0 else 128 - code, minutes
                status = max(status, code)
            time.sleep(0.05)
        return status, minutes
    finally:
        if signal.SIGINT in signals:  # Ctrl-C, which the experiments got as well
            wait(running)
        for number in (signal.SIGINT, signal.SIGKILL):
            for experiment in running:
                experiment.process.send_signal(number)
            wait(running)


def wait(running):
    """Wait until these experiments are over, but not for long."""
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline and not all(map(Experiment.is_over, running)):
        time.sleep(0.05)


def note_signals():
    """Return a list to which those of SIGNALS are added that arrive."""
    signals = []
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is in a background job
            signal.signal(number, lambda number, _: signals.append(number))
    return signals


def main(words):
    """Run the experiments, say how long they took, and return the exit code."""
    names, flags = words[: words.index("--")], words[words.index("--") + 1 :]
    started, signals = time.monotonic(), note_signals()
    try:
        with tempfile.TemporaryDirectory() as folder:
            status, minutes = run(names, flags, Path(folder), signals)
    except OSError as error:
        say(f"run_all: error: {error}", "stderr")
        return 2
    if status <= 1:
        say("\nMinutes:")
        for name in names:
            say(f"{name.replace(':', ' '):24} {minutes[name]:5.1f}")
        say(f"{'all':24} {(time.monotonic() - started) / 60:5.1f}")
    return status


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    if exit_code > 1:  # while Python ends, a second Ctrl-C would kill it
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    sys.exit(exit_code)
