"""The formats in which data sets come, read into NumPy arrays.

Every reader (npz, idx, batches, digits) returns a dict of KEYS: x (N, H, W, C) uint8 and y (N,)
int64. None of them knows a data set by its name, or needs torchvision.
"""

import gzip
import hashlib
import pickle
import warnings
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

KEYS = ("x_train", "y_train", "x_test", "y_test")


class DataError(ValueError):
    """A data set is unknown or damaged; the message is one sentence for the user."""


def digest(raw):
    """Return the SHA-256 of the arrays of KEYS as 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for key in KEYS:
        sha.update(f"{key} {raw[key].shape} {raw[key].dtype}".encode())
        sha.update(np.ascontiguousarray(raw[key]))
    return sha.hexdigest()


def npz(path, shape, classes):
    """Read an .npz of KEYS, check that it fits shape (C, H, W) and classes; it is not unpickled.

    Gray images may lack the last axis, and y may be (N, 1). Raises DataError.
    """
    channels, height, width = shape
    raw = _open_npz(path)
    shapes = {(height, width, channels)} | ({(height, width)} if channels == 1 else set())
    for split in ("train", "test"):
        x, y = raw[f"x_{split}"], raw[f"y_{split}"]
        if x.dtype != np.uint8 or y.dtype.kind not in "iu":
            raise DataError(
                f"{path}: x_{split} must be uint8 and y_{split} integers,"
                f" not {x.dtype} and {y.dtype}"
            )
        if x.shape[1:] not in shapes or not len(x):
            wanted = f"(N, {height}, {width}, {channels})"
            raise DataError(f"{path}: x_{split} has shape {x.shape}, not {wanted}")
        if y.shape not in {(len(x),), (len(x), 1)} or y.min() < 0 or y.max() >= classes:
            raise DataError(f"{path}: y_{split} must be {len(x)} labels from 0 to {classes - 1}")
        raw[f"x_{split}"] = x.reshape(-1, height, width, channels)
        raw[f"y_{split}"] = y.astype(np.int64).ravel()
    x = raw["x_train"]  # standardising divides by the spread; as a rule the first images tell
    if not any(np.ptp(part, axis=(0, 1, 2)).all() for part in (x[:100], x)):
        raise DataError(f"{path}: in some channel all pixels of x_train are equal")
    return raw


def _open_npz(path):
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise DataError(
                f"{path} is not an .npz file (a web page saved under its name, perhaps):"
                " replace it or delete it"
            )
    try:
        with np.load(path, allow_pickle=False) as file:  # never unpickles, hence never runs code
            return {key: np.asarray(file[key]) for key in KEYS}
    except Exception as error:  # noqa: BLE001 - numpy and zipfile raise a dozen kinds
        # What NumPy says of pickled objects is left out: it advises to load them.
        known = isinstance(error, KeyError | zipfile.BadZipFile)
        reason = f" ({str(error).strip(chr(39))})" if known else ""
        raise DataError(
            f"{path} is damaged or lacks one of the arrays {', '.join(KEYS)}{reason}:"
            " replace it or delete it"
        ) from None


def plain_or_gz(path):
    """Return the path of a file if it exists, else that of its .gz beside it."""
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def content(path):
    """Return the bytes of a file, unpacked if it is a .gz. Raises DataError if it is damaged."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = f"{path} is damaged ({error})"
        raise DataError(f"{reason}: delete it, and it is downloaded again") from None


def idx(contents):
    """Read MNIST's four files, given as bytes: a header of 16 (images) or 8 bytes, then uint8."""
    raw = {}
    for key, content in zip(KEYS, contents, strict=True):
        if key.startswith("x"):
            raw[key] = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        else:
            raw[key] = np.frombuffer(content, np.uint8, offset=8).astype(np.int64)
    return raw


def batches(contents):
    """Unpickle CIFAR-10's six batches, given as bytes whose checksums are right; the last is test.

    Each is a dict with `data` (N, 3072) uint8, channel by channel, and the list `labels`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4 find these pickles old
        parts = [pickle.loads(content, encoding="latin1") for content in contents]
    raw = {}
    for split, chosen in (("train", parts[:-1]), ("test", parts[-1:])):
        x = np.concatenate([part["data"] for part in chosen]).reshape(-1, 3, 32, 32)
        raw[f"x_{split}"] = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        raw[f"y_{split}"] = np.concatenate([part["labels"] for part in chosen]).astype(np.int64)
    return raw


def digits(contents):
    """Return scikit-learn's 8x8 digits, 1,437 of 1,797 for training; `contents` is empty.

    Only its data file is read: to import scikit-learn takes over a second.
    """
    spec = find_spec("sklearn")
    if spec is None:
        raise DataError("digits come with scikit-learn: pip install scikit-learn")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(path, delimiter=",")  # 64 pixels and the label
    x, y = rows[:, :-1], rows[:, -1]
    order = np.random.default_rng(0).permutation(len(y))  # the file groups the writers
    x, y = x.reshape(-1, 8, 8, 1).astype(np.uint8)[order], y.astype(np.int64)[order]
    return dict(zip(KEYS, (x[:1437], y[:1437], x[1437:], y[1437:]), strict=True))
