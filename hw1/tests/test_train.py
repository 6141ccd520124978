"""The networks, the one training loop, evaluation, and what a checkpoint restores."""

import copy
import hashlib
import math
import re
from functools import partial
from itertools import pairwise

from lab import settings, store, target

import numpy as np
import pytest
import torch
from torch import nn

import data
import models
import train

BASE = train.SETTING | {
    "dataset": "digits",
    "model": "mlp-64-16-10",
    "batch_size": 100,
    "epochs": 4,
}


@pytest.fixture(scope="module")
def tensors():
    return data.load("digits")


def test_count_params_by_hand():
    course = models.mlp([784, 256, 256, 256, 10])
    assert models.count_params(course) == 785 * 256 + 2 * 257 * 256 + 257 * 10 == 335_114
    assert models.count_params(models.mlp([784, 32, 32, 10])) == 26_506
    w = 5
    convolutions = (27 + 1) * w + (9 * w + 1) * 2 * w + (18 * w + 1) * 4 * w
    assert models.count_params(models.cnn(w)) == convolutions + (4 * w + 1) * 10


def test_networks_start_from_he_and_from_their_seed_alone():
    first, again = (models.build("mlp-784-400-10", generator=seeded(0)) for _ in range(2))
    assert torch.equal(first[1].weight, again[1].weight)
    assert first[1].weight.std().item() == pytest.approx(math.sqrt(2 / 784), rel=0.01)
    assert first[1].bias.abs().max() == 0
    assert models.build("cnn-3", 1)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert any(isinstance(layer, nn.Dropout) for layer in models.mlp([4, 3, 2], dropout=0.5))


def test_the_mean_over_positions_is_that_of_pytorch_and_its_gradient_is_channels_last():
    x = torch.randn(5, 12, 4, 4, generator=seeded(0)).to(memory_format=torch.channels_last)
    slopes, along = [], torch.randn(5, 12, generator=seeded(1))
    for layers in ([models.PositionMean()], [nn.AdaptiveAvgPool2d(1), nn.Flatten()]):
        inputs = x.clone(memory_format=torch.channels_last).requires_grad_()
        outputs = nn.Sequential(*layers)(inputs)
        slopes += [outputs, torch.autograd.grad(outputs, inputs, along)[0]]
    assert torch.equal(slopes[0], slopes[2]) and torch.equal(slopes[1], slopes[3])
    assert slopes[1].is_contiguous(memory_format=torch.channels_last)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_three_seeds_differ_and_follow_the_named_one():
    seeds = {
        data.seed_for(s, p) for s in (0, 1) for p in ("labels", "weights", "order 1", "order 2")
    }
    assert len(seeds) == 8


def test_evaluate_is_the_textbook_mean_at_any_batch_size(tensors):
    x, y = tensors[:2]
    model = models.mlp([64, 16, 10], dropout=0.5, generator=seeded(0)).train()
    results = [train.evaluate(model, x, y, batch_size=size) for size in (8, 64, 512, 4096)]
    assert model.training  # left as it was, measured without dropout
    with torch.no_grad():
        probabilities = model.eval()(x).double().softmax(1)
    loss = -probabilities[torch.arange(len(y)), y].log().mean().item()
    accuracy = (probabilities.argmax(1) == y).double().mean().item()
    for result in results:
        assert result == pytest.approx((loss, accuracy), rel=1e-6)


def test_evaluate_leaves_every_submodule_in_its_mode(tensors):
    x, y = tensors[0][:50], tensors[1][:50]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10), nn.Dropout(0.5))
    model.train()[2].eval()  # the usual way to keep the statistics of a BatchNorm
    train.evaluate(model, x, y)
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
    with pytest.raises(RuntimeError):
        train.evaluate(model, x[:, :, :5], y)
    assert [m.training for m in model.modules()] == [True, True, True, False, True]


def test_evaluate_refuses_labels_that_pytorch_would_ignore(tensors):
    x, y = tensors[0][:50], tensors[1][:50].clone()
    y[3] = -100
    with pytest.raises(ValueError, match="label"):
        train.evaluate(models.mlp([64, 10]), x, y)


