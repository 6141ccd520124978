"""What a figure shows: words and empty cells of a log, ticks, crosses, and notes on the run."""

import itertools
import json
import math
import re
import warnings

from lab import figure, tables
from lab.dots import decades, dot_rows

import made_up
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import plot_all


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Return a function that draws what is in tmp_path, but writes no file: {name: figure}."""
    saved, save = {}, plot_all.save

    def keep(fig, path, note):
        saved[path.name] = fig
        return save(fig, path, note)

    monkeypatch.setattr(plot_all, "save", keep)
    monkeypatch.setattr(figure, "write", lambda path, fill: None)

    def draw(dataset):
        _, bad = plot_all.draw(tmp_path, dataset)
        if bad:
            raise ValueError("; ".join(bad))
        return saved

    return draw


def log(maker, dataset, keep=lambda row: True):
    rows = maker(dataset, np.random.default_rng(0))
    return [row for row in rows if keep(row)]


def ends(fig):
    """Which models the lines lie between, as the axes of the curves say it: {setting: words}."""
    axes = [ax for ax in fig.axes if " at 0" in ax.get_xlabel()]
    return {ax.get_title("left"): ax.get_xlabel().partition("  ")[2] for ax in axes}


def test_a_pair_may_be_words_numbers_or_both(tmp_path, shown):
    rows = log(made_up.interpolation, "mnist")
    for row in rows:
        if row["pair"] == "lr":
            row |= {"pair": "optimizer", "setting_1": "sgd", "setting_2": "adam"}
    made_up.write(tmp_path, "interpolation", "mnist", rows)
    pairs = {"batch size": "(64 at 0, 1024 at 1)", "optimizer": "(sgd at 0, adam at 1)"}
    assert ends(shown("mnist")["interpolation_mnist"]) == pairs
    only = [row for row in rows if row["pair"] == "optimizer"]
    made_up.write(tmp_path, "interpolation", "mnist", only)
    assert ends(shown("mnist")["interpolation_mnist"]) == {"optimizer": pairs["optimizer"]}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (["", ""], ["all training examples, true labels", "all training examples, 20% of labels"]),
        (["None", 4000], ["all training examples, true", "4,000 training examples, 20%"]),
        (["", 1437], ["all training examples, true", "1,437 training examples, 20%"]),
    ],
)
def test_no_train_size_means_all(tmp_path, shown, written, said):
    rows = log(made_up.param_sweep, "digits")
    for row in rows:
        row["train_size"] = written[row["label_corruption"] > 0]
    made_up.write(tmp_path, "param_sweep", "digits", rows)
    titles = [ax.get_title("left") for ax in shown("digits")["param_sweep_digits"].axes[::2]]
    assert len(titles) == 2
    assert all(title.startswith(words) for title, words in zip(titles, said, strict=True))


FEW = {  # what a quick run, or a change of one line, leaves of each log
    "random_labels": lambda r: r["seed"] == 0 and r["epoch"] < 8,
    "param_sweep": lambda r: r["seed"] == 0 and r["width"] in (64, 128) and r["train_size"] == 4000,
    "interpolation": lambda r: r["seed"] == 0 and round(r["alpha"] / 0.25, 6) % 1 == 0,
    "sensitivity": lambda r: r["seed"] == 0 and r["batch_size"] in (64, 256, 1024),
    "sharpness": lambda r: r["seed"] == 0 and r["approach"] in ("lr=0.01", "dropout=0.1"),
    "reparametrization": lambda r: r["seed"] == 0 and r["scale"] in (1.0, 2.0),
}


def make_few(folder):
    for name, keep in FEW.items():
        made_up.write(folder, name, "digits", log(getattr(made_up, name), "digits", keep))


def test_every_axis_of_a_small_run_has_two_labelled_ticks(tmp_path, shown):
    make_few(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = shown("digits")
    assert len(figures) == 7
    for (name, fig), kind in itertools.product(figures.items(), "xy"):
        fig.draw_without_rendering()
        hidden = {"x": "labelbottom", "y": "labelleft"}[kind]
        for ax in fig.axes:
            if getattr(ax, f"{kind}axis").get_tick_params().get(hidden, True):
                assert labelled(ax, kind) >= 2, (name, kind)


def labelled(ax, kind):
    """Count the labels inside the view, once the figure has been drawn."""
    low, high = sorted(getattr(ax, f"get_{kind}lim")())
    labels = getattr(ax, f"get_{kind}ticklabels")(which="both")
    places = np.array([t.get_position()[kind == "y"] for t in labels if t.get_text()])
    edges = np.isclose(places, low) | np.isclose(places, high)  # 10**-8 is rounded
    return sum((low <= places) & (places <= high) | edges)


@pytest.mark.parametrize("batch_sizes", range(1, 9))
def test_the_ticks_of_sensitivity_are_batch_sizes(tmp_path, shown, batch_sizes):
    sizes = [32, 64, 128, 256, 512, 1024, 2048, 4096][:batch_sizes]
    rows = log(made_up.sensitivity, "digits", lambda row: row["batch_size"] in sizes)
    made_up.write(tmp_path, "sensitivity", "digits", rows)
    ax = shown("digits")["sensitivity_digits"].axes[0]
    ticks = [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    assert len(ticks) >= 2 and (set(ticks) <= set(sizes) or len(sizes) == 1)


@pytest.mark.parametrize(
    ("about", "note"),
    [
        ({}, ""),
        ({"quick": False, "data_version": "as published"}, ""),
        ({"quick": True}, "quick run"),
        ({"data_version": "unknown version"}, "mnist (unknown version)"),
        (
            {"quick": True, "data_version": "unknown version"},
            "quick run, mnist (unknown version)",
        ),
    ],
)
def test_the_note_on_a_figure(tmp_path, shown, about, note):
    made_up.make(tmp_path, "mnist", ["reparametrization", "sensitivity"])
    (tmp_path / "logs" / "sensitivity_mnist.json").write_text(json.dumps(about))
    figures = shown("mnist")
    notes = {name: fig.get_supxlabel() for name, fig in figures.items()}
    assert notes == {
        "sensitivity_mnist": note,
        "predictors_mnist": note,
        "reparametrization_mnist": "",
    }


@pytest.mark.parametrize("kept", [1, 2, 10])
def test_a_log_with_few_rows_is_drawn_or_refused_with_a_sentence(tmp_path, shown, kept):
    """A run that was stopped, or a log that was cut by hand, is never another kind of error."""
    rng = np.random.default_rng(kept)
    for maker in made_up.MAKERS:
        rows = log(maker, "digits")
        rows = [rows[i] for i in rng.choice(len(rows), kept, replace=False)]
        rows[0] |= {name: math.inf for name in rows[0] if "loss" in name or "norm" in name}
        path = made_up.write(tmp_path, maker.__name__, "digits", rows)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert shown("digits")
            except ValueError as error:
                assert "lacks" in str(error) and str(path) in str(error)
        path.unlink()


def test_a_pair_that_only_one_log_has_is_drawn(tmp_path, shown):
    made_up.make(tmp_path, "mnist", ["interpolation"])
    rows = log(made_up.interpolation_shared, "mnist", lambda row: row["pair"] == "lr")
    made_up.write(tmp_path, "interpolation_shared", "mnist", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = shown("mnist")["interpolation_mnist"].axes
    heights = [len(dots(ax, "s")) for ax in (axes[2], axes[5])]
    assert heights == [6, 6] and not lost(axes[2]) + lost(axes[5])  # what was not run is not lost


def dots(ax, marker):
    """Where the dots with this marker are: (x, y) of each."""
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == marker]


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 0.5), (0.1, 50), (3, 3), (0.000999999999999999, 1)]
)
def test_both_panels_of_a_shared_log_axis_lie_inside_it(low, high):
    """The limits were those of the lower panel alone."""
    top, bottom = figure.Figure().subplots(2, sharex=True)
    for ax, values in ((top, [low, high]), (bottom, [low, low])):
        ax.set(xscale="log")
        ax.plot(values, [0, 1], "o")
    decades(top, bottom)
    left, right = bottom.get_xlim()
    assert left <= low <= high <= right <= 10 * max(high, 10 * left)


def lost(ax):
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_gid() == "lost"]


def test_a_diverged_seed_breaks_the_line_and_is_marked():
    ax = figure.Figure().subplots()
    y = np.array([1.0, 2.0, 3.0, 4.0, np.inf, 6.0])
    figure.curve(ax, np.array([1, 1, 2, 2, 3, 3]), y, "k", marker="o")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.5, 3.5, np.nan])
    assert lost(ax) == [(3, 1)]
    points = {(stop, "a"): ([1, np.nan], np.nan, False) for stop in figure.STOPS}
    dot_rows(ax, ["a"], figure.STOPS, points)
    assert lost(ax)[1:] == [(1, -0.2), (1, 0.2)]


def test_diverged_rows_still_draw(tmp_path, shown):
    rows = log(made_up.sharpness, "digits")
    for row in rows[-3:]:  # one model at three epsilons
        row |= {name: math.nan for name in row if "loss" in name or "norm" in name}
        row |= {name: math.nan for name in row if "sharp" in name}
    made_up.write(tmp_path, "sharpness", "digits", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = shown("digits")
    words = [t.get_text() for fig in figures.values() for t in fig.legends[0].get_texts()]
    assert "diverged models left out" in words and "diverged or undefined" in words
    rows = tables.read(tmp_path / "figures" / "predictors_digits.csv")
    models = set(zip(rows["stop"].tolist(), rows["models"].tolist(), strict=True))
    assert models == {("epochs", 36), ("train_loss", 35)}


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_logs_without_any_finite_value_still_draw(tmp_path, shown, dataset):
    """One pair of models that diverged on every seed lost the figure of all pairs."""
    made_up.make(tmp_path, dataset)
    for path in (tmp_path / "logs").glob("*.csv"):
        name, rows = path.stem.removesuffix(f"_{dataset}"), tables.read(path)
        measured = [c for c in rows.dtype.names if re.search("loss|_acc|norm|sharp|conf", c)]
        rows = [dict(zip(rows.dtype.names, row.tolist(), strict=True)) for row in rows]
        made_up.write(
            tmp_path, name, dataset, [row | dict.fromkeys(measured, math.nan) for row in rows]
        )
    figures = shown(dataset)
    assert {name.removesuffix(f"_{dataset}") for name in figures} >= {"interpolation", "sharpness"}
    for fig in figures.values():
        fig.draw_without_rendering()
        assert any(lost(ax) for ax in fig.axes)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of made-up logs: new ones, those before the new columns, few rows; the logs."""
    logs, figures, save = {}, {}, plot_all.save
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        kinds = [("mnist", False), ("mnist", True), ("cifar10", False), ("digits", False)]
        for dataset, aged in kinds:
            folder = tmp_path_factory.mktemp("drawn")
            names = ["param_sweep", "interpolation", "interpolation_shared", "sensitivity"]
            if dataset == "digits":
                make_few(folder)
            else:
                made_up.make(folder, dataset, names if dataset == "cifar10" else None, aged)
            age = " aged" * aged

            def keep(fig, path, note, age=age):
                figures[path.name + age] = fig
                fig.set_dpi(150)  # that of the file, to which the layout is made
                layout = lambda path, fill: path.suffix == ".png" and fig.draw_without_rendering()
                patch.setattr(figure, "write", layout)
                return save(fig, path, note)

            patch.setattr(plot_all, "save", keep)
            assert plot_all.draw(folder, dataset)[1] == []
            for path in (folder / "logs").iterdir():
                logs[path.stem + age] = tables.read(path)
    return figures, logs


