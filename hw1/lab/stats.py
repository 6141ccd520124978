"""The statistics that the figures and the report share."""

import itertools

import numpy as np

STOPS = ("epochs", "train_loss")  # when a model was measured
SHARPNESS = ["hessian_norm", "sharpness", "sharpness_ball", "sharpness_box"]
MEASURES = {  # of each log, what might predict how well a model generalises
    "sensitivity": ["train_loss", "input_gradient_norm_test", "jacobian_norm_test"],
}
ADAPTIVE = "sharpness_adaptive"  # not in every log
MEASURES["sharpness"] = [*MEASURES["sensitivity"], "parameter_gradient_norm", *SHARPNESS, ADAPTIVE]
TARGETS = {  # what a measure might predict: a column, less another one
    "test_loss": ("test_loss",),
    "loss_gap": ("test_loss", "train_loss"),
    "acc_gap": ("train_acc", "test_acc"),
}
EPSILON = 5e-4  # the radius of the sharpness that is compared with other measures
LEARNT = 0.99  # train accuracy of a network that has learnt its labels
FITTED = 0.999  # train accuracy of a network that counts as fitting its training set
FEWEST = 5  # settings from which a bootstrap interval is drawn


def last_epoch(t):
    """Return the last row of each run: the end of training, never its best epoch."""
    names = ("train_size", "label_corruption", "width", "n_params", "seed")
    names = [c for c in names if c in t.dtype.names]
    last = {tuple(map(str, t[names][i])): i for i in np.argsort(t["epoch"], kind="stable")}
    return t[sorted(last.values())]


def epochs_to_fit(t):
    """Return the corruption of each run and the first epoch in which it has LEARNT, or nan."""
    run_of = t[["label_corruption", "seed"]]
    runs = np.unique(run_of)
    return runs["label_corruption"], np.array([first_fit(t[run_of == run]) for run in runs])


def first_fit(run):
    """Return the first epoch of a run's rows with a train accuracy of LEARNT, or nan."""
    return min(run["epoch"][run["train_acc"] >= LEARNT], default=np.nan)


def barrier(alpha, loss):
    """Return max over 0 <= alpha <= 1 of L(alpha) - ((1 - alpha) L(0) + alpha L(1)), in nats.

    (Frankle et al. 2020, arXiv 1912.05671; against the straight line, as Entezari et al. 2022.)
    """
    inside = [i for i in np.argsort(alpha) if -1e-6 < alpha[i] < 1 + 1e-6]
    if len(inside) < 2 or not np.allclose(alpha[[inside[0], inside[-1]]], (0, 1), atol=1e-6):
        raise ValueError("a path lacks alpha = 0 or alpha = 1, so its barrier is unknown")
    alpha, loss = alpha[inside], loss[inside]
    return np.max(loss - (1 - alpha) * loss[0] - alpha * loss[-1])


def barriers(logs):
    """Return a row for each pair, two settings, initialisation, alignment and seed: its barriers.

    logs: {"different": table, "shared": table}, or one of the two. The barriers are in train loss,
    test loss and test error. A row also has the norm of each model's weights and their distance,
    nan in a log without them, and for both losses the share of the barrier that its alignment
    removes; nan where there is none.
    """
    rows, lengths = [], ("weight_norm_1", "weight_norm_2", "distance")
    for start in sorted(logs, reverse=True):  # shared before different
        t = logs[start]
        for key in np.unique(t[["pair", "setting_1", "setting_2", "seed"]]):
            path = t[t[list(key.dtype.names)] == key]
            pair, one, two, seed = key.tolist()
            about = {"pair": pair, "setting_1": plain(one), "setting_2": plain(two)}
            runs = {a: path[path["alignment"] == a] for a in np.unique(path["alignment"])}
            high = {
                (a, split): barrier(run["alpha"], run[f"{split}_loss"])
                for (a, run), split in itertools.product(runs.items(), ("train", "test"))
            }
            for a, run in runs.items():
                row = about | {"initialisation": start, "alignment": a, "seed": seed}
                row |= {f"{split}_barrier": high[a, split] for split in ("train", "test")}
                row["error_barrier"] = barrier(run["alpha"], 1 - run["test_acc"])
                for split in ("train", "test"):
                    whole = high.get(("none", split), 0)
                    row[f"{split}_removed"] = 1 - high[a, split] / whole if whole else np.nan
                row |= {c: run[c][0] if c in t.dtype.names else np.nan for c in lengths}
                rows.append(row)
    return rows


