"""The numbers of every section of the report, and the claims that hang on them.

A function a section: tables of the logs in, ({name: text}, {name: rows of a table}) out. A claim
stands beside the numbers that it is made of, and is checked on every seed where it says so.
"""

import itertools
import math
import re

import numpy as np

from lab.stats import last_epoch, tau_interval
from words import claim, constants, spread, tau, text

STOPS = ("epochs", "train_loss")
FITTED = 0.99, 0.999  # train accuracy that counts as fitted: random labels, parameters (plot_all)


def random_labels(t):
    end, corrupted = last_epoch(t), t["label_corruption"]
    d = settings(t, end) | {"levels": len(np.unique(corrupted)), "ln10": text(math.log(10))}
    d["fitted"] = text(FITTED[0], ".0%")
    for level in np.unique(corrupted):
        rows, own = end[end["label_corruption"] == level], t[corrupted == level]
        for metric in ("train_loss", "train_acc", "test_loss", "test_acc"):
            spec = ".2%" if metric == "train_acc" else ".1%" if "acc" in metric else ".2f"
            d[f"{level:g}.{metric}"] = spread(
                rows[metric], ".1e" if metric == "train_loss" else spec
            )
        epochs = np.unique(own["epoch"])
        means = {
            m: [own[m][own["epoch"] == e].mean() for e in epochs] for m in own.dtype.names[-4:]
        }
        d[f"{level:g}.start_test_loss"] = text(means["test_loss"][0])
        d[f"{level:g}.best_test_acc"] = text(max(means["test_acc"]), ".1%")
        d[f"{level:g}.best_epoch"] = epochs[np.argmax(means["test_acc"])]
        d[f"{level:g}.fit_epoch"] = next(
            (e for e, a in zip(epochs, means["train_acc"], strict=True) if a >= FITTED[0]), "never"
        )
    then = (t["epoch"] == d["0.fit_epoch"]) & (corrupted == 1)
    d["early_acc"] = spread(t["train_acc"][then], ".1%") if any(then) else ""
    chance, true = end[end["label_corruption"] == 1], end[end["label_corruption"] == 0]
    claim(min(chance["train_acc"]) >= 0.999, "every seed fits shuffled labels to 99.9%")
    claim(
        max(abs(chance["test_acc"] - 0.1)) < 0.02, "shuffled labels leave test accuracy at chance"
    )
    claim(min(chance["test_loss"]) > 2 * math.log(10), "shuffled labels raise the test loss far "
          "above that of guessing")  # fmt: skip
    claim(min(true["test_acc"]) > 0.97, "true labels generalise with the same recipe")
    claim(d["1.fit_epoch"] > 5 * d["0.fit_epoch"], "shuffled labels take over five times as long")
    by_level = [
        np.mean(end["test_acc"][end["label_corruption"] == v]) for v in np.unique(corrupted)
    ]
    claim(np.all(np.diff(by_level) < 0), "test accuracy falls with every further share of labels")
    half = t[corrupted == 0.5]
    claim(max(half["test_acc"]) > np.mean(end["test_acc"][end["label_corruption"] == 0.5]) + 0.1,
          "with half of the labels shuffled test accuracy first rises and then falls")  # fmt: skip
    return d, {}


def settings(t, rows):
    """What the CSV says of a whole experiment: the settings that all of its rows share."""
    d = {"seeds": len(np.unique(t["seed"])), "params": text(rows["n_params"][0], ",")}
    for name in (
        "model",
        "optimizer",
        "lr",
        "batch_size",
        "epoch",
        "train_size",
        "label_corruption",
    ):
        if name in t.dtype.names:
            d[name] = rows[name][0]
    d["lr"], d["optimizer"] = f"{d['lr']:g}", str(d["optimizer"]).capitalize()
    if "train_size" in d:
        d["train_size"] = text(d["train_size"], ",")
        d["label_corruption"] = text(d["label_corruption"], ".0%")
    return {k: str(v) for k, v in d.items()}