def test_every_kind_of_log_is_drawn(drawn):
    assert len(drawn[0]) == 2 * 7 + 4 + 7


def inside(text, by):
    """The corners of a text on the page, in pixels, moved inwards by some."""
    (x0, y0), (x1, y1) = text.get_window_extent().get_points()
    return x0 + by, y0 + by, x1 - by, y1 - by


def words_of(fig):
    """Every text that is seen: titles, labels of axes, labels of ticks in view, the legend."""
    found = [text for legend in fig.legends for text in legend.get_texts()]
    for ax in fig.axes:
        found += [part for part in ax.get_children() if isinstance(part, Text)]
        found += [ax.xaxis.label, ax.yaxis.label]
        for axis, side in ((ax.xaxis, "labelbottom"), (ax.yaxis, "labelleft")):
            low, high = sorted(axis.get_view_interval())
            if axis.get_tick_params().get(side, True):
                ticks = axis.get_major_ticks() + axis.get_minor_ticks()
                found += [t.label1 for t in ticks if low <= t.get_loc() <= high]
    return [text for text in found if text.get_text().strip() and text.get_visible()]


def test_no_text_is_cut_or_lies_on_another(drawn):
    faults = []
    for name, fig in drawn[0].items():
        FigureCanvasAgg(fig).draw()
        width, height = fig.bbox.size
        places = [(text.get_text(), inside(text, 2)) for text in words_of(fig)]
        for words, (x0, y0, x1, y1) in places:
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                faults.append((name, words, "is cut"))
        for (one, a), (two, b) in itertools.combinations(places, 2):
            if a[2] > b[0] and b[2] > a[0] and a[3] > b[1] and b[3] > a[1]:
                faults.append((name, one, two))
    assert not faults


