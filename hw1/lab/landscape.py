"""The mean loss of any network around its parameters: its value, its gradient, H times a vector.

All is plain automatic differentiation. Sums over the examples are kept in float64.
"""

from lab.private import MeasureError, duplicate, first_line, input_dtype

import torch
from torch.autograd import grad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
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
    """Return the mean over examples of what rows(xb, yb), a list, sums over a chunk: float64."""
    total, dtype = 0, input_dtype(net, x)
    chunks = zip(x.split(batch_size), (x if y is None else y).split(batch_size), strict=True)
    with sdpa_kernel(SDPBackend.MATH):  # the fast kernels of attention lack a second derivative
        for xb, yb in chunks:
            sums = rows(xb.to(dtype), yb)
            total = total + torch.cat([part.detach().flatten() for part in sums]).double()
    if not total.isfinite().all():
        raise MeasureError("The loss or a derivative of it is not finite: nothing can be measured.")
    return total / len(x)


def summed_loss(net, xb, yb):
    """The sum, not the mean: each row of an input gradient then belongs to one example alone."""
    return cross_entropy(net(xb), yb, reduction="sum")


def parameter_vector(net):
    """Return all parameters as one vector in float64."""
    if not list(net.parameters()):
        raise MeasureError("The model has no parameters.")
    return torch.cat([p.detach().flatten() for p in net.parameters()]).double()


@torch.inference_mode(False)
def landscape(net, x, y, batch_size, sides=1.0):
    """Return u -> loss and gradient by u at theta + sides * u; float32 would lose small rises."""
    theta, net = parameter_vector(net), duplicate(net).double()
    params = list(net.parameters())

    def rows(xb, yb):
        loss = summed_loss(net, xb, yb)
        return [loss, *derivative([loss], params)]

    @torch.inference_mode(False)
    def at(u):
        vector_to_parameters(theta + sides * u, params)
        values = mean(rows, net, x, y, batch_size)
        return float(values[0]), sides * values[1:]

    return at


def pieces(vector, params):
    """Return the float64 vector in the shapes, types and places of the parameters."""
    pieces = torch.from_numpy(vector).split([p.numel() for p in params])
    return [piece.view_as(p).to(p) for piece, p in zip(pieces, params, strict=True)]


def loss_and_product(net, layer, along, xb, yb):
    """Return the summed loss and its Hessian times `along`, by differentiating twice.

    The output of `layer` may stand in for its parameters, which saves a large product. It is right
    where the loss depends on them through this one linear output alone.
    """
    params = list(net.parameters())
    if layer is None:
        loss = summed_loss(net, xb, yb)
        return [loss, *derivative(derivative([loss], params, create_graph=True), params, along)]
    calls, names = [], {p: name for name, p in layer.named_parameters()}
    with layer.register_forward_hook(lambda _, inputs, out: calls.append((inputs[0], out))):
        loss = summed_loss(net, xb, yb)
    [(given, out)] = calls  # a ValueError unless it is called once
    moves = {names[p]: v for p, v in zip(params, along, strict=True) if p in names}
    others = [(p, v) for p, v in zip(params, along, strict=True) if p not in names]
    with torch.no_grad():
        rates = [functional_call(layer, moves, given), *(v for _, v in others)]
    slopes = derivative([loss], [out, *(p for p, _ in others)], create_graph=True)
    return [loss, *derivative(slopes, params, rates)]
