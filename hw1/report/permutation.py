"""The test behind the verdicts: permutations of whole settings."""

import functools
import itertools
import math

import numpy as np

LEVEL = 0.05  # a corrected p-value below it decides
DRAWS = (40_320, 1_000_000)  # orders to try: at first (all of 8 settings), and where p is small
CHUNK = 40_320  # so many at a time stay in the processor's cache


def permutation_p(x, y, setting, seed, draws=DRAWS):
    """Return the two-sided p-value of Kendall's tau of x and y, permuting whole settings of y.

    x, y, setting, seed: (N,), a row for each model; a setting may lack some seeds. A permutation
    gives all the seeds of one setting to another one. The statistic is the numerator of tau divided
    by the number of pairs of models that exist in both x and permuted y and differ in x: if a model
    is missing, permuted orders can have fewer such pairs than the observed one. Both numbers are
    sums over pairs of settings, whose terms are computed once. All orders are tried if there are at
    most draws[0]; otherwise so many are drawn, the observed one being the first. If p is then under
    LEVEL, so that another draw could lead to another verdict, draws[1] of them are drawn.
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
    # The terms: of settings (i, j) in x with settings (k, l) in y.
    terms = [(a @ b.T).reshape(n, n, n * n) for a, b in (signs, there)]
    for number in draws:
        orders = _orders(n, number)
        parts = np.array_split(orders, math.ceil(orders.shape[1] / CHUNK), axis=1)
        share = np.concatenate([_shares(*terms, part) for part in parts])
        p = np.mean(share >= share[0])
        if p >= LEVEL or len(share) == math.factorial(n):
            break
    return p


def _shares(signs, there, orders):
    """Return how large the statistic is, from 0 to 1, in each order of the settings of y: (P,)."""
    n, sums, pairs = len(orders), 0, 0
    for i, j in itertools.combinations_with_replacement(range(n), 2):
        place, times = orders[i] * n + orders[j], 1 + (i != j)  # (j, i) adds the same as (i, j)
        sums, pairs = sums + times * signs[i, j][place], pairs + times * there[i, j][place]
    return np.abs(sums) / np.maximum(pairs, 1)


@functools.cache
def _orders(n, draws):
    """Return all orders of n settings, or as many as `draws`, the observed one first: (n, P)."""
    if math.factorial(n) <= draws:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        orders = np.tile(np.arange(n), (draws, 1))
        orders[1:] = np.random.default_rng(0).permuted(orders[1:], axis=1)
    return np.ascontiguousarray(orders.T)
