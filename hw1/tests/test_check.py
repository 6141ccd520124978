"""check.py on the committed logs and on copies of them that are changed in a known way."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys

from lab import agreement

import numpy as np
import pytest
from scipy.stats import ttest_ind

import check

NAMES = [path.stem for path in sorted(check.LOGS.glob("*.csv")) if path.stem != "benchmark"]


def copy(folder, name, change=lambda rows: rows, command=None):
    """Write the rows of a committed log, changed, into the folder; return its path."""
    path = folder / "logs" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    with open(check.LOGS / path.name, newline="") as file:
        rows = change(list(csv.DictReader(file)))
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, rows[0], lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    shutil.copy(check.LOGS / f"{name}.json", path.parent)
    return path


def run(monkeypatch, capsys, *words):
    """Return the exit code of check.py, its lines, and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["check.py", *map(str, words)])
    try:
        code = check.main()
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def each(function):
    """Return a change of rows that calls the function with each of them."""

    def change(rows):
        for row in rows:
            function(row)
        return rows

    return change


def seed_alone(seed):
    """Return a change of rows: those of this seed."""
    return lambda rows: [row for row in rows if row["seed"] == seed]


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_the_same_bytes(monkeypatch, capsys, tmp_path, name):
    copy(tmp_path, name)
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and lines[0] == f"{name}: the same bytes" and len(lines) == 2


def test_the_log_of_a_gpu_agrees(monkeypatch, capsys):
    """README says so of the committed one."""
    code, lines, _ = run(monkeypatch, capsys, check.LOGS / "gpu")
    assert code == 0 and any("5 of 5 settings agree" in line for line in lines)


def test_the_logs_of_other_seeds_agree(monkeypatch, capsys):
    """README says so of the committed ones; they have no seed in common."""
    code, lines, _ = run(monkeypatch, capsys, check.LOGS / "replication")
    told = [re.search(r"(\d+) of (\d+) settings agree", line) for line in lines]
    assert code == 0 and sum(bool(found) for found in told) >= 11
    assert all(found[1] == found[2] for found in told if found)
    assert not any("the same bytes" in line or "equal seeds" in line for line in lines)


def test_one_seed_has_the_same_bytes_where_both_have_rows(monkeypatch, capsys, tmp_path):
    copy(tmp_path, "sensitivity_mnist", seed_alone("1"))
    code, lines, _ = run(monkeypatch, capsys, tmp_path / "logs")
    assert code == 0 and "the same bytes in the 16 rows that both have" in lines[0]


def rename_seed(row):
    row["seed"] = str(int(row["seed"]) + 10)


def redrawn(rng):
    """Return a change: other seeds, with values drawn from the mean and spread of the log's."""

    def change(rows):
        groups = {}
        for row in rows:
            settings = (c for c in agreement.SETTINGS if c in row and c not in ("seed", "epoch"))
            groups.setdefault(tuple(row[c] for c in settings), []).append(row)
        for group in groups.values():
            for c in (c for c in rows[0] if c not in agreement.SETTINGS):
                values = [float(row[c]) for row in group]
                values = rng.normal(np.mean(values), np.std(values, ddof=1), len(group))
                for row, value in zip(group, values, strict=True):
                    row[c] = format(abs(value), ".8g")
        each(rename_seed)(rows)
        return rows

    return change


@pytest.mark.parametrize("name", ["sensitivity_mnist", "sensitivity_cifar10", "sharpness_mnist"])
def test_noise_of_the_size_of_the_spread_agrees(monkeypatch, capsys, tmp_path, name):
    copy(tmp_path, name, redrawn(np.random.default_rng(0)))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    found = re.search(r"(\d+) of (\d+) settings agree", lines[0])
    assert code == 0 and found[1] == found[2] and int(found[1]) >= 16


