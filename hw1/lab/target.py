"""Is the mean loss over all examples under a target? Most of the time a part of them can tell."""

import math

import torch
from torch.nn.functional import cross_entropy

STRIDES = (63, 21)  # of the parts; odd, as MNIST's images come in turn from two sources, one harder
FEWEST = 30  # of fewer, the standard error would be a guess
ERRORS = 3  # standard errors


def is_under(target, model, x, y, seen):
    """Return whether the model, in evaluation mode, has a mean loss under the target.

    A part of the examples is enough to say no, if it puts the mean over all above the target by
    more than ERRORS standard errors; a larger part comes after a small one that does not. An error
    of these estimates can only say no where the mean is just under the target. `seen`: a dict, at
    first empty, that keeps the losses when all were last measured.
    """
    for stride in STRIDES:
        part = slice(None, None, stride)
        if len(y[part]) >= FEWEST:
            mean, error = estimate(losses(model, x[part], y[part]), part, seen)
            if mean - ERRORS * error * math.sqrt(1 - 1 / stride) >= target:
                return False
    seen["losses"] = losses(model, x, y)
    return float(seen["losses"].mean()) < target


def estimate(now, part, seen):
    """Return the mean loss over all, estimated from those of a part, and its standard error.

    The earlier losses of all, if there are any, tell whether the part is harder than the rest: the
    regression estimator (Cochran 1977, Sampling Techniques, section 7.1).
    """
    if not seen:
        return float(now.mean()), float(now.std()) / math.sqrt(len(now))
    earlier = seen["losses"][part]
    slope = float(torch.cov(torch.stack([earlier, now]))[0, 1] / earlier.var())
    rest = now - slope * earlier
    mean = float(rest.mean()) + slope * float(seen["losses"].mean())
    return mean, float(rest.std()) / math.sqrt(len(rest))


@torch.no_grad()
def losses(model, x, y, batch_size=512):
    """Return each example's cross-entropy in nats: (N,)."""
    parts = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return torch.cat([cross_entropy(model(a), b, reduction="none") for a, b in parts])
