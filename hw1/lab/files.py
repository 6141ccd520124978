"""The data sets: one table, and the files that it names, found, checked and read.

A data set is looked for as DATA_DIR/NAME.npz (the layout that Keras uses), then as the files that
torchvision downloads. DATA_DIR is --data-dir, the variable HW1_DATA, or data/ at the project's
root. The MD5 of every downloaded file is checked before it is read, so that CIFAR-10's, which are
pickles, run no code of a stranger. To add a data set, add an entry to DATASETS: for NAME.npz its
shape and its number of classes are enough. FashionMNIST's own download could not be tried on the
machine where it was added, which has no network.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # run_all.sh runs this file, whose folder is not that of `lab`
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab import formats
from lab.download import MissingDataError, download
from lab.formats import DataError

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class DataSet:
    """What there is to know of one data set."""

    shape: tuple[int, int, int]  # (C, H, W)
    classes: int
    read: Callable = formats.idx  # from the contents of the files to a dict of KEYS
    digests: dict = field(default_factory=dict)  # of the arrays that everyone has -> a note or ""
    files: dict = field(default_factory=dict)  # name -> MD5 (unpacked), in the order of `read`
    folder: str = ""  # of the files, below DATA_DIR
    torchvision: str = ""  # the class that downloads them


DATASETS = {
    "mnist": DataSet(
        shape=(1, 28, 28),
        classes=10,
        digests={"76e8878eda398d53708d8e7cd3d9315b50778b7f51f56d38075388023f7066d2": ""},
        files={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        folder="MNIST/raw",
        torchvision="MNIST",
    ),
    "fashion_mnist": DataSet(
        shape=(1, 28, 28),
        classes=10,
        files={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        folder="FashionMNIST/raw",
        torchvision="FashionMNIST",
    ),
    "cifar10": DataSet(
        shape=(3, 32, 32),
        classes=10,
        read=formats.batches,
        digests={
            "b87e6908b94bd701ca596a5d7df40fb46b05460440108c3cbf171deaa732b17b": (
                "94 of the 60,000 images were decoded from JPEG copies"
            ),
        },
        files={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        folder="cifar-10-batches-py",
        torchvision="CIFAR10",
    ),
    "digits": DataSet(
        shape=(1, 8, 8),
        classes=10,
        read=formats.digits,
        digests={"0c631f76eb9f9b33e70ed58471c45f55cf37e123ed870b1caa2facaf2c052362": ""},
    ),
}


def arrays(name, data_dir=None):
    """Return a dict of KEYS: x (N, H, W, C) uint8 and y (N,) int64, checked. Raises DataError."""
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    entry = DATASETS[name]
    root = Path(os.path.expanduser(data_dir or os.environ.get("HW1_DATA") or ROOT / "data"))
    try:
        if entry.read is formats.digits:  # they come with scikit-learn
            return entry.read([])
        if root.exists() and not root.is_dir():
            raise DataError(f"cannot read {name} in {root}: it is not a folder")
        if (root / f"{name}.npz").exists():
            return formats.npz(root / f"{name}.npz", entry.shape, entry.classes)
        if not entry.files:
            raise MissingDataError(f"{name} is not in {root}: put {name}.npz there")
        paths = {root / entry.folder / file: md5 for file, md5 in entry.files.items()}
        missing = [path.name for path in paths if not formats.plain_or_gz(path).exists()]
        if missing:
            wanted = f"{name}.npz or {entry.folder}/{{{','.join(missing)}}}"
            download(name, entry.torchvision, root, wanted)
        raw = entry.read([_checked(path, md5) for path, md5 in paths.items()])
    except OSError as error:
        raise DataError(f"cannot read {name} in {root}: {error.strerror or error}") from None
    entry.digests.setdefault(formats.digest(raw), "")  # the checksums are right: everyone has these
    return raw


def _checked(path, md5):
    """Return the bytes of a file, unpacked. Raises DataError if their MD5 is wrong."""
    path = formats.plain_or_gz(path)
    content = formats.content(path)
    found = hashlib.md5(content).hexdigest()
    if found == md5:
        return content
    for name, entry in DATASETS.items():
        if found in entry.files.values() and md5 not in entry.files.values():
            raise DataError(f"{path} is from another data set ({name}): move it to {entry.folder}")
    raise DataError(
        f"{path} is damaged (its MD5 is {found}, not {md5}): delete it, and it is downloaded again"
    )


if __name__ == "__main__":  # for run_all.sh: 2 if something is damaged, else 3 if out of reach
    codes = []
    for wanted in sys.argv[1:]:
        try:
            arrays(wanted)
        except DataError as error:
            print(f"files: error: {error}", file=sys.stderr)
            codes.append(3 if isinstance(error, MissingDataError) else 2)
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(min(codes, default=0))