def along(t, pair, ends, alignment):
    """Return the rows of a log on the lines between two settings, for one alignment."""
    t = t[(t["pair"] == pair) & (t["alignment"] == alignment)]
    both = t[["setting_1", "setting_2"]].tolist()
    return t[[(plain(one), plain(two)) == ends for one, two in both]]


def plain(setting):
    """Return a setting as it is written: a number without needless zeros, or a word."""
    return setting if isinstance(setting, str) else f"{setting:.12g}"


def tau_interval(x, y, cluster, draws=10_000):
    """Return Kendall's tau-b of x and y and its 95% bootstrap interval: (tau, low, high).

    cluster: the setting of each row. The bootstrap draws whole settings, because the seeds of one
    setting are not independent; a row is never compared with another copy of its own setting. With
    fewer than FEWEST settings there is no interval: low and high are nan.
    """
    n = max(len(set(cluster)), 1)
    member = (np.unique(cluster, return_inverse=True)[1][:, None] == range(n)).astype(float)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), draws)
    counts = np.r_[np.ones((1, n)), counts]  # (1 + draws, n): how often a setting is drawn
    sx, sy = np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y))
    pairs = []
    for signs in (sx * sy, sx**2, sy**2):
        sums = member.T @ signs @ member  # (n, n): over the rows of two settings
        own = np.diag(sums)
        pairs.append(np.sum(counts @ (sums - np.diag(own)) * counts, 1) + counts @ own)
    tau = pairs[0] / np.sqrt(np.where(pairs[1] * pairs[2] > 0, pairs[1] * pairs[2], np.nan))
    drawn = tau[1:][np.isfinite(tau[1:])]
    if n < FEWEST or not drawn.size:
        return tau[0], np.nan, np.nan
    return tau[0], *np.quantile(drawn, (0.025, 0.975))


def holm(p):
    """Return the p-values after Holm's correction for as many tests (Holm 1979)."""
    order = np.argsort(p)
    corrected = np.array(p, float)
    corrected[order] = np.maximum.accumulate(corrected[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)


def one_epsilon(t):
    """Return the rows of each model at one radius, 5e-4 if there is one: a model counts once."""
    if "epsilon" not in t.dtype.names:
        return t
    epsilon = t["epsilon"]
    return t[epsilon == (EPSILON if EPSILON in epsilon else epsilon[0])]


def correlations(logs):
    """Return a row for each log, network, target, stop and measure: tau of measure and target.

    logs: {"sensitivity": table, "sharpness": table}, or one of the two. Target: the test loss, or
    the gap between train and test in loss or in accuracy (Jiang et al. 2020, arXiv 1912.02178).
    Models that diverged are left out; the column models counts the others.
    """
    rows = []
    for (log, t), target in itertools.product(logs.items(), TARGETS):
        t, cluster = one_epsilon(t), "approach" if log == "sharpness" else "batch_size"
        (whole, *less), names = TARGETS[target], [m for m in MEASURES[log] if m in t.dtype.names]
        goal = t[whole] - sum(t[column] for column in less)
        for model, stop, measure in itertools.product(dict.fromkeys(t["model"]), STOPS, names):
            ok = (t["model"] == model) & (t["stop"] == stop) & np.isfinite(t[measure] + goal)
            tau, low, high = tau_interval(t[measure][ok], goal[ok], t[cluster][ok])
            row = {"log": log, "model": model, "stop": stop, "measure": measure}
            row["epsilon"] = t["epsilon"][0] if measure.startswith("sharpness") else np.nan
            row |= {"target": target, "tau": tau, "low": low, "high": high}
            rows.append(row | {"models": ok.sum()})
    return rows
