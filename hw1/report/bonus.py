"""The numbers of section 5 of the report, and the claims that depend on them.

A function for each part: a table in, ({name: text}, {name: rows of a table}) out.
"""

import itertools
import re

from lab.stats import SHARPNESS, STOPS, tau_interval

import numpy as np

from words import bracketed, claim, constants, settings, spread, tau, text

UNITS = [("sharpness", 1e8, ".1f"), ("sharpness_ball", 1e6, ".1f"), ("sharpness_box", 1e3, ".2f")]
FUNCTION = ("train_loss", "test_loss", "input_gradient_norm_test", "jacobian_norm_test")


def sharpness(t):
    """Numbers of 5.1: the Hessian's norm and three sharpnesses of each approach, at two stops."""
    is_size = np.array([a.startswith("batch_size=") for a in t["approach"]])
    base = t[~is_size]["batch_size"][0]  # the other approaches change one setting of this one
    approaches = list(dict.fromkeys(t["approach"]))
    d = settings(t[t["approach"] == f"batch_size={base}"]) | {"seeds": len(np.unique(t["seed"]))}
    d |= {"epochs": text(max(t["epoch"][t["stop"] == "epochs"]), ".0f")}
    d |= {"target": constants("sharpness")["TARGET"]["mnist"]}
    d |= {"epsilon": text(t["epsilon"][0], ".0e").removeprefix("1×")}
    claim(np.isfinite(t["train_loss"]).all(), "every approach reached the common train loss")
    d |= terms(t) | blocks(t)
    for approach, stop in itertools.product(approaches, STOPS):
        own = t[(t["approach"] == approach) & (t["stop"] == stop)]
        for m in ("hessian_norm", "train_loss", "test_loss"):
            d[f"{approach}.{stop}.{m}"] = spread(own[m], ".1f" if m == "hessian_norm" else ".3f")
        d[f"{approach}.lr"] = f"{own['lr'][0]:g}"
    d |= by_size(t[is_size])
    d |= {"approaches": len(approaches), "others": len(approaches) - int(d["sizes"])}
    d |= extremes(t[t["stop"] == "train_loss"], d)
    return d, {"table": [cells(t[t["approach"] == approach]) for approach in approaches]}


def terms(t):
    """Return how the gradient term compares with the quadratic term and with the ball."""
    gradient = t["epsilon"] * t["parameter_gradient_norm"]  # first order in epsilon
    ratio = gradient / (t["epsilon"] ** 2 * t["hessian_norm"] / 2)
    excess = max(abs(t["sharpness_ball"] * (1 + t["train_loss"]) / gradient - 1))
    claim(min(ratio) > 5, "the gradient term dwarfs the quadratic one for every model")
    claim(excess < 0.2, "the ball's maximum is the gradient term")
    d = {"ratio.low": text(min(ratio), ".0f"), "ratio.high": text(max(ratio), ",.0f")}
    d |= {"ratio.median": text(np.median(ratio), ".0f"), "ball_excess": text(excess, ".1%")}
    return d | {"residual": text(max(t["residual"]), ".0e")}


def blocks(t):
    """Return how the largest block of the Hessian compares with all of it."""
    ratio = t["hessian_norm_block"] / t["hessian_norm"]
    order, low, _ = tau_interval(t["hessian_norm_block"], t["hessian_norm"], t["approach"])
    claim(max(ratio) < 1 + 1e-3, "a block's norm is never above the whole Hessian's")
    claim(low > 0.7, "the largest block orders the models as the whole Hessian does")
    found = {"low": min(ratio), "high": max(ratio), "mean": np.mean(ratio), "tau": order}
    return {f"block.{name}": text(value) for name, value in found.items()}


def by_size(t):
    """Return the trends with the batch size, and the ends of the range."""
    batches = np.unique(t["batch_size"])
    d = {"sizes": len(batches), "first": batches[0], "last": batches[-1]}
    of = {}
    for stop in STOPS:
        own = t[t["stop"] == stop]
        for name, batch in (("first", batches[0]), ("last", batches[-1])):
            here = own["batch_size"] == batch
            d[f"{stop}.{name}.hessian_norm"] = spread(own["hessian_norm"][here], ".1f")
            for m in ("train_loss", "test_loss"):
                d[f"{stop}.{name}.{m}"] = spread(own[m][here], ".3f")
        for m in ("hessian_norm", "sharpness_ball", "sharpness_box", "test_loss"):
            d[f"{stop}.{m}.tau"], of[stop, m] = tau(own["batch_size"], own[m], own["batch_size"])
        claim(of[stop, "hessian_norm"][1] > 0, "||H|| grows with the batch size at both stops")
    ball, box = (of["train_loss", f"sharpness_{name}"] for name in ("ball", "box"))
    claim(ball[2] < 0, "the ball's sharpness at equal train loss falls with the batch size")
    claim(box[0] < 0, "the box's sharpness falls too, less surely")
    small, large = (own[own["batch_size"] == batch] for batch in (batches[0], batches[-1]))
    rise = {m: large[m].mean() - small[m].mean() for m in ("train_loss", "test_loss")}
    less = "the test loss at equal train loss rises with the batch size by less than the train loss"
    claim(0 < rise["test_loss"] < rise["train_loss"], less)
    return d


