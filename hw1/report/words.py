"""How the report writes a number, and what happens when the logs contradict one of its claims."""

import ast
import re
from pathlib import Path

from lab.stats import tau_interval

import numpy as np

HW1 = Path(__file__).resolve().parent.parent
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
OPTIMIZERS = {"sgd": "SGD", "momentum": "SGD with momentum", "adamw": "AdamW", "rmsprop": "RMSprop"}


class Contradiction(ValueError):
    """The logs contradict a claim of the report; the message is one sentence."""


def claim(holds, sentence):
    """Raise Contradiction unless the claim holds."""
    if not holds:
        raise Contradiction(f"The logs contradict the report, which says that {sentence}.")


def text(x, spec=".2f"):
    """Return a number as it is printed. Two specs differ from Python's: e (a power of ten), %."""
    if spec.endswith("e"):
        digits, power = f"{x:{spec}}".split("e")
        return digits.replace("-", "−") + "×10" + str(int(power)).translate(SUPERSCRIPT)
    return f"{x:{spec}}".replace("-", "−")


def spread(values, spec=".2f"):
    """Return "mean [lowest, highest]" over the seeds, or the one value; no line break inside."""
    values, power = np.asarray(values, float), ""
    if spec.endswith("e"):
        power = "×" + text(np.mean(values), spec).partition("×")[2]
        values = values / 10 ** np.floor(np.log10(np.mean(values)))
    parts = [text(f(values), spec.replace("e", "f")) for f in (np.mean, np.min, np.max)]
    return (bracketed(parts) if len(values) > 1 else parts[0]) + power


def bracketed(parts):
    """Return three texts as "a [b, c]", with no line break inside."""
    return "{}\u00a0[{},\u00a0{}]".format(*parts)


def tau(x, y, cluster):
    """Return the text of Kendall's tau-b with its 95% bootstrap interval, and the three numbers."""
    found = tau_interval(x, y, cluster)
    return bracketed([text(v) for v in found]), found


def setting(value):
    """Return the value of a setting, a number or a word, as it is printed."""
    return value if isinstance(value, str) else f"{value:g}"


def settings(t):
    """Return the settings in the first row of a log, and how many seeds the log has."""
    row, d = t[0], {"seeds": len(np.unique(t["seed"])), "params": text(t["n_params"][0], ",")}
    d["network"] = str(row["model"]).removeprefix("mlp-")
    d["optimizer"] = OPTIMIZERS.get(row["optimizer"], str(row["optimizer"]).capitalize())
    d |= {name: setting(row[name]) for name in ("lr", "batch_size")}
    for name in {"epoch", "train_size", "label_corruption"} & set(t.dtype.names):
        d[name] = text(row[name], ".0%" if name == "label_corruption" else ",")
    return d


def constants(script):
    """Return the literals that a script assigns to UPPER_CASE names."""
    found = {}
    for node in ast.parse((HW1 / f"{script}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def flag(about, name, default):
    """Return the value of a flag in the command that made a log, or the default."""
    found = re.search(rf"{name}[= ](\S+)", about["command"])
    return found[1] if found else default
