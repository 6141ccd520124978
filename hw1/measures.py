"""How sensitive is a network to its input, and how sharp is the minimum it rests in?

Sources: Novak et al. 2018 (arXiv 1802.08760), Keskar et al. 2017 (1609.04836), Dinh et al. 2017
(1703.04933). All work on copies, at rest (dropout off), and sum
over all examples in float64; losses in nats.
"""

import copy
import math
import sys

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import nn
from torch.autograd import grad
from torch.func import functional_call
from torch.nn.functional import cross_entropy, normalize
from torch.nn.utils import vector_to_parameters

BATCH_SIZE = 1000  # a chunk's activations stay in cache
SUBSET = 3000  # examples that give Lanczos its start and the ball a direction


class MeasureError(ValueError):
    """A measure has no trustworthy value: something is not finite, or Lanczos did not converge."""


def or_nan(measure, *arguments, values=1):
    """measure(*arguments), or as many nan, and a warning, where the model cannot be measured."""
    try:
        return measure(*arguments)
    except MeasureError as error:
        print(f"warning: {measure.__name__}: {error}", file=sys.stderr)
        return math.nan if values == 1 else (math.nan,) * values


def input_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Mean over examples of the Frobenius norm of d loss_i / d x_i, in nats per unit of x.
    x: (N, C, H, W), y: (N,). MeasureError if not finite. Source: course slide."""
    return float(_mean(_row_norms, *_shorten_input(*_prepare(model, x, y)), batch_size)[1])


def jacobian_norm(model, x, *, batch_size=BATCH_SIZE):
    """Mean over examples of the Frobenius norm of d softmax(model(x_i)) / d x_i, per unit of x.
    x: (N, C, H, W). MeasureError if not finite. Source: Novak et al. 2018, section 3.1."""
    return float(_mean(_row_norms, *_shorten_input(*_prepare(model, x), None), batch_size)[1][-1])


def parameter_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Euclidean norm of the gradient of the mean loss with respect to all parameters, in nats.
    x: (N, C, H, W), y: (N,). MeasureError if not finite. Source: course slide."""
    return float(_landscape(model, x, y, batch_size)[2].norm())


