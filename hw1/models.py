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

    784-256-256-256-10 is the course's network (335,114 parameters). Dropout follows each hidden
    layer (Srivastava et al. 2014); with the default of 0 it does nothing.
    """
    layers = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return _initialise(nn.Sequential(*layers[:-2]), generator)


def cnn(width, channels=3, classes=10, dropout=0.0, generator=None):
    """Return a small convolutional network for x: (N, channels, H, W); its output: (N, classes).

    Three 3x3 convolutions of stride 2 with width, 2 width and 4 width channels, the mean over the
    remaining positions, one linear layer. It has no pooling between the convolutions, as in
    Springenberg et al. (2015, arXiv 1412.6806), and no batch normalisation, so that the output for
    one example does not depend on the others. Dropout, if any, follows each convolution.
    """
    layers = []
    for outputs in (width, 2 * width, 4 * width):
        convolution = nn.Conv2d(channels, outputs, 3, stride=2, padding=1)
        layers += [convolution, nn.ReLU(inplace=True), nn.Dropout(dropout)]
        channels = outputs
    layers += [PositionMean(), nn.Linear(channels, classes)]
    model = _initialise(nn.Sequential(*layers), generator)
    return model.to(memory_format=torch.channels_last)


class PositionMean(nn.Module):
    """The mean over the positions of an image; its gradient is channels last in memory.

    That of nn.AdaptiveAvgPool2d(1) is not, which slows the backward pass of the ReLU before it.
    """

    def forward(self, x):
        """x: (N, C, H, W); its output: (N, C)."""
        return x.movedim(1, -1).flatten(1, 2).mean(1)


def build(name, channels=1, classes=10, dropout=0.0, generator=None):
    """Return the network of that name: mlp-784-32-32-10 (its layers' sizes) or cnn-16 (its width).

    Raises ValueError for any other name.
    """
    kind, *numbers = name.split("-")
    sizes = [int(number) for number in numbers if number.isdecimal()]
    if len(sizes) == len(numbers) and min(sizes, default=0) > 0:
        if kind == "mlp" and len(sizes) > 1:
            return mlp(sizes, dropout, generator)
        if kind == "cnn" and len(sizes) == 1:
            return cnn(*sizes, channels, classes, dropout, generator)
    raise ValueError(f"unknown network {name!r}: choose mlp-784-256-10 or cnn-16, for example")


def count_params(model):
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _initialise(model, generator):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
