"""The numbers of sections 3 and 4 of the report: the line between two models, and sensitivity.

A function for each section: tables in, ({name: text}, {name: rows of a table}, {name: state}) out.
A state says which of several wordings the text uses.
"""

from lab import stats
from lab.stats import STOPS

import numpy as np
from scipy.stats import kendalltau

import evidence
from words import constants, interval, setting, settings, spread, text

ALIGNMENTS = ("none", "weight_matching")


def interpolation(different, shared):
    """Numbers of section 3: the line between two models, for each pair of runs."""
    d, rows, longer, controls = settings(different), [], {}, []
    d["alphas"] = len(np.unique(different["alpha"]))
    table = stats.barriers({"different": different, "shared": shared})
    for start, t in (("different", different), ("shared", shared)):
        for key in dict.fromkeys(t[["pair", "setting_1", "setting_2"]].tolist()):
            pair, one, two = key
            own = t[(t["pair"] == pair) & (t["setting_1"] == one) & (t["setting_2"] == two)]
            about = {"pair": pair, "setting_1": stats.plain(one), "setting_2": stats.plain(two)}
            about["initialisation"] = start
            paths = [path for path in table if about.items() <= path.items()]
            found, cells = heights(paths)
            found["error"] = spread(100 * column(paths, "none", "error_barrier"), ".1f")
            rows.append([pair, setting(one), setting(two), start, *cells])
            d |= {f"{pair}.{start}.{name}": v for name, v in found.items() if one != two}
            if one == two:
                controls.append(paths)
                d[f"{pair}.control.removed"] = found["removed"]  # the last: of the larger setting
            elif start == "different":
                found, longer[pair] = beyond(own)
                d |= {f"{pair}.{name}": value for name, value in found.items()}
                d |= {f"{pair}.one": setting(one), f"{pair}.two": setting(two)}
                fixed = [name for name in ("lr", "batch_size") if name != pair]
                d |= {f"{pair}.{name}": setting(own[name][0]) for name in fixed}
    for alignment in ALIGNMENTS:
        means = [np.mean(column(paths, alignment, "test_barrier")) for paths in controls]
        if means:
            ends = {"low": min(means), "high": max(means)}
            d |= {f"control.{alignment}.{k}": text(v) for k, v in ends.items()}
    state = "always" if all(longer.values()) else "sometimes" if any(longer.values()) else "never"
    return d, {"barriers": rows}, {"longer": state}


def column(paths, alignment, name):
    """Return a column of those rows of stats.barriers that have this alignment."""
    return np.array([path[name] for path in paths if path["alignment"] == alignment])


def heights(paths):
    """Return the barriers of one pair of runs, {name: text}, and its cells of the table."""
    plain, matched = (column(paths, alignment, "test_barrier") for alignment in ALIGNMENTS)
    removed = column(paths, ALIGNMENTS[1], "test_removed")
    d = {"none": spread(plain), "weight_matching": spread(matched)}
    d |= {"removed": spread(removed, ".0%"), "removed.t": interval(removed, ".0%")}
    norms = [text(np.mean(column(paths, "none", f"weight_norm_{k}")), ".1f") for k in (1, 2)]
    far = [text(np.mean(column(paths, a, "distance")), ".1f") for a in ALIGNMENTS]
    share = d["removed"] if np.mean(plain) > 0.05 else "—"  # of next to nothing: no share
    return d, [d["none"], d["weight_matching"], share, ", ".join(norms), ", ".join(far)]


def beyond(t):
    """Return the loss of the two models and outside of them.

    Also: is the side with the lower loss that of the model with the longer weight vector?
    """
    t = t[t["alignment"] == "none"]
    d, mean = {}, {}
    for name, alpha in {"before": -1, "first": 0, "second": 1, "beyond": 2}.items():
        rows = t[abs(t["alpha"] - alpha) < 1e-6]
        mean[name] = rows["test_loss"].mean()
        spec = ".3f" if mean[name] < 1 else ".1f" if mean[name] < 100 else ",.0f"
        d[f"{name}.loss"] = spread(rows["test_loss"], spec)
        d[f"{name}.acc"] = spread(rows["test_acc"], ".1%")
    norms = [t[f"weight_norm_{k}"].mean() for k in (1, 2)]
    d |= {f"norm_{k}": text(norm, ".1f") for k, norm in enumerate(norms, 1)}
    return d, (mean["before"] < mean["beyond"]) == (norms[0] > norms[1])


def sensitivity(t, dataset, net):
    """Numbers of section 4: one network at many batch sizes, at two stops."""
    t = t[np.char.startswith(t["model"], net)]
    sizes = np.unique(t["batch_size"])
    d = settings(t) | {"sizes": len(sizes), "first": sizes[0], "last": sizes[-1]}
    equal, reached = (t[t["stop"] == stop] for stop in STOPS)
    d["epochs"] = text(max(equal["epoch"]), ".0f")
    d["early"], d["models"] = evidence.reached_early(equal, reached)
    source = constants("sensitivity")
    size = source["TRAIN_SIZE"][dataset]
    d |= {"target": source["TARGET"][dataset], "probe": text(source["PROBE"][dataset], ",")}
    d["checks"] = constants("train").get("CHECKS", 1)  # of the train loss in an epoch
    d["train_size"] = text(size, ",") if size else ""
    for stop in STOPS:
        rows = t[t["stop"] == stop]
        means = [rows["train_loss"][rows["batch_size"] == size].mean() for size in sizes]
        ends = {"first": sizes[0], "best": sizes[np.argmin(means)], "last": sizes[-1]}
        for name, size in ends.items():
            own = of_batch_size(rows[rows["batch_size"] == size])
            d |= {f"{stop}.{name}.{k}": v for k, v in own.items()}
        taus = [
            kendalltau(own["batch_size"], own["jacobian_norm_test"]).statistic
            for own in (rows[rows["seed"] == seed] for seed in np.unique(rows["seed"]))
        ]
        d[f"{stop}.jacobian.seeds"] = ", ".join(text(tau) for tau in taus)
    return d, {}, {}


def of_batch_size(own):
    """Return what the models of one batch size are like at one stop."""
    d = {"batch": own["batch_size"][0], "epoch": spread(own["epoch"], ".1f")}
    d["train_loss"] = spread(own["train_loss"], ".3f")
    d |= {m: spread(own[m], ".1%") for m in ("train_acc", "test_acc", "test_confidence")}
    for m in ("input_gradient", "jacobian"):
        ratio = own[f"{m}_norm_test"].mean() / own[f"{m}_norm_train"].mean()
        d[f"{m}.ratio"] = text(ratio, ".1f")
    return d