def spread_of_log(name, column, setting):
    """Return the standard deviation over seeds of log(column): all settings pooled, and this one.

    setting: width and number of training examples, as the log has them.
    """
    with open(check.LOGS / f"{name}.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["epoch"] != "0"]
    values = {}
    for row in rows:
        key = row["width"], row["train_size"]
        values.setdefault(key, []).append(math.log(float(row[column])))
    variances = {key: np.var(some, ddof=1) for key, some in values.items()}
    return math.sqrt(max(np.mean(list(variances.values())), variances[setting]))


@pytest.mark.parametrize(("spreads", "code"), [(6, 1), (1, 0), (-6, 1)])
def test_a_mean_that_is_shifted_by_six_spreads_is_out(monkeypatch, capsys, tmp_path, spreads, code):
    factor = math.exp(spreads * spread_of_log("param_sweep_cifar10", "test_loss", ("8", "4000")))

    def shift(row):
        if (row["width"], row["train_size"]) == ("8", "4000") and row["epoch"] != "0":
            row["test_loss"] = format(float(row["test_loss"]) * factor, ".8g")

    copy(tmp_path, "param_sweep_cifar10", each(shift))
    found, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert found == code
    assert lines[0].endswith(f"{24 - code} of 24 settings agree within the spread over seeds")
    named = [line for line in lines if "out: " in line]
    assert len(named) == code and all("test_loss" in line and "width 8" in line for line in named)
    off = re.search(
        r"equal seeds differ by up to ([\d.]+)%, in test_loss at batch_size 16, width 8", lines[-2]
    )
    assert float(off[1]) == pytest.approx(100 * abs(factor - 1), rel=1e-3)


def test_a_higher_barrier_is_out(monkeypatch, capsys, tmp_path):
    def shift(row):
        twice = row["setting_1"] == row["setting_2"]
        if row["pair"] == "lr" and not twice and row["alpha"] in ("0.45", "0.5", "0.55"):
            row["test_loss"] = format(3 * float(row["test_loss"]), ".8g")

    copy(tmp_path, "interpolation_mnist", each(shift))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 1 and lines[0].endswith("8 of 10 settings agree within the spread over seeds")
    assert sum("out: highest test_loss" in line and "pair lr" in line for line in lines) == 2


def test_a_diverged_run_is_out(monkeypatch, capsys, tmp_path):
    """It also ends early, which made it a run of other settings, with exit code 0."""

    def diverge(row):
        if row["batch_size"] == "64":
            row |= {"test_loss": "nan", "epoch": "3"}

    copy(tmp_path, "sensitivity_mnist", each(diverge))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 1 and sum("out: test_loss nan instead" in line for line in lines) == 2
    assert not any("not comparable" in line for line in lines)


def test_a_curve_that_ends_in_nan_is_out(monkeypatch, capsys, tmp_path):
    """As train.py logs a run that diverges: nothing is measured after that epoch."""

    def diverge(rows):
        own = [row for row in rows if row["label_corruption"] == "0.5" and row["seed"] == "1"]
        at = own[len(own) // 2]
        later = [row for row in own if float(row["epoch"]) > float(at["epoch"])]
        at |= dict.fromkeys(("train_loss", "train_acc", "test_loss", "test_acc"), "nan")
        return [row for row in rows if row not in later]

    copy(tmp_path, "random_labels_mnist", diverge)
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 1 and "4 of 5 settings agree" in lines[0]
    assert sum("label_corruption 0.5" in line and "nan" in line for line in lines) == 4


def test_a_log_in_which_all_runs_diverged_is_out(monkeypatch, capsys, tmp_path):
    """Alone it was not comparable; beside another log that agrees, the exit code was 0."""

    def diverge(row):
        row |= dict.fromkeys(("train_loss", "train_acc", "test_loss", "test_acc"), "nan")
        row["epoch"] = "1"

    copy(tmp_path, "param_sweep_cifar10")
    copy(tmp_path, "param_sweep_mnist", each(diverge))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 1 and "param_sweep_mnist: 0 of 14 settings agree" in lines[1]


def test_a_log_without_measured_values_is_one_sentence(monkeypatch, capsys, tmp_path):
    path = copy(tmp_path, "sensitivity_mnist")
    path.write_text("dataset,model,seed,epoch\nmnist,mlp,0,1\n")
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and "not comparable: it has no measured values" in lines[0]
    assert len(error.splitlines()) == 1


def test_a_part_of_a_sweep_is_compared(monkeypatch, capsys, tmp_path):
    """Its column train_size says on how many images; the flag is not needed for that."""
    few = lambda rows: [row for row in rows if (row["train_size"], row["seed"]) == ("4000", "0")]
    path = copy(tmp_path, "param_sweep_cifar10", lambda rows: each(rename_seed)(few(rows)))
    about = {"command": "python hw1/param_sweep.py --train-size=4000 --seeds 10"}
    path.with_suffix(".json").write_text(json.dumps(about))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and lines[0].endswith("13 of 13 settings agree within the spread over seeds")
    path = copy(tmp_path, "sensitivity_cifar10", each(rename_seed))  # it has no such column
    path.with_suffix(".json").write_text(json.dumps({"command": "... --train-size=4000"}))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and "not comparable: --train-size 4000 instead of the default" in lines[-2]


def test_the_order_of_what_is_out_does_not_depend_on_hashes(tmp_path):
    def shift(row):
        row["test_loss"] = format(3 * float(row["test_loss"]), ".8g")

    copy(tmp_path, "sensitivity_mnist", each(shift))
    told = set()
    for hash_seed in "12":
        options = {"env": {"PYTHONHASHSEED": hash_seed}, "capture_output": True}
        command = [sys.executable, check.__file__, tmp_path]
        told.add(subprocess.run(command, check=False, **options).stdout)
    assert len(told) == 1 and b"out: test_loss" in told.pop()


def test_rounding_is_no_disagreement(monkeypatch, capsys, tmp_path):
    def nudge(row):
        row["train_loss"] = format(float(row["train_loss"]) * (1 + 1e-6), ".8g")

    for name in NAMES:
        copy(tmp_path, name, each(nudge))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and not any("out: " in line for line in lines)
    assert sum("equal seeds differ by up to 0.00%" in line for line in lines) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "column", "changes", "says"),
    [
        ("param_sweep_cifar10", "epoch", {"16": "5"}, "not comparable: epochs 5 instead of 16"),
        ("param_sweep_mnist", "train_size", {"4000": "1000"}, "train_size 1000 instead of 4000"),
        (
            "sharpness_mnist",
            "epsilon",
            {"0.0001": "0.0003", "0.0005": "0.0015", "0.001": "0.003"},
            "epsilon 0.0003 instead of 0.0001",
        ),
    ],
)
def test_other_settings_are_not_compared(
    monkeypatch, capsys, tmp_path, name, column, changes, says
):
    def change(row):
        row[column] = changes.get(row[column], row[column])

    copy(tmp_path, name, each(change))
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and len(lines) == len(changes) and says in lines[0]
    assert all("not comparable" in line for line in lines)
    assert len(error.splitlines()) == 1 and "no log that can be compared" in error


