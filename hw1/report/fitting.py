"""The numbers of sections 1 and 2 of the report: random labels, and the number of parameters.

A function for each section: the table of a log in, ({name: text}, {name: rows of a table}, {name:
state}) out. A state says which of several wordings the text uses.
"""

import math

from lab.stats import FITTED, LEARNT, last_epoch

import numpy as np

import curves
from words import compared, interval, schedule, settings, spread, text

SPECS = {"train_loss": ".1e", "train_acc": ".2%", "test_loss": ".2f", "test_acc": ".1%"}


def random_labels(t):
    """Numbers of section 1: five degrees of label corruption."""
    end, runs = last_epoch(t), curves.runs_with_labels({("random_labels", "mnist"): t})
    levels = np.unique(end["label_corruption"])
    d = settings(end) | {"levels": len(levels), "ln10": text(math.log(10))}
    d["fitted"] = text(LEARNT, ".0%")
    d["least_p"] = f"1/{math.factorial(len(levels)) // 2}"  # of a trend, two-sided
    d["outside"] = text(2 * 0.5 ** d["seeds"], ".0%")  # all seeds on one side of the median
    for level in levels:
        rows = end[end["label_corruption"] == level]
        mine = [run for (own, _), run in runs.items() if own == level]
        d |= {f"{level:g}.{m}": spread(rows[m], spec) for m, spec in SPECS.items()}
        d |= {f"{level:g}.{name}": value for name, value in course(mine).items()}
    for level in (0, 1):
        d[f"{level}.test_acc.t"] = interval(
            end["test_acc"][end["label_corruption"] == level], ".1%"
        )
    true = [run for key, run in runs.items() if key[0] == 0]
    fitted = np.nanmean([curves.epochs_to_fit_or_later(run) for run in true])
    then = [run[run["epoch"] <= fitted][-1] for key, run in runs.items() if key[0] == 1]
    d["early_acc"] = spread([row["train_acc"] for row in then], ".1%")
    wrong = end["test_loss"][end["label_corruption"] == 1] - math.log(10)
    states = {"schedule": schedule("random_labels"), "confident": compared(wrong, 0)}
    return d, {}, states


def course(runs):
    """Return how the runs of one level begin, when they fit, and when they test best."""
    last = max(run["epoch"][-1] for run in runs)
    epochs = np.array([curves.epochs_to_fit_or_later(run) for run in runs])
    best = [np.argmax(run["test_acc"]) for run in runs]
    return {
        "start_test_loss": text(np.mean([run["test_loss"][0] for run in runs])),
        "fit_epoch": f"> {last:g}" if (epochs > last).any() else spread(epochs, ".1f"),
        "best_test_acc": spread([max(run["test_acc"]) for run in runs], ".1%"),
        "best_epoch": spread([run["epoch"][i] for run, i in zip(runs, best, strict=True)], ".1f"),
    }


def param_sweep(t, train_size):
    """Numbers of section 2: one structure at a dozen widths, trained on so many images."""
    end = last_epoch(t[t["train_size"] == train_size])
    sizes = np.unique(end["n_params"])
    of = [end[end["n_params"] == n] for n in sizes]
    mean = {m: np.array([rows[m].mean() for rows in of]) for m in SPECS}
    points = {"lowest": np.argmin(mean["test_loss"]), "best": np.argmax(mean["test_acc"])}
    points["last"] = len(sizes) - 1
    for name, curve in {"loss": mean["test_loss"], "error": 1 - mean["test_acc"]}.items():
        points[f"{name}.valley"], points[f"{name}.peak"], _ = curves.valley_and_peak(curve)
    fits = np.flatnonzero(mean["train_acc"] >= FITTED)
    points["fits"] = fits[0] if len(fits) else len(sizes) - 1
    d = settings(end) | {"structures": len(sizes), "fitted": text(FITTED, ".1%")}
    d["outputs"] = text(10 * train_size, ",")  # examples times outputs: Belkin et al. 2019
    for name, i in points.items():
        d[f"{name}.params"] = text(sizes[i], ",")
        d[f"{name}.test_loss"] = spread(of[i]["test_loss"])
        d |= {f"{name}.{m}": spread(of[i][m], ".1%") for m in ("train_acc", "test_acc")}
    lost = of[points["best"]]["test_acc"] - of[-1]["test_acc"]
    d["lost"] = interval(100 * lost, ".1f")
    return d, {}, {"fits": "yes" if len(fits) else "no", "schedule": schedule("param_sweep")}
