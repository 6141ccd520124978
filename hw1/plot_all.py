"""Draw every figure, and two tables, from the logs alone: DIR/logs/*.csv and the .json beside each.

    python hw1/plot_all.py [--out DIR] [--dataset NAME] [--only SCRIPT ...]

writes DIR/figures/*.png and *.pdf, and for each data set barriers_NAME.csv (Frankle et al. 2020,
arXiv 1912.05671) and predictors_NAME.csv (Jiang et al. 2020, 1912.02178). It draws what there are
logs for. The same logs give the same bytes. About ten seconds for each data set.
"""

import argparse
import itertools
import shlex
import subprocess
import sys
from pathlib import Path

from lab import say, stats
from lab.comparisons import benchmark, predictors
from lab.dots import barrier_rows, decades, dot_rows
from lab.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PATHS,
    PURPLE,
    RADII,
    STOPS,
    curve,
    label,
    legend,
    look,
    matplotlib,
    panels,
    save,
    subplots,
)
from lab.tables import LOGS, datasets, described, folder, read, reason, remarks, stem, write_table

import numpy as np

# Each function takes {log: table} and {log: .json}; it returns a figure and {name: rows} of tables.


def random_labels(logs, about):
    """Loss and accuracy by epoch; by corruption, final accuracy and epochs to fit (Zhang 2017)."""
    t, keys = logs["random_labels"], []
    levels = np.unique(t["label_corruption"])
    fig, axes = subplots(1, 4, height=2.2, width_ratios=(1.2, 1.2, 1, 1))
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    for level, color in zip(levels, colors, strict=True):
        rows = t[t["label_corruption"] == level]
        panels(axes[:2], rows, "epoch", ["loss", "acc"], [color] * 2, marks=False, log=["loss"])
        keys.append((f"{level:.0%}" + " shuffled" * (not keys), color, {}))
    panels(axes[2:3], stats.last_epoch(t), "label_corruption", ["acc"], [BLACK] * 2)
    axes[2].set_ylabel("accuracy, last epoch")
    curve(axes[3], *stats.epochs_to_fit(t), BLACK, marker="o")
    axes[3].set(xlabel=label("label_corruption"), ylabel=f"epochs to fit {stats.LEARNT:.0%}")
    axes[3].set_ylim(0)
    for ax in axes[2:]:
        ax.set_xticks([0, 0.5, 1])
    return legend(fig, keys, [BLACK] * 2, lost="diverged or never", dense=True), {}


def param_sweep(logs, about):
    """Loss and accuracy at the last epoch by number of parameters (Belkin et al. 2019, fig. 3)."""
    t, keys = stats.last_epoch(logs["param_sweep"]), {}
    titles = np.array([regime(row) for row in t])
    order = np.lexsort((t["train_size"], t["label_corruption"]))
    regimes = list(dict.fromkeys(titles[order]))
    n = len(regimes)
    fig, axes = subplots(n, 2, height=0.3 + 2 * n, squeeze=False, sharex=True)
    for row, title in zip(axes, regimes, strict=True):
        rows = t[titles == title]
        panels(row, rows, "n_params", ["loss", "acc"], (BLUE, ORANGE))
        row[0].set_title(title)
        sizes, accuracy = rows["n_params"], rows["train_acc"]
        fits = [n for n in sizes if accuracy[sizes == n].mean() >= stats.FITTED]
        for ax in row:
            ax.set_xscale("log")
            if fits:
                ax.axvline(min(fits), color=GREY, lw=0.9, zorder=0.5)
                words = rf"interpolation threshold, train accuracy $\geq$ {stats.FITTED}"
                keys["fits"] = (words, GREY, {})
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    return legend(fig, keys.values(), (BLUE, ORANGE)), {}


def regime(row):
    """Return how many examples and labels a run was trained on; an empty train_size means all."""
    size, shuffled = str(row["train_size"]), row["label_corruption"]
    known = size not in ("nan", "None", "") and float(size) > 0
    examples = f"{float(size):,.0f} training examples" if known else "all training examples"
    return examples + (f", {shuffled:.0%} of labels shuffled" if shuffled else ", true labels")


