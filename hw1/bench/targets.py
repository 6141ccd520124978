"""What the benchmark is to reach, and what its measurements come to."""

from statistics import median

SUMMARY = ("comparison", "ours", "theirs", "value", "kind", "sense", "target")
TARGETS = {  # to be reached on two cores, without --quick
    "start": ("seconds", "at most", 4), "products_512": ("ours / limit", "at most", 1.35),
    "mlp_epoch": ("theirs / ours", "at least", 5), "hessian_norm": ("theirs / ours", "at least", 2),
    "cnn_epoch": ("theirs / ours", "at least", 3), "input_norms": ("theirs / ours", "at least", 50),
    "two_runs": ("theirs / ours", "at least", 1.3), "instructions": ("ours / auto", "at most", 1.1),
    "products_64": ("ours / limit", "at most", 2), "memory_jobs8_cifar10": ("MB", "at most", 6000),
}  # fmt: skip


def summary(rows):
    """Return, for each comparison with a target, the medians, what they come to, and the target."""
    table = []
    for name in dict.fromkeys(row["comparison"] for row in rows):
        mine = [row for row in rows if row["comparison"] == name]
        sides = dict.fromkeys(row["side"] for row in mine)
        medians = {s: median(r["seconds"] for r in mine if r["side"] == s) for s in sides}
        ours, theirs = medians.pop("ours"), min(medians.values(), default=None)
        kind, sense, target = TARGETS.get(name.removesuffix("_cuda"), ("", "", ""))
        value = {"seconds": ours, "MB": max(row["peak_mb"] or 0 for row in mine)}.get(kind)
        if theirs and kind:
            value = theirs / ours if kind == "theirs / ours" else ours / theirs
        if value:  # otherwise nothing to compare with is installed, or memory cannot be read
            numbers = name, ours, theirs, value, kind, sense, target
            table.append(dict(zip(SUMMARY, numbers, strict=True)))
    return table
