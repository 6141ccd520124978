"""plot_all.py: made-up logs in, figures and tables out; the tables are held against references."""

import csv
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

import plot_all

SCRIPT = Path(plot_all.__file__)
FIGURES = {
    "random_labels": "random_labels",
    "param_sweep": "param_sweep",
    "interpolation": "interpolation",
    "sensitivity": "sensitivity",
    "sharpness": "sharpness",
    "reparametrization": "reparametrization",
    "predictors": "sensitivity",
}


def common(dataset, seed, batch_size=512, lr=0.001, n_params=335114):
    names = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
    return dict(zip(names, (dataset, "mlp", n_params, "adam", lr, batch_size, seed), strict=True))


def metrics(train_loss, train_acc, test_loss, test_acc):
    names = ("train_loss", "train_acc", "test_loss", "test_acc")
    return dict(zip(names, (train_loss, train_acc, test_loss, test_acc), strict=True))


def random_labels(dataset, rng):
    for level, seed in itertools.product((0, 0.25, 0.5, 0.75, 1), range(3)):
        slow = 1 + 12 * level + 0.3 * rng.normal()
        for epoch in range(0, 201, 2):
            fit = math.exp(-epoch / (4 * slow))
            loss = 2.3 * fit + 1e-3 * rng.uniform(0.5, 2)
            test = (
                0.07 + 0.1 * epoch / 200 + level * (2.3 + 11 * (1 - fit)) + 2.2 * fit * (1 - level)
            )
            values = metrics(loss, 1 - 0.9 * fit, test, (1 - 0.9 * fit) * (0.98 - 0.88 * level))
            about = {"label_corruption": level, "epoch": epoch}
            yield common(dataset, seed) | about | values


def param_sweep(dataset, rng):
    for (corruption, size), seed in itertools.product(((0, 60000), (0.2, 4000)), range(3)):
        for width, epoch in itertools.product((4, 8, 16, 32, 64, 128, 256, 1024), (0, 250, 500)):
            n, rise = 795 * width, (1 - math.exp(-epoch / 80))
            free = 1 / (1 + (n / 16000) ** 3)
            train = 2.3 - rise * (2.29 - 1.2 * free * (0.3 + corruption)) + 0.02 * rng.uniform()
            peak = corruption * 9 * math.exp(-((math.log(n / 20000)) ** 2))
            test = 2.3 - rise * (1.9 - peak - 0.5 * free) + 0.1 * rng.uniform()
            acc = 0.1 + 0.9 * rise * (1 - 0.3 * free)
            values = metrics(train, 1.0 if acc > 0.99 else acc, test, 0.9 * acc)
            about = {"width": width, "train_size": size, "label_corruption": corruption}
            yield common(dataset, seed, n_params=n) | about | {"epoch": epoch} | values


def interpolation(dataset, rng, height=1.6):
    pairs = (("batch_size", 64, 1024), ("lr", 0.001, 0.01))
    for (pair, one, two), seed in itertools.product(pairs, range(3)):
        for alignment, high in (("none", height), ("weight_matching", 0.03 * height)):
            high *= rng.uniform(0.8, 1.2)
            for alpha in np.linspace(-1, 2, 61).round(3):
                out = max(0.0, -alpha, alpha - 1)
                bump = high * (4 * alpha * (1 - alpha)) ** 2 if out == 0 else 0
                loss = 0.02 + bump + 40 * (math.exp(5 * out) - 1)
                acc = 1 - min(0.9, 0.4 * bump + out)
                row = common(dataset, seed) | {pair: "", "pair": pair, "setting_1": one}
                row |= {"setting_2": two, "alignment": alignment, "alpha": float(alpha)}
                yield row | metrics(loss, acc, 1.1 * loss + 0.06, acc - 0.02)


def interpolation_shared(dataset, rng):
    return interpolation(dataset, rng, height=0.05)


