"""Runs that are killed, interrupted, damaged or misused: nothing lost, nothing silently wrong."""

import contextlib
import csv
import dataclasses
import errno
import fcntl
import gc
import hashlib
import io
import math
import multiprocessing
import os
import pickle
import pty
import re
import resource
import runpy
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from lab import (
    cache,
    digests,
    files,
    flags,
    logs,
    parallel,
    progress,
    provenance,
    runs,
    settings,
    start,
    store,
    work,
)

import kill
import numpy as np
import pytest
import torch
from filelock import Timeout
from threadpoolctl import threadpool_info, threadpool_limits
from torch import optim

import data
import random_labels
import train

# ---- in this process: small runs, one at a time


def arguments(monkeypatch, out, *words):
    command = ["random_labels.py", "--dataset", "digits", "--quick", "--jobs", "1", "--no-figures"]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0", "--out", str(out), *words])
    return flags.arguments("Probe.", "digits", {"digits": 2, "mnist": 2}, quick_epochs=2)


def run(args, **changes):
    """Train and log a little network for each seed, and one more with the changes, if any."""
    shared = {"model": "mlp-64-8-10", "batch_size": 100}
    grid = [settings.setting(args, **shared, seed=seed) for seed in args.seeds]
    grid += [settings.setting(args, **(shared | changes))] if changes else []
    tasks = [{"log": "random_labels", "runs": [setting]} for setting in grid]
    columns = {"random_labels": random_labels.COLUMNS}
    return runs.run(args, columns, tasks, random_labels.measure)


def log(out):
    return (out / "logs" / "random_labels_digits.csv").read_bytes()


def test_seeds_that_are_added_later_change_no_byte(monkeypatch, tmp_path):
    later, at_once = tmp_path / "later", tmp_path / "at once"
    assert run(arguments(monkeypatch, later)) == 0
    assert run(arguments(monkeypatch, later, "--seeds", "0", "1", "2")) == 0
    assert run(arguments(monkeypatch, at_once, "--seeds", "0", "1", "2")) == 0
    assert log(later) == log(at_once)


def numbers_of_arrays(task, states, tensors):
    [row] = random_labels.measure(task, states, tensors)
    return [row | {"test_acc": torch.tensor(row["test_acc"]), "test_loss": np.float64(1.5)}]


def test_a_number_in_an_array_is_a_number_of_the_log(monkeypatch, tmp_path, capsys):
    """A tensor was written as text, and rows with a NumPy number were called damaged."""
    args = arguments(monkeypatch, tmp_path)
    setting = settings.setting(args, model="mlp-64-8-10")
    tasks = [{"log": "random_labels", "runs": [setting]}]
    columns = {"random_labels": random_labels.COLUMNS}
    for _ in range(2):  # the second time from the cache
        assert runs.run(args, columns, tasks, numbers_of_arrays) == 0
        [row] = csv.DictReader(log(tmp_path).decode().splitlines())
        assert 0 < float(row["test_acc"]) < 1 and row["test_loss"] == "1.5"
    assert "damaged" not in capsys.readouterr().err


def test_fresh_deletes_nothing_where_the_data_are_missing(monkeypatch, tmp_path, capsys):
    args = arguments(monkeypatch, tmp_path)
    assert run(args) == 0
    kept = set(tmp_path.rglob("*.state"))
    args = arguments(monkeypatch, tmp_path, "--fresh")
    monkeypatch.setattr(files, "arrays", missing)
    assert run(args) == 2 and "no data" in capsys.readouterr().err
    assert kept and set(tmp_path.rglob("*.state")) == kept


def missing(*_):
    raise files.DataError("no data")


def test_a_log_with_the_same_rows_is_not_kept_twice(monkeypatch, tmp_path, capsys):
    """A new approach of sharpness.py moved the log of the rescaling, which had not changed."""
    args = arguments(monkeypatch, tmp_path)
    assert run(args) == 0
    about = tmp_path / "logs" / "random_labels_digits.json"
    about.write_text(about.read_text().replace('"settings_digest": "', '"settings_digest": "0'))
    assert run(args) == 0 and "it is kept" not in capsys.readouterr().out
    assert not (tmp_path / "logs" / "earlier").exists()


def test_the_same_mistake_in_many_rows_is_told_once(monkeypatch, tmp_path, capsys):
    args = arguments(monkeypatch, tmp_path, "--seeds", "0", "1", "2")
    columns = {"random_labels": (*random_labels.COLUMNS, "extra")}
    each = [settings.setting(args, model="mlp-64-8-10", seed=seed) for seed in args.seeds]
    tasks = [{"log": "random_labels", "runs": [setting]} for setting in each]
    assert runs.run(args, columns, tasks, random_labels.measure) == 1
    error = capsys.readouterr().err
    assert error.count("its rows and COLUMNS differ in extra") == 1
    assert "failed, and so did 2 more: " in error


