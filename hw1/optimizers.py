"""The optimizers by name: PyTorch's, and Muon, with which random labels are fitted soon.

PyTorch's own Muon multiplies in bfloat16, which many CPUs have no instructions for; this one keeps
the parameters' dtype, takes what is not a matrix too, and is otherwise the same.
"""

import math
from functools import partial

import torch
from torch import optim


class Muon(optim.AdamW):
    """Momentum with orthogonalised updates for the matrices; AdamW, at the same rate, for the rest.

    Momentum 0.95, Nesterov; a matrix's update has the root mean square that Adam's usually has,
    0.2. Sources: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Liu et al. 2025, arXiv
    2502.16982, eq. 4.
    """

    @torch.no_grad()
    def step(self):
        """Update every parameter that has a gradient; the matrices' gradients are used up."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.ndim == 2 and p.grad is not None):
                state = self.state[p]
                if not state:  # Adam wants a step to be there when a checkpoint is loaded
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(p)}
                momentum = state["momentum"].lerp_(p.grad, 1 - 0.95)
                update = orthogonalize(p.grad.lerp(momentum, 0.95))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(update, alpha=group["lr"] * 0.2 * math.sqrt(max(p.shape)))
                p.grad = None
        super().step()


def orthogonalize(matrix):
    """Return U V^T of the singular value decomposition, roughly: singular values in 0.7 to 1.2.

    matrix: (m, n). Five Newton-Schulz iterations of a quintic, with Jordan's coefficients.
    """
    if matrix.size(0) > matrix.size(1):  # the products are smaller on the other side
        return orthogonalize(matrix.T).T
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        quadratic = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, quadratic, x, beta=3.4445)
    return x


OPTIMIZERS = {
    "adam": optim.Adam,  # Kingma and Ba 2015
    "adamw": optim.AdamW,  # Loshchilov and Hutter 2019
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9),
    "muon": Muon,
}
