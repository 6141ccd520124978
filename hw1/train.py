"""The one training loop, evaluation, and checkpoints from which a killed run goes on.

A run is described completely by its setting, a flat dict: SETTING below has every key and its
default. Seeds are derived from the one in the setting: for shuffling the labels, for the initial
weights (and for layers that initialise themselves) and for the order of the batches.
"""

import math
import time
from functools import partial

from lab.files import DATASETS
from lab.store import restore, save
from lab.target import is_under

import torch
import torch.nn.functional as F
from torch import optim

from data import prepare, seed_for
from models import build

SETTING = {
    "dataset": None,
    "model": None,
    "optimizer": "adam",  # a key of OPTIMIZERS
    "lr": 1e-3,
    "batch_size": 512,
    "seed": 0,
    "epochs": None,  # the fixed number of epochs, which ends the run when target is None
    "schedule": "constant",  # or linear: lr for half of the epochs, then down to 0
    "weight_decay": 0.0,
    "dropout": 0.0,
    "label_corruption": 0.0,  # the fraction of training labels that are shuffled among themselves
    "train_size": None,  # train on the first rows of the split; None for all
    "test_size": None,
    "log_growth": None,  # measure also at epoch 0, and as often as is_due says
    "target": None,  # go on until the train loss is under the target: see CHECKS
    "max_epochs": None,  # the end of a run that does not reach its target
}
OPTIMIZERS = {
    "adam": optim.Adam,  # Kingma and Ba 2015
    "adamw": optim.AdamW,  # Loshchilov and Hutter 2019
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9),
}
SCHEDULES = ("constant", "linear")
METRICS = ("train_loss", "train_acc", "test_loss", "test_acc")
CHECKS = 20  # how often per epoch a run is checked, evenly spaced; at most once after each step
SECONDS_BETWEEN_CHECKPOINTS = 20


@torch.no_grad()
def evaluate(model, x, y, batch_size=512):  # the activations of so few stay in the cache
    """Return (mean cross-entropy in nats, accuracy as a fraction) of the model in evaluation mode.

    x: (N, C, H, W) float32; y: (N,) int64. Both are over all N, whatever the batch size.
    ValueError if a label is negative: PyTorch ignores -100, but a mean over all N counts it.
    """
    if (y < 0).any():
        raise ValueError("A label is negative: leave out the examples that are to be ignored.")
    training = {module: module.training for module in model.modules()}
    model.eval()
    loss = correct = 0
    try:
        for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            logits = model(inputs)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
    finally:
        for module, flag in training.items():  # one by one: some may be kept in evaluation mode
            module.training = flag
    return loss / len(y), math.nan if math.isnan(loss) else correct / len(y)


def metrics(model, x_train, y_train, x_test, y_test):
    """Return loss and accuracy on both splits as a dict of METRICS."""
    values = evaluate(model, x_train, y_train) + evaluate(model, x_test, y_test)
    return dict(zip(METRICS, values, strict=True))


