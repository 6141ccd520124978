"""CSV in, figures out: every figure of the report and two tables, from DIR/logs/*.csv alone.

    python hw1/plot_all.py [--out DIR] [--dataset NAME]

writes DIR/figures/*.png and *.pdf, and for each data set barriers_NAME.csv (Frankle et al. 2020,
arXiv 1912.05671) and predictors_NAME.csv (Jiang et al. 2020, 1912.02178). The same CSV gives the
same bytes. Ten seconds a data set.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from lab.figure import (
    BLACK,
    BLUE,
    GREY,
    HOLLOW,
    ORANGE,
    PATHS,
    SPLITS,
    STOPS,
    STYLE,
    WIDTH,
    curve,
    dot_rows,
    finish,
    label,
    panels,
    write,
)

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

SHARPNESS = ["hessian_norm", "sharpness", "sharpness_ball", "sharpness_box"]
CURVATURE = ["parameter_gradient_norm", *SHARPNESS]
MEASURES = ["train_loss", "input_gradient_norm_test", "jacobian_norm_test"]  # of both logs
DATASETS = ("mnist", "cifar10", "digits")
LOGS = dict.fromkeys(("random_labels", "param_sweep", "interpolation", "sensitivity", "sharpness"))
LOGS |= {"interpolation_shared": "interpolation", "reparametrization": "sharpness"}  # made by


def read(path):
    """A tidy CSV as a structured array: a field a column, an element a row."""
    lines = path.read_text().splitlines()
    if len(lines) < 2:
        raise ValueError("it has no rows")
    return np.genfromtxt(lines, delimiter=",", names=True, dtype=None, encoding=None, ndmin=1)


def last_epoch(t):
    """The last row of every run: the end of training, never its best epoch."""
    names = [c for c in ("train_size", "label_corruption", "width", "seed") if c in t.dtype.names]
    last = {tuple(t[names][i]): i for i in np.argsort(t["epoch"], kind="stable")}
    return t[sorted(last.values())]


def write_table(path, rows):
    """Rows of dicts as CSV."""
    lines = [",".join(map(str, row)) for row in [rows[0], *(row.values() for row in rows)]]
    write(path, lambda part: part.write_text("\n".join(lines) + "\n"))


def random_labels(logs, out, dataset):
    """Zhang et al. 2017, fig. 1: loss and accuracy by epoch; final accuracy by label corruption."""
    t, keys = logs["random_labels"], []
    levels = np.unique(t["label_corruption"])
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.3))
    for level, color in zip(levels, plt.cm.viridis(np.linspace(0, 0.85, len(levels))), strict=True):
        rows = t[t["label_corruption"] == level]
        panels(axes[:2], rows, "epoch", ["loss", "acc"], [color] * 2, marks=False, log=["loss"])
        keys.append((f"{level:.0%}" + " shuffled" * (not keys), color, {}))
    panels(axes[2:], last_epoch(t), "label_corruption", ["acc"], [BLACK] * 2)
    axes[2].set_ylabel("accuracy at the last epoch")
    finish(fig, out / f"random_labels_{dataset}", keys, [BLACK] * 2)


def param_sweep(logs, out, dataset):
    """Belkin et al. 2019, fig. 3: loss and accuracy at the last epoch by number of parameters."""
    t, keys = last_epoch(logs["param_sweep"]), {}
    regimes = np.unique(t[["label_corruption", "train_size"]])
    n = len(regimes)
    fig, axes = plt.subplots(n, 2, figsize=(WIDTH, 0.3 + 2 * n), squeeze=False)
    for row, regime in zip(axes, regimes, strict=True):
        rows = t[t[["label_corruption", "train_size"]] == regime]
        panels(row, rows, "n_params", ["loss", "acc"], (BLUE, ORANGE))
        row[0].set_title("{1:,} examples, {0:.0%} of labels shuffled".format(*regime))
        sizes, accuracy = rows["n_params"], rows["train_acc"]
        fits = [n for n in sizes if accuracy[sizes == n].mean() >= 0.999]
        for ax in row:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:,.0f}")
            if regime["label_corruption"] > 0 and fits:
                ax.axvline(min(fits), color=GREY, lw=0.9, zorder=0.5)
                keys["fits"] = (r"interpolation threshold, train accuracy $\geq$ 0.999", GREY, {})
    finish(fig, out / f"param_sweep_{dataset}", keys.values(), (BLUE, ORANGE))


def barrier(alpha, loss):
    """max over 0 <= alpha <= 1 of L(alpha) - ((1 - alpha) L(0) + alpha L(1)); Frankle 2020."""
    inside = [i for i in np.argsort(alpha) if -1e-6 < alpha[i] < 1 + 1e-6]
    if not np.allclose(alpha[inside[:1] + inside[-1:]], (0, 1), atol=1e-6):
        raise ValueError("a path lacks alpha = 0 or alpha = 1, so its barrier is unknown")
    alpha, loss = alpha[inside], loss[inside]
    return np.max(loss - (1 - alpha) * loss[0] - alpha * loss[-1])


def interpolation(logs, out, dataset):
    """Goodfellow et al. 2015, fig. 1: loss and accuracy between two models; barriers."""
    logs = {name.partition("_")[2] or "different": t for name, t in logs.items()}
    t, table = next(iter(logs.values())), []
    shown = {path: about for path, about in PATHS.items() if path[0] in logs}
    names, pairs = [name for name, _ in shown.values()], np.unique(t["pair"])
    marks = {split: (split, BLACK, style["marker"]) for split, style in SPLITS.items()}
    fig, axes = plt.subplots(len(pairs), 3, figsize=(WIDTH, 0.3 + 2 * len(pairs)), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        points = {}
        for (start, alignment), (name, color) in shown.items():
            rows = logs[start][logs[start]["pair"] == pair]
            rows = rows[rows["alignment"] == alignment]
            panels(row[:2], rows, "alpha", ["loss", "acc"], [color] * 2, marks=False, log=["loss"])
            seeds = np.unique(rows["seed"])
            runs = [rows[rows["seed"] == seed] for seed in seeds]
            about = {"pair": pair, "initialisation": start, "alignment": alignment}
            found = [about | {"seed": seed} for seed in seeds]
            for split in SPLITS:
                b = [barrier(run["alpha"], run[f"{split}_loss"]) for run in runs]
                points[split, name] = b, np.mean(b), split == "test"
                found = [f | {f"{split}_barrier": v} for f, v in zip(found, b, strict=True)]
            table += found
        dot_rows(row[2], names, marks, points)
        row[2].set_xlabel("loss barrier (nats)")
        ends = t[t["pair"] == pair][0]
        for ax, (alpha, side) in itertools.product(row[:2], enumerate(("right", "left"))):
            name = f"{label(pair) * (alpha == 0)} {ends[f'setting_{alpha + 1}']:g} "
            ax.axvline(alpha, color=GREY, lw=0.7, zorder=0.5)
            ax.text(alpha, 1.04, name, transform=ax.get_xaxis_transform(), ha=side, size=8)
    write_table(out / f"barriers_{dataset}.csv", table)
    keys = [(name, color, {}) for name, color in shown.values()]
    finish(fig, out / f"interpolation_{dataset}", keys, [BLACK] * 2)


def sensitivity(logs, out, dataset):
    """Novak et al. 2018 and the course: loss, accuracy, input norms by batch size, both stops."""
    t, metrics = logs["sensitivity"], ["loss", "acc", "input_gradient_norm", "jacobian_norm"]
    fig, axes = plt.subplots(2, 4, figsize=(WIDTH, 3.4), sharex=True, sharey="col")
    for row, (stop, (title, *_)) in zip(axes, STOPS.items(), strict=True):
        rows, log = t[t["stop"] == stop], [m for m in metrics if m != "acc"]
        panels(row, rows, "batch_size", metrics, (BLUE, ORANGE), log=log)
        row[0].set_title(title)
        row[0].set_xscale("log", base=2)
        row[0].set_xticks(np.unique(t["batch_size"])[::3])
        row[0].xaxis.set_major_formatter("{x:g}")
    finish(fig, out / f"sensitivity_{dataset}", [], (BLUE, ORANGE))


def sharpness(logs, out, dataset):
    """Keskar et al. 2017 and the course: sharpness and test loss by approach, both stops."""
    t = logs["sharpness"]
    names, loose = list(dict.fromkeys(t["approach"])), t["residual"] > 1e-3
    fig, axes = plt.subplots(1, 5, figsize=(WIDTH, 0.8 + 0.19 * len(names)), sharey=True)
    for ax, column in zip(axes, [*SHARPNESS, "test_loss"], strict=True):
        points = {}
        for stop, name in itertools.product(STOPS, names):
            mine = (t["approach"] == name) & (t["stop"] == stop)
            doubt = column in SHARPNESS[:2] and any(loose[mine])
            points[stop, name] = t[column][mine], t[column][mine].mean(), doubt
        ax.set(xscale="log", title=label(column))
        dot_rows(ax, names, STOPS, points)
        if np.isfinite(ax.dataLim.minposx):  # whole decades: two labelled ticks at least
            low, high = np.log10([ax.dataLim.minposx, ax.dataLim.x1])
            ax.set_xlim(10 ** np.floor(low), 10 ** np.ceil(high))
        ax.xaxis.set_minor_formatter(NullFormatter())
    key = ("eigenvalue not converged", BLACK, HOLLOW)
    finish(fig, out / f"sharpness_{dataset}", [key] * any(loose), series=STOPS)


def reparametrization(logs, out, dataset):
    """Dinh et al. 2017: one function, rescaled; sharpness moves, loss and input norms do not."""
    t, keys = logs["reparametrization"], []
    fig, ax = plt.subplots(figsize=(WIDTH, 2.4))
    shapes = {"hessian_norm": (ORANGE, "o", 7), "sharpness": (BLACK, ".", 4),
              "train_loss": (BLUE, "s", 9), "input_gradient_norm_test": (GREY, "D", 5.5),
              "jacobian_norm_test": (BLACK, "+", 5)}  # fmt: skip
    if set(t["seed"]) > set(t["seed"][t["scale"] == 1]):
        raise ValueError("a seed lacks scale 1")
    for column, (color, marker, size) in shapes.items():
        base = {r["seed"]: r[column] for r in t if r["scale"] == 1}
        style = {"marker": marker, "ms": size, "mfc": "none"}
        curve(ax, t["scale"], [r[column] / base[r["seed"]] for r in t], color, **style)
        keys.append((label(column), color, style))
    ax.set(xscale="log", yscale="log", ylabel="value relative to scale 1")
    ax.set_xlabel(r"scale $\alpha$ of the first layer, $1/\alpha$ of the next")
    finish(fig, out / f"reparametrization_{dataset}", keys)


def tau_interval(x, y, cluster, draws=2000):
    """Kendall's tau-b and its 95% bootstrap interval, (tau, low, high).

    Settings are drawn whole, as their seeds are not independent; a copy never meets its twin."""
    index = np.unique(cluster, return_inverse=True)[1]
    n, other = max(len(set(cluster)), 1), index[:, None] != index
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), draws)
    w = np.r_[np.ones((1, len(x))), counts[:, index]]  # (1 + draws, N): how often a row is drawn
    sx, sy = np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y))
    pairs = [np.sum(w @ (s * other) * w + w @ (s * ~other), 1) for s in (sx * sy, sx**2, sy**2)]
    tau = pairs[0] / np.sqrt(np.where(pairs[1] * pairs[2] > 0, pairs[1] * pairs[2], np.nan))
    drawn = tau[1:][np.isfinite(tau[1:])]
    return tau[0], *(np.quantile(drawn, (0.025, 0.975)) if drawn.size else (np.nan, np.nan))


def predictors(logs, out, dataset):
    """Jiang et al. 2020: Kendall's tau of every measure with the test loss and with the gap."""
    table, key = [], ("diverged models left out", BLACK, HOLLOW)
    names = {n: MEASURES + CURVATURE * (n == "sharpness") for n in logs}
    sizes = [len(measures) + 1 for measures in names.values()]
    grid = {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": sizes}
    fig, axes = plt.subplots(len(logs), 2, figsize=(WIDTH, 0.6 + 0.22 * sum(sizes)), **grid)
    for (log, t), (i, target) in itertools.product(logs.items(), enumerate(("test_loss", "gap"))):
        ax, points = axes[list(logs).index(log), i], {}
        goal = t["test_loss"] - (t["train_loss"] if target == "gap" else 0)
        cluster = t["approach" if log == "sharpness" else "batch_size"]
        for stop, measure in itertools.product(STOPS, names[log]):
            ok = (t["stop"] == stop) & np.isfinite(t[measure] + goal)
            tau, low, high = tau_interval(t[measure][ok], goal[ok], cluster[ok])
            points[stop, measure] = (low, high), tau, ok.sum() < sum(t["stop"] == stop)
            about = {"log": log, "stop": stop, "measure": measure, "target": target}
            table.append(about | {"tau": tau, "low": low, "high": high, "models": ok.sum()})
        dot_rows(ax, names[log], STOPS, points)
        ax.axvline(0, color=GREY, lw=0.7, zorder=0.5)
        ax.set(xlim=(-1.05, 1.05), title=f"{log}: {label(target)}")
        axes[-1, i].set_xlabel(r"Kendall's $\tau$ and 95% interval")
    write_table(out / f"predictors_{dataset}.csv", table)
    lost = any(not np.isfinite(t["test_loss"]).all() for t in logs.values())
    finish(fig, out / f"predictors_{dataset}", [key] * lost, series=STOPS)


def benchmark(logs, out):
    """Speed beside other code, with the targets; seconds and memory of an epoch as it grows."""
    t = read(logs / "benchmark.csv")
    summary = json.loads((logs / "benchmark.json").read_text())["summary"]
    rows = [row for row in summary if "/" in row["kind"]]
    fig = plt.figure(figsize=(WIDTH, 3.2))
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
    finish(fig, out / "benchmark", keys)


FIGURES = {random_labels: ["random_labels"], param_sweep: ["param_sweep"],
           interpolation: ["interpolation", "interpolation_shared"], sensitivity: ["sensitivity"],
           sharpness: ["sharpness"], reparametrization: ["reparametrization"],
           predictors: ["sensitivity", "sharpness"]}  # fmt: skip


def main():
    """Read what there is, name what is missing, draw; exit code 2 where nothing can be drawn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--dataset", choices=DATASETS, help="default: every one that has a CSV")
    args = parser.parse_args()
    logs, figures = args.out / "logs", args.out / "figures"
    names = [args.dataset] if args.dataset else DATASETS
    flags = f" --dataset {args.dataset}" if args.dataset else ""
    flags += f" --out {args.out}" if args.out != parser.get_default("out") else ""
    missing = [log for log in LOGS if not any((logs / f"{log}_{d}.csv").exists() for d in names)]
    speed = (logs / "benchmark.csv").exists()
    if len(missing) == len(LOGS) and not speed:
        parser.exit(2, f"No CSV to draw in {logs}: `bash hw1/run_all.sh{flags}` makes them all.\n")
    for log in missing:
        path, script = logs / f"{log}_{args.dataset or '*'}.csv", LOGS[log] or log
        print(f"{path} is missing: `python hw1/{script}.py{flags}` makes it.", file=sys.stderr)
    figures.mkdir(exist_ok=True)
    plt.rcParams.update(STYLE)
    for dataset, (draw, needs) in itertools.product(names, FIGURES.items()):
        paths = {log: path for log in needs if (path := logs / f"{log}_{dataset}.csv").exists()}
        try:
            if paths:
                draw({log: read(path) for log, path in paths.items()}, figures, dataset)
        except ValueError as error:
            files, error = " and ".join(map(str, paths.values())), " ".join(str(error).split())
            parser.exit(2, f"{files} cannot be drawn: {error}.\n")
    try:
        if speed:
            benchmark(logs, figures)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{logs}/benchmark.csv and .json cannot be drawn: {error}.\n")


if __name__ == "__main__":
    main()
