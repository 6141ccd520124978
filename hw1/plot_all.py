"""Draw every figure of the report, and two tables, from DIR/logs/*.csv alone.

    python hw1/plot_all.py [--out DIR] [--dataset NAME] [--only SCRIPT ...]

writes DIR/figures/*.png and *.pdf, and for each data set barriers_NAME.csv (Frankle et al. 2020,
arXiv 1912.05671) and predictors_NAME.csv (Jiang et al. 2020, 1912.02178). It draws what there are
logs for. The same logs give the same bytes. About ten seconds for each data set.
"""

import argparse
import itertools
import sys
from pathlib import Path

from lab import say
from lab.figure import (
    BLACK,
    BLUE,
    GREY,
    HOLLOW,
    ORANGE,
    PATHS,
    SPLITS,
    STOPS,
    WIDTH,
    Figure,
    curve,
    dot_rows,
    label,
    legend,
    look,
    matplotlib,
    panels,
    save,
    subplots,
)
from lab.stats import MEASURES, SHARPNESS, barriers, correlations, last_epoch
from lab.tables import LOGS, datasets, described, folder, read, remarks, stem, write_table

import numpy as np

# Each function takes {log: table} and {log: .json}; it returns a figure and {name: rows} of tables.


def random_labels(logs, about):
    """Loss and accuracy by epoch, final accuracy by corruption (Zhang et al. 2017, fig. 1)."""
    t, keys = logs["random_labels"], []
    levels = np.unique(t["label_corruption"])
    fig, axes = subplots(1, 3, height=2.3)
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    for level, color in zip(levels, colors, strict=True):
        rows = t[t["label_corruption"] == level]
        panels(axes[:2], rows, "epoch", ["loss", "acc"], [color] * 2, marks=False, log=["loss"])
        keys.append((f"{level:.0%}" + " shuffled" * (not keys), color, {}))
    panels(axes[2:], last_epoch(t), "label_corruption", ["acc"], [BLACK] * 2)
    axes[2].set_ylabel("accuracy at the last epoch")
    return legend(fig, keys, [BLACK] * 2), {}


def param_sweep(logs, about):
    """Loss and accuracy at the last epoch by number of parameters (Belkin et al. 2019, fig. 3)."""
    t, keys = last_epoch(logs["param_sweep"]), {}
    titles = np.array([regime(row) for row in t])
    order = np.lexsort((t["train_size"], t["label_corruption"]))
    regimes = list(dict.fromkeys(titles[order]))
    n = len(regimes)
    fig, axes = subplots(n, 2, height=0.3 + 2 * n, squeeze=False)
    for row, title in zip(axes, regimes, strict=True):
        rows = t[titles == title]
        panels(row, rows, "n_params", ["loss", "acc"], (BLUE, ORANGE))
        row[0].set_title(title)
        sizes, accuracy = rows["n_params"], rows["train_acc"]
        fits = [n for n in sizes if accuracy[sizes == n].mean() >= 0.999]
        for ax in row:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:,.0f}")
            if rows["label_corruption"][0] > 0 and fits:
                ax.axvline(min(fits), color=GREY, lw=0.9, zorder=0.5)
                keys["fits"] = (r"interpolation threshold, train accuracy $\geq$ 0.999", GREY, {})
    return legend(fig, keys.values(), (BLUE, ORANGE)), {}


def regime(row):
    """Return how many examples and labels a run was trained on; an empty train_size means all."""
    size, shuffled = str(row["train_size"]), row["label_corruption"]
    known = size not in ("nan", "None", "") and float(size) > 0
    examples = f"{float(size):,.0f} training examples" if known else "all training examples"
    return examples + (f", {shuffled:.0%} of labels shuffled" if shuffled else ", true labels")


