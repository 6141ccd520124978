"""Data files that are missing, damaged, mistaken or slow to come: one sentence names them."""

import dataclasses
import gzip
import hashlib
import io
import json
import pickle
import runpy
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from lab import download, files, formats, logs

import numpy as np
import pytest

HW1 = Path(files.__file__).parent.parent
IMAGES = np.random.default_rng(1).integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20) % 10


class Hostile:
    """Makes a file called trap if it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("trap"),)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)


def script(monkeypatch, capsys, folder, *names):
    """Run lab/files.py as run_all.sh does; return its exit code and the lines of its messages."""
    monkeypatch.setenv("HW1_DATA", str(folder))
    monkeypatch.setattr(sys, "argv", ["files.py", *names])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(files.__file__, run_name="__main__")
    return stop.value.code, capsys.readouterr().err.splitlines()


# ---- NAME.npz


def npz(**changes):
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:10], "y_test": LABELS[:10]}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


DAMAGED = {
    "truncated": npz()[:-300],
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html>404 Not Found</html>",
    "one array": npy(IMAGES),
    "a byte flipped": npz()[:5000] + bytes([npz()[5000] ^ 1]) + npz()[5001:],
    "missing key": npz(y_test=None),
    "wrong shape": npz(x_train=IMAGES[:, :14]),
    "flat images": npz(x_train=IMAGES.reshape(20, 784)),
    "a single number": npz(x_train=np.uint8(7)),
    "wrong dtype": npz(x_train=IMAGES.astype(np.int64)),
    "NaN": npz(x_train=np.where(IMAGES < 9, np.nan, IMAGES / 255)),
    "labels of floats": npz(y_train=LABELS / 1.0),
    "label out of range": npz(y_train=LABELS + 1),
    "negative label": npz(y_train=LABELS - 1),
    "lengths differ": npz(y_train=LABELS[:-1]),
    "pickled objects": npz(y_train=np.array([Hostile()] * 20)),
    "zero rows": npz(x_test=IMAGES[:0], y_test=LABELS[:0]),
    "constant pixels": npz(x_train=np.zeros_like(IMAGES)),
}


def test_the_undamaged_file_is_read(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(npz())
    assert files.arrays("mnist", tmp_path)["x_train"].shape == (20, 28, 28, 1)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_npz_is_one_sentence_in_our_own_words(monkeypatch, tmp_path, capsys, damage):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mnist.npz"
    path.write_bytes(DAMAGED[damage])
    code, [line] = script(monkeypatch, capsys, tmp_path, "mnist")
    assert code == 2 and line.startswith(f"files: error: {path}")
    assert "pickle" not in line and not Path("trap").exists()
    assert ("web page" in line) == (damage in ("a web page", "empty", "one array"))


def test_damaged_data_stop_an_experiment_before_training(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(DAMAGED["truncated"])
    words = ["--quick", "--dataset", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "out"]
    command = [sys.executable, HW1 / "random_labels.py", *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2 and not list(tmp_path.rglob("*.state"))
    assert ended.stderr.startswith(f"random_labels: error: {tmp_path / 'mnist.npz'}")
    assert ended.stderr.count("\n") == 1


def test_a_folder_in_place_of_the_file_is_one_sentence(monkeypatch, tmp_path, capsys):
    (tmp_path / "mnist.npz").mkdir()
    code, [line] = script(monkeypatch, capsys, tmp_path, "mnist")
    assert code == 2 and line.endswith("Is a directory")


def test_a_file_in_place_of_the_data_folder_is_not_called_missing_data(
    monkeypatch, tmp_path, capsys
):
    """run_all.sh would have gone on with the digits."""
    (tmp_path / "data").touch()
    code, [line] = script(monkeypatch, capsys, tmp_path / "data", "mnist")
    assert code == 2 and line.endswith("data: it is not a folder")


@pytest.mark.parametrize("channel", ["missing", "constant"])
def test_colour_images_need_three_channels_that_vary(tmp_path, channel):
    x = np.random.default_rng(2).integers(0, 256, (30, 32, 32, 3), np.uint8)
    x[..., 1] = 7
    x, y = (x[..., 0] if channel == "missing" else x), np.arange(30) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(files.DataError, match="channel|shape"):
        files.arrays("cifar10", tmp_path)


def test_the_number_of_classes_comes_from_the_table(monkeypatch, tmp_path):
    entry = dataclasses.replace(files.DATASETS["mnist"], classes=20)
    monkeypatch.setitem(files.DATASETS, "letters", entry)
    (tmp_path / "letters.npz").write_bytes(npz(y_train=np.arange(20)))
    assert files.arrays("letters", tmp_path)["y_train"].max() == 19
    (tmp_path / "letters.npz").write_bytes(npz(y_train=np.arange(1, 21)))
    with pytest.raises(files.DataError, match="labels from 0 to 19"):
        files.arrays("letters", tmp_path)


@pytest.mark.parametrize("changes", [{}, {"read": files.formats.idx, "files": {}}])
def test_for_an_npz_the_entry_needs_only_shape_and_classes(monkeypatch, tmp_path, changes):
    """With files={} the .npz was not looked for, and the reader of no files was a traceback."""
    entry = files.DataSet(shape=(1, 28, 28), classes=10, **changes)
    monkeypatch.setitem(files.DATASETS, "letters", entry)
    with pytest.raises(files.MissingDataError, match=r"put letters\.npz there"):
        files.arrays("letters", tmp_path)
    (tmp_path / "letters.npz").write_bytes(npz())
    assert (files.arrays("letters", tmp_path)["x_train"][..., 0] == IMAGES).all()


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path, given):
    (tmp_path / "mnist.npz").write_bytes(npz())
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    folder = f"~/{tmp_path.name}"
    monkeypatch.setenv("HW1_DATA", folder if given == "variable" else "/nowhere")
    raw = files.arrays("mnist", folder if given == "flag" else None)
    assert np.array_equal(raw["y_train"], LABELS)


# ---- the files that torchvision downloads


def idx(array):
    """Return an array of uint8 in LeCun's format."""
    return struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def old_pickle(x, y):
    """Return a batch of CIFAR-10 as Python 2 and the NumPy of 2009 wrote it.

    x: (N, 3072) uint8; y: (N,) from 0 to 9.
    """

    def word(content):  # a str of Python 2
        return b"T" + struct.pack("<i", len(content)) + content

    rows = struct.pack("<i", len(x))
    return (
        b"\x80\x02}(" + word(b"data") + b"cnumpy.core.multiarray\n_reconstruct\n"
        b"(cnumpy\nndarray\n(K\x00t" + word(b"b") + b"tR(K\x01(J" + rows + b"M\x00\x0ct"
        b"cnumpy\ndtype\n(" + word(b"u1") + b"K\x00K\x01tR(K\x03" + word(b"|") + b"NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + word(x.tobytes()) + b"tb"
        + word(b"labels") + b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"eu."
    )  # fmt: skip


