"""What a whole script costs: the seconds until it trains, and the memory of all its processes."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HW1 = Path(__file__).resolve().parent.parent
FIRST_STEP = """

def epochs(*_):  # the training loop of a copy of train.py, which only tells the time
    raise RuntimeError(f"first step at {time.time()}")
"""


def first_step(folder, flags, warm=True):
    """Prepare random_labels.py; return a call that gives the seconds until its first training step.

    The script runs in a copy of hw1/ whose training loop only tells the time. Unless `warm` is
    False it runs once now, which compiles the copy and lays out the data. The call raises
    RuntimeError if the script ends before its first step.
    """
    shutil.copytree(HW1 / "lab", folder / "hw1" / "lab")
    for path in HW1.glob("*.py"):
        shutil.copy(path, folder / "hw1")
    with (folder / "hw1" / "train.py").open("a") as file:
        file.write(FIRST_STEP)
    command = [sys.executable, folder / "hw1" / "random_labels.py", *flags, "--out", folder]

    def call():
        started = time.time()
        found = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        times = re.findall(r"first step at ([\d.]+)", found.stderr)
        if not times:
            raise RuntimeError(f"random_labels.py did not come to its first step: {found.stderr}")
        return min(map(float, times)) - started

    if warm:
        call()
    return call


def memory(command, seconds):
    """Run a script of hw1/ for some seconds at most; return its seconds and its peak MB, or ""."""
    command = [sys.executable, HW1 / command[0], *command[1:]]
    print(f"benchmark: memory of {command[1].name} for {seconds} seconds", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    with subprocess.Popen([*map(str, command)], **quiet) as process:

        def busy():
            return process.poll() is None and time.monotonic() - started < seconds

        try:
            peak = peak_mb([process.pid], busy)
        finally:
            process.kill()  # its processes end with it
    if process.returncode == 2:
        raise RuntimeError(f"{command[1]} failed while its memory was watched")
    return time.monotonic() - started, peak


def peak_mb(pids, busy):
    """Return the peak MB of these processes and all below them, or "", while busy() is true."""
    peak = 0
    while busy():
        peak = max(peak, sum(map(pss, pids)))
        time.sleep(0.1)
    return peak or ""


def pss(pid):
    """Return the MB of a process and of all processes below it; 0 where there is no Linux.

    A page that several processes share counts once in their sum.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = " ".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
        return int(re.search(r"Pss: +(\d+)", text)[1]) / 1024 + sum(map(pss, below.split()))
    except (OSError, TypeError):  # it ended meanwhile
        return 0
