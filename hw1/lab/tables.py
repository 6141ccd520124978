"""The logs as the figures and the report read them, and the tables that they write.

Imports no torch. logs.py is the other side: it writes the logs.
"""

import argparse
import csv
import io
import json
import os
from pathlib import Path

import numpy as np

LOGS = {  # each log and the script that makes it
    "random_labels": "random_labels",
    "param_sweep": "param_sweep",
    "interpolation": "interpolation",
    "interpolation_shared": "interpolation",
    "sensitivity": "sensitivity",
    "sharpness": "sharpness",
    "reparametrization": "sharpness",
    "benchmark": "benchmark",
}


def read(path):
    """Read a tidy CSV as a structured array: a field for each column, an element for each row.

    A column is of integers or floats if all of its cells are numbers; otherwise it is text. An
    empty cell among numbers is nan. Raises ValueError, with a reason, if the file is damaged.
    """
    with open(path, newline="", encoding="utf-8") as file:
        try:
            names, *rows = list(csv.reader(file)) or [[]]
        except csv.Error as error:
            raise ValueError(str(error)) from None
    if not rows:
        raise ValueError("it has no rows")
    for line, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise ValueError(f"line {line} has {len(row)} columns instead of {len(names)}")
    columns = [_typed(cells) for cells in zip(*rows, strict=True)]
    table = np.empty(len(rows), [(name, c.dtype) for name, c in zip(names, columns, strict=True)])
    for name, column in zip(names, columns, strict=True):
        table[name] = column
    return table


def _typed(cells):
    for convert in (int, lambda cell: float(cell or "nan")):
        try:
            return np.array([convert(cell) for cell in cells])
        except (ValueError, OverflowError):
            continue
    return np.array(cells)


def stem(name, dataset):
    """Return the name of a file without its kind; the benchmark belongs to no data set ("")."""
    return f"{name}_{dataset}" if dataset else name


def datasets(logs):
    """Return the data sets of the logs in a folder, as their files' names say them."""
    found = set()
    for path in logs.glob("*.csv"):
        made = [log for log in LOGS if path.stem == log or path.stem.startswith(f"{log}_")]
        if made:
            found.add(path.stem.removeprefix(max(made, key=len)).removeprefix("_"))
    return sorted(found)


def described(path):
    """Return what the .json beside a log says; {} where there is none. Raises ValueError."""
    path = path.with_suffix(".json")
    if not path.exists():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError):
        about = None
    if type(about) is not dict:
        raise ValueError(f"{path.name} is damaged: it holds no JSON object")
    return about


def remarks(dataset, about):
    """Return what a reader of a figure must know about its logs: "" for a full run."""
    quick = any(a.get("quick", False) for a in about)
    unknown = any(a.get("data_version") == "unknown version" for a in about)
    notes = ["quick run"] * quick + [f"{dataset} (unknown version)"] * unknown
    return ", ".join(notes)


def write_table(path, rows, spec=""):
    """Write rows of dicts as CSV, floats by `spec`, and return the path."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0])
    for row in rows:
        table.writerow(f"{v:{spec}}" if isinstance(v, float) else v for v in row.values())
    write(path, text.getvalue().encode())
    return path


def write(path, content):
    """Write a file beside `path`, PART, and rename it to `path`.

    content: the bytes, or a function that is called with PART and writes that file.
    """
    part = path.with_name(path.name + ".part")
    try:
        content(part) if callable(content) else part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # still there if the disk is full


def folder(text):
    """Return the path that a user typed; `~` is the home folder, also in `--out=~/runs`."""
    if not text:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return Path(os.path.expanduser(text))
