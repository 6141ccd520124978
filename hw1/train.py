"""The one training loop, evaluation, and checkpoints from which a killed run goes on.

A run is told whole by its setting, a flat dict: SETTING below names every key and its default.
From the named seed come three: for the labels, for the weights, for the order of the batches.
Within an epoch the host never waits for the device.
"""

import hashlib
import io
import math
import os
import sys
import time

import torch
import torch.nn.functional as F

from data import shuffle_labels
from models import build
from optimizers import OPTIMIZERS

SETTING = {
    "dataset": None, "model": None, "optimizer": "adam", "lr": 1e-3, "batch_size": 512, "seed": 0,
    "epochs": None,  # the fixed number of epochs, which ends the run when target is None
    "schedule": "constant",  # or linear: lr for half of the epochs, then down to 0
    "weight_decay": 0.0,
    "dropout": 0.0,
    "label_corruption": 0.0,  # fraction of the training labels shuffled among themselves
    "train_size": None, "test_size": None,  # the first rows of each split; None for all
    "log_every": None,  # measure epochs 0 to 10 and every log_every-th; None: only the ends
    "target": None,  # measure every epoch, go on until the train loss is under it
    "max_epochs": None,
}  # fmt: skip
METRICS = ("train_loss", "train_acc", "test_loss", "test_acc")
SECONDS_BETWEEN_CHECKPOINTS = 20


def seed_for(seed, purpose):
    """Return the seed for one purpose (labels, weights, order in epoch 3) under a named seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:6], "big")


@torch.no_grad()
def evaluate(model, x, y, batch_size=512):  # few: their activations stay in cache
    """Return (mean cross-entropy in nats, accuracy as a fraction) of the model at rest.

    x: (N, C, H, W) float32; y: (N,) int64. Both are over all N, whatever the batch size.
    """
    training = model.training
    model.eval()
    loss = correct = 0
    for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits = model(inputs)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(1) == labels).sum().item()
    model.train(training)
    return loss / len(y), math.nan if math.isnan(loss) else correct / len(y)


def metrics(model, x_train, y_train, x_test, y_test):
    """Return loss and accuracy on both splits as a dict of METRICS."""
    values = evaluate(model, x_train, y_train) + evaluate(model, x_test, y_test)
    return dict(zip(METRICS, values, strict=True))


def epochs(model, optimizer, x, y, setting, first):
    """Train in place from epoch `first` on; after each epoch yield (epoch, losses all finite)."""
    images = x.permute(0, 2, 3, 1)  # (N, H, W, C), contiguous
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
        for rows in order.to(x.device).split(setting["batch_size"]):
            inputs = images.index_select(0, rows)  # four times as fast as x[rows]
            loss = F.cross_entropy(model(inputs.permute(0, 3, 1, 2)), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        model.eval()
        yield epoch, math.isfinite(total.item())


def prepare(setting, tensors):
    """Return the run's own x_train, y_train, x_test, y_test: its rows, its shuffled labels."""
    x_train, y_train, x_test, y_test = tensors
    x_train, y_train = x_train[: setting["train_size"]], y_train[: setting["train_size"]]
    x_test, y_test = x_test[: setting["test_size"]], y_test[: setting["test_size"]]
    seed = seed_for(setting["seed"], "labels")
    return x_train, shuffle_labels(y_train, setting["label_corruption"], seed), x_test, y_test


def network(setting, weights=None, device="cpu"):
    """Return the setting's network, as initialised from its seed or with the given weights."""
    generator = torch.Generator().manual_seed(seed_for(setting["seed"], "weights"))
    channels = 3 if setting["dataset"] == "cifar10" else 1
    model = build(setting["model"], channels, setting["dropout"], generator).to(device)
    if weights is not None:
        model.load_state_dict(weights)
    return model.eval()


def train(setting, tensors, path):
    """Do one run, or what is left of it, and return its state.

    tensors: what data.load returns. path: the file that keeps the state. The state holds `history`
    (a dict per measured epoch; with a target, of the train loss alone), `stops` (for "epochs" and,
    with a target, "train_loss": the epoch, the weights then, and whether it was reached; if not the
    weights are NaN), `finite` (False if the loss diverged) and `seconds` (of the core; on a GPU, of
    the clock).
    """
    state = restore(path)
    if state and state["done"]:
        return state
    x_train, y_train, x_test, y_test = prepare(setting, tensors)
    state = state or {"done": False, "finite": True, "epoch": 0, "history": [], "stops": {}}
    model = network(setting, state.get("model"), x_train.device)
    optimizer = OPTIMIZERS[setting["optimizer"]](
        model.parameters(),
        lr=setting["lr"],
        weight_decay=setting["weight_decay"],
        fused=x_train.device.type in ("cpu", "cuda"),
    )
    if state["epoch"]:
        optimizer.load_state_dict(state["optimizer"])
    else:
        record(state, setting, model, (x_train, y_train, x_test, y_test))
    clock = time.process_time if x_train.device.type == "cpu" else time.monotonic
    started, saved = clock() - state.get("seconds", 0), time.monotonic()
    first = state["epoch"] + 1
    for epoch, finite in epochs(model, optimizer, x_train, y_train, setting, first):
        state |= {"epoch": epoch, "finite": finite}
        record(state, setting, model, (x_train, y_train, x_test, y_test))
        if state["done"]:
            break
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            saved = time.monotonic()
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(path, state | {"seconds": clock() - started})
    state = {key: state[key] for key in ("finite", "history", "stops")}
    state |= {"done": True, "seconds": clock() - started}
    save(path, state)
    return state


def record(state, setting, model, tensors):
    """Append this epoch to the history if it is to be measured; keep the weights at each stop."""
    epoch, stops, targeted = state["epoch"], state["stops"], setting["target"] is not None
    ended = epoch >= (setting["max_epochs"] if targeted else setting["epochs"])
    every = 1 if targeted else setting["log_every"]
    due = epoch == 0 or ended or (every and (epoch <= 10 or epoch % every == 0))
    if state["finite"] and not due:
        return
    if not state["finite"]:
        values = dict.fromkeys(METRICS, math.nan)
    elif targeted:  # asked for at every epoch, and the script measures the stops anew
        values = {"train_loss": evaluate(model, *tensors[:2])[0]}
    else:
        values = metrics(model, *tensors)
    state["history"].append({"epoch": epoch} | values)
    reached = {"epochs": epoch == setting["epochs"]}
    if targeted:
        reached["train_loss"] = values["train_loss"] < setting["target"]
    for stop, now in reached.items():
        if stop not in stops and (now or ended or not state["finite"]):
            factor = 1.0 if now else math.nan  # never reached: nothing to measure
            weights = {k: v.cpu() * factor for k, v in model.state_dict().items()}
            stops[stop] = {"epoch": epoch, "reached": now, "weights": weights}
    state["done"] = set(reached) <= set(stops)


def save(path, value):
    """Write value (dicts, lists, numbers, strings, tensors) with its checksum, in one step."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(hashlib.sha256(content).digest() + content)
    part.replace(path)


def restore(path):
    """Return what `save` wrote, or None if nothing is there or, with a warning, it is damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("its checksum is wrong")
        return torch.load(io.BytesIO(content[32:]), weights_only=True)  # never runs a pickle's code
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - a crafted file can raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(f"warning: {path.name} is damaged ({reason}): starting it again", file=sys.stderr)
        return None