def sensitivity(dataset, rng):
    sizes = (16, 64, 256, 1024, 4096, 16384)
    for size, seed, stop in itertools.product(sizes, range(3), ("epochs", "train_loss")):
        train = 0.002 * size**0.5 if stop == "epochs" else 0.05
        train *= rng.uniform(0.9, 1.1)
        test = 0.08 + 0.004 * math.log2(size) + 0.5 * train
        norm = 0.3 + (0.03 if stop == "epochs" else 0.005) * math.log2(size) * rng.uniform(0.8, 1.2)
        yield (
            common(dataset, seed, batch_size=size)
            | {"stop": stop, "epoch": 20}
            | metrics(train, 1 - train / 4, test, 0.98 - test / 5)
            | {"input_gradient_norm_train": norm * 0.2, "input_gradient_norm_test": norm * 0.4}
            | {"jacobian_norm_train": norm * 0.1, "jacobian_norm_test": norm * 0.13}
        )


def sharpness(dataset, rng):
    approaches = [f"batch_size={2**k}" for k in (5, 8, 11, 14)]
    approaches += ["optimizer=sgd", "optimizer=rmsprop", "lr=0.01", "lr=0.0001"]
    approaches += ["dropout=0.2", "weight_decay=0.01", "label_smoothing=0.1"]
    for (i, approach), seed, stop in itertools.product(
        enumerate(approaches), range(3), ("epochs", "train_loss")
    ):
        train, loose = rng.uniform(0.001, 0.1), 0.02 if approach == "lr=0.01" else 1e-5
        h = 4 * 2.0 ** min(i, 4) * rng.uniform(0.8, 1.3) * (0.5 if stop == "train_loss" else 1)
        gradient = 0.02 * h * rng.uniform(0.8, 1.2)
        values = {"input_gradient_norm_test": 0.1 * h**0.3, "jacobian_norm_test": 0.05 * h**0.2}
        values |= {
            "parameter_gradient_norm": gradient,
            "hessian_norm": h,
            "hessian_norm_block": 0.7 * h,
        }
        values |= {"residual": loose, "epsilon": 1e-4, "sharpness": h * 5e-9 / (1 + train)}
        values |= {"sharpness_ball": gradient * 1e-4, "sharpness_box": 0.01 * h}
        loss = metrics(train, 0.99, 0.1 + 0.002 * h + 0.01 * rng.uniform(), 0.97)
        about = {"approach": approach, "stop": stop, "epoch": 20}
        yield common(dataset, seed) | about | loss | values


def reparametrization(dataset, rng):
    for scale, seed in itertools.product(2.0 ** np.arange(-5, 6), range(3)):
        h = 10 * (scale**2 + scale**-2) * rng.uniform(0.8, 1.2)
        values = {"max_output_change": 1e-6, "hessian_norm": h, "sharpness": h * 5e-9}
        values |= {"input_gradient_norm_test": 0.1, "jacobian_norm_test": 0.05}
        about = {"scale": float(scale)} | metrics(0.01, 0.99, 0.1, 0.97)
        yield common(dataset, seed) | about | values


MAKERS = (random_labels, param_sweep, interpolation, interpolation_shared, sensitivity, sharpness)
MAKERS += (reparametrization,)


def write(folder, name, dataset, rows):
    rows, path = list(rows), folder / "logs" / f"{name}_{dataset}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, rows[0], lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    return path


def make(folder, dataset, names=None):
    for maker in MAKERS:
        if names is None or maker.__name__ in names:
            write(folder, maker.__name__, dataset, maker(dataset, np.random.default_rng(0)))