def test_a_log_of_other_data_is_kept(monkeypatch, tmp_path, capsys):
    args = arguments(monkeypatch, tmp_path)
    assert run(args) == 0
    before, raw = log(tmp_path), files.arrays("digits")
    monkeypatch.setattr(files, "arrays", lambda *_: raw | {"x_test": 255 - raw["x_test"]})
    assert run(args) == 0 and "other settings or data: it is kept" in capsys.readouterr().out
    [earlier] = (tmp_path / "logs" / "earlier").glob("*.csv")
    assert earlier.read_bytes() == before != log(tmp_path)


def test_the_network_that_is_loaded_is_that_of_the_last_start(monkeypatch, tmp_path):
    """After an edit that was taken back, it was that of the edit."""
    args, found = arguments(monkeypatch, tmp_path), []
    for code in ("one", "another", "one"):
        monkeypatch.setattr(work, "code_digest", lambda *_, code=code: code)
        with monkeypatch.context() as patch:
            if code == "another":
                patch.setattr(train, "OPTIMIZERS", train.OPTIMIZERS | {"adam": optim.SGD})
            assert run(args) == 0
        model = runs.load("random_labels", out=tmp_path, seed=0)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert found[0].equal(found[2]) and not found[0].equal(found[1])


def test_the_number_of_classes_changes_the_key(monkeypatch, tmp_path):
    """The networks of an edited entry of DATASETS were taken for those of the new one."""
    args, found = arguments(monkeypatch, tmp_path), set()
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    for classes in (10, 12):
        entry = dataclasses.replace(files.DATASETS["digits"], classes=classes)
        monkeypatch.setitem(files.DATASETS, "digits", entry)
        found.add(cache.key(cache.salt(cache.prepare(args), "code"), {}))
    assert len(found) == 2


def test_what_matters_changes_the_key_and_a_comment_does_not(monkeypatch, tmp_path):
    args = arguments(monkeypatch, tmp_path)
    setting = settings.setting(args, model="mlp-64-8-10")
    keys = {cache.key(["data"], setting), cache.key(["other data"], setting)}
    keys |= {cache.key(["data"], setting | {name: "other"}) for name in setting}
    assert len(keys) == 2 + len(setting)


EDITS = {  # file, text, its replacement: whether training and measuring have to be done again
    "a comment": ("train.py", "import math", "import math  # a comment", False, False),
    "a docstring": ("train.py", '"""The one', '"""One', False, False),
    "evaluation": ("train.py", "batch_size=512", "batch_size=1024", True, True),
    "the network": ("models.py", "stride=2", "stride=1", True, True),
    "a measure that is used": ("measures.py", "retain_graph=True", "retain_graph=1", False, True),
    "a measure that is not": ("measures.py", "restarts=300", "restarts=301", False, False),
    "the rows": ("sensitivity.py", '"epoch": at["epoch"]', '"epoch": 1 * at["epoch"]', False, True),
    "the grid": ("sensitivity.py", "32, 64, 128, 256,", "32, 64, 128, 250,", False, False),
    "main": ("sensitivity.py", "quick_epochs=3", "quick_epochs=4", False, False),
    "a data set": ("lab/files.py", '"fashion_mnist": DataSet', '"other": DataSet', False, False),
}


def digest(path, name):
    """The digest of a function of a file that is not imported."""
    function = SimpleNamespace(__code__=SimpleNamespace(co_filename=path), __name__=name)
    return digests.code_digest(function)


def test_an_edit_of_a_decorated_function_changes_its_digest(tmp_path):
    """Its wrapper lies in PyTorch: old rows were taken for those of the new code."""
    found = set()
    for value in ("1", "22"):
        path = tmp_path / f"decorated{value}" / "script.py"
        path.parent.mkdir()
        path.write_text(f"import torch\n\n@torch.no_grad()\ndef measure():\n    return {value}\n")
        found.add(digests.code_digest(runpy.run_path(str(path))["measure"]))
    assert len(found) == 2


REGISTRY = """ALL = {{}}
def add(f):
    ALL[f.__name__] = f
    return f
@add
def one():
    return {}
X = ALL["one"]()
"""
CHANGED = {  # the definition of X in a script of which `measure` returns X; {} stands for 1 or 2
    "added to": "X = [{}]\nX += [3]\n",
    "an entry": "X = {{}}\nX['a'] = {}\n",
    "a call": "X = []\nX.append({})\n",
    "a loop": "X = []\nfor k in (1, 2):\n    X.append(k * {})\n",
    "a context": "X = []\nwith open(__file__):\n    X.append({})\n",
    "an argument": "X = []\nlist.append(X, {})\n",
    "a deletion": "X = [1, 2, 3]\ndel X[{}]\n",
    "a pattern": "match {}:\n    case X:\n        pass\n",
    "a condition": "X = 1\nif True:\n    X = {}\n",
    "a registry": REGISTRY,
    "a function in a condition": "if True:\n    def X():\n        return {}\n",
}


