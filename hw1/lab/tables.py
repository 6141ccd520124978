"""The logs as the figures and the report read them, and the tables that they write.

Imports no torch. logs.py is the other side: it writes the logs.
"""

import argparse
import csv
import io
import json
import os
import re
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
    names, rows = cells(path)
    columns = [_typed(cells) for cells in zip(*rows, strict=True)]
    table = np.empty(len(rows), [(name, c.dtype) for name, c in zip(names, columns, strict=True)])
    for name, column in zip(names, columns, strict=True):
        table[name] = column
    return table


def cells(path):
    """Return the names of the columns of a CSV and its rows, all as text.

    What a spreadsheet may add is left out: a byte order mark, and rows without content. Raises
    ValueError, with a reason, if the file is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(str(error)) from None
    names = lines[0] if lines else []
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            raise ValueError(f"its cells are separated by {name}: save it with commas")
    if lines and not all(names):
        raise ValueError("its first line lacks the name of a column")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"it has a column twice: {', '.join(sorted(twice))}")
    for number, row in enumerate(lines, 1):
        if any(row) and len(row) != len(names):
            raise ValueError(f"line {number} has {len(row)} columns instead of {len(names)}")
    rows = [row for row in lines[1:] if any(row)]
    if not names or not rows:
        raise ValueError("it has no rows")
    return names, rows


def reason(error):
    """Return what an error says, in one line without a full stop."""
    words = " ".join(str(error).split()).rstrip(".")
    return re.sub(r"^no field of name (\w+)$", r"it has no column \1", words)  # NumPy's words


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
