"""How fast is this code beside the same work as it is usually written, and how does cost grow?

    python hw1/bench/benchmark.py [--quick] [--device cuda] [--out DIR] [--data-dir DIR]
                                     [--repeats 5]

writes OUT/logs/benchmark.csv (the seconds of each repeat, and peak_mb where memory was watched) and
benchmark.json (the machine, and medians beside their targets). The sides of a comparison, this code
and one or two others, take turns; of several others the fastest counts. Each side has one thread
unless the column `setting` says otherwise. Both compute with AVX2 on x86-64, as all runs do
(lab.start.pin_instructions); the comparison `instructions` shows what that costs. --quick measures
a small version on digits. --device cuda measures the two epochs on a GPU, and nothing else. All of
it takes a quarter of an hour on two idle cores. PyHessian is measured if it is there (pip install
pyhessian).
"""

import argparse
import copy
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

HW1 = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HW1))

from lab import files, formats, logs, provenance
from lab.flags import positive_int
from lab.parallel import ignore, side_by_side, workers
from lab.settings import fingerprint, mlp_for
from lab.start import PINNED, pin_instructions
from lab.tables import folder

import torch

import baselines
import measures
import scripts
import targets
import train
from baselines import CORES, mapped_epochs, our_epochs, usual_epoch
from data import standardise

COLUMNS = ("comparison", "side", "setting", "repeat", "seconds", "peak_mb")


class Benchmark:
    """The rows so far; `compare` and `scale` add to them."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rows = args, folder, []

    def add(self, *values):
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def compare(self, name, setting, **sides):
        """Call the sides in turn and time them; a call may return its seconds itself."""
        print(f"benchmark: {name}: {', '.join(sides)}", flush=True)
        for repeat in range(self.args.repeats):
            for side, call in sides.items():
                torch.set_num_threads(1)
                started = time.perf_counter()
                seconds = call()
                if not isinstance(seconds, float):
                    seconds = time.perf_counter() - started
                self.add(name, side, setting, repeat, seconds, "")

    def scale(self, name, value, path, setting, jobs=1):
        """Measure an epoch's seconds and memory in `jobs` processes at once; `value` grows."""
        print(f"benchmark: {name}: {value}", flush=True)
        calls = [(None, path, setting | {"epochs": self.args.repeats + 1})] * jobs
        others = set(multiprocessing.active_children())
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            result = pool.starmap_async(mapped_epochs, calls, chunksize=1)
            pids = [child.pid for child in set(multiprocessing.active_children()) - others]
            peak = scripts.peak_mb(pids, lambda: not result.ready())
            times = list(zip(*result.get(), strict=True))[1:]  # the first epoch warms up
        for repeat, seconds in enumerate(times):
            each = sum(seconds) / jobs**2  # mean of the processes, which do `jobs` epochs meanwhile
            self.add(name, "ours", value, repeat, each, peak)


def epoch(bench, name, raw, setting, device):
    """Compare an epoch with the usual one; return the training images and labels as tensors."""
    x, y = standardise(raw, device)[:2]
    images = baselines.Images(raw["x_train"], raw["y_train"])
    about = f"{setting['dataset']}; {len(y)} images; {setting['model']}; batch 64; {device}"
    about += f"; {CORES} threads, but 1 beside workers; torchvision {version('torchvision')}"
    sides = {
        f"loader_{n}_workers": partial(usual_epoch, images, setting, n, device) for n in (0, 2)
    }
    bench.compare(name, about, ours=partial(our_epochs, setting, x, y, CORES), **sides)
    return x, y


def instructions(bench, path, setting):
    """Compare the instructions that all runs use with those that PyTorch chooses by itself."""
    spawn, call = multiprocessing.get_context("spawn"), (mapped_epochs, (None, path, setting))
    with mock.patch.dict(os.environ):
        for name in PINNED:
            os.environ.pop(name, None)
        free = spawn.Pool(1)  # PyTorch chooses in each process, at its first operation
    with free, spawn.Pool(1) as pinned:
        pinned.apply(*call), free.apply(*call)  # the first epoch warms up
        ours, theirs = pinned.apply(provenance.capability), free.apply(provenance.capability)
        about = f"{setting['model']}; batch 64; {ours} beside {theirs}"
        sides = {"ours": partial(pinned.apply, *call), "auto": partial(free.apply, *call)}
        bench.compare("instructions", about, **sides)


def two_runs(bench, path, setting):
    """Compare two runs in two processes, one thread each, with one run after the other."""
    calls = dict.fromkeys(("one", "two"), (path, setting))

    def beside():
        for _, _, error in side_by_side(found, "benchmark: two runs", mapped_epochs, calls):
            if error:
                raise RuntimeError(error)

    def in_turn():
        return [our_epochs(setting, *torch.load(path, mmap=True), CORES) for _ in calls]

    with workers(2) as found:
        beside()  # the processes stay for the next calls
        about = f"{setting['model']}; batch 64; 2 processes beside {CORES} threads"
        bench.compare("two_runs", about, ours=beside, in_turn=in_turn)


