"""How sensitive is a network to its input, and how sharp is the minimum that training found?

Sources: Novak et al. 2018 (arXiv 1802.08760), Keskar et al. 2017 (1609.04836), Dinh et al. 2017
(1703.04933), Kwon et al. 2021 (2102.11600). Every function measures a private copy of the model, in
evaluation mode (dropout is off), over all examples; losses are in nats. They work for any PyTorch
model that returns logits of shape (N, classes); x: (N, ...) with whatever shape the model takes,
y: (N,) class numbers. A model that cannot be measured is a MeasureError with a sentence that says
why; wrong arguments are a TypeError or a ValueError. What a model computes under torch.no_grad
counts as constant.
"""

import math
from functools import partial

from lab import say
from lab.arguments import prepare
from lab.ascent import ball_rises, box_rises
from lab.curvature import BATCH_SIZE, TINY, top_eigenpair
from lab.landscape import by_input, derivative, landscape, logits, mean, summed_loss
from lab.private import MeasureError, is_single

import numpy as np
import torch


def or_nan(measure, *arguments, values=None, **options):
    """Return measure(*arguments, **options), or NaN and a warning after a MeasureError.

    values: how many values it returns, if it returns several.
    """
    try:
        return measure(*arguments, **options)
    except MeasureError as error:
        say(f"warning: {measure.__name__}: {error}", "stderr")
        return math.nan if values is None else (math.nan,) * values


def input_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Mean over examples of the Frobenius norm of d loss_i / d x_i, in nats per unit of x.

    Source: course slide.
    """
    net, x, y = prepare(model, x, y)

    def rows(xb, yb):
        """Return the chunk's loss and norms of the input gradient, each summed, in nats."""
        loss = summed_loss(net, by_input(xb), yb)
        [slope] = derivative([loss], [xb])
        return [loss, slope.reshape(len(xb), -1).norm(dim=1).double().sum()]

    return _norm(rows, net, x, y, batch_size)


def jacobian_norm(model, x, *, batch_size=250):  # so few stay in the cache for all classes
    """Mean over examples of the Frobenius norm of d softmax(model(x_i)) / d x_i, per unit of x.

    Source: Novak et al. 2018, section 3.1.
    """
    net, x, _ = prepare(model, x)

    def rows(xb, _):
        """Return the chunk's losses at the likeliest class and norms of the Jacobian, summed."""
        p = logits(net, by_input(xb)).softmax(1)
        totals = p.sum(0)  # row i of a derivative is example i's own
        slopes = (derivative([total], [xb], retain_graph=True)[0] for total in totals)
        norms = [slope.reshape(len(xb), -1).norm(dim=1) for slope in slopes]
        return [-p.amax(1).log().sum(), torch.stack(norms).double().norm(dim=0).sum()]

    return _norm(rows, net, x, None, batch_size)


def _norm(rows, net, x, y, batch_size):
    """Return the mean over the examples of the second of rows, the first of which is a loss.

    Where the loss is tiny, and 1 - p is lost in rounding, it is computed in float64.
    """
    loss, norm = mean(rows, net, x, y, batch_size)
    if loss < TINY and is_single(net):
        norm = mean(rows, net.double(), x, y, batch_size)[1]
    return float(norm)


def loss_and_gradient(model, x, y, *, batch_size=BATCH_SIZE):
    """The mean loss, in nats, and its gradient by all parameters: a float and (P,) float64.

    The searches for a maximum (below) start by computing both. For the same model and data, pass
    them the result of this function as `known`, and they do not compute it again.
    """
    return landscape(*prepare(model, x, y), batch_size)(0.0)


def parameter_gradient_norm(model, x, y, *, batch_size=BATCH_SIZE):
    """Norm of the gradient of the mean loss with respect to all parameters, in nats.

    Source: course slide.
    """
    return float(loss_and_gradient(model, x, y, batch_size=batch_size)[1].norm())


def hessian_norm(model, x, y, *, tolerance=1e-3, restarts=300, batch_size=BATCH_SIZE):
    """Spectral norm of the Hessian of the mean loss, in nats, and its relative residual.

    The residual is ||H v - lambda v|| / |lambda|, never above the tolerance: MeasureError if
    Lanczos does not reach it within the restarts. Both are 0 where the mean loss is under 1e-14:
    there float64 is too coarse. Source: Dinh et al. 2017, section 2.
    """
    value, residual = top_eigenpair(*prepare(model, x, y), tolerance, restarts, batch_size)
    return abs(value), residual


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
    _check_radius(epsilon)
    if not np.isfinite(loss + norm):
        raise MeasureError("The loss or the norm is not finite: sharpness has no value.")
    return norm * epsilon**2 / (2 * (1 + loss))


def ball_sharpness(model, x, y, epsilon, *, known=None, starts=4, steps=10, batch_size=BATCH_SIZE):
    """Max of (L(theta') - L(theta)) / (1 + L(theta)) over ||theta' - theta|| <= epsilon, no unit.

    Gradient ascent starts in the direction of the gradient. In addition, `starts` ascents over a
    subset of the examples start from the subset's gradient, its top eigenvector and random points.
    If the best end of these is higher over all examples, a further ascent over all of them starts
    there. The result is a lower bound, which can be low in ReLU networks of a few units with a
    large epsilon: see whether more starts change it. epsilon: a radius, or a list of radii for a
    list of maxima, which share some of the work. ValueError if one is not positive. Source: course
    slide.
    """
    rises = partial(ball_rises, starts=starts, steps=steps, scale=torch.ones_like)
    return _maxima(rises, model, x, y, epsilon, known, batch_size)


def adaptive_sharpness(
    model, x, y, epsilon, *, known=None, starts=4, steps=10, batch_size=BATCH_SIZE
):
    """The maximum of ball_sharpness over || d / |theta| ||_2 <= epsilon, where d = theta' - theta.

    d is divided by element: the scale of a weight does not matter, and one that is 0 stays 0. The
    search, epsilon and the errors are those of ball_sharpness. Source: Kwon et al. 2021, eq. 3.
    """
    rises = partial(ball_rises, starts=starts, steps=steps, scale=torch.abs)
    return _maxima(rises, model, x, y, epsilon, known, batch_size)


def box_sharpness(model, x, y, epsilon, *, known=None, batch_size=BATCH_SIZE):
    """Max of (L(theta') - L(theta)) / (1 + L(theta)) over |d theta_i| <= epsilon (|theta_i| + 1).

    No unit. The search is ten iterations of L-BFGS-B from the corner of the box to which the
    gradient points; where the gradient is 0, also from the corners to which the top eigenvector
    and its negative point, and from random points, or, where those are lower, from a tenth of the
    way there. Like the measure of Keskar et al., the result is a lower bound of the maximum.
    epsilon and the errors: as in ball_sharpness. Source: Keskar et al. 2017, metric 2.1 with A = I,
    without the factor of 100.
    """
    return _maxima(box_rises, model, x, y, epsilon, known, batch_size)


def _check_radius(epsilon):
    if not np.all((np.asarray(epsilon) > 0) & np.isfinite(epsilon)):
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}.")


def _maxima(rises, model, x, y, epsilon, known, batch_size):
    """Return what `rises` finds within one radius, or within each of a list of them."""
    radii = epsilon if isinstance(epsilon, (list, tuple)) else [epsilon]
    for radius in radii:
        _check_radius(radius)
    data = prepare(model, x, y)
    known = known or landscape(*data, batch_size)(0.0)
    found = rises(*data, radii, known, batch_size=batch_size)
    return found if radii is epsilon else found[0]
