"""A copy of anybody's model, and what else a measure needs to work on it."""

import copy

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


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


class WeightNorm(TorchFunctionMode):
    """Weight norm by its formula: the second derivative of PyTorch's fused one is wrong.

    Its gradient takes the norm of v for a constant (seen in PyTorch 2.13).
    """

    used = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not torch._weight_norm:
            return function(*args, **kwargs or {})
        self.used, (v, g, dim) = True, args
        return v * (g / torch.norm_except_dim(v, 2, dim))

    def enter(self, *_):
        self.__enter__()

    def leave(self, *_):
        self.__exit__(None, None, None)


def input_dtype(net, x):
    """Return the type to which each chunk of the input is converted: that of the parameters.

    Integers for a layer that looks them up in a table stay what they are; uint8 means pixels.
    """
    lookup = any(isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) for layer in net.modules())
    own = lookup and x.dtype in (torch.int32, torch.int64)
    return x.dtype if own else next((p.dtype for p in net.parameters()), x.dtype)


def first_line(error):
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