def test_a_log_axis_has_ticks_of_one_kind(drawn):
    seen = set()
    for name, fig in drawn[0].items():
        fig.set_dpi(150)
        FigureCanvasAgg(fig).draw()
        for axis in [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]:
            if axis.get_scale() == "log":
                low, high = sorted(axis.get_view_interval())
                ticks = axis.get_major_ticks() + axis.get_minor_ticks()
                words = [t.label1.get_text() for t in ticks if low <= t.get_loc() <= high]
                kinds = {"10^" in word for word in words if word}
                assert len(kinds) <= 1, (name, words)
                seen |= kinds
    assert seen == {True, False}


def test_epochs_to_fit(drawn):
    ax, log = drawn[0]["random_labels_mnist"].axes[3], drawn[1]["random_labels_mnist"]
    x, y = ax.lines[0].get_data()
    assert list(x) == [0, 0.25, 0.5, 0.75, 1] and ax.get_ylim()[0] == 0
    for level, epochs in zip(x, y, strict=True):
        runs = [log[(log["label_corruption"] == level) & (log["seed"] == s)] for s in range(3)]
        first = [next(r["epoch"] for r in run if r["train_acc"] >= 0.99) for run in runs]
        assert epochs == pytest.approx(np.mean(first)) and not lost(ax)


