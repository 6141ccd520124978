"""The shell scripts, with a stub for Python: nothing is installed, trained or drawn."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HW1 = Path(__file__).resolve().parent.parent
STUB = r"""#!/usr/bin/env bash
# A Python that has the packages in SITE only, writes down what it is asked, and installs nothing.
case "$*" in
  "-m venv"*)
    folder=${{@: -1}}
    mkdir -p "$folder/bin" "$folder/lib/python3/site-packages"
    sites=$folder/lib/python3/site-packages
    if [[ $* == *--system-site-packages* ]]; then sites+=:{sites}; fi
    sed "s|{sites}|$sites|g" "$0" > "$folder/bin/python"
    if [ -n "${{broken:-}}" ]; then echo "exit 1" > "$folder/bin/python"; fi
    chmod +x "$folder/bin/python"
    echo "$*" >> {log} ;;
  "-m pip"*)
    sites={sites}
    for word in "${{@:4}}"; do
      name=${{word%%[>=]*}} version=${{word##*=}}
      about=${{sites%%:*}}/${{name//-/_}}-$version.dist-info
      mkdir -p "$about"
      printf 'Name: %s\nVersion: %s\n' "$name" "$version" > "$about/METADATA"
    done
    echo "$*" >> {log} ;;
  */in_turn.py*)
    start='import runpy, sys; sys.executable = sys.argv[1]; sys.argv = sys.argv[2:]'
    exec {python} -S -s -c "$start; runpy.run_path(sys.argv[0], None, '__main__')" "$0" "$@" ;;
  *.py*)
    echo "HW1_DATA=${{HW1_DATA:-}} $*" >> {log}
    name=$(basename "$1" .py)
    variable=code_$name
    exit "${{!variable:-0}}" ;;
  *) PYTHONPATH={sites} exec {python} -S -s "$@" ;;
esac
"""
RUN = {"torch": "2.13.0+cpu", "torchvision": "0.28.0", "numpy": "2.4.6", "scipy": "1.17.1"}
RUN |= {"matplotlib": "3.11.2", "filelock": "4.3.1", "tqdm": "4.70.1", "scikit-learn": "1.9.1"}
RUN |= {"threadpoolctl": "3.8.0"}
REPORT = {"typst": "0.15.2", "pylopdf-fonts-zh-tw": "0.1.1"}
TEST = {"pytest": "9.2.0", "pytest-xdist": "3.8.0"}
SHELL = ("hw1/run_all.sh", "hw1/run_tests.sh", "hw1/lab/setup.sh")


class House:
    """A copy of the shell scripts in a folder of their own, and a Python with these packages."""

    def __init__(self, folder, packages):
        self.folder, self.log = folder, folder / "log"
        (folder / "hw1" / "lab").mkdir(parents=True)
        for name in (*SHELL, "hw1/lab/in_turn.py", "hw1/lab/__init__.py", "requirements.txt"):
            shutil.copy(HW1.parent / name, folder / name)
        site = folder / "site"
        for name, version in packages.items():
            about = site / f"{name.replace('-', '_')}-{version}.dist-info"
            about.mkdir(parents=True)
            (about / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        self.python = folder / "python"
        self.python.write_text(STUB.format(sites=site, log=self.log, python=sys.executable))
        self.python.chmod(0o755)

    def bash(self, *words, **environment):
        """Run bash with these words; return the finished process and the lines of the log."""
        clean = {k: v for k, v in os.environ.items() if k not in ("HW1_DATA", "PYTHONPATH")}
        environment = clean | {"PYTHON": str(self.python), "HOME": "/home/me"} | environment
        how = {"cwd": self.folder, "capture_output": True, "text": True}
        done = subprocess.run(["bash", *words], env=environment, check=False, **how)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return done, [line.replace(f"{self.folder}/", "") for line in lines]

    def setup(self, groups, **environment):
        """Source setup.sh with these groups; return the process, the log, and what $python is."""
        script = f'set -euo pipefail; source hw1/lab/setup.sh {groups}; echo "$python"'
        done, log = self.bash("-c", script, **environment)
        chosen = done.stdout.splitlines()[-1] if done.returncode == 0 else None
        return done, log, chosen


@pytest.fixture
def house(tmp_path):
    return House(tmp_path, RUN | REPORT)


def test_a_python_that_has_everything_is_used(house):
    done, log, chosen = house.setup("run report")
    assert chosen == str(house.python) and not log and done.stdout == f"{chosen}\n"
    assert done.stderr == ""


def test_what_runs_does_not_need_what_tests(house):
    assert house.setup("run")[2] == str(house.python)
    _, log, chosen = house.setup("run test")
    assert chosen == f"{house.folder}/.venv/bin/python"
    assert log[1] == "-m pip install --quiet pytest>=8 pytest-xdist>=3.5"


def test_an_existing_torch_is_used_and_the_missing_packages_are_named(tmp_path):
    """With any version of PyTorch there, .venv gets the small packages only, and sees the rest."""
    house = House(tmp_path, RUN | REPORT | {"torch": "2.6.0"})
    done, log, _ = house.setup("run report test lint")
    assert log[0] == "-m venv --system-site-packages .venv"
    assert "torch" not in log[1] and "ruff==0.17.6" in log[1]
    assert "using the PyTorch of" in done.stdout and "GB" not in done.stdout
    assert "installing into" in done.stdout and "pytest-xdist>=3.5 ruff==0.17.6" in done.stdout
    beside = house.folder / ".venv/lib/python3/site-packages/beside.pth"
    assert Path(beside.read_text().strip()).is_dir()  # a virtual environment's packages are seen


def test_torchvision_is_not_chosen_for_an_existing_torch(tmp_path):
    packages = {k: v for k, v in RUN.items() if k not in ("torchvision", "tqdm")}
    _, log, _ = House(tmp_path, packages).setup("run")
    assert log[1] == "-m pip install --quiet tqdm>=4.65"


def test_without_torch_the_size_is_said_and_everything_installed(tmp_path):
    done, log, _ = House(tmp_path, {}).setup("run report")
    assert log[0] == "-m venv .venv" and "torch==2.13.0 torchvision==0.28.0" in log[1]
    assert "typst==0.15.2" in log[1] and "pytest" not in log[1]
    assert "0.4 GB" in done.stdout and "pytorch.org/get-started" in done.stdout


@pytest.mark.parametrize(
    ("name", "version", "wanted"),
    [("numpy", "1.24.4", "numpy>=1.26"), ("typst", "0.15.1", "typst==0.15.2")],
)
def test_a_package_that_is_too_old_is_missing(tmp_path, name, version, wanted):
    _, log, _ = House(tmp_path, RUN | REPORT | {name: version}).setup("run report")
    assert log[1] == f"-m pip install --quiet {wanted}"


def test_a_made_environment_is_used_without_a_word(house):
    _, first, _ = house.setup("run test")
    done, log, _ = house.setup("run test")
    assert log == first and done.stdout == f"{house.folder}/.venv/bin/python\n"


def test_no_python_is_one_sentence(house):
    done, log, _ = house.setup("run", PYTHON="/no/python")
    assert done.returncode == 2 and not log and "Python of version 3.10 or newer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_environment_that_does_not_work_is_one_sentence(house):
    """As one of an old Python, which making the environment again does not replace."""
    done, log, _ = house.setup("run test", broken="1")
    assert done.returncode == 2 and "delete it" in done.stderr and len(log) == 1


def test_a_module_in_the_current_folder_is_not_imported(house):
    (house.folder / "re.py").write_text("raise SystemExit('the wrong re')")
    assert house.setup("run")[2] == str(house.python)


def test_every_requirement_stands_in_a_group():
    lines = (HW1.parent / "requirements.txt").read_text().splitlines()
    groups = [line[2:].partition(":")[0] for line in lines if line.startswith("#")]
    assert groups == ["run", "report", "test", "lint"] and lines[0].startswith("#")
    assert all(re.fullmatch(r"[\w-]+(==|>=)[\d.]+", x) for x in lines if not x.startswith("#"))


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--quick", "--help", "--seeds", "0"]])
def test_help_is_printed_once_and_nothing_else_is_done(tmp_path, words):
    done, log = House(tmp_path, {}).bash("hw1/run_all.sh", *words)
    assert done.returncode == 0 and done.stdout.count("usage:") == 1 and not log
    assert not (tmp_path / ".venv").exists()


def test_every_flag_of_the_help_exists():
    text = subprocess.run(
        ["bash", HW1 / "run_all.sh", "--help"], capture_output=True, text=True, check=True
    ).stdout
    source = (HW1 / "lab" / "flags.py").read_text()
    assert all(flag in source for flag in set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"})


SCRIPTS = ["random_labels", "param_sweep", "param_sweep", "interpolation", "interpolation"]
SCRIPTS += ["sensitivity", "sensitivity", "sharpness"]


def scripts(log):
    return [re.search(r"(\w+)\.py", line)[1] for line in log]


def test_the_full_run_ends_with_the_report(house):
    done, log = house.bash("hw1/run_all.sh", "--jobs", "2")
    assert done.returncode == 0 and scripts(log) == ["files", *SCRIPTS, "plot_all", "build"]
    assert log[2] == "HW1_DATA= hw1/param_sweep.py --dataset cifar10 --no-figures --jobs 2"
    table = done.stdout.partition("Minutes:\n")[2]
    assert re.findall(r"^(\w+) \w+ +0\.0$", table, re.MULTILINE) == SCRIPTS


def test_a_data_set_is_run_once_and_without_the_report(house):
    words = ["hw1/run_all.sh", "--dataset=digits", "--quick"]
    done, log = house.bash(*words, last="random_labels")  # a variable of the user
    assert done.returncode == 0 and scripts(log) == [*dict.fromkeys(SCRIPTS), "plot_all"]
    assert log[-1].endswith("plot_all.py --out hw1/quick --dataset digits")


@pytest.mark.parametrize("words", [[], ["--quick"]])
def test_each_figure_is_drawn_once_at_the_end(house, words):
    _, log = house.bash("hw1/run_all.sh", *words)
    drawing = [line for line in log[1:] if "--no-figures" not in line]
    assert scripts(drawing)[:1] == ["plot_all"] and len(drawing) == (1 if words else 2)
    assert scripts(log[: 1 + len(SCRIPTS)])[1:] == SCRIPTS


def test_missing_data_is_digits_under_a_banner(house):
    done, log = house.bash("hw1/run_all.sh", "--quick", code_files="3")
    assert "None of it is MNIST or CIFAR-10" in done.stdout
    assert all("--dataset digits" in line for line in log[1:]) and len(log) == 7


@pytest.mark.parametrize("code", ["1", "2"])
def test_damaged_data_stops_and_is_not_replaced_by_digits(house, code):
    done, log = house.bash("hw1/run_all.sh", "--quick", code_files=code)
    assert done.returncode == int(code) and scripts(log) == ["files"] and not done.stdout


def test_a_refused_flag_stops_before_anything_is_drawn(house):
    done, log = house.bash("hw1/run_all.sh", "--nonsense", code_random_labels="2")
    assert done.returncode == 2 and scripts(log) == ["files", "random_labels"]


def test_a_failed_run_does_not_stop_the_others(house):
    done, log = house.bash("hw1/run_all.sh", code_random_labels="1")
    assert done.returncode == 1 and scripts(log)[-2:] == ["plot_all", "build"]


@pytest.mark.parametrize(("code", "then"), [("2", ["build"]), ("130", [])])
def test_a_log_that_cannot_be_drawn_does_not_stop_the_report(house, code, then):
    done, log = house.bash("hw1/run_all.sh", code_plot_all=code)
    assert done.returncode == int(code) and scripts(log)[-1 - len(then) :] == ["plot_all", *then]


@pytest.mark.parametrize(
    "words",
    [
        ["--out=~/runs", "--data-dir=~/x"],
        ["--out", "~/runs", "--data-dir", "~/x"],
        ["--out", "/home/me/runs", "--data-dir=/home/me/x"],
    ],
)
def test_the_tilde_is_the_home_folder(house, words):
    done, log = house.bash("hw1/run_all.sh", "--dataset", "digits", *words)
    assert done.returncode == 0 and "Figures: /home/me/runs/figures" in done.stdout
    assert all(line.startswith("HW1_DATA=/home/me/x ") for line in log)
    assert all("--out /home/me/runs" in line and "~" not in line for line in log)
    assert all("--data-dir /home/me/x" in line for line in log[:-1])


def test_the_tilde_of_the_environment_is_the_home_folder(house):
    _, log = house.bash("hw1/run_all.sh", "--quick", HW1_DATA="~/data")
    assert log and all(line.startswith("HW1_DATA=/home/me/data ") for line in log)


def test_a_closed_pipe_leaves_no_message(house):
    done, _ = house.bash("-c", "bash hw1/run_all.sh --quick | true", code_files="3")
    assert done.stderr == ""


def test_the_tests_need_what_runs_and_what_tests(house):
    _, log = house.bash("hw1/run_tests.sh", "-k", "data")
    assert log[0].startswith("-m venv --system-site-packages")
    assert log[1] == "-m pip install --quiet pytest>=8 pytest-xdist>=3.5"
