"""The numbers of sections 3 and 4 of the report, and the claims that depend on them.

A function for each section: tables in, ({name: text}, {name: rows of a table}) out.
"""

import itertools
import math

from lab.stats import STOPS

import numpy as np

from words import claim, constants, setting, settings, spread, tau, text

MEAN = ("train_loss", "test_acc", "input_gradient_norm_train")


def interpolation(different, shared, barriers):
    """Numbers of section 3: the line between two models, for each pair of approaches."""
    d, table = settings(different), []
    d["alphas"] = len(np.unique(different["alpha"]))
    d["epochs"], removed = constants("interpolation")["EPOCHS"]["mnist"], {}
    for pair in np.unique(different["pair"]):
        own = different[(different["pair"] == pair) & (different["alignment"] == "none")]
        found = {"one": setting(own["setting_1"][0]), "two": setting(own["setting_2"][0])}
        found |= {name: setting(own[name][0]) for name in ("lr", "batch_size") if name != pair}
        at = places(own)
        found["worst"] = f"{at['worst']['alpha'][0]:g}"
        for name, rows in at.items():
            top = max(rows["test_loss"])
            spec = ".3f" if top < 1 else ".1f" if top < 100 else ",.0f"
            found[f"{name}.loss"] = spread(rows["test_loss"], spec)
            found[f"{name}.acc"] = spread(rows["test_acc"], ".1%")
        heights = {}
        for start, alignment in itertools.product(
            ("different", "shared"), ("none", "weight_matching")
        ):
            rows = barriers[(barriers["pair"] == pair) & (barriers["alignment"] == alignment)]
            rows = rows[rows["initialisation"] == start]
            heights[start, alignment] = rows["test_barrier"]
            found[f"{start}.{alignment}"] = spread(rows["test_barrier"])
            cells = [spread(rows[f"{split}_barrier"], ".3f") for split in ("train", "test")]
            table.append([pair, start, alignment, *cells])
        plain, matched = heights["different", "none"], heights["different", "weight_matching"]
        removed[pair] = 1 - matched / plain
        ends = max(np.mean(at["first"]["test_loss"]), np.mean(at["second"]["test_loss"]))
        found |= {
            "removed": spread(removed[pair], ".0%"),
            "times": text(np.mean(plain) / ends, ".0f"),
        }
        d |= {f"{pair}.{name}": value for name, value in found.items()}
        if pair in ("batch_size", "lr"):
            claims_on_a_pair(pair, at, heights, ends)
    claim(min(removed["batch_size"]) > 0.5, "matching removes most of the batch sizes' barrier")
    claim(max(removed["lr"]) < 0.5, "matching removes less than half of the rates' barrier")
    return d, {"barriers": table}


def places(path):
    """Return the rows before, at and beyond the two models, and where it is worst between them."""
    points = {"before": -1, "first": 0, "second": 1, "beyond": 2}
    at = {name: path[abs(path["alpha"] - a) < 1e-6] for name, a in points.items()}
    inside = path[(path["alpha"] > -1e-6) & (path["alpha"] < 1 + 1e-6)]
    alphas = np.unique(inside["alpha"])
    means = [inside["test_loss"][inside["alpha"] == a].mean() for a in alphas]
    return at | {"worst": inside[inside["alpha"] == alphas[np.argmax(means)]]}


def claims_on_a_pair(pair, at, heights, ends):
    """Check what section 3 says of a pair of batch sizes or of learning rates."""
    about = pair.replace("lr", "learning rate").replace("_", " ")
    plain, matched = heights["different", "none"], heights["different", "weight_matching"]
    start = heights["shared", "none"]
    claim(min(plain) > 3 * ends, f"a barrier stands between models of either {about}")
    sides = ("before", "beyond") if pair == "batch_size" else ("beyond", "before")
    wide, narrow = (at[side] for side in sides)  # wide: the side of the longer weights
    steep = min(narrow["test_loss"]) > 100 * max(wide["test_loss"])
    apart = min(wide["test_acc"]) > 0.9 and max(narrow["test_acc"]) < 0.5
    claim(steep and apart, f"the loss explodes on one side of the {about} pair only")
    lower = min(1 - matched / plain) > 0
    claim(lower, f"matching lowers the {about} pair's barrier for every seed")
    same = np.allclose(start, heights["shared", "weight_matching"])
    claim(same, "matching finds nothing to permute between models of one start")
    if pair == "batch_size":
        claim(max(start / plain) < 0.1, "a shared start leaves no barrier between batch sizes")
    else:
        some = min(start / plain) > 0.1 and max(start / matched) < 1
        claim(some, "a shared start leaves some barrier between rates, but less than matching")


