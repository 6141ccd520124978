"""Two figures that compare: measures as predictors, over two logs, and speed beside other code."""

from lab.dots import dot_rows
from lab.figure import (
    BLACK,
    BLUE,
    GREY,
    HOLLOW,
    ORANGE,
    STOPS,
    WIDTH,
    Figure,
    curve,
    label,
    legend,
    subplots,
)
from lab.stats import TARGETS, correlations, one_epsilon

import numpy as np


def predictors(logs, about):
    """Kendall's tau of each measure with test loss and both gaps (Jiang et al. 2020)."""
    table, blocks = correlations(logs), {}
    for r in table:
        blocks.setdefault((r["log"], r["model"]), {})[r["measure"]] = None
    sizes = [len(measures) + 1 for measures in blocks.values()]
    grid = {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": sizes}
    fig, axes = subplots(len(blocks), len(TARGETS), height=0.7 + 0.22 * sum(sizes), **grid)
    for row, ((log, model), measures) in zip(axes, blocks.items(), strict=True):
        t = one_epsilon(logs[log])
        models = {stop: sum((t["stop"] == stop) & (t["model"] == model)) for stop in STOPS}
        row[0].set_title(f"models of {log}.py, {model}")
        for ax, target in zip(row, TARGETS, strict=True):
            points = {
                (r["stop"], r["measure"]): (
                    (r["low"], r["high"]),
                    r["tau"],
                    r["models"] < models[r["stop"]],
                )
                for r in table
                if (r["log"], r["model"], r["target"]) == (log, model, target)
            }
            dot_rows(ax, measures, STOPS, points)
            ax.axvline(0, color=GREY, lw=0.7, zorder=0.5)
            ax.set(xlim=(-1.05, 1.05), xticks=(-1, 0, 1), xlabel=rf"$\tau$ with {label(target)}")
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    lost = any(not np.isfinite(t["test_loss"]).all() for t in logs.values())
    keys = [("diverged models left out", BLACK, HOLLOW)] * lost
    if any(np.isfinite(row["low"]) for row in table):
        keys.append(("95% interval", BLACK, {}))
    return legend(fig, keys, series=STOPS), {"predictors": table}


def benchmark(logs, about):
    """Speed beside other code, with the targets; seconds and memory of an epoch as it grows."""
    t = logs["benchmark"]
    rows = [row for row in about["benchmark"]["summary"] if "/" in row["kind"]]
    names = [n for n in ("width", "examples", "jobs") if f"scaling_{n}" in t["comparison"]]
    fig = Figure(figsize=(WIDTH, 3.2))
    grid = fig.add_gridspec(2, 1 + len(names), width_ratios=(1.6, *[1] * len(names)))
    ax = fig.add_subplot(grid[:, 0], xscale="log", xlabel="speed, theirs = 1")
    for y, row in enumerate(rows):
        goal = row["target"] if row["sense"] == "at least" else 1 / row["target"]
        ax.plot(row["theirs"] / row["ours"], y, "o", color=BLUE)
        ax.plot(goal, y, "|", color=BLACK, ms=9)
    ax.axvline(1, color=GREY, lw=0.7, zorder=0.5)
    ax.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticklabels([label(row["comparison"]) for row in rows])
    for i, name in enumerate(names, 1):
        mine = t[t["comparison"] == f"scaling_{name}"]
        x = mine["setting"].astype(float)
        for row, (column, unit) in enumerate((("seconds", "s / epoch"), ("peak_mb", "peak, MB"))):
            ax = fig.add_subplot(grid[row, i], xlabel=name if row else "", ylabel=unit)
            y = mine[column].astype(float)
            curve(ax, x, y, (BLUE, ORANGE)[row], marker="o")
            ax.set_ylim(0, 1.1 * np.nanmax(y, initial=0) or 1)
            ax.set_xticks([x.min(), x.max()])
            ax.xaxis.set_major_formatter("{x:,.0f}")
    keys = [
        ("measured", BLUE, {"ls": "", "marker": "o"}),
        ("target", BLACK, {"ls": "", "marker": "|"}),
    ]
    return legend(fig, keys), {}