def param_sweep(t, dataset):
    end = last_epoch(t)
    sizes = np.unique(end["n_params"])
    mean = {m: np.array([end[m][end["n_params"] == n].mean() for n in sizes])
            for m in ("train_loss", "train_acc", "test_loss", "test_acc", "width")}  # fmt: skip
    rows = [[f"{mean['width'][i]:.0f}", text(n, ",")]
            + [text(mean[m][i], ".1e" if mean[m][i] < 0.01 else ".3f") for m in ("train_loss", "test_loss")]
            + [text(mean[m][i], ".1%") for m in ("train_acc", "test_acc")]
            for i, n in enumerate(sizes)]  # fmt: skip
    fits = np.flatnonzero(mean["train_acc"] >= FITTED[1])
    low, high = int(np.argmin(mean["test_loss"])), len(sizes) - 1
    points = {"first": 0, "last": high, "lowest": low, "best_acc": int(np.argmax(mean["test_acc"]))}
    d = settings(t, end) | {"structures": len(sizes), "ratio": text(sizes[-1] / sizes[0], ",.0f")}
    d["fitted"] = text(FITTED[1], ".1%")
    if dataset == "mnist":
        claim(len(fits) > 0 and fits[0] > 0, "some width fits every noisy training label")
        valley = int(np.argmin(mean["test_loss"][: fits[0]]))
        peak = valley + int(np.argmax(mean["test_loss"][valley:]))
        points |= {"fits": fits[0], "peak": peak, "valley": valley}
    for name, i in points.items():
        here = end[end["n_params"] == sizes[i]]
        d |= {f"{name}.params": text(sizes[i], ","), f"{name}.width": here["width"][0]}
        for m in ("train_loss", "test_loss"):
            d[f"{name}.{m}"] = spread(here[m], ".1e" if min(here[m]) < 0.01 else ".2f")
        d |= {f"{name}.{m}": spread(here[m], ".1%") for m in ("train_acc", "test_acc")}
    loss = {k: end["test_loss"][end["n_params"] == sizes[i]] for k, i in points.items()}
    if dataset == "cifar10":
        claim(
            0 < low < high and min(loss["last"]) > max(loss["lowest"]),
            "the CNNs' test loss is lowest in between and higher at the largest, for all seeds",
        )
        claim(mean["train_loss"][-1] == min(mean["train_loss"]), "the largest CNN fits best")
        gained = [end["test_acc"][end["n_params"] == sizes[i]] for i in (low, high)]
        claim(min(gained[1]) > max(gained[0]), "the largest CNN has the higher test accuracy than "
              "that of the lowest loss, for all seeds")  # fmt: skip
        claim(mean["train_acc"][-1] > 0.95, "the largest CNN nearly fits its training images")
    else:
        d["outputs"] = text(10 * int(t["train_size"][0]), ",")
        claim(min(loss["peak"]) > 1.3 * max(*loss["valley"], *loss["last"]),
              "the test loss peaks between two valleys, for all seeds")  # fmt: skip
        claim(max(loss["last"]) < min(loss["valley"]), "the second valley is the lower one")
        claim(sizes[peak] < 10 * int(t["train_size"][0]), "the peak is below examples x outputs")
        claim(0.5 < sizes[peak] / sizes[fits[0]] < 2, "the peak is where train error reaches zero")
    return d, {"table": rows}


