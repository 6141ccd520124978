"""Two ways to change a network's weights that leave its function as it is.

`match_weights` permutes hidden units or channels (Ainsworth et al. 2023, arXiv 2209.04836);
`rescale` moves a factor from one layer to the next (Dinh et al. 2017, arXiv 1703.04933). Both work
on networks like those of models.py, and both run the old and the new network on random inputs
before they return: if an output has changed, that is a ValueError.
"""

from lab.private import duplicate

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from models import PositionMean

UNITWISE = (nn.ReLU, nn.Dropout, nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d, PositionMean)
TOLERANCE = 1e-4  # of the largest output; rounding in float32 stays far below


@torch.no_grad()
def match_weights(reference, model):
    """Return a copy of `model` with its hidden units permuted to fit `reference`.

    The units of a convolution are its channels. ValueError unless both are nn.Sequential, of
    nn.Linear, nn.Conv2d and layers between them that treat each unit alike, and of one shape; or if
    the permutation would change the function. Source: Ainsworth et al. 2023, algorithm 1.
    """
    target, (matched, layers) = _weight_layers(reference)[1], _weight_layers(model)
    if [_shapes(layer) for layer in target] != [_shapes(layer) for layer in layers]:
        raise ValueError("match_weights needs two models of one shape.")
    rng, changed = np.random.default_rng(0), True
    while changed:
        changed = False
        for i in rng.permutation(len(layers) - 1):
            fit = _columns(target[i + 1], target[i]) @ _columns(layers[i + 1], layers[i]).T
            for ours, theirs in zip(target[i].parameters(), layers[i].parameters(), strict=True):
                fit += ours.double().reshape(len(fit), -1) @ theirs.double().reshape(len(fit), -1).T
            rows, order = linear_sum_assignment(fit.nan_to_num(0.0).cpu().numpy(), maximize=True)
            # A margin above rounding, or two equally good orders could alternate for ever.
            if fit[rows, order].sum() > fit.trace() + 1e-9 * fit.abs().sum():
                _permute(layers[i], layers[i + 1], order)
                changed = True
    return _checked(model, matched)


@torch.no_grad()
def rescale(model, alpha):
    """Return a copy of `model`: its first weight layer times alpha, the next divided by it.

    The first bias is multiplied as well. ValueError if alpha is not positive, if the model is not
    an nn.Sequential of nn.Linear, nn.Conv2d, nn.ReLU and the like, or if the function would change.
    Source: Dinh et al. 2017, section 3.
    """
    rescaled, layers = _weight_layers(model)
    if len(layers) < 2:
        raise ValueError("rescale needs a model of two weight layers or more.")
    if not 0 < alpha < np.inf:
        raise ValueError(f"rescale needs a positive alpha, not {alpha}.")
    for parameter in layers[0].parameters():
        parameter.mul_(alpha)
    layers[1].weight.div_(alpha)
    return _checked(model, rescaled)


def _weight_layers(model):
    """Return a copy of the model and its weight layers; ValueError if it has any other parts."""
    known = (nn.Linear, nn.Conv2d, *UNITWISE)
    if type(model) is not nn.Sequential or not all(type(m) in known for m in model):
        raise ValueError(f"Wanted an nn.Sequential of {', '.join(k.__name__ for k in known)}.")
    layers = [m for m in model if type(m) not in UNITWISE]
    parameters = [p for m in layers for p in m.parameters()]
    names = {name for m in layers for name, _ in m.named_parameters()}
    if not names <= {"weight", "bias"} or len({p.data_ptr() for p in parameters}) < len(parameters):
        raise ValueError("Wanted plain weights: no shared, pruned, or normalised ones.")
    if not layers:
        raise ValueError("The model has no layer with weights.")
    copied = duplicate(model)
    return copied, [m for m in copied if type(m) not in UNITWISE]


def _shapes(layer):
    return type(layer), [parameter.shape for parameter in layer.parameters()]


def _columns(layer, before):
    """Return the weights of `layer` that multiply each unit of `before`: (units, K) float64."""
    units, weight = len(before.weight), layer.weight
    if weight[0].numel() % units or (isinstance(layer, nn.Conv2d) and weight.shape[1] != units):
        raise ValueError("The weights of a layer do not fit the units of the layer before it.")
    return weight.double().reshape(len(weight), units, -1).transpose(0, 1).reshape(units, -1)


def _permute(layer, after, order):
    """Put the units of `layer` into this order, and the columns of the layer after it."""
    for parameter in layer.parameters():
        parameter.copy_(parameter[order])
    columns = after.weight.reshape(len(after.weight), len(order), -1)[:, order]
    after.weight.copy_(columns.reshape(after.weight.shape))


def _checked(model, changed):
    """Return `changed` if it has the outputs of `model` on random inputs, else ValueError."""
    old, new = (duplicate(net).cpu().double().eval() for net in (model, changed))
    first = next(m for m in model if type(m) not in UNITWISE)
    rounding = max(torch.finfo(p.dtype).eps for p in model.parameters())  # more in half precision
    for x in _inputs(first):
        try:
            before, after = old(x.clone()), new(x.clone())
        except RuntimeError:  # an image of another size is wanted
            continue
        scale = float(before.nan_to_num(0.0, 0.0, 0.0).abs().max())
        atol = max(TOLERANCE, 4 * rounding) * scale
        if torch.allclose(before, after, rtol=0, atol=atol, equal_nan=True):
            return changed
        raise ValueError("The outputs would change: the model does something besides its layers.")
    raise ValueError("The outputs cannot be checked: the model takes none of the images tried.")


def _inputs(first):
    """Yield random inputs: rows for an nn.Linear, square images of many sizes for an nn.Conv2d."""
    rng = torch.Generator().manual_seed(0)
    if isinstance(first, nn.Linear):
        yield torch.randn(64, first.in_features, generator=rng, dtype=torch.float64)
    else:
        for side in [32, 28, 64, 96, 224, *range(1, 64)]:
            yield torch.randn(8, first.in_channels, side, side, generator=rng, dtype=torch.float64)
