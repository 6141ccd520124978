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
SKY, PURPLE, GREEN = "#56B4E9", "#CC79A7", "#009E73"
WIDTH = 6.5  # inches: the report's text width
SPLITS = {
    "train": {"ls": "-", "marker": "o"},
    "test": {"ls": "--", "marker": "s", "mfc": "white"},
}
DENSE = {  # without markers, train is wide and pale, so that test is seen on top of it
    "train": {"ls": "-", "lw": 2.2, "alpha": 0.45},
    "test": {"ls": (0, (4, 1.5)), "lw": 1.1},
}
RADII = ((SKY, "o"), (BLUE, "s"), (BLACK, "^"))  # of the ball or box, from small to large
STOPS = {"epochs": ("equal epochs", BLUE, "o"), "train_loss": ("equal train loss", ORANGE, "s")}
PATHS = {
    ("shared", "weight_matching"): ("shared init, matched", PURPLE),
    ("shared", "none"): ("shared init", BLACK),
    ("different", "weight_matching"): ("different init, matched", BLUE),
    ("different", "none"): ("different init", ORANGE),
}
LOST = "diverged or undefined"  # what a cross means
HOLLOW = {"ls": "", "marker": "o", "mfc": "white"}
LABELS = {
    "loss": "cross-entropy (nats)",
    "acc": "accuracy",
    "n_params": "parameters",
    "lr": "learning rate",
    "alpha": r"$\alpha$",
    "loss_gap": r"test $-$ train loss",
    "acc_gap": r"train $-$ test accuracy",
    "input_gradient_norm": "input gradient\n(nats / sd)",
    "jacobian_norm": "Jacobian (1 / sd)",
    "jacobian_norm_test": "Jacobian norm",
    "sharpness": "sharpness, formula",
    "sharpness_ball": "sharpness, ball",
    "sharpness_box": "sharpness, box",
    "sharpness_adaptive": "sharpness, adaptive",
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
            curve(ax, t[x], y, color, **(style if marks else DENSE[split]))
        ax.set(xlabel=label(x), ylabel=label(metric), yscale="log" if metric in log else "linear")


def legend(fig, keys=(), splits=(), series=(), lost=LOST, columns=8, dense=False):
    """Put the legend above the panels, away from the data, and return the figure.

    keys: (name, colour, style) of each entry; splits: the colours of train and test, if they need
    entries; series: as dot_rows has them; lost: what crosses mean; columns: as many entries a line;
    dense: whether curves are drawn without markers.
    """
    keys = [(name, color, {"marker": m}) for name, color, m in dict(series).values()] + [*keys]
    for (split, style), color in zip(SPLITS.items(), splits, strict=False):
        keys.append((split, color, style | (DENSE[split] if dense else {})))
    if any(line.get_gid() == "lost" for ax in fig.axes for line in ax.lines):
        keys.append((lost, BLACK, {"ls": "", "marker": "x"}))
    handles = [Line2D([], [], label=name, color=color, **style) for name, color, style in keys]
    fig.legend(handles=handles, loc="outside upper center", ncols=columns)
    return fig


class LogTicks(matplotlib.ticker.LogFormatterMathtext):
    """Powers of ten; plain numbers on an axis that spans less than two decades."""

    def __call__(self, x, pos=None):
        words = super().__call__(x, pos)
        low, high = sorted(self.axis.get_view_interval())
        return f"{x:g}" if words and high < 100 * low else words


def save(fig, path, note=""):
    """Write PATH.png and PATH.pdf, and return both paths.

    note: what a reader must know about the data, written at the lower right.
    """
    for axis in [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]:
        if axis.get_scale() == "log" and min(axis.get_view_interval()) <= 0:
            axis.axes.set(**{f"{axis.axis_name}lim": (0.1, 1)})  # there is no finite value to show
        if isinstance(axis.get_major_formatter(), matplotlib.ticker.LogFormatter):
            axis.set_major_formatter(LogTicks())
        if isinstance(axis.get_minor_formatter(), matplotlib.ticker.LogFormatter):
            axis.set_minor_formatter(LogTicks())
    if note:
        fig.set_figheight(fig.get_figheight() + 0.2)
        fig.supxlabel(note, x=0.995, ha="right", size=8.5, weight="bold")
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for target in paths:
        options = {"format": target.suffix[1:], "metadata": {"CreationDate": None}}  # same bytes
        write(target, lambda part, options=options: fig.savefig(part, **options))
        fig.set_layout_engine("none")  # the second file has the layout of the first
    return paths
