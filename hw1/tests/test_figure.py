"""What a figure shows: words and empty cells of a log, ticks, crosses, and notes on the run."""

import itertools
import json
import math
import warnings

from lab import figure

import made_up
import numpy as np
import pytest

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
        plot_all.draw(tmp_path, dataset)
        return saved

    return draw


def texts(fig):
    return [text.get_text().strip() for ax in fig.axes for text in ax.texts]


def log(maker, dataset, keep=lambda row: True):
    rows = maker(dataset, np.random.default_rng(0))
    return [row for row in rows if keep(row)]


def test_a_pair_may_be_words_numbers_or_both(tmp_path, shown):
    rows = log(made_up.interpolation, "mnist")
    for row in rows:
        if row["pair"] == "lr":
            row |= {"pair": "optimizer", "setting_1": "sgd", "setting_2": "adam"}
    made_up.write(tmp_path, "interpolation", "mnist", rows)
    ends = ["batch size 64", "1024", "optimizer sgd", "adam"]
    assert set(texts(shown("mnist")["interpolation_mnist"])) == set(ends)
    only = [row for row in rows if row["pair"] == "optimizer"]
    made_up.write(tmp_path, "interpolation", "mnist", only)
    assert set(texts(shown("mnist")["interpolation_mnist"])) == set(ends[2:])


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


def test_every_axis_of_a_small_run_has_two_labelled_ticks(tmp_path, shown):
    for name, keep in FEW.items():
        rows = log(getattr(made_up, name), "digits", keep)
        made_up.write(tmp_path, name, "digits", rows)
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
    assert len(lost(axes[2])) == 4 and len(lost(axes[5])) == 0


def lost(ax):
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_gid() == "lost"]


def test_a_diverged_seed_breaks_the_line_and_is_marked():
    ax = figure.Figure().subplots()
    y = np.array([1.0, 2.0, 3.0, 4.0, np.inf, 6.0])
    figure.curve(ax, np.array([1, 1, 2, 2, 3, 3]), y, "k", marker="o")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.5, 3.5, np.nan])
    assert lost(ax) == [(3, 1)]
    points = {(stop, "a"): ([1, np.nan], np.nan, False) for stop in figure.STOPS}
    figure.dot_rows(ax, ["a"], figure.STOPS, points)
    assert lost(ax)[1:] == [(1, -0.17), (1, 0.17)]


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
    lines = (tmp_path / "figures" / "predictors_digits.csv").read_text().splitlines()[1:]
    models = {(line.split(",")[1], int(line.split(",")[-1])) for line in lines}
    assert models == {("epochs", 36), ("train_loss", 35)}
