"""Where a number comes from: the commit, the packages, the machine and its instructions."""

import math
import os
import platform
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path

from lab import HW1

import torch


def capability():
    """Return the vector instructions that PyTorch uses on this machine's processor, e.g. AVX2."""
    return torch.backends.cpu.get_cpu_capability()


def processor():
    """Return the processor's name, family, model, widest vector instructions and cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        about = {key.strip(): value.strip() for key, _, value in (l.partition(":") for l in lines)}
        name = f"{about['model name']}, family {about['cpu family']}, model {about['model']}"
        flags = about["flags"].split()
        name += f", {next((f for f in ('avx512f', 'avx2', 'avx') if f in flags), 'no AVX')}"
    except (OSError, KeyError):  # not Linux, or not x86-64
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def core_gflops():
    """Return how many 1e9 operations a second one core does in a float32 matrix product.

    The name of a processor says too little about its speed to compare the seconds of two machines.
    """
    square, best = torch.ones(512, 512), math.inf
    for _ in range(20):
        started = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - started)
    return round(2 * 512**3 / best / 1e9)


def packages():
    """Return a line NAME==VERSION for each installed package, as `pip freeze` prints them."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions()}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def git_commit():
    """Return the commit of the checkout, "with changes" if a Python file was edited since.

    It is "" outside of a checkout, also where this folder lies unknown in another repository's.
    """
    if not _git("ls-files", "lab/provenance.py"):
        return ""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit} with changes" if _git("status", "--porcelain", "--", "*.py") else commit


def _git(*words):
    try:
        run = subprocess.run(["git", *words], cwd=HW1, capture_output=True, text=True, check=False)
    except OSError:  # there is no git on this machine
        return ""
    return run.stdout.strip()