def interpolation(different, shared, barriers):
    d, table = settings(different, different), []
    d["alphas"] = len(np.unique(different["alpha"]))
    d["epochs"], removed = constants("interpolation")["EPOCHS"]["mnist"], {}
    for pair in np.unique(different["pair"]):
        own = different[(different["pair"] == pair) & (different["alignment"] == "none")]
        at = {a: own[abs(own["alpha"] - a) < 1e-6] for a in (-1, 0, 1, 2)}
        for name, value in (("one", own["setting_1"][0]), ("two", own["setting_2"][0])):
            d[f"{pair}.{name}"] = f"{value:g}"
        inside = own[(own["alpha"] > -1e-6) & (own["alpha"] < 1 + 1e-6)]
        alphas = np.unique(inside["alpha"])
        worst = max(alphas, key=lambda a, rows=inside: rows["test_loss"][rows["alpha"] == a].mean())
        d[f"{pair}.worst"] = f"{worst:g}"
        at["worst"] = inside[inside["alpha"] == worst]
        points = {"before": -1, "first": 0, "worst": "worst", "second": 1, "beyond": 2}
        for name, a in points.items():
            loss = at[a]["test_loss"]
            spec = ".3f" if max(loss) < 1 else ".1f" if max(loss) < 100 else ",.0f"
            d[f"{pair}.{name}.loss"] = spread(loss, spec)
            d[f"{pair}.{name}.acc"] = spread(at[a]["test_acc"], ".1%")
        own = barriers[barriers["pair"] == pair]
        found = {}
        for start in ("different", "shared"):
            for alignment in ("none", "weight_matching"):
                rows = own[(own["initialisation"] == start) & (own["alignment"] == alignment)]
                found[start, alignment] = rows["test_barrier"]
                cells = [spread(rows[f"{s}_barrier"], ".3f") for s in ("train", "test")]
                table.append([pair, start, alignment, *cells])
                d[f"{pair}.{start}.{alignment}"] = spread(rows["test_barrier"])
        plain, matched = (found["different", k] for k in ("none", "weight_matching"))
        d[f"{pair}.removed"] = spread(1 - matched / plain, ".0%")
        ends = max(np.mean(at[0]["test_loss"]), np.mean(at[1]["test_loss"]))
        d[f"{pair}.times"] = text(np.mean(plain) / ends, ".0f")
        about = pair.replace("lr", "learning rate").replace("_", " ")
        claim(min(plain) > 3 * ends, f"a barrier stands between models of either {about}")
        wide, narrow = (-1, 2) if pair == "batch_size" else (2, -1)  # the longer weights' side
        claim(min(at[wide]["test_acc"]) > 0.9 and max(at[narrow]["test_acc"]) < 0.5
              and min(at[narrow]["test_loss"]) > 100 * max(at[wide]["test_loss"]),
              f"the loss explodes on one side of the {about} pair only")  # fmt: skip
        removed[pair] = 1 - matched / plain
        claim(min(removed[pair]) > 0, f"matching lowers the {about} pair's barrier for every seed")
        start = found["shared", "none"]
        claim(np.allclose(start, found["shared", "weight_matching"]), "matching finds nothing to "
              "permute between models of one start")  # fmt: skip
        if pair == "batch_size":
            claim(max(start / plain) < 0.1, "a shared start leaves no barrier between batch sizes")
        else:
            claim(min(start / plain) > 0.1 and max(start / matched) < 1, "a shared start leaves "
                  "some barrier between learning rates, but less than matching")  # fmt: skip
    claim(min(removed["batch_size"]) > 0.5, "matching removes most of the batch sizes' barrier")
    claim(max(removed["lr"]) < 0.5, "matching removes less than half of the rates' barrier")
    return d, {"barriers": table}


