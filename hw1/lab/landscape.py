"""A private copy of any model, its loss and its gradient: what measures.py is made of.

The model may be anybody's: with hooks, shared weights, parametrizations, layers that work in
place, half precision, tensors left from its last forward pass, or made in inference mode. Nothing
here asks for the type of a layer. Sums over the examples are kept in float64.
"""

import copy
import warnings

import torch
from torch.autograd import grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters


class MeasureError(ValueError):
    """The measure has no trustworthy value for this model; the message says why."""


@torch.inference_mode(False)
def prepare(model, x, y=None):
    """Return a private copy of the model in evaluation mode, x and y, all on the device of x.

    float16 and bfloat16 become float32; the CPU takes over from MPS, which has no float64.
    TypeError or ValueError for wrong arguments, MeasureError if the model cannot be measured.
    """
    if not all(isinstance(tensor, torch.Tensor) for tensor in (x, x if y is None else y)):
        raise TypeError("x and y must be torch tensors: convert arrays with torch.from_numpy.")
    if y is not None and (y < 0).any():
        raise ValueError("A label is negative: leave out the examples that are to be ignored.")
    if not len(x) or not x.float().sum().isfinite():
        raise MeasureError("There are no examples, or one of them is not finite.")
    half = {p.dtype for p in model.parameters()} & {torch.float16, torch.bfloat16}
    device = "cpu" if x.device.type == "mps" else x.device
    net = duplicate(model).to(device=device, dtype=torch.float32 if half else None).eval()
    for parameter in net.parameters():
        parameter.requires_grad_()
    x = (x.clone() if x.is_inference() else x.detach()).to(device)
    _try_out(net, model, x)
    return net, x, y if y is None else y.detach().to(device, copy=True)


def duplicate(model):
    """Return a deep copy, also of a model that keeps tensors from its last forward pass."""
    # PyTorch refuses to copy those. NaN in their place shows whether the model still needs them.
    kept = [t for m in model.modules() for t in vars(m).values() if isinstance(t, torch.Tensor)]
    memo = {id(t): torch.full_like(t, torch.nan).detach() for t in kept if not t.is_leaf}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # a module may hold anything
        raise MeasureError(f"The model cannot be copied: {_first_line(error)}") from error


def _try_out(net, model, x):
    """Run a few examples through the copy `net`, to see that its output means what it should."""
    few = x[:4].to(input_dtype(net, x), copy=True)
    with sdpa_kernel(SDPBackend.MATH):
        again, out = net(few[:2].clone()), net(few)
    if few._version:  # it works in place: give it a copy each time
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(), *inputs[1:]))
    if not isinstance(out, torch.Tensor) or out.dim() != 2:
        raise TypeError("The model must return one tensor of logits of shape (N, classes).")
    if not out.isfinite().all():
        raise MeasureError("The output of the model is not finite: nothing can be measured.")
    if (out[:2] - again).abs().max() > 1e-2 * out.abs().max():  # far above rounding
        raise MeasureError("The output for an example depends on chance or on other examples.")
    originals = [p for p in model.parameters() if p.requires_grad]
    used = grad(out.sum(), originals, allow_unused=True) if out.requires_grad and originals else []
    if any(slope is not None for slope in used):
        raise MeasureError("A function inside the model refers to parameters from outside it.")
    if out.shape[1] > 1 and out.min() >= 0 and (out.sum(1) - 1).abs().max() < 1e-3:
        message = "The model ends in a softmax, and the measures apply it again: leave it out."
        warnings.warn(message, stacklevel=5)


def input_dtype(net, x):
    """Return the type of the parameters, to which each chunk of the input is converted."""
    return next((p.dtype for p in net.parameters()), x.dtype)


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]


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
        reason = _first_line(error)
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
