"""The look of every figure, and the few drawing functions that they share.

Train is solid, test dashed. Lines and points are means over seeds; bands and bars run from the
lowest seed to the highest, which is honest on a log axis too. Where a seed diverged (nan) there is
no mean: the line breaks and a cross stands at the edge of the axes.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, BLACK, GREY = "#0072B2", "#E69F00", "#000000", "#999999"  # Okabe and Ito
STYLE = {
    "backend": "Agg", "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 9,
    "axes.titlesize": 9, "axes.titlelocation": "left", "axes.grid": True, "grid.color": "0.92",
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.formatter.min_exponent": 4, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "lines.linewidth": 1.2, "lines.markersize": 3.5, "legend.frameon": False, "savefig.dpi": 150,
    "legend.fontsize": 8.5, "legend.handlelength": 1.8, "legend.columnspacing": 1.3,
    "figure.constrained_layout.use": True, "pdf.fonttype": 42,
}  # fmt: skip
WIDTH = 6.5  # inches: the report's text width
SPLITS = {"train": {"ls": "-", "marker": "o"}, "test": {"ls": "--", "marker": "s", "mfc": "white"}}
STOPS = {"epochs": ("equal epochs", BLUE, "o"), "train_loss": ("equal train loss", ORANGE, "s")}
PATHS = {("shared", "weight_matching"): ("shared init, matched", GREY),
         ("shared", "none"): ("shared init", BLACK),
         ("different", "weight_matching"): ("different init, matched", BLUE),
         ("different", "none"): ("different init", ORANGE)}  # fmt: skip
HOLLOW = {"ls": "", "marker": "o", "mfc": "white"}
LABELS = {"loss": "cross-entropy (nats)", "acc": "accuracy", "n_params": "parameters",
          "lr": "learning rate", "alpha": r"$\alpha$", "gap": r"test loss $-$ train loss",
          "input_gradient_norm": "input gradient (nats / sd)", "jacobian_norm": "Jacobian (1 / sd)",
          "jacobian_norm_test": "Jacobian norm", "sharpness": "sharpness, formula",
          "sharpness_ball": "sharpness, ball", "sharpness_box": "sharpness, box",
          "hessian_norm": r"$\Vert H\,\Vert_2$"}  # fmt: skip


def label(name):
    return LABELS.get(name, name.removesuffix("_test" * ("norm" in name)).replace("_", " "))


def curve(ax, x, y, color, **style):
    """Mean line and band of y over the rows that share x; a cross where some y is not finite."""
    xs, y = np.unique(x), np.where(np.isfinite(y), y, np.nan)
    mean, low, high = np.array([[f(y[x == v]) for v in xs] for f in (np.mean, np.min, np.max)])
    ax.plot(xs, mean, color=color, **style)
    ax.fill_between(xs, low, high, color=color, alpha=0.2, linewidth=0)
    lost = np.isnan(mean)
    if "marker" not in style:  # a dense curve: one cross where it breaks off, not one an epoch
        lost &= ~np.r_[False, lost[:-1]]
    for v in xs[lost]:
        cross(ax, v, 1, ax.get_xaxis_transform(), color)


def cross(ax, x, y, transform, color):
    """The mark of a value that does not exist, at the edge of the axes."""
    ax.plot(x, y, "x", color=color, ms=5, transform=transform, clip_on=False, gid="lost")


def panels(axes, t, x, metrics, colors, marks=True, log=()):
    """A panel a metric, each with its train and test curve over column x."""
    for ax, metric in zip(axes, metrics, strict=True):
        for (split, style), color in zip(SPLITS.items(), colors, strict=True):
            y = t[f"{metric}_{split}" if metric.endswith("norm") else f"{split}_{metric}"]
            curve(ax, t[x], y, color, **(style if marks else {"ls": style["ls"]}))
        ax.set(xlabel=label(x), ylabel=label(metric), yscale="log" if metric in log else "linear")


def dot_rows(ax, names, series, points):
    """A dot plot: a row a name, a dot a series, {key: (label, colour, marker)}.

    points: {(key, name): (values that the bar spans, dot, whether it is hollow: to be doubted)}."""
    for shift, (key, (_, color, marker)) in zip((-0.17, 0.17), series.items(), strict=True):
        for y, name in enumerate(names):
            ends, mid, hollow = points[key, name]
            if np.isfinite(mid) and (mid > 0 or ax.get_xscale() == "linear"):
                ax.plot([min(ends), max(ends)], [y + shift] * 2, color=color)
                ax.plot(mid, y + shift, marker, color=color, mfc="white" if hollow else color, ms=4)
            else:
                cross(ax, 1, y + shift, ax.get_yaxis_transform(), color)
    ax.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticklabels([label(name).replace("=", " ") for name in names])


def write(path, save):
    """Fill a file beside its place, then rename it into it."""
    part = path.with_name(path.name + ".part")
    save(part)
    os.replace(part, path)


def finish(fig, path, keys=(), splits=(), series=()):
    """Legend above the panels, off the data, then PNG and PDF; keys: (name, colour, style) of each.

    splits: the colours of train and test, if they want an entry; series: as dot_rows has them."""
    keys = [(name, color, {"marker": m}) for name, color, m in dict(series).values()] + [*keys]
    keys += [(s, c, style) for (s, style), c in zip(SPLITS.items(), splits, strict=False)]
    if any(line.get_gid() == "lost" for ax in fig.axes for line in ax.lines):
        keys.append(("diverged or undefined", BLACK, {"ls": "", "marker": "x"}))
    handles = [plt.Line2D([], [], label=name, color=color, **style) for name, color, style in keys]
    fig.legend(handles=handles, loc="outside upper center", ncols=8)
    for kind in ("png", "pdf"):
        options = {"format": kind, "metadata": {"CreationDate": None}}  # no date: the same bytes
        write(path.with_name(f"{path.name}.{kind}"), lambda part, o=options: fig.savefig(part, **o))
        fig.set_layout_engine("none")  # as laid out for the first
    plt.close(fig)
