"""The logs of the experiments: a tidy CSV, and beside it a .json that says how it was made."""

import csv
import hashlib
import io
import json
import platform
import sys
import time

from lab import files, provenance, tables

import numpy as np
import torch
from filelock import FileLock


def about(args, data_digest, tasks, fingerprint, core_gflops):
    """Return what the .json beside a log says, except for the seconds."""
    known = files.DATASETS[args.dataset].digests  # of the arrays that everyone has
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    settings = json.dumps(tasks, sort_keys=True).encode()
    return {
        "command": " ".join(["python", f"hw1/{args.script}.py", *sys.argv[1:]]),
        "quick": args.quick,
        "settings_digest": hashlib.sha256(settings).hexdigest()[:16],
        "versions": versions | {"numpy": np.__version__},
        "device": torch.cuda.get_device_name() if args.device == "cuda" else provenance.processor(),
        "cpu_capability": provenance.capability(),
        "fingerprint": fingerprint,
        "core_gflops": core_gflops,
        "jobs": args.jobs,
        "threads": 1,
        "git_commit": provenance.git_commit(),
        "data_digest": data_digest,
        "data_version": "" if data_digest in known else "unknown version",
        "data_note": known.get(data_digest, ""),
    }


def lock(out):
    """Return a lock for the files of a folder that several experiments write.

    These are packages.txt and the figures that are drawn from more than one log.
    """
    return FileLock(out / "checkpoints" / "logs.lock")


def write(path, columns, rows, about):
    """Write PATH.csv, PATH.json and packages.txt (the versions of all packages); say what was done.

    rows: dicts with exactly these columns. Floats are written with eight significant digits. A log
    of other settings or data that is there already is kept in the folder `earlier`, unless it has
    the same rows.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        numbers = {k: format(v, ".8g") for k, v in row.items() if isinstance(v, float)}
        writer.writerow(row | numbers)
    kept = _keep_earlier(path, about, text.getvalue())
    contents = {f"{path.name}.csv": text.getvalue(), "packages.txt": provenance.packages()}
    contents[f"{path.name}.json"] = json.dumps(about, indent=2) + "\n"
    with lock(path.parent.parent):
        for name, content in contents.items():
            tables.write(path.with_name(name), content.encode())
    return [*kept, f"wrote {path}.csv"]


def _keep_earlier(path, about, content):
    """Move a log of other settings or data out of the way; return a sentence if that was done.

    content: the text of the new CSV.
    """
    old = [path.with_name(f"{path.name}.{suffix}") for suffix in ("csv", "json")]
    try:
        before = tables.described(old[0])
        same = all(before.get(key) == about.get(key) for key in ("settings_digest", "data_digest"))
        same = same or old[0].read_text(encoding="utf-8") == content
    except (OSError, ValueError):
        same = False
    if same or not old[0].exists():
        return []
    folder = path.parent / "earlier"
    folder.mkdir(exist_ok=True)
    name = f"{path.name}_{time.strftime('%Y-%m-%d_%H%M%S')}"
    for file in [file for file in old if file.exists()]:
        file.replace(folder / f"{name}{file.suffix}")
    return [f"the log that was there has other settings or data: it is kept as {folder / name}.csv"]
