"""How fast is this, side by side with what one would otherwise write, and how does cost grow?

    python hw1/bench/benchmark.py [--quick] [--out DIR] [--data-dir DIR] [--repeats 5]

writes OUT/logs/benchmark.csv (a row per repeat: seconds, and peak_mb where memory was watched) and
benchmark.json (versions, devices, and each comparison's medians beside its target), and prints the
latter. The sides take turns; medians are compared, with the better of several other baselines. One
thread a side unless `setting` says otherwise. --quick does a small version, on digits. A quarter
of an hour on two idle cores; PyHessian (pip install pyhessian) is compared with where installed.
"""

import argparse
import copy
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch

HW1 = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HW1))

from lab import logs
from lab.files import DataError, arrays
from lab.parallel import side_by_side

import baselines
import measures
import train
from data import digest, standardise
from models import count_params

COLUMNS = ("comparison", "side", "setting", "repeat", "seconds", "peak_mb")
TARGETS = {  # to be reached on two cores, at full size
    "mlp_epoch": ("theirs / ours", "at least", 5), "products_64": ("ours / limit", "at most", 2),
    "products_512": ("ours / limit", "at most", 1.35),
    "two_runs": ("theirs / ours", "at least", 1.3), "cnn_epoch": ("theirs / ours", "at least", 3),
    "input_norms": ("theirs / ours", "at least", 50),
    "hessian_norm": ("theirs / ours", "at least", 2), "start": ("seconds", "at most", 4),
    "memory_jobs8_cifar10": ("MB", "at most", 6000),
}  # fmt: skip


class Benchmark:
    """The rows so far; `compare` and `scale` add to them."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rows = args, folder, []

    def add(self, *values):
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def compare(self, name, setting, pair):
        """Time each side's call, taking turns; a call may return its seconds itself."""
        print(f"benchmark: {name}: {', '.join(pair)}", flush=True)
        for repeat in range(self.args.repeats):
            for side, (note, call) in pair.items():
                torch.set_num_threads(1)
                started = time.perf_counter()
                seconds = call()
                if not isinstance(seconds, float):
                    seconds = time.perf_counter() - started
                self.add(name, side, f"{setting}; {note}".strip("; "), repeat, seconds, "")

    def scale(self, name, value, path, setting, jobs=1):
        """Seconds and memory of an epoch in `jobs` processes at once; `value` is what grows."""
        settings = [(path, setting | {"epochs": self.args.repeats + 1})] * jobs
        others = set(multiprocessing.active_children())  # joblib's, idle since two_runs
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            result, peak = pool.starmap_async(baselines.mapped_epochs, settings, chunksize=1), 0
            while not result.ready():
                children = set(multiprocessing.active_children()) - others
                peak = max(peak, sum(baselines.pss(child.pid) for child in children))
                result.wait(0.1)
            times = list(zip(*result.get(), strict=True))[1:]  # the first epoch warms up
        for repeat, seconds in enumerate(times):
            mean = sum(seconds) / jobs  # of an epoch, while `jobs` of them go on
            self.add(name, "ours", value, repeat, mean / jobs, peak or "")


def epoch_comparisons(bench, name, raw, setting, device):
    """An epoch, ours and the usual one; return the tensors."""
    x, y = standardise(raw, device)[:2]
    images = baselines.Images(raw["x_train"], raw["y_train"])
    size = f"{setting['dataset']}; {setting['model']}; {count_params(train.network(setting))} "
    size += f"parameters; {len(y)} images; batch {setting['batch_size']}; {device}"
    cores = baselines.CORES
    ours = {"ours": (f"{cores} threads", lambda: sum(baselines.our_epochs(setting, x, y, cores)))}
    usual = {f"loader_{workers}_workers": (
                f"torchvision {version('torchvision')}; {1 if workers else cores} threads",
                lambda workers=workers: baselines.usual_epoch(images, setting, workers, device))
             for workers in (0, 2)}  # fmt: skip
    bench.compare(name, size, ours | usual)
    return x, y