def test_one_epoch_equals_a_loop_written_out(tensors):
    """Against plain PyTorch: Adam by its formula, the same batches, a smaller last one."""
    x, y = tensors[0][:250], tensors[1][:250]
    setting = BASE | {"epochs": 2, "lr": 1e-2}
    model = train.network(setting)
    reference = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    places = [e for e, finite in train.epochs(model, optimizer, x, y, setting, 1) if finite]
    assert places == [0.3333, 0.6667, 1, 1.3333, 1.6667, 2]  # after each of the steps
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in reference.parameters()]
    step = 0
    for epoch in (1, 2):
        order = torch.randperm(250, generator=seeded(data.seed_for(0, f"order {epoch}")))
        for rows in (order[:100], order[100:200], order[200:]):
            step += 1
            loss = nn.functional.cross_entropy(reference(x[rows]), y[rows])
            gradients = torch.autograd.grad(loss, list(reference.parameters()))
            with torch.no_grad():
                for p, g, (m, v) in zip(reference.parameters(), gradients, moments, strict=True):
                    m.mul_(0.9).add_(0.1 * g)
                    v.mul_(0.999).add_(0.001 * g * g)
                    scale = (v / (1 - 0.999**step)).sqrt() + 1e-8
                    p -= 1e-2 * (m / (1 - 0.9**step)) / scale
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


def test_linear_keeps_the_rate_for_half_of_the_epochs_and_then_goes_to_nearly_zero(tensors):
    setting = BASE | {"schedule": "linear", "epochs": 8}
    model = train.network(setting)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = [
        optimizer.param_groups[0]["lr"]  # 50 examples: one step an epoch
        for _ in train.epochs(model, optimizer, tensors[0][:50], tensors[1][:50], setting, 1)
    ]
    wanted = [1e-3] * 5 + [0.75e-3, 0.5e-3, 0.25e-3]
    assert rates == pytest.approx(wanted)


def test_history_is_measured_in_evaluation_mode_and_never_on_running_averages(tensors, tmp_path):
    setting = BASE | {"log_growth": 0.3, "dropout": 0.3}
    state = train.train(setting, tensors, tmp_path / "state")
    model = train.network(setting, state["stops"]["epochs"]["weights"])
    measured = [row["epoch"] for row in state["history"]]
    assert measured[:2] == [0, 1] and measured[-1] == 4
    for before, after in list(pairwise(state["history"]))[1:-1]:
        times = 1 if 0.9 <= before["train_acc"] < 0.99 else 3
        growth = after["epoch"] / before["epoch"] - 1
        assert 0.3 * times <= growth < 0.3 * times + 2 / train.CHECKS
    assert any(isinstance(epoch, float) for epoch in measured)
    final = {"epoch": 4} | train.metrics(model, *tensors)
    assert state["history"][-1] == final
    same = train.train(setting | {"log_growth": None}, tensors, tmp_path / "same")
    assert same["history"] == [final]
    for name, value in same["stops"]["epochs"]["weights"].items():  # measuring changes nothing
        assert torch.equal(value, state["stops"]["epochs"]["weights"][name])


@pytest.mark.parametrize("batch_size", [8, 32, 400])
def test_target_stop_is_the_first_check_under_it_and_epochs_stop_is_kept(
    tensors, tmp_path, batch_size
):
    setting = BASE | {"target": 1.0, "max_epochs": 200, "epochs": 3, "batch_size": batch_size}
    state = train.train(setting, tensors, tmp_path / "state")
    model = train.network(setting)
    optimizer = torch.optim.Adam(model.parameters(), lr=setting["lr"], fused=True)
    losses = {}  # of the whole split, at every place that is checked
    for epoch, _ in train.epochs(model, optimizer, *tensors[:2], setting, 1):
        assert not model.training
        losses[epoch] = train.evaluate(model, *tensors[:2])[0]
        if losses[epoch] < 1.0 and epoch >= 3:
            break
    first = next(epoch for epoch, loss in losses.items() if loss < 1.0)
    assert state["stops"]["train_loss"]["epoch"] == first
    assert state["stops"]["epochs"]["epoch"] == 3
    for stop in state["stops"].values():
        model = train.network(setting, stop["weights"])
        assert train.evaluate(model, *tensors[:2])[0] == losses[stop["epoch"]]


def test_an_epoch_has_twenty_checks_or_one_after_every_step(tensors):
    x, y = tensors[0][:200], tensors[1][:200]
    for batch_size, wanted in ((1, 20), (7, 20), (50, 4), (200, 1)):
        setting = BASE | {"batch_size": batch_size, "epochs": 2}
        model = train.network(setting)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        places = [epoch for epoch, _ in train.epochs(model, optimizer, x, y, setting, 1)]
        assert len(places) == 2 * wanted and places == sorted(places)
        assert places[wanted - 1] == 1 and places[-1] == 2
        most = 1 / train.CHECKS + 1.1 * batch_size / 200  # a check waits for the end of its step
        assert max(b - a for a, b in pairwise([0, *places])) <= most


