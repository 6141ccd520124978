"""The benchmark writes what it promises and compares correctly; no timing decides a test."""

import csv
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from lab import files, logs, start

import pytest
import torch

import baselines
import benchmark
import measures
import plot_all
import scripts
import targets
import train
from data import standardise

HW1 = Path(__file__).resolve().parent.parent
COMPARED = {"mlp_epoch", "cnn_epoch", "products_64", "products_512", "two_runs", "input_norms"}
COMPARED |= {"instructions", "start"}
SCALED = {"scaling_width", "scaling_examples", "scaling_jobs"}
MARK = f"BENCHMARK_OF_{os.getpid()}"  # a variable that all processes of the quick run inherit


def need_torchvision():
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is missing")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The rows and the .json of a quick run, and its folder."""
    need_torchvision()
    out = tmp_path_factory.mktemp("quick")
    command = [sys.executable, HW1 / "bench" / "benchmark.py", "--quick", "--out", out]
    environment = os.environ | {MARK: "yes"}
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    with (out / "logs" / "benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((out / "logs" / "benchmark.json").read_text()), out


def test_every_comparison_has_positive_numbers(quick):
    rows, about, out = quick
    assert tuple(rows[0]) == benchmark.COLUMNS
    names = {row["comparison"] for row in rows}
    assert names >= COMPARED | SCALED | {"hessian_norm", "memory_jobs2_digits"}
    assert all(0 < float(row["seconds"]) < math.inf for row in rows)
    assert all(float(row["peak_mb"]) > 0 for row in rows if row["peak_mb"])
    assert all("ours" in {r["side"] for r in rows if r["comparison"] == name} for name in names)
    assert {row["comparison"] for row in about["summary"]} >= COMPARED
    assert about["versions"]["torch"] == torch.__version__ and about["git_commit"]
    assert about["command"].startswith("python hw1/bench/benchmark.py --quick")
    assert (about["quick"], about["data_version"]) == (True, "")
    assert not list(out.rglob("*.part"))
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["logs.lock"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes as Linux lists them")
def test_no_process_outlives_it(quick):
    def left():
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                found += [path.parent.name] if f"{MARK}=yes".encode() in path.read_bytes() else []
            except OSError:  # another user's, or it ended meanwhile
                continue
        return found

    for _ in range(300):  # on a busy machine a process server takes its time to end
        if not left():
            return
        time.sleep(0.1)
    raise AssertionError(f"processes {left()} are still there")


def test_the_instructions_are_the_pinned_and_the_processors_own(quick):
    """PyTorch tells which instructions it uses; a fresh process says which it would choose."""
    own = {name: value for name, value in os.environ.items() if name not in start.PINNED}
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    found = [
        subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()
        for environment in (own | start.PINNED, own)
    ]
    settings = {row["setting"] for row in quick[0] if row["comparison"] == "instructions"}
    assert [setting.split("; ")[-1] for setting in settings] == [" beside ".join(found)]


def test_its_figure(quick):
    out = quick[2]
    subprocess.run([sys.executable, HW1 / "plot_all.py", "--out", out], check=False)
    assert {p.name for p in (out / "figures").iterdir()} == {"benchmark.png", "benchmark.pdf"}


def test_a_log_of_a_gpu_is_drawn_without_the_growth(quick, tmp_path):
    """With --device cuda there are only the two epochs."""
    rows, about, _ = quick
    (tmp_path / "logs").mkdir()
    kept = [row for row in rows if row["comparison"] == "mlp_epoch"]
    about = about | {"summary": [r for r in about["summary"] if r["comparison"] == "mlp_epoch"]}
    logs.write(tmp_path / "logs" / "benchmark", benchmark.COLUMNS, kept, about)
    paths, bad = plot_all.draw(tmp_path, None, ["benchmark"])
    assert paths and not bad


def test_the_seconds_are_those_of_whole_epochs():
    """The training loop gives way at many places of an epoch; each was once timed as an epoch."""
    x, y = standardise(files.arrays("digits"))[:2]
    setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-10", "batch_size": 20}
    assert len(baselines.our_epochs(setting | {"epochs": 3}, x, y)) == 3


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cuda"])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2 and "PyTorch finds no cuda device" in capsys.readouterr().err


def test_a_folder_without_a_name_is_refused(monkeypatch, capsys):
    """The current folder was taken."""
    monkeypatch.setattr(benchmark, "measure", None)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--quick", "--out", ""])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2 and "the name of the folder is empty" in capsys.readouterr().err


def test_memory_counts_no_bystander(monkeypatch, tmp_path):
    """Idle processes of an earlier comparison are children too; they once doubled one job's MB."""
    x, y = standardise(files.arrays("digits"))[:2]
    torch.save((x, y), tmp_path / "train.tensors")
    seen = set()
    monkeypatch.setattr(scripts, "pss", lambda pid: seen.add(pid) or 1)
    setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-10"}
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    bystander.start()
    bench = benchmark.Benchmark(SimpleNamespace(repeats=1), tmp_path)
    bench.scale("scaling_jobs", 1, tmp_path / "train.tensors", setting)
    bystander.kill()
    assert len(seen) == 1 and bystander.pid not in seen
    assert bench.rows[0]["peak_mb"] == 1


def test_a_start_without_a_training_step_is_no_number(tmp_path):
    with pytest.raises(RuntimeError, match="--epochs"):
        scripts.first_step(tmp_path, ["--dataset", "digits", "--epochs", "none"])


def row(comparison, side, seconds, peak_mb=""):
    return {"comparison": comparison, "side": side, "seconds": seconds, "peak_mb": peak_mb}


def test_medians_ratios_and_the_better_rival():
    times = {"ours": (2, 1, 90), "loader_0_workers": (30, 31, 29), "loader_2_workers": (20, 1, 22)}
    rows = [row("mlp_epoch", side, s) for side, all_s in times.items() for s in all_s]
    rows += [row("products_64", "ours", 3), row("products_64", "limit", 2)]
    rows += [row("instructions", "ours", 5), row("instructions", "auto", 4)]
    rows += [row("hessian_norm", "ours", 3), row("start", "ours", 3)]
    rows += [row("memory_jobs8_cifar10", "ours", 60, 5000), row("scaling_jobs", "ours", 1)]
    found = {r["comparison"]: (r["ours"], r["theirs"], r["value"]) for r in targets.summary(rows)}
    assert found == {
        "mlp_epoch": (2, 20, 10),
        "products_64": (3, 2, 1.5),
        "instructions": (5, 4, 1.25),
        "start": (3, None, 3),
        "memory_jobs8_cifar10": (60, None, 5000),
    }


def test_both_sides_do_the_same_work(monkeypatch):
    x, y = torch.randn(30, 1, 4, 4), torch.arange(30) % 10
    model = train.network(train.SETTING | {"dataset": "digits", "model": "mlp-16-8-10"})
    norms, norm = [], torch.Tensor.norm
    monkeypatch.setattr(torch.Tensor, "norm", lambda t: norms.append(norm(t)) or norms[-1])
    baselines.looped_norms(model, x, y)
    monkeypatch.undo()
    loop = torch.stack(norms).view(30, 2).mean(0).tolist()
    ours = measures.input_gradient_norm(model, x, y), measures.jacobian_norm(model, x)
    assert loop == pytest.approx(ours, rel=1e-5)


def test_the_usual_data_set_is_standardised_like_ours():
    need_torchvision()
    raw = files.arrays("digits")
    x = standardise(raw)[0]
    images = baselines.Images(raw["x_train"], raw["y_train"])
    theirs = torch.stack([images[i][0] for i in range(50)])
    torch.testing.assert_close(theirs, x[:50], rtol=1e-4, atol=1e-4)
    color = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8).numpy()
    image = baselines.Images(color, torch.zeros(3))[0][0]
    assert image.shape == (3, 8, 8)


def test_a_missing_torchvision_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--quick", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    assert "torchvision, beside which an epoch is timed, is missing" in capsys.readouterr().err


def test_missing_data_is_one_sentence(tmp_path, monkeypatch):
    need_torchvision()
    monkeypatch.setenv("HW1_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"rubbish")
    command = [sys.executable, HW1 / "bench" / "benchmark.py", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.startswith("benchmark: error: ")
