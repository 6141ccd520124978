"""The logs of the experiments: a tidy CSV, and beside it a .json that says how it was made."""

import csv
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import torch

HW1 = Path(__file__).resolve().parent.parent
DATA_NOTES = {  # by the first digits of the digest of the arrays
    "b87e6908b94bd701": "94 of the 60,000 images were decoded from JPEG copies",
}


def about(args, data_digest):
    """Return what the .json beside a log says, but for the seconds."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "*.py")
    packages = {"torch": torch, "numpy": np, "joblib": joblib}
    versions = {name: package.__version__ for name, package in packages.items()}
    device = torch.cuda.get_device_name() if args.device == "cuda" else _processor()
    return {
        "command": " ".join(["python", f"hw1/{args.script}.py", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | versions,
        "device": device,
        "core_gflops": _core_gflops(),
        "jobs": args.jobs,
        "threads": 1,
        "git_commit": f"{commit} with changes" if changed else commit,
        "data_digest": data_digest,
        "data_note": DATA_NOTES.get(data_digest[:16], ""),
    }


def _git(*words):
    try:
        run = subprocess.run(["git", *words], cwd=HW1, capture_output=True, text=True, check=False)
    except OSError:  # there is no git on this machine
        return ""
    return run.stdout.strip()


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {os.cpu_count()} cores"


def _core_gflops():
    """Return how many 1e9 operations a second one core does in a float32 matrix product.

    The name of a processor says too little: this is what makes the seconds of two machines one.
    """
    square, best = torch.ones(512, 512), math.inf
    for _ in range(20):
        started = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - started)
    return round(2 * 512**3 / best / 1e9)


def write(path, columns, rows, about):
    """Write PATH.csv and PATH.json, each beside its place and then renamed.

    rows: dicts with just these columns. Floats are written with eight significant digits.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        numbers = {k: format(v, ".8g") for k, v in row.items() if isinstance(v, float)}
        writer.writerow(row | numbers)
    for suffix, content in (("csv", text.getvalue()), ("json", json.dumps(about, indent=2) + "\n")):
        part = path.with_name(f"{path.name}.{suffix}.part")
        try:
            part.write_text(content)
            part.replace(path.with_name(f"{path.name}.{suffix}"))
        finally:
            part.unlink(missing_ok=True)  # still there if the disk is full