def test_the_whole_split_is_measured_only_near_the_target(tensors, monkeypatch):
    model = train.network(BASE)
    x, y = (t.repeat(5, *[1] * (t.dim() - 1))[:6000] for t in tensors[:2])
    loss, sizes, losses, seen = train.evaluate(model, x, y)[0], [], target.losses, {}
    monkeypatch.setattr(target, "losses", lambda m, a, b: sizes.append(len(a)) or losses(m, a, b))
    assert not target.is_under(loss / 2, model, x, y, seen) and sizes == [286] and not seen
    assert target.is_under(loss * 1.001, model, x, y, seen) and sizes[1:] == [286, 6000]
    assert seen["losses"].mean().item() == pytest.approx(loss, rel=1e-5)
    del sizes[:]
    assert not target.is_under(loss * 0.999, model, x, y, seen)  # the same model: no change
    assert sizes == [286]
    with torch.no_grad():
        model[1].weight *= 1.001  # nearly the same
    near = train.evaluate(model, x, y)[0]
    assert not target.is_under(near - 0.01, model, x, y, seen) and 6000 not in sizes
    assert target.is_under(near + 1e-4, model, x, y, seen) and 6000 in sizes
    del sizes[:]
    assert not target.is_under(0.0, model, x[:100], y[:100], {}) and sizes == [100]  # too few


def test_examples_that_are_harder_in_turn_do_not_delay_a_stop():
    """As in MNIST: a part with an even stride would hold the harder ones alone."""
    easy, hard = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 1.0])
    x, y = torch.stack([hard, easy] * 3000), torch.zeros(6000, dtype=torch.int64)
    loss = (math.log1p(math.e) + math.log1p(math.exp(-4))) / 2
    assert target.is_under(1.01 * loss, nn.Identity(), x, y, {})
    assert not target.is_under(0.99 * loss, nn.Identity(), x, y, {})


def test_a_target_out_of_reach_and_a_diverged_loss_leave_nan_not_numbers(tensors, tmp_path):
    far = BASE | {"target": 1e-9, "max_epochs": 5, "epochs": 3}
    state = train.train(far, tensors, tmp_path / "far")
    assert state["finite"] and not state["stops"]["train_loss"]["reached"]
    assert all(v.isnan().all() for v in state["stops"]["train_loss"]["weights"].values())
    wild = train.train(BASE | {"optimizer": "sgd", "lr": 1e12}, tensors, tmp_path / "wild")
    assert not wild["finite"] and math.isnan(wild["history"][-1]["train_loss"])
    weights = wild["stops"]["epochs"]["weights"]
    loss, accuracy = train.evaluate(train.network(BASE, weights), *tensors[:2])
    assert math.isnan(loss) and math.isnan(accuracy)


@pytest.mark.parametrize(
    "change",
    [{}, {"optimizer": "momentum", "dropout": 0.2}, {"target": 1.7, "max_epochs": 50}],
)
def test_a_run_cut_in_the_middle_ends_in_the_same_bits(tensors, tmp_path, monkeypatch, change):
    setting = BASE | change | {"log_growth": 0.01}
    whole = train.train(setting, tensors, tmp_path / "whole")
    monkeypatch.setattr(train, "SECONDS_BETWEEN_CHECKPOINTS", -1)  # after every epoch
    save, saved = train.save, []

    def save_and_die(path, state):
        save(path, state)
        saved.append((state["epoch"], bool(state["seen"])))
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train.train(setting, tensors, tmp_path / "cut")
    monkeypatch.setattr(train, "save", save)
    resumed = train.train(setting, tensors, tmp_path / "cut")
    assert [epoch for epoch, _ in saved] == [1, 2] and saved[1][1] == ("target" in change)
    assert resumed["history"] == whole["history"] and {*resumed["stops"]} == {*whole["stops"]}
    for stop, at in whole["stops"].items():
        assert at["epoch"] == resumed["stops"][stop]["epoch"] > 2
        for name, value in at["weights"].items():
            assert torch.equal(value, resumed["stops"][stop]["weights"][name])


