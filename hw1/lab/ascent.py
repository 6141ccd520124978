"""How far does the loss rise within a ball or a box around the parameters?

Both searches climb with the gradient. Over many examples a network in float32 is searched in
float32, which takes half the time; what is returned is always the loss in float64.
"""

from contextlib import suppress

from lab.curvature import SUBSET, lanczos
from lab.landscape import landscape, parameter_vector
from lab.private import MeasureError, is_single

import numpy as np
import torch
from scipy.optimize import minimize
from torch.nn.functional import normalize

FINE = 1e-5  # times 1 + loss: a smaller rise is searched in float64, as float32 has too much noise


def ball_rises(net, x, y, radii, known, starts, steps, batch_size, scale):
    """For each radius, return the highest rise over 1 + L at theta + sides * u with |u| <= radius.

    known: the loss and its gradient at theta; scale(theta): (P,) float64, the sides.
    """
    if starts < 1:
        raise ValueError(f"starts must be at least 1, not {starts}.")
    sides = scale(parameter_vector(net))
    some = slice(None, None, max(1, len(x) // SUBSET))
    few = x[some], y[some]
    exact = landscape(net, x, y, batch_size, sides)
    loss, gradient = known[0], sides * known[1]
    low, own = landscape(net, *few, batch_size, sides)(0.0)
    others = np.random.default_rng(0).standard_normal((max(0, starts - 3), len(sides)))
    top = _top_direction(net, *few, batch_size, sides)
    others = torch.from_numpy(np.stack([top, -top, *others])).to(gradient)
    rises = []
    for radius in radii:
        precise = _is_fine(net, x, radius * gradient.norm(), loss)
        near, at = (
            landscape(net, *part, batch_size, sides, precise=precise) for part in (few, (x, y))
        )
        first = [radius * normalize(start, dim=0) for start in [own, *others][:starts]]
        ends = [_ascend(near, point, low, radius, steps) for point in first]
        peak = _ascend(at, radius * normalize(gradient, dim=0), loss, radius, steps)
        best = max(ends, key=lambda end: end[0])[1]
        if at(best, slope=False)[0] > peak[0]:
            peak = _ascend(at, best, loss, radius, steps)
        height = peak[0] if precise else exact(peak[1], slope=False)[0]
        rises.append((max(loss, height) - loss) / (1 + loss))
    return rises


def box_rises(net, x, y, radii, known, batch_size):
    """For each radius, return the highest rise over 1 + L where |d_i| <= radius (|theta_i| + 1).

    known: the loss and its gradient at theta.
    """
    unit = parameter_vector(net).abs() + 1
    exact = landscape(net, x, y, batch_size, unit)
    loss, gradient = known[0], unit * known[1]
    rises = []
    for radius in radii:
        slope, sides = radius * gradient, radius * unit
        steepest = float(slope.abs().sum())  # the rise to the gradient's corner, to first order
        precise = _is_fine(net, x, steepest, loss)
        at = landscape(net, x, y, batch_size, sides, precise=precise)
        ends = [_climb_box(at, loss, slope.sign(), slope)]
        if steepest <= 1e-12 * (1 + loss):
            top = torch.from_numpy(_top_direction(net, x, y, batch_size, sides)).to(sides).sign()
            random = np.random.default_rng(0).uniform(-1, 1, (4, len(sides)))
            starts = [top, -top, *torch.from_numpy(random).to(sides)]
            ends += [_climb_box(at, loss, start, at(start)[1], lower=0.1) for start in starts]
        height, end = max(ends, key=lambda end: end[0])
        if not precise:
            height = exact(radius * end, slope=False)[0]
        rises.append((max(loss, height) - loss) / (1 + loss))
    return rises


def _is_fine(net, x, rise, loss):
    """Return whether the search for a rise of this size needs float64."""
    return not (is_single(net) and len(x) >= SUBSET and rise >= FINE * (1 + loss))


def _top_direction(net, x, y, batch_size, sides):
    """The top eigenvector with respect to u, or a random vector if none can be computed.

    At a minimum the loss rises most along it, and a few steps of ascent do not turn to it from a
    direction in which the loss rises almost as much.
    """
    options = {"batch_size": batch_size, "sides": sides.cpu().numpy()}
    for tolerance, restarts in ((1e-3, 50), (0.1, 300)):
        with suppress(MeasureError):
            return lanczos(net, x, y, tolerance, restarts, **options)[1]
    return np.random.default_rng(1).standard_normal(len(sides))


def _ascend(at, point, loss, radius, steps):
    """The highest loss on an ascent from `point` within the ball, and the point where it is."""
    (height, slope), stride = at(point), 100 * radius
    for _ in range(steps):
        # With a long stride the step is nearly the fixed-point iteration d = radius g / |g|; the
        # stride becomes ten times shorter after a step that does not raise the loss.
        trial = point + stride * normalize(slope, dim=0)
        trial *= radius / trial.norm().clamp(min=radius)
        reached, move = at(trial), (trial - point).norm()
        gain = reached[0] - height
        if gain > 0:
            point, (height, slope) = trial, reached
        stride /= 1 if gain > 0 else 10
        if abs(gain) <= 1e-3 * abs(height - loss) and move < radius / 2:
            break
    return height, point


def _climb_box(at, loss, start, slope, lower=0.0):
    """The loss where L-BFGS-B ends in the unit box, and that point; `slope` sets the scale.

    lower: times the start is where it begins instead, if the loss at the start is not higher.
    """
    # On a steep objective, the first step along the gradient ends in a corner.
    scale = 1e-3 * float(slope.abs().mean()) or 1.0

    def descent(u):
        """The objective and its gradient by u; negative where the loss has risen."""
        height, slope = at(torch.from_numpy(u).to(start))
        return (loss - height) / scale, -slope.cpu().numpy() / scale

    corner = start.cpu().numpy()
    there = descent(corner)
    first = corner * (1 if there[0] < 0 else lower)  # theta itself may have no slope

    def objective(u):
        """The same, without a second look at the corner, where L-BFGS-B mostly starts."""
        return there if np.array_equal(u, corner) else descent(u)

    box, limits = [(-1, 1)] * len(first), {"maxiter": 10, "maxfun": 30, "ftol": 1e-3}
    found = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=box, options=limits)
    return loss - float(found.fun) * scale, torch.from_numpy(found.x).to(start)