@pytest.mark.parametrize("form", CHANGED)
def test_every_statement_that_defines_a_name_counts(tmp_path, form):
    """Of several assignments only the last one counted, so that old rows were taken for new."""
    found = set()
    for value in (1, 2):
        path = tmp_path / f"value{value}" / "script.py"
        path.parent.mkdir()
        path.write_text(CHANGED[form].format(value) + "\n\ndef measure():\n    return X\n")
        found.add(digest(path, "measure"))
    assert len(found) == 2


USES = {  # how a script may reach X of blocks.py, nets/blocks.py or nets/__init__.py
    "from a file": ("blocks.py", "from blocks import X", "X"),
    "all names": ("blocks.py", "from blocks import *", "X"),
    "in a try": (
        "blocks.py",
        "try:\n    from blocks import X\nexcept ImportError:\n    X = 0",
        "X",
    ),
    "in a function": ("blocks.py", "def get():\n    from blocks import X\n    return X", "get()"),
    "from a package": ("nets/__init__.py", "from nets import X", "X"),
    "through a package": ("nets/blocks.py", "from nets import Y", "Y"),
    "by its whole name": ("nets/blocks.py", "import nets.blocks", "nets.blocks.X"),
    "through two files": ("nets/blocks.py", "from stars import X", "X"),
    "relative": ("nets/blocks.py", "from nets import other", "other.Z"),
}


@pytest.mark.parametrize("use", USES)
def test_every_way_to_reach_code_counts(monkeypatch, tmp_path, use):
    """Old rows were taken for those of the new code."""
    file, statement, value = USES[use]
    found = set()
    for number in (1, 2):
        folder = tmp_path / f"hw{number}"
        (folder / "nets").mkdir(parents=True)
        (folder / "nets" / "__init__.py").write_text("from .blocks import X as Y\n")
        (folder / "nets" / "other.py").write_text("from .blocks import X\nZ = X\n")
        (folder / "stars.py").write_text("from nets.blocks import *\n")
        for path in ("nets/blocks.py", file):
            with (folder / path).open("a") as code:
                code.write(f"X = {number if path == file else 0}\n")
        text = f"{statement}\n\ndef measure():\n    return {value}\n"
        (folder / "script.py").write_text(text)
        monkeypatch.setattr(digests, "HW1", folder)
        found.add(digest(folder / "script.py", "measure"))
    assert len(found) == 2


def halved(raw, device="cpu"):
    x_train, y_train, x_test, y_test = STANDARDISE(raw, device)
    return x_train / 2, y_train, x_test / 2, y_test


STANDARDISE = data.standardise


def test_an_edit_of_the_standardisation_trains_again(monkeypatch, tmp_path, capsys):
    """Old networks were taken for those of the new data, and measured on these."""
    args = arguments(monkeypatch, tmp_path)
    assert run(args) == 0
    before = log(tmp_path)
    monkeypatch.setattr(data, "standardise", halved)
    assert run(args) == 0 and "0 finished, 1 to do" in capsys.readouterr().out.splitlines()[-2]
    assert log(tmp_path) != before


def test_a_network_of_older_code_is_not_loaded(monkeypatch, tmp_path):
    assert run(arguments(monkeypatch, tmp_path, "--seeds", "0", "1")) == 0
    assert runs.load("random_labels", out=tmp_path, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(work, "code_digest", lambda *_: "new")
        assert run(arguments(monkeypatch, tmp_path)) == 0  # seed 0 alone
        assert runs.load("random_labels", out=tmp_path, seed=0)
        with pytest.raises(ValueError, match="0 finished runs"):
            runs.load("random_labels", out=tmp_path, seed=1)
    assert run(arguments(monkeypatch, tmp_path)) == 0
    monkeypatch.setattr(work, "code_digest", lambda *_: "another")
    with pytest.raises(ValueError, match="training code has changed since: run random_labels.py"):
        runs.load("random_labels", out=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if __name__ == '__main__':\n    sys.exit(main(X, 1))\n", "2))\n"),
        ("Y = sorted(X, key=lambda x: 1 * x)\n", "2 * x)\n"),
    ],
    ids=["what the script itself does", "what only reads it"],
)
def test_a_statement_that_changes_nothing_does_not_count(tmp_path, before, after):
    """Else every change of a list of runs would measure everything again."""
    found = set()
    for text in (before, before[: -len(after)] + after):
        path = tmp_path / f"text{len(found)}" / "script.py"
        path.parent.mkdir()
        path.write_text(f"import sys\nX = [3]\n{text}\ndef measure():\n    return X, sys\n")
        found.add(digest(path, "measure"))
        assert text != before or not found - {digest(path, "measure")}
    assert len(found) == 1


@pytest.mark.parametrize("edit", EDITS)
def test_only_what_an_edit_touches_is_done_again(monkeypatch, tmp_path, edit):
    """Adding one batch size once measured every model again."""
    hw1 = kill.copy_of_hw1(tmp_path / "hw1")
    file, old, new, *again = EDITS[edit]
    source = (hw1 / file).read_text()
    assert source.count(old) > 0
    found = []
    for text in (source, source.replace(old, new)):
        (hw1 / file).write_text(text)
        monkeypatch.setattr(digests, "HW1", hw1)
        digests._module.cache_clear()
        paths = {"train": hw1 / "train.py", "measure": hw1 / "sensitivity.py"}
        found.append([digest(path, name) for name, path in paths.items()])
    digests._module.cache_clear()
    assert [a != b for a, b in zip(*found, strict=True)] == again