def interpolation(logs, about):
    """Loss and accuracy between two models, and barriers (Goodfellow et al. 2015, fig. 1).

    The curves are for models of two approaches. In the panel of barriers the controls, two models
    of one approach, follow below. Matched models from one initialisation have barriers but no
    curves: where matching changes nothing, their curves would hide those of the unmatched models.
    """
    logs = {name.partition("_")[2] or "different": t for name, t in logs.items()}
    table, keys, metrics = stats.barriers(logs), {}, ["loss", "acc"]
    pairs = sorted({row["pair"] for row in table})
    fig, axes = subplots(len(pairs), 3, height=0.3 + 2 * len(pairs), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        found = [r for r in table if r["pair"] == pair]
        ends = dict.fromkeys((r["setting_1"], r["setting_2"]) for r in found)
        ends = sorted(ends, key=lambda both: both[0] == both[1])  # the controls come last
        for (start, alignment), (name, color) in PATHS.items():
            path = {"initialisation": start, "alignment": alignment}
            if any(path.items() <= r.items() for r in found):
                keys[name] = name, color, {}
                if (start, alignment) != ("shared", "weight_matching"):
                    rows = stats.along(logs[start], pair, ends[0], alignment)
                    panels(row[:2], rows, "alpha", metrics, [color] * 2, marks=False, log=["loss"])
        barrier_rows(row[2], found, ends)
        one, two = ends[0]
        for ax in row:
            ax.set_title(label(pair), size=8)
        for ax in row[:2]:
            ax.set_xlabel(f"{label('alpha')}  ({one} at 0, {two} at 1)")
            for alpha in (0, 1):
                ax.axvline(alpha, color=GREY, lw=0.7, zorder=0.5)
    return legend(fig, keys.values(), [BLACK] * 2, dense=True), {"barriers": table}


def sensitivity(logs, about):
    """Loss, accuracy and input norms by batch size, both stops (Novak et al. 2018; the course)."""
    t, metrics = logs["sensitivity"], ["loss", "acc", "input_gradient_norm", "jacobian_norm"]
    blocks = list(itertools.product(dict.fromkeys(t["model"]), STOPS.items()))
    sizes, keys = np.unique(t["batch_size"]), []
    fig, axes = subplots(len(blocks), 4, height=0.6 + 1.4 * len(blocks), sharex=True)
    for i, (row, (model, (stop, (title, *_)))) in enumerate(zip(axes, blocks, strict=True)):
        for j in range(4 * (i % len(STOPS) > 0)):  # both stops of a network share their axes
            row[j].sharey(axes[i - 1, j])
        rows = t[(t["model"] == model) & (t["stop"] == stop)]
        log = [m for m in metrics if m != "acc"]
        panels(row, rows, "batch_size", metrics, (BLUE, ORANGE), log=log)
        if "test_confidence" in t.dtype.names:
            style = {"ls": ":", "marker": "^"}
            curve(row[1], rows["batch_size"], rows["test_confidence"], GREY, **style)
            keys = [("confidence on test images", GREY, style)]
        row[0].set_title(f"{model}, {title}" if len(blocks) > len(STOPS) else title)
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    axes[0, 0].set_xscale("log", base=2)
    if len(sizes) > 1:  # two or three labelled ticks
        axes[0, 0].set_xticks(sizes[:: -(-len(sizes) // 3)])
    axes[0, 0].xaxis.set_major_formatter("{x:g}")
    return legend(fig, keys, (BLUE, ORANGE)), {}


def sharpness(logs, about):
    """Sharpness at each radius and test loss, by approach (Keskar et al. 2017; the course)."""
    t = logs["sharpness"]
    names, radii = list(dict.fromkeys(t["approach"])), np.unique(t["epsilon"])
    units = {"hessian_norm": "nats", "test_loss": "nats"}
    columns = [c for c in (*stats.SHARPNESS, stats.ADAPTIVE, "test_loss") if c in t.dtype.names]
    height = 0.9 + len(STOPS) * (0.2 + 0.155 * max(len(names), 7))  # 7: room for the stop
    fig, axes = subplots(len(STOPS), len(columns), height, sharex="col", sharey=True)
    shades = itertools.cycle(RADII)
    series = {e: (rf"$\epsilon$ = {e:g}", *next(shades)) for e in radii}
    for row, (stop, (title, *_)) in zip(axes, STOPS.items(), strict=True):
        for ax, column in zip(row, columns, strict=True):
            each = column not in ("hessian_norm", "test_loss")
            mine = series if each else {radii[0]: ("", BLACK, "o")}
            points = {}
            for radius, name in itertools.product(mine, names):
                rows = (t["approach"] == name) & (t["stop"] == stop) & (t["epsilon"] == radius)
                values = t[column][rows]
                points[radius, name] = values, values.mean() if any(rows) else np.nan, False
            ax.set(xscale="log")
            dot_rows(ax, names, mine, points)
        row[0].set_ylabel(title)
    for top, ax, column in zip(axes[0], axes[-1], columns, strict=True):
        top.set_title(label(column).removeprefix("sharpness, "))
        decades(top, ax)
        ax.set_xlabel(units.get(column, "no unit"))
    return legend(fig, [], series=series), {}


def reparametrization(logs, about):
    """One function, rescaled: what moves and what does not (Dinh et al. 2017)."""
    t, keys = logs["reparametrization"], []
    fig, axes = subplots(1, 2, height=2.1, sharey=True)
    axes[0].set(title="sharpness", yscale="log", ylabel="value relative to scale 1")
    axes[1].set(title="loss and sensitivity to the input")
    shapes = {  # the panel, colour, marker and its size
        "hessian_norm": (0, ORANGE, "o", 5),
        "train_loss": (1, BLUE, "s", 9),
        "sharpness_box": (0, PURPLE, "s", 4),
        "input_gradient_norm_test": (1, GREY, "D", 5.5),
        "sharpness_adaptive": (0, GREEN, "^", 4.5),
        "jacobian_norm_test": (1, BLACK, "+", 5),
    }
    if set(t["seed"]) > set(t["seed"][t["scale"] == 1]):
        raise ValueError("a seed lacks scale 1")
    for column in [c for c in shapes if c in t.dtype.names]:
        place, color, marker, size = shapes[column]
        base = {r["seed"]: r[column] for r in t if r["scale"] == 1}
        style = {"marker": marker, "ms": size, "mfc": "none"}
        curve(axes[place], t["scale"], [r[column] / base[r["seed"]] for r in t], color, **style)
        keys.append((label(column), color, style))
    for ax in axes:
        ax.set(xscale="log", xlabel=r"scale $\alpha$ of the first layer, $1/\alpha$ of the next")
    return legend(fig, keys, columns=3), {}


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


def drawable(out, dataset, scripts=None):
    """Yield each figure that there are logs for, and {log: path}; scripts: see `draw`."""
    for figure, needs in FIGURES.items():
        paths = {log: Path(out) / "logs" / f"{stem(log, dataset)}.csv" for log in needs}
        paths = {log: path for log, path in paths.items() if path.exists()}
        if paths and (not scripts or {LOGS[log] for log in paths} & set(scripts)):
            yield figure, paths


def draw(out, dataset, scripts=None):
    """Draw the figures of a data set from OUT/logs into OUT/figures.

    Return the paths written, and a sentence for each damaged log. scripts: the names of the scripts
    whose figures are wanted (default: all that have a log).
    """
    figures, written, bad, opened = Path(out) / "figures", [], [], {}
    wanted = list(drawable(out, dataset, scripts))
    for path in dict.fromkeys(path for _, paths in wanted for path in paths.values()):
        try:
            opened[path] = read(path), described(path)
        except (ValueError, LookupError, TypeError) as error:
            bad.append(f"{path} cannot be drawn: {reason(error)}")
    for figure, paths in wanted:
        if not opened.keys() >= {*paths.values()}:
            continue
        try:
            about = {log: opened[path][1] for log, path in paths.items()}
            with look(), np.errstate(invalid="ignore", divide="ignore"):  # nan is drawn as lost
                fig, tables = figure({log: opened[path][0] for log, path in paths.items()}, about)
                figures.mkdir(exist_ok=True)
                path = figures / stem(figure.__name__, dataset)
                written += save(fig, path, remarks(dataset, about.values()))
        except (ValueError, LookupError, TypeError) as error:
            files = " and ".join(map(str, paths.values()))
            bad.append(f"{files} cannot be drawn: {reason(error)}")
            continue
        for name, rows in tables.items():
            written.append(write_table(figures / f"{stem(name, dataset)}.csv", rows))
    return written, bad


def main():
    """Draw what there is and name it; return the exit code, 2 where something cannot be drawn."""
    scripts = sorted(set(LOGS.values()))
    title = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=title, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=folder, default=Path(__file__).parent, metavar="DIR", help="(default: hw1)")
    add("--dataset", metavar="NAME", help="(default: every data set that has a log)")
    add("--only", nargs="+", metavar="SCRIPT", choices=scripts, help="(default: all scripts)")
    args = parser.parse_args()
    if args.dataset == "":
        parser.error("argument --dataset: the name is empty")
    beside, written, bad = [], [], []
    try:
        if args.only == ["benchmark"] and not any(drawable(args.out, args.dataset, args.only)):
            args.dataset = None  # it belongs to no data set
        names = [args.dataset] if args.dataset else datasets(args.out / "logs")
        names = [name for name in names if any(drawable(args.out, name, args.only))]
        words = [sys.executable, __file__, "--out", args.out, "--only", *(args.only or scripts)]
        for name in names[1:]:  # each data set in a process of its own
            beside.append(subprocess.Popen([*words, "--dataset", name]))
        for name in names[:1]:
            written, bad = draw(args.out, name, args.only)
    except (ValueError, OSError) as error:
        parser.exit(2, f"plot_all: error: {error}.\n")
    finally:
        codes = [process.wait() for process in beside]
    if not written and not bad:
        flags = f" --dataset {args.dataset}" if args.dataset else ""
        flags += (
            f" --out {shlex.quote(str(args.out))}" if args.out != parser.get_default("out") else ""
        )
        script = args.only and args.only[0].replace("benchmark", "bench/benchmark")
        command = f"python hw1/{script}.py" if script else "bash hw1/run_all.sh"
        nothing = f"there is no log to draw in {args.out / 'logs'}: `{command}{flags}` makes it"
        there = [name for name in datasets(args.out / "logs") if name]
        if there and args.dataset not in [None, *there]:
            nothing += f" (there are logs of {', '.join(there)})"
        parser.exit(2, f"plot_all: error: {nothing}.\n")
    for path in written:
        if path.suffix != ".pdf":
            say(f"plot_all: wrote {path}" + " and .pdf" * (path.suffix == ".png"))
    if bad:
        parser.exit(2, f"plot_all: error: {'; '.join(bad)}.\n")
    return max([*map(abs, codes), say.lost])  # below 0: a process was killed


if __name__ == "__main__":
    sys.exit(main())