def epochs(model, optimizer, x, y, setting, first):
    """Train in place from epoch `first` on; yield (epoch, is_finite) at each of CHECKS places.

    Inside an epoch, `epoch` is a float, and is_finite is always True because it is not known yet.
    At the end of an epoch, `epoch` is an int, and is_finite tells whether all of its losses were
    finite. Of what an epoch needs, a checkpoint keeps only the model and the optimizer: the rest,
    such as the learning rate, follows from the epoch's number, and torch's random numbers start
    anew in each epoch.
    """
    images = x.permute(0, 2, 3, 1)  # (N, H, W, C), contiguous
    steps = math.ceil(len(y) / setting["batch_size"])
    places = {math.ceil(steps * k / CHECKS) for k in range(1, CHECKS)} - {steps}
    for epoch in range(first, (setting["max_epochs"] or setting["epochs"]) + 1):
        if setting["schedule"] == "linear":
            left = 1 - (epoch - 1) / setting["epochs"]
            for group in optimizer.param_groups:
                group["lr"] = setting["lr"] * min(1, 2 * left)
        order_seed = seed_for(setting["seed"], f"order {epoch}")
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(order_seed))
        torch.manual_seed(order_seed)  # dropout masks: a resumed run draws the same ones
        total = torch.zeros((), device=x.device)
        model.train()
        for step, rows in enumerate(order.to(x.device).split(setting["batch_size"]), 1):
            inputs = images.index_select(0, rows)  # four times as fast as x[rows]
            loss = F.cross_entropy(model(inputs.permute(0, 3, 1, 2)), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
            if step in places:
                model.eval()
                yield round(epoch - 1 + step / steps, 4), True
                model.train()
        model.eval()
        yield epoch, math.isfinite(total.item())


def network(setting, weights=None, device="cpu"):
    """Return the setting's network, as initialised from its seed or with the given weights."""
    generator = torch.Generator().manual_seed(seed_for(setting["seed"], "weights"))
    entry = DATASETS[setting["dataset"]]
    ends = (entry.shape[0], entry.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(setting["seed"], "layers"))  # that initialise themselves
        model = build(setting["model"], *ends, setting["dropout"], generator)
    if weights is not None:
        model.load_state_dict(weights)
    return model.to(device).eval()


def train(setting, tensors, path, report=lambda part: None):
    """Do one run, or what is left of it, and return its state.

    tensors: what data.load returns. path: the file of the finished run's state; until then there
    is a checkpoint beside it. report(part) is called with the fraction that is done. The state
    holds `setting`, `history` (without a target: a dict for each measured epoch), `stops`
    ("epochs" and, with a target, "train_loss": the epoch, whether the stop was reached, and the
    weights, which are NaN if it was not), `finite` (whether the loss was finite) and `seconds`
    (core time, or elapsed time on a GPU).
    """
    if state := restore(path):
        return state
    checkpoint, tensors = path.with_suffix(".checkpoint"), prepare(setting, tensors)
    fresh = {"setting": setting, "finite": True, "epoch": 0, "history": [], "stops": {}, "seen": {}}
    state, x_train, y_train = restore(checkpoint) or fresh, *tensors[:2]
    model = network(setting, state.get("model"), x_train.device)
    options = {"lr": setting["lr"], "weight_decay": setting["weight_decay"]}
    options["fused"] = x_train.device.type in ("cpu", "cuda")  # PyTorch's faster form
    optimizer = OPTIMIZERS[setting["optimizer"]](model.parameters(), **options)
    if state["epoch"]:
        optimizer.load_state_dict(state["optimizer"])
    else:
        record(state, model, tensors)
    clock = time.process_time if x_train.device.type == "cpu" else time.monotonic
    started, saved = clock() - state.get("seconds", 0), time.monotonic()
    for epoch, finite in epochs(model, optimizer, x_train, y_train, setting, state["epoch"] + 1):
        state |= {"epoch": epoch, "finite": finite}
        if record(state, model, tensors):
            break
        if not isinstance(epoch, int):
            continue
        report(min(epoch / setting["epochs"], 0.99))
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            saved = time.monotonic()
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(checkpoint, state | {"seconds": clock() - started})
    state = {key: state[key] for key in ("setting", "finite", "history", "stops")}
    state["seconds"] = clock() - started
    save(path, state)
    checkpoint.unlink(missing_ok=True)
    return state


def record(state, model, tensors):
    """Measure the model if it is time; keep the weights at a stop; return whether all is done."""
    setting, epoch, finite = state["setting"], state["epoch"], state["finite"]
    history, stops, seen = state["history"], state["stops"], state["seen"]
    targeted = setting["target"] is not None
    if not targeted and (not finite or is_due(setting, epoch, history)):
        values = metrics(model, *tensors) if finite else dict.fromkeys(METRICS, math.nan)
        history.append({"epoch": epoch} | values)
    ended = not finite or epoch >= (setting["max_epochs"] if targeted else setting["epochs"])
    reached = {"epochs": epoch == setting["epochs"]}
    if targeted:
        waits = finite and "train_loss" not in stops
        reached["train_loss"] = waits and is_under(setting["target"], model, *tensors[:2], seen)
    for stop, now in reached.items():
        if stop not in stops and (now or ended):
            factor = 1.0 if now else math.nan  # never reached: nothing to measure
            weights = {
                k: v.cpu() * factor if v.is_floating_point() else v.cpu().clone()
                for k, v in model.state_dict().items()
            }
            stops[stop] = {"epoch": epoch, "reached": now, "weights": weights}
    return set(reached) <= set(stops)


def is_due(setting, epoch, history):
    """Return whether the loss is to be measured.

    It is measured at the end. With log_growth it is also measured at epoch 0, and then whenever
    the epoch is larger than the last measured one by this fraction (while the train accuracy is
    from 90% to 99%) or by three times this fraction (before and after that).
    """
    if setting["log_growth"] is None or epoch == setting["epochs"]:
        return epoch == setting["epochs"]
    if epoch == 0:
        return True
    factor = 1 if 0.9 <= history[-1]["train_acc"] < 0.99 else 3
    return epoch >= max(1, (1 + factor * setting["log_growth"]) * history[-1]["epoch"])