class Hostile:
    """Makes a file if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def checked(content):
    """Return the content of a checkpoint whose checksum is right."""
    return hashlib.sha256(content).digest() + content


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


DAMAGES = {
    "truncated": lambda old, trap: old[: len(old) // 2],
    "empty": lambda old, trap: b"",
    "a bit flipped": lambda old, trap: old[:-50] + bytes([old[-50] ^ 1]) + old[-49:],
    "from another version": lambda old, trap: torch_bytes({"done": True}),
    "hostile": lambda old, trap: checked(pickle.dumps(Hostile(trap), protocol=2)),
    "hostile in torch's format": lambda old, trap: checked(torch_bytes(Hostile(trap))),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", ["state", "rows"])
def test_a_damaged_checkpoint_is_made_again(monkeypatch, tmp_path, capsys, damage, suffix):
    args, trap = arguments(monkeypatch, tmp_path), tmp_path / "trap"
    assert run(args) == 0
    [path] = (tmp_path / "checkpoints").rglob(f"*.{suffix}")
    wanted, sound = log(tmp_path), path.read_bytes()
    path.write_bytes(DAMAGES[damage](sound, trap))
    capsys.readouterr()
    assert run(args) == 0
    assert capsys.readouterr().err.count("warning") == 1
    assert log(tmp_path) == wanted and not trap.exists()
    assert run(args) == 0 and "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cached_tensors_are_made_again(monkeypatch, tmp_path, damage):
    args, trap = arguments(monkeypatch, tmp_path), tmp_path / "trap"
    monkeypatch.setattr(cache, "HW1", tmp_path)
    assert run(args) == 0
    [path] = (tmp_path / "checkpoints" / "data").glob("*.tensors")
    wanted, sound = log(tmp_path), path.read_bytes()
    content = DAMAGES[damage](sound, trap)
    path.unlink()  # this process has mapped it
    path.write_bytes(content[32:] if damage.startswith("hostile") else content)
    cache.tensors.cache_clear()
    shutil.rmtree(tmp_path / "checkpoints" / "random_labels_digits")
    assert run(args) == 0
    assert log(tmp_path) == wanted and path.read_bytes() == sound and not trap.exists()
    assert {file.suffix for file in path.parent.iterdir()} == {".tensors", ".lock"}


@pytest.mark.parametrize(
    "changes", [{"lr": 1e30, "epochs": 4}, {"lr": 1e30, "epochs": 1, "batch_size": 1000}]
)
def test_divergence_is_named_and_the_other_runs_are_kept(monkeypatch, tmp_path, capsys, changes):
    assert run(arguments(monkeypatch, tmp_path)) == 0
    wanted = log(tmp_path).decode()
    for _ in range(2):  # and when it is read from its checkpoint
        assert run(arguments(monkeypatch, tmp_path), optimizer="sgd", **changes) == 1
        assert f"optimizer=sgd, lr={changes['lr']}" in capsys.readouterr().err
    assert log(tmp_path).decode().startswith(wanted)
    last = list(csv.DictReader(log(tmp_path).decode().splitlines()))[-1]
    assert not math.isfinite(float(last["train_loss"])) and last["optimizer"] == "sgd"


def test_a_full_disk_leaves_old_files_and_nothing_half_written(monkeypatch, tmp_path, capsys):
    args = arguments(monkeypatch, tmp_path)
    assert run(args) == 0
    wanted = log(tmp_path)

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(train, "save", full)
        assert run(arguments(monkeypatch, tmp_path, "--seeds", "0", "1")) == 1
    message = capsys.readouterr().err
    assert "seed=1" in message and "No space left" in message and "Traceback" not in message
    monkeypatch.setattr(cache, "make_folder", lambda path: None)  # the data are there already
    assert run_with_limit(args, 50) == 2 and "File too large" in capsys.readouterr().err
    assert log(tmp_path) == wanted and not list(tmp_path.rglob("*.part"))


def test_a_result_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    """Half of it stayed there."""
    path = tmp_path / "run.state"
    store.save(path, "old")
    with files_of_at_most(5000), pytest.raises(OSError):
        store.save(path, torch.ones(5000))
    assert store.restore(path) == "old" and list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def files_of_at_most(size):
    """A limit on the size of files, which is what a full disk is like."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def run_with_limit(args, size):
    with files_of_at_most(size):
        return run(args)


def test_a_disk_without_room_for_the_data_is_one_sentence(monkeypatch, tmp_path, capsys):
    """It was a traceback of PyTorch: unexpected pos 1024 vs 918."""
    monkeypatch.setattr(cache, "HW1", tmp_path)
    assert run_with_limit(arguments(monkeypatch, tmp_path / "out"), 50_000) == 2
    error = capsys.readouterr().err
    assert "is the disk full?" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.part"))