def plot(folder, *flags):
    command = [sys.executable, SCRIPT, "--out", folder, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every MNIST figure, and one of digits, from one run of the script."""
    folder = tmp_path_factory.mktemp("drawn")
    make(folder, "mnist")
    make(folder, "digits", ["sensitivity"])
    return folder, plot(folder)


def test_every_csv_has_its_figures(drawn):
    folder, result = drawn
    assert result.returncode == 0 and result.stderr == ""
    names = {f"{name}_mnist" for name in FIGURES} | {"sensitivity_digits", "predictors_digits"}
    expected = {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    expected |= {"barriers_mnist.csv", "predictors_mnist.csv", "predictors_digits.csv"}
    assert {path.name for path in (folder / "figures").iterdir()} == expected


def test_same_csv_same_bytes(drawn, tmp_path):
    make(tmp_path, "digits", ["sensitivity"])
    assert plot(tmp_path, "--dataset", "digits").returncode == 0
    files = list((tmp_path / "figures").iterdir())
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (drawn[0] / "figures" / path.name).read_bytes()


def test_missing_csv_names_its_command(drawn):
    result = plot(drawn[0], "--dataset", "digits")
    assert result.returncode == 0
    for script in ("random_labels", "param_sweep", "interpolation", "sharpness"):
        assert f"`python hw1/{script}.py --dataset digits --out {drawn[0]}`" in result.stderr
    assert "sensitivity" not in result.stderr
    assert len(result.stderr.splitlines()) == 6  # interpolation and sharpness make two CSVs each


def test_nothing_to_draw_is_one_sentence(tmp_path):
    result = plot(tmp_path, "--dataset", "cifar10")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "run_all.sh --dataset cifar10" in result.stderr


def drop_a_column(path):
    rows = table(path)
    path.unlink()
    write(path.parents[1], "sensitivity", "mnist", [{**r, "stop": ""} for r in rows])
    path.write_text(path.read_text().replace(",stop,", ",halt,"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_a_column, "no field of name stop"),
        (lambda path: path.write_text(""), "no rows"),
        (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), "no rows"),
        (lambda path: path.write_text(path.read_text()[:-80]), "columns"),
    ],
    ids=["column", "empty", "header", "cut"],
)
def test_malformed_csv_is_one_sentence(monkeypatch, capsys, tmp_path, damage, says):
    make(tmp_path, "mnist", ["sensitivity"])
    damage(tmp_path / "logs" / "sensitivity_mnist.csv")
    monkeypatch.setattr(sys, "argv", ["plot_all", "--out", str(tmp_path), "--dataset", "mnist"])
    with pytest.raises(SystemExit) as stop:
        plot_all.main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and "sensitivity_mnist.csv" in last and says in last


def test_malformed_csv_leaves_no_traceback(tmp_path):
    make(tmp_path, "mnist", ["sensitivity"])
    drop_a_column(tmp_path / "logs" / "sensitivity_mnist.csv")
    result = plot(tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr


def test_needs_neither_torch_nor_another_room():
    code = "import sys, plot_all; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parent, check=True)
    rooms = {"torch", "data", "models", "train", "measures", "random_labels", "param_sweep"}
    assert not rooms & set(result.stdout.split())


def test_barrier_of_a_hand_computed_curve():
    alpha = np.array([2.0, -1.0, 0.0, 0.25, 0.5, 1.0])
    loss = np.array([99.0, 99.0, 1.0, 3.0, 2.5, 2.0])  # chord: 1, 1.25, 1.5, 2
    assert plot_all.barrier(alpha, loss) == pytest.approx(1.75)
    assert plot_all.barrier(alpha, 1 + alpha) == pytest.approx(0)
    with pytest.raises(ValueError, match="alpha = 0"):
        plot_all.barrier(alpha[3:], loss[3:])


def test_barrier_table(drawn):
    rows = table(drawn[0] / "figures" / "barriers_mnist.csv")
    assert len(rows) == 2 * 2 * 2 * 3  # pairs, initialisations, alignments, seeds
    log = table(drawn[0] / "logs" / "interpolation_shared_mnist.csv")
    one = {"pair": "lr", "alignment": "none", "seed": "2"}
    path = {float(r["alpha"]): float(r["test_loss"]) for r in log if one.items() <= r.items()}
    ends = path[0.0], path[1.0]
    expected = max(v - (1 - a) * ends[0] - a * ends[1] for a, v in path.items() if 0 <= a <= 1)
    (row,) = [r for r in rows if (one | {"initialisation": "shared"}).items() <= r.items()]
    assert float(row["test_barrier"]) == pytest.approx(expected)


@pytest.mark.parametrize("digits", [8, 1])  # 1 digit: many ties
def test_tau_is_scipys(digits):
    rng = np.random.default_rng(1)
    x = rng.normal(size=18).round(digits)
    y = (x + rng.normal(size=18)).round(digits)
    tau, low, high = plot_all.tau_interval(x, y, np.repeat(np.arange(6), 3))
    assert tau == pytest.approx(kendalltau(x, y).statistic)
    assert -1 <= low < tau < high <= 1


def test_tau_interval_covers():
    """Of 100 logs of 12 independent settings, the 95% interval holds the true tau in 85 or more."""
    rng, hits = np.random.default_rng(0), 0
    truth = 2 / math.pi * math.asin(0.5)  # a normal pair of correlation 0.5
    for _ in range(100):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=12).T
        _, low, high = plot_all.tau_interval(x, y, np.arange(12), draws=500)
        hits += low <= truth <= high
    assert hits >= 85


def test_seeds_of_one_setting_add_no_certainty():
    """Five copies of every model, one setting each, leave the interval as wide as one copy does."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 10))
    one = plot_all.tau_interval(x, y, np.arange(10))
    five = plot_all.tau_interval(np.tile(x, 5), np.tile(y, 5), np.tile(np.arange(10), 5))
    assert five == pytest.approx(one)


def test_tau_of_nothing_is_nan():
    for n in (0, 1, 2):
        assert np.isnan(plot_all.tau_interval(np.zeros(n), np.zeros(n), np.arange(n))).all()


def test_predictors_table(drawn):
    rows = table(drawn[0] / "figures" / "predictors_mnist.csv")
    assert len(rows) == 2 * 2 * (3 + 8)  # stops, targets, measures of the two logs
    log = [r for r in table(drawn[0] / "logs" / "sharpness_mnist.csv") if r["stop"] == "epochs"]
    gap = [float(r["test_loss"]) - float(r["train_loss"]) for r in log]
    expected = kendalltau([float(r["sharpness_box"]) for r in log], gap).statistic
    about = {"log": "sharpness", "stop": "epochs", "measure": "sharpness_box", "target": "gap"}
    (row,) = [r for r in rows if about.items() <= r.items()]
    assert float(row["tau"]) == pytest.approx(expected) and int(row["models"]) == len(log)


def test_the_last_epoch_not_the_best(tmp_path):
    rows = [r for r in param_sweep("mnist", np.random.default_rng(0)) if r["seed"] == 0]
    for r in rows:
        r["test_loss"] = r["epoch"]  # best at epoch 0
    order = np.random.default_rng(0).permutation(len(rows))
    t = plot_all.read(write(tmp_path, "param_sweep", "mnist", [rows[i] for i in order]))
    last = plot_all.last_epoch(t)
    assert len(last) == 2 * 8 and set(last["test_loss"]) == {500}


def marks(ax):
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_gid() == "lost"]


