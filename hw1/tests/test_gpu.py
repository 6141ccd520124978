"""What a machine with a CUDA GPU checks: the CPU's numbers, and no waiting inside an epoch."""

import pytest
import torch

import data
import measures
import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SETTING = train.SETTING | {"dataset": "digits", "epochs": 3, "batch_size": 100, "log_every": 1}
MODELS = ["mlp-64-32-32-10", "cnn-8"]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Convolutions in float32, as on the CPU; by default cuDNN shortens them to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_losses_are_the_cpus(model, optimizer, tmp_path):
    history = {}
    for device in ("cpu", "cuda"):
        tensors = data.load("digits", device=device)
        setting = SETTING | {"model": model, "optimizer": optimizer}
        state = train.train(setting, tensors, tmp_path / device)
        history[device] = state["history"]
    assert len(history["cpu"]) == 4
    for cpu, cuda in zip(*history.values(), strict=True):
        for name in ("train_loss", "test_loss"):
            assert cuda[name] == pytest.approx(cpu[name], rel=1e-3)


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