def sensitivity(t, dataset):
    """Numbers of section 4: input gradient and Jacobian by batch size, at two stops."""
    code, sizes = constants("sensitivity"), np.unique(t["batch_size"])
    n = code["TRAIN_SIZE"][dataset]
    d = settings(t) | {"probe": text(code["PROBE"], ","), "target": code["TARGET"][dataset]}
    d |= {"epochs": setting(max(t["epoch"][t["stop"] == "epochs"]))}
    d |= {"train_size": text(n, ",") if n else "all"}
    d |= {"sizes": len(sizes), "first": sizes[0], "last": sizes[-1]}
    claim(np.isfinite(t["train_loss"]).all(), f"every {dataset} run reached the common train loss")
    measures = ("test_loss", *(m for m in t.dtype.names if "_norm_" in m))
    of = {}
    for stop in STOPS:
        rows = t[t["stop"] == stop]
        mean = {m: np.array([rows[m][rows["batch_size"] == b].mean() for b in sizes]) for m in MEAN}
        d[f"{stop}.acc_range"] = text(math.ceil(1000 * np.ptp(mean["test_acc"])) / 10, ".1f")
        best = int(np.argmin(mean["train_loss"]))
        if stop == "epochs":
            between = f"on {dataset} the train loss after equal epochs is lowest in between"
            claim(0 < best < len(sizes) - 1, between)
        for name, batch in {"first": sizes[0], "best": sizes[best], "last": sizes[-1]}.items():
            own = at_batch(rows[rows["batch_size"] == batch], measures)
            d |= {f"{stop}.{name}.{k}": v for k, v in own.items()}
        for m in measures:
            d[f"{stop}.{m}.tau"], of[stop, m] = tau(rows["batch_size"], rows[m], rows["batch_size"])
        grows = of[stop, "jacobian_norm_test"][1] > 0
        claim(grows, f"on {dataset} the Jacobian grows with the batch size")
    claims_on_trends(dataset, of, mean["test_acc"], d)
    return d, {"taus": [[m, *(d[f"{stop}.{m}.tau"] for stop in STOPS)] for m in measures]}


def at_batch(own, measures):
    """Return what the models of one batch size are like at one stop."""
    d = {"batch": own["batch_size"][0], "epoch": f"{own['epoch'].mean():.0f}"}
    d |= {m: spread(own[m], ".3f") for m in ("train_loss", *measures)}
    d["test_acc"] = spread(own["test_acc"], ".1%")
    for m in ("input_gradient", "jacobian"):
        ratio = own[f"{m}_norm_test"].mean() / own[f"{m}_norm_train"].mean()
        d[f"{m}.ratio"] = text(ratio, ".1f")
    return d


def claims_on_trends(dataset, of, accuracy, d):
    """Check what section 4 says of the trends at equal train loss."""
    low, high = of["train_loss", "test_loss"][1:]
    gradient = of["train_loss", "input_gradient_norm_test"][1:]
    ratio = [float(d[f"train_loss.{name}.input_gradient.ratio"]) for name in ("first", "last")]
    if dataset == "mnist":
        claim(low < 0 < high, "on MNIST the test loss at equal train loss has no trend")
        claim(np.ptp(accuracy) < 0.005, "on MNIST test accuracy at equal train loss is alike")
        none = gradient[0] < 0 < gradient[1]
        claim(none, "on MNIST the input gradient at equal train loss has no trend")
        larger = ratio[0] > ratio[1] > 1
        claim(larger, "on MNIST the small batch's input gradient is larger on test images")
    else:
        falls = "on CIFAR-10 the test loss at equal train loss falls with the batch size"
        claim(high < 0, falls)
        claim(gradient[0] > 0, "on CIFAR-10 the input gradient at equal train loss grows with it")