def test_a_run_that_never_fits_is_lost_and_not_dropped(tmp_path, shown):
    rows = log(made_up.random_labels, "digits")
    for row in rows:
        if (row["label_corruption"], row["seed"]) == (1, 2):
            row["train_acc"] *= 0.98
    made_up.write(tmp_path, "random_labels", "digits", rows)
    fig = shown("digits")["random_labels_digits"]
    assert [len(lost(ax)) for ax in fig.axes] == [0, 0, 0, 1] and lost(fig.axes[3]) == [(1, 1)]
    assert "diverged or never" in [t.get_text() for t in fig.legends[0].get_texts()]


def test_both_training_sizes_and_the_width_that_fits(drawn):
    axes, log = drawn[0]["param_sweep_cifar10"].axes, drawn[1]["param_sweep_cifar10"]
    titles = [f"{size} training examples, true labels" for size in ("4,000", "50,000")]
    assert [ax.get_title("left") for ax in axes[::2]] == titles
    for i, (size, last) in enumerate(((4000, 28), (50000, 16))):
        end = log[(log["train_size"] == size) & (log["epoch"] == last)]
        sizes = np.unique(end["n_params"])
        accuracy = [end["train_acc"][end["n_params"] == n].mean() for n in sizes]
        fits = [n for n, a in zip(sizes, accuracy, strict=True) if a >= 0.999]
        for ax, column in zip(axes[2 * i : 2 * i + 2], ("test_loss", "test_acc"), strict=True):
            x, y = ax.lines[1].get_data()
            assert list(x) == list(sizes)
            means = [end[column][end["n_params"] == n].mean() for n in sizes]
            np.testing.assert_allclose(y, means)
            assert [line.get_xdata()[0] for line in ax.lines[2:]] == fits[:1]
        assert bool(fits) == (size == 4000)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_barriers_of_pairs_and_controls(drawn, dataset):
    """The bump of a made-up path is known: its height at 0.5 is the barrier in train loss."""
    fig, log = drawn[0][f"interpolation_{dataset}"], drawn[1][f"interpolation_{dataset}"]
    panels = fig.axes[2::3]
    words = [[text.get_text() for text in ax.get_yticklabels()] for ax in panels]
    expected = [["64 and 1024", "64 twice", "1024 twice"], ["0.001 and 0.01", "0.01 twice"]]
    assert words == expected[: len(panels)] and len(panels) == 1 + (dataset == "mnist")
    assert all(ax.get_xlim()[0] == 0 for ax in panels)
    rows = log[(log["setting_1"] == 64) & (log["setting_2"] == 64) & (log["alpha"] == 0.5)]
    heights = [
        rows["train_loss"][rows["alignment"] == a].mean() - 0.02
        for a in ("weight_matching", "none")
    ]
    train = dots(panels[0], "o")
    assert len(train) == 4 + 2 + 2  # the paths of the pair and of both controls
    assert [x for x, _ in train[4:6]] == pytest.approx(heights)
    assert [y for _, y in train] == pytest.approx(np.arange(8) - 0.2)