def two_runs(bench, path, setting):
    """Two runs in two processes, one thread each, against one after the other on all threads."""
    args = SimpleNamespace(script="benchmark", dask=None, jobs=2)
    calls = dict.fromkeys(("one", "two"), (path, setting))

    def beside():
        for _, _, error in side_by_side(args, "two runs", baselines.mapped_epochs, calls):
            if error:
                raise RuntimeError(error)

    def in_turn():
        for _ in calls:
            baselines.our_epochs(setting, *torch.load(path, mmap=True), threads=baselines.CORES)

    beside()  # the processes stay for the next call
    threads = f"one after the other; {baselines.CORES} threads"
    note = f"{setting['model']}; batch {setting['batch_size']}"
    pair = {"ours": ("2 processes", beside), "in_turn": (threads, in_turn)}
    bench.compare("two_runs", note, pair)


def norms(bench, model, x, y):
    """Both input norms, and the Hessian's, of a network that has been trained a little."""
    some, few = x[:10_000], x[:200]

    def both():
        measures.input_gradient_norm(model, some, y[: len(some)])
        measures.jacobian_norm(model, some)

    def loop():
        started = time.perf_counter()
        baselines.looped_norms(model, few, y[: len(few)])
        return (time.perf_counter() - started) * len(some) / len(few)

    scaled = f"a loop; {len(few)} examples timed and scaled up"
    pair = {"ours": ("", both), "loop": (scaled, loop)}
    bench.compare("input_norms", f"{len(some)} examples", pair)
    pair = {"ours": ("tolerance 1e-3", lambda: measures.hessian_norm(model, x, y))}
    try:
        args = importlib.import_module("pyhessian").hessian, copy.deepcopy(model), x, y
        exact, _ = measures.hessian_norm(model, x, y, tolerance=1e-8)
        tolerance = next(t for t in (1e-3, 1e-4, 1e-5, 1e-6)
                         if abs(baselines.pyhessian_norm(*args, t) / exact - 1) <= 1e-3)  # fmt: skip
        note = f"tolerance {tolerance:g}; the loosest that errs by 1e-3 or less"
        pair["pyhessian"] = note, lambda: bool(baselines.pyhessian_norm(*args, tolerance))
    except ImportError as error:
        print(f"benchmark: hessian_norm: nothing to compare with ({error})", file=sys.stderr)
    bench.compare("hessian_norm", f"{len(x)} examples", pair)


def start(bench, flags):
    """From the start of random_labels.py to its first training step, data and cache in place."""
    command = [sys.executable, "-c", baselines.START, HW1, *flags, "--out", bench.folder]

    def call():
        started = time.time()
        found = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        times = re.findall(r"first step at ([\d.]+)", found.stderr)
        if not times:
            raise RuntimeError(found.stderr)
        return min(map(float, times)) - started

    if not bench.args.quick:
        call()  # lays out the data for later ones
    bench.compare("start", "random_labels.py", {"ours": ("", call)})


def memory(bench, jobs, flags, seconds):
    """Peak memory of sensitivity.py and all its processes in its first seconds; then it is killed."""
    command = [sys.executable, HW1 / "sensitivity.py", "--jobs", jobs, *flags]
    command += ["--out", bench.folder]
    print(f"benchmark: memory of {jobs} jobs", flush=True)
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options["start_new_session"] = True  # a group of its own, to be killed whole
    started, peak = time.monotonic(), 0
    with subprocess.Popen([*map(str, command)], **options) as process:
        while process.poll() is None:
            peak = max(peak, baselines.pss(process.pid))
            if time.monotonic() - started > seconds:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.1)
    if process.returncode == 2:
        raise RuntimeError("sensitivity.py failed while its memory was watched")
    name = f"memory_jobs{jobs}_{flags[flags.index('--dataset') + 1]}"
    bench.add(name, "ours", "sensitivity.py", 0, time.monotonic() - started, peak or "")


def summary(rows):
    """For each comparison that has a target: the medians, what they come to, and the target."""
    table = []
    for name in dict.fromkeys(row["comparison"] for row in rows):
        mine = [row for row in rows if row["comparison"] == name]
        pair = {side: median(row["seconds"] for row in mine if row["side"] == side)
                for side in dict.fromkeys(row["side"] for row in mine)}  # fmt: skip
        ours, theirs = pair.pop("ours"), min(pair.values(), default=None)
        kind, sense, target = TARGETS.get(name.removesuffix("_cuda"), (None, "", ""))
        value = {"theirs / ours": theirs and theirs / ours, "ours / limit": theirs and ours / theirs,
                 "seconds": ours, "MB": max(row["peak_mb"] or 0 for row in mine)}.get(kind)  # fmt: skip
        if value:  # else not measured here: no rival is installed, or memory cannot be read
            table.append({"comparison": name, "ours": ours, "theirs": theirs, "value": value,
                          "kind": kind, "sense": sense, "target": target})  # fmt: skip
    return table


