"""The statistics, against hand-computed values, scipy or a simulation; the reader of logs."""

import math

from lab import stats, tables

import numpy as np
import pytest
from made_up import param_sweep, write
from scipy.stats import kendalltau


def test_barrier_of_a_hand_computed_curve():
    alpha = np.array([2.0, -1.0, 0.0, 0.25, 0.5, 1.0])
    loss = np.array([99.0, 99.0, 1.0, 3.0, 2.5, 2.0])  # chord: 1, 1.25, 1.5, 2
    assert stats.barrier(alpha, loss) == pytest.approx(1.75)
    assert stats.barrier(alpha, 1 + alpha) == pytest.approx(0)
    with pytest.raises(ValueError, match="alpha = 0"):
        stats.barrier(alpha[3:], loss[3:])


@pytest.mark.parametrize("digits", [8, 1])  # 1 digit: many ties
def test_tau_is_scipys(digits):
    rng = np.random.default_rng(1)
    x = rng.normal(size=18).round(digits)
    y = (x + rng.normal(size=18)).round(digits)
    tau, low, high = stats.tau_interval(x, y, np.repeat(np.arange(6), 3))
    assert tau == pytest.approx(kendalltau(x, y).statistic)
    assert -1 <= low < tau < high <= 1


def test_tau_interval_covers():
    """Of 100 logs of 12 independent settings, the 95% interval holds the true tau in 85 or more."""
    rng, hits = np.random.default_rng(0), 0
    truth = 2 / math.pi * math.asin(0.5)  # a normal pair of correlation 0.5
    for _ in range(100):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=12).T
        _, low, high = stats.tau_interval(x, y, np.arange(12), draws=500)
        hits += low <= truth <= high
    assert hits >= 85


def test_seeds_of_one_setting_add_no_certainty():
    """Five copies of every model, one setting each, leave the interval as wide as one copy does."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 10))
    one = stats.tau_interval(x, y, np.arange(10))
    five = stats.tau_interval(np.tile(x, 5), np.tile(y, 5), np.tile(np.arange(10), 5))
    assert five == pytest.approx(one)


def test_tau_of_nothing_is_nan():
    for n in (0, 1, 2):
        assert np.isnan(stats.tau_interval(np.zeros(n), np.zeros(n), np.arange(n))).all()


def test_the_last_epoch_not_the_best(tmp_path):
    rows = [r for r in param_sweep("mnist", np.random.default_rng(0)) if r["seed"] == 0]
    for r in rows:
        r["test_loss"] = r["epoch"]  # best at epoch 0
    order = np.random.default_rng(0).permutation(len(rows))
    t = tables.read(write(tmp_path, "param_sweep", "mnist", [rows[i] for i in order]))
    last = stats.last_epoch(t)
    assert len(last) == 2 * 8 and set(last["test_loss"]) == {500}
    rest = t[[name for name in t.dtype.names if name != "width"]]
    assert len(stats.last_epoch(rest)) == len(last)  # by their parameters


def test_holm_by_hand():
    """Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before it), 0.6 x 1."""
    assert stats.holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert stats.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert list(stats.holm([])) == []


def test_a_setting_is_written_without_needless_zeros():
    settings = {64.0: "64", 16777216: "16777216", 0.001: "0.001", np.str_("adam"): "adam"}
    assert [stats.plain(setting) for setting in settings] == list(settings.values())


@pytest.mark.parametrize(
    ("radii", "kept"), [((1e-4, 5e-4, 1e-3), 5e-4), ((1e-4, 1e-3), 1e-4), ((2e-3,), 2e-3)]
)
def test_a_model_counts_at_one_radius(radii, kept):
    t = np.zeros(2 * len(radii), [("epsilon", float), ("seed", int)])
    t["epsilon"], t["seed"] = np.tile(radii, 2), np.repeat([0, 1], len(radii))
    one = stats.one_epsilon(t)
    assert list(one["epsilon"]) == [kept, kept] and list(one["seed"]) == [0, 1]
    assert len(stats.one_epsilon(t[["seed"]])) == len(t)


def test_epochs_to_fit_by_hand():
    kinds = [("label_corruption", float), ("seed", int), ("epoch", float), ("train_acc", float)]
    rows = [(0.5, 0, 9, 0.99), (0.5, 0, 1.05, 0.98), (0.5, 0, 4.5, 0.995)]  # in no order
    rows += [(0, 1, 2, 0.5), (0.5, 1, 9, 0.9)]
    level, epochs = stats.epochs_to_fit(np.array(rows, kinds))
    np.testing.assert_array_equal(level, [0, 0.5, 0.5])
    np.testing.assert_array_equal(epochs, [math.nan, 4.5, math.nan])


def test_too_few_settings_have_no_interval():
    """From four settings the bootstrap's quantiles are the ends -1 and 1: they say nothing."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 12))
    tau, low, high = stats.tau_interval(x, y, np.repeat(np.arange(4), 3))
    assert np.isfinite(tau) and np.isnan([low, high]).all()


def test_a_log_is_read_as_numbers_where_it_has_numbers(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("n,x,some,word,hash\n1,0.5,,sgd,#a\n2,nan,3,64,\n")
    t = tables.read(path)
    assert t["n"].dtype.kind == "i" and list(t["n"]) == [1, 2]
    np.testing.assert_array_equal(t["x"], [0.5, math.nan])
    np.testing.assert_array_equal(t["some"], [math.nan, 3])
    assert list(t["word"]) == ["sgd", "64"] and list(t["hash"]) == ["#a", ""]