def hessian_norm(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """Spectral norm of the mean loss's full Hessian, in nats, and ||Hv - lambda v|| / |lambda|.
    x: (N, C, H, W), y: (N,). MeasureError: not finite, no convergence. Source: Dinh et al. 2017."""
    value, vector, product = _top_eigenpair(*_prepare(model, x, y), tolerance, restarts, batch_size)
    return abs(value), float(np.linalg.norm(product(vector) - value * vector) / abs(value))


def block_hessian_norm(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """Largest spectral norm, in nats, of the Hessian's blocks of single parameter tensors: the
    norm of the block-diagonal matrix that they make, by one Lanczos run. Else as hessian_norm."""
    return abs(_top_eigenpair(*_prepare(model, x, y), tolerance, restarts, batch_size, True)[0])


def sharpness(loss, norm, epsilon):
    """Second-order sharpness norm * epsilon^2 / (2 (1 + loss)), no unit; loss and norm in nats.
    The ball's maximum at a critical point with a positive top eigenvalue, else not. MeasureError if
    not finite. Source: course slide; Dinh et al. 2017, section 2."""
    if not np.isfinite(loss + norm):
        raise MeasureError("The loss or the norm is not finite: sharpness has no value.")
    return norm * epsilon**2 / (2 * (1 + loss))


def ball_sharpness(model, x, y, epsilon, *, starts=4, steps=10, batch_size=BATCH_SIZE):
    """Max of (L(theta') - L(theta)) / (1 + L(theta)) over ||theta' - theta|| <= epsilon, no unit.
    x: (N, C, H, W), y: (N,). ValueError if epsilon <= 0; MeasureError if a loss is not finite.
    Ascent from the gradient, and from the best of `starts` ascents over a subset: from its own
    gradient, its top eigenvector and random points. Source: course slide."""
    _, loss, gradient, at = _landscape(model, x, y, batch_size, epsilon)
    few = slice(None, None, max(1, len(x) // SUBSET))
    _, low, own, near = _landscape(model, x[few], y[few], batch_size, epsilon)
    top = _top_eigenpair(*_prepare(model, x[few], y[few]), 0.1, 300, batch_size)[1]
    random = np.random.default_rng(0).standard_normal((max(0, starts - 3), len(top)))
    others = torch.from_numpy(np.stack([top, -top, *random])).to(gradient)
    first = [epsilon * normalize(start, dim=0) for start in [own, *others][:starts]]
    ends = [_ascend(near, point, low, epsilon, steps) for point in first]
    last = epsilon * normalize(gradient, dim=0), max(ends, key=lambda end: end[0])[1]
    peaks = [_ascend(at, point, loss, epsilon, steps)[0] for point in last]
    return (max(loss, *peaks) - loss) / (1 + loss)


def _ascend(at, point, loss, epsilon, steps):
    """The highest loss on an ascent from `point` within the ball, and the point where it is."""
    (height, slope), stride = at(point), 100 * epsilon
    for _ in range(steps):
        # A long stride makes it the fixed point d = epsilon g / |g|; a failure shortens it.
        trial = point + stride * normalize(slope, dim=0)
        trial *= epsilon / trial.norm().clamp(min=epsilon)
        reached, move = at(trial), (trial - point).norm()
        gain = reached[0] - height
        if gain > 0:
            point, (height, slope) = trial, reached
        stride /= 1 if gain > 0 else 10
        if abs(gain) <= 1e-3 * abs(height - loss) and move < epsilon / 2:
            break
    return height, point


def box_sharpness(model, x, y, epsilon, *, batch_size=BATCH_SIZE):
    """Max of (L(theta') - L(theta)) / (1 + L(theta)) over |d theta_i| <= epsilon (|theta_i| + 1).
    x: (N, C, H, W), y: (N,); no unit. ValueError if epsilon <= 0; MeasureError if a loss is not
    finite. Source: Keskar et al. 2017, metric 2.1 with A = I, without the factor of 100."""
    theta, loss, gradient, at = _landscape(model, x, y, batch_size, epsilon)
    sides = epsilon * (theta.abs() + 1)
    # On a unit box and a steep objective, the first step along the gradient ends in a corner.
    scale = 1e-3 * float((sides * gradient).abs().mean()) or 1.0

    def descent(u):
        """The objective and its gradient by u, at sides * u; negative where the loss has risen."""
        height, slope = at(sides * torch.from_numpy(u).to(sides))
        return (loss - height) / scale, -(sides * slope).cpu().numpy() / scale

    start = gradient.sign().cpu().numpy()
    start *= descent(start)[0] < 0  # from theta itself if the corner is lower
    box, limits = [(-1, 1)] * len(start), {"maxiter": 10, "maxfun": 30, "ftol": 1e-3}
    found = minimize(descent, start, jac=True, method="L-BFGS-B", bounds=box, options=limits)
    return max(0.0, -float(found.fun) * scale) / (1 + loss)


def _prepare(model, *tensors, dtype=None):
    """A private copy of the model at rest, and the tensors; on the CPU where float64 is missing."""
    device = "cpu" if tensors[0].device.type == "mps" else tensors[0].device
    net = copy.deepcopy(model).to(device=device, dtype=dtype).eval().requires_grad_(True)
    return net, *(tensor.detach().to(device) for tensor in tensors)


def _mean(parts, net, x, y, batch_size):
    """Over N: the summed loss (without y: probabilities) and the `parts` of it, (k,) float64."""
    total, dtype = 0, next(net.parameters()).dtype
    for xb, yb in zip(x.split(batch_size), (x if y is None else y).split(batch_size), strict=True):
        with torch.enable_grad():
            xb = xb.to(dtype).requires_grad_()
            out = net(xb)
            # Summed, not averaged: each row of an input gradient belongs to one example alone.
            out = out.softmax(1).sum(0) if y is None else cross_entropy(out, yb, reduction="sum")
            sums = [out, *parts(out, xb)]
        total = total + torch.cat([part.detach().flatten() for part in sums]).double()
    if not (total / len(x)).isfinite().all():
        raise MeasureError("The loss or a derivative of it is not finite: nothing can be measured.")
    return float(total[0]) / len(x), total[1:] / len(x)


def _row_norms(values, xb):
    """Sum over rows of xb of the Frobenius norm of d values / d row."""
    rows = [grad(v, xb, retain_graph=True)[0].flatten(1).norm(dim=1) for v in values.flatten()]
    return [torch.stack(rows).double().norm(dim=0).sum()]


def _shorten_input(net, x, y):
    """x in an orthonormal basis of a flat first layer's rows, which `net` takes over: input
    gradients lie in the span of these rows, so they keep their norms and cost a fraction."""
    if type(net) is not nn.Sequential or [type(m) for m in net[:2]] != [nn.Flatten, nn.Linear]:
        return net, x, y
    basis, coordinates = torch.linalg.qr(net[1].weight.detach().T)
    net[1].weight = nn.Parameter(coordinates.T)
    return net, torch.cat([xb.flatten(1).to(basis) @ basis for xb in x.split(BATCH_SIZE)]), y


def _top_eigenpair(net, x, y, tolerance, restarts, batch_size, blocks=False):
    """Eigenvalue of largest magnitude, unit eigenvector, and v -> H v (of the diagonal blocks)."""
    params, names, seen = list(net.parameters()), [], {}
    if first := None if blocks else _first_layer(net):
        names = [name for name, _ in first.named_parameters()]
        first.register_forward_hook(lambda _, inputs, out: seen.update(x=inputs[0], out=out))

    def product(vector):
        pieces = torch.from_numpy(vector.ravel()).to(params[0]).split([p.numel() for p in params])
        pieces = [piece.view_as(p) for piece, p in zip(pieces, params, strict=True)]
        named = dict(zip(names, pieces, strict=False))

        def rows(loss, _):
            at, along = params, pieces
            if first:  # its output is linear in its weights: H v through it, one product less
                at = [seen["out"], *params[len(names) :]]
                with torch.no_grad():
                    along = [functional_call(first, named, seen["x"]), *pieces[len(names) :]]
            whole = grad(loss, at, create_graph=True), params, along
            each = zip(*whole, strict=True) if blocks else [whole]
            return [row for block in each for row in grad(*block, retain_graph=True)]

        return _mean(rows, net, x, y, batch_size)[1].cpu().numpy()

    size = sum(p.numel() for p in params)
    start = np.random.default_rng(0).standard_normal(size) / np.sqrt(size)
    if (k := len(x) // SUBSET) > 4:
        # Half stays random, lest the subset hide a direction that it is blind to.
        start += _top_eigenpair(net, x[::k], y[::k], 0.1, restarts, batch_size, blocks)[1]
    operator = LinearOperator((size, size), product, dtype=float)
    ncv = min(size, 4)  # few eigenvalues stand out: a short basis needs the fewest products
    try:
        values, vectors = eigsh(operator, 1, v0=start, ncv=ncv, maxiter=restarts, tol=tolerance)
    except ArpackError as error:
        raise MeasureError(f"Lanczos did not converge to {tolerance}: {error}") from error
    return float(values[0]), vectors[:, 0], product


def _first_layer(net):
    """The layer that all goes through first, if linear in parameters of its own; else None."""
    layers = [m for m in net if list(m.parameters())] if type(net) is nn.Sequential else []
    own = sum(len(list(m.parameters())) for m in layers) == len(list(net.parameters()))
    return layers[0] if layers and own and type(layers[0]) in (nn.Linear, nn.Conv2d) else None


def _landscape(model, x, y, batch_size, epsilon=1.0):
    """theta, loss, gradient, and d -> both at theta + d; float64, as float32 loses small rises."""
    if not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}.")
    net, x, y = _prepare(model, x, y, dtype=torch.float64)
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])

    def at(step):
        vector_to_parameters(theta + step, net.parameters())
        return _mean(lambda loss, _: grad(loss, list(net.parameters())), net, x, y, batch_size)

    return theta, *at(0.0), at