def test_a_copy_of_a_script_draws_the_figure_of_its_log(monkeypatch, tmp_path, capsys):
    """It ended with exit code 1, since plot_all.py does not know its name."""
    args = arguments(monkeypatch, tmp_path)
    args.script, args.no_figures = "my_random_labels", False
    assert run(args) == 0 and (tmp_path / "figures" / "random_labels_digits.png").exists()
    assert runs.draw(args, {"my_log": ()}) == 0
    assert "my_random_labels: plot_all.py knows no figure of my_log" in capsys.readouterr().out


def test_two_scripts_draw_their_common_figure_one_after_the_other(monkeypatch, tmp_path):
    """Both wrote one unfinished file, and one of them renamed what the other was writing."""
    args, waited = arguments(monkeypatch, tmp_path), []
    args.no_figures = False
    assert run(args) == 0

    def plot(*_, **__):
        with pytest.raises(Timeout):
            logs.lock(tmp_path).acquire(timeout=0)
        waited.append(True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", plot)
    assert runs.draw(args, {"random_labels": ()}) == 0 and waited


def test_a_thread_can_run_an_experiment(monkeypatch, tmp_path):
    """Only the main thread may set what Ctrl-C does."""
    args = arguments(monkeypatch, tmp_path)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(run, args).result() == 0


def test_a_program_that_embeds_python_can_import_it():
    code = f"import sys; sys.path.insert(0, {str(kill.HW1)!r}); sys.argv = []; import lab"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_commit_is_that_of_this_project_alone(monkeypatch, tmp_path):
    """Unpacked inside another repository, the logs named that one's commit."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    git += ["-c", "commit.gpgsign=false"]
    copy = tmp_path / "homework" / "hw1"
    (copy / "lab").mkdir(parents=True)
    (copy / "lab" / "provenance.py").write_text("")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "another project"], check=True)
    monkeypatch.setattr(provenance, "HW1", copy)
    assert provenance.git_commit() == ""
    subprocess.run([*git, "add", "."], check=True)
    assert re.fullmatch(r"[0-9a-f]{12} with changes", provenance.git_commit())


def test_a_machine_without_git_writes_its_logs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(arguments(monkeypatch, tmp_path)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs: 0 is not a positive number"),
        (["--epochs", "-3"], "--epochs: -3 is not a positive number"),
        (["--epochs", "1.5"], "--epochs: invalid"),
        (["--jobs", "0"], "--jobs: 0 is not a positive number"),
        (["--jobs", "-1"], "--jobs: -1 is not a positive number"),
        (["--seeds", "0", "1", "0"], "--seeds: the same seed is named twice"),
        (["--seeds", "-1"], "--seeds: -1 is negative"),
        (["--seeds", "a"], "--seeds: invalid"),
        (["--seeds"], "--seeds: expected at least one argument"),
        (["--dataset", "imagenet"], "--dataset: invalid choice: 'imagenet'"),
        (["--device", "cuda"], "--device: PyTorch finds no cuda device"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
        (["--qui"], "unrecognized arguments: --qui"),  # run_all.sh would not know it
        (["--out", "a file/below"], "--out: cannot write to"),
        (["--out", "/proc/nowhere"], "--out: cannot write to"),
    ],
)
def test_a_mistake_in_the_flags_is_one_sentence(monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("a file").touch()
    with pytest.raises(SystemExit, match="2"):
        arguments(monkeypatch, tmp_path, *words)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("random_labels.py: error: ") and message in last


def test_what_is_in_the_cache_is_done():
    """The bar ended at 0%."""
    with progress.Progress("kept", {"one": 0, "two": 0}) as bar:
        bar.advance("one", 1)
        bar.advance("two", 1)
    assert bar.bar.n == bar.bar.total


def many_rows(task, states, tensors):
    yield {}


def test_a_measure_that_yields_is_told_where_it_runs(tmp_path):
    """Its process could not send the generator, and memory was blamed."""
    store.save(tmp_path / "run.state", {"done": True})
    context = {"tensors": tmp_path / "tensors", "device": "cpu"}
    torch.save([torch.ones(1)] * 4, context["tensors"])
    with pytest.raises(ValueError, match="must return a list"):
        arguments = many_rows, {}, (), [tmp_path / "run.state"], context, tmp_path / "one.rows"
        work._measure(parallel.ignore, *arguments)


# ---- in processes of their own, from a copy whose path has a space and an umlaut

PROBE = """
import os, signal, sys
from pathlib import Path
import random_labels
from lab import cache, flags, provenance, runs, settings

DEADLY = Path(__file__).with_name("deadly")

def measure(task, states, tensors):
    if DEADLY.exists() and task["runs"][0]["seed"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return random_labels.measure(task, states, tensors)

if __name__ == "__main__":
    args = flags.arguments("Probe.", "digits", {"digits": 2}, quick_epochs=2)
    grid = [settings.setting(args, model="mlp-64-8-10", seed=seed) for seed in args.seeds]
    tasks = [{"log": "probe", "runs": [setting]} for setting in grid]
    sys.exit(runs.run(args, {"probe": random_labels.COLUMNS}, tasks, measure))
"""


def sources(hw1):
    return sorted(p for p in hw1.rglob("*") if not {"__pycache__", "checkpoints"} & set(p.parts))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a copy of hw1, and what its param_sweep writes in how many seconds if left alone."""
    folder = tmp_path_factory.mktemp("paths") / "a b ü"
    hw1 = kill.copy_of_hw1(folder / "hw1 é")
    before = sources(hw1)
    started = time.monotonic()
    assert kill.start(hw1, "param_sweep", folder / "out").wait() == 0
    seconds = time.monotonic() - started
    assert sources(hw1) == before  # with --out elsewhere nothing is written here but the cache
    return hw1, kill.contents(folder / "out"), seconds


@pytest.fixture
def temporary(monkeypatch):
    """The folder of all temporary files; its path is short enough for a socket below it."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def until(text, out, seconds=60):
    """Wait for a text among a script's messages."""
    end = time.monotonic() + seconds
    while text not in Path(f"{out}.log").read_text():
        assert time.monotonic() < end, f"{text!r} never came"
        time.sleep(0.01)


def test_the_number_of_jobs_changes_no_byte(undisturbed, tmp_path):
    hw1, wanted, _ = undisturbed
    assert kill.start(hw1, "param_sweep", tmp_path / "out", "--jobs", "1").wait() == 0
    assert kill.contents(tmp_path / "out") == wanted


@pytest.mark.parametrize(("kind", "part"), [("group", 0.7), ("worker", 0.6), ("SIGTERM", 0.5)])
def test_killed_and_started_again_no_byte_changes(undisturbed, tmp_path, kind, part):
    hw1, wanted, seconds = undisturbed
    moment = part * seconds
    assert kill.trial(hw1, "param_sweep", tmp_path / "out", moment, wanted, kind)[1] == []


def test_workers_end_when_only_their_parent_is_killed(undisturbed, tmp_path):
    process = kill.start(undisturbed[0], "param_sweep", tmp_path / "out")
    until("3 to do", tmp_path / "out")
    process.kill()
    process.wait()
    assert kill.gone(process.pid, 60)


LIKE_WINDOWS = """if True:
    import multiprocessing, os, runpy, signal, sys
    for name in ("pthread_sigmask", "SIGHUP", "setitimer", "alarm"):
        delattr(signal, name)
    for name in ("sched_getaffinity", "killpg", "getpgid", "setsid"):
        delattr(os, name)
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    script, *flags = sys.argv[1:]
    sys.argv = [script, *flags]
    sys.path[0] = os.path.dirname(script)
    sys.exit(runpy.run_path(script, run_name="__main__"))
"""


def test_a_script_runs_without_what_windows_lacks(undisturbed, tmp_path):
    hw1, wanted, _ = undisturbed
    flags = [hw1 / "param_sweep.py", *kill.FLAGS, "--out", tmp_path / "out"]
    command = [sys.executable, "-c", LIKE_WINDOWS, *map(str, flags)]
    subprocess.run(command, check=False, capture_output=True)
    assert kill.contents(tmp_path / "out") == wanted


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.1, 1.5])
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_ctrl_c_during_the_imports_is_quiet_and_nothing_survives(
    undisturbed, tmp_path, temporary, seconds, sent, code
):
    """It was a traceback: PyTorch takes two seconds to import. A folder for a socket was left."""
    process = kill.start(undisturbed[0], "param_sweep", tmp_path / "out")
    time.sleep(seconds)
    if sent == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    assert process.wait(10) == code and kill.gone(process.pid, 60)  # the server imports to its end
    assert "Traceback" not in (tmp_path / "out.log").read_text()
    assert sent == "SIGKILL" or not list(temporary.iterdir())


