"""The Hessian of the mean loss: products with it, and its eigenvalue of largest magnitude."""

import multiprocessing
import sys

from lab.landscape import (
    MeasureError,
    derivative,
    duplicate,
    mean,
    parameter_vector,
    summed_loss,
)

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import nn
from torch.func import functional_call
from tqdm import tqdm

BATCH_SIZE = 2000  # more does not fit in cache, less has more overhead
SUBSET = 3000  # so many examples give Lanczos its start and the ball a direction


def hessian_product(net, x, y, batch_size, blocks=False, sides=1.0):
    """Return v -> S H S v, S = diag(sides); H is the Hessian or its block diagonal."""
    params, advance = list(net.parameters()), _progress()
    layer = None if blocks else _first_layer(net, x, y)

    def product(vector):
        along = _pieces(sides * vector.ravel(), params)

        def rows(xb, yb):
            advance(len(xb))
            if not blocks:
                return _row(net, layer, along, xb, yb)
            loss = summed_loss(net, xb, yb)
            slopes = derivative([loss], params, create_graph=True)
            each = zip(slopes, params, along, strict=True)
            return [loss, *(derivative([s], [p], [v], retain_graph=True)[0] for s, p, v in each)]

        return sides * mean(rows, net, x, y, batch_size).cpu().numpy()[1:]

    return product


def _pieces(vector, params):
    """Return the float64 vector in the shapes, types and places of the parameters."""
    pieces = torch.from_numpy(vector).split([p.numel() for p in params])
    return [piece.view_as(p).to(p) for piece, p in zip(pieces, params, strict=True)]


def _row(net, layer, along, xb, yb):
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


@torch.inference_mode(False)
def _first_layer(net, x, y):
    """Return the first linear layer if _row gives the same with it as without it, else None.

    This is tried with a random vector on examples from all over the data: the type of a layer does
    not tell of hooks, repeated or shared layers, or of a successor that works in place.
    """
    layer = next((m for m in net.modules() if type(m) in (nn.Linear, nn.Conv2d)), None)
    params, few = list(net.parameters()), slice(None, None, max(1, len(x) // 64))
    random = np.random.default_rng(0).standard_normal(sum(p.numel() for p in params))
    along = _pieces(random, params)
    data = net, x[few], y[few], len(x)
    try:
        short = mean(lambda xb, yb: _row(net, layer, along, xb, yb), *data)[1:]
    except ValueError:
        return None
    full = mean(lambda xb, yb: _row(net, None, along, xb, yb), *data)[1:]
    return layer if full.any() and (short - full).norm() <= 1e-4 * full.norm() else None


def _progress():
    """Return a function that counts examples: on a bar, where somebody has waited for long."""
    if multiprocessing.parent_process() or not (sys.stderr and sys.stderr.isatty()):
        return lambda count: None
    return tqdm(desc="Hessian", unit=" examples", delay=4, leave=False).update


def lanczos(net, x, y, tolerance, restarts, batch_size, **options):
    """Return the eigenvalue of largest magnitude, its unit vector, and the product for them."""
    multiply, size = hessian_product(net, x, y, batch_size, **options), len(parameter_vector(net))
    start = np.random.default_rng(0).standard_normal(size) / np.sqrt(size)
    if (k := len(x) // SUBSET) > 4:
        # Half stays random, lest the subset hide a direction that it is blind to.
        start += lanczos(net, x[::k], y[::k], 0.1, restarts, batch_size, **options)[1]
    norms = []

    def product(vector):
        image = multiply(vector)
        norms.append(np.linalg.norm(image))
        # ARPACK takes tiny eigenvalues for zeros; a power of two as a factor changes no digit.
        return np.ldexp(image, -np.frexp(norms[0])[1])

    operator, ncv = LinearOperator((size, size), product, dtype=float), min(size, 4)
    try:  # few eigenvalues stand out, so that a short basis needs the fewest products
        if size == ncv:
            values, vectors = np.linalg.eigh(operator @ np.eye(size))
        else:
            values, vectors = eigsh(operator, 1, v0=start, ncv=ncv, maxiter=restarts, tol=tolerance)
    except ArpackError as error:
        if any(norms):
            raise MeasureError(f"Lanczos did not converge to {tolerance}: {error}") from error
        return 0.0, start / np.linalg.norm(start), multiply  # the Hessian is zero
    top = np.abs(values).argmax()
    return float(np.ldexp(values[top], np.frexp(norms[0])[1])), vectors[:, top], multiply


@torch.inference_mode(False)
def _check_symmetric(net, x, y):
    """MeasureError if the second derivatives contradict one another, on a few of the examples.

    PyTorch 2.13 has a wrong one: that of weight_norm.
    """
    few = slice(None, None, max(1, len(x) // 64))
    multiply = hessian_product(duplicate(net).double(), x[few], y[few], len(x))
    u, v = np.random.default_rng(0).standard_normal((2, len(parameter_vector(net))))
    by_u, by_v = multiply(u), multiply(v)
    if abs(u @ by_v - v @ by_u) > 1e-3 * np.linalg.norm(by_v) + 1e-9:
        raise MeasureError("The Hessian that PyTorch computes for this model is not symmetric.")


def top_eigenpair(net, x, y, tolerance, restarts, batch_size, **options):
    """Return the eigenvalue of largest magnitude and ||H v - lambda v|| / |lambda|.

    MeasureError if that residual stays above the tolerance. In float64 where float32 is too coarse:
    for a fine tolerance, and for a tiny loss, whose 1 - p is lost in rounding.
    """
    _check_symmetric(net, x, y)

    def loss(net):
        return float(mean(lambda xb, yb: [summed_loss(net, xb, yb)], net, x, y, batch_size))

    tries = [(net, tolerance), (duplicate(net).double(), tolerance / 10)]
    if tolerance < 1e-5 or loss(net) < 1e-4:
        tries = tries[1:]
        if loss(tries[0][0]) < 1e-12:
            return 0.0, 0.0  # float64 cannot tell it from zero
    for one, goal in tries:  # the second time in float64, as ARPACK's estimate can be a little low
        value, vector, product = lanczos(one, x, y, goal, restarts, batch_size, **options)
        rest = np.linalg.norm(product(vector) - value * vector)
        residual = float(rest / abs(value)) if rest else 0.0
        if residual <= tolerance:
            return value, residual
    raise MeasureError(f"The residual {residual:.1g} is above the tolerance {tolerance:g}.")