def test_a_setting_of_ones_own_beside_the_others(monkeypatch, capsys, tmp_path):
    def change(row):
        rename_seed(row)
        row["batch_size"] = "96" if row["batch_size"] == "64" else row["batch_size"]

    copy(tmp_path, "sensitivity_mnist", each(change))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and "14 of 14 settings agree" in lines[0]
    assert "not comparable: batch_size 96 instead of" in lines[1]


def test_a_log_without_a_counterpart_is_named(monkeypatch, capsys, tmp_path):
    copy(tmp_path, "sensitivity_mnist")
    copy(tmp_path, "sensitivity_cifar10").rename(tmp_path / "logs" / "sensitivity_digits.csv")
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and "sensitivity_digits: not comparable: there is no committed log" in lines[0]


def test_one_committed_seed_tells_no_spread(monkeypatch, capsys, tmp_path):
    logs = tmp_path / "logs"
    path = copy(tmp_path, "sensitivity_mnist", seed_alone("0"))
    path.rename(tmp_path / path.name)
    for keep, said in (("1", 1), ("0", 2)):  # another seed, and the same one with another value
        own = copy(tmp_path, "sensitivity_mnist", seed_alone(keep))
        own.write_text(own.read_text().replace(",0.9", ",0.1"))
        code, lines, _ = run(monkeypatch, capsys, logs, "--logs", tmp_path)
        assert code == 2 and len(lines) == said and "does not tell the spread" in lines[0]


