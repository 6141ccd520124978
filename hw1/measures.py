"""How sensitive is a network to its input, and how sharp is the minimum that training found?

Sources: Novak et al. 2018 (arXiv 1802.08760), Keskar et al. 2017 (1609.04836), Dinh et al. 2017
(1703.04933), Kwon et al. 2021 (2102.11600). Every function measures a private copy of the model, in
evaluation mode (dropout is off), over all examples; losses are in nats. They work for any PyTorch
model that returns logits of shape (N, classes); x: (N, ...) with whatever shape the model takes,
y: (N,) class numbers. A model that cannot be measured is a MeasureError with a sentence that says
why; wrong arguments are a TypeError or a ValueError.
"""

import math

from lab import say
from lab.curvature import BATCH_SIZE, SUBSET, lanczos, top_eigenpair
from lab.landscape import derivative, landscape, mean, parameter_vector, summed_loss
from lab.private import MeasureError, prepare

import numpy as np
import torch
from scipy.optimize import minimize
from torch.nn.functional import normalize


def or_nan(measure, *arguments, values=1):
    """Return measure(*arguments), or NaN (`values` of them) and a warning after a MeasureError."""
    try:
        return measure(*arguments)
    except MeasureError as error:
        say(f"warning: {measure.__name__}: {error}", "stderr")
        return math.nan if values == 1 else (math.nan,) * values


def input_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Mean over examples of the Frobenius norm of d loss_i / d x_i, in nats per unit of x.

    Source: course slide.
    """
    net, x, y = prepare(model, x, y)

    def rows(xb, yb):
        """Return the chunk's loss and norms of the input gradient, each summed, in nats."""
        xb.requires_grad_()
        loss = summed_loss(net, xb, yb)
        [slope] = derivative([loss], [xb])
        return [loss, slope.flatten(1).norm(dim=1).double().sum()]

    return float(mean(rows, net, x, y, batch_size)[1])


def jacobian_norm(model, x, *, batch_size=250):  # so few stay in the cache for all classes
    """Mean over examples of the Frobenius norm of d softmax(model(x_i)) / d x_i, per unit of x.

    Source: Novak et al. 2018, section 3.1.
    """
    net, x, _ = prepare(model, x)

    def rows(xb, _):
        """Return the chunk's probabilities, by class, and norms of the Jacobian, each summed."""
        xb.requires_grad_()
        totals = net(xb).softmax(1).sum(0)  # row i of a derivative is example i's own
        slopes = (derivative([p], [xb], retain_graph=True)[0] for p in totals)
        norms = [slope.flatten(1).norm(dim=1) for slope in slopes]
        return [totals, torch.stack(norms).double().norm(dim=0).sum()]

    return float(mean(rows, net, x, None, batch_size)[-1])


def parameter_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Euclidean norm of the gradient of the mean loss by all parameters, in nats.

    Source: course slide.
    """
    net, x, y = prepare(model, x, y)
    at = landscape(net, x, y, batch_size)
    return float(at(0.0)[1].norm())


def hessian_norm(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """Spectral norm of the Hessian of the mean loss, in nats, and its relative residual.

    The residual is ||H v - lambda v|| / |lambda|, never above the tolerance: MeasureError if
    Lanczos does not reach it within the restarts. Source: Dinh et al. 2017, section 2.
    """
    options = {"tolerance": tolerance, "restarts": restarts, "batch_size": batch_size}
    value, residual = top_eigenvalue(model, x, y, **options)
    return abs(value), residual


def top_eigenvalue(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """The Hessian's eigenvalue of largest magnitude, with its sign; else as hessian_norm."""
    return top_eigenpair(*prepare(model, x, y), tolerance, restarts, batch_size)


