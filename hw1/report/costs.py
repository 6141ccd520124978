"""What the experiments cost, and on what machine and with which versions they were run."""

import re
import subprocess

from lab.tables import LOGS

from words import HW1, text

NAMES = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy"}


def run_details(about):
    """Return hardware, versions, dates and core time; a table row for each command.

    about: {(log, dataset): what its .json says}.
    """
    rows, minutes, first = [], 0, next(iter(about.values()))
    for (log, dataset), a in about.items():
        if log != LOGS[log]:
            continue  # written by the same command as another log
        minutes += a["core_seconds"] / 60
        seconds = [text(a[name], ",.0f") for name in ("core_seconds", "seconds")]
        rows.append([log, dataset, *seconds])
    commits = {a["git_commit"].split(" ")[0] for a in about.values()} - {""}
    d = {"core_minutes": text(minutes, ".0f"), "device": first["device"]}
    speeds = [a["core_gflops"] for a in about.values()]
    d |= {"slowest": f"{min(speeds):g}", "fastest": f"{max(speeds):g}", "jobs": first["jobs"]}
    d["commit"] = ", ".join(sorted(c[:7] for c in commits)) or "unknown"
    d["date"] = max(_day(a) for a in about.values())
    d["versions"] = ", ".join(f"{NAMES.get(k, k)} {v}" for k, v in first["versions"].items())
    note = re.match(
        r"([\d,]+) of the ([\d,]+) images", about["param_sweep", "cifar10"]["data_note"]
    )
    d |= {"jpeg": note[1] if note else "", "images": note[2] if note else ""}
    return d, {"cost": rows}, {}


def _day(a):
    """Return YYYY-MM-DD of a run: the day of its commit."""
    commit = a["git_commit"].partition(" ")[0] or "HEAD"
    show = ["git", "-C", str(HW1), "show", "-s", "--format=%cs", commit]
    try:
        shown = subprocess.run(show, capture_output=True, text=True, check=False).stdout
    except OSError:  # there is no git on this machine
        shown = ""
    return shown.strip() or "unknown"
