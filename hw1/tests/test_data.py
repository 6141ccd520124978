"""Labels are shuffled once and only among themselves; tensors are what their docstring says."""

from lab import files, formats

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import data
import train


def test_shuffling_keeps_the_histogram_and_realises_the_fraction():
    y = torch.arange(10).repeat(2000)
    for fraction in (0.0, 0.25, 1.0):
        shuffled = data.shuffle_labels(y, fraction, seed=1)
        assert torch.equal(shuffled.bincount(), y.bincount())
        changed = (shuffled != y).double().mean().item()  # one in ten keeps its value by chance
        assert changed == pytest.approx(0.9 * fraction, abs=0.01)
    assert torch.equal(data.shuffle_labels(y, 0.0, seed=1), y)


def test_shuffling_is_a_pure_function_of_the_seed():
    y = torch.arange(10).repeat(100)
    kept, state = y.clone(), torch.get_rng_state()
    first, again = (data.shuffle_labels(y, 1.0, seed=3) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(y, kept)
    assert not torch.equal(first, data.shuffle_labels(y, 1.0, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match="fraction"):
        data.shuffle_labels(torch.arange(10), fraction, seed=0)


def test_only_training_labels_are_shuffled_and_only_once(monkeypatch, tmp_path):
    tensors = data.load("digits")
    setting = train.SETTING | {"dataset": "digits", "model": "mlp-64-8-10", "epochs": 4}
    setting["label_corruption"] = 1.0
    _, y_train, _, y_test = data.prepare(setting, tensors)
    assert (y_train != tensors[1]).double().mean() > 0.8
    assert torch.equal(y_test, tensors[3])
    calls, shuffle = [], data.shuffle_labels
    monkeypatch.setattr(data, "shuffle_labels", lambda *a: calls.append(a) or shuffle(*a))
    train.train(setting, tensors, tmp_path / "state")
    assert len(calls) == 1


def test_digits_are_scikit_learns_shuffled_once():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    raw = files.arrays("digits")
    found = np.concatenate([raw["x_train"], raw["x_test"]]).reshape(-1, 64)
    assert np.array_equal(found, x[order])
    assert np.array_equal(np.concatenate([raw["y_train"], raw["y_test"]]), y[order])


def test_digits_are_standardised_whole_tensors():
    x_train, y_train, x_test, y_test = data.load("digits")
    assert x_train.shape == (1437, 1, 8, 8) and x_test.shape == (360, 1, 8, 8)
    assert x_train.dtype == torch.float32 and y_train.dtype == y_test.dtype == torch.int64
    assert x_train.mean().item() == pytest.approx(0, abs=1e-5)
    assert x_train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    raw = files.arrays("digits")
    pixels = raw["x_train"].astype(np.float64)
    wanted = (raw["x_test"] - pixels.mean()) / pixels.std()  # the training split's own moments
    assert np.allclose(x_test.permute(0, 2, 3, 1), wanted, atol=1e-5)


def test_an_npz_of_the_keras_layout_is_read_per_channel_and_first(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    raw = {
        "x_train": rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8),
        "y_train": rng.integers(0, 10, (50, 1), dtype=np.uint8),
        "x_test": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        "y_test": rng.integers(0, 10, (20, 1), dtype=np.uint8),
    }
    raw["x_train"][..., 1] //= 2
    np.savez(tmp_path / "cifar10.npz", **raw)
    monkeypatch.setenv("HW1_DATA", str(tmp_path))  # the variable is used when no folder is given
    x_train, y_train, x_test, y_test = data.load("cifar10")
    assert x_train.shape == (50, 3, 32, 32) and y_test.shape == (20,)
    assert x_train.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(x_train.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x_train.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert torch.equal(y_train, torch.tensor(raw["y_train"].ravel(), dtype=torch.int64))
    assert np.isfinite(x_test.numpy()).all()


def test_missing_data_names_the_files_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)  # out of reach
    for name, file in (("mnist", "mnist.npz"), ("cifar10", "cifar10.npz")):
        with pytest.raises(files.MissingDataError, match=f"{file}.*--dataset digits"):
            data.load(name, tmp_path)
    with pytest.raises(files.DataError, match="unknown data set 'svhn'"):
        data.load("svhn", tmp_path)


def test_digest_sees_every_bit():
    raw = files.arrays("digits")
    before = formats.digest(raw)
    raw["y_test"] = raw["y_test"].copy()
    raw["y_test"][0] ^= 1
    assert formats.digest(raw) != before
