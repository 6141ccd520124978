"""Do other seeds lead to the same verdicts? The folder replication/ beside the logs answers.

Its logs were made by the same commands, with seeds that no earlier run had and on another
processor, after every statement and threshold had been fixed. The verdicts on them follow the same
rules. Where some logs of a family are missing, Holm's correction also counts the tests that these
would have allowed. Verdicts are opposite if one set of logs supports what the other contradicts.
"""

from collections import Counter

from lab.tables import LOGS, described, read

import verdicts
from found import DECIDED, effect, family_head, family_row

FOLDER = "replication"
COUNTED = {  # of the statements that both sets of logs can test
    "tested": "tested with both",
    "alike": "decided alike",
    "undecided": "undecided in both",
    "once": "decided in one only",
    "opposite": "opposite verdicts",
}


def load(logs, wanted):
    """Return ({log: table}, the names of the machines) of those logs that are there."""
    tables, machines = {}, {}
    for log in wanted:
        path = logs / FOLDER / f"{'_'.join(log)}.csv"
        if path.exists():
            tables[log] = read(path)
            machines[described(path)["device"]] = True
    return tables, list(machines)


def outcome(verdict, other):
    """Return which of COUNTED, beside "tested", a statement with these two verdicts is."""
    if verdict == other:
        return "alike" if verdict in DECIDED else "undecided"
    return "opposite" if {verdict, other} == set(DECIDED) else "once"


def compare(logs, wanted, rows):
    """Add to each row of `rows` the verdict that the replication leads to.

    Return the numbers, the table of README.md, and each hypothesis's effect in the replication.
    logs: the folder of the logs that led to `rows`, the verdicts; wanted: the logs to look for.
    """
    tables, machines = load(logs, wanted)
    counts, gained, effects = {name: Counter() for name in COUNTED}, 0, {}
    for row, other in zip(rows, verdicts.decide(tables, whole=True), strict=True):
        row["replication"] = other["verdict"]
        effects[row["name"]] = effect(other)
        if "not tested" not in (row["verdict"], other["verdict"]):
            for name in ("tested", outcome(row["verdict"], other["verdict"])):
                counts[name][row["family"]] += 1
            gained += row["verdict"] == "undecided" != other["verdict"]
    numbers = {name: found.total() for name, found in counts.items()} | {"gained": gained}
    table = [family_head("en"), *(family_row(COUNTED[name], counts[name]) for name in COUNTED)]
    seeds = sorted({int(seed) for found in tables.values() for seed in found["seed"]})
    main = [log for log in wanted if LOGS[log[0]] == log[0]]  # others come with one of these
    missing = ["_".join(log) for log in main if log not in tables]
    about = {"seeds": ", ".join(map(str, seeds)), "device": "; ".join(machines)}
    return numbers | about | {"missing": ", ".join(missing)}, table, effects
