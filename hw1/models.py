"""The two families of networks, as plain nn.Sequential.

Both start from He et al. (2015, arXiv 1502.01852, eq. 10) normal weights and zero biases, drawn
from one generator. A network is named by a string that is also its entry in the CSV column
`model`: mlp-784-256-256-256-10 or cnn-16.
"""

from itertools import pairwise

import torch
from torch import nn


def mlp(sizes, dropout=0.0, generator=None):
    """Return a ReLU network of fully connected layers for x: (N, ...) with sizes[0] entries each.

    784-256-256-256-10 is the course's network (335,114 parameters). Dropout, if any, follows each
    hidden layer (Srivastava et al. 2014).
    """
    layers = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
    while not isinstance(layers[-1], nn.Linear):
        layers.pop()
    return _initialise(nn.Sequential(*layers), generator)


def cnn(width, channels=3, generator=None):
    """Return a small convolutional network for x: (N, channels, H, W); its output is (N, 10).

    Three 3x3 convolutions of stride 2 with width, 2 width and 4 width channels, the mean over the
    remaining positions, one linear layer: all-convolutional as in Springenberg et al. (2015, arXiv
    1412.6806), without batch normalisation so that every example is a function of its own.
    """
    layers = []
    for outputs in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, outputs, 3, stride=2, padding=1), nn.ReLU()]
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    model = _initialise(nn.Sequential(*layers), generator)
    return model.to(memory_format=torch.channels_last)


def build(name, channels, dropout=0.0, generator=None):
    """Return the network of that name, such as mlp-784-32-32-10 or cnn-16."""
    kind, *numbers = name.split("-")
    numbers = [int(number) for number in numbers]
    if kind == "mlp":
        return mlp(numbers, dropout, generator)
    return cnn(*numbers, channels=channels, generator=generator)


def count_params(model):
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _initialise(model, generator):
    for module in model:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(module.bias)
    return model
