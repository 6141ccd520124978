"""Runs on a GPU: the CPU's numbers, no waiting inside an epoch, and processes that can use it.

The tests need a machine with CUDA, except for the first, which runs everywhere.
"""

import csv
import subprocess
import sys
from pathlib import Path

from lab import parallel

import pytest
import torch

import data
import measures
import train

HW1 = Path(__file__).resolve().parent.parent
SETTING = train.SETTING | {"dataset": "digits", "epochs": 3, "batch_size": 100, "log_growth": 0.003}
MODELS = ["mlp-64-32-32-10", "cnn-8"]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Compute convolutions in float32, as on the CPU; cuDNN's default is the less precise TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def in_a_process(function):
    """Return what function(report) gives in a process of the engine."""
    with parallel.workers(2) as found:
        [(_, value, error)] = parallel.side_by_side(found, "test", function, {"key": ()})
    assert error is None
    return value


def knows_cuda(_report):
    return torch.cuda.is_initialized()


def test_a_process_does_not_inherit_cuda(monkeypatch):
    """A process that is forked from one that has initialised CUDA cannot use CUDA.

    Here the test itself only pretends to have initialised it, so that no GPU is needed. The
    process must come from the server, which has not.
    """
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    assert torch.cuda.is_initialized()
    assert not in_a_process(knows_cuda)


def on_cuda(_report):
    before = torch.cuda.is_initialized()
    return before, torch.arange(4, device="cuda").sum().item()


@needs_gpu
def test_a_process_can_use_cuda_after_the_script_has_used_it():
    assert on_cuda(None)[1] == 6  # now CUDA is initialised in this process
    assert torch.cuda.is_initialized()
    assert in_a_process(on_cuda) == (False, 6)


@needs_gpu
def test_two_jobs_on_the_gpu_write_the_cpus_log(tmp_path):
    rows = {}
    for device in ("cpu", "cuda"):
        flags = ["--quick", "--dataset", "digits", "--epochs", "1", "--jobs", "2"]
        flags += ["--device", device, "--out", tmp_path / device]
        command = [sys.executable, HW1 / "random_labels.py", *flags]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        with (tmp_path / device / "logs" / "random_labels_digits.csv").open(newline="") as file:
            rows[device] = [
                float(row[name])
                for row in csv.DictReader(file)
                for name in ("train_loss", "test_loss")
            ]
    assert rows["cuda"] == pytest.approx(rows["cpu"], rel=1e-2)


@needs_gpu
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_losses_are_the_cpus(model, optimizer, tmp_path):
    history = {}
    for device in ("cpu", "cuda"):
        tensors = data.load("digits", device=device)
        setting = SETTING | {"model": model, "optimizer": optimizer}
        state = train.train(setting, tensors, tmp_path / f"{device}.state")
        history[device] = state["history"]
    assert len(history["cpu"]) == 2 + 2 * 15  # after epochs 0 and 1, then after every step
    for cpu, cuda in zip(*history.values(), strict=True):
        assert cuda["epoch"] == cpu["epoch"]
        for name in ("train_loss", "test_loss"):
            assert cuda[name] == pytest.approx(cpu[name], rel=1e-3)


@needs_gpu
@pytest.mark.parametrize("model", MODELS)
def test_measures_are_the_cpus(model):
    found = {}
    for device in ("cpu", "cuda"):
        x, y, *_ = data.load("digits", device=device)
        net = train.network(SETTING | {"model": model}, device=device)
        found[device] = [
            measures.input_gradient_norm(net, x, y),
            measures.jacobian_norm(net, x),
            measures.parameter_gradient_norm(net, x, y),
            measures.hessian_norm(net, x, y)[0],
            measures.block_hessian_norm(net, x, y),
            measures.ball_sharpness(net, x, y, 1e-3),
            measures.box_sharpness(net, x, y, 1e-4),
        ]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3)


@needs_gpu
@pytest.mark.parametrize("model", MODELS)
def test_no_waiting_inside_an_epoch(model):
    """From the first batch's forward pass to the last batch's step, a wait raises an error."""
    x, y, *_ = data.load("digits", device="cuda")
    net = train.network(SETTING | {"model": model}, device="cuda")
    optimizer = train.OPTIMIZERS["adam"](net.parameters(), lr=1e-3, fused=True)
    batches, steps = -(-len(y) // SETTING["batch_size"]), []

    def before(*_):
        torch.cuda.set_sync_debug_mode("error")

    def after(*_):
        steps.append(1)
        if len(steps) % batches == 0:
            torch.cuda.set_sync_debug_mode("default")

    net.register_forward_pre_hook(before)
    optimizer.register_step_post_hook(after)
    try:
        assert all(finite for _, finite in train.epochs(net, optimizer, x, y, SETTING, 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 3 * batches


class Drops(torch.nn.Module):
    """Draws random numbers in evaluation mode, too."""

    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.05)


@needs_gpu
def test_chance_on_the_gpu_is_seen():
    x, y, *_ = data.load("digits", device="cuda")
    net = train.network(SETTING | {"model": MODELS[0]}, device="cuda")
    with pytest.raises(measures.MeasureError, match="chance"):
        measures.hessian_norm(torch.nn.Sequential(*net, Drops()), x, y)
    assert measures.jacobian_norm(net, x) > 0
