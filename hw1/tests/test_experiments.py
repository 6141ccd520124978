"""A quick run of every script: its columns, rows and finiteness; and that every flag matters."""

import csv
import importlib
import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from lab import files, flags, line, runs, settings

import numpy as np
import pytest
import torch
from torch import nn

import data
import interpolation
import models
import param_sweep
import random_labels
import sensitivity
import sharpness
import train

HW1 = Path(__file__).resolve().parent.parent
COMMON = ["dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed"]
METRICS = ["train_loss", "train_acc", "test_loss", "test_acc"]
PATH = ["pair", "setting_1", "setting_2", "alignment", "weight_norm_1", "weight_norm_2"]
PATH += ["distance", "alpha", *METRICS]
FURTHER = {
    "random_labels": ["label_corruption", "epoch", *METRICS],
    "param_sweep": ["width", "train_size", "label_corruption", "epoch", *METRICS],
    "interpolation": PATH,
    "interpolation_shared": PATH,
    "sensitivity": [
        *["stop", "epoch", *METRICS, "test_confidence"],
        *["input_gradient_norm_train", "input_gradient_norm_test"],
        *["jacobian_norm_train", "jacobian_norm_test"],
    ],
    "sharpness": [
        *["approach", "stop", "epoch", *METRICS, "input_gradient_norm_test", "jacobian_norm_test"],
        *["parameter_gradient_norm", "hessian_norm", "hessian_norm_block", "residual", "epsilon"],
        *["sharpness", "sharpness_ball", "sharpness_box", "sharpness_adaptive"],
    ],
    "reparametrization": [
        *["scale", *METRICS, "max_output_change", "hessian_norm", "sharpness"],
        *["sharpness_box", "sharpness_adaptive"],
        *["input_gradient_norm_test", "jacobian_norm_test"],
    ],
}
FIGURE = {"interpolation_shared": "interpolation"}
SCRIPTS = {  # its logs, and their rows in a quick run with one seed, or the fewest and the most
    "random_labels": {"random_labels": (5 * 13, 5 * 29)},
    "param_sweep": {"param_sweep": 3},
    "interpolation": {"interpolation": 5 * 2 * 9, "interpolation_shared": 2 * 2 * 9},
    "sensitivity": {"sensitivity": 3 * 2},
    "sharpness": {"sharpness": 3 * 2, "reparametrization": 3},
}


def start(script, out, *flags):
    command = [sys.executable, HW1 / f"{script}.py", "--quick", "--dataset", "digits"]
    options = {"capture_output": True, "text": True, "cwd": out.parent}
    return subprocess.run([*command, "--out", out, *flags], check=False, **options)