def sensitivity(t, dataset):
    code = constants("sensitivity")
    d = settings(t, t) | {"probe": text(code["PROBE"], ","), "target": code["TARGET"][dataset]}
    size = code["TRAIN_SIZE"][dataset]
    d |= {"epochs": code["EPOCHS"][dataset], "train_size": text(size, ",") if size else "all"}
    sizes = np.unique(t["batch_size"])
    d |= {"sizes": len(sizes), "first": sizes[0], "last": sizes[-1]}
    claim(np.isfinite(t["train_loss"]).all(), f"every {dataset} run reached the common train loss")
    measures = ("test_loss", *(m for m in t.dtype.names if "_norm_" in m))
    table, of = {m: [m] for m in measures}, {}
    for stop in STOPS:
        rows = t[t["stop"] == stop]
        mean = {m: np.array([rows[m][rows["batch_size"] == b].mean() for b in sizes])
                for m in ("train_loss", "test_acc", "input_gradient_norm_train")}  # fmt: skip
        d[f"{stop}.acc_range"] = text(math.ceil(1000 * np.ptp(mean["test_acc"])) / 10, ".1f")
        best = int(np.argmin(mean["train_loss"]))
        if stop == "epochs":
            claim(0 < best < len(sizes) - 1,
                  f"on {dataset} the train loss after equal epochs is lowest in between")  # fmt: skip
        for name, batch in {"first": sizes[0], "best": sizes[best], "last": sizes[-1]}.items():
            own = rows[rows["batch_size"] == batch]
            d |= {
                f"{stop}.{name}.batch": batch,
                f"{stop}.{name}.epoch": f"{own['epoch'].mean():.0f}",
            }
            for m in ("train_loss", "test_acc", *measures):
                d[f"{stop}.{name}.{m}"] = spread(own[m], ".1%" if m == "test_acc" else ".3f")
            for m in ("input_gradient", "jacobian"):
                ratio = own[f"{m}_norm_test"].mean() / own[f"{m}_norm_train"].mean()
                d[f"{stop}.{name}.{m}.ratio"] = text(ratio, ".1f")
        for m in measures:
            d[f"{stop}.{m}.tau"], of[stop, m] = tau(rows["batch_size"], rows[m], rows["batch_size"])
            table[m].append(d[f"{stop}.{m}.tau"])
        claim(of[stop, "jacobian_norm_test"][1] > 0,
              f"on {dataset} the Jacobian grows with the batch size")  # fmt: skip
    (_, *loss), (_, *gradient) = (
        of["train_loss", m] for m in ("test_loss", "input_gradient_norm_test")
    )
    ratio = [float(d[f"train_loss.{name}.input_gradient.ratio"]) for name in ("first", "last")]
    if dataset == "mnist":
        claim(loss[0] < 0 < loss[1], "on MNIST the test loss at equal train loss has no trend")
        claim(
            np.ptp(mean["test_acc"]) < 0.005, "on MNIST test accuracy at equal train loss is alike"
        )
        claim(gradient[0] < 0 < gradient[1],
              "on MNIST the input gradient at equal train loss has no trend")  # fmt: skip
        claim(ratio[0] > ratio[1] > 1, "on MNIST the small batch's input gradient is the one that is "
              "larger on test images")  # fmt: skip
    else:
        claim(
            loss[1] < 0, "on CIFAR-10 the test loss at equal train loss falls with the batch size"
        )
        claim(gradient[0] > 0, "on CIFAR-10 the input gradient at equal train loss grows with it")
    return d, {"taus": list(table.values())}


