"""How the report writes a number and the settings of an experiment."""

import ast
import decimal
import re

from lab import HW1

import numpy as np
from scipy.stats import t as student

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
OPTIMIZERS = {"sgd": "SGD", "momentum": "SGD with momentum", "adamw": "AdamW", "rmsprop": "RMSprop"}
ENGLISH = {"lr": "learning rate", "batch_size": "batch size", "weight_decay": "weight decay"}
CHINESE = {"lr": "學習率", "batch_size": "批次大小"}


def text(x, spec=".2f"):
    """Return a number as it is printed: a true minus, powers of ten, — if it is not finite."""
    if not np.isfinite(x):
        return "—"
    if spec.endswith("e"):
        digits, power = f"{x:{spec}}".split("e")
        return digits.replace("-", "−") + "×10" + str(int(power)).translate(SUPERSCRIPT)
    return f"{x:{spec}}".replace("-", "−")


def at_most(x, spec):
    """Return the least number that is printed with so many digits and is not below x."""
    if not np.isfinite(x):
        return text(x)
    digits, up = int(re.search(r"\d+", spec)[0]), decimal.ROUND_CEILING
    exact = decimal.Decimal(str(float(x)))  # as it is written: 0.1 is a little more in binary
    if spec.endswith("e"):
        found = decimal.Context(prec=digits + 1, rounding=up).create_decimal(exact)
    else:  # %
        found = exact.quantize(decimal.Decimal(1).scaleb(-digits - 2), rounding=up)
    return text(float(found), spec)


def spread(values, spec=".2f"):
    """Return "mean [lowest, highest]" over the seeds, or the one value; no line break inside."""
    values, power = np.asarray(values, float), ""
    if spec.endswith("e") and 0 < np.mean(values) < np.inf:
        power = "×" + text(np.mean(values), spec).partition("×")[2]
        values = values / 10.0 ** int(f"{np.mean(values):{spec}}".partition("e")[2])
    parts = [text(f(values), spec.replace("e", "f")) for f in (np.mean, np.min, np.max)]
    return (bracketed(parts) if len(values) > 1 else parts[0]) + power


def bracketed(parts):
    """Return three texts as "a [b, c]", with no line break inside."""
    return "{}\u00a0[{},\u00a0{}]".format(*parts)


def alike(numbers, spec=None):
    """Return three numbers as "a [b, c]", all with the digits that the largest one needs."""
    largest = max(map(abs, numbers))
    digits = ",.0f" if largest >= 100 else ".1f" if largest >= 10 else ".3f"
    return bracketed([text(x, spec or (".0e" if 0 < largest < 1e-3 else digits)) for x in numbers])


def half_width(values):
    """Return half the width of the 95% t interval of the mean; nan for a single seed."""
    if len(values) < 2:
        return np.nan
    return student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))


def interval(values, spec=".2f"):
    """Return "mean ± half width" of the 95% t interval of the mean over the seeds."""
    return f"{text(np.mean(values), spec)}\u00a0±\u00a0{text(half_width(values), spec)}"


def compared(first, second):
    """Return "more", "less" or "unclear": is `first` above `second`, seed by seed?

    It is if the 95% t interval of the differences excludes 0.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    mean, half = np.mean(difference), half_width(difference)
    return "more" if mean > half else "less" if mean < -half else "unclear"


def setting(value):
    """Return the value of a setting, a number or a word, as it is printed."""
    return value if isinstance(value, str) else f"{value:g}"


def optimizer(name):
    """Return the name of an optimizer as it is printed."""
    return OPTIMIZERS.get(name, str(name).capitalize())


def approaches(t, changes, language):
    """Return each approach in words: its setting, and the optimizer or rate that comes with it.

    changes: {approach: by how much it multiplies the Hessian's norm}, of all but the batch sizes.
    The result has two more entries: "approaches" lists the approaches of `changes` in words, and
    "changes" lists them with their factors.
    """
    names = ENGLISH | (CHINESE if language == "zh" else {})
    found = {}
    for approach in np.unique(t["approach"]):
        row, (name, _, value) = t[t["approach"] == approach][0], approach.partition("=")
        words = f"{names.get(name, name)} {value}"
        if name == "optimizer":
            rate = f"{names['lr']} {setting(row['lr'])}"
            words = optimizer(value) + {"en": f", {rate}", "zh": f"（{rate}）"}[language]
        adamw = {"en": " (AdamW)", "zh": "（AdamW）"}[language]
        found[approach] = words + adamw * (row["optimizer"] == "adamw")
    form = {"en": "{} by {}", "zh": "{}為 {} 倍"}[language]
    lists = {"approaches": [found[name] for name in changes]}
    lists["changes"] = [form.format(found[name], factor) for name, factor in changes.items()]
    return found | {k: {"en": "; ", "zh": "；"}[language].join(v) for k, v in lists.items()}


def settings(t):
    """Return the settings in the first row of a log, and how many seeds the log has."""
    row, d = t[0], {"seeds": len(np.unique(t["seed"])), "params": text(t["n_params"][0], ",")}
    d["network"] = str(row["model"]).removeprefix("mlp-")
    d["optimizer"] = optimizer(row["optimizer"])
    d |= {name: setting(row[name]) for name in ("lr", "batch_size")}
    for name in {"epoch", "train_size", "label_corruption"} & set(t.dtype.names):
        d[name] = text(row[name], ".0%" if name == "label_corruption" else ",.6g")
    return d


def script(name):
    """Return the syntax tree of a script of hw1/."""
    return ast.parse((HW1 / f"{name}.py").read_text(encoding="utf-8"))


def constants(name):
    """Return the literals that a script assigns to UPPER_CASE names."""
    found = {}
    for node in script(name).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def schedule(name):
    """Return the schedule of the learning rate with which a script trains, e.g. "linear"."""
    for node in ast.walk(script(name)):
        if isinstance(node, ast.keyword) and node.arg == "schedule":
            return ast.literal_eval(node.value)
    return constants("train")["SETTING"]["schedule"]


def flag(about, name, default):
    """Return the value of a flag in the command that made a log, or the default."""
    found = re.search(rf"{name}[= ](\S+)", about["command"])
    return found[1] if found else default
