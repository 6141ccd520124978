"""What we found: how many hypotheses have which verdict, and which of them stand in the tables.

figures/verdicts.csv has all of them. The tables of the report and of README.md have those that
`stands_in_table` names, by a rule that was fixed before the run, and the contradicted ones first;
README.md has all others that are contradicted as well.

earlier.csv has what the same rules find in earlier and smaller runs: in the logs of commit f91c610
and, for the CNN on CIFAR-10, in that of fffb52e. Sharpness was measured at one radius there; the
statements about measures that may predict are tested with it. Families have fewer tests there.
"""

import re
from collections import Counter
from pathlib import Path

from lab.stats import STOPS
from lab.tables import read

from hypotheses import HYPOTHESES, NETWORKS
from permutation import LEVEL
from verdicts import EVERY, LABELS, VERDICTS, sentence, verb
from words import alike

FAMILIES = {  # the first part of a hypothesis's name, in both languages
    "labels": ("random labels", "隨機標籤"),
    "size": ("number of parameters", "參數量"),
    "line": ("line between models", "模型間的連線"),
    "sensitivity": ("sensitivity", "敏感度"),
    "sharpness": ("sharpness", "銳利度"),
    "predictors": ("which measure predicts", "何者能預測"),
}
EARLIER = Path(__file__).with_name("earlier.csv")
ORDER = ("contradicted", "undecided", "supported", "not tested")
DECIDED = VERDICTS[:2]
TAUS = {h.name for h in HYPOTHESES if h.kind != EVERY}  # whose effect is Kendall's tau
RELATIONS = ("input_gradient_norm_test.batch_size", "jacobian_norm_test.batch_size")
RELATIONS += ("test_acc.batch_size", "jacobian_norm_test.loss_gap", "jacobian_norm_test.acc_gap")
MAIN = ("jacobian_norm_test", "hessian_norm", "test_acc")  # whose trend with the batch size stands


def stands_in_table(row):
    """Return whether a hypothesis stands in the tables.

    The tables have every statement about every seed except those about confidence, and the trends
    with the fraction of shuffled labels. At equal train loss, and only there, they also have the
    trends of MAIN with the batch size and each predictor with a decided verdict.
    """
    name, equal = row["name"], ".train_loss." in row["name"]
    if row["family"] == "predictors":
        return equal and row["verdict"] in DECIDED
    if row["kind"] == EVERY:
        return not name.endswith(".overconfident")
    main = any(name.endswith(f".{measure}.batch_size") for measure in MAIN)
    return row["family"] == "labels" or (equal and main)


def mark(row):
    """Return the mark of a hypothesis on which other seeds have another verdict, or ""."""
    return "" if row["replication"] in (row["verdict"], "not tested") else "†"


def effect(row):
    """Return the effect of a hypothesis as "effect [low, high]", "" if it was not tested."""
    numbers = [row[name] for name in ("effect", "low", "high")]
    if "" in numbers:
        return ""
    return alike(numbers, ".2f" if row["name"] in TAUS else None)


def cited(h):
    """Return the source of a hypothesis as the tables name it: Keskar 2017."""
    return re.sub(r",? arXiv [\d.]+", "", h.source).replace(" et al.", "")


def table(rows, language):
    """Return the cells of "What we found": verdict, what was found, source, effect [interval]."""
    cells = []
    both = [pair for pair in zip(HYPOTHESES, rows, strict=True) if stands_in_table(pair[1])]
    for h, row in sorted(both, key=lambda pair: ORDER.index(pair[1]["verdict"])):
        words = sentence(h, row["verdict"], language) + mark(row)
        cells.append([label(row, language), words, cited(h), effect(row)])
    return cells


def predicted(rows):
    """Return the cells of README.md's table: what `table` has, and all other contradicted ones.

    The columns are: prediction, source, what was found, effect, verdict, verdict with other seeds.
    """
    cells = []
    for h, row in zip(HYPOTHESES, rows, strict=True):
        if stands_in_table(row) or row["verdict"] == "contradicted":
            shown = verb(h, row["verdict"], "en").strip("()").removesuffix(" with")
            words = [sentence(h, "supported", "en"), cited(h), shown]
            both = [part for part in (effect(row), row["note"].replace(" -", " −")) if part]
            cells.append([*words, "; ".join(both), row["verdict"], row["replication"]])
    return sorted(cells, key=lambda cell: ORDER.index(cell[4]))


def label(row, language):
    """Return the verdict of a row in words."""
    return LABELS[language][VERDICTS.index(row["verdict"])]


def earlier():
    """Return what earlier runs found, {name of the hypothesis: row}."""
    table = read(EARLIER)
    return {row["name"]: dict(zip(table.dtype.names, row.tolist(), strict=True)) for row in table}


def changed(row, then):
    """Return whether a hypothesis is tested now and has another verdict than it had then."""
    return then["verdict"] != row["verdict"] != "not tested"


def differs(rows, language):
    """Return the cells of what an earlier run had decided otherwise.

    They are what is found now, the verdict now and then, and the effect then.
    """
    cells, before = [], earlier()
    for h, row in zip(HYPOTHESES, rows, strict=True):
        then = before.get(h.name, row)
        if stands_in_table(row) and then["verdict"] in DECIDED and changed(row, then):
            both = [label(r, language) for r in (row, then)]
            cells.append([sentence(h, row["verdict"], language), *both, effect(then)])
    return cells


def family_head(language):
    """Return the head of a table with a column for each family."""
    place = ("en", "zh").index(language)
    return ["", *(names[place] for names in FAMILIES.values()), ("all", "合計")[place]]


def family_row(words, found):
    """Return the row under that head of a Counter of families."""
    return [words, *(found[family] for family in FAMILIES), found.total()]


def counts(rows, language):
    """Return how many hypotheses of each family have which verdict: a head, and a row for each."""
    cells = [family_head(language)]
    for verdict, words in zip(VERDICTS, LABELS[language], strict=True):
        found = Counter(row["family"] for row in rows if row["verdict"] == verdict)
        cells.append(family_row(words, found))
    return cells


def summary(rows):
    """Return how many hypotheses there are, how many of each verdict, and the level of the rule.

    Also: how many are in earlier.csv, how many of these became decided, and how many undecided.
    """
    found = Counter(row["verdict"] for row in rows)
    numbers = {verdict: found[verdict] for verdict in VERDICTS}
    before = earlier()
    pairs = [(row, before[row["name"]]) for row in rows if row["name"] in before]
    newly = sum(then["verdict"] == "undecided" and changed(row, then) for row, then in pairs)
    lost = sum(row["verdict"] == "undecided" and changed(row, then) for row, then in pairs)
    numbers |= {"all": len(rows), "level": LEVEL, "earlier": len(pairs)}
    return numbers | {"newly": newly, "lost": lost}


def taus(rows):
    """Return the cells of the table of section 4: each tau and whether it is decided.

    A row for each relation; columns: the three networks, each after equal epochs and at equal train
    loss.
    """
    of = {row["name"]: row for row in rows}
    cells = []
    for relation in RELATIONS:
        columns = [
            f"sensitivity.{data}.{net}.{stop}.{relation}"
            for data, net, _ in NETWORKS
            for stop in STOPS
        ]
        own = [of[name] for name in columns]
        shown = [(effect(row) + mark(row), row["verdict"] in DECIDED) for row in own]
        cells.append([relation, *shown])
    return cells
