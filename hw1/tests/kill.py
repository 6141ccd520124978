"""Kill the five experiments at random moments, start them again, and compare every byte.

    python hw1/tests/kill.py [--times 40]

Works in a temporary folder, on a copy of hw1 that keeps a checkpoint after every epoch. What is
killed changes from trial to trial (KINDS). Prints a line for each trial and a summary. The exit
code is 1 if a CSV differs from an undisturbed run's, a .part file or a file in /dev/shm is left, a
process outlives its script, or a traceback is printed. A trial takes ten seconds on two cores.
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
KINDS = ("group", "script", "worker", "SIGTERM", "SIGHUP")
FLAGS = ["--dataset", "digits", "--quick", "--seeds", "0", "--epochs", "8", "--jobs", "2"]
FLAGS += ["--no-figures"]


def copy_of_hw1(folder):
    """Copy the modules; there, a run keeps a checkpoint after every epoch."""
    folder.mkdir(parents=True)
    for path in [*HW1.glob("*.py"), *HW1.glob("lab/*.py")]:
        copied = folder / path.relative_to(HW1)
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(path, copied)
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


def children(pid):
    """Return the children of a process, on Linux."""
    files = Path("/proc").glob(f"{pid}/task/*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def shared_memory():
    """Return what Python's processes and PyTorch have in /dev/shm and no living process maps.

    What is mapped is known by its inode: a semaphore is mapped before it gets its name.
    """
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended
            mapped |= {int(line.split()[4]) for line in maps.open() if "/dev/shm/" in line}
    found = [entry for entry in os.scandir("/dev/shm") if entry.inode() not in mapped]
    return {entry.name for entry in found if entry.name.startswith(("sem.mp-", "torch_"))}


def kill(process, kind):
    """Kill a whole process group, the script alone, one of its workers, or send it a signal."""
    with contextlib.suppress(OSError):  # it has ended already
        if kind == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif kind == "worker":
            workers = [pid for server in children(process.pid) for pid in children(server)]
            for worker in workers[:1]:
                os.kill(worker, signal.SIGKILL)
        else:
            process.send_signal(getattr(signal, kind, signal.SIGKILL))


def trial(hw1, script, out, moment, wanted, kind="group"):
    """Kill the script at this moment, start it again; return its exit code, and what is wrong."""
    before = shared_memory()
    process = start(hw1, script, out)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    kill(process, kind)
    code, ended = process.wait(), gone(process.pid, 30)  # the server may still be importing
    again = start(hw1, script, out).wait()
    wrong = [] if ended else ["a process survives"]
    wrong += [f"{path} is left" for path in out.rglob("*.part")]
    wrong += [f"/dev/shm/{name} is left" for name in shared_memory() - before]
    wrong += ["a traceback"] * ("Traceback" in Path(f"{out}.log").read_text())
    wrong += [] if again == 0 and contents(out) == wanted else [f"another CSV, exit code {again}"]
    return code, wrong


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
            kind, out = draw.choice(KINDS), folder / f"out {number}"
            code, wrong = trial(hw1, script, out, moment, undisturbed, kind)
            fate = f"{kind} killed after {moment:.1f} s, exit code {code}"
            print(f"{number} {script}: {fate}: {'; '.join(wrong) or 'same bytes'}", flush=True)
            kills, bad = kills + (code != 0), bad + bool(wrong)
    print(f"{times} trials, {kills} kills, {bad} failures")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
