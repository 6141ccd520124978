"""Data sets as whole tensors, the shuffling of labels, and the data of one run.

MNIST (LeCun et al. 1998), Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747), CIFAR-10
(Krizhevsky 2009) and the 8x8 digits of scikit-learn. There are no loaders and no augmentation:
each split is one tensor that fits in memory. lab/files.py has the table of the data sets and says
where their files are looked for.
"""

import hashlib

from lab.files import arrays

import torch


def load(name, data_dir=None, device="cpu"):
    """Return x_train, y_train, x_test, y_test as whole tensors on `device`.

    x: (N, C, H, W) float32, channels last in memory, standardised by each channel's mean and
    standard deviation over the training images; y: (N,) int64, from 0 to the number of classes
    less one. `data_dir` defaults to the variable HW1_DATA, then to data/ at the project's root.
    Raises files.DataError.
    """
    return standardise(arrays(name, data_dir), device)


def standardise(raw, device="cpu"):
    """Turn the arrays of files.arrays into the four tensors that `load` describes."""
    x_train, x_test = (
        torch.tensor(raw[key], dtype=torch.float32, device=device) for key in ("x_train", "x_test")
    )
    std, mean = torch.std_mean(x_train, dim=(0, 1, 2), correction=0)  # (C,) each
    x_train, x_test = (x.sub_(mean).div_(std).permute(0, 3, 1, 2) for x in (x_train, x_test))
    y_train, y_test = (torch.tensor(raw[key], device=device) for key in ("y_train", "y_test"))
    return x_train, y_train, x_test, y_test


def shuffle_labels(y, fraction, seed):
    """Return a copy of y (N,) in which a random `fraction` of the labels is permuted among itself.

    The histogram of the classes stays. In ten classes of equal size, one permuted label in ten
    keeps its value by chance (Zhang et al. 2017, arXiv 1611.03530, section 2.1: corrupted labels).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], not {fraction}")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(y), generator=generator)[: round(fraction * len(y))]
    permuted = chosen[torch.randperm(len(chosen), generator=generator)]
    shuffled = y.clone()
    shuffled[chosen.to(y.device)] = y[permuted.to(y.device)]
    return shuffled


def seed_for(seed, purpose):
    """Return the seed for one purpose (labels, weights, order in epoch 3) under a named seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:6], "big")


def prepare(setting, tensors):
    """Return the run's own x_train, y_train, x_test, y_test: its rows, its shuffled labels."""
    x_train, y_train, x_test, y_test = tensors
    x_train, y_train = x_train[: setting["train_size"]], y_train[: setting["train_size"]]
    x_test, y_test = x_test[: setting["test_size"]], y_test[: setting["test_size"]]
    seed = seed_for(setting["seed"], "labels")
    return x_train, shuffle_labels(y_train, setting["label_corruption"], seed), x_test, y_test