def test_a_diverged_seed_breaks_the_line_and_is_marked():
    ax = plot_all.plt.figure().subplots()
    y = np.array([1.0, 2.0, 3.0, 4.0, np.inf, 6.0])
    plot_all.curve(ax, np.array([1, 1, 2, 2, 3, 3]), y, "k", marker="o")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.5, 3.5, np.nan])
    assert marks(ax) == [(3, 1)]
    lost = {(stop, "a"): ([1, np.nan], np.nan, False) for stop in plot_all.STOPS}
    plot_all.dot_rows(ax, ["a"], plot_all.STOPS, lost)
    assert marks(ax)[1:] == [(1, -0.17), (1, 0.17)]


def test_diverged_rows_still_draw(tmp_path):
    rows = list(sharpness("digits", np.random.default_rng(0)))
    for name in rows[-1]:
        if "loss" in name or "norm" in name or "sharp" in name:
            rows[-1][name] = math.nan
    write(tmp_path, "sharpness", "digits", rows)
    result = plot(tmp_path)
    assert result.returncode == 0 and "Warning" not in result.stderr
    rows = table(tmp_path / "figures" / "predictors_digits.csv")
    assert {(r["stop"], int(r["models"])) for r in rows} == {("epochs", 33), ("train_loss", 32)}
