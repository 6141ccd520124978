"""Dots and bars in rows: values of approaches, of paths between models, of rank correlations."""

import itertools

from lab.figure import BLACK, GREY, PATHS, SPLITS, cross, label, matplotlib

import numpy as np


def dot_rows(ax, names, series, points, colors=None):
    """Draw one row for each name, with a dot and a bar for each series.

    series: {key: (label, colour, marker)}; points: {(key, name): (values that the bar spans, place
    of the dot, whether the dot is hollow because its value is doubtful)}. colors: {name: colour}
    of rows that have their own.
    """
    shifts = 0.2 * np.linspace(-1, 1, len(series)) if len(series) > 1 else [0]
    for shift, (key, (_, shade, marker)) in zip(shifts, series.items(), strict=True):
        for y, name in enumerate(names):
            (ends, mid, hollow), color = points[key, name], (colors or {}).get(name, shade)
            if np.isfinite(mid) and (mid > 0 or ax.get_xscale() == "linear"):
                ax.plot([min(ends), max(ends)], [y + shift] * 2, color=color)
                face = {"mfc": "white" if hollow else color, "clip_on": False}
                ax.plot(mid, y + shift, marker, color=color, **face)
            else:
                cross(ax, 1, y + shift, ax.get_yaxis_transform(), color)
    ax.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    words = [str(name).partition("=") for name in names]  # "lr=0.01" is "learning rate 0.01"
    ax.set_yticklabels([f"{label(setting)} {value}".strip() for setting, _, value in words])


def decades(*axes):
    """End a shared log axis at decades, or at 1, 2 or 5 of them where it spans less than one."""
    lowest = min(ax.dataLim.minposx for ax in axes)
    highest = max(ax.dataLim.x1 for ax in axes)
    if np.isfinite(lowest):
        narrow, exponents = highest < 10 * lowest, np.floor(np.log10([lowest, highest]))
        powers = 10.0 ** np.arange(exponents[0] - 1, exponents[1] + 2)
        ends = np.outer(powers, (1, 2, 5) if narrow else (1,)).ravel()
        low = max(end for end in ends if end <= lowest)
        high = min(end for end in ends if end >= highest and end > low)
        axes[0].set_xlim(low, high)
        if narrow:
            axes[0].set_xticks([low, high], [f"{low:g}", f"{high:g}"])
    for ax in axes:
        ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def barrier_rows(ax, table, ends):
    """Draw a row for each kind of path of each two settings. table: rows of stats.barriers."""
    points, colors, groups = {}, {}, {}
    for (one, two), (path, (_, color)) in itertools.product(ends, PATHS.items()):
        name = {"setting_1": one, "setting_2": two}
        name |= dict(zip(("initialisation", "alignment"), path, strict=True))
        found = [row for row in table if name.items() <= row.items()]
        if found:
            row = (one, two, *path)
            groups.setdefault(f"{one} twice" if one == two else f"{one} and {two}", []).append(row)
            colors[row] = color
            for split in SPLITS:
                high = [r[f"{split}_barrier"] for r in found]
                points[split, row] = high, np.mean(high), split == "test"
    series = {split: (split, BLACK, style["marker"]) for split, style in SPLITS.items()}
    dot_rows(ax, list(colors), series, points, colors)
    edges = np.cumsum([0, *map(len, groups.values())]) - 0.5
    ax.set_yticks((edges[:-1] + edges[1:]) / 2, groups)
    for edge in edges[1:-1]:
        ax.axhline(edge, color=GREY, lw=0.7)
    ax.grid(False, axis="y")
    ax.set_xlim(0)
    ax.set_xlabel("loss barrier (nats)")