def norms(bench, setting, x, y):
    """Compare both input norms, and the Hessian norm, of a network that is trained a little."""
    model = train.network(setting)
    optimizer = torch.optim.Adam(model.parameters(), lr=setting["lr"])
    list(train.epochs(model, optimizer, x, y, setting, 1))
    arguments = model, x[:10_000], y[:10_000]
    sides = {"ours": partial(baselines.our_norms, *arguments)}
    sides["loop"] = partial(baselines.looped_norms, *arguments)
    about = f"{len(arguments[1])} examples; the loop is timed on 200 and scaled up"
    bench.compare("input_norms", about, **sides)
    about = f"{len(x)} examples; ours with tolerance 1e-3"
    sides = {"ours": lambda: measures.hessian_norm(model, x, y)}
    if find_spec("pyhessian"):
        theirs = partial(baselines.pyhessian_norm, copy.deepcopy(model), x, y)
        exact, _ = measures.hessian_norm(model, x, y, tolerance=1e-8)
        tried = (1e-3, 1e-4, 1e-5, 1e-6)
        tolerance = next(t for t in tried if abs(theirs(t) / exact - 1) <= 1e-3)
        about += f", pyhessian with {tolerance:g}, the loosest that errs by 1e-3 or less"
        sides["pyhessian"] = lambda: bool(theirs(tolerance))
    bench.compare("hessian_norm", about, **sides)


def grow(bench, dataset, path, setting):
    """Measure an epoch with more and more weights, examples and processes."""
    quick = bench.args.quick
    for width in (8,) if quick else (32, 64, 128, 256, 512, 1024):
        model = mlp_for(dataset, width, width, width)
        bench.scale("scaling_width", width, path, setting | {"model": model})
    for size in (1000,) if quick else (3750, 7500, 15_000, 30_000, 60_000):
        bench.scale("scaling_examples", size, path, setting | {"train_size": size})
    for jobs in (2,) if quick else (1, 2):
        bench.scale("scaling_jobs", jobs, path, setting, jobs)


def measure(bench, small, image):
    """Make every comparison of the device on two data sets; return the digest of the small one."""
    quick, device = bench.args.quick, bench.args.device
    raw, other = (files.arrays(name, bench.args.data_dir) for name in (small, image))
    other |= {key: other[key][: 500 if quick else 10_000] for key in ("x_train", "y_train")}
    setting = train.SETTING | {"dataset": small, "batch_size": 64, "epochs": 1}
    setting["model"] = mlp_for(small, *[32 if quick else 256] * 3)
    cnn = setting | {"dataset": image, "model": "cnn-4" if quick else "cnn-33"}
    suffix = "" if device == "cpu" else f"_{device}"
    x, y = epoch(bench, f"mlp_epoch{suffix}", raw, setting, device)
    epoch(bench, f"cnn_epoch{suffix}", other, cnn, device)
    if device == "cpu":
        measure_on_cpu(bench, small, image, setting, x, y)
    return formats.digest(raw)


def measure_on_cpu(bench, small, image, setting, x, y):
    """Make the comparisons that are about the CPU, with the small data set's x and y."""
    quick, where = bench.args.quick, ["--data-dir", bench.args.data_dir]
    large = setting | {"batch_size": 512}
    for s in (setting, large):
        ours = partial(our_epochs, s, x, y)
        limit = partial(baselines.products, s, len(y))
        bench.compare(f"products_{s['batch_size']}", s["model"], ours=ours, limit=limit)
    path = bench.folder / "train.tensors"
    torch.save((x, y), path)
    instructions(bench, path, setting)
    two_runs(bench, path, setting)
    norms(bench, large | {"model": mlp_for(small, 32, 32), "epochs": 3}, x, y)
    ours = scripts.first_step(bench.folder, ["--dataset", small, *where], not quick)
    bench.compare("start", "random_labels.py", ours=ours)
    jobs, seconds = (2, 4) if quick else (8, 90)
    flags = ["--jobs", jobs, "--dataset", image, *where, *["--quick"] * quick]
    found = scripts.memory(["sensitivity.py", *flags, "--out", bench.folder], seconds)
    bench.add(f"memory_jobs{jobs}_{image}", "ours", "sensitivity.py", 0, *found)
    grow(bench, small, path, large)


def main():
    """Measure, write the two files, print the medians."""
    pin_instructions()
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    add, data = parser.add_argument, os.environ.get("HW1_DATA") or files.ROOT / "data"
    add("--quick", action="store_true", help="a small version, on digits")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="(default: cpu)")
    add("--out", type=folder, metavar="DIR", help="(default: hw1, or hw1/quick with --quick)")
    add("--data-dir", default=data, metavar="DIR", help="(default: $HW1_DATA, then data/)")
    add("--repeats", type=positive_int, metavar="N", help="(default: 5, or 1 with --quick)")
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.quick else 5)
    args.out = (args.out or (HW1 / "quick" if args.quick else HW1)).absolute()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: PyTorch finds no cuda device")
    if find_spec("torchvision") is None:
        parser.error(
            "torchvision, beside which an epoch is timed, is missing: pip install torchvision"
        )
    args.script, args.jobs = "bench/benchmark", 1
    args.dataset, image = ("digits", "digits") if args.quick else ("mnist", "cifar10")
    try:
        for name in ("logs", "checkpoints"):
            (args.out / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.out / "checkpoints") as place:
            bench = Benchmark(args, Path(place))
            source = measure(bench, args.dataset, image)
    except (files.DataError, OSError) as error:
        parser.exit(2, f"benchmark: error: {error}\n")
    settings = [list(row.values())[:4] for row in bench.rows]
    about = logs.about(args, source, settings, fingerprint(ignore), provenance.core_gflops())
    about |= {"seconds": round(time.monotonic() - started), "summary": targets.summary(bench.rows)}
    for line in logs.write(args.out / "logs" / "benchmark", COLUMNS, bench.rows, about):
        print(f"benchmark: {line}", flush=True)
    for row in about["summary"]:
        theirs = f"{row['theirs']:9.3f} s" if row["theirs"] else " " * 11
        found = f"{row['kind']} {row['value']:.2f}, {row['sense']} {row['target']}"
        print(f"{row['comparison']:22} ours {row['ours']:8.3f} s, theirs {theirs}: {found}")


if __name__ == "__main__":
    main()
