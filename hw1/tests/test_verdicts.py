"""The verdicts: calibration, power and exactness of the rule; words that follow; missing logs."""

import csv
import itertools
import re
from dataclasses import replace
from fractions import Fraction

from lab import tables

import made_up
import numpy as np
import pytest
from scipy.stats import binom, kendalltau

import curves
import evidence
import found
import verdicts
import words
from evidence import Hypothesis, NotTested
from hypotheses import HYPOTHESES
from permutation import permutation_p

SEEDS = 3


def grid(n):
    """The setting and the seed of each of n x SEEDS models."""
    return np.repeat(np.arange(n), SEEDS), np.tile(np.arange(SEEDS), n)


def correlated(rng, n):
    """A measure that depends on nothing, but whose seeds of one setting resemble each other."""
    return np.repeat(rng.normal(size=n), SEEDS) + 0.3 * rng.normal(size=n * SEEDS)


def hypothesis(kind, data, sign=1, name="family.one"):
    return Hypothesis(name, sign, "", lambda logs: data, "it {verb} so", "它{verb}", kind)


@pytest.mark.parametrize("trend", [True, False])
@pytest.mark.parametrize("n", [8, 12])
def test_the_rule_errs_in_at_most_six_percent(n, trend):
    """Nothing is associated; 2,000 cases. A rule that errs in 8% would pass once in 1,000 times."""
    rng, (setting, seed), cases = np.random.default_rng(n), grid(n), 2000
    errors = 0
    for _ in range(cases):
        x = setting if trend else correlated(rng, n)
        p = permutation_p(x, correlated(rng, n), setting, seed, draws=(400,))
        errors += verdicts.verdict(1, 1.0, p) != "undecided"
    allowed = int(0.06 * cases)
    assert binom.cdf(allowed, cases, 0.08) < 1e-3
    assert 0.03 * cases < errors <= allowed  # and it does decide sometimes


@pytest.mark.parametrize("trend", [True, False])
@pytest.mark.parametrize("missing", [1, 3])
def test_the_rule_errs_no_more_often_where_models_are_missing(missing, trend):
    """Models that diverged are left out; nothing is associated; 1,000 cases of eight settings."""
    rng, (setting, seed), cases = np.random.default_rng(missing), grid(8), 1000
    errors = 0
    for _ in range(cases):
        keep = np.sort(rng.permutation(len(setting))[missing:])
        x = setting if trend else correlated(rng, 8)
        columns = (x, correlated(rng, 8), setting, seed)
        p = permutation_p(*(column[keep] for column in columns), draws=(400,))
        errors += verdicts.verdict(1, 1.0, p) != "undecided"
    assert errors <= binom.ppf(0.999, cases, 0.05)


def test_permuting_single_seeds_would_fail_the_calibration():
    """The reason for whole settings: scipy's p-value, for independent models, errs far more."""
    rng, (setting, _) = np.random.default_rng(0), grid(8)
    p = [kendalltau(setting, correlated(rng, 8)).pvalue for _ in range(300)]
    assert np.mean(np.array(p) < verdicts.LEVEL) > 0.15


@pytest.mark.parametrize("n", [8, 12])
def test_a_monotone_effect_is_found(n):
    rng, (setting, seed) = np.random.default_rng(1), grid(n)
    y = setting + 0.7 * rng.normal(size=len(setting))
    data = {"x": 2.0**setting, "y": y, "setting": setting, "seed": seed}
    others = [
        hypothesis("trend", data | {"y": correlated(rng, n)}, 1, f"family.{k}") for k in "abc"
    ]
    up, down = (hypothesis("trend", data, sign) for sign in (1, -1))
    assert verdicts.decide({}, [up, *others])[0]["verdict"] == "supported"
    assert verdicts.decide({}, [down, *others])[0]["verdict"] == "contradicted"