BLIND = """
import os, sys
with open(os.environ["SEEN"], "a") as file:
    file.write(os.path.basename(sys.argv[0]) + "\\n")
raise ImportError("this is not PyTorch")
"""
NOTEBOOK = """
import runpy, sys
sys.argv = ["random_labels.py", "--jobs", "2"]  # as %run has it
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STARTS = {  # a program: which processes import PyTorch; -c is the server
    "random_labels.py --jobs 2": {"-c", "random_labels.py"},
    "param_sweep.py --jobs=4": {"-c", "param_sweep.py"},
    "interpolation.py --jobs 2": {"-c", "interpolation.py"},
    "sensitivity.py --jobs 2": {"-c", "sensitivity.py"},
    "sharpness.py --jobs 16 --quick": {"-c", "sharpness.py"},
    "random_labels.py --jobs=1": {"random_labels.py"},
    "random_labels.py --jobs 2 --dask there": {"random_labels.py"},
    "random_labels.py --help": {"random_labels.py"},
    "stranger.py --jobs 2": {"stranger.py"},
    "notebook.py": {"random_labels.py"},
    "plot_all.py --help": set(),
    "check.py --help": set(),
}


@pytest.mark.parametrize("program", STARTS)
def test_the_server_starts_before_a_script_imports_pytorch(tmp_path, program):
    """One after the other took twice as long. Only an experiment that uses it may start it."""
    (seen := tmp_path / "seen").touch()
    (tmp_path / "torch.py").write_text(BLIND)
    (tmp_path / "stranger.py").write_text("import random_labels")
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    name, *words = program.split()
    path = next(path for path in (tmp_path / name, kill.HW1 / name) if path.exists())
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{kill.HW1}", "SEEN": str(seen)}
    options = {"cwd": kill.HW1, "capture_output": True, "text": True, "env": environment}
    done = subprocess.run([sys.executable, path, *words], check=False, **options)
    assert set(seen.read_text().split()) == STARTS[program]
    assert done.stderr.count("Traceback") == ("not PyTorch" in done.stderr)  # the server is quiet


def test_a_server_that_cannot_start_is_one_sentence(tmp_path):
    code = f"""if True:
        import sys
        from multiprocessing import forkserver
        def full():
            raise OSError(24, "Too many open files")
        forkserver.ensure_running = full
        sys.path.insert(0, {str(kill.HW1)!r})
        del sys.argv[0]
        import lab.flags
    """
    command = [sys.executable, "-c", code, kill.HW1 / "param_sweep.py", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "Too many open files" in done.stderr and "--jobs 1" in done.stderr


def test_modules_in_the_current_folder_are_not_imported(undisturbed, tmp_path, monkeypatch):
    """A random.py in the folder where one starts killed the processes, or ran in them."""
    for name in ("random", "signal", "socket", "train"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    hw1, wanted, _ = undisturbed
    assert kill.start(hw1, "param_sweep", tmp_path / "out").wait() == 0
    assert kill.contents(tmp_path / "out") == wanted


def test_a_script_needs_no_shared_memory_and_leaves_none(undisturbed, tmp_path):
    """Semaphores in /dev/shm stayed there after a kill, and where there is none nothing ran."""
    hw1, wanted, _ = undisturbed
    code = f"""if True:
        import multiprocessing.synchronize, runpy, sys
        def none(*_, **__):
            raise OSError(38, "Function not implemented")
        multiprocessing.synchronize.SemLock.__init__ = none
        sys.argv = {[str(hw1 / "param_sweep.py"), *kill.FLAGS, "--out", str(tmp_path / "out")]}
        sys.path.insert(0, {str(hw1)!r})
        runpy.run_path(sys.argv[0], run_name="__main__")
    """
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert kill.contents(tmp_path / "out") == wanted


def test_what_another_program_holds_in_shared_memory_is_not_left_over():
    """A trial failed when the tests beside it had started processes of their own."""
    path = Path("/dev/shm") / f"torch_{os.getpid()}_of_a_test"
    path.write_bytes(b"left")
    try:
        lock = multiprocessing.get_context("spawn").Lock()
        held, found = f"sem.{lock._semlock.name.strip('/')}", kill.shared_memory()
        assert held in os.listdir("/dev/shm") and held not in found and path.name in found
    finally:
        path.unlink()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_how_to_go_on(undisturbed, tmp_path, temporary, jobs):
    (hw1, wanted, _), out = undisturbed, tmp_path / "out"
    process = kill.start(hw1, "param_sweep", out, "--jobs", jobs)
    until("3 to do", out)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130 and kill.gone(process.pid, 30)
    assert not list(temporary.iterdir())
    messages = Path(f"{out}.log").read_text()
    assert messages.endswith("is kept, and the same command goes on from there\n")
    assert "Traceback" not in messages
    if jobs == "2":
        assert kill.start(hw1, "param_sweep", out).wait() == 0 and kill.contents(out) == wanted


SURROUNDINGS = {  # a command of bash around a script: exit code, and how the messages begin
    "the current folder was deleted": (
        "mkdir x; cd x; rmdir ../x; SCRIPT",
        2,
        "error: the current",
    ),
    "a temporary folder with a long name": (
        'TMPDIR=$(mktemp -d -p "$PWD" $(printf %080d)XXX) SCRIPT',
        0,
        "",
    ),
    "an output in ASCII": ("PYTHONIOENCODING=ascii SCRIPT", 0, ""),
}


PIPED = "error: measure must stand in a file: start the script by the name of its file\n"


def test_a_script_that_is_piped_into_python_says_what_to_do(undisturbed, tmp_path):
    """Its processes could not import it, and memory was blamed. One job kept stale rows."""
    command = [sys.executable, "-", *kill.FLAGS, "--out", tmp_path / "out"]
    with open(undisturbed[0] / "param_sweep.py") as script:
        options = {"stdin": script, "cwd": undisturbed[0], "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, **options)
    assert (done.returncode, done.stderr) == (2, f"-: {PIPED}")


def test_a_program_that_is_piped_into_python_may_import_a_script(undisturbed, tmp_path):
    """Each process looked for a file of the name <stdin>, and memory was blamed."""
    (hw1, wanted, _), out = undisturbed, tmp_path / "out"
    words = ["param_sweep.py", *kill.FLAGS, "--out", str(out)]
    program = f"import sys; sys.path[0], sys.argv = {str(hw1)!r}, {words}\n"
    program += "import param_sweep; sys.exit(param_sweep.main())\n"
    options = {"input": program, "text": True, "cwd": tmp_path, "capture_output": True}
    done = subprocess.run([sys.executable, "-"], check=False, **options)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert kill.contents(out) == wanted


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_script_in_odd_surroundings(undisturbed, tmp_path, name):
    (hw1, wanted, _), out = undisturbed, tmp_path / "ü"
    around, code, begins = SURROUNDINGS[name]
    words = map(str, [sys.executable, hw1 / "param_sweep.py", *kill.FLAGS, "--out", out])
    command = around.replace("SCRIPT", shlex.join(words))
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == code and ended.stderr.decode().startswith(begins)
    assert b"Traceback" not in ended.stderr and (code or kill.contents(out) == wanted)


def frozen(report):
    return gc.get_freeze_count()


def test_the_collector_of_a_process_leaves_pytorch_alone():
    """It would look through a hundred thousand objects, and copy their memory from the server."""
    with parallel.workers(2) as found:
        assert parallel.call(found, frozen)() > 100_000


def blas_threads(report):
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_call_has_one_thread_for_numpy_and_scipy_too():
    """OpenBLAS once kept a thread for each core, which took time from the other runs."""
    with parallel.workers(2) as found:
        assert parallel.call(found, blas_threads)() == {1}
    with threadpool_limits(2, "blas"):
        assert parallel.call(None, blas_threads)() == {1}


TIMED = f"""if True:
    import sys, time
    sys.path.insert(0, {str(kill.HW1)!r})
    from lab.parallel import side_by_side
    def sleep(report, seconds):
        report(0.5)
        time.sleep(seconds)
    if len(sys.argv) > 1:
        import lab.progress
        lab.progress.SECONDS_BETWEEN_LINES = 1.5
    list(side_by_side(None, "sleeping", sleep, {{"one": (3.5,)}}))
