"""What a measure is given: it is checked, and copied for the measure to work on.

The model may be anybody's: with hooks, shared weights, parametrizations, layers that work in
place, half precision, tensors left from its last forward pass, or made in inference mode.
"""

import warnings

from lab.private import TABLES, MeasureError, duplicate, first_line, input_dtype, plainly

import torch
from torch.overrides import TorchFunctionMode


@torch.inference_mode(False)
def prepare(model, x, y=None):
    """Return a private copy of the model in evaluation mode, x and y, all on the device of x.

    float16 and bfloat16 become float32; the CPU takes over from MPS, which has no float64.
    TypeError or ValueError for wrong arguments, MeasureError if the model cannot be measured.
    """
    if not all(isinstance(tensor, torch.Tensor) for tensor in (x, x if y is None else y)):
        raise TypeError("x and y must be torch tensors: convert arrays with torch.from_numpy.")
    kinds = {p.dtype for p in model.parameters()}
    if x.is_complex() or not all(kind.is_floating_point for kind in kinds):
        raise MeasureError(
            "The input is complex, or a parameter is not a real floating-point number."
        )
    if not x.numel() or not torch.stack(x.aminmax()).isfinite().all():  # far faster than for each
        raise MeasureError("There are no examples, or one of them is not finite.")
    half = kinds & {torch.float16, torch.bfloat16}
    device = "cpu" if x.device.type == "mps" else x.device
    net = duplicate(model).to(device=device, dtype=torch.float32 if half else None)
    net.eval()
    for module in net.modules():
        _undo(module)
    for parameter in net.parameters():
        parameter.requires_grad_()
    x = (x.clone() if x.is_inference() else x.detach()).to(device)
    with plainly(x.device):
        classes = _try_out(net, model, x)
    return net, x, y if y is None else _labels(x, y, classes).detach().to(device, copy=True)


def _undo(module):
    """Undo what changes a module's gradient, but not its output."""
    module._backward_hooks.clear()
    module._backward_pre_hooks.clear()
    if isinstance(module, TABLES):
        module.scale_grad_by_freq = module.sparse = False


def _labels(x, y, classes):
    """Return y, class numbers (N,) or probabilities (N, classes), as cross_entropy takes it."""
    if y.shape[:1] != x.shape[:1] or y.dim() != 1 + y.is_floating_point():
        raise ValueError("y must be integers of shape (N,), a class number for each row of x.")
    if (y < 0).any():
        raise ValueError("A label is negative: leave out the examples that are to be ignored.")
    if y.dim() == 2 and y.shape[1] != classes:
        raise ValueError(f"y has {y.shape[1]} probabilities for each example of {classes} classes.")
    if y.dim() == 1 and y.max() >= classes:
        raise ValueError(f"A label is {y.max()}, but the {classes} classes count from 0.")
    return y if y.is_floating_point() else y.long()


def _try_out(net, model, x):
    """See from some examples that the output of the copy `net` means what it should.

    Return the number of classes.
    """
    some = x[:16].to(input_dtype(net, x), copy=True)
    given, odd = some.clone(), max(1, (len(some) // 2 - 1) | 1)  # 7 of 16: it breaks even groups
    times = -(-64 // len(some))  # so often that a little chance shows
    with WeightNorm() as norm, Uses(model.parameters()) as outside:
        out, again = net(given), [net(some.clone()) for _ in range(times)]
        try:
            part = net(some[:odd].clone())
        except RuntimeError as error:
            reason = f"The model does not take {odd} examples: {first_line(error)}"
            raise MeasureError(reason) from error
    if norm.used:
        net.register_forward_pre_hook(norm.enter)
        net.register_forward_hook(norm.leave, always_call=True)
    if given._version:  # it works in place: give it a copy each time
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(), *inputs[1:]))
    if not isinstance(out, torch.Tensor) or out.dim() != 2 or len(out) != len(some):
        raise TypeError("The model must return one tensor of logits of shape (N, classes).")
    if not out.isfinite().all():
        raise MeasureError("The output of the model is not finite: nothing can be measured.")
    chance = max((out - other).abs().max() for other in again)
    mixed = (out[:odd] - part).abs().max()
    differences = out - out.mean(1, keepdim=True)  # a softmax does not see a common shift
    scale = differences.abs().max() + 1e-2 * out.abs().max()
    if max(chance * 100, mixed) > 1e-2 * scale:  # both far above rounding
        raise MeasureError("The output for an example depends on chance or on other examples.")
    if outside.found:
        raise MeasureError("A function inside the model refers to parameters from outside it.")
    if not (out.requires_grad or _depends_on_input(net, some)):
        message = "The output has no derivative: is there a torch.no_grad or argmax in the model?"
        raise MeasureError(message)
    if out.shape[1] > 1 and out.min() >= 0 and (out.sum(1) - 1).abs().max() < 1e-3:
        message = "The model ends in a softmax, and the measures apply it again: leave it out."
        warnings.warn(message, stacklevel=5)
    return out.shape[1]


def _depends_on_input(net, x):
    """Return whether automatic differentiation leads from the output to x.

    Integers have no derivative: that is then no fault of the model, unless it has parameters.
    """
    if not x.is_floating_point():
        return not list(net.parameters())
    try:
        return net(x.clone().requires_grad_() * 1).requires_grad
    except RuntimeError:
        return False


class WeightNorm(TorchFunctionMode):
    """Weight norm by its formula, because PyTorch's fused version has a wrong second derivative.

    The gradient of the fused version treats the norm of v as a constant (seen in PyTorch 2.13).
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


class Uses(TorchFunctionMode):
    """Notes in `found` whether a function of PyTorch is given one of these tensors."""

    def __init__(self, tensors):
        super().__init__()
        self.own, self.found = {id(tensor) for tensor in tensors}, False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        for value in (*args, *(kwargs or {}).values()):
            several = value if isinstance(value, (list, tuple)) else [value]
            self.found |= any(id(part) in self.own for part in several)
        return function(*args, **kwargs or {})
