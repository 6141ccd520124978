"""The mean loss of any network, and its gradient, at its parameters and around them.

All is plain automatic differentiation. Sums over the examples are kept in float64.
"""

from lab.private import (
    MeasureError,
    duplicate,
    first_line,
    input_dtype,
    parameter_dtype,
    plainly,
)

import torch
from torch.autograd import grad
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters


def derivative(values, at, along=None, retain_graph=False, create_graph=False):
    """Return the sum over values of d (value * along) / d tensor for each tensor of `at`.

    It is zero where no value depends on the tensor. MeasureError if there is no such derivative.
    """
    pairs = zip(values, along or [None] * len(values), strict=True)
    pairs = [pair for pair in pairs if pair[0].requires_grad]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in at]
    keep = {"retain_graph": retain_graph or create_graph, "create_graph": create_graph}
    values, along = zip(*pairs, strict=True)
    try:
        return grad(values, at, along, **keep, materialize_grads=True)
    except RuntimeError as error:
        reason = first_line(error)
        raise MeasureError(f"The model lacks a derivative that is needed: {reason}") from error


@torch.inference_mode(False)  # this also turns gradients on
def mean(rows, net, x, y, batch_size):
    """Return the mean over the examples of several quantities: (K,) float64.

    rows(xb, yb) returns a list of tensors with K elements in all, each the sum over a chunk's
    examples; chunks have batch_size examples. x: (N, ...); y: (N,), or None if there are no labels.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    total, dtype = 0, input_dtype(net, x)
    chunks = zip(x.split(batch_size), (x if y is None else y).split(batch_size), strict=True)
    with plainly(x.device):
        for xb, yb in chunks:
            try:
                sums = rows(xb.to(dtype), yb)
            except RuntimeError as error:
                if dtype != torch.float64 or "double" not in str(error).lower():
                    raise
                message = f"The model makes tensors that are not float64: {first_line(error)}"
                raise MeasureError(message) from error
            total = total + torch.cat([part.detach().flatten() for part in sums]).double()
    if not total.isfinite().all():
        raise MeasureError("The loss or a derivative of it is not finite: nothing can be measured.")
    return total / len(x)


def by_input(xb):
    """Return a chunk of the input, ready for a derivative by it."""
    if not xb.is_floating_point():
        raise MeasureError("The input holds integers: no derivative with respect to it exists.")
    return xb.requires_grad_()


def logits(net, xb):
    """The output of net, in the precision of its parameters: the model may end in .float()."""
    out = net(xb)
    return out.to(torch.promote_types(out.dtype, parameter_dtype(net, out.dtype)))


def summed_loss(net, xb, yb):
    """The sum, not the mean: each row of an input gradient then belongs to one example alone."""
    return cross_entropy(logits(net, xb), yb, reduction="sum")


def parameter_vector(net):
    """Return all parameters as one vector: (P,) float64."""
    if not list(net.parameters()):
        raise MeasureError("The model has no parameters.")
    return torch.cat([p.detach().flatten() for p in net.parameters()]).double()


@torch.inference_mode(False)
def landscape(net, x, y, batch_size, sides=1.0, precise=True):
    """Return a function of u, (P,) float64: loss and gradient by u, (P,), at theta + sides * u.

    The network computes in float64, or in its own precision if not `precise`: float32 would lose
    small rises. With slope=False there is no gradient: None.
    """
    theta, net = parameter_vector(net), duplicate(net)
    net = net.double() if precise else net
    params = list(net.parameters())

    @torch.inference_mode(False)
    def at(u, slope=True):
        def rows(xb, yb):
            loss = summed_loss(net, xb, yb)
            return [loss, *(derivative([loss], params) if slope else [])]

        vector_to_parameters((theta + sides * u).to(params[0].dtype), params)
        values = mean(rows, net, x, y, batch_size)
        return float(values[0]), sides * values[1:] if slope else None

    return at