@pytest.mark.parametrize("age", ["", " aged"])
def test_the_curves_are_those_of_two_approaches(drawn, age):
    fig, log = drawn[0]["interpolation_mnist" + age], drawn[1]["interpolation_mnist" + age]
    two = log[(log["pair"] == "lr") & (log["setting_1"] == 0.001) & (log["alignment"] == "none")]
    curves = [line for line in fig.axes[3].lines if len(line.get_xdata()) > 2]
    assert len(curves) == 3 * 2  # shared, matched and different; train and test
    alpha, loss = curves[5].get_data()
    means = [two["test_loss"][two["alpha"] == a].mean() for a in alpha]
    np.testing.assert_allclose(loss, means)
    assert ends(fig)["learning rate"] == "(0.001 at 0, 0.01 at 1)"


def test_each_network_has_its_own_panels(drawn):
    axes, log = drawn[0]["sensitivity_cifar10"].axes, drawn[1]["sensitivity_cifar10"]
    words = [
        f"{m}, {s}" for m in ("mlp-3072-128-128-10", "cnn-16") for s in ("epochs", "train loss")
    ]
    titles = [ax.get_title("left") for ax in axes[::4]]
    assert titles == [word.replace(", ", ", equal ") for word in words]
    rows = log[(log["model"] == "cnn-16") & (log["stop"] == "train_loss")]
    sizes = np.unique(log["batch_size"])
    for ax, line, column in ((axes[12], 1, "test_loss"), (axes[13], 2, "test_confidence")):
        means = [rows[column][rows["batch_size"] == n].mean() for n in sizes]
        np.testing.assert_allclose(ax.lines[line].get_ydata(), means)
    assert axes[12].get_ylim() == axes[8].get_ylim()


def test_sharpness_at_every_radius(drawn):
    fig, log = drawn[0]["sharpness_mnist"], drawn[1]["sharpness_mnist"]
    titles = ["formula", "ball", "box", "adaptive", "test loss"]
    assert [ax.get_title("left") for ax in fig.axes[1:6]] == titles
    assert [ax.get_ylabel() for ax in fig.axes[::6]] == ["equal epochs", "equal train loss"]
    assert fig.axes[11].get_xlabel() == "nats"
    assert fig.axes[9].get_xlabel() == "no unit"
    for column, ax in (("sharpness_ball", fig.axes[8]), ("sharpness_adaptive", fig.axes[10])):
        for epsilon, marker in ((1e-4, "o"), (5e-4, "s"), (1e-3, "^")):
            rows = log[(log["stop"] == "train_loss") & (log["epsilon"] == epsilon)]
            names = dict.fromkeys(rows["approach"])
            means = [rows[column][rows["approach"] == name].mean() for name in names]
            assert [x for x, _ in dots(ax, marker)] == pytest.approx(means)
    assert [len(dots(ax, "o")) for ax in fig.axes[:6]] == [12] * 6
    old = drawn[0]["sharpness_mnist aged"]
    assert [ax.get_title("left") for ax in old.axes[1:5]] == [*titles[:3], titles[4]]


def test_no_curve_of_rescaling_is_drawn_twice(drawn):
    fig, log = drawn[0]["reparametrization_mnist"], drawn[1]["reparametrization_mnist"]
    words = [text.get_text() for text in fig.legends[0].get_texts()]
    assert "sharpness, formula" not in words and len(words) == len(set(words)) == 6
    sharpness, function = ([line.get_ydata() for line in ax.lines] for ax in fig.axes)
    box = log["sharpness_box"].reshape(13, 3)
    np.testing.assert_allclose(sharpness[1], (box / box[5]).mean(1))
    np.testing.assert_allclose(np.stack([sharpness[2], *function]), 1)
    assert len(drawn[0]["reparametrization_mnist aged"].axes[0].lines) == 1


def test_predictors_have_a_row_of_panels_for_each_network(drawn):
    axes = drawn[0]["predictors_cifar10"].axes
    titles = [f"models of sensitivity.py, {model}" for model in ("mlp-3072-128-128-10", "cnn-16")]
    assert [ax.get_title("left") for ax in axes[::3]] == titles
    targets = ["test loss", r"test $-$ train loss", r"train $-$ test accuracy"]
    assert [ax.get_xlabel() for ax in axes[3:]] == [rf"$\tau$ with {words}" for words in targets]
    assert [len(dots(ax, "o")) for ax in axes] == [3] * 6
