"""The experiments of run_all.sh, in turn: the next one starts when a core would be idle.

    python hw1/lab/in_turn.py SCRIPT:DATASET ... -- FLAGS

At the end of an experiment fewer runs are left than there are cores. It then makes the file that
the variable HW1_IDLE names, and the next experiment starts beside it; there are never more than
two. At the end stands how long each one took, and all of them together.

Exit code: 0; 1 if that of an experiment was 1; any other code ends the rest, and is that of all.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HW1 = Path(__file__).resolve().parent.parent
SECONDS_TO_END = 10


class Experiment:
    """A script that is at work, and the file with which it says that a core is idle."""

    def __init__(self, name, flags, idle):
        self.name, self.idle, self.started = name, idle, time.monotonic()
        script, _, dataset = name.partition(":")
        command = [sys.executable, HW1 / f"{script}.py", "--dataset", dataset, "--no-figures"]
        self.process = subprocess.Popen([*command, *flags], env=os.environ | {"HW1_IDLE": idle})

    def end(self, patience):
        """Wait for so many seconds; then end it as Ctrl-C does; then kill it. Nothing is lost."""
        for stop in (self.process.send_signal, lambda _: self.process.kill()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(patience)
            stop(signal.SIGINT)
            patience = SECONDS_TO_END
        return self.process.wait()


def main(words):
    """Run the experiments; return the exit code."""
    names, flags = words[: words.index("--")], words[words.index("--") + 1 :]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started, minutes, status, running = time.monotonic(), {}, 0, []
    waiting, patience = list(names), 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                if waiting and len(running) < 2 and all(Path(e.idle).exists() for e in running):
                    idle = os.path.join(folder, str(len(waiting)))
                    running.append(Experiment(waiting.pop(0), flags, idle))
                for experiment in [e for e in running if e.process.poll() is not None]:
                    running.remove(experiment)
                    minutes[experiment.name] = (time.monotonic() - experiment.started) / 60
                    code = experiment.process.returncode
                    if code not in (0, 1):
                        return code if code > 0 else 128 - code  # as the shell says it
                    status = max(status, code)
                time.sleep(0.05)
        except KeyboardInterrupt:
            patience = SECONDS_TO_END  # Ctrl-C goes to the experiments, too
            return 128 + signal.SIGINT
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C changes nothing
            for experiment in running:
                experiment.end(patience)
    print("\nMinutes:")
    for name in names:
        print(f"{name.replace(':', ' '):24} {minutes[name]:5.1f}")
    print(f"{'all':24} {(time.monotonic() - started) / 60:5.1f}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
