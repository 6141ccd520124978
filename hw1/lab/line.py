"""The straight line through two networks of one structure, and what is measured along it."""

import copy

import torch
from torch import nn

import train


@torch.no_grad()
def along(first, second, alphas, x_train, y_train, x_test, y_test):
    """Yield each alpha and the metrics of interpolate(first, second, alpha).

    In an MLP of models.py the first layer's outputs are linear in its weights, so they are computed
    once for both ends and mixed: this saves three matrix products in five.
    """
    if not _starts_plainly(first) or not _starts_plainly(second):
        for alpha in alphas:
            model = interpolate(first, second, alpha)
            yield alpha, train.metrics(model, x_train, y_train, x_test, y_test)
        return
    ends_train, ends_test = (outputs(first[:2], second[:2], x) for x in (x_train, x_test))
    for alpha in alphas:
        rest = nn.Sequential(Mixture(alpha), *interpolate(first[2:], second[2:], alpha))
        yield alpha, train.metrics(rest, ends_train, y_train, ends_test, y_test)


def _starts_plainly(net):
    """Return whether it is an nn.Sequential that starts like an MLP of models.py, without hooks.

    Old forms of weight norm and the like are hooks that compute the weights.
    """
    if type(net) is not nn.Sequential or [*map(type, net[:2])] != [nn.Flatten, nn.Linear]:
        return False
    hooks = [h for m in (net, *net[:2]) for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    return not hooks and (net[0].start_dim, net[0].end_dim) == (1, -1)


def outputs(first, second, x):
    """Return the outputs of two first layers for x: (N, 2, H), of few rows at a time."""
    ends = x.new_empty(len(x), 2, first[-1].out_features)
    for place, inputs in zip(ends.split(2048), x.split(2048), strict=True):
        place[:, 0], place[:, 1] = first(inputs), second(inputs)
    return ends


class Mixture(nn.Module):
    """(1 - alpha) first + alpha second, for outputs (N, 2, H) of the two."""

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def forward(self, ends):
        return torch.lerp(*ends.unbind(1), self.alpha)


def interpolate(first, second, alpha):
    """Return a new model at (1 - alpha) first + alpha second: parameters and buffers alike."""
    model = copy.deepcopy(first)
    other = second.state_dict()
    state = {}
    for name, value in first.state_dict().items():
        number = value.is_floating_point() or value.is_complex()
        state[name] = (1 - alpha) * value + alpha * other[name] if number else value
    model.load_state_dict(state)
    return model
