"""A copy of anybody's model, and what else a measure needs to work on it."""

import copy
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

TABLES = (nn.Embedding, nn.EmbeddingBag)  # layers that look integers up


class MeasureError(ValueError):
    """The measure has no trustworthy value for this model; the message says why."""


def duplicate(model):
    """Return a deep copy, also of a model that keeps tensors from its last forward pass."""
    # PyTorch refuses to copy those. NaN in their place shows whether the model still needs them.
    kept = [t for m in model.modules() for t in vars(m).values() if isinstance(t, torch.Tensor)]
    memo = {id(t): torch.full_like(t, torch.nan).detach() for t in kept if not t.is_leaf}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # a module may hold anything
        raise MeasureError(f"The model cannot be copied: {first_line(error)}") from error


def input_dtype(net, x):
    """Return the type to which each chunk of the input is converted: that of the parameters.

    Integers for a layer that looks them up in a table stay what they are; uint8 means pixels.
    """
    if x.dtype in (torch.int32, torch.int64) and any(isinstance(m, TABLES) for m in net.modules()):
        return x.dtype
    return parameter_dtype(net, x.dtype)


def parameter_dtype(net, otherwise):
    """Return the type of the first parameter, or `otherwise` if there is none."""
    return next((p.dtype for p in net.parameters()), otherwise)


def is_single(net):
    """Return whether all parameters are float32."""
    return {p.dtype for p in net.parameters()} == {torch.float32}


@contextmanager
def plainly(device):
    """A context in which a network computes as it is written, whatever the caller has set.

    The caller's autocast would lose digits, and attention's fast kernels lack a second derivative.
    """
    with torch.autocast(device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


def first_line(error):
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
