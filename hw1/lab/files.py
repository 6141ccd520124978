"""The files of the data sets: read, checked, and downloaded when they are not there.

A data set is looked for as DATA_DIR/NAME.npz (the layout Keras uses), then as torchvision's files,
which torchvision downloads on first use. DATA_DIR is the variable HW1_DATA or data/ at the
project's root. Nothing is unpickled, and a damaged file stops the program with one sentence that
names it. The 8x8 digits ship inside scikit-learn and need neither files nor network.
"""

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = ("x_train", "y_train", "x_test", "y_test")
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}  # (C, H, W)
MNIST_MD5 = {  # in the order of KEYS
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class DataError(ValueError):
    """A data set is unknown or damaged; the message is one sentence for the user."""


class MissingDataError(DataError):
    """A data set is not in the data folder and cannot be downloaded."""


def arrays(name, data_dir=None):
    """Return a dict of KEYS: x (N, H, W, C) uint8 and y (N,) int64, checked. Raises DataError."""
    if name not in SHAPES:
        raise DataError(f"unknown data set {name!r}: choose from {', '.join(SHAPES)}")
    folder = Path(data_dir or os.environ.get("HW1_DATA") or ROOT / "data")
    if name == "digits":
        return _digits()
    try:
        if (folder / f"{name}.npz").exists():
            return _npz(folder / f"{name}.npz", *SHAPES[name])
        return _mnist(folder / "MNIST" / "raw") if name == "mnist" else _cifar10(folder)
    except OSError as error:
        raise DataError(f"cannot read {name} in {folder}: {error.strerror or error}") from None


def _digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))  # the file groups the writers
    x, y = x.reshape(-1, 8, 8, 1).astype(np.uint8)[order], y.astype(np.int64)[order]
    return dict(zip(KEYS, (x[:1437], y[:1437], x[1437:], y[1437:]), strict=True))


def _npz(path, channels, height, width):
    try:
        with np.load(path, allow_pickle=False) as file:  # never unpickles, hence never runs code
            raw = {key: file[key] for key in KEYS}
    except Exception as error:  # noqa: BLE001 - numpy and zipfile raise a dozen kinds
        reason = str(error).strip("'\"") or type(error).__name__
        raise DataError(f"{path} is damaged or not an .npz of {KEYS}: {reason}") from None
    shapes = {(height, width, channels)} | ({(height, width)} if channels == 1 else set())
    for split in ("train", "test"):
        x, y = raw[f"x_{split}"], raw[f"y_{split}"]
        if x.dtype != np.uint8 or y.dtype.kind not in "iu":
            raise DataError(
                f"{path}: x_{split} must be uint8 and y_{split} integers,"
                f" not {x.dtype} and {y.dtype}"
            )
        if x.shape[1:] not in shapes or not len(x):
            raise DataError(
                f"{path}: x_{split} has shape {x.shape}, not (N, {height}, {width}, {channels})"
            )
        if y.shape not in {(len(x),), (len(x), 1)} or y.min() < 0 or y.max() > 9:
            raise DataError(f"{path}: y_{split} must hold {len(x)} labels from 0 to 9")
        raw[f"x_{split}"] = x.reshape(-1, height, width, channels)
        raw[f"y_{split}"] = y.astype(np.int64).ravel()
    x = raw["x_train"]  # standardising divides by the spread; as a rule the first images tell
    if not any(np.ptp(part, axis=(0, 1, 2)).all() for part in (x[:100], x)):
        raise DataError(f"{path}: in some channel all pixels of x_train are equal")
    return raw


def _mnist(folder):
    if not all((folder / name).exists() for name in MNIST_MD5):
        wanted = f"mnist.npz or MNIST/raw/{{{','.join(MNIST_MD5)}}}"
        _torchvision("MNIST", folder.parent.parent, wanted)
    raw = {}
    for (name, md5), key in zip(MNIST_MD5.items(), KEYS, strict=True):
        content = (folder / name).read_bytes()
        if hashlib.md5(content).hexdigest() != md5:
            raise DataError(f"{folder / name} is damaged (its MD5 is not {md5}): delete it")
        if key[0] == "x":
            raw[key] = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        else:
            raw[key] = np.frombuffer(content, np.uint8, offset=8).astype(np.int64)
    return raw


def _cifar10(folder):
    train, test = _torchvision("CIFAR10", folder, "cifar10.npz or cifar-10-batches-py/")
    y_train, y_test = (np.array(split.targets, np.int64) for split in (train, test))
    return dict(zip(KEYS, (train.data, y_train, test.data, y_test), strict=True))


def _torchvision(name, folder, wanted):
    """Return torchvision's train and test sets, downloaded and checked by it where need be."""
    try:
        with contextlib.redirect_stdout(None):
            from torchvision import datasets  # slow to import, and rarely needed

            return [
                getattr(datasets, name)(folder, split, download=True) for split in (True, False)
            ]
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDataError(
            f"{name} is not in {folder} and cannot be downloaded ({error}): put {wanted} there,"
            " or use --dataset digits, which works offline"
        ) from None


if __name__ == "__main__":  # for run_all.sh: exit code 3 if one of these is out of reach
    for wanted in sys.argv[1:]:
        try:
            arrays(wanted)
        except DataError as error:
            print(f"files: error: {error}", file=sys.stderr)
            sys.exit(3 if isinstance(error, MissingDataError) else 2)
