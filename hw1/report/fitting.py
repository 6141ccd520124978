"""The numbers of sections 1 and 2 of the report, and the claims that depend on them.

A function for each section: the table of a log in, ({name: text}, {name: rows of a table}) out. A
claim stands beside the numbers that it is made of, and is checked on every seed where it says so.
"""

import math

from lab.stats import last_epoch

import numpy as np

from words import claim, settings, spread, text

FITTED = 0.99, 0.999  # train accuracy that counts as fitted: random labels, parameters (plot_all)
METRICS = ("train_loss", "train_acc", "test_loss", "test_acc")


def random_labels(t):
    """Numbers of section 1: five degrees of label corruption."""
    end, corrupted = last_epoch(t), t["label_corruption"]
    levels = np.unique(corrupted)
    d = settings(end) | {"levels": len(levels), "ln10": text(math.log(10))}
    d["fitted"] = text(FITTED[0], ".0%")
    between = t[(corrupted > 0) & (corrupted < 1)]
    d["between"] = len(np.unique(between["seed"]))
    for level in levels:
        rows = end[end["label_corruption"] == level]
        specs = {"train_loss": ".1e", "train_acc": ".2%", "test_loss": ".2f", "test_acc": ".1%"}
        d |= {f"{level:g}.{m}": spread(rows[m], spec) for m, spec in specs.items()}
        d |= {f"{level:g}.{k}": v for k, v in course(t[corrupted == level]).items()}
    then = (t["epoch"] == d["0.fit_epoch"]) & (corrupted == 1)
    d["early_acc"] = spread(t["train_acc"][then], ".1%") if any(then) else ""
    claims_on_labels(t, end, d)
    return d, {}


def course(t):
    """Return the first test loss of one level, its best test accuracy, and when it has fitted."""
    epochs = np.unique(t["epoch"])
    mean = {m: np.array([t[m][t["epoch"] == e].mean() for e in epochs]) for m in METRICS}
    fitted = epochs[mean["train_acc"] >= FITTED[0]]
    return {
        "start_test_loss": text(mean["test_loss"][0]),
        "best_test_acc": text(max(mean["test_acc"]), ".1%"),
        "best_epoch": epochs[np.argmax(mean["test_acc"])],
        "fit_epoch": fitted[0] if len(fitted) else "never",
    }


def claims_on_labels(t, end, d):
    """Check what section 1 says."""
    level = {v: end[end["label_corruption"] == v] for v in np.unique(end["label_corruption"])}
    claim(min(level[1]["train_acc"]) >= 0.999, "every seed fits shuffled labels to 99.9%")
    off_chance = max(abs(level[1]["test_acc"] - 0.1))
    claim(off_chance < 0.02, "shuffled labels leave test accuracy at chance")
    far = min(level[1]["test_loss"]) > 2 * math.log(10)
    claim(far, "shuffled labels raise the test loss far above that of guessing")
    claim(min(level[0]["test_acc"]) > 0.97, "true labels generalise with the same recipe")
    slow = d["1.fit_epoch"] > 5 * d["0.fit_epoch"]
    claim(slow, "shuffled labels take over five times as long")
    falls = np.diff([np.mean(rows["test_acc"]) for rows in level.values()])
    claim(np.all(falls < 0), "test accuracy falls with every further share of labels")
    best = max(t["test_acc"][t["label_corruption"] == 0.5])
    turns = best > np.mean(level[0.5]["test_acc"]) + 0.1
    claim(turns, "with half of the labels shuffled test accuracy first rises and then falls")


def param_sweep(t, dataset):
    """Numbers of section 2: one structure at a dozen widths."""
    end = last_epoch(t)
    sizes = np.unique(end["n_params"])
    of = [end[end["n_params"] == n] for n in sizes]
    mean = {m: np.array([rows[m].mean() for rows in of]) for m in METRICS}
    low, high = int(np.argmin(mean["test_loss"])), len(sizes) - 1
    points = {"first": 0, "last": high, "lowest": low, "best_acc": int(np.argmax(mean["test_acc"]))}
    d = settings(end) | {"structures": len(sizes), "ratio": text(sizes[-1] / sizes[0], ",.0f")}
    d["fitted"] = text(FITTED[1], ".1%")
    if dataset == "mnist":
        fits = np.flatnonzero(mean["train_acc"] >= FITTED[1])
        claim(len(fits) > 0 and fits[0] > 0, "some width fits every noisy training label")
        valley = int(np.argmin(mean["test_loss"][: fits[0]]))
        peak = valley + int(np.argmax(mean["test_loss"][valley:]))
        points |= {"fits": fits[0], "peak": peak, "valley": valley}
    for name, i in points.items():
        d |= {f"{name}.params": text(sizes[i], ","), f"{name}.width": of[i]["width"][0]}
        for m in ("train_loss", "test_loss"):
            d[f"{name}.{m}"] = spread(of[i][m], ".1e" if min(of[i][m]) < 0.01 else ".2f")
        d |= {f"{name}.{m}": spread(of[i][m], ".1%") for m in ("train_acc", "test_acc")}
    at = {name: of[i] for name, i in points.items()}
    if dataset == "cifar10":
        claims_on_size(at, mean, 0 < low < high)
    else:
        threshold = 10 * int(t["train_size"][0])  # examples times outputs: Belkin et al. 2019
        d["outputs"] = text(threshold, ",")
        claims_on_descent(at, sizes[peak], sizes[fits[0]], threshold)
    rows = [[f"{n['width'][0]:.0f}", text(n["n_params"][0], ","), *line(n)] for n in of]
    return d, {"table": rows}


def line(rows):
    """Return the cells of one width: train and test loss, train and test accuracy."""
    loss = [rows[m].mean() for m in ("train_loss", "test_loss")]
    accuracy = [rows[m].mean() for m in ("train_acc", "test_acc")]
    shown = [text(v, ".1e" if v < 0.01 else ".3f") for v in loss]
    return shown + [text(v, ".1%") for v in accuracy]


def claims_on_size(at, mean, inside):
    """Check what section 2 says of the CNNs on CIFAR-10."""
    rises = min(at["last"]["test_loss"]) > max(at["lowest"]["test_loss"])
    between = "the CNNs' test loss is lowest in between and higher at the largest, for all seeds"
    claim(inside and rises, between)
    claim(mean["train_loss"][-1] == min(mean["train_loss"]), "the largest CNN fits best")
    gains = min(at["last"]["test_acc"]) > max(at["lowest"]["test_acc"])
    claim(gains, "the largest CNN's test accuracy is above that of the lowest loss, for all seeds")
    claim(mean["train_acc"][-1] > 0.95, "the largest CNN nearly fits its training images")


def claims_on_descent(at, peak, fits, threshold):
    """Check what section 2 says of double descent on MNIST."""
    valley, last = at["valley"]["test_loss"], at["last"]["test_loss"]
    peaks = min(at["peak"]["test_loss"]) > 1.3 * max(*valley, *last)
    claim(peaks, "the test loss peaks between two valleys, for all seeds")
    claim(max(last) < min(valley), "the second valley is the lower one")
    claim(peak < threshold, "the peak is below examples x outputs")
    claim(0.5 < peak / fits < 2, "the peak is where train error reaches zero")