def test_no_test_example_is_ever_trained_on(tensors):
    """The rows that the loop reads are training rows, each once an epoch."""
    x = torch.arange(130.0).reshape(130, 1, 1, 1)
    y, seen = torch.zeros(130, dtype=torch.int64), []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, 10))

        def forward(self, inputs):
            seen.append(inputs.flatten())
            return inputs.flatten(1) @ self.weight * 0

    model = Spy()
    list(
        train.epochs(model, torch.optim.SGD(model.parameters(), 1.0), x, y, BASE | {"epochs": 2}, 1)
    )
    epochs = torch.cat(seen).reshape(2, 130)
    assert np.array_equal(epochs.sort(1).values, np.tile(np.arange(130.0), (2, 1)))
    assert not torch.equal(epochs[0], epochs[1])  # a new order


def test_a_crafted_checkpoint_with_a_right_checksum_is_refused_with_one_warning(tmp_path, capsys):
    for content in (b"", b"not a pickle", b"\x80\x02}q\x00.", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "state").write_bytes(hashlib.sha256(content).digest() + content)
        assert store.restore(tmp_path / "state") is None
        assert capsys.readouterr().err.count("\n") == 1


REFUSED = [
    ({"optimizer": "SGD"}, "optimizer must be one of adam, adamw, sgd, momentum, not 'SGD'"),
    ({"optimizer": ["adam"]}, "optimizer must be one of adam"),
    ({"schedule": "cosine"}, "schedule must be one of constant, linear, not 'cosine'"),
    ({"colour": "red"}, "setting 'colour' is unknown"),
    ({"lr": "1e-3"}, "lr must be a positive number, not '1e-3'"),
    ({"lr": math.nan}, "lr must be a positive number, not nan"),
    ({"lr": math.inf}, "lr must be a positive number, not inf"),
    ({"batch_size": 0}, "batch_size must be a positive integer, not 0"),
    ({"batch_size": 64.0}, "batch_size must be a positive integer, not 64.0"),
    ({"train_size": -5}, "train_size must be a positive integer or None, not -5"),
    ({"target": math.nan}, "target must be a number or None, not nan"),
    ({"target": 0.1}, "a run with a target needs max_epochs"),
    ({"max_epochs": 9}, "max_epochs is for a run with a target"),
    ({"target": 0.1, "max_epochs": 2, "epochs": 3}, "max_epochs must not be less than epochs"),
    (
        {"target": 0.1, "max_epochs": 9, "schedule": "linear"},  # its rate would fall below 0
        "a linear schedule ends after fixed epochs: it cannot go with a target",
    ),
    ({"weight_decay": None}, "weight_decay must be a number that is not negative"),
    ({"dropout": 1.5}, "dropout must be a number from 0 to 1, not 1.5"),
    ({"label_corruption": -0.1}, "label_corruption must be a number from 0 to 1, not -0.1"),
    ({"model": None}, "model must be a name such as mlp-784-256-10 or cnn-16, not None"),
    ({"model": "resnet-18"}, "unknown network 'resnet-18'"),
    ({"model": "mlp-64"}, "unknown network 'mlp-64'"),
    ({"model": "cnn-8-16"}, "unknown network 'cnn-8-16'"),
    ({"model": "cnn-0"}, "unknown network 'cnn-0'"),
    ({"model": "mlp-784-16-10"}, "model 'mlp-784-16-10' cannot be used"),
    ({"model": "mlp-64-16-3"}, "3 outputs, but digits has 10 classes"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_setting_that_cannot_work_is_refused_with_one_sentence(change, message):
    settings.check_setting(BASE)
    with pytest.raises(settings.SettingError, match=re.escape(message)) as error:
        settings.check_setting(BASE | change)
    assert "\n" not in str(error.value)


class Plain(torch.optim.SGD):
    """An optimizer without the faster form, as PyTorch's RMSprop is at present."""

    def __init__(self, params, lr, weight_decay):
        super().__init__(params, lr, weight_decay=weight_decay)


@pytest.mark.parametrize("entry", [Plain, "sgd"])
def test_an_optimizer_that_takes_other_arguments_is_refused_at_once(monkeypatch, entry):
    """It was told once for each run, after the start."""
    monkeypatch.setattr(train, "OPTIMIZERS", train.OPTIMIZERS | {"mine": entry})
    message = r"optimizer 'mine' cannot be used: .* \(train.py passes lr, weight_decay, fused\)"
    with pytest.raises(settings.SettingError, match=message):
        settings.check_setting(BASE | {"optimizer": "mine"})
    for name in train.OPTIMIZERS.keys() - {"mine"}:
        settings.check_setting(BASE | {"optimizer": name})


def test_an_optimizer_whose_own_rate_had_no_effect_is_refused(monkeypatch):
    """Its entry was silently overridden by the setting of the run."""
    entry = partial(torch.optim.AdamW, weight_decay=0.5)
    monkeypatch.setattr(train, "OPTIMIZERS", train.OPTIMIZERS | {"decaying": entry})
    with pytest.raises(settings.SettingError, match="weight_decay in OPTIMIZERS has no effect"):
        settings.check_setting(BASE | {"optimizer": "decaying"})


class Block(nn.Module):
    """A layer that is not at the top of the network, one that initialises itself, no bias."""

    def __init__(self):
        super().__init__()
        self.own, self.inner = nn.Parameter(torch.randn(16)), nn.Linear(16, 16, bias=False)
        self.register_buffer("order", torch.arange(16))

    def forward(self, x):
        return x + self.inner(x[:, self.order]) * self.own


def blocky(sizes, dropout, generator):
    block = Block()  # its numbers are drawn first
    layers = [nn.Flatten(), nn.Linear(sizes[0], 16), block, nn.Linear(16, sizes[-1])]
    return models._initialise(nn.Sequential(*layers), generator)


def test_the_weights_of_a_block_come_from_the_seed(monkeypatch):
    """They came from a generator that no seed had set, and each run had others."""
    monkeypatch.setattr(models, "mlp", blocky)
    state = torch.get_rng_state()
    first, again, other = (train.network(BASE | {"seed": seed}) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers change
    for name, value in first.state_dict().items():
        assert value.equal(again.state_dict()[name])
        assert name.endswith(("bias", "order")) or not value.equal(other.state_dict()[name])
    own = first[2].own.detach()
    assert abs(np.corrcoef(own, first[1].weight[0, :16].detach())[0, 1]) < 0.9
    assert first[2].inner.weight.detach().std() == pytest.approx(
        math.sqrt(2 / 16), rel=0.2
    )  # He et al.


def test_a_stop_that_is_not_reached_leaves_integers_as_they_are(monkeypatch, tensors, tmp_path):
    """NaN became an index far outside of the image."""
    monkeypatch.setattr(models, "mlp", blocky)
    setting = BASE | {"target": 1e-9, "max_epochs": 4}
    weights = train.train(setting, tensors, tmp_path / "run.state")["stops"]["train_loss"][
        "weights"
    ]
    assert weights["2.order"].equal(torch.arange(16)) and weights["2.own"].isnan().all()
    train.network(setting, weights)(tensors[0][:2])


def test_there_is_a_rule_for_every_setting():
    assert list(settings.RULES) == list(train.SETTING)
    with pytest.raises(settings.SettingError, match="setting 'lr' is missing"):
        settings.check_setting({k: v for k, v in BASE.items() if k != "lr"})


@pytest.mark.parametrize("name", ["mlp-64-16-16-10", "cnn-4"])
def test_dropout_is_in_the_network_where_the_setting_asks_for_it(name, tensors):
    model = train.network(BASE | {"model": name, "dropout": 0.5}).train()
    x = tensors[0][:50]
    torch.manual_seed(0)
    assert not torch.equal(model(x), model(x))
    plain = train.network(BASE | {"model": name}).train()
    assert torch.equal(plain(x), plain(x))
    assert list(model.state_dict()) == list(plain.state_dict())  # the two can be interpolated


def test_a_finished_run_holds_its_setting_and_leaves_no_checkpoint(tensors, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    parts = []
    state = train.train(BASE, tensors, tmp_path / "run.state", parts.append)
    assert state["setting"] == BASE and parts == [0.25, 0.5, 0.75]
    assert [path.name for path in tmp_path.iterdir()] == ["run.state"]


def test_the_fingerprint_follows_the_bits_of_training(monkeypatch):
    fingerprint = settings.fingerprint.__wrapped__  # which the tests keep
    before = fingerprint(print)
    assert before == fingerprint(print)
    cross_entropy = train.F.cross_entropy
    nearly = lambda *a, **k: cross_entropy(*a, **k) * (1 + 1e-6)
    monkeypatch.setattr(train.F, "cross_entropy", nearly)
    assert fingerprint(print) != before
