"""Everything that the text of the report takes from the logs, in one dict that becomes facts.json.

- `numbers`, {name: text}, and `tables`, {name: rows}, which both languages share;
- `states`, {name: state}: the verdict on each hypothesis, and other choices between wordings;
- `words`, {language: {name: words}}: of each hypothesis its verb, and the names of the approaches;
  in numbers, states and words, "again." before a hypothesis's name stands for the replication;
- `found`, `differs` and `counts`, {language: rows}: the tables of the report;
- `predicted` and `replication`, rows: tables of README.md.

Settings that no log holds are read from the constants of the script that used them.
"""

import shlex
import warnings

from lab import HW1
from lab.tables import LOGS, described, read, reason

import bonus
import costs
import fitting
import flatness
import found
import replication
import verdicts
from hypotheses import HYPOTHESES, SIZES
from words import approaches, constants, flag

WANTED = [
    ("random_labels", "mnist"),
    ("param_sweep", "cifar10"),
    ("param_sweep", "mnist"),
    ("interpolation", "mnist"),
    ("interpolation_shared", "mnist"),
    ("interpolation", "cifar10"),
    ("interpolation_shared", "cifar10"),
    ("sensitivity", "mnist"),
    ("sensitivity", "cifar10"),
    ("sharpness", "mnist"),
    ("reparametrization", "mnist"),
]
SECTIONS = [  # name, function, the main log, and what else the function takes; a log is its table
    ("rl", fitting.random_labels, ("random_labels", "mnist")),
    ("small", fitting.param_sweep, ("param_sweep", "cifar10"), SIZES[0]),
    ("whole", fitting.param_sweep, ("param_sweep", "cifar10"), SIZES[1]),
    ("noise", fitting.param_sweep, ("param_sweep", "mnist"), SIZES[0]),
    ("path", flatness.interpolation, ("interpolation", "mnist"), ("interpolation_shared", "mnist")),
    (
        "cpath",
        flatness.interpolation,
        ("interpolation", "cifar10"),
        ("interpolation_shared", "cifar10"),
    ),
    ("sens", flatness.sensitivity, ("sensitivity", "mnist"), "mnist", "mlp"),
    ("conv.mlp", flatness.sensitivity, ("sensitivity", "cifar10"), "cifar10", "mlp"),
    ("conv.cnn", flatness.sensitivity, ("sensitivity", "cifar10"), "cifar10", "cnn"),
    ("sharp", bonus.sharpness, ("sharpness", "mnist")),
    ("scale", bonus.reparametrization, ("reparametrization", "mnist")),
]
LANGUAGES = ("en", "zh")
NUMBER = (int, float)
ABOUT = {  # what the report takes from the .json of a log
    **dict.fromkeys(("command", "device", "git_commit", "data_note"), str),
    **dict.fromkeys(("core_seconds", "seconds", "core_gflops", "jobs"), NUMBER),
    "versions": dict,
}
WORDS = {"dataset", "model", "optimizer", "pair", "setting_1", "setting_2", "alignment", "stop"}
WORDS |= {"approach"}  # the columns that need not hold numbers
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, Warning)


class MissingLogError(ValueError):
    """A log is missing, incomplete or damaged; the message names it and what makes it."""


def command(log, dataset, logs=HW1 / "logs"):
    """Return the command that makes a log in the folder `logs`."""
    default = "cifar10" if log == "param_sweep" else "mnist"
    flags = f" --dataset {dataset}" * (dataset != default) + out(logs)
    return f"python hw1/{LOGS[log]}.py{flags}"


def out(place):
    """Return the flag --out with which a command writes into `place`, OUT/logs or OUT/figures.

    A folder of another name is filled by hand, from whatever DIR.
    """
    place = place.absolute()
    if place.name not in ("logs", "figures"):
        return " --out DIR"
    return "" if place.parent == HW1 else f" --out {shlex.quote(str(place.parent))}"


