"""The look of every figure, and the drawing functions that the figures share.

Train is solid, test is dashed. Lines and points are means over seeds; bands and bars run from the
lowest seed to the highest, which stays correct on a log axis. Where a seed diverged (nan) there is
no mean: the line breaks, and a cross stands at the edge of the axes.

A figure is drawn from matplotlib's own defaults and figure.mplstyle alone (see `look`), so that a
user's matplotlibrc or MPLBACKEND changes nothing in it.
"""

import os
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # a notebook sets one that matplotlib may fail to import

from lab.tables import write

import matplotlib.style
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

BLUE, ORANGE, BLACK, GREY = "#0072B2", "#E69F00", "#000000", "#999999"  # Okabe and Ito
WIDTH = 6.5  # inches: the report's text width
SPLITS = {"train": {"ls": "-", "marker": "o"}, "test": {"ls": "--", "marker": "s", "mfc": "white"}}
STOPS = {"epochs": ("equal epochs", BLUE, "o"), "train_loss": ("equal train loss", ORANGE, "s")}
PATHS = {
    ("shared", "weight_matching"): ("shared init, matched", GREY),
    ("shared", "none"): ("shared init", BLACK),
    ("different", "weight_matching"): ("different init, matched", BLUE),
    ("different", "none"): ("different init", ORANGE),
}
HOLLOW = {"ls": "", "marker": "o", "mfc": "white"}
LABELS = {
    "loss": "cross-entropy (nats)",
    "acc": "accuracy",
    "n_params": "parameters",
    "lr": "learning rate",
    "alpha": r"$\alpha$",
    "gap": r"test loss $-$ train loss",
    "input_gradient_norm": "input gradient (nats / sd)",
    "jacobian_norm": "Jacobian (1 / sd)",
    "jacobian_norm_test": "Jacobian norm",
    "sharpness": "sharpness, formula",
    "sharpness_ball": "sharpness, ball",
    "sharpness_box": "sharpness, box",
    "hessian_norm": r"$\Vert H\,\Vert_2$",
}


def look():
    """A context with matplotlib's own defaults and figure.mplstyle, whatever the user has set."""
    return matplotlib.style.context(["default", Path(__file__).with_name("figure.mplstyle")])


def label(name):
    """Return the words for a column of the logs."""
    return LABELS.get(name, name.removesuffix("_test" * ("norm" in name)).replace("_", " "))


def subplots(rows, columns, height, **grid):
    """Return a figure of the report's width, height in inches, and its axes."""
    fig = Figure(figsize=(WIDTH, height))
    return fig, fig.subplots(rows, columns, **grid)


def curve(ax, x, y, color, **style):
    """Draw mean and range of y over the rows that share x; a cross where y is not finite."""
    xs, y = np.unique(x), np.where(np.isfinite(y), y, np.nan)
    mean, low, high = np.array([[f(y[x == v]) for v in xs] for f in (np.mean, np.min, np.max)])
    ax.plot(xs, mean, color=color, **style)
    ax.fill_between(xs, low, high, color=color, alpha=0.2, linewidth=0)
    lost = np.isnan(mean)
    if "marker" not in style:  # a dense curve: one cross where it breaks off is enough
        lost &= ~np.r_[False, lost[:-1]]
    for v in xs[lost]:
        cross(ax, v, 1, ax.get_xaxis_transform(), color)


def cross(ax, x, y, transform, color):
    """Mark a value that does not exist, at the edge of the axes."""
    ax.plot(x, y, "x", color=color, ms=5, transform=transform, clip_on=False, gid="lost")


def panels(axes, t, x, metrics, colors, marks=True, log=()):
    """Draw the train and test curves of each metric over column x, each metric in its own panel."""
    for ax, metric in zip(axes, metrics, strict=True):
        for (split, style), color in zip(SPLITS.items(), colors, strict=True):
            y = t[f"{metric}_{split}" if metric.endswith("norm") else f"{split}_{metric}"]
            curve(ax, t[x], y, color, **(style if marks else {"ls": style["ls"]}))
        ax.set(xlabel=label(x), ylabel=label(metric), yscale="log" if metric in log else "linear")


def dot_rows(ax, names, series, points):
    """Draw one row for each name, with a dot and a bar for each of two series.

    series: {key: (label, colour, marker)}; points: {(key, name): (values that the bar spans, place
    of the dot, whether the dot is hollow because its value is doubtful)}.
    """
    for shift, (key, (_, color, marker)) in zip((-0.17, 0.17), series.items(), strict=True):
        for y, name in enumerate(names):
            ends, mid, hollow = points[key, name]
            if np.isfinite(mid) and (mid > 0 or ax.get_xscale() == "linear"):
                ax.plot([min(ends), max(ends)], [y + shift] * 2, color=color)
                ax.plot(mid, y + shift, marker, color=color, mfc="white" if hollow else color, ms=4)
            else:
                cross(ax, 1, y + shift, ax.get_yaxis_transform(), color)
    ax.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    words = [name.partition("=") for name in names]  # "lr=0.01" is "learning rate 0.01"
    ax.set_yticklabels([f"{label(setting)} {value}".strip() for setting, _, value in words])


def legend(fig, keys=(), splits=(), series=()):
    """Put the legend above the panels, away from the data, and return the figure.

    keys: (name, colour, style) of each entry; splits: the colours of train and test, if they need
    entries; series: as dot_rows has them.
    """
    keys = [(name, color, {"marker": m}) for name, color, m in dict(series).values()] + [*keys]
    keys += [(s, c, style) for (s, style), c in zip(SPLITS.items(), splits, strict=False)]
    if any(line.get_gid() == "lost" for ax in fig.axes for line in ax.lines):
        keys.append(("diverged or undefined", BLACK, {"ls": "", "marker": "x"}))
    handles = [Line2D([], [], label=name, color=color, **style) for name, color, style in keys]
    fig.legend(handles=handles, loc="outside upper center", ncols=8)
    return fig


def save(fig, path, note=""):
    """Write PATH.png and PATH.pdf, and return both paths.

    note: what a reader must know about the data, written at the lower right.
    """
    if note:
        fig.set_figheight(fig.get_figheight() + 0.2)
        fig.supxlabel(note, x=0.995, ha="right", size=8.5, weight="bold")
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for target in paths:
        options = {"format": target.suffix[1:], "metadata": {"CreationDate": None}}  # same bytes
        write(target, lambda part, options=options: fig.savefig(part, **options))
        fig.set_layout_engine("none")  # the second file has the layout of the first
    return paths
