"""The numbers of section 5 of the report: sharpness, reparametrization, and what predicts.

A function for each part: tables in, ({name: text}, {name: rows of a table}, {name: state}) out.
"""

from collections import Counter

from lab.stats import EPSILON, STOPS, tau_interval

import numpy as np

from verdicts import VERDICTS
from words import alike, at_most, bracketed, constants, settings, spread, text

NORMS = ("hessian_norm", "sharpness_ball", "sharpness_box", "sharpness_adaptive")
FUNCTION = ("train_loss", "test_loss", "input_gradient_norm_test", "jacobian_norm_test")


def sharpness(t):
    """Numbers of 5.1: the Hessian's norm and the sharpnesses of each approach, at two stops."""
    source = constants("sharpness")
    shown = t[t["epsilon"] == EPSILON]
    is_size, approaches = by_batch_size(shown), np.unique(shown["approach"])
    d = settings(shown[shown["approach"] == base(shown)])
    d["epochs"] = text(max(t["epoch"][t["stop"] == "epochs"]), ".0f")
    d |= {"target": source["TARGET"]["mnist"], "epsilon": power(EPSILON)}
    d |= terms(t) | blocks(shown) | by_size(shown[is_size])
    d |= {"approaches": len(approaches), "others": len(approaches) - int(d["sizes"])}
    d |= extremes(shown[shown["stop"] == "train_loss"])
    return d, {}, {}


def by_batch_size(t):
    """Return of each row whether its approach is a batch size."""
    return np.char.startswith(t["approach"], "batch_size=")


def base(t):
    """Return the approach from which all others, except the batch sizes, are derived."""
    return f"batch_size={t[~by_batch_size(t)]['batch_size'][0]}"


def changes(t):
    """Return by how much each change of the base multiplies the Hessian's norm, {approach: text}.

    At equal train loss.
    """
    last = t[(t["stop"] == "train_loss") & (t["epsilon"] == EPSILON)]
    norm = lambda approach: last["hessian_norm"][last["approach"] == approach].mean()
    others = np.unique(t["approach"][~by_batch_size(t)])
    return {approach: text(norm(approach) / norm(base(t))) for approach in others}


def power(epsilon):
    """Return an epsilon as it is printed: 5×10⁻⁴, or 10⁻³."""
    return text(epsilon, ".0e").removeprefix("1×")


def terms(t):
    """Return how the gradient term compares with the quadratic term and with the ball."""
    d = {"epsilons": ", ".join(power(e) for e in np.unique(t["epsilon"]))}
    d["residual"] = at_most(max(t["residual"]), ".0e")
    for name, epsilon in {"small": min(t["epsilon"]), "large": max(t["epsilon"])}.items():
        own = t[t["epsilon"] == epsilon]
        gradient = epsilon * own["parameter_gradient_norm"]  # first order in epsilon
        ratio = gradient / (epsilon**2 * own["hessian_norm"] / 2)
        excess = max(abs(own["sharpness_ball"] * (1 + own["train_loss"]) / gradient - 1))
        d |= {f"{name}.epsilon": power(epsilon), f"{name}.excess": at_most(excess, ".1%")}
        d |= {f"{name}.low": text(min(ratio), ".1f"), f"{name}.high": text(max(ratio), ",.0f")}
        d[f"{name}.median"] = text(np.median(ratio), ".1f")
    return d


def blocks(t):
    """Return how the largest block of the Hessian compares with all of it."""
    t = t[np.isfinite(t["hessian_norm_block"] + t["hessian_norm"])]
    ratio = t["hessian_norm_block"] / t["hessian_norm"]
    order = tau_interval(t["hessian_norm_block"], t["hessian_norm"], t["approach"])
    ends = {"low": text(min(ratio)), "high": text(max(ratio)), "mean": text(np.mean(ratio))}
    ends["tau"] = bracketed([text(v) for v in order])
    return {f"block.{name}": value for name, value in ends.items()}


def by_size(t):
    """Return the ends of the range of batch sizes, and by how much its steps change the norm."""
    sizes = np.unique(t["batch_size"])
    d = {"sizes": len(sizes), "first": sizes[0], "last": sizes[-1]}
    d |= {"second": sizes[1], "penultimate": sizes[-2]}
    for stop in STOPS:
        of = [t[(t["stop"] == stop) & (t["batch_size"] == size)] for size in sizes]
        for name, own in {"first": of[0], "last": of[-1]}.items():
            d[f"{stop}.{name}.hessian_norm"] = spread(own["hessian_norm"], ".1f")
            d[f"{stop}.{name}.train_loss"] = spread(own["train_loss"], ".3f")
        norm = np.array([own["hessian_norm"].mean() for own in of])
        d[f"{stop}.start.times"] = text(norm[1] / norm[0])
        d[f"{stop}.end.times"] = text(norm[-1] / norm[-2])
        d[f"{stop}.all.times"] = text(norm[-1] / norm[0], ".1f")
    return d


def extremes(last):
    """Return at equal train loss the approaches with the lowest test loss, and the flattest."""
    lost = last["approach"][~np.isfinite(last["test_loss"] + last["hessian_norm"])]
    names = [name for name in np.unique(last["approach"]) if name not in lost]
    of = {name: last[last["approach"] == name] for name in names}
    means = {m: {k: rows[m].mean() for k, rows in of.items()} for m in ("test_loss", *NORMS)}
    d = {}
    for name, m in {"best": "test_loss", "flattest": "hessian_norm"}.items():
        d[f"{name}.name"] = approach = min(of, key=means[m].get)
        d[f"{name}.test_loss"] = spread(of[approach]["test_loss"], ".3f")
        d[f"{name}.hessian_norm"] = spread(of[approach]["hessian_norm"], ".1f")
    return d


def times(ratio):
    """Return by how much something was multiplied: the mean over the seeds [lowest, highest]."""
    return alike([np.mean(ratio), min(ratio), max(ratio)])


def reparametrization(t):
    """Numbers of 5.2: one function in many parametrisations."""
    base, scales = t[t["scale"] == 1], np.unique(t["scale"])
    if not len(base):
        raise ValueError("no row has scale 1")
    of_base = {r["seed"]: r for r in base}
    d = {"scales": len(scales), "low": f"{scales[0]:g}", "high": f"{scales[-1]:g}"}
    d["norm"] = spread(base["hessian_norm"], ".1f")
    d["change"] = at_most(max(t["max_output_change"]), ".0e")
    for m in FUNCTION + NORMS[2:]:
        moved = max(abs(r[m] / of_base[r["seed"]][m] - 1) for r in t)
        d[f"{m}.change"] = at_most(moved, ".0e")
    for name, (s, inner) in {"low": scales[:2], "high": scales[:-3:-1]}.items():
        at, near = t[t["scale"] == s], t[t["scale"] == inner]
        for m in ("hessian_norm", "sharpness_box"):
            d[f"{name}.{m}.times"] = times(at[m] / base[m])
        slope = np.log(at["hessian_norm"] / near["hessian_norm"]) / np.log(s / inner)
        d[f"{name}.slope"] = spread(slope)
    return d, {}, {}


def predictors(rows):
    """Numbers of 5.3: how many of the predictors have which verdict, at each stop."""
    d = {}
    for stop in STOPS:
        own = [row for row in rows if row["name"].startswith(f"predictors.{stop}.")]
        found = Counter(row["verdict"] for row in own)
        d |= {f"{stop}.{verdict}": found[verdict] for verdict in VERDICTS}
        d[f"{stop}.tests"] = len(own)
        d["measures"] = len({row["name"].split(".")[2] for row in own})
    return d