def rows(out, log):
    with (out / "logs" / f"{log}_digits.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_quick_run_writes_its_columns_rows_and_finite_numbers(script, tmp_path):
    done = start(script, tmp_path / "out", "--seeds", "7", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    for log, wanted in SCRIPTS[script].items():
        table = rows(tmp_path / "out", log)
        assert list(table[0]) == COMMON + FURTHER[log]
        fewest, most = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        assert fewest <= len(table) <= most
        text = {"dataset", "model", "optimizer", "pair", "alignment", "approach", "stop"}
        for row in table:
            empty = {row["pair"]} if "pair" in row else set()
            for name in set(row) - text - empty:
                assert math.isfinite(float(row[name])), (name, row)
            assert row["dataset"] == "digits" and row["seed"] == "7"
            assert all(row[name] == "" for name in empty)
            assert 0 <= float(row["test_acc"]) <= 1
        about = json.loads((tmp_path / "out" / "logs" / f"{log}_digits.json").read_text())
        assert about["command"].startswith(f"python hw1/{script}.py")
        assert 0 < about["core_gflops"] < 10_000
        assert {"versions", "device", "threads", "git_commit", "data_digest", "seconds"} <= {*about}
        assert about["quick"] is True and len(about["fingerprint"]) == 16
        assert (tmp_path / "out" / "figures" / f"{FIGURE.get(log, log)}_digits.png").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture
def here(monkeypatch, capsys):
    """Run a script in this process, without figures; return its exit code and what it printed."""

    def main(script, *flags):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", "--no-figures", *map(str, flags)])
        try:
            code = importlib.import_module(script).main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return main


def test_every_flag_changes_something(here, tmp_path):
    base_flags = ["--quick", "--dataset", "digits", "--jobs", "1", "--out", tmp_path]
    sweep = partial(here, "param_sweep", *base_flags)
    shown = sweep("--seeds", "0")[1]
    base = rows(tmp_path, "param_sweep")
    assert "3 runs on digits: 0 finished, 3 to do, 1 at a time on cpu" in shown
    assert {row["seed"] for row in base} == {"0"} and base[0]["epoch"] == "5"
    shown = sweep("--seeds", "1", "2", "--epochs", "2")[1]
    table = rows(tmp_path, "param_sweep")
    assert "has other settings or data: it is kept as" in shown  # nothing is lost
    [earlier] = (tmp_path / "logs" / "earlier").glob("*.csv")
    with earlier.open() as file:
        assert list(csv.DictReader(file)) == base
    assert {row["seed"] for row in table} == {"1", "2"} and table[0]["epoch"] == "2"
    folder = tmp_path / "checkpoints" / "param_sweep_digits"
    before = set(folder.glob("*.state"))
    sweep("--seeds", "0", "--fresh")
    assert len(before) == 9 and len(set(folder.glob("*.state"))) == 3
    assert rows(tmp_path, "param_sweep") == base  # the same numbers from the same seed
    assert "0 finished, 3 to do" in sweep("--seeds", "0", "--train-size", "100")[1]
    assert {row["train_size"] for row in rows(tmp_path, "param_sweep")} == {"100"}
    sweep("--seeds", "0", "--train-size", "5000")
    assert {row["train_size"] for row in rows(tmp_path, "param_sweep")} == {"1000"}  # used
    code, _, error = sweep("--data-dir", tmp_path, "--dataset", "mnist")
    assert code == 2 and str(tmp_path) in error
    if not torch.cuda.is_available():
        code, _, error = sweep("--device", "cuda")
        assert code == 2 and "--device" in error
    code, _, error = sweep("--dask", "nowhere")
    assert code == 2 and "Traceback" not in error
    done = start("param_sweep", tmp_path, "--seeds", "0", "--jobs", "2", "--no-figures")
    assert "3 finished, 0 to do, 2 at a time on cpu" in done.stdout
    assert done.returncode == 0 and not (tmp_path / "figures").exists()


def test_help_shows_every_default(here):
    for script in SCRIPTS:
        text = here(script, "--help")[1]
        flags = re.findall(r"^  (--[\w-]+)(.*(?:\n {10,}.*)*)", text, re.MULTILINE)
        assert {flag for flag, _ in flags} >= {
            *["--dataset", "--data-dir", "--seeds", "--epochs", "--device", "--jobs", "--out"],
            *["--quick", "--fresh"],
        }
        for flag, about in flags:
            assert "default" in about or flag in ("--help", "--dask"), flag


def test_interpolation_ends_at_the_models_and_alpha_never_compounds():
    x, y = data.load("digits")[2:]
    base = train.SETTING | {"dataset": "digits", "model": "mlp-64-16-10"}
    first, second = (train.network(base | {"seed": seed}) for seed in (0, 1))
    before = [p.clone() for model in (first, second) for p in model.parameters()]
    for _ in range(2):  # a second walk along the line sees the same models
        assert train.evaluate(line.interpolate(first, second, 0.0), x, y) == train.evaluate(
            first, x, y
        )
        assert train.evaluate(line.interpolate(first, second, 1.0), x, y) == train.evaluate(
            second, x, y
        )
        middle = line.interpolate(first, second, 0.25)
        for p, q, r in zip(
            middle.parameters(), first.parameters(), second.parameters(), strict=True
        ):
            assert torch.allclose(p, 0.75 * q + 0.25 * r)
    after = [p for model in (first, second) for p in model.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


class Squares(nn.Sequential):
    def forward(self, x):
        return super().forward(x) ** 2


class Own(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def changed(part, change):
    """Return a function that applies `change` to a part of the network and returns the network."""
    return lambda net: change(part(net)) and net


def hook(part):
    return changed(part, lambda m: m.register_forward_hook(lambda _, inputs, out: out.sin()))


WAYS = {  # what is done to an MLP of two hidden layers
    "plain": lambda net: net,
    "parametrised": changed(lambda net: net[1], nn.utils.parametrizations.weight_norm),
    "by a hook": changed(lambda net: net[1], nn.utils.spectral_norm),
    "own module": Own,
    "subclass": lambda net: Squares(*net),
    "other flatten": lambda net: nn.Sequential(nn.Flatten(2), net[1], nn.Flatten(), *net[2:]),
    "hook": hook(lambda net: net),
    "hook of the first layer": hook(lambda net: net[1]),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_of_a_path_equal_direct_evaluation(way):
    """Mixing the first layer's outputs is mixing its weights; at 0 and 1, the two models.

    That is so in a plain MLP alone: elsewhere the whole line was wrong, or there was none.
    """
    tensors = data.load("digits")
    base = train.SETTING | {"dataset": "digits", "model": "mlp-64-32-16-10"}
    first, second = (WAYS[way](train.network(base | {"seed": seed})) for seed in (0, 1))
    path = dict(line.along(first, second, [-1.0, 0.0, 0.3, 1.0, 2.0], *tensors))
    direct = {a: line.interpolate(first, second, a) for a in path} | {0: first, 1: second}
    for alpha, found in path.items():
        assert found == pytest.approx(train.metrics(direct[alpha], *tensors), rel=1e-6)


def test_a_path_mixes_no_whole_split_at_once(monkeypatch):
    """Whole mixtures took the script with two jobs over 1.5 GB."""
    tensors = [tensor.repeat_interleave(4, 0) for tensor in data.load("digits")]
    base = train.SETTING | {"dataset": "digits", "model": "mlp-64-32-16-10"}
    first, second = (train.network(base | {"seed": seed}) for seed in (0, 1))
    sizes, lerp = [], torch.lerp
    monkeypatch.setattr(torch, "lerp", lambda *a: sizes.append(len(a[0])) or lerp(*a))
    assert len(list(line.along(first, second, [0.0, 0.5, 1.0], *tensors))) == 3
    assert sum(sizes) == 3 * (len(tensors[0]) + len(tensors[2])) and max(sizes) <= 2048


def test_interpolation_includes_buffers():
    first, second = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    first[1].running_mean += 4.0
    second(torch.randn(64, 2))
    middle = line.interpolate(first, second, 0.5)
    wanted = (first[1].running_mean + second[1].running_mean) / 2
    assert torch.allclose(middle[1].running_mean, wanted)


def test_interpolation_includes_complex_parameters():
    first, second = (nn.Linear(2, 3, dtype=torch.cfloat) for _ in range(2))
    middle = line.interpolate(first, second, 0.25)
    assert torch.allclose(middle.weight, 0.75 * first.weight + 0.25 * second.weight)


@pytest.mark.parametrize(("parts", "size"), [(20, 41), (10, 21), (4, 9)])
def test_alphas_hold_all_ends_exactly_and_are_finer_where_a_barrier_lies(parts, size):
    alphas = np.array(interpolation.grid(parts))
    assert len(alphas) == size and alphas[0] == -1 and alphas[-1] == 2 and {0, 1} <= {*alphas}
    inside = (alphas[1:] <= 1) & (alphas[:-1] >= 0)
    assert np.diff(alphas) == pytest.approx(np.where(inside, 1 / parts, 2 / parts))


def test_a_line_is_measured_once_if_matching_leaves_every_unit_at_its_place(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        interpolation, "along", lambda *a: drawn.append(1) or ((alpha, {}) for alpha in a[2])
    )
    tensors = [tensor[:50] for tensor in data.load("digits")]
    run = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-8-10", "epochs": 1}
    one, two = train.network(run).state_dict(), train.network(run | {"seed": 1}).state_dict()
    task = {"pair": "lr", "alphas": [0.0, 1.0], "runs": [run, run]}
    for second, lines in ((one, 1), (two, 2)):
        states = [{"stops": {"epochs": {"weights": weights}}} for weights in (one, second)]
        table = interpolation.measure(task, states, tensors)
        assert [row["alignment"] for row in table] == ["none"] * 2 + ["weight_matching"] * 2
        assert [row["alpha"] for row in table] == [0.0, 1.0] * 2 and len(drawn) == lines
        drawn.clear()


def test_a_diverged_model_gives_a_row_of_nan_in_both_logs_of_sharpness():
    tensors = [tensor[:50] for tensor in data.load("digits")]
    model = models.mlp([64, 8, 8, 10])
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    weights = dict(model.state_dict())
    setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-8-10", "epochs": 1}
    state = {"stops": {"epochs": {"epoch": 1, "weights": weights}}}
    task = {"runs": [setting], "approach": "lr=1", "scales": [2.0], "epsilons": [1e-4, 1e-3]}
    told = {*COMMON, "approach", "stop", "epoch", "epsilon", "scale"}
    for log, wanted in (("sharpness", 2), ("reparametrization", 1)):
        table = sharpness.measure(task | {"log": log}, [state], tensors)
        assert len(table) == wanted and all({*row} == {*COMMON, *FURTHER[log]} for row in table)
        assert all(math.isnan(v) for row in table for name, v in row.items() if name not in told)


def test_between_two_models_of_one_approach_lies_a_control(here, tmp_path):
    flags = ["--quick", "--dataset", "digits", "--jobs", "1", "--seeds", "3", "--epochs", "1"]
    assert here("interpolation", *flags, "--out", tmp_path)[0] == 0
    ends = lambda log: {
        tuple(row[c] for c in ("pair", "setting_1", "setting_2")) for row in rows(tmp_path, log)
    }
    pairs = {("batch_size", "64", "1024"), ("lr", "0.001", "0.01")}
    controls = {("batch_size", "64", "64"), ("batch_size", "1024", "1024"), ("lr", "0.01", "0.01")}
    assert ends("interpolation") == pairs | controls  # rate 1e-3 twice is batch size 1024 twice
    assert ends("interpolation_shared") == pairs
    first, second = (
        runs.load("interpolation", out=tmp_path, seed=seed, batch_size=64) for seed in (3, 1003)
    )
    one, two = (torch.cat([*map(torch.flatten, m.state_dict().values())]) for m in (first, second))
    for row in rows(tmp_path, "interpolation"):
        if row["setting_2"] == "64":
            assert float(row["weight_norm_1"]) == pytest.approx(float(one.norm()), rel=1e-5)
            assert float(row["weight_norm_2"]) == pytest.approx(float(two.norm()), rel=1e-5)
            matched = row["alignment"] != "none"
            distance = float((one - two).norm())
            assert matched or float(row["distance"]) == pytest.approx(distance, rel=1e-5)
            assert not matched or 0 < float(row["distance"]) < distance


def test_confidence_is_the_mean_of_the_largest_probability():
    x = data.load("digits")[2]
    model = models.mlp([64, 8, 10])
    wanted = [max(row) for row in model(x).softmax(1).tolist()]
    assert sensitivity.confidence(model, x) == pytest.approx(sum(wanted) / len(wanted), rel=1e-6)


def test_cifar10_has_two_sizes_and_two_networks(monkeypatch):
    """What the scripts would run on CIFAR-10, without running it."""
    found = {}
    monkeypatch.setattr(runs, "run", lambda args, columns, tasks, *_: found.update(tasks=tasks))
    for script in ("param_sweep", "sensitivity"):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", "--dataset", "cifar10"])
        importlib.import_module(script).main()
        settings_of = [task["runs"][0] for task in found["tasks"]]
        if script == "param_sweep":
            sizes = {
                n: {s["model"] for s in settings_of if s["train_size"] == n} for n in (4000, 50000)
            }
            assert len(sizes[50000]) == 11 and sizes[4000] - sizes[50000] == {"cnn-64", "cnn-96"}
        else:
            kinds = {s["model"] for s in settings_of}
            assert kinds == {"mlp-3072-128-128-10", "cnn-16"} and len(settings_of) == 2 * 8 * 3


def test_a_network_is_built_once_for_its_checks_and_rows(monkeypatch):
    """Each of a hundred settings built it three times before the first run."""
    built, network = [], train.network
    monkeypatch.setattr(train, "network", lambda setting: built.append(1) or network(setting))
    settings.n_params.cache_clear()
    for seed in range(3):
        setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-10", "epochs": 1}
        settings.check_setting(setting | {"seed": seed})
        assert settings.common(setting)["n_params"] == 64 * 8 + 8 + 8 * 10 + 10
    assert len(built) == 1


@pytest.mark.parametrize("length", range(1, 15))
def test_a_quick_run_takes_the_first_the_middle_and_the_last_value(length):
    grid = list(range(length))
    few = settings.thin(SimpleNamespace(quick=True), grid)
    assert few == (grid if length < 4 else [0, length // 2, length - 1])
    assert settings.thin(SimpleNamespace(quick=False), grid) == grid


def test_importing_a_script_does_nothing(tmp_path):
    code = "import random_labels, param_sweep, interpolation, sensitivity, sharpness, plot_all"
    options = {"cwd": tmp_path, "capture_output": True, "text": True}
    environment = os.environ | {"PYTHONPATH": str(HW1)}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, **options)
    assert not done.stdout and not list(tmp_path.iterdir())


def test_a_finished_run_is_loaded_by_its_setting(here, tmp_path):
    flags = ["--quick", "--dataset", "digits", "--jobs", "1", "--out", tmp_path]
    here("random_labels", *flags, "--seeds", "0", "1", "--epochs", "1")
    table = rows(tmp_path, "random_labels")
    raw = files.arrays("digits")
    few = {key: value[: settings.QUICK[key[2:]]] for key, value in raw.items()}
    _, _, x_test, y_test = data.standardise(few)  # as --quick does
    for corruption, seed in ((0.0, 0), (1.0, 1)):
        wanted = {"dataset": "digits", "label_corruption": corruption, "seed": seed}
        model = runs.load("random_labels", out=tmp_path, **wanted)
        [row] = [
            row
            for row in table
            if (float(row["label_corruption"]), int(row["seed"])) == (corruption, seed)
            and row["epoch"] == "1"
        ]
        loss, accuracy = train.evaluate(model, x_test, y_test)
        assert loss == pytest.approx(float(row["test_loss"]), rel=1e-6)
        assert accuracy == pytest.approx(float(row["test_acc"])) and not model.training
    with pytest.raises(ValueError, match="2 finished runs of random_labels.*there are seed 0, 1$"):
        runs.load("random_labels", out=tmp_path, label_corruption=0.5)
    with pytest.raises(
        ValueError, match="0 finished .*there are seed 0, 1; label_corruption .*0.25"
    ):
        runs.load("random_labels", out=tmp_path, seed=7)
    with pytest.raises(ValueError, match=r"0 finished runs.*run random_labels.py first"):
        runs.load("random_labels", out=tmp_path / "elsewhere", seed=0)
    wanted = {"label_corruption": 0.0, "seed": 0}
    with pytest.raises(ValueError, match="no network at 'train_loss': it has epochs$"):
        runs.load("random_labels", out=tmp_path, stop="train_loss", **wanted)


def test_a_stop_that_was_never_reached_is_not_loaded(tmp_path):
    """Its weights are nan, and so would be all that is measured on them."""
    setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-10", "epochs": 1}
    setting |= {"target": 1e-9, "max_epochs": 1}
    (folder := tmp_path / "checkpoints" / "sensitivity_digits").mkdir(parents=True)
    few = [tensor[:100] for tensor in data.load("digits")]
    train.train(setting, few, folder / "a.state")
    assert runs.load("sensitivity", out=tmp_path, seed=0)
    with pytest.raises(ValueError, match="no network at 'train_loss': it has epochs$"):
        runs.load("sensitivity", out=tmp_path, stop="train_loss", seed=0)
    steep = setting | {"optimizer": "sgd", "lr": 1e30, "batch_size": 10, "seed": 1}
    train.train(steep | {"target": None, "max_epochs": None}, few, folder / "b.state")
    with pytest.raises(ValueError, match="no network at 'epochs': it has none$"):
        runs.load("sensitivity", out=tmp_path, seed=1)


PAIRS = {  # a pair of interpolation.py: what it says, or "" if it works
    "optimizer": (("sgd", "adam"), {}, ""),
    "weight_decay": ((0.0, 0.1), {"optimizer": "adamw"}, ""),
    "dropout": ((0.0, 0.2), {}, ""),
    "label_corruption": ((0.0, 0.5), {}, ""),
    "batch_size": ((32, 256), {"model": "cnn-2"}, ""),
    "model": (
        ("mlp-64-8-10", "mlp-64-16-10"),
        {},
        "the units of mlp-64-8-10 and mlp-64-16-10 cannot be",
    ),
    "colour": (("red", "blue"), {}, "setting 'colour' is unknown"),
    "dataset": (("digits", "mnist"), {}, "started for digits, but a setting names mnist"),
    "seed": ((0, 5), {}, "there can be no line for the pair seed"),
    "train_size": ((500, 200), {}, "there can be no line for the pair train_size"),
    "log_growth": ((None, 0.5), {}, "there can be no line for the pair log_growth"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_any_setting_may_be_a_pair_and_what_cannot_work_is_refused_at_once(
    pair, here, tmp_path, monkeypatch
):
    """All was trained and measured, and then came a traceback of the CSV writer.

    A pair of data sets had twice the rows of one of them; one of seeds or with None lacked a line.
    """
    values, shared, message = PAIRS[pair]
    monkeypatch.setattr(interpolation, "PAIRS", {pair: (values, shared)})
    flags = ["--dataset", "digits", "--quick", "--jobs", "1", "--seeds", "0", "--epochs", "1"]
    code, _, error = here("interpolation", *flags, "--out", tmp_path)
    assert code == (2 if message else 0)
    if message:
        assert message in error and error.count("\n") == 1
        assert not list(tmp_path.rglob("*.state"))
    else:
        table = rows(tmp_path, "interpolation")
        assert {row["setting_2"] for row in table} == {
            f"{v:g}" if v in (0, 0.0) else str(v) for v in values
        }
        assert all(row.get(pair, "") == "" for row in table)


SLIPS = {  # a script and a name at its top: a value that no settings can be made from
    "three values": (interpolation, "PAIRS", {"lr": ((1e-4, 1e-3, 1e-2), {})}, "too many values"),
    "no dictionary": (interpolation, "PAIRS", {"lr": ((1e-3, 1e-2), None)}, "TypeError"),
    "no pair": (interpolation, "PAIRS", {"lr": (1e-3, 1e-2)}, "TypeError"),
    "a data set is missing": (sensitivity, "HIDDEN", {"mnist": (128, 128)}, "KeyError: 'digits'"),
    "a list": (interpolation, "PAIRS", [{"lr": (1e-3, 1e-2)}], "AttributeError"),
    "no comma": (param_sweep, "MLP_WIDTHS", (64), "TypeError: 'int' object is not iterable"),
    "epochs of no data set": (param_sweep, "EPOCHS", 20, "TypeError"),
    "a size of no data set": (param_sweep, "TRAIN_SIZE", 4000, "AttributeError"),
    "one radius without comma": (sharpness, "EPSILONS", (5e-4), "TypeError"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_lists_of_a_script_is_one_sentence(slip, tmp_path, monkeypatch, capsys):
    """Each was a traceback. The sentence has the line of the script, where the lists are used."""
    script, name, value, message = SLIPS[slip]
    monkeypatch.setattr(script, name, value)
    words = ["--dataset", "digits", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *words])
    assert runs.start(script.main) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{script.__name__}.py: error in line ") and error.count("\n") == 1
    assert message in error and "at the top of the file?" in error


WRONG = {  # values that only the measures use, which are noticed before anything is trained
    "no probe": (sensitivity, "PROBE", {"digits": "10_000"}, "PROBE must be a positive integer"),
    "a scale of 0": (sharpness, "SCALES", (0.0, 1.0), "SCALES must be a list of positive numbers"),
    "no scale of 1": (sharpness, "SCALES", (0.5, 2.0), "SCALES must hold 1.0"),
    "a scale twice": (sharpness, "SCALES", (1.0, 1, 2.0), "SCALES has a number twice"),
    "no list": (sharpness, "SCALES", (10.0), "SCALES must be a list of positive numbers, not 10.0"),
    "an array": (sharpness, "SCALES", np.ones(2), "SCALES must be a list of positive numbers"),
    "no comma": (sharpness, "EPSILONS", (5e-4), "EPSILONS must be a list of positive numbers"),
    "no radius": (sharpness, "EPSILONS", (), "EPSILONS must be a list of positive numbers"),
    "one layer": (sharpness, "HIDDEN", {"digits": ()}, "rescaled: rescale needs a model of two"),
    "a value twice": (sensitivity, "BATCH_SIZES", {"digits": (8, 8, 16)}, "is a value in a list"),
    "an equal value": (random_labels, "CORRUPTION", (1, 1.0, 0.0), "is a value in a list twice?"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_measured_is_refused_at_once(what, here, tmp_path, monkeypatch):
    """It failed after all training; a value that stood twice counted twice."""
    script, name, value, message = WRONG[what]
    monkeypatch.setattr(script, name, value)
    flags = ["--dataset", "digits", "--seeds", "0", "--epochs", "1", "--jobs", "1"]
    code, _, error = here(script.__name__, *flags, "--out", tmp_path)
    assert code == 2 and message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.state"))


def test_one_radius_is_enough(here, tmp_path, monkeypatch):
    """The second one was wanted for the rescaled networks, after half an hour of training."""
    monkeypatch.setattr(sharpness, "EPSILONS", (2e-4,))
    flags = ["--dataset", "digits", "--quick", "--seeds", "0", "--epochs", "1", "--jobs", "1"]
    assert here("sharpness", *flags, "--out", tmp_path)[0] == 0
    assert {row["epsilon"] for row in rows(tmp_path, "sharpness")} == {"0.0002"}
    assert sharpness.middle((1e-4, 5e-4, 1e-3)) == (5e-4,)


def test_a_quick_run_has_the_scale_that_the_others_are_compared_with(here, tmp_path, monkeypatch):
    """With a scale more in front it had not, and the figure could not be drawn."""
    monkeypatch.setattr(sharpness, "SCALES", (np.float64(0.05), *sharpness.SCALES))
    flags = ["--dataset", "digits", "--quick", "--seeds", "0", "--epochs", "1", "--jobs", "1"]
    assert here("sharpness", *flags, "--out", tmp_path)[0] == 0
    scales = [float(row["scale"]) for row in rows(tmp_path, "reparametrization")]
    assert 0.05 in scales and 1.0 in scales


def test_sizes_that_quick_makes_equal_are_one_run():
    args = SimpleNamespace(quick=True, dataset="digits", epochs=1)
    run = partial(settings.setting, args, model="mlp-64-8-10")
    tasks = [{"log": "random_labels", "runs": [run(train_size=n)]} for n in (1000, 1200)]
    columns = {"random_labels": random_labels.COLUMNS}
    checked = partial(runs._checked, columns=columns, measure=random_labels.measure, check=None)
    assert checked(args, tasks=tasks) == tasks[:1]
    args.quick = False
    with pytest.raises(settings.SettingError, match="measured twice"):
        checked(args, tasks=tasks)


def test_a_data_set_that_is_unknown_or_missing_is_named(tmp_path, monkeypatch, capsys):
    args = SimpleNamespace(quick=False, dataset="digits", epochs=1)
    right = settings.setting(args, model="mlp-64-8-10")
    wrong = {"dataset must be one of": right | {"dataset": "MNIST"}}
    wrong["'dataset' is missing"] = {k: v for k, v in right.items() if k != "dataset"}
    for message, setting in wrong.items():
        tasks = [{"log": "random_labels", "runs": [setting]}]
        with pytest.raises(settings.SettingError, match=message):
            runs._checked(args, {"random_labels": ()}, tasks, random_labels.measure, None)
    monkeypatch.setattr(random_labels, "EPOCHS", {"letters": 1, "mnist": 1})
    monkeypatch.setattr(random_labels, "BATCH_SIZE", {"letters": 1, "mnist": 1})
    words = ["random_labels.py", "--dataset", "letters", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert runs.start(random_labels.main) == 2
    assert "letters has no entry in DATASETS of lab/files.py" in capsys.readouterr().err


def test_a_network_whose_units_cannot_be_matched_is_refused_at_once(here, tmp_path, monkeypatch):
    """All was trained before that was noticed."""
    interpolation.unmatchable.cache_clear()
    monkeypatch.setattr(models, "mlp", lambda *a: with_more(MLP(*a), nn.BatchNorm1d(10)))
    flags = ["--dataset", "digits", "--quick", "--seeds", "0", "--epochs", "1", "--jobs", "1"]
    code, _, error = here("interpolation", *flags, "--out", tmp_path)
    interpolation.unmatchable.cache_clear()
    assert code == 2 and "the units of mlp-64-256-256-256-10 cannot be matched" in error
    assert not list(tmp_path.rglob("*.state"))


def with_more(model, layer):
    model.append(layer)
    return model


MLP = models.mlp


def test_an_error_of_the_engine_is_not_called_a_slip():
    def main():
        runs.run(None, {}, [], random_labels.measure)

    with pytest.raises(AttributeError):
        runs.start(main)


MISUSES = {  # what is wrong with COLUMNS, the tasks or the measure: what is said of it
    "a column too many": "its rows and COLUMNS differ in extra",
    "no rows": "measure must return a list of dicts",
    "an empty list": "measure must return a list of dicts",
    "no task": "needs a task: is a list empty?",
    "no runs": "a task for random_labels names no runs",
    "a name twice": "random_labels has a column twice: epoch, seed",
    "an exit": "measuring dataset=digits, model=mlp-64-8-10, epochs=1, train_size=1000,",
    "a vector": "a number or a text in each column; not so in epoch",
    "a lambda": "measure must be a function at the top level",
    "a tensor": "a task may hold plain values only",
}


def no_rows(task, states, tensors):
    return None


def ends(task, states, tensors):
    sys.exit("of the script")


def empty_list(task, states, tensors):
    return []


def a_vector(task, states, tensors):
    measured = random_labels.measure(task, states, tensors)
    return [row | {"epoch": np.ones(2)} for row in measured]


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_mistake_in_an_experiment_is_one_sentence(misuse, tmp_path, monkeypatch, capsys):
    words = ["--dataset", "digits", "--quick", "--jobs", "1", "--seeds", "0", "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["random_labels.py", *map(str, words)])
    args = flags.arguments("", "digits", {"digits": 1}, 1)
    run = settings.setting(args, model="mlp-64-8-10")
    columns = {"random_labels": random_labels.COLUMNS + ("extra",) * (misuse[:5] == "a col")}
    columns["random_labels"] += ("epoch", "seed") * (misuse == "a name twice")
    task = {"log": "random_labels", "runs": [run] * (misuse != "no runs")}
    task |= {"x": torch.ones(1)} if misuse == "a tensor" else {}
    measures = {"no rows": no_rows, "an empty list": empty_list, "an exit": ends}
    measures |= {"a vector": a_vector}
    measures |= {"a lambda": lambda *_: []}
    measure = measures.get(misuse, random_labels.measure)
    code = runs.run(args, columns, [task] * (misuse != "no task"), measure)
    error = capsys.readouterr().err
    assert code == (1 if misuse in {"a column too many", *measures} - {"a lambda"} else 2)
    assert MISUSES[misuse] in error and "Traceback" not in error
    assert not list((tmp_path / "logs").glob("*.csv"))


def test_the_cnns_span_a_factor_of_a_thousand_in_parameters():
    sizes = [
        models.count_params(models.build(f"cnn-{w}", channels=3)) for w in param_sweep.CNN_WIDTHS
    ]
    assert len(sizes) >= 11 and max(sizes) / min(sizes) > 1000
