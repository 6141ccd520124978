"""The flags that every experiment has, declared and checked once."""

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import joblib
import torch

from lab.files import SHAPES

HW1 = Path(__file__).resolve().parent.parent


def arguments(doc, dataset, epochs, quick_epochs):
    """Parse and check the flags of an experiment; a mistake ends it with exit code 2.

    doc: the module's docstring; dataset: its default; epochs: the default for each data set.
    """
    shown = ", ".join(f"{number} on {name}" for name, number in epochs.items())
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=formatter)
    add = parser.add_argument
    add("--dataset", choices=list(SHAPES), default=dataset, help="(default: %(default)s)")
    add("--data-dir", metavar="DIR", help="folder of the data (default: $HW1_DATA, then data/)")
    add("--seeds", nargs="+", type=seed, metavar="N", help="(default: 0 1 2, or 0 1 with --quick)")
    add("--epochs", type=positive_int, metavar="N", help=f"(default: {shown})")
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto",
        help="(default: auto, the GPU if there is one)")  # fmt: skip
    add("--jobs", type=positive_int, metavar="N",
        help="runs side by side (default: as many as cores, one on a GPU)")  # fmt: skip
    add("--dask", metavar="ADDRESS", help="send the runs to the Dask scheduler at this address")
    add("--out", type=Path, metavar="DIR", help="(default: hw1, or hw1/quick with --quick)")
    add("--quick", action="store_true", help="a small version of it all (default: the whole)")
    add("--fresh", action="store_true", help="forget this script's earlier runs (default: go on)")
    args = parser.parse_args()
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2])
    args.epochs = args.epochs or (quick_epochs if args.quick else epochs[args.dataset])
    args.out = (args.out or (HW1 / "quick" if args.quick else HW1)).absolute()
    args.script = Path(sys.argv[0]).stem
    _check(parser, args)
    if args.device == "auto":
        found = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
        args.device = (found or ["cpu"])[0]
    args.jobs = args.jobs or (joblib.cpu_count() if args.device == "cpu" else 1)
    return args


def _check(parser, args):
    """End the program with one sentence where a flag cannot be had."""
    if len(set(args.seeds)) < len(args.seeds):
        parser.error("argument --seeds: the same seed is named twice")
    if args.device in ("cuda", "mps") and not getattr(torch, args.device).is_available():
        parser.error(f"argument --device: PyTorch finds no {args.device} device; use --device cpu")
    if args.dask and not find_spec("distributed"):
        parser.error("argument --dask: install it first: pip install dask[distributed]")
    try:
        for folder in ("logs", "checkpoints"):
            (args.out / folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.out / folder) as probe:  # a kill leaves nothing
                probe.write(bytes(4096))
    except OSError as error:
        parser.error(f"argument --out: cannot write to {args.out}: {error.strerror}")


def positive_int(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def seed(text):
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return int(text)