def block_hessian_norm(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """Largest spectral norm, in nats, among the Hessian's blocks of single parameter tensors.

    That is the norm of the block-diagonal matrix that they make. Errors as in hessian_norm.
    """
    data = prepare(model, x, y)
    return abs(top_eigenpair(*data, tolerance, restarts, batch_size, blocks=True)[0])


def sharpness(loss, norm, epsilon):
    """Second-order sharpness norm * epsilon^2 / (2 (1 + loss)), no unit; loss and norm in nats.

    This is the maximum in the ball at a critical point whose top eigenvalue is positive, and only
    there. MeasureError if not finite. Source: course slide; Dinh et al. 2017, section 2.
    """
    if not np.isfinite(loss + norm):
        raise MeasureError("The loss or the norm is not finite: sharpness has no value.")
    return norm * epsilon**2 / (2 * (1 + loss))


def ball_sharpness(model, x, y, epsilon, *, starts=4, steps=10, batch_size=BATCH_SIZE):
    """Max of (L(theta') - L(theta)) / (1 + L(theta)) over ||theta' - theta|| <= epsilon, no unit.

    Gradient ascent from the gradient, and from the best end of `starts` ascents over a subset (from
    its own gradient, its top eigenvector and random points) where that is higher still.
    ValueError if epsilon <= 0. Source: course slide.
    """
    data = prepare(model, x, y)
    return _ball(*data, epsilon, starts, steps, batch_size, torch.ones_like)


def adaptive_sharpness(model, x, y, epsilon, *, starts=4, steps=10, batch_size=BATCH_SIZE):
    """The maximum of ball_sharpness over || d / |theta| ||_2 <= epsilon, where d = theta' - theta.

    d is divided by element: the scale of a weight does not matter, and one that is 0 stays 0. The
    search and the errors are those of ball_sharpness. Source: Kwon et al. 2021, equation 3.
    """
    data = prepare(model, x, y)
    return _ball(*data, epsilon, starts, steps, batch_size, torch.abs)


def _ball(net, x, y, epsilon, starts, steps, batch_size, scale):
    """Max of the rise over 1 + L in the ball of u, where theta' = theta + scale(theta) * u."""
    _check_radius(epsilon)
    sides = scale(parameter_vector(net))
    few = slice(None, None, max(1, len(x) // SUBSET))
    at = landscape(net, x, y, batch_size, sides)
    near = landscape(net, x[few], y[few], batch_size, sides)
    (loss, gradient), (low, own) = at(0.0), near(0.0)
    others = np.random.default_rng(0).standard_normal((max(0, starts - 3), len(sides)))
    top = _top_direction(net, x[few], y[few], batch_size, sides)
    others = torch.from_numpy(np.stack([top, -top, *others])).to(gradient)
    first = [epsilon * normalize(start, dim=0) for start in [own, *others][:starts]]
    ends = [_ascend(near, point, low, epsilon, steps) for point in first]
    peak = _ascend(at, epsilon * normalize(gradient, dim=0), loss, epsilon, steps)[0]
    best = max(ends, key=lambda end: end[0])[1]
    if at(best)[0] > peak:
        peak = _ascend(at, best, loss, epsilon, steps)[0]
    return (max(loss, peak) - loss) / (1 + loss)


def _check_radius(epsilon):
    if not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}.")


def _top_direction(net, x, y, batch_size, sides):
    """The top eigenvector by u, roughly; a random one where there is no second derivative."""
    try:
        return lanczos(net, x, y, 0.1, 300, batch_size, sides=sides.cpu().numpy())[1]
    except MeasureError:
        return np.random.default_rng(1).standard_normal(len(sides))


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

    No unit. By L-BFGS-B from the gradient's corner; where the gradient is 0 also from the top
    eigenvector's and from random points. ValueError if epsilon <= 0. Source: Keskar et al. 2017,
    metric 2.1 with A = I, without the factor of 100.
    """
    _check_radius(epsilon)
    net, x, y = prepare(model, x, y)
    sides = epsilon * (parameter_vector(net).abs() + 1)
    at = landscape(net, x, y, batch_size, sides)
    loss, gradient = at(0.0)
    rises = [_climb_box(at, loss, gradient.sign(), gradient)]
    if float(gradient.abs().sum()) <= 1e-12 * (1 + loss):
        top = torch.from_numpy(_top_direction(net, x, y, batch_size, sides)).to(sides).sign()
        random = np.random.default_rng(0).uniform(-1, 1, (4, len(sides)))
        starts = [top, -top, *torch.from_numpy(random).to(sides)]
        rises += [_climb_box(at, loss, start, at(start)[1]) for start in starts]
    return max(0.0, *rises) / (1 + loss)


def _climb_box(at, loss, start, slope):
    """The rise where L-BFGS-B ends in the unit box; `slope` is the gradient that sets the scale."""
    # On a steep objective, the first step along the gradient ends in a corner.
    scale = 1e-3 * float(slope.abs().mean()) or 1.0

    def descent(u):
        """The objective and its gradient by u; negative where the loss has risen."""
        height, slope = at(torch.from_numpy(u).to(start))
        return (loss - height) / scale, -slope.cpu().numpy() / scale

    first = start.cpu().numpy()
    first = first * (descent(first)[0] < 0)  # from theta itself if the start is lower
    box, limits = [(-1, 1)] * len(first), {"maxiter": 10, "maxfun": 30, "ftol": 1e-3}
    found = minimize(descent, first, jac=True, method="L-BFGS-B", bounds=box, options=limits)
    return -float(found.fun) * scale
