"""plot_all.py: made-up logs in, figures and tables out, whatever surrounds the program."""

import csv
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from lab import figure, tables

import made_up
import numpy as np
import pytest
from scipy.stats import kendalltau

import plot_all

SCRIPT = Path(plot_all.__file__)
BOTH = ("png", "pdf")


def plot(folder, *flags, **options):
    command = [sys.executable, SCRIPT, "--out", folder, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return {path.name for path in (folder / "figures").iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every MNIST figure, and some of other data sets, from one run of the script."""
    folder = tmp_path_factory.mktemp("drawn")
    made_up.make(folder, "mnist")
    made_up.make(folder, "fashion_mnist", ["interpolation_shared", "reparametrization"])
    return folder, plot(folder)


def test_every_log_has_its_figures_and_each_is_named(drawn):
    folder, result = drawn
    assert result.returncode == 0 and result.stderr == ""
    logs = ("random_labels", "param_sweep", "interpolation", "sensitivity", "sharpness")
    figures = {f"{name}_mnist" for name in (*logs, "reparametrization", "predictors")}
    figures |= {"interpolation_fashion_mnist", "reparametrization_fashion_mnist"}
    tables = {"barriers_mnist.csv", "barriers_fashion_mnist.csv", "predictors_mnist.csv"}
    assert names(folder) == tables | {f"{name}.{kind}" for name in figures for kind in BOTH}
    lines = {f"plot_all: wrote {folder}/figures/{name}.png and .pdf" for name in figures}
    lines |= {f"plot_all: wrote {folder}/figures/{name}" for name in tables}
    assert set(result.stdout.splitlines()) == lines


def test_same_csv_same_bytes_and_silence_about_what_nobody_ran(drawn, tmp_path):
    made_up.make(tmp_path, "fashion_mnist", ["interpolation_shared"])
    result = plot(tmp_path, "--dataset", "fashion_mnist")
    assert result.returncode == 0 and result.stderr == ""
    files = list((tmp_path / "figures").iterdir())
    assert len(files) == 3
    for path in files:
        assert path.read_bytes() == (drawn[0] / "figures" / path.name).read_bytes()


RC = """text.usetex: True
font.family: cursive
mathtext.fontset: cm
axes.facecolor: red
axes.prop_cycle: cycler("color", ["red", "green"])
lines.dashed_pattern: 9, 9
savefig.dpi: 40
savefig.bbox: tight
figure.facecolor: yellow
backend: module://nowhere
"""
SURROUNDINGS = {
    "notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "unknown backend": {"MPLBACKEND": "nonsense"},
    "backend with windows": {"MPLBACKEND": "QtAgg"},
    "matplotlibrc here": {},
    "matplotlibrc elsewhere": {"MATPLOTLIBRC": "mine"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_surroundings_change_no_byte(drawn, tmp_path, name):
    made_up.make(tmp_path, "mnist", ["reparametrization"])
    if name.startswith("matplotlibrc"):
        (tmp_path / SURROUNDINGS[name].get("MATPLOTLIBRC", "matplotlibrc")).write_text(RC)
    result = plot(tmp_path, cwd=tmp_path, env=os.environ | SURROUNDINGS[name])
    assert result.returncode == 0 and result.stderr == ""
    for kind in BOTH:
        file = f"figures/reparametrization_mnist.{kind}"
        assert (tmp_path / file).read_bytes() == (drawn[0] / file).read_bytes()


def test_a_caller_keeps_its_own_settings(tmp_path):
    made_up.make(tmp_path, "mnist", ["reparametrization"])
    with figure.matplotlib.rc_context({"font.size": 33}):
        paths, _ = plot_all.draw(tmp_path, "mnist")
        assert figure.matplotlib.rcParams["font.size"] == 33
    assert [p.name for p in paths] == [f"reparametrization_mnist.{kind}" for kind in BOTH]
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("script", "figures"),
    [
        ("sensitivity", {"sensitivity", "predictors"}),
        ("sharpness", {"sharpness", "reparametrization", "predictors"}),
        ("interpolation", {"interpolation"}),
    ],
)
def test_only_the_figures_of_a_script(drawn, tmp_path, monkeypatch, script, figures):
    (tmp_path / "logs").symlink_to(drawn[0] / "logs")
    monkeypatch.setattr(figure, "write", lambda path, fill: path.touch())
    paths, _ = plot_all.draw(tmp_path, "mnist", [script])
    assert {path.stem for path in paths if path.suffix == ".png"} == {f"{f}_mnist" for f in figures}
    assert {path.name for path in paths} == names(tmp_path)


def test_a_data_set_without_a_name_is_refused(drawn):
    """All data sets were drawn."""
    result = plot(drawn[0], "--dataset", "")
    assert result.returncode == 2 and "argument --dataset: the name is empty" in result.stderr


def test_nothing_to_draw_is_one_sentence_with_the_command(tmp_path):
    made_up.make(tmp_path, "mnist", ["reparametrization"])
    commands = {
        "bash hw1/run_all.sh --dataset cifar10": ["--dataset", "cifar10"],
        "python hw1/sensitivity.py": ["--only", "sensitivity"],
        "python hw1/bench/benchmark.py": ["--only", "benchmark"],
    }
    for command, flags in commands.items():
        result = plot(tmp_path, *flags)
        assert result.returncode == 2 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert f"`{command} --out {tmp_path}` makes it" in result.stderr
    assert "there are logs of mnist" in plot(tmp_path, "--dataset", "mnst").stderr
    result = plot(tmp_path, "--only", "benchmark", "--dataset", "mnist")
    assert f"`python hw1/bench/benchmark.py --out {tmp_path}` makes it" in result.stderr


def test_a_tilde_is_the_home_folder(tmp_path):
    made_up.make(tmp_path / "runs", "mnist", ["reparametrization"])
    command = [sys.executable, SCRIPT, "--out=~/runs"]
    subprocess.run(command, env=os.environ | {"HOME": str(tmp_path)}, cwd=tmp_path, check=True)
    assert names(tmp_path / "runs") == {f"reparametrization_mnist.{kind}" for kind in BOTH}


def test_a_full_or_closed_output_is_no_traceback(tmp_path):
    made_up.make(tmp_path, "mnist", ["reparametrization"])
    command = [sys.executable, SCRIPT, "--out", tmp_path]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, open(writer, "wb") as closed:
        for output in (full, closed):
            options = {"stdout": output, "stderr": subprocess.PIPE, "text": True}
            result = subprocess.run(command, check=False, **options)
            assert result.returncode == 1 and result.stderr.count("\n") == 1
            assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    assert len(names(tmp_path)) == 2


def drop_a_column(path):
    path.write_text(path.read_text().replace(",stop,", ",halt,"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_a_column, "it has no column stop"),
        (lambda path: path.write_text(""), "no rows"),
        (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), "no rows"),
        (lambda path: path.write_text(path.read_text()[:-80]), "columns"),
        (lambda path: path.with_suffix(".json").write_text("{"), "json is damaged"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "json is damaged"),
        (lambda path: path.with_suffix(".json").write_text("[" * 9**5), "json is damaged"),
        (lambda path: path.write_text(f"seed\n{'1' * 200_000}\n"), "field larger than"),
        (lambda path: path.write_text(path.read_text(), "utf-16"), "not text in UTF-8"),
        (lambda path: path.write_text(path.read_text().replace(",", ";")), "by semicolons"),
        (lambda path: path.write_text(path.read_text().replace(",", "\t")), "by tabs"),
        (lambda path: path.write_text(path.read_text().replace("\n", ",\n")), "name of a column"),
        (lambda path: path.write_text("seed,seed\n1,2\n"), "it has a column twice: seed"),
    ],
    ids=[
        "column",
        "empty",
        "header",
        "cut",
        "json",
        "list",
        "deep",
        "long",
        "utf-16",
        ";",
        "tabs",
        "no name",
        "twice",
    ],
)
def test_a_damaged_log_is_one_sentence(monkeypatch, capsys, tmp_path, damage, says):
    made_up.make(tmp_path, "mnist", ["sensitivity"])
    damage(tmp_path / "logs" / "sensitivity_mnist.csv")
    monkeypatch.setattr(sys, "argv", ["plot_all", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        plot_all.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "sensitivity_mnist.csv" in error and says in error and ".." not in error


def test_a_log_that_a_spreadsheet_has_saved_is_read(tmp_path):
    made_up.make(tmp_path, "mnist", ["sensitivity"])
    path = tmp_path / "logs" / "sensitivity_mnist.csv"
    before = tables.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b",,,,\r\n\r\n")
    assert np.array_equal(tables.read(path), before)


def test_a_damaged_log_does_not_stop_the_other_figures(tmp_path):
    made_up.make(tmp_path, "mnist", ["random_labels", "reparametrization"])
    (tmp_path / "logs" / "random_labels_mnist.csv").write_text("")
    result = plot(tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert names(tmp_path) == {f"reparametrization_mnist.{kind}" for kind in BOTH}
    assert "reparametrization_mnist.png and .pdf" in result.stdout


def test_only_the_damaged_one_of_two_logs_of_a_figure_is_named(tmp_path):
    made_up.make(tmp_path, "mnist", ["sensitivity", "sharpness"])
    (tmp_path / "logs" / "sensitivity_mnist.csv").write_text("")
    result = plot(tmp_path)
    assert result.returncode == 2 and "sharpness_mnist.csv" not in result.stderr
    assert result.stderr.count("sensitivity_mnist.csv cannot be drawn: it has no rows") == 1


def test_the_benchmark_belongs_to_no_data_set(tmp_path):
    (tmp_path / "logs").mkdir()
    for kind in ("csv", "json"):
        shutil.copy(SCRIPT.parent / "logs" / f"benchmark.{kind}", tmp_path / "logs")
    result = plot(tmp_path, "--only", "benchmark", "--dataset", "mnist")
    assert result.returncode == 0 and names(tmp_path) == {f"benchmark.{kind}" for kind in BOTH}


def test_a_second_benchmark_is_drawn_once(tmp_path):
    """Each process started the next one, without end."""
    (tmp_path / "logs").mkdir()
    for name, kind in itertools.product(("benchmark", "benchmark_gpu"), ("csv", "json")):
        path = SCRIPT.parent / "logs" / f"benchmark.{kind}"
        shutil.copy(path, tmp_path / "logs" / f"{name}.{kind}")
    result = plot(tmp_path, "--only", "benchmark", timeout=100)
    assert result.returncode == 0 and result.stdout.count("benchmark_gpu.png") == 1
    result = plot(tmp_path, "--only", "benchmark", "--dataset", "gpu")
    assert result.returncode == 0 and "benchmark_gpu.png" in result.stdout


def test_a_process_that_is_killed_is_told(monkeypatch, tmp_path):
    """The exit code was 0, and the figures of one data set were missing."""
    for dataset in ("cifar10", "mnist"):
        made_up.make(tmp_path, dataset, ["sensitivity"])
    killed = SimpleNamespace(wait=lambda: -9)
    monkeypatch.setattr(subprocess, "Popen", lambda *_: killed)
    monkeypatch.setattr(sys, "argv", ["plot_all", "--out", str(tmp_path)])
    assert plot_all.main() > 0


@pytest.mark.parametrize("script", ["plot_all.py", "check.py", "report/build.py"])
def test_an_abbreviated_flag_is_refused(script):
    command = [sys.executable, SCRIPT.parent / script, "--ou", "somewhere", "--hel"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("usage: ") == 1


@pytest.mark.parametrize("script", ["plot_all.py", "check.py", "report/build.py"])
def test_help_needs_no_docstrings(script):
    """With PYTHONOPTIMIZE=2 they are not there, and every experiment ends with plot_all.py."""
    command = [sys.executable, "-OO", SCRIPT.parent / script, "--help"]
    subprocess.run(command, check=True, capture_output=True)


def test_needs_neither_torch_nor_another_room():
    code = "import sys, plot_all; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parent, check=True)
    rooms = {"torch", "data", "models", "train", "measures", "random_labels", "param_sweep"}
    assert not rooms & set(result.stdout.split())


def test_barrier_table(drawn):
    rows = table(drawn[0] / "figures" / "barriers_mnist.csv")
    assert len(rows) == (2 + 2 + 3) * 2 * 3  # pairs of each log and controls, alignments, seeds
    log = table(drawn[0] / "logs" / "interpolation_shared_mnist.csv")
    one = {"pair": "lr", "alignment": "none", "seed": "2"}
    path = {float(r["alpha"]): float(r["test_loss"]) for r in log if one.items() <= r.items()}
    ends = path[0.0], path[1.0]
    expected = max(v - (1 - a) * ends[0] - a * ends[1] for a, v in path.items() if 0 <= a <= 1)
    (row,) = [r for r in rows if (one | {"initialisation": "shared"}).items() <= r.items()]
    assert float(row["test_barrier"]) == pytest.approx(expected)
    assert (row["setting_1"], row["setting_2"]) == ("0.001", "0.01")


def test_barrier_table_of_controls(drawn):
    """The bump of a made-up path is known: its height is the barrier in train loss."""
    rows = table(drawn[0] / "figures" / "barriers_mnist.csv")
    settings = [(r["pair"], r["setting_1"], r["setting_2"]) for r in rows if r["seed"] == "0"]
    assert settings.count(("batch_size", "1024", "1024")) == 2  # alignments
    assert settings.count(("batch_size", "64", "1024")) == 4  # and initialisations
    log = table(drawn[0] / "logs" / "interpolation_mnist.csv")
    control = {"setting_1": "64", "setting_2": "64", "seed": "1"}
    height = {}
    for row in (r for r in log if control.items() <= r.items() and r["alpha"] == "0.5"):
        height[row["alignment"]] = float(row["train_loss"]) - 0.02
    found = [r for r in rows if control.items() <= r.items()]
    assert len(found) == 2
    for row in found:
        barrier, removed = (float(row[f"train_{name}"]) for name in ("barrier", "removed"))
        assert barrier == pytest.approx(height[row["alignment"]])
        assert removed == pytest.approx(1 - barrier / height["none"])
        distance = {"none": 32.1, "weight_matching": 24.1}[row["alignment"]]
        lengths = [float(row[name]) for name in ("weight_norm_1", "weight_norm_2", "distance")]
        assert lengths == pytest.approx([30.1, 31.1, distance])


def test_predictors_table(drawn):
    rows = table(drawn[0] / "figures" / "predictors_mnist.csv")
    assert len(rows) == 2 * 3 * (3 + 9)  # stops, targets, measures of the two logs
    log = table(drawn[0] / "logs" / "sharpness_mnist.csv")
    log = [r for r in log if r["stop"] == "epochs" and r["epsilon"] == "0.0005"]
    goals = {
        "test_loss": [float(r["test_loss"]) for r in log],
        "loss_gap": [float(r["test_loss"]) - float(r["train_loss"]) for r in log],
        "acc_gap": [float(r["train_acc"]) - float(r["test_acc"]) for r in log],
    }
    for measure, (target, goal) in itertools.product(
        ("sharpness_box", "sharpness_adaptive"), goals.items()
    ):
        expected = kendalltau([float(r[measure]) for r in log], goal).statistic
        about = {"log": "sharpness", "stop": "epochs", "measure": measure, "target": target}
        (row,) = [r for r in rows if about.items() <= r.items()]
        assert float(row["tau"]) == pytest.approx(expected)
        assert (row["epsilon"], row["models"]) == ("0.0005", "36")


def test_networks_are_never_pooled(tmp_path, monkeypatch):
    """With the batch size the made-up MLP's norms grow and the CNN's fall."""
    made_up.make(tmp_path, "cifar10", ["sensitivity"])
    monkeypatch.setattr(figure, "write", lambda path, fill: None)
    assert plot_all.draw(tmp_path, "cifar10")[1] == []
    rows = table(tmp_path / "figures" / "predictors_cifar10.csv")
    log = table(tmp_path / "logs" / "sensitivity_cifar10.csv")
    assert len(rows) == 2 * 2 * 3 * 3  # networks, stops, targets, measures
    for model, sign in (("mlp-3072-128-128-10", 1), ("cnn-16", -1)):
        mine = [r for r in log if r["model"] == model and r["stop"] == "epochs"]
        x, y = ([float(r[c]) for r in mine] for c in ("jacobian_norm_test", "test_loss"))
        about = {"model": model, "measure": "jacobian_norm_test", "target": "test_loss"}
        (row,) = [r for r in rows if (about | {"stop": "epochs"}).items() <= r.items()]
        tau = float(row["tau"])
        assert tau == pytest.approx(kendalltau(x, y).statistic) and tau * sign > 0.5
        assert (row["models"], row["epsilon"]) == ("24", "nan")
