"""Is the mean loss over all examples under a target? Most of the time a part of them can tell."""

import math

import torch
from torch.nn.functional import cross_entropy

STRIDE = 21  # the part is every 21st example; odd, because MNIST alternates two kinds, one harder
FEWEST = 30  # examples; the standard error of a smaller part would be a guess
ERRORS = 3  # standard errors


def is_under(target, model, x, y, seen):
    """Return whether the model, in evaluation mode, has a mean loss under the target.

    A part of the examples is enough to say no, if it puts the mean over all above the target by
    more than ERRORS standard errors. It estimates that mean in two ways: as the mean over the part,
    and as the mean when all were last measured plus the part's mean change since then, which is the
    better one while the model has changed little. If an estimate is wrong, the answer is at worst
    no although the mean is just under the target. `seen`: a dict, at first empty, that keeps the
    last losses.
    """
    if len(y) >= FEWEST * STRIDE:
        now = losses(model, x[::STRIDE], y[::STRIDE])
        changes = [(0.0, now)]
        if seen:
            changes.append((float(seen["losses"].mean()), now - seen["losses"][::STRIDE]))
        for before, change in changes:
            error = float(change.std()) * math.sqrt((1 - 1 / STRIDE) / len(change))
            if before + float(change.mean()) - ERRORS * error >= target:
                return False
    seen["losses"] = losses(model, x, y)
    return float(seen["losses"].mean()) < target


@torch.no_grad()
def losses(model, x, y):
    """Return each example's cross-entropy in nats: (N,)."""
    parts = zip(x.split(512), y.split(512), strict=True)
    return torch.cat([cross_entropy(model(a), b, reduction="none") for a, b in parts])