def measure(bench, quick, where):
    """Make every comparison; return the first data set's digest."""
    small, image = ("digits", "digits") if quick else ("mnist", "cifar10")
    raw = arrays(small, bench.args.data_dir)
    hidden, inputs = (32 if quick else 256), raw["x_train"][0].size
    mlp = "-".join(map(str, ("mlp", inputs, hidden, hidden, hidden, 10)))
    setting = train.SETTING | {"dataset": small, "model": mlp, "batch_size": 64, "epochs": 1}
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices[::-1]:
        suffix = "_cuda" * (device == "cuda")
        x, y = epoch_comparisons(bench, f"mlp_epoch{suffix}", raw, setting, device)
        other = arrays(image, bench.args.data_dir)
        other |= {key: other[key][: 500 if quick else 10_000] for key in ("x_train", "y_train")}
        cnn = {"dataset": image, "model": "cnn-4" if quick else "cnn-33"}
        epoch_comparisons(bench, f"cnn_epoch{suffix}", other, setting | cnn, device)
    for batch_size in (64, 512):
        s = setting | {"batch_size": batch_size}
        pair = {"ours": ("", lambda s=s: sum(baselines.our_epochs(s, x, y))),
                 "limit": ("bare products", lambda s=s: baselines.products(s, len(y)))}  # fmt: skip
        bench.compare(f"products_{batch_size}", f"{mlp}; batch {batch_size}", pair)
    path = bench.folder / "train.tensors"
    torch.save((x, y), path)
    two_runs(bench, path, setting)
    narrow = setting | {"model": f"mlp-{inputs}-32-32-10", "batch_size": 512, "epochs": 3}
    model = train.network(narrow)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    list(train.epochs(model, optimizer, x, y, narrow, 1))
    norms(bench, model, x, y)
    start(bench, ["--dataset", small, *where])
    jobs, seconds = (2, 20) if quick else (8, 90)
    memory(bench, jobs, ["--dataset", image, *["--quick"] * quick, *where], seconds)
    setting |= {"batch_size": 512}
    for width in (8, 16) if quick else (32, 64, 128, 256, 512, 1024):
        model = "-".join(map(str, ("mlp", inputs, width, width, width, 10)))
        bench.scale("scaling_width", width, path, setting | {"model": model})
    for size in (1000,) if quick else (3750, 7500, 15_000, 30_000, 60_000):
        bench.scale("scaling_examples", size, path, setting | {"train_size": size})
    for jobs in (2,) if quick else (1, 2):
        bench.scale("scaling_jobs", jobs, path, setting, jobs)
    return digest(raw)


def main():
    """Measure, write the two files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, on digits")
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: hw1, or hw1/quick)")
    parser.add_argument("--data-dir", metavar="DIR", help="(default: $HW1_DATA, then data/)")
    parser.add_argument("--repeats", type=int, metavar="N", help="(default: 5, or 1 with --quick)")
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.quick else 5)
    args.out = (args.out or (HW1 / "quick" if args.quick else HW1)).absolute()
    for folder in ("logs", "checkpoints"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    where, started = ["--data-dir", args.data_dir] * bool(args.data_dir), time.monotonic()
    with tempfile.TemporaryDirectory(dir=args.out / "checkpoints") as folder:
        bench = Benchmark(args, Path(folder))
        try:
            source = measure(bench, args.quick, where)
        except DataError as error:
            parser.exit(2, f"benchmark: error: {error}\n")
    args.script, args.jobs, args.device = "benchmark", 1, "cpu"
    about = logs.about(args, source) | {"seconds": round(time.monotonic() - started)}
    about["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    about |= {"cores": os.cpu_count(), "summary": summary(bench.rows)}
    path = args.out / "logs" / "benchmark"
    logs.write(path, COLUMNS, bench.rows, about)
    print(f"benchmark: wrote {path}.csv", flush=True)
    for row in about["summary"]:
        theirs = f"{row['theirs']:9.3f} s" if row["theirs"] else " " * 11
        print(f"{row['comparison']:22} ours {row['ours']:8.3f} s, theirs {theirs}: {row['kind']} "
              f"{row['value']:.2f}, {row['sense']} {row['target']}")  # fmt: skip


if __name__ == "__main__":
    main()
