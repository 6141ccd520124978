"""A copy of anybody's model, and what else a measure needs to work on it."""

import copy

import torch
from torch import nn


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
    tables = (nn.Embedding, nn.EmbeddingBag)
    if x.dtype in (torch.int32, torch.int64) and any(isinstance(m, tables) for m in net.modules()):
        return x.dtype
    return next((p.dtype for p in net.parameters()), x.dtype)


def first_line(error):
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