def batch(number):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (20, 3072), np.uint8), rng.integers(0, 10, 20, np.uint8)


def small(monkeypatch, tmp_path, name):
    """Write small files for a data set and their MD5 into the table; return file -> path."""
    entry = files.DATASETS[name]
    rng = np.random.default_rng(len(name))
    contents = {}
    for number, file in enumerate(entry.files):
        shape = (20, 28, 28) if "images" in file else 20
        contents[file] = (
            old_pickle(*batch(number))
            if name == "cifar10"
            else idx(rng.integers(0, 10, shape, np.uint8))
        )
    paths = {file: tmp_path / entry.folder / file for file in contents}
    (tmp_path / entry.folder).mkdir(parents=True)
    for file, path in paths.items():
        path.write_bytes(contents[file])
    md5s = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(files.DATASETS, name, dataclasses.replace(entry, files=md5s, digests={}))
    return paths


EVERY_FILE = [(name, file) for name, entry in files.DATASETS.items() for file in entry.files]


@pytest.mark.parametrize(("name", "file"), EVERY_FILE)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_file_is_named(monkeypatch, tmp_path, capsys, name, file, damage):
    path = small(monkeypatch, tmp_path, name)[file]
    files.arrays(name, tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-1], "flipped": content, "empty": b""}[damage])
    with pytest.raises(files.DataError, match=f"{path} is damaged .*: delete it") as error:
        files.arrays(name, tmp_path)
    assert not isinstance(error.value, files.MissingDataError) and "\n" not in str(error.value)


def test_idx_files_are_read_as_they_were_written(monkeypatch, tmp_path):
    for name in ("mnist", "fashion_mnist"):
        paths = small(monkeypatch, tmp_path, name)
        raw = files.arrays(name, tmp_path)
        for key, path in zip(formats.KEYS, paths.values(), strict=True):
            array = raw[key].astype(np.uint8)
            assert idx(array[..., 0] if key.startswith("x") else array) == path.read_bytes()


