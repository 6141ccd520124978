"""The Hessian of the mean loss: products with it, and its eigenvalue of largest magnitude."""

import multiprocessing
import sys

from lab.landscape import derivative, mean, parameter_vector, summed_loss
from lab.private import MeasureError, duplicate

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

BATCH_SIZE = 2000  # more does not fit in cache, less has more overhead
SUBSET = 3000  # so many examples give Lanczos its start and the ball a direction
TINY = 1e-4  # nats: for a smaller loss float32 is too coarse, as 1 - p is lost in rounding
KEPT = 1e9  # bytes: smaller graphs of the gradient are kept from one product to the next


def hessian_product(net, x, y, batch_size, blocks=False, sides=1.0):
    """Return a function of v, (P,) of numpy: S H S v, (P,), where S = diag(sides).

    H is the Hessian of the mean loss by all P parameters, or its blocks of single tensors alone.

    The gradient's graph does not depend on v. Where it is small enough it is kept, which saves half
    of the matrix products.
    """
    params, advance = list(net.parameters()), _progress()
    graphs, keep = {}, _graph_bytes(net, params, x, y) < KEPT

    def gradient(xb, yb):
        place = yb.storage_offset()
        if place not in graphs:
            graph = _loss_and_gradient(net, params, xb, yb)
            if not keep:
                return graph
            graphs[place] = graph
        return graphs[place]

    def product(vector):
        pieces = torch.from_numpy(sides * vector.ravel()).split([p.numel() for p in params])
        along = [piece.view_as(p).to(p) for piece, p in zip(pieces, params, strict=True)]

        def rows(xb, yb):
            advance(len(xb))
            loss, slopes = gradient(xb, yb)
            if not blocks:
                return [loss, *derivative(slopes, params, along, retain_graph=keep)]
            each = zip(slopes, params, along, strict=True)
            return [loss, *(derivative([s], [p], [v], retain_graph=True)[0] for s, p, v in each)]

        return sides * mean(rows, net, x, y, batch_size).cpu().numpy()[1:]

    return product


def _loss_and_gradient(net, params, xb, yb):
    """Return the summed loss of a chunk and its gradient, which can be derived again."""
    loss = summed_loss(net, xb, yb)
    return loss, derivative([loss], params, create_graph=True)


def _graph_bytes(net, params, x, y):
    """Return about how many bytes the gradient's graph keeps for all examples, the inputs too."""

    def rows(xb, yb):
        loss, slopes = _loss_and_gradient(net, params, xb, yb)
        return [loss, *slopes]

    sizes = []
    for count in (4, 8):
        kept = []
        with saved_tensors_hooks(lambda t, kept=kept: kept.append(t.nbytes) or t, lambda t: t):
            mean(rows, net, x[:count], y[:count], count)
        sizes.append(sum(kept))
    return (sizes[1] - sizes[0]) / 4 * len(x)


def _progress():
    """Return a function that counts examples: on a bar, where somebody has waited for long."""
    if multiprocessing.parent_process() or not (sys.stderr and sys.stderr.isatty()):
        return lambda count: None
    return tqdm(desc="Hessian", unit=" examples", delay=4, leave=False).update


def lanczos(net, x, y, tolerance, restarts, batch_size, **options):
    """Return the eigenvalue of largest magnitude, its unit eigenvector (P,), and a function.

    The function is that of hessian_product. tolerance: the largest residual that is accepted, by
    ARPACK's estimate and relative to the eigenvalue; restarts: the largest number of them.
    """
    multiply, size = hessian_product(net, x, y, batch_size, **options), len(parameter_vector(net))
    start = np.random.default_rng(0).standard_normal(size) / np.sqrt(size)
    if (k := len(x) // SUBSET) > 4:
        # Half of the start stays random, in case the subset misses an important direction.
        start += lanczos(net, x[::k], y[::k], 0.1, restarts, batch_size, **options)[1]
    sizes = []

    def product(vector):
        image = multiply(vector)
        sizes.append(np.abs(image).max())
        # ARPACK takes tiny eigenvalues for zeros; a power of two as a factor changes no digit.
        return np.ldexp(image, -np.frexp(sizes[0])[1])

    operator, ncv = LinearOperator((size, size), product, dtype=float), min(size, 4)
    try:  # few eigenvalues stand out, so that a short basis needs the fewest products
        if size == ncv:
            values, vectors = np.linalg.eigh(operator @ np.eye(size))
        else:
            values, vectors = eigsh(operator, 1, v0=start, ncv=ncv, maxiter=restarts, tol=tolerance)
    except ArpackError as error:
        if any(sizes):
            raise MeasureError(f"Lanczos did not converge to {tolerance}: {error}") from error
        return 0.0, start / np.linalg.norm(start), multiply  # the Hessian is zero
    top = np.abs(values).argmax()
    return float(np.ldexp(values[top], np.frexp(sizes[0])[1])), vectors[:, top], multiply


@torch.inference_mode(False)
def top_eigenpair(net, x, y, tolerance, restarts, batch_size, **options):
    """Return the eigenvalue of largest magnitude and ||H v - lambda v|| / |lambda|.

    MeasureError if that residual stays above the tolerance. The computation is in float64 where
    float32 is too coarse: for a small tolerance, for a tiny loss, for which 1 - p is lost in
    rounding, and where a first try in float32 stays above the tolerance.
    """

    def loss(net, some):
        rows = lambda xb, yb: [summed_loss(net, xb, yb)]
        return float(mean(rows, net, x[some], y[some], batch_size))

    precise = duplicate(net).double()
    tries = [(net, tolerance), (precise, tolerance / 10)]  # ARPACK's estimate can be a little low
    if tolerance < 1e-5 or loss(net, slice(None, None, max(1, len(x) // SUBSET))) < TINY:
        tries = tries[1:]
        if loss(precise, slice(None)) < 1e-14:
            return 0.0, 0.0  # float64 cannot tell it from zero
    _check_symmetry(precise, x, y)
    for one, goal in tries:
        value, vector, product = lanczos(one, x, y, goal, restarts, batch_size, **options)
        rest = np.linalg.norm(product(vector) - value * vector)
        residual = float(rest / abs(value)) if rest else 0.0
        if residual <= tolerance:
            return value, residual
    raise MeasureError(f"The residual {residual:.1g} is above the tolerance {tolerance:g}.")


def _check_symmetry(precise, x, y):
    """Raise MeasureError if u H v is not v H u: then some layer's second derivative is wrong."""
    few = slice(None, None, max(1, len(x) // 64))  # from all over the data
    product = hessian_product(precise, x[few], y[few], len(x))
    u, v = np.random.default_rng(0).standard_normal((2, len(parameter_vector(precise))))
    image = product(v)
    if abs(u @ image - v @ product(u)) > 1e-3 * np.linalg.norm(image) + 1e-9:
        raise MeasureError("The Hessian is not symmetric: a layer's second derivative is wrong.")