def extremes(last, d):
    """Return the approach with the lowest test loss and the flattest one, at equal train loss."""
    approaches = list(np.unique(last["approach"]))
    of = [last[last["approach"] == approach] for approach in approaches]
    loss, norm = (np.array([r[m].mean() for r in of]) for m in ("test_loss", "hessian_norm"))
    found = {}
    for name, best in (("best", np.argmin(loss)), ("flattest", np.argmin(norm))):
        approach = approaches[best]
        found[name] = re.sub("[=_]", " ", approach)
        for m in ("test_loss", "hessian_norm"):
            found[f"{name}.{m}"] = d[f"{approach}.train_loss.{m}"]
    sharper = norm[np.argmin(loss)] > 2 * min(norm)
    claim(sharper, "the lowest test loss at equal train loss is not that of the flattest approach")
    return found


def cells(t):
    """Return the row of one approach in the table of sharpness."""
    row = [re.sub("[=_]", " ", t["approach"][0].removeprefix("optimizer="))]
    for stop in STOPS:
        own = t[t["stop"] == stop]
        first, spec = ("train_loss", ".3f") if stop == "epochs" else ("epoch", ".0f")
        row.append(text(np.mean(own[first]), spec))
        row += [text(np.mean(own["test_loss"]), ".3f"), spread(own["hessian_norm"], ".1f")]
        row += [text(np.mean(own[m]) * unit, spec) for m, unit, spec in UNITS]
    return row


def reparametrization(t):
    """Numbers of 5.2: one function in many parametrisations."""
    base, scales = t[t["scale"] == 1], np.unique(t["scale"])
    d = {"scales": len(scales), "low": f"{scales[0]:g}", "high": f"{scales[-1]:g}"}
    norm = {s: t["hessian_norm"][t["scale"] == s] for s in scales}
    times = {s: norm[s] / base["hessian_norm"] for s in scales}
    d["least"] = f"{min(scales, key=lambda s: np.mean(times[s])):g}"
    d["norm"] = spread(base["hessian_norm"], ".1f")
    for name, (s, next_one) in {"low": scales[:2], "high": scales[:-3:-1]}.items():
        slope = np.log(norm[s] / norm[next_one]) / np.log(s / next_one)
        d |= {f"{name}.times": spread(times[s], ",.0f"), f"{name}.slope": spread(slope)}
        claim(min(times[s]) > 10, f"the sharpness at scale {s:g} is many times that at scale 1")
    change = max(t["max_output_change"])
    d["change"] = text(change, ".0e")
    of_base = {r["seed"]: r for r in base}
    for m in FUNCTION:
        moved = max(abs(r[m] / of_base[r["seed"]][m] - 1) for r in t)
        d[f"{m}.change"] = text(moved, ".0e")
        claim(moved < 1e-3, f"rescaling does not move {m}")
    claim(change < 1e-3, "rescaling leaves the function as it was")
    return d, {}


def predictors(t, dataset):
    """Numbers of 5.3: Kendall's tau of each measure with the test loss and with the gap."""
    of = {(r["log"], r["stop"], r["measure"], r["target"]): r for r in t}
    shown = ([text(r[k]) for k in ("tau", "low", "high")] for r in t)
    d = {".".join(name): bracketed(parts) for name, parts in zip(of, shown, strict=True)}
    against = of["sensitivity", "train_loss", "jacobian_norm_test", "gap"]["high"] < 0
    claim(against, f"the Jacobian at equal train loss goes against the gap on {dataset}")
    for log in {name[0] for name in of}:
        low = of[log, "train_loss", "input_gradient_norm_test", "gap"]["low"]
        where = f"({log}, {dataset})"
        claim(low < 0, f"the input gradient at equal train loss does not go with the gap {where}")
    if dataset == "mnist":
        epochs = {m: of["sharpness", "epochs", m, "gap"] for m in ("hessian_norm", "train_loss")}
        for measure, r in epochs.items():
            claim(r["high"] < 0, f"{measure} after equal epochs goes against the gap")
        more = abs(epochs["train_loss"]["tau"]) > abs(epochs["hessian_norm"]["tau"])
        claim(more, "after equal epochs the train loss says more of the gap than ||H||")
        for measure, target in itertools.product(SHARPNESS, ("gap", "test_loss")):
            r = of["sharpness", "train_loss", measure, target]
            none = r["low"] < 0 < r["high"]
            claim(none, f"{measure} at equal train loss does not predict the {target}")
    return d, {}
