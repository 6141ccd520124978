"""Two ways to change a network's weights that leave its function as it is.

`match_weights` permutes hidden units (Ainsworth et al. 2023, arXiv 2209.04836); `rescale` moves a
factor from one layer to the next (Dinh et al. 2017, arXiv 1703.04933).
"""

import copy

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn


@torch.no_grad()
def match_weights(reference, model, *, seed=0):
    """A copy of `model` with its hidden units permuted to fit `reference`; the same function.
    ValueError unless both are MLPs of one shape. Source: Ainsworth et al. 2023, algorithm 1."""
    target = _weight_layers(reference, nn.Linear)[1:]
    model, *layers = _weight_layers(model, nn.Linear)
    rng, changed = np.random.default_rng(seed), True
    if [layer.weight.shape for layer in target] != [layer.weight.shape for layer in layers]:
        raise ValueError("match_weights needs two models of one shape.")
    while changed:
        changed = False
        for i in rng.permutation(len(layers) - 1):
            fit = target[i + 1].weight.double().T @ layers[i + 1].weight.double()
            for ours, theirs in zip(target[i].parameters(), layers[i].parameters(), strict=True):
                fit += ours.double().reshape(len(fit), -1) @ theirs.double().reshape(len(fit), -1).T
            rows, order = linear_sum_assignment(fit.nan_to_num(0.0).cpu().numpy(), maximize=True)
            # A margin above rounding, or two equally good orders could alternate for ever.
            if fit[rows, order].sum() > fit.trace() + 1e-9 * fit.abs().sum():
                for parameter in layers[i].parameters():
                    parameter.copy_(parameter[order])
                layers[i + 1].weight.copy_(layers[i + 1].weight[:, order])
                changed = True
    return model


@torch.no_grad()
def rescale(model, alpha):
    """A copy of `model`: first weight layer and its bias times alpha, next weight divided by it.
    The same function. ValueError if alpha <= 0 or not ReLU. Source: Dinh et al. 2017, section 3."""
    model, *layers = _weight_layers(model, nn.Linear, nn.Conv2d)
    if not 0 < alpha < np.inf or len(layers) < 2:
        raise ValueError(f"rescale needs two weight layers and a positive alpha, not {alpha}.")
    for parameter in layers[0].parameters():
        parameter.mul_(alpha)
    layers[1].weight.div_(alpha)
    return model


def _weight_layers(model, *kinds):
    """A copy of an nn.Sequential of these and scale-free layers, else ValueError; its `kinds`."""
    known = (*kinds, nn.ReLU, nn.Dropout, nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    if not (isinstance(model, nn.Sequential) and all(isinstance(m, known) for m in model)):
        raise ValueError(f"Wanted an nn.Sequential of {', '.join(k.__name__ for k in known)}.")
    copied = copy.deepcopy(model)
    return copied, *(module for module in copied if isinstance(module, kinds))
