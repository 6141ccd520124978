"""What README.md and hw1/README.md say is so: files, links, flags, commands, code and recipes."""

import ast
import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from lab import flags, runs, settings

import numpy as np
import pytest

import facts

HW1 = Path(__file__).resolve().parent.parent
ROOT = HW1.parent
FRONT, INNER = ROOT / "README.md", HW1 / "README.md"
PAGES = [FRONT, INNER, HW1 / "run_all.sh"]
PLACES = [ROOT, HW1, HW1 / "lab", HW1 / "logs", HW1 / "figures"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPERIMENTS = ("random_labels", "param_sweep", "interpolation", "sensitivity", "sharpness")


def blocks(language):
    return [code for found, code in FENCED.findall(INNER.read_text()) if found == language]


def quoted(page):
    """Return what a page sets in code, except for Python: commands, and words in backticks."""
    text = page.read_text()
    lines = [line for kind, code in FENCED.findall(text) if not kind for line in code.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def commands(script):
    """Return the flags of each command on the pages that runs this script."""
    found = [words.partition("#")[0] for page in (FRONT, INNER) for words in quoted(page)]
    pattern = re.compile(rf"python \S*hw1/{script}\.py(.*)")
    return [shlex.split(match[1]) for words in found if (match := pattern.search(words))]


def tasks_of(path, words, monkeypatch, folder):
    """Return the settings that a script would run with these flags, {text: setting}."""
    (folder / "logs").mkdir(exist_ok=True)
    monkeypatch.setattr(flags, "HW1", folder)
    monkeypatch.setattr(flags, "find_spec", lambda name: True)  # Dask is optional
    monkeypatch.setattr(runs, "run", lambda args, columns, tasks, *others: tasks)
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location(f"copy_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [setting for task in module.main() for setting in task["runs"]]
    return {json.dumps(setting): setting for setting in found}


@pytest.mark.parametrize("page", [FRONT, INNER], ids=["front", "inner"])
def test_every_relative_link_resolves(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    missing = [link for link in links if ":" not in link and not (page.parent / link).exists()]
    assert not missing and (links or page == INNER)


@pytest.mark.parametrize("page", PAGES, ids=["front", "inner", "run_all"])
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text().replace("$here/", "hw1/")
    named = set(re.findall(r"\bhw1/[\w./-]*\w", text))
    if page.suffix == ".md":
        text = "\n".join(quoted(page)).replace("mlds/", "")  # into which Colab clones the project
        named |= set(re.findall(r"(?<![\w./*-])[\w./]*\w\.(?:py|sh|csv|json|pdf|png|txt)\b", text))
    made = re.compile(r"hw1/(quick|checkpoints)\b")
    missing = [
        name
        for name in named
        if not made.match(name) and not any((place / name).exists() for place in PLACES)
    ]
    assert named and not missing
    for script in re.findall(r"^ *run (\w+)", text, re.MULTILINE):
        assert (HW1 / f"{script}.py").exists()


@pytest.mark.parametrize("script", EXPERIMENTS)
def test_every_command_on_the_pages_is_understood(script, monkeypatch, tmp_path):
    found = commands(script)
    assert found
    for words in found:
        assert tasks_of(HW1 / f"{script}.py", words, monkeypatch, tmp_path)


def test_every_flag_on_the_pages_exists(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tasks_of(HW1 / "param_sweep.py", ["--help"], monkeypatch, tmp_path)
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    theirs = {"--port", "--nthreads", "--nworkers"}  # of Dask
    named = {flag for page in (FRONT, INNER) for words in quoted(page)
             for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", words)}  # fmt: skip
    assert {"--quick", "--jobs", "--train-size"} <= named
    assert named - theirs - {"--help"} <= known


PAIR = '"optimizer": (("sgd", "adam"), {"lr": 1e-2, "batch_size": 256}),'
RECIPES = {  # rows of "Change it": what is replaced by what, and what the new runs share
    "A width": ({"16, 24,": "16, 20, 24,"}, {"model": "cnn-20"}),
    "A batch size": ({"2048, 4096)": "2048, 4096, 8192)"}, {"batch_size": 8192}),
    "An optimizer": (
        {'optimizer="adam"': 'optimizer="momentum"', "lr=1e-3": "lr=0.05"},
        {"optimizer": "momentum", "lr": 0.05},
    ),
    "Another CNN": ({'CNN = "cnn-16"': 'CNN = "cnn-8"'}, {"model": "cnn-8"}),
    "Two optimizers to interpolate": (
        {"PAIRS = {": f"PAIRS = {{\n    {PAIR}"},
        {"lr": 1e-2, "batch_size": 256},
    ),
}


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs_what_the_page_says(title, monkeypatch, tmp_path):
    """Only the new runs where the page says `only`, else all of the script's runs."""
    [row] = [line for line in INNER.read_text().splitlines() if line.startswith(f"| {title} |")]
    _, where, command, again = row.strip("| ").split(" | ")
    script, *words = shlex.split(command.strip("`"))[1:]
    edits, new = RECIPES[title]
    text = (ROOT / script).read_text()
    for old, changed in edits.items():
        assert old in text
        text = text.replace(old, changed, 1)
    assert where.startswith(f"`{Path(script).name}`: ")
    assert all(code in text for code in re.findall(r"`([^`]+)`", where) if "=" in code)
    (tmp_path / Path(script).name).write_text(text)
    before = tasks_of(ROOT / script, words, monkeypatch, tmp_path)
    after = tasks_of(tmp_path / Path(script).name, words, monkeypatch, tmp_path)
    added = [after[key] for key in after if key not in before]
    assert added and all(new.items() <= setting.items() for setting in added)
    for setting in added:
        settings.check_setting(setting)
    kept = before.keys() & after.keys()
    if title == "Another CNN":  # in place of the old one, beside the same MLP
        before = {key for key, setting in before.items() if setting["model"] != "cnn-16"}
    assert kept == (set(before) if again.startswith("only") else set())


FOUND = {  # the numbers in a script's docstring after "Found:", in their order, by facts.py's names
    "random_labels": ["rl.1.train_acc", "rl.1.test_acc", "rl.0.test_acc"],
    "param_sweep": [
        *("small.lowest.params", "small.last.params", "whole.lowest.params", "whole.last.params"),
        *("noise.loss.valley.test_loss", "noise.loss.valley.params", "noise.loss.peak.test_loss"),
        *("noise.loss.peak.params", "noise.last.test_loss", "noise.last.params"),
    ],
    "interpolation": [
        *("path.batch_size.different.none", "path.batch_size.different.weight_matching"),
        *("path.batch_size.shared.none", "path.control.none.low", "path.control.none.high"),
    ],
    "sensitivity": [
        f"sensitivity.{net}.train_loss.jacobian_norm_test.batch_size"
        for net in ("mnist.mlp", "cifar10.mlp", "cifar10.cnn")
    ],
    "sharpness": [
        *("sharp.train_loss.first.hessian_norm", "sharp.train_loss.last.hessian_norm"),
        *("predictors.train_loss.hessian_norm.test_loss", "scale.high.hessian_norm.times"),
    ],
}


@pytest.fixture(scope="module")
def of_the_logs():
    """The facts of the committed logs; a skip where a run of one's own has replaced them."""
    changed = ["git", "-C", str(ROOT), "diff", "--quiet", "HEAD", "--", "hw1/logs"]
    if subprocess.run(changed, check=False).returncode == 1:
        pytest.skip("the logs are not the committed ones, which the docstrings are about")
    return facts.collect(HW1 / "logs")[0]["numbers"]


@pytest.mark.parametrize("script", EXPERIMENTS)
def test_a_docstring_tells_what_the_committed_logs_say(of_the_logs, script):
    told = ast.get_docstring(ast.parse((HW1 / f"{script}.py").read_text()))
    told = " ".join(re.search(r"Found:.*?Intel Xeon\.", told, re.DOTALL)[0].split())
    told = re.sub(r"\(\d\)|alpha = 100|4,000 images|two cores|CIFAR-10", "", told)
    numbers = re.findall(r"-?\d[\d,.]*\d%?|\d+", told)
    shown = [of_the_logs[name].split("\u00a0")[0].replace("−", "-") for name in FOUND[script]]
    logs = sorted((HW1 / "logs").glob("*.json"), key=lambda path: "cifar10" in path.stem)
    abouts = [json.loads(path.read_text()) for path in logs]
    minutes = {
        about["command"]: f"{about['seconds'] / 60:.0f}"
        for about in abouts
        if f"/{script}.py" in about["command"]
    }
    minutes = list(minutes.values())
    assert numbers == shown + (minutes[::-1] if script == "param_sweep" else minutes)


@pytest.mark.usefixtures("of_the_logs")
def test_the_minutes_of_the_pages_follow_from_the_logs():
    """Experiments overlap, so that the whole is a little shorter than its parts together."""
    abouts = [json.loads(path.read_text()) for path in (HW1 / "logs").glob("*_*.json")]
    minutes = {about["command"]: about["seconds"] / 60 for about in abouts}
    minutes = {command.removesuffix(" --no-figures"): n for command, n in minutes.items()}
    script = (HW1 / "run_all.sh").read_text()
    told = re.findall(r"^  (\w+):(\w+) +# (\d+)", script, re.MULTILINE)
    each = {f"python hw1/{name}.py --dataset {dataset}": n for name, dataset, n in told}
    assert each == {command: f"{n:.0f}" for command, n in minutes.items()}
    page = FRONT.read_text().replace("\n", " ")
    patterns = (r"run took (\d+) minutes on two", r"need about (\d+) minutes", r"and (\d+) on 16")
    whole, eight, sixteen = (int(re.search(pattern, page)[1]) for pattern in patterns)
    assert f" {whole} in all" in script and 0.75 < whole / sum(minutes.values()) < 1
    serial = 1  # a minute for starts, figures and report, which more cores do not shorten
    assert eight == round(serial + (whole - serial) / 4)
    assert sixteen == round(serial + (whole - serial) / 8)
    speeds = {about["command"]: about["core_gflops"] for about in abouts}
    for text in (page, script):
        assert re.search(rf"{min(speeds.values())} to {max(speeds.values())}\b", text)
    speed = np.average([*speeds.values()], weights=[*minutes.values()])
    assert f", {speed:.0f} on average" in page
    assert f"exactly 75 would need about {whole * speed / 75:.0f}." in page


def test_quick_runs_are_as_small_as_the_page_says():
    sizes = re.findall(r"`--quick`: it uses ([\d,]+) images", INNER.read_text())
    assert sizes == [f"{settings.QUICK['train']:,}"]


def test_every_constant_that_a_recipe_names_is_in_its_file():
    rows = [line for line in INNER.read_text().splitlines() if re.match(r"\| .*`\w+\.py`: ", line)]
    assert len(rows) == len(RECIPES)
    for row in rows:
        sources = "\n".join((HW1 / name).read_text() for name in re.findall(r"`(\w+\.py)`", row))
        for name in re.findall(r"`([A-Z_]+)`", row):
            assert re.search(rf"^{name} = ", sources, re.MULTILINE), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of hw1 with the page's measure, after a run of sensitivity.py on few images."""
    root = tmp_path_factory.mktemp("project")
    folder = root / "hw1"
    shutil.copytree(HW1 / "lab", folder / "lab")
    for path in HW1.glob("*.py"):
        shutil.copy(path, folder)
    text, page = (HW1 / "sensitivity.py").read_text(), INNER.read_text()
    [measure] = [code for code in blocks("python") if "def weight_norm" in code]
    column, line = 'COLUMNS += ("weight_norm",)', 'row["weight_norm"] = weight_norm(model)'
    assert column in page and line in page
    text = text.replace("\n\ndef main", f"\n{column}\n\n{measure}\n\ndef main", 1)
    text = text.replace("        rows.append(row)", f"        {line}\n        rows.append(row)")
    (folder / "sensitivity.py").write_text(text)
    generator = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = generator.integers(0, 256, (10, 28, 28))[y] * 0.9 + generator.integers(0, 25, (200, 28, 28))
    data = {"x_train": x.astype(np.uint8), "y_train": y, "x_test": x.astype(np.uint8), "y_test": y}
    np.savez(root / "mnist.npz", **data)
    environment = os.environ | {"HW1_DATA": str(root)}
    command = [sys.executable, "sensitivity.py", "--seeds", "0", "--epochs", "2", "--jobs", "1"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder, environment


def execute(code, trained):
    folder, environment = trained
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_model_is_loaded_and_its_state_says_its_setting(trained):
    load, state = (
        next(code for code in blocks("python") if word in code)
        for word in ("runs.load", "store.restore")
    )
    shown = execute(load + state, trained)
    assert "Linear(in_features=784, out_features=128" in shown
    assert shown.count("'batch_size': ") == 8 and "'batch_size': 64" in shown


def test_the_pages_own_measure_is_a_column_of_finite_numbers(trained):
    with (trained[0] / "logs" / "sensitivity_mnist.csv").open() as file:
        values = [float(row["weight_norm"]) for row in csv.DictReader(file)]
    assert len(values) == 16 and all(5 < value < 50 for value in values)  # He: about 22


def test_the_pandas_block_names_a_log_and_columns_that_exist():
    [code] = [code for code in blocks("python") if "pandas" in code]
    [path] = re.findall(r'read_csv\("([^"]+)"\)', code)
    with (HW1 / path).open() as file:
        rows = list(csv.DictReader(file))
    column, value = re.search(r"(\w+) == '(\w+)'", code).groups()
    assert set(re.findall(r'"([a-z]+_[a-z_]+)"', code)) <= set(rows[0])
    assert value in {row[column] for row in rows}


def test_the_pandas_block_runs(trained):
    pytest.importorskip("pandas", reason="needs an optional package: pip install pandas")
    [code] = [code for code in blocks("python") if "pandas" in code]
    execute(code, trained)
    assert (trained[0] / "sensitivity.png").stat().st_size > 1000


def test_every_python_block_is_one_of_those_above():
    wanted = ("runs.load", "store.restore", "pandas", "def weight_norm")
    assert all(any(word in code for word in wanted) for code in blocks("python"))
    assert len(blocks("python")) == len(wanted)


def test_every_column_of_a_log_is_explained():
    section = INNER.read_text().partition("## What the columns mean")[2].partition("\n## ")[0]
    explained = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .*? \|", section, re.MULTILINE)))
    )
    found = set()
    for path in (HW1 / "logs").glob("*.csv"):
        with path.open(newline="") as file:
            found |= set(next(csv.reader(file)))
    assert len(found) > 40 and found == explained