def test_batches_of_python_2_are_read_without_a_warning(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path, "cifar10")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = files.arrays("cifar10", tmp_path)
    assert [len(raw[key]) for key in formats.KEYS] == [100, 100, 20, 20]
    for number in (0, 23, 99):
        rows, labels = batch(number // 20)
        for channel in range(3):  # the first 1,024 numbers of a row are red, line by line
            plane = raw["x_train"][number, :, :, channel].ravel()
            assert np.array_equal(plane, rows[number % 20, 1024 * channel :][:1024])
        assert raw["y_train"][number] == labels[number % 20]
    assert np.array_equal(raw["y_test"], batch(5)[1])


def test_a_pickle_with_a_wrong_checksum_is_never_unpickled(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = small(monkeypatch, tmp_path, "cifar10")["test_batch"]
    path.write_bytes(pickle.dumps({"data": Hostile(), "labels": []}))
    with pytest.raises(files.DataError, match="test_batch is damaged"):
        files.arrays("cifar10", tmp_path)
    assert not Path("trap").exists()


def test_a_packed_file_is_read_where_the_unpacked_one_is_not_there(monkeypatch, tmp_path):
    path = small(monkeypatch, tmp_path, "fashion_mnist")["train-images-idx3-ubyte"]
    wanted = files.arrays("fashion_mnist", tmp_path)["x_train"]
    packed, content = path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes())
    path.unlink()
    packed.write_bytes(content)
    assert np.array_equal(files.arrays("fashion_mnist", tmp_path)["x_train"], wanted)
    flipped = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    for damaged in (content[:-100], b"", b"<html>", flipped, gzip.compress(b"another")):
        packed.write_bytes(damaged)
        with pytest.raises(files.DataError, match=rf"{packed} is damaged .*: delete it"):
            files.arrays("fashion_mnist", tmp_path)


def test_another_data_set_under_these_names_is_not_called_damaged(monkeypatch, tmp_path):
    mnist = small(monkeypatch, tmp_path, "mnist")
    for file, path in small(monkeypatch, tmp_path, "fashion_mnist").items():
        own = mnist[file].read_bytes()
        mnist[file].write_bytes(path.read_bytes())
        with pytest.raises(files.DataError, match=r"another data set \(fashion_mnist\)"):
            files.arrays("mnist", tmp_path)
        mnist[file].write_bytes(own)
    images, labels = mnist["train-images-idx3-ubyte"], mnist["train-labels-idx1-ubyte"]
    images.write_bytes(labels.read_bytes())  # its own file in the wrong place
    with pytest.raises(files.DataError, match=f"{images} is damaged"):
        files.arrays("mnist", tmp_path)


# ---- files that are missing


class Broken:
    """Finds torchvision, but cannot import it, as where it was built for another PyTorch."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")


def test_a_torchvision_that_cannot_be_imported_is_what_the_sentence_is_about(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    paths = small(monkeypatch, tmp_path, "cifar10")
    assert len(files.arrays("cifar10", tmp_path)["x_train"]) == 100  # it is not needed to read
    paths["data_batch_3"].unlink()
    with pytest.raises(files.MissingDataError) as error:
        files.arrays("cifar10", tmp_path)
    assert "torchvision, which would download cifar10, cannot be imported" in str(error.value)
    assert "(operator torchvision::nms does not exist)" in str(error.value)
    assert "-batches-py/{data_batch_3} into" in str(error.value)  # only what is not there
    assert "--dataset digits" in str(error.value) and "\n" not in str(error.value)


def test_the_exit_code_tells_damaged_from_missing(monkeypatch, tmp_path, capsys):
    assert script(monkeypatch, capsys, tmp_path, "digits") == (0, [])
    code, [line] = script(monkeypatch, capsys, tmp_path, "mnist")
    assert code == 3 and "MNIST/raw/{train-images-idx3-ubyte,train-labels-idx1" in line
    (tmp_path / "cifar10.npz").touch()
    code, lines = script(monkeypatch, capsys, tmp_path, "mnist", "cifar10")
    assert code == 2 and len(lines) == 2  # run_all.sh does not go on with digits


def test_the_script_runs_from_any_folder(tmp_path):
    command = [sys.executable, files.__file__, "digits"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=100)


# ---- downloads


@pytest.fixture
def datasets(monkeypatch):
    """Return torchvision.datasets, from this machine's servers.

    Where torchvision was built for another PyTorch, only its part that downloads is loaded.
    """
    monkeypatch.delitem(sys.modules, "torchvision")
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is missing")
    monkeypatch.setenv("no_proxy", "*")
    try:
        from torchvision import datasets
    except RuntimeError:
        folder = Path(find_spec("torchvision").origin).parent
        package, datasets = (types.ModuleType(f"torchvision{x}") for x in ("", ".datasets"))
        package.__path__, datasets.__path__ = [str(folder)], [str(folder / "datasets")]
        monkeypatch.setitem(sys.modules, "torchvision", package)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
        from torchvision.datasets import cifar, mnist

        package.datasets, datasets.CIFAR10 = datasets, cifar.CIFAR10
        datasets.MNIST, datasets.FashionMNIST = mnist.MNIST, mnist.FashionMNIST
    return datasets


def test_the_table_is_torchvisions(datasets):
    entry = files.DATASETS["cifar10"]
    batches = datasets.CIFAR10.train_list + datasets.CIFAR10.test_list
    assert list(map(list, entry.files.items())) == batches
    assert entry.folder == datasets.CIFAR10.base_folder
    for name in ("mnist", "fashion_mnist"):
        entry = files.DATASETS[name]
        packed = [file for file, _ in getattr(datasets, entry.torchvision).resources]
        assert [f"{file}.gz" for file in entry.files] == packed
        assert entry.folder == f"{entry.torchvision}/raw"


def test_a_server_that_never_answers_is_given_up(monkeypatch, tmp_path, capsys, datasets):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url])
        monkeypatch.setattr(datasets.CIFAR10, "url", url + datasets.CIFAR10.filename)
        for name in ("fashion_mnist", "cifar10"):
            started = time.monotonic()
            with pytest.raises(files.MissingDataError, match=r"downloaded \(.*timed out\)") as it:
                files.arrays(name, tmp_path)
            assert time.monotonic() - started < 5 and "\n" not in str(it.value)
            assert f"downloading {name} into {tmp_path}" in capsys.readouterr().err
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("sent", ["the files", "a web page", "nothing"])
def test_what_a_server_sends_is_checked(monkeypatch, tmp_path, capsys, datasets, sent):
    served, home = tmp_path / "served", tmp_path / "home"
    paths = small(monkeypatch, served, "fashion_mnist")
    resources = []
    for path in paths.values():
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
        if sent == "a web page":
            packed.write_bytes(b"<html>Please log in</html>")
        elif sent == "nothing":
            packed.unlink()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = partial(SimpleHTTPRequestHandler, directory=packed.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url, url])
        monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
        try:
            if sent == "the files":
                got, wanted = (files.arrays("fashion_mnist", place) for place in (home, served))
                assert all(np.array_equal(got[key], wanted[key]) for key in formats.KEYS)
            else:
                with pytest.raises(files.MissingDataError, match="mnist.npz or Fash") as error:
                    files.arrays("fashion_mnist", home)
                assert "\n" not in str(error.value)
        finally:
            server.shutdown()
    assert "100%" in capsys.readouterr().err or sent == "nothing"  # torchvision's progress bar


# ---- which version


def version(raw):
    """What the .json of a log says of these arrays of MNIST: their version and a note."""
    args = SimpleNamespace(dataset="mnist", script="any", quick=False, device="cpu", jobs=1)
    about = logs.about(args, formats.digest(raw), [], "", 1)
    return about["data_version"], about["data_note"]


def test_arrays_are_known_by_their_digest_wherever_they_come_from(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path, "mnist")
    raw = files.arrays("mnist", tmp_path)  # from files whose checksums are right
    assert version(raw) == ("", "")
    keras = {key: array.squeeze().astype(np.uint8) for key, array in raw.items()}
    np.savez(tmp_path / "mnist.npz", **keras)
    assert version(files.arrays("mnist", tmp_path)) == ("", "")
    keras["x_test"][3, 4, 5] ^= 1
    np.savez(tmp_path / "mnist.npz", **keras)
    assert version(files.arrays("mnist", tmp_path)) == ("unknown version", "")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_digest_in_the_table_is_that_of_the_arrays(name):
    known = list(files.DATASETS[name].digests)[:1]  # reading adds what it found
    try:
        assert [formats.digest(files.arrays(name))] == known
    except files.MissingDataError:
        pytest.skip(f"{name} is not on this machine")


def test_the_data_of_the_committed_logs_are_in_the_table():
    paths = list(HW1.glob("logs/*_cifar10.json"))
    for path in paths:
        digest = json.loads(path.read_text())["data_digest"]
        assert files.DATASETS["cifar10"].digests[digest].startswith("94 of the")
    assert paths