def test_a_quick_run_is_not_compared(monkeypatch, capsys, tmp_path):
    path = copy(tmp_path, "random_labels_mnist", each(rename_seed)).with_suffix(".json")
    path.write_text(json.dumps({"command": "python hw1/random_labels.py --quick"}))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and "not comparable: --quick" in lines[0]


def own_columns(row):
    row |= {"note": "mine", "new_norm": "0.5", "norms": ""}


def test_columns_of_ones_own_are_left_out(monkeypatch, capsys, tmp_path):
    """A column of words made the whole log one that could not be compared."""
    copy(tmp_path, "sensitivity_mnist", each(own_columns))
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and not error and "16 of 16 settings agree" in lines[0]


@pytest.mark.parametrize(
    "save",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n") + "\r\n",
        lambda text: text + "," * text.partition("\n")[0].count(",") + "\n",
    ],
    ids=["mark", "line ends", "empty row"],
)
def test_a_log_that_a_spreadsheet_has_saved_is_compared(monkeypatch, capsys, tmp_path, save):
    path = copy(tmp_path, "sensitivity_mnist")
    path.write_bytes(save(path.read_text()).encode())
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 0 and not error and "16 of 16 settings agree" in lines[0]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("interpolation_mnist", "alpha"),
        ("reparametrization_mnist", "scale"),
        ("param_sweep_mnist", "epoch"),
        ("sensitivity_mnist", "seed"),
        ("sensitivity_mnist", "test_loss"),
    ],
)
@pytest.mark.parametrize("reference", [False, True], ids=["own", "reference"])
def test_an_empty_cell_is_a_damage(monkeypatch, capsys, tmp_path, name, column, reference):
    """Rows without an alpha took no part in the comparison."""
    path = copy(tmp_path, name, each(lambda row: row.update({column: ""})))
    words = (check.LOGS, "--logs", path.parent) if reference else (tmp_path,)
    code, _, error = run(monkeypatch, capsys, *words)
    assert code == 2 and re.search(rf"column {column}\b", error)
    assert ("in the latter, " in error) == reference


def test_words_where_a_measured_number_belongs_are_named(monkeypatch, capsys, tmp_path):
    copy(tmp_path, "sensitivity_mnist", each(lambda row: row.update(test_loss="high")))
    error = run(monkeypatch, capsys, tmp_path)[2]
    assert "column test_loss has 'high' where a number belongs" in error


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("sensitivity_mnist", "optimizer"),
        ("param_sweep_mnist", "epoch"),
        ("interpolation_mnist", "alpha"),
        ("reparametrization_mnist", "scale"),
    ],
)
def test_a_column_of_settings_that_is_missing_is_named(monkeypatch, capsys, tmp_path, name, column):
    copy(tmp_path, name, each(lambda row: row.pop(column)))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and re.search(f"not comparable: .*no column {column}", lines[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.partition("\n")[0] + "\n",
        lambda text: text[:-40],
        lambda text: text.replace("0.9924", "x"),
        lambda text: text + text.splitlines()[1].replace("0.9924", "0.9925") + "\n",
        lambda text: text.replace(",seed,", ",seeds,"),
        lambda text: text.replace("adam", "\x00\udcff", 1),
    ],
    ids=["empty", "header", "cut", "word", "twice", "no seed", "bytes"],
)
def test_a_damaged_log_is_one_sentence(monkeypatch, capsys, tmp_path, damage):
    path = copy(tmp_path, "sensitivity_mnist")
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and not lines
    assert len(error.splitlines()) == 1 and str(path) in error and "Traceback" not in error


def test_a_json_that_holds_no_object_is_one_sentence(monkeypatch, capsys, tmp_path):
    copy(tmp_path, "sensitivity_mnist").with_suffix(".json").write_text("[]")
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and not lines and "sensitivity_mnist.json is damaged" in error


