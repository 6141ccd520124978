"""Kill the five experiments at random moments, start them again, and compare every byte.

    python hw1/tests/kill.py [--times 40]

Works in a temporary folder, on a copy of hw1 that keeps a checkpoint after every epoch. Prints a
line for each trial and a summary. The exit code is 1 if a CSV differs from an undisturbed run's, a
.part file is left or a process outlives its killed group. A trial takes ten seconds on two cores.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HW1 = Path(__file__).resolve().parent.parent
SCRIPTS = ("random_labels", "param_sweep", "interpolation", "sensitivity", "sharpness")
FLAGS = ["--dataset", "digits", "--quick", "--seeds", "0", "--epochs", "8", "--jobs", "2"]


def copy_of_hw1(folder):
    """Copy the modules; there, a run keeps a checkpoint after every epoch, and nothing is drawn."""
    folder.mkdir(parents=True)
    for path in [*HW1.glob("*.py"), *HW1.glob("lab/*.py")]:
        copied = folder / path.relative_to(HW1)
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(path, copied)
    (folder / "plot_all.py").write_text("")
    text, name = (HW1 / "train.py").read_text(), "\nSECONDS_BETWEEN_CHECKPOINTS = "
    (folder / "train.py").write_text(text.replace(name, f"{name}0 * "))
    return folder


def start(hw1, script, out, *flags):
    """Start a script in a process group of its own; its messages go to OUT.log."""
    command = [sys.executable, hw1 / f"{script}.py", *FLAGS, "--out", out, *flags]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    with open(f"{out}.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def gone(group, seconds):
    """Return whether the process group ends within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def contents(out):
    """Return the bytes of every CSV under OUT."""
    return {path.name: path.read_bytes() for path in (out / "logs").glob("*.csv")}


def trial(hw1, script, out, moment, wanted):
    """Kill the script at this moment, start it again; return whether it died, and what is wrong."""
    process = start(hw1, script, out)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    killed, ended = process.wait() == -signal.SIGKILL, gone(process.pid, 3)
    code = start(hw1, script, out).wait()
    wrong = [] if ended else ["a process survives"]
    wrong += [f"{path} is left" for path in out.rglob("*.part")]
    wrong += [] if code == 0 and contents(out) == wanted else [f"another CSV, exit code {code}"]
    return killed, wrong


def main():
    """Run the trials; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=40, help="number of trials")
    times, kills, bad, draw = parser.parse_args().times, 0, 0, random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        folder, wanted = Path(folder), {}
        hw1 = copy_of_hw1(folder / "hw1 über")
        for number in range(1, times + 1):
            script, started = SCRIPTS[number % len(SCRIPTS)], time.monotonic()
            if script not in wanted:
                assert start(hw1, script, folder / script).wait() == 0
                wanted[script] = contents(folder / script), time.monotonic() - started
            undisturbed, seconds = wanted[script]
            moment = draw.uniform(0.1, 0.9) * seconds
            killed, wrong = trial(hw1, script, folder / f"out {number}", moment, undisturbed)
            fate = f"killed after {moment:.1f} s" if killed else "ended before the kill"
            print(f"{number} {script}: {fate}: {'; '.join(wrong) or 'same bytes'}", flush=True)
            kills, bad = kills + killed, bad + bool(wrong)
    print(f"{times} trials, {kills} kills, {bad} failures")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
