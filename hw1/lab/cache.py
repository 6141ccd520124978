"""The cache of an experiment: its folder, the data laid out for all processes, the names of files.

What is finished is kept in OUT/checkpoints, in files that are named by a digest of the setting, of
the data and of the code that made them.
"""

import hashlib
import json
import shutil
import zipfile
from functools import cache, partial

from lab import HW1, files, formats, say
from lab.digests import code_digest
from lab.provenance import capability
from lab.settings import QUICK
from lab.store import make_folder
from lab.tables import write

import torch
from filelock import FileLock, Timeout

import data


def lock(args):
    """Return the lock of an experiment's folder; a second start of the experiment waits for it."""
    file = FileLock(args.out / "checkpoints" / f"{args.script}_{args.dataset}.lock")
    try:
        return file.acquire(timeout=0)
    except Timeout:
        say(f"{args.script}: the same script is already at work in {args.out}: waiting for it")
        return file.acquire()


def prepare(args):
    """Make the cache's folder; read and check the data, and lay it out for processes to map."""
    torch.set_num_threads(1)
    folder = args.out / "checkpoints" / f"{args.script}_{args.dataset}"
    raw = files.arrays(args.dataset, args.data_dir)
    if args.fresh:  # and the data are there
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for part in folder.glob("*.part"):
        part.unlink()  # left by a process that was killed while it wrote
    source = formats.digest(raw)
    few = QUICK if args.quick else ""
    if args.quick:
        raw = {key: value[: QUICK[key.partition("_")[2]]] for key, value in raw.items()}
    path = _laid_out(args, raw, f"{source}{few}{code_digest(data.standardise)}")
    return {
        "folder": folder,
        "tensors": path,
        "device": args.device,
        "data": source,
        "classes": files.DATASETS[args.dataset].classes,
    }


def _laid_out(args, raw, version):
    """Write the standardised tensors to a file, once for the whole project, and return its path."""
    digest = hashlib.sha256(version.encode()).hexdigest()[:16]
    folder = HW1 / "checkpoints" / "data"
    try:
        make_folder(folder)
    except OSError:  # a checkout that may only be read
        folder = args.out / "checkpoints"
    path = folder / f"{args.dataset}-{digest}.tensors"
    with FileLock(f"{path}.lock"):
        if not _sound(path):
            write(path, partial(_save, data.standardise(raw)))
    return path


def _save(tensors, path):
    try:
        torch.save(tensors, path)
    except RuntimeError:  # PyTorch does not say why
        raise OSError(f"cannot write {path}: is the disk full?") from None


def _sound(path):
    """Return whether the file is there, its checksums are right and it holds four tensors."""
    try:
        with zipfile.ZipFile(path) as file:
            whole = file.testzip() is None
        return whole and len(torch.load(path, mmap=True, weights_only=True)) == len(formats.KEYS)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made again
        return False


@cache
def tensors(path, device):
    """Map the data: all processes share one copy, in the page cache."""
    return [tensor.to(device) for tensor in torch.load(path, mmap=True, weights_only=True)]


def salt(context, code):
    """Return everything besides the setting on which a kept result depends.

    context: what `prepare` returns; code: the digest of the code that makes the result.
    """
    own = [context[name] for name in ("data", "classes", "device")]
    return [*own, torch.__version__, capability(), code]


def key(salt, value):
    """Return the name of the file that keeps the result for a setting or a task."""
    return hashlib.sha256(json.dumps([salt, value], sort_keys=True).encode()).hexdigest()[:24]