def sharpness(t):
    code = constants("sharpness")
    epsilon = code["EPSILON"]
    base = t[t["approach"] == f"batch_size={code['BASE']['batch_size']}"]
    d = settings(base, base) | {"approaches": len(np.unique(t["approach"]))}
    d |= {"epochs": code["EPOCHS"]["mnist"], "target": code["TARGET"]["mnist"]}
    d |= {"epsilon": text(epsilon, ".0e").removeprefix("1×"), "seeds": len(np.unique(t["seed"]))}
    claim(np.isfinite(t["train_loss"]).all(), "every approach reached the common train loss")
    gradient = epsilon * t["parameter_gradient_norm"]  # first order in epsilon
    curvature = epsilon**2 * t["hessian_norm"] / 2  # second
    ratio, ball = gradient / curvature, t["sharpness_ball"] * (1 + t["train_loss"])
    claim(min(ratio) > 5, "the gradient term dwarfs the quadratic one for every model")
    claim(max(abs(ball / gradient - 1)) < 0.2, "the ball's maximum is the gradient term")
    d |= {"ratio.low": text(min(ratio), ".0f"), "ratio.high": text(max(ratio), ",.0f")}
    d |= {"ratio.median": text(np.median(ratio), ".0f")}
    d["ball_excess"] = text(max(abs(ball / gradient - 1)), ".1%")
    d["residual"] = text(max(t["residual"]), ".0e")
    block = t["hessian_norm_block"] / t["hessian_norm"]
    claim(max(block) < 1 + 1e-3, "a block's norm is never above the whole Hessian's")
    d |= {"block.low": text(min(block)), "block.high": text(max(block)),
          "block.mean": text(np.mean(block))}  # fmt: skip
    claim(tau_interval(t["hessian_norm_block"], t["hessian_norm"], t["approach"])[1] > 0.7,
          "the largest block orders the models as the whole Hessian does")  # fmt: skip
    d["block.tau"] = text(
        tau_interval(t["hessian_norm_block"], t["hessian_norm"], t["approach"])[0]
    )
    rows = []
    for approach in dict.fromkeys(t["approach"]):
        cells = [re.sub("[=_]", " ", approach.removeprefix("optimizer="))]
        for stop in STOPS:
            own = t[(t["approach"] == approach) & (t["stop"] == stop)]
            mean = {m: np.mean(own[m]) for m in own.dtype.names if own[m].dtype.kind in "fi"}
            first = (
                text(mean["train_loss"], ".3f") if stop == "epochs" else text(mean["epoch"], ".0f")
            )
            cells += [first, text(mean["test_loss"], ".3f"), spread(own["hessian_norm"], ".1f"),
                      text(mean["sharpness"] * 1e8, ".1f"), text(mean["sharpness_ball"] * 1e6, ".1f"),
                      text(mean["sharpness_box"] * 1e3, ".2f")]  # fmt: skip
            for m in ("hessian_norm", "train_loss", "test_loss"):
                d[f"{approach}.{stop}.{m}"] = spread(own[m], ".1f" if m[0] == "h" else ".3f")
        d[f"{approach}.lr"] = f"{own['lr'][0]:g}"
        rows.append(cells)
    sizes = t[[a.startswith("batch_size") for a in t["approach"]]]
    batches = np.unique(sizes["batch_size"])
    d |= {"sizes": len(batches), "others": int(d["approaches"]) - len(batches)}
    d |= {"first": batches[0], "last": batches[-1]}
    of = {}
    for stop in STOPS:
        own = sizes[sizes["stop"] == stop]
        for name, batch in (("first", batches[0]), ("last", batches[-1])):
            here = own["batch_size"] == batch
            d[f"{stop}.{name}.hessian_norm"] = spread(own["hessian_norm"][here], ".1f")
            for m in ("train_loss", "test_loss"):
                d[f"{stop}.{name}.{m}"] = spread(own[m][here], ".3f")
        for m in ("hessian_norm", "sharpness_ball", "sharpness_box", "test_loss"):
            d[f"{stop}.{m}.tau"], found = tau(own["batch_size"], own[m], own["batch_size"])
            of[stop, m] = found
        claim(of[stop, "hessian_norm"][1] > 0, "||H|| grows with the batch size at both stops")
    claim(of["train_loss", "sharpness_ball"][2] < 0, "the ball's sharpness at equal train loss "
          "falls with the batch size")  # fmt: skip
    claim(of["train_loss", "sharpness_box"][0] < 0, "the box's sharpness falls too, less surely")
    own = sizes[sizes["stop"] == "train_loss"]
    small, large = (own[own["batch_size"] == batch] for batch in (batches[0], batches[-1]))
    rise = {m: large[m].mean() - small[m].mean() for m in ("train_loss", "test_loss")}
    claim(0 < rise["test_loss"] < rise["train_loss"], "the test loss at equal train loss rises with "
          "the batch size by less than what is left of a rise in the train loss")  # fmt: skip
    last = t[t["stop"] == "train_loss"]
    mean = {m: {a: last[m][last["approach"] == a].mean() for a in np.unique(t["approach"])}
            for m in ("test_loss", "hessian_norm")}  # fmt: skip
    for name, by in (("best", mean["test_loss"]), ("flattest", mean["hessian_norm"])):
        approach = min(by, key=by.get)
        d[name] = re.sub("[=_]", " ", approach)
        for m in mean:
            d[f"{name}.{m}"] = d[f"{approach}.train_loss.{m}"]
    least = min(mean["test_loss"], key=mean["test_loss"].get)
    claim(mean["hessian_norm"][least] > 2 * min(mean["hessian_norm"].values()),
          "at equal train loss the lowest test loss is not that of the flattest approach")  # fmt: skip
    return d, {"table": rows}