def interpolation(logs, about):
    """Loss and accuracy between two models, and barriers (Goodfellow et al. 2015, fig. 1)."""
    logs = {name.partition("_")[2] or "different": t for name, t in logs.items()}
    t, table = next(iter(logs.values())), barriers(logs)
    shown = {path: words for path, words in PATHS.items() if path[0] in logs}
    names, pairs = [name for name, _ in shown.values()], np.unique(t["pair"])
    marks = {split: (split, BLACK, style["marker"]) for split, style in SPLITS.items()}
    fig, axes = subplots(len(pairs), 3, height=0.3 + 2 * len(pairs), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        points = {}
        for (start, alignment), (name, color) in shown.items():
            rows = logs[start][logs[start]["pair"] == pair]
            rows = rows[(rows["alignment"] == alignment) & (rows["setting_1"] != rows["setting_2"])]
            panels(row[:2], rows, "alpha", ["loss", "acc"], [color] * 2, marks=False, log=["loss"])
            path = {"pair": pair, "initialisation": start, "alignment": alignment}
            found = [r for r in table if path.items() <= r.items()]
            found = [r for r in found if r["setting_1"] != r["setting_2"]]
            for split in SPLITS:
                b = [r[f"{split}_barrier"] for r in found]
                points[split, name] = b, np.mean(b) if b else np.nan, split == "test"
        dot_rows(row[2], names, marks, points)
        row[2].axvline(0, color=GREY, lw=0.7, zorder=0.5)
        row[2].set_xlabel("loss barrier (nats)")
        ends = t[t["pair"] == pair][0]
        for ax, (alpha, side) in itertools.product(row[:2], enumerate(("right", "left"))):
            setting = ends[f"setting_{alpha + 1}"]  # a number, or a word such as "adam"
            words = setting if isinstance(setting, str) else f"{setting:g}"
            ax.axvline(alpha, color=GREY, lw=0.7, zorder=0.5)
            words = f"{label(pair) * (alpha == 0)} {words} "
            ax.text(alpha, 1.04, words, transform=ax.get_xaxis_transform(), ha=side, size=8)
    keys = [(name, color, {}) for name, color in shown.values()]
    return legend(fig, keys, [BLACK] * 2), {"barriers": table}


def sensitivity(logs, about):
    """Loss, accuracy and input norms by batch size, both stops (Novak et al. 2018; the course)."""
    t, metrics = logs["sensitivity"], ["loss", "acc", "input_gradient_norm", "jacobian_norm"]
    fig, axes = subplots(2, 4, height=3.6, sharex=True, sharey="col")
    sizes = np.unique(t["batch_size"])
    for row, (stop, (title, *_)) in zip(axes, STOPS.items(), strict=True):
        rows, log = t[t["stop"] == stop], [m for m in metrics if m != "acc"]
        panels(row, rows, "batch_size", metrics, (BLUE, ORANGE), log=log)
        row[0].set_title(title)
        row[0].set_xscale("log", base=2)
        if len(sizes) > 1:  # two or three labelled ticks
            row[0].set_xticks(sizes[:: -(-len(sizes) // 3)])
        row[0].xaxis.set_major_formatter("{x:g}")
    return legend(fig, [], (BLUE, ORANGE)), {}


def sharpness(logs, about):
    """Sharpness and test loss by approach, at both stops (Keskar et al. 2017; the course)."""
    t = logs["sharpness"]
    names, loose = list(dict.fromkeys(t["approach"])), t["residual"] > 1e-3
    fig, axes = subplots(1, 5, height=0.8 + 0.19 * len(names), sharey=True)
    for ax, column in zip(axes, [*SHARPNESS, "test_loss"], strict=True):
        points = {}
        for stop, name in itertools.product(STOPS, names):
            mine = (t["approach"] == name) & (t["stop"] == stop)
            doubt = column in SHARPNESS[:2] and any(loose[mine])
            values = t[column][mine]
            points[stop, name] = values, values.mean() if any(mine) else np.nan, doubt
        ax.set(xscale="log", title=label(column))
        dot_rows(ax, names, STOPS, points)
        if np.isfinite(ax.dataLim.minposx):  # whole decades: two labelled ticks at least
            low, high = np.floor(np.log10(ax.dataLim.minposx)), np.ceil(np.log10(ax.dataLim.x1))
            ax.set_xlim(10**low, 10 ** max(high, low + 1))
        ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    key = ("eigenvalue not converged", BLACK, HOLLOW)
    return legend(fig, [key] * any(loose), series=STOPS), {}


def reparametrization(logs, about):
    """One function, rescaled: what moves and what does not (Dinh et al. 2017)."""
    t, keys = logs["reparametrization"], []
    fig, ax = subplots(1, 1, height=2.4)
    shapes = {
        "hessian_norm": (ORANGE, "o", 7),
        "sharpness": (BLACK, ".", 4),
        "train_loss": (BLUE, "s", 9),
        "input_gradient_norm_test": (GREY, "D", 5.5),
        "jacobian_norm_test": (BLACK, "+", 5),
    }
    if set(t["seed"]) > set(t["seed"][t["scale"] == 1]):
        raise ValueError("a seed lacks scale 1")
    for column, (color, marker, size) in shapes.items():
        base = {r["seed"]: r[column] for r in t if r["scale"] == 1}
        style = {"marker": marker, "ms": size, "mfc": "none"}
        curve(ax, t["scale"], [r[column] / base[r["seed"]] for r in t], color, **style)
        keys.append((label(column), color, style))
    ax.set(xscale="log", yscale="log", ylabel="value relative to scale 1")
    ax.set_xlabel(r"scale $\alpha$ of the first layer, $1/\alpha$ of the next")
    return legend(fig, keys), {}


def predictors(logs, about):
    """Kendall's tau of each measure with the test loss and with the gap (Jiang et al. 2020)."""
    table, sizes = correlations(logs), [len(MEASURES[log]) + 1 for log in logs]
    grid = {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": sizes}
    fig, axes = subplots(len(logs), 2, height=0.6 + 0.22 * sum(sizes), **grid)
    for row, log in zip(axes, logs, strict=True):
        models = {stop: sum(logs[log]["stop"] == stop) for stop in STOPS}
        for ax, target in zip(row, ("test_loss", "gap"), strict=True):
            points = {
                (r["stop"], r["measure"]): (
                    (r["low"], r["high"]),
                    r["tau"],
                    r["models"] < models[r["stop"]],
                )
                for r in table
                if (r["log"], r["target"]) == (log, target)
            }
            dot_rows(ax, MEASURES[log], STOPS, points)
            ax.axvline(0, color=GREY, lw=0.7, zorder=0.5)
            ax.set(xlim=(-1.05, 1.05), title=f"{log}: {label(target)}")
    interval = any(np.isfinite(row["low"]) for row in table)
    for ax in axes[-1]:
        ax.set_xlabel(
            r"Kendall's $\tau$" + (" and 95% interval" if interval else " (few settings)")
        )
    lost = any(not np.isfinite(t["test_loss"]).all() for t in logs.values())
    key = ("diverged models left out", BLACK, HOLLOW)
    return legend(fig, [key] * lost, series=STOPS), {"predictors": table}


def benchmark(logs, about):
    """Speed beside other code, with the targets; seconds and memory of an epoch as it grows."""
    t = logs["benchmark"]
    rows = [row for row in about["benchmark"]["summary"] if "/" in row["kind"]]
    fig = Figure(figsize=(WIDTH, 3.2))
    grid = fig.add_gridspec(2, 4, width_ratios=(1.6, 1, 1, 1))
    ax = fig.add_subplot(grid[:, 0], xscale="log", xlabel="speed, theirs = 1")
    for y, row in enumerate(rows):
        goal = row["target"] if row["sense"] == "at least" else 1 / row["target"]
        ax.plot(row["theirs"] / row["ours"], y, "o", color=BLUE)
        ax.plot(goal, y, "|", color=BLACK, ms=9)
    ax.axvline(1, color=GREY, lw=0.7, zorder=0.5)
    ax.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticklabels([label(row["comparison"]) for row in rows])
    for i, name in enumerate(("width", "examples", "jobs"), 1):
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


FIGURES = {
    random_labels: ["random_labels"],
    param_sweep: ["param_sweep"],
    interpolation: ["interpolation", "interpolation_shared"],
    sensitivity: ["sensitivity"],
    sharpness: ["sharpness"],
    reparametrization: ["reparametrization"],
    predictors: ["sensitivity", "sharpness"],
    benchmark: ["benchmark"],
}


def draw(out, dataset, scripts=None):
    """Draw the figures of a data set from OUT/logs into OUT/figures; return the paths written.

    scripts: the names of the scripts whose figures are wanted (default: all that have a log).
    Raises ValueError, a sentence that names the log, where a log cannot be drawn.
    """
    logs, figures, written = Path(out) / "logs", Path(out) / "figures", []
    for figure, needs in FIGURES.items():
        paths = {log: logs / f"{stem(log, dataset)}.csv" for log in needs}
        paths = {log: path for log, path in paths.items() if path.exists()}
        if not paths or (scripts and not {LOGS[log] for log in paths} & set(scripts)):
            continue
        try:
            about = {log: described(path) for log, path in paths.items()}
            with look(), np.errstate(invalid="ignore", divide="ignore"):  # nan is drawn as lost
                fig, tables = figure({log: read(path) for log, path in paths.items()}, about)
                figures.mkdir(exist_ok=True)
                path = figures / stem(figure.__name__, dataset)
                written += save(fig, path, remarks(dataset, about.values()))
        except (ValueError, LookupError, TypeError) as error:
            files, reason = " and ".join(map(str, paths.values())), " ".join(str(error).split())
            raise ValueError(f"{files} cannot be drawn: {reason}") from error
        for name, rows in tables.items():
            written.append(write_table(figures / f"{stem(name, dataset)}.csv", rows))
    return written


def main():
    """Draw what there is and name it; exit code 2 and one sentence where nothing can be drawn."""
    scripts = sorted(set(LOGS.values()))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--out", type=folder, default=Path(__file__).parent, metavar="DIR", help="(default: hw1)")
    add("--dataset", metavar="NAME", help="(default: every data set that has a log)")
    add("--only", nargs="+", metavar="SCRIPT", choices=scripts, help="(default: all scripts)")
    args = parser.parse_args()
    try:
        names = [args.dataset] if args.dataset else datasets(args.out / "logs")
        written = [path for name in names for path in draw(args.out, name, args.only)]
    except (ValueError, OSError) as error:
        parser.exit(2, f"plot_all: error: {error}.\n")
    if not written:
        flags = f" --dataset {args.dataset}" if args.dataset else ""
        flags += f" --out {args.out}" if args.out != parser.get_default("out") else ""
        script = args.only and args.only[0].replace("benchmark", "bench/benchmark")
        command = f"python hw1/{script}.py" if script else "bash hw1/run_all.sh"
        nothing = f"there is no log to draw in {args.out / 'logs'}: `{command}{flags}` makes it"
        parser.exit(2, f"plot_all: error: {nothing}.\n")
    for path in written:
        if path.suffix != ".pdf":
            say(f"plot_all: wrote {path}" + " and .pdf" * (path.suffix == ".png"))


if __name__ == "__main__":
    main()
    sys.exit(say.lost)