"""


def test_on_a_terminal_the_bar_moves_between_two_results():
    """The bar once stood still until the first run ended, minutes later."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(terminal, "rb", 0) as shown, os.fdopen(end, "wb", 0) as stderr:
        subprocess.run([sys.executable, "-c", TIMED], stderr=stderr, check=True)
        text = shown.read(10_000).decode()
    assert {"00:01 gone", "00:02 gone"} <= set(re.findall(r"\d\d:\d\d gone", text))
    assert " 50%|" in text


def test_in_a_file_there_is_a_line_now_and_then():
    """There were bars, glued to one another by carriage returns."""
    command = [sys.executable, "-c", TIMED, "often"]
    text = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "\r" not in text and len(text.splitlines()) == 2
    assert [re.search(r"\d+%", line)[0] for line in text.splitlines()] == ["50%", "100%"]


def test_a_second_start_waits_for_the_first(undisturbed, tmp_path):
    (hw1, wanted, _), out = undisturbed, tmp_path / "out"
    first = kill.start(hw1, "param_sweep", out, "--epochs", "400")
    until("to do", out)
    second = kill.start(hw1, "param_sweep", out)
    until("already at work", out)
    first.kill()  # its lock goes with it
    assert second.wait() == 0 and kill.contents(out) == wanted


