"""How the report says a number, and what it does when the logs contradict a claim."""

import ast
from pathlib import Path

import numpy as np

from lab.stats import tau_interval

HW1 = Path(__file__).resolve().parent.parent
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Contradiction(ValueError):
    """The logs say otherwise than the report would; the message is one sentence."""


def claim(holds, sentence):
    if not holds:
        raise Contradiction(f"The logs contradict the report, which says that {sentence}.")


def text(x, spec=".2f"):
    """A number as it is printed; specs beside Python's own: e (a power of ten), % with no space."""
    if spec.endswith("e"):
        digits, power = f"{x:{spec}}".split("e")
        return digits.replace("-", "−") + "×10" + str(int(power)).translate(SUPERSCRIPT)
    return f"{x:{spec}}".replace("-", "−")


def spread(values, spec=".2f"):
    """mean [lowest, highest] over the seeds, with no line break inside; or the one value."""
    values, power = np.asarray(values, float), ""
    if spec.endswith("e"):
        power = "×" + text(np.mean(values), spec).partition("×")[2]
        values = values / 10 ** np.floor(np.log10(np.mean(values)))
    parts = [text(f(values), spec.replace("e", "f")) for f in (np.mean, np.min, np.max)]
    shown = "{}\u00a0[{},\u00a0{}]".format(*parts) if len(values) > 1 else parts[0]
    return shown + power


def tau(x, y, cluster):
    """Kendall's tau-b with its 95% bootstrap interval over settings: its text, and all three."""
    found = tau_interval(x, y, cluster)
    return "{}\u00a0[{},\u00a0{}]".format(*(text(v) for v in found)), found


def constants(script):
    """The literals that a script assigns to UPPER_CASE names."""
    found = {}
    for node in ast.parse((HW1 / f"{script}.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found