@pytest.mark.parametrize("kind", ["trend", "correlation", "ties", "a model is missing"])
def test_the_p_value_is_that_of_all_permutations(kind):
    """Five settings, 120 orders, tau of each from the definition: all pairs of models."""
    rng, (setting, seed) = np.random.default_rng(2), grid(5)
    x = setting.astype(float) if kind == "trend" else correlated(rng, 5)
    y = x + 1.2 * correlated(rng, 5)
    if kind == "ties":
        x, y = x.round(), y.round()
    keep = np.arange(15) != 7 if kind == "a model is missing" else np.full(15, True)
    xs, ys = (np.where(keep, v, np.nan).reshape(5, SEEDS) for v in (x, y))

    def agreement(order):
        models = list(zip(xs.ravel(), ys[list(order)].ravel(), strict=True))
        signs = [
            np.sign(a - c) * np.sign(b - d)
            for (a, b), (c, d) in itertools.combinations(models, 2)
            if np.isfinite(a + b + c + d) and a != c
        ]
        return Fraction(abs(int(sum(signs))), len(signs))  # exact: equal orders have to be equal

    all_of_them = [agreement(order) for order in itertools.permutations(range(5))]
    expected = np.mean([share >= all_of_them[0] for share in all_of_them])
    found = permutation_p(x[keep], y[keep], setting[keep], seed[keep])
    assert found == pytest.approx(expected) and 1 / 120 <= expected < 1


def test_a_perfect_trend_keeps_its_p_value_where_a_model_is_missing():
    """Two of the 120 orders of five settings are as extreme, also without a model."""
    setting, seed = grid(5)
    for missing in (None, 0, 7, 14):
        keep = np.arange(15) != missing
        columns = (setting, 10 * setting + seed, setting, seed)
        assert permutation_p(*(column[keep] for column in columns)) == pytest.approx(2 / 120)


def test_drawn_permutations_agree_with_all_of_them():
    rng, (setting, seed) = np.random.default_rng(5), grid(7)
    y = setting + 2 * correlated(rng, 7)
    exact = permutation_p(setting, y, setting, seed)
    drawn = permutation_p(setting, y, setting, seed, draws=(4000,))
    assert 0.01 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000))


def test_more_orders_are_drawn_only_where_they_might_decide():
    """A verdict of 12 approaches depended on which 40,320 orders were drawn."""
    rng, (setting, seed) = np.random.default_rng(3), grid(7)
    for y, again in ((setting + correlated(rng, 7), True), (correlated(rng, 7), False)):
        few, many, exact = (
            permutation_p(setting, y, setting, seed, draws=draws)
            for draws in ((200,), (200, 4000), (5040,))
        )
        assert (few < verdicts.LEVEL) == again
        assert (many != few) == again
        assert many == pytest.approx(exact, abs=4 * np.sqrt(exact / (4000 if again else 200)))


def test_two_models_of_one_setting_and_seed_are_an_error():
    with pytest.raises(ValueError, match="two models"):
        permutation_p(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), np.zeros(4, int))


@pytest.mark.parametrize("digits", [8, 0])  # 0 digits: many ties
def test_the_effect_is_scipys_tau(digits):
    rng, (setting, seed) = np.random.default_rng(4), grid(6)
    x, y = correlated(rng, 6).round(digits), correlated(rng, 6).round(digits)
    y[4] = np.nan  # a model that diverged is left out
    data = {"x": x, "y": y, "setting": setting, "seed": seed}
    row = verdicts.decide({}, [hypothesis("correlation", data)])[0]
    keep = np.isfinite(y)
    assert row["effect"] == pytest.approx(kendalltau(x[keep], y[keep]).statistic)
    assert row["low"] <= row["effect"] <= row["high"] and row["models"] == 17


def test_p_is_corrected_within_a_family_and_not_across():
    setting, seed = grid(4)  # a perfect order of four settings has p = 2 / 24
    data = {"x": setting, "y": 10 * setting + seed, "setting": setting, "seed": seed}
    names = ("one.a", "one.b", "two.a")
    rows = verdicts.decide({}, [hypothesis("trend", data, 1, name) for name in names])
    assert [row["p_holm"] for row in rows] == pytest.approx([4 / 24, 4 / 24, 2 / 24])