def reparametrization(t):
    base = t[t["scale"] == 1]
    d, scales = {"scales": len(np.unique(t["scale"]))}, np.unique(t["scale"])
    d |= {"low": f"{scales[0]:g}", "high": f"{scales[-1]:g}"}
    norm = {s: t["hessian_norm"][t["scale"] == s] for s in scales}
    times = {s: norm[s] / base["hessian_norm"] for s in scales}
    d["least"] = f"{min(scales, key=lambda s: np.mean(times[s])):g}"
    d["norm"] = spread(base["hessian_norm"], ".1f")
    for name, (s, next_one) in {"low": scales[:2], "high": scales[:-3:-1]}.items():
        slope = np.log(norm[s] / norm[next_one]) / np.log(s / next_one)
        d |= {f"{name}.times": spread(times[s], ",.0f"), f"{name}.slope": spread(slope)}
        claim(min(times[s]) > 10, f"the sharpness at scale {s:g} is many times that at scale 1")
    d["change"] = text(max(t["max_output_change"]), ".0e")
    of_base = {r["seed"]: r for r in base}
    for m in ("train_loss", "test_loss", "input_gradient_norm_test", "jacobian_norm_test"):
        d[f"{m}.change"] = text(max(abs(r[m] / of_base[r["seed"]][m] - 1) for r in t), ".0e")
        claim(max(abs(r[m] / of_base[r["seed"]][m] - 1) for r in t) < 1e-3,
              f"rescaling does not move {m}")  # fmt: skip
    claim(max(t["max_output_change"]) < 1e-3, "rescaling leaves the function as it was")
    return d, {}


def predictors(t, dataset):
    d, of = {}, {}
    for r in t:
        of[(name := (r["log"], r["stop"], r["measure"], r["target"]))] = r["low"], r["high"]
        shown = (text(r[k]) for k in ("tau", "low", "high"))
        d[".".join(name)] = "{}\u00a0[{},\u00a0{}]".format(*shown)
    claim(of["sensitivity", "train_loss", "jacobian_norm_test", "gap"][1] < 0, "the Jacobian at equal "
          f"train loss goes against the gap on {dataset}")  # fmt: skip
    for log in {name[0] for name in of}:
        claim(of[log, "train_loss", "input_gradient_norm_test", "gap"][0] < 0, "the input gradient "
              f"at equal train loss does not go with the gap ({log}, {dataset})")  # fmt: skip
    if dataset == "mnist":
        for measure in ("hessian_norm", "train_loss"):
            claim(of["sharpness", "epochs", measure, "gap"][1] < 0,
                  f"{measure} after equal epochs goes against the gap")  # fmt: skip
        best = [
            abs(r["tau"])
            for m in ("train_loss", "hessian_norm")
            for r in t
            if (r["log"], r["stop"], r["measure"], r["target"]) == ("sharpness", "epochs", m, "gap")
        ]
        claim(
            best[0] > best[1], "after equal epochs the train loss says more of the gap than ||H||"
        )
        sharpnesses = ("hessian_norm", "sharpness", "sharpness_ball", "sharpness_box")
        for measure, target in itertools.product(sharpnesses, ("gap", "test_loss")):
            low, high = of["sharpness", "train_loss", measure, target]
            claim(low < 0 < high, f"{measure} at equal train loss does not predict the {target}")
    return d, {}