def test_processes_keep_freed_memory_unless_the_user_says_otherwise():
    code = """if __name__ == "__main__":
    import os
    from lab import start
    with start.server().Pool(1) as pool:
        print(pool.apply(os.getenv, ["MALLOC_TRIM_THRESHOLD_"]))"""
    for own in ({}, {"MALLOC_TRIM_THRESHOLD_": "1000"}):
        environment = {k: v for k, v in os.environ.items() if k not in start.MEMORY} | own
        command = [sys.executable, "-c", code]
        options = {"capture_output": True, "text": True, "cwd": kill.HW1}
        shown = subprocess.run(command, check=True, env=environment, **options).stdout.strip()
        assert shown == (own or start.MEMORY)["MALLOC_TRIM_THRESHOLD_"]


def test_a_run_whose_process_dies_is_named_and_can_be_repeated(undisturbed, tmp_path):
    hw1 = kill.copy_of_hw1(tmp_path / "hw1")
    (hw1 / "probe.py").write_text(PROBE)
    (hw1 / "deadly").touch()
    out = tmp_path / "out"
    assert kill.start(hw1, "probe", out, "--seeds", "0", "1").wait() == 1
    lines = Path(f"{out}.log").read_text().splitlines()
    [named] = [line for line in lines if "its process was killed" in line]
    assert "seed=1" in named and not kill.contents(out)
    (hw1 / "deadly").unlink()
    assert kill.start(hw1, "probe", out, "--seeds", "0", "1").wait() == 0
    assert kill.contents(out)["probe_digits.csv"].count(b"\n") == 1 + 2
