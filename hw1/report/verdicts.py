"""The verdict on each hypothesis: supported, contradicted, undecided or not tested.

There are two rules. A statement about every seed is supported if all its runs (models, pairs of
models, or sweeps of widths) lie on the predicted side of its line, contradicted if all lie on the
other side, and else undecided. For a trend or a correlation the effect is Kendall's tau-b over all
models. Its p-value permutes whole settings, because the seeds of one setting are not independent,
and is corrected by Holm (1979) for the tests of its family whose logs are there. The bootstrap
interval is shown but decides nothing: with so few settings it is too narrow.
"""

from lab.stats import holm, tau_interval

import numpy as np

from evidence import EVERY, NotTested
from hypotheses import HYPOTHESES
from permutation import LEVEL, permutation_p

VERDICTS = ("supported", "contradicted", "undecided", "not tested")
LABELS = {"en": VERDICTS, "zh": ("支持", "結果相反", "無法判定", "未檢驗")}
WORDS = {  # of an effect: grows, falls, neither, no log; of every seed: a word for each verdict
    ("trend", "en"): ("grows", "falls", "shows no clear trend", "has not been measured"),
    ("trend", "zh"): ("而上升", "而下降", "沒有明顯的升降", "的變化尚未測量"),
    ("correlation", "en"): (
        "correlates positively with",
        "correlates negatively with",
        "shows no clear correlation with",
        "was not compared with",
    ),
    ("correlation", "zh"): ("呈正相關", "呈負相關", "沒有明顯的相關", "的相關尚未測量"),
    (EVERY, "en"): ("in every run", "in no run", "in some runs only", "(not tested)"),
    (EVERY, "zh"): ("每次皆然", "沒有一次如此", "只有部分如此", "未檢驗"),
}
COLUMNS = [
    "name",
    "family",
    "statement",
    "source",
    "kind",
    "predicted_sign",
    "effect",
    "low",
    "high",
    "p",
    "p_holm",
]
COLUMNS += ["settings", "models", "verdict", "note", "replication"]  # the last: replication.py


def verdict(sign, effect, p):
    """Return the verdict on an effect with this corrected p-value, where `sign` is predicted."""
    if not p < LEVEL or effect == 0:
        return "undecided"
    return "supported" if np.sign(effect) == sign else "contradicted"


def verdict_on_seeds(sign, value, line):
    """Return the verdict on a statement that every value is above (+) or below (-) the line."""
    shown = (np.asarray(value) - line) * sign
    return "supported" if all(shown > 0) else "contradicted" if all(shown < 0) else "undecided"


def measured(h, logs):
    """Return the row of a hypothesis before the correction of p; its verdict may still be open."""
    row = dict.fromkeys(COLUMNS, "") | {"name": h.name, "family": h.name.partition(".")[0]}
    row |= {"statement": sentence(h, "supported", "en"), "source": h.source}
    row |= {"kind": h.kind, "predicted_sign": h.sign}
    try:
        data = h.data(logs)
    except NotTested as reason:
        return row | {"verdict": "not tested", "note": str(reason)}
    if h.kind == EVERY:
        value = np.asarray(data["value"], float)
        row |= {"effect": value.mean(), "low": value.min(), "high": value.max()}
        row |= {"models": len(value), "verdict": verdict_on_seeds(h.sign, **data)}
        return row | {"note": f"predicted {'above' if h.sign > 0 else 'below'} {data['line']:g}"}
    ok = np.isfinite(data["x"]) & np.isfinite(data["y"])
    x, y, setting = (np.asarray(data[name])[ok] for name in ("x", "y", "setting"))
    row |= dict(zip(("effect", "low", "high"), tau_interval(x, y, setting), strict=True))
    row |= {"settings": len(set(setting)), "models": len(x)}
    row |= {"p": permutation_p(x, y, setting, np.asarray(data["seed"])[ok])}
    return row | {"note": data.get("note", "")}


def decide(logs, hypotheses=HYPOTHESES, whole=False):
    """Return a row, {column: value}, for each hypothesis. logs: {(log, dataset): table}.

    In a statement about every seed, low and high are the lowest and the highest value; otherwise
    they are the ends of the 95% interval. whole: make Holm's correction as if the tests whose logs
    are missing had been made as well and had found nothing.
    """
    rows = [measured(h, logs) for h in hypotheses]
    for family in dict.fromkeys(row["family"] for row in rows):
        made = [row for row in rows if row["family"] == family and row["kind"] != EVERY]
        tests = [row for row in made if row["p"] != ""]
        rest = [1.0] * (len(made) - len(tests)) if whole else []
        for row, p in zip(tests, holm([row["p"] for row in tests] + rest), strict=False):
            row["p_holm"] = p
            row["verdict"] = verdict(row["predicted_sign"], row["effect"], p)
    return rows


def verb(h, found, language):
    """Return the words for a hypothesis that follow the verdict that was found: "grows"."""
    place = VERDICTS.index(found)
    if h.kind != EVERY and h.sign < 0 and place < 2:
        place = 1 - place  # a prediction of the sign - that is supported: it falls
    return WORDS[h.kind, language][place]


def sentence(h, found, language):
    """Return the hypothesis as a sentence whose words follow the verdict that was found."""
    words = h.english if language == "en" else h.chinese
    return words.format(verb=verb(h, found, language))