def load(logs):
    """Return ({log: table}, {log: its .json}), where a log is (name, data set)."""
    tables, about = {}, {}
    for log, dataset in WANTED:
        path, makes = logs / f"{log}_{dataset}.csv", f"`{command(log, dataset, logs)}`"
        if not (path.exists() and path.with_suffix(".json").exists()):
            raise MissingLogError(f"{path} or its .json is missing: {makes} makes both.")
        try:
            about[log, dataset] = described(path)
            tables[log, dataset] = read(path)
        except ValueError as error:
            raise MissingLogError(f"{path} is damaged ({error}): {makes} makes it anew.") from error
        if about[log, dataset].get("quick", False):
            raise MissingLogError(f"{path} is of a quick run: {makes} makes a full one.")
        for name, kind in ABOUT.items():
            value = about[log, dataset].get(name)
            if not isinstance(value, kind) or (kind is NUMBER and not abs(value) < 1e15):
                file = path.with_suffix(".json")
                raise MissingLogError(f"{file} is damaged: {makes} makes one with {name} in it.")
        for name in set(tables[log, dataset].dtype.names) - WORDS:
            if tables[log, dataset][name].dtype.kind not in "if":
                raise MissingLogError(f"{path} is damaged: a row has no number in column {name}.")
    return tables, about


def guarded(path, makes, function, *arguments):
    """Return function(*arguments); raise MissingLogError, which names the log, if that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as the mean of no rows
            return function(*arguments)
    except DAMAGE as error:
        why = reason(error)
        no_column = why.startswith("it has no column")
        lacks = why.removeprefix("it ") if no_column else f"lacks what the report needs ({why})"
        raise MissingLogError(f"{path} {lacks}: `{makes}` makes a full one.") from error


def _words(language, sharp, rows):
    """Return the verbs of each hypothesis and the names of the approaches, {name: words}."""
    words = approaches(sharp, bonus.changes(sharp), language)
    for h, row in zip(HYPOTHESES, rows, strict=True):
        words[h.name] = verdicts.verb(h, row["verdict"], language)
        words[f"again.{h.name}"] = verdicts.verb(h, row["replication"], language)
    return words


def _sections(logs, t, about):
    """Return what the function of each of SECTIONS gives, by the name of the section."""
    parts = {}
    for part, function, log, *more in SECTIONS:
        arguments = [t[log], *(t.get(m, m) for m in more)]
        path = logs / f"{'_'.join(log)}.csv"
        parts[part] = guarded(path, command(*log, logs), function, *arguments)
    for part, dataset in (("path", "mnist"), ("cpath", "cifar10")):
        default = constants("interpolation")["EPOCHS"][dataset]
        parts[part][0]["epochs"] = flag(about["interpolation", dataset], "--epochs", default)
    if (size := flag(about["sensitivity", "cifar10"], "--train-size", "")).isdecimal():
        for part in ("conv.mlp", "conv.cnn"):
            parts[part][0]["train_size"] = f"{int(size):,}"
    return parts


def collect(logs):
    """Return all facts of the logs in a folder, and a row for each hypothesis (see verdicts.py)."""
    t, about = load(logs)
    every = f"bash hw1/run_all.sh{out(logs)}"
    rows = guarded(logs, every, verdicts.decide, t)
    told, repeated, effects = guarded(
        logs / replication.FOLDER,
        "bash hw1/run_all.sh --seeds 3 4 5 --out DIR",
        *(replication.compare, logs, WANTED, rows),
    )
    parts = {"run": guarded(logs, every, costs.run_details, about)}
    parts |= {"replication": (told, {}, {}), "pred": (bonus.predictors(rows), {}, {})}
    parts |= _sections(logs, t, about)
    numbers, tables, states = (
        {
            f"{part}.{name}": value
            for part, dicts in parts.items()
            for name, value in dicts[k].items()
        }
        for k in range(3)
    )
    numbers |= {row["name"]: found.effect(row) for row in rows}
    numbers |= {f"earlier.{name}": found.effect(row) for name, row in found.earlier().items()}
    numbers |= {f"count.{name}": value for name, value in found.summary(rows).items()}
    numbers |= {f"again.{name}": effect for name, effect in effects.items()}
    states |= {row["name"]: row["verdict"] for row in rows}
    states |= {f"again.{row['name']}": row["replication"] for row in rows}
    states["replication"] = "yes" if told["tested"] else "no"
    return {
        "numbers": {name: str(value) for name, value in numbers.items()},
        "tables": tables | {"sens.taus": found.taus(rows)},
        "states": states,
        "words": {
            language: _words(language, t["sharpness", "mnist"], rows) for language in LANGUAGES
        },
        "found": {language: found.table(rows, language) for language in LANGUAGES},
        "predicted": found.predicted(rows),
        "differs": {language: found.differs(rows, language) for language in LANGUAGES},
        "replication": repeated,
        "counts": {language: found.counts(rows, language) for language in LANGUAGES},
    }, rows
