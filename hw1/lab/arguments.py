"""What a measure is given: it is checked, and copied for the measure to work on.

The model may be anybody's: with hooks, shared weights, parametrizations, layers that work in
place, half precision, tensors left from its last forward pass, or made in inference mode.
"""

import warnings
from contextlib import contextmanager

from lab.private import MeasureError, WeightNorm, duplicate, input_dtype

import torch
from torch.autograd import grad
from torch.nn.attention import SDPBackend, sdpa_kernel


@torch.inference_mode(False)
def prepare(model, x, y=None):
    """Return a private copy of the model in evaluation mode, x and y, all on the device of x.

    float16 and bfloat16 become float32; the CPU takes over from MPS, which has no float64.
    TypeError or ValueError for wrong arguments, MeasureError if the model cannot be measured.
    """
    if not all(isinstance(tensor, torch.Tensor) for tensor in (x, x if y is None else y)):
        raise TypeError("x and y must be torch tensors: convert arrays with torch.from_numpy.")
    y = y if y is None else _labels(x, y)
    if not len(x) or not x.isfinite().all():
        raise MeasureError("There are no examples, or one of them is not finite.")
    kinds = {p.dtype for p in model.parameters()}
    if x.is_complex() or not all(kind.is_floating_point for kind in kinds):
        raise MeasureError("The input or the parameters are no real floating-point numbers.")
    half = kinds & {torch.float16, torch.bfloat16}
    device = "cpu" if x.device.type == "mps" else x.device
    net = duplicate(model).to(device=device, dtype=torch.float32 if half else None)
    net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_()
    x = (x.clone() if x.is_inference() else x.detach()).to(device)
    classes = _try_out(net, model, x)
    if y is not None and y.dim() == 1 and y.max() >= classes:
        raise ValueError(f"A label is {y.max()}, but the {classes} classes count from 0.")
    return net, x, y if y is None else y.detach().to(device, copy=True)


def _labels(x, y):
    """Return y, class numbers (N,) or probabilities (N, classes), as cross_entropy takes it."""
    if y.shape[:1] != x.shape[:1] or y.dim() != 1 + y.is_floating_point():
        raise ValueError("y must be integers of shape (N,), a class number for each row of x.")
    if (y < 0).any():
        raise ValueError("A label is negative: leave out the examples that are to be ignored.")
    return y if y.is_floating_point() else y.long()


def _try_out(net, model, x):
    """See from a few examples that the output of the copy `net` means what it should.

    Return the number of classes.
    """
    few = x[:4].to(input_dtype(net, x), copy=True)
    few = few.requires_grad_(few.is_floating_point()).clone()
    own = [few.device] if few.is_cuda else []
    with torch.random.fork_rng(own), sdpa_kernel(SDPBackend.MATH), WeightNorm() as mode:
        before = _generators(few)
        with _thawed(model) as originals:
            again, out = net(few[:2].clone()), net(few)
            tied = _depends_on(out, originals)
        drawn = not torch.equal(before, _generators(few))
    if mode.used:
        net.register_forward_pre_hook(mode.enter)
        net.register_forward_hook(mode.leave, always_call=True)
    if few._version:  # it works in place: give it a copy each time
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(), *inputs[1:]))
    if not isinstance(out, torch.Tensor) or out.dim() != 2 or len(out) != len(few):
        raise TypeError("The model must return one tensor of logits of shape (N, classes).")
    if not out.isfinite().all():
        raise MeasureError("The output of the model is not finite: nothing can be measured.")
    if drawn or (out[:2] - again).abs().max() > 1e-2 * out.abs().max():  # far above rounding
        raise MeasureError("The output for an example depends on chance or on other examples.")
    if not out.requires_grad:
        raise MeasureError("The output has no derivative: is there a torch.no_grad in the model?")
    if tied:
        raise MeasureError("A function inside the model refers to parameters from outside it.")
    if out.shape[1] > 1 and out.min() >= 0 and (out.sum(1) - 1).abs().max() < 1e-3:
        message = "The model ends in a softmax, and the measures apply it again: leave it out."
        warnings.warn(message, stacklevel=5)
    return out.shape[1]


def _depends_on(out, tensors):
    """Return whether automatic differentiation leads from `out` to one of the tensors."""
    if not (tensors and isinstance(out, torch.Tensor) and out.requires_grad):
        return False
    found = grad(out.sum(), tensors, allow_unused=True)
    return any(slope is not None for slope in found)


def _generators(x):
    """Return the state of the random generators that a model may draw from where x is."""
    own = [torch.cuda.get_rng_state(x.device)] if x.is_cuda else []
    return torch.cat([torch.get_rng_state(), *own])


@contextmanager
def _thawed(model):
    """Give the model's parameters, those that are frozen too, a derivative for a while."""
    originals = [p for p in model.parameters() if not p.is_inference()]
    frozen = [p for p in originals if not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield originals
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
