"""The flags that every experiment has, declared and checked in one place."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from lab import HW1
from lab.start import cores, pin_instructions
from lab.store import make_folder
from lab.tables import folder

import torch


def arguments(doc, dataset, epochs, quick_epochs, train_size=None):
    """Parse and check the flags of an experiment; a mistake ends the program with exit code 2.

    doc: the module's docstring; dataset: the default; epochs: the default for each data set;
    train_size: the same for --train-size, in scripts that train on a part of the data.
    """
    pin_instructions()
    parser = _parser(doc, dataset, epochs, train_size)
    args = parser.parse_args()
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2])
    args.epochs = args.epochs or (quick_epochs if args.quick else epochs[args.dataset])
    if train_size:
        args.train_size = args.train_size or train_size[args.dataset]
    args.out = (args.out or (HW1 / "quick" if args.quick else HW1)).absolute()
    args.script = Path(sys.argv[0]).stem
    _check(parser, args)
    if args.device == "auto":
        found = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
        args.device = (found or ["cpu"])[0]
    args.jobs = args.jobs or (cores() if args.device == "cpu" else 1)
    return args


def _parser(doc, dataset, epochs, train_size):
    """Return the parser of the flags; see `arguments`."""
    plain = argparse.RawDescriptionHelpFormatter
    kind = {"formatter_class": plain, "allow_abbrev": False}  # run_all.sh has to know them, too
    parser = argparse.ArgumentParser(description=doc, **kind)
    add = parser.add_argument
    add("--dataset", choices=list(epochs), default=dataset, help="(default: %(default)s)")
    where = "folder of the data (default: $HW1_DATA, then data/)"
    add("--data-dir", type=folder, metavar="DIR", help=where)
    if train_size:
        add("--train-size", type=positive_int, metavar="N", help=f"(default: {_each(train_size)})")
    add("--seeds", nargs="+", type=seed, metavar="N", help="(default: 0 1 2, or 0 1 with --quick)")
    add("--epochs", type=positive_int, metavar="N", help=f"(default: {_each(epochs)})")
    device = "(default: auto, the GPU if there is one)"
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help=device)
    jobs = "runs side by side (default: as many as cores, one on a GPU)"
    add("--jobs", type=positive_int, metavar="N", help=jobs)
    add("--dask", metavar="ADDRESS", help="send the runs to the Dask scheduler at this address")
    add("--out", type=folder, metavar="DIR", help="(default: hw1, or hw1/quick with --quick)")
    add("--quick", action="store_true", help="a small version of it all (default: the whole)")
    add("--fresh", action="store_true", help="forget this script's earlier runs (default: go on)")
    later = "leave the figures to plot_all.py (default: draw those of this script)"
    add("--no-figures", action="store_true", help=later)
    return parser


def _each(values):
    """Return the default of each data set in words; None stands for all, a tuple for each."""
    lists = {name: v if isinstance(v, tuple) else (v or "all",) for name, v in values.items()}
    return ", ".join(f"{' and '.join(map(str, v))} on {name}" for name, v in lists.items())


def _check(parser, args):
    """End the program with one sentence if a flag asks for something that cannot be done."""
    if len(set(args.seeds)) < len(args.seeds):
        parser.error("argument --seeds: the same seed is named twice")
    if args.device in ("cuda", "mps") and not getattr(torch, args.device).is_available():
        parser.error(f"argument --device: PyTorch finds no {args.device} device; use --device cpu")
    if args.dask == "":
        parser.error("argument --dask: the address is empty")
    if args.dask and not find_spec("distributed"):
        parser.error("argument --dask: install it first: pip install dask[distributed]")
    try:
        for name in ("logs", "checkpoints"):
            make_folder(args.out / name)
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