def test_a_json_with_other_kinds_of_values_is_no_traceback(monkeypatch, capsys, tmp_path):
    path = copy(tmp_path, "sensitivity_mnist", lambda rows: [{**r, "epoch": 2} for r in rows])
    about(path, command=5, data_digest=[])
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code in (0, 1) and lines and error == ""


def about(path, **changes):
    """Change entries of the .json beside a log."""
    told = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(told | changes))


def longer(row):
    row["test_loss"] = float(row["test_loss"]) * 4


@pytest.mark.parametrize("name", ["interpolation_mnist", "reparametrization_mnist"])
def test_other_epochs_are_no_disagreement_where_the_log_does_not_show_them(
    monkeypatch, capsys, tmp_path, name
):
    """All settings were called out, or none."""
    path = copy(tmp_path, name, each(longer))
    about(path, command=f"python hw1/{name.partition('_')[0]}.py --epochs 1")
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    [line] = lines
    assert code == 2 and f"{name}: not comparable: --epochs 1 instead of the default" in line


def test_the_order_of_flags_is_no_difference(monkeypatch, capsys, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    path, other = (copy(tmp_path / name, "interpolation_mnist", each(barely)) for name in "ab")
    about(path, command="python hw1/interpolation.py --epochs 1 --quick")
    about(other, command="python hw1/interpolation.py --quick --epochs 1")
    code, lines, _ = run(monkeypatch, capsys, path.parent, "--logs", check.LOGS)
    assert code == 2 and "not comparable: --epochs 1 --quick instead of" in lines[0]
    path.write_text(path.read_text().replace("0.9", "0.8999"))
    code, lines, _ = run(monkeypatch, capsys, path.parent, "--logs", other.parent)
    assert code in (0, 1) and "settings agree" in lines[0]


def barely(row):
    row["test_loss"] = float(row["test_loss"]) * 1.00001


def test_of_two_networks_the_one_that_is_out_is_named(monkeypatch, capsys, tmp_path):
    cnn = lambda row: row["model"] == "cnn-16" and row["batch_size"] == "8" and longer(row)
    copy(tmp_path, "sensitivity_cifar10", each(cnn))
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    out = [line for line in lines if "out: test_loss" in line]
    assert code == 1 and out and all("at model cnn-16, batch_size 8, stop" in line for line in out)


def test_other_data_are_named(monkeypatch, capsys, tmp_path):
    path = copy(tmp_path, "sensitivity_mnist", each(longer))
    about(path, data_digest="another")
    code, lines, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 1 and any("data are not those of the committed log" in line for line in lines)


def test_a_damaged_log_does_not_stop_the_others(monkeypatch, capsys, tmp_path):
    copy(tmp_path, "random_labels_mnist").write_text("")
    copy(tmp_path, "sensitivity_mnist")
    code, lines, error = run(monkeypatch, capsys, tmp_path)
    assert code == 2 and "sensitivity_mnist: the same bytes" in lines
    assert error.count("\n") == 1 and "random_labels_mnist.csv cannot be compared" in error


def test_nothing_to_compare_is_one_sentence(monkeypatch, capsys, tmp_path):
    code, lines, error = run(monkeypatch, capsys, tmp_path / "nowhere")
    assert code == 2 and not lines and len(error.splitlines()) == 1 and "nowhere" in error


@pytest.mark.parametrize("name", ["", "x" * 300, "~nobody_here/logs"])
def test_an_odd_name_is_one_sentence(monkeypatch, capsys, name):
    code, lines, error = run(monkeypatch, capsys, name)
    assert code == 2 and not lines and "Traceback" not in error


def test_a_closed_or_full_output_is_no_traceback(tmp_path):
    path = copy(tmp_path, NAMES[0])
    for output in (">/dev/full", "| head -0"):
        command = f"set -o pipefail; '{sys.executable}' '{check.__file__}' '{path.parent}' {output}"
        ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert ended.returncode == 1 and ended.stderr.startswith("cannot write to standard output")
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("same", [True, False])
def test_fingerprints_say_whether_machines_compute_the_same_bits(
    monkeypatch, capsys, tmp_path, same
):
    logs = tmp_path / "committed"
    logs.mkdir()
    for folder, print_ in ((logs, "a"), (tmp_path / "logs", "a" if same else "b")):
        copy(tmp_path, "sensitivity_mnist")
        about = {"fingerprint": print_, "cpu_capability": "AVX2", "device": "a processor"}
        (folder / "sensitivity_mnist.json").write_text(json.dumps(about))
        shutil.copy(tmp_path / "logs" / "sensitivity_mnist.csv", logs)
    code, lines, _ = run(monkeypatch, capsys, tmp_path, "--logs", logs)
    assert code == 0 and lines[-1].endswith(f"compute {'' if same else 'not '}the same bits")
    assert "a processor, AVX2" in lines[-1]


def test_one_setting_is_students_t_test():
    """With one setting and one own seed, the p-value is that of scipy's two-sample t test."""
    committed, mine = [2.0, 2.3, 2.1], 2.9
    key = (("stop", ""),), "test_loss"
    [test] = agreement.compare_means({key: {"7": mine}}, {key: dict(enumerate(committed))})
    assert test[0] == pytest.approx(ttest_ind([mine], committed).pvalue)


def test_holm_rejects_as_the_definition_says():
    tests = [(p,) for p in (0.02, 0.001, 0.004, 0.0032)]
    # Up to 0.01 / 4, / 3 and / 2; 0.02 is over 0.01 / 1.
    assert agreement.significant(tests) == [(0.001,), (0.0032,), (0.004,)]
    assert agreement.significant([(0.5,), (0.003,)]) == [(0.003,)]
    assert agreement.significant([]) == []


EPSILONS = ("0.0001", "0.0005", "0.001")


def at_three_epsilons(factors):
    """Return a change: the box sharpness of each model at three radii, times these factors."""

    def change(row):
        factor = factors[EPSILONS.index(row["epsilon"])]
        row["sharpness_box"] = format(float(row["sharpness_box"]) * factor, ".8g")

    return each(change)


@pytest.mark.parametrize("wrong", [1, 100], ids=["agrees", "is out"])
def test_three_rows_of_one_model_are_compared_radius_by_radius(
    monkeypatch, capsys, tmp_path, wrong
):
    committed = tmp_path / "committed"
    committed.mkdir()
    path = copy(tmp_path, "sharpness_mnist", at_three_epsilons((1, 5, 10)))
    path.rename(committed / path.name)
    own = at_three_epsilons((1, 5, 10 * wrong))
    copy(tmp_path, "sharpness_mnist", lambda rows: each(rename_seed)(own(rows)))
    code, lines, _ = run(monkeypatch, capsys, tmp_path, "--logs", committed)
    out = [line for line in lines if "out: " in line]
    assert lines[0].startswith(f"sharpness_mnist: {72 - len(out)} of 72 settings agree")
    assert code == (wrong > 1) and len(out) == 24 * (wrong > 1)
    assert all("out: sharpness_box" in line and "epsilon 0.001" in line for line in out)


def test_a_correct_repetition_rarely_fails():
    """Ten settings of normal values and unequal spreads, 200 times: under 1% or by chance 2%."""
    rng, failed = np.random.default_rng(0), 0
    scales = np.exp(rng.normal(0, 0.3, 10))
    keys = [((("width", str(i)),), "test_loss") for i in range(10)]
    for _ in range(200):
        draw = {key: s * rng.normal(size=6) for key, s in zip(keys, scales, strict=True)}
        own = {key: dict(enumerate(v[:3])) for key, v in draw.items()}
        committed = {key: dict(enumerate(v[3:])) for key, v in draw.items()}
        failed += bool(agreement.significant(agreement.compare_means(own, committed)))
    assert failed <= 4


@pytest.mark.parametrize("name", NAMES)
def test_every_column_is_a_setting_or_a_measured_value(name):
    columns = (check.LOGS / f"{name}.csv").read_text().partition("\n")[0].split(",")
    measured = re.compile("loss$|acc$|confidence$|norm|^sharpness|^residual$|change$|^distance$")
    assert all((c in agreement.SETTINGS) != bool(measured.search(c)) for c in columns)
