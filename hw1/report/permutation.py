"""The test behind the verdicts: permutations of whole settings."""

import functools
import itertools
import math

import numpy as np

MOST = 40_320  # permutations: all of 8 settings


def permutation_p(x, y, setting, seed, most=MOST):
    """Return the two-sided p-value of Kendall's tau of x and y, permuting whole settings of y.

    x, y, setting, seed: (N,), a row for each model; a setting may lack some seeds. A permutation
    gives all the seeds of one setting to another one. The statistic is the numerator of tau divided
    by the number of pairs of models that exist in both x and permuted y and differ in x: if a model
    is missing, permuted orders can have fewer such pairs than the observed one. Both numbers are
    sums over pairs of settings, whose terms are computed once. All permutations are tried if there
    are at most `most`; otherwise `most` of them are drawn, and the observed order is the first.
    """
    rows, n = np.unique(setting, return_inverse=True)[1], len(np.unique(setting))
    columns = np.unique(seed, return_inverse=True)[1]
    if len(set(zip(rows, columns, strict=True))) < len(rows):
        raise ValueError("A log has two models of one setting and seed, so it is damaged.")
    signs, there = [], []
    for values in (x, y):
        grid = np.full((n, columns.max() + 1), np.nan)
        grid[rows, columns] = values
        differences = (grid[:, None, :, None] - grid[None, :, None, :]).reshape(n * n, -1)
        signs.append(np.nan_to_num(np.sign(differences)))
        there.append(np.isfinite(differences).astype(float))
    there[0] *= signs[0] != 0
    i, j = np.triu_indices(n)
    times = np.where(i == j, 1.0, 2.0)[:, None]  # settings (j, i) with (l, k) add the same again
    # The terms: of settings (i, j) in x with settings (k, l) in y.
    sums, pairs = (
        (times * a[i * n + j] @ b.T).ravel()[_places(n, most)].sum(1) for a, b in (signs, there)
    )
    share = np.abs(sums) / np.maximum(pairs, 1)
    return np.mean(share >= share[0])


@functools.cache
def _places(n, most):
    """Return where the terms of each order are, the observed order first: (P, n * (n + 1) / 2)."""
    if math.factorial(n) <= most:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        orders = np.tile(np.arange(n), (most, 1))
        orders[1:] = np.random.default_rng(0).permuted(orders[1:], axis=1)
    i, j = np.triu_indices(n)
    return np.arange(len(i)) * n * n + orders[:, i] * n + orders[:, j]