def test_tests_whose_logs_are_missing_count_in_a_correction_of_the_whole_family():
    setting, seed = grid(4)
    data = {"x": setting, "y": 10 * setting + seed, "setting": setting, "seed": seed}
    made, single = hypothesis("trend", data), hypothesis("every seed", {"value": [2], "line": 1})

    def missing(logs):
        raise NotTested("no log")

    lost = [replace(made, data=missing), replace(single, data=missing)]
    for whole, p in ((False, 2 / 24), (True, 4 / 24)):  # "every seed" has no test
        rows = verdicts.decide({}, [made, single, *lost], whole=whole)
        assert rows[0]["p_holm"] == pytest.approx(p)
        assert [row["verdict"] for row in rows[2:]] == ["not tested", "not tested"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_statement_about_every_seed(sign):
    outcomes = {"supported": [2, 3, 4], "contradicted": [-2, -3, -4], "undecided": [2, 3, -4]}
    for expected, value in outcomes.items():
        data = {"value": 10 + sign * np.array(value), "line": 10}
        row = verdicts.decide({}, [hypothesis("every seed", data, sign)])[0]
        assert (row["verdict"], row["p"], row["p_holm"]) == (expected, "", "")
    broken = {"value": [np.nan, 11, 12], "line": 10}
    assert verdicts.decide({}, [hypothesis("every seed", broken)])[0]["verdict"] == "undecided"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("h", HYPOTHESES, ids=lambda h: h.name)
def test_each_verdict_has_words_of_its_own(h, language):
    found = {v: verdicts.sentence(h, v, language) for v in verdicts.VERDICTS}
    assert len(set(found.values())) == 4
    assert not any("{" in words or "}" in words for words in found.values())


def test_the_words_say_which_way_it_went():
    down = hypothesis("trend", {}, -1)
    says = {v: verdicts.sentence(down, v, "en") for v in verdicts.VERDICTS}
    assert "falls" in says["supported"] and "grows" in says["contradicted"]
    assert "no clear trend" in says["undecided"]
    chinese = verdicts.sentence(down, "supported", "zh")
    assert "下降" in chinese and "上升" in verdicts.sentence(down, "contradicted", "zh")


def test_the_words_follow_the_data_in_both_languages():
    setting, seed = grid(8)
    said = {}
    for way in (1, -1):
        data = {"x": setting, "y": way * (10 * setting + seed), "setting": setting, "seed": seed}
        h = hypothesis("trend", data)
        [row] = verdicts.decide({}, [h])
        said[way] = [verdicts.sentence(h, row["verdict"], language) for language in ("en", "zh")]
        said[way] += [found.label(row, language) for language in ("en", "zh")]
    assert said[1] == ["it grows so", "它而上升", "supported", "支持"]
    assert said[-1] == ["it falls so", "它而下降", "contradicted", "結果相反"]


def test_an_effect_is_printed_with_the_digits_of_its_kind():
    row = {"name": "labels.test_acc", "effect": -0.9676, "low": -1.0, "high": 0.004}
    assert found.effect(row) == "−0.97\u00a0[−1.00,\u00a00.00]"
    rescaled = {"name": "sharpness.rescaling.hessian", "effect": 4003.1, "low": 3144.8, "high": 9e3}
    assert found.effect(rescaled) == "4,003\u00a0[3,145,\u00a09,000]"
    small = {"name": "labels.chance", "effect": 0.0041, "low": 0.0, "high": 0.0068}
    assert found.effect(small) == "0.004\u00a0[0.000,\u00a00.007]"
    tiny = rescaled | {"name": "sharpness.rescaling.function", "effect": 6e-7, "high": 8e-7}
    assert found.effect(tiny | {"low": 5e-7}) == "6×10⁻⁷\u00a0[5×10⁻⁷,\u00a08×10⁻⁷]"
    few = {"name": "labels.test_acc", "effect": 0.5, "low": np.nan, "high": np.nan}
    assert found.effect(few) == "0.50\u00a0[—,\u00a0—]"
    assert found.effect(few | {"effect": ""}) == ""


def test_which_hypotheses_stand_in_the_table():
    """The rule, by hand: 28 about every seed, two about labels, eight trends, some predictors."""
    rows = [
        {"name": h.name, "family": h.name.partition(".")[0], "kind": h.kind, "verdict": "undecided"}
        for h in HYPOTHESES
    ]
    shown = [row for row in rows if found.stands_in_table(row)]
    assert len(shown) == 28 + 2 + 8
    assert sum(row["kind"] == "every seed" for row in shown) == 28
    assert not any(".epochs." in row["name"] for row in shown)
    for row in rows:
        row["verdict"] = "contradicted"
    new = {row["name"] for row in rows if found.stands_in_table(row)} - {
        row["name"] for row in shown
    }
    assert len(new) == 21 and all(name.startswith("predictors.train_loss.") for name in new)


def test_a_t_interval_and_a_comparison_by_hand():
    """Three seeds: the 97.5% quantile of t with two degrees of freedom is 4.3027."""
    assert words.half_width([1, 2, 3]) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert words.interval([1, 2, 3]) == "2.00\u00a0±\u00a02.48"
    assert np.isnan(words.half_width([1]))
    assert words.compared([3, 3.1, 3.2], [1, 1, 1]) == "more"
    assert words.compared([1, 1, 1], [3, 3.1, 3.2]) == "less"
    assert words.compared([1, 2, 3], [1.5, 1.5, 1.5]) == "unclear"
    assert words.compared([1], [2]) == "unclear"


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Made-up logs as they were before the new columns."""
    folder = tmp_path_factory.mktemp("made_up")
    made_up.make(folder, "mnist", aged=True)
    return {(p.stem[:-6], "mnist"): tables.read(p) for p in (folder / "logs").glob("*.csv")}


def test_what_is_missing_is_not_run(logs):
    rows = {row["name"]: row for row in verdicts.decide(logs)}
    assert len(rows) == len(HYPOTHESES)
    column = rows["sensitivity.mnist.mlp.overconfident"]
    assert column["verdict"] == "not tested" and "no column test_confidence" in column["note"]
    missing = rows["sensitivity.cifar10.cnn.epochs.jacobian_norm_test.batch_size"]
    assert missing["verdict"] == "not tested" and "is missing" in missing["note"]
    no_rows = rows["sharpness.epochs.0.001.sharpness_box.batch_size"]
    assert no_rows["verdict"] == "not tested" and "no rows" in no_rows["note"]
    assert rows["labels.fits"]["verdict"] != "not tested"
    assert all(row["verdict"] == "not tested" for row in verdicts.decide({}))


def test_the_csv_holds_every_hypothesis(logs, tmp_path):
    rows = verdicts.decide(logs)
    with tables.write_table(tmp_path / "verdicts.csv", rows, ".6g").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["name"] for row in written] == [h.name for h in HYPOTHESES]
    assert {row["verdict"] for row in written} <= set(verdicts.VERDICTS)
    of_seeds = [row for row in written if row["kind"] == "every seed"]
    assert of_seeds and all(row["p"] == "" for row in of_seeds)
    tables.read(tmp_path / "verdicts.csv")


def test_every_name_is_used_once_and_every_source_has_a_number():
    assert len({h.name for h in HYPOTHESES}) == len(HYPOTHESES)
    assert all("arXiv 1" in h.source or "arXiv 2" in h.source for h in HYPOTHESES)


def sweep(test_loss, train_acc=(0.5, 0.9, 1, 1, 1)):
    """A log of five widths on one seed, whose test error is a tenth of the loss."""
    names = [*curves.SWEEP, "train_size", "label_corruption"]
    t = np.zeros(5, [(name, float) for name in names])
    t["n_params"] = t["width"] = np.arange(5)
    t["train_acc"], t["test_loss"], t["train_size"] = train_acc, test_loss, 10
    t["test_acc"] = 1 - t["test_loss"] / 10
    return {("param_sweep", "cifar10"): t}


def test_double_descent_by_hand():
    descent = curves.sweep(0.05, curves.descent("loss"), "cifar10", 10, beyond=True)
    assert descent(sweep([4, 2, 3, 5, 4]))["value"] == pytest.approx([5 / 4 - 1])
    assert descent(sweep([4, 2, 6, 3, 1]))["value"] == pytest.approx([6 / 2 - 1])
    assert descent(sweep([5, 4, 3, 2, 1]))["value"][0] < 0
    assert descent(sweep([1, 2, 3, 4, 5]))["value"][0] < 0
    with pytest.raises(evidence.NotTested, match="beyond"):  # only the widest fits
        descent(sweep([4, 2, 3, 5, 4], (0.5, 0.6, 0.7, 0.8, 1)))
    inside = curves.sweep(0, curves.inside, "cifar10", 10)
    assert inside(sweep([4, 2, 3, 5, 3]))["value"] == [1]
    assert inside(sweep([4, 3, 3, 2, 1]))["value"] == [-1]


@pytest.mark.parametrize("place", range(5))
def test_a_width_that_diverged_decides_nothing_wherever_it_stands(place):
    """Python's min and max pass over a nan or return it, depending on what comes first."""
    loss = [4.0, 2.0, 6.0, 3.0, 1.0]
    loss[place] = np.nan
    for value in (
        curves.inside,
        curves.below_best,
        curves.descent("loss"),
        curves.descent("error"),
    ):
        found = curves.sweep(0, value, "cifar10", 10)(sweep(loss))
        assert np.isnan(found["value"]).all()
        assert verdicts.verdict_on_seeds(1, **found) == "undecided"


@pytest.mark.parametrize("place", [None, 0, 3, 4])
def test_valley_and_peak_are_found_beside_a_width_that_diverged(place):
    curve = np.array([4.0, 2.0, 6.0, 3.0, 1.0])
    if place is not None:
        curve[place] = np.nan
    assert curves.valley_and_peak(curve)[:2] == (1, 2)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("largest", [True, False])
def test_a_scale_that_could_not_be_measured_decides_nothing(place, largest):
    t = np.array([(0, 0.1, 1.0), (0, 1.0, 1.01), (0, 10.0, 1.02)],
                 [("seed", int), ("scale", float), ("sharpness_adaptive", float)])  # fmt: skip
    t["sharpness_adaptive"][place] = np.nan
    data = evidence.rescaled(1.05, "sharpness_adaptive", largest)
    assert np.isnan(data({("reparametrization", "mnist"): t})["value"]).all()


@pytest.mark.parametrize("mean", [9.97e-4, 9.94e-4, 1e-3, 3e-5])
def test_a_small_mean_is_printed_as_it_is_where_it_rounds_to_a_power_of_ten(mean):
    """9.97e-4 was printed as 10.0×10⁻³."""
    shown = words.spread([0.99 * mean, mean, 1.01 * mean], ".1e")
    digits, power = shown.split("×10")
    power = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    numbers = [float(x) for x in re.findall(r"[\d.]+", digits)]
    assert [x * 10.0**power for x in numbers] == pytest.approx(
        [mean, 0.99 * mean, 1.01 * mean], rel=0.06
    )
    assert 1 <= numbers[0] < 10
    assert words.spread([np.inf, 1.0], ".1e").startswith("—")


def path(setting_1, setting_2, alignment, losses):
    """Rows of one line through two models, at alpha = -1, 0, 0.5, 1."""
    names = (
        "pair",
        "seed",
        "setting_1",
        "setting_2",
        "alignment",
        "alpha",
        "train_loss",
        "test_loss",
        "test_acc",
    )
    kinds = ("U10", int, float, float, "U15", float, float, float, float)
    rows = [
        ("lr", 0, setting_1, setting_2, alignment, alpha, 0.5, loss, 1 - loss / 10)
        for alpha, loss in zip((-1, 0, 0.5, 1), losses, strict=True)
    ]
    return np.array(rows, list(zip(names, kinds, strict=True)))


def test_barriers_of_two_approaches_and_of_one_by_hand():
    t = [path(1, 2, "none", (99, 1, 4, 3)), path(1, 2, "weight_matching", (99, 1, 2.5, 3))]
    t += [path(2, 2, "none", (99, 3, 7, 3)), path(2, 2, "weight_matching", (99, 3, 3, 3))]
    logs = {("interpolation", "mnist"): np.concatenate(t)}
    for same, barrier, share in ((False, 0.2, 0.75), (True, 0.4, 1)):
        error = curves.paths(0.02, "error_barrier", "mnist", "lr", same)(logs)
        assert error == {"value": pytest.approx([barrier]), "line": 0.02}
        removed = curves.paths(0.5, "test_removed", "mnist", "lr", same)(logs)
        assert removed["value"] == pytest.approx([share])
    mine = next(h for h in HYPOTHESES if h.name == "line.matching.lr")
    assert mine.data(logs)["value"] == pytest.approx([0.75])  # in test loss
    logs["interpolation", "mnist"] = np.concatenate(t[:1] + t[2:])
    with pytest.raises(ValueError, match="a path lacks the alignment weight_matching"):
        mine.data(logs)


def test_epochs_to_fit_by_hand():
    t = np.zeros(3, [("epoch", int), ("train_acc", float)])
    t["epoch"] = 0, 5, 10
    for accuracy, expected in (((0.1, 0.99, 1), 5), ((0.1, 0.5, 0.9), 11)):
        t["train_acc"] = accuracy
        assert curves.epochs_to_fit_or_later(t) == expected


def test_a_run_that_diverged_has_no_epochs_to_fit():
    """It ended early, and was taken for one that had fitted early."""
    columns = ("label_corruption", "seed", "epoch", "train_acc", "test_acc")
    t = np.zeros(4, [(name, float) for name in columns])
    t["seed"], t["epoch"], t["train_acc"] = (0, 0, 1, 1), (0, 3, 0, 3), (0.1, np.nan, 0.1, 1)
    assert np.isnan(curves.epochs_to_fit_or_later(t[:2]))
    data = curves.labels_trend(curves.epochs_to_fit_or_later)({("random_labels", "mnist"): t})
    assert data["seed"].tolist() == [0, 1] and data["y"].tolist() == [
        pytest.approx(np.nan, nan_ok=True),
        3,
    ]


METRICS = "train_loss train_acc test_loss test_acc "
STOPS = {"stop": ("epochs", "train_loss")}
PATHS = {"pair": ("batch_size", "lr"), "setting_1": (1, 2), "setting_2": (2,)}
PATHS |= {"alignment": ("none", "weight_matching"), "alpha": (0, 0.5, 1)}
INPUT = "input_gradient_norm_test jacobian_norm_test "
WAYS = ("batch_size=8", "batch_size=16", "batch_size=32", "lr=1", "dropout=1")
MEASURED = "parameter_gradient_norm hessian_norm sharpness_ball sharpness_box sharpness_adaptive"
NEW = {  # columns and settings of the logs of a full run
    "random_labels_mnist": (METRICS + "epoch", {"label_corruption": (0, 0.25, 0.5, 0.75, 1.0)}),
    "param_sweep_cifar10": (
        METRICS + "epoch",
        {"width": (1, 2, 3, 4), "train_size": (4000, 50000), "label_corruption": (0.0,)},
    ),
    "param_sweep_mnist": (
        METRICS + "epoch",
        {"width": (1, 2, 3, 4), "train_size": (4000,), "label_corruption": (0.2,)},
    ),
    "interpolation_mnist": (METRICS + "weight_norm_1 weight_norm_2 distance", PATHS),
    "interpolation_shared_mnist": (METRICS, PATHS),
    "interpolation_cifar10": (METRICS, PATHS),
    "sensitivity_mnist": (
        METRICS + INPUT + "test_confidence epoch",
        {"model": ("mlp-1", "cnn-1"), "batch_size": (8, 16, 32, 64, 128)} | STOPS,
    ),
    "sharpness_mnist": (
        METRICS + INPUT + MEASURED,
        {"approach": WAYS, "epsilon": (1e-4, 5e-4, 1e-3)} | STOPS,
    ),
    "reparametrization_mnist": (MEASURED + " max_output_change", {"scale": (0.1, 1, 10)}),
}
NEW["sensitivity_cifar10"] = NEW["sensitivity_mnist"]


def test_the_columns_of_a_full_run_decide_every_hypothesis(tmp_path):
    """Logs with the columns that a full run writes, filled with noise: nothing is not tested."""
    rng, logs = np.random.default_rng(0), {}
    for name, (columns, settings) in NEW.items():
        made = []
        for values in itertools.product(*settings.values(), range(SEEDS)):
            row = dict(zip((*settings, "seed"), values, strict=True))
            row |= {column: rng.uniform(0.1, 0.9) for column in columns.split()}
            row |= {"epoch": 9} if "epoch" in row else {}
            row |= {"n_params": row["width"], "train_acc": 1.0} if "width" in row else {}
            row |= (
                {"batch_size": int(row["approach"][11:] or 1)} if name == "sharpness_mnist" else {}
            )
            made.append(row)
        log, _, dataset = name.rpartition("_")
        logs[log, dataset] = tables.read(made_up.write(tmp_path, log, dataset, made))
    rows = verdicts.decide(logs)
    assert {row["name"]: row["note"] for row in rows if row["verdict"] == "not tested"} == {}
    assert all(row["kind"] == "every seed" or 0 < row["p"] <= row["p_holm"] <= 1 for row in rows)
