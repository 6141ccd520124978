"""The tables of README.md, written from the logs between their marks."""

import json
import re

from readme_rows import OTHER_SEEDS, PREDICTED, ROWS, TIMED, VERDICTS_TOLD

VERDICTS = "<!-- verdicts: written by hw1/report/build.py -->", "<!-- end of verdicts -->"
RESULTS = "<!-- results: written by hw1/report/build.py -->", "<!-- end of results -->"
SPEED = "<!-- speed: written by hw1/report/build.py -->", "<!-- end of speed -->"
FIGURE = "[{0}](hw1/figures/{0}.png)"


def filled(words, numbers):
    """Return the words with each {name} replaced. numbers: {name: text}, from facts.py."""
    return re.sub(r"{([^}]+)}", lambda found: numbers[found[1]], words)


def results(facts):
    """Return the table of results."""
    numbers = facts["numbers"]
    same = numbers["whole.best.params"] == numbers["whole.last.params"]
    widest = ", the widest" if same else f", and {numbers['whole.last.test_acc']} at the widest"
    numbers = numbers | {"whole.widest": widest}
    sentence = "Mean over {rl.seeds} seeds [lowest, highest]; tau with its 95% bootstrap interval."
    sentence += " Run on {run.device}."
    rows = []
    for question, command, answers, finding, names in ROWS:
        figures = ", ".join(FIGURE.format(name) for name in names)
        words = f"**{answer(answers, facts['states'])}.** {filled(finding, numbers)}"
        rows.append([question, f"`{command}`", words, figures])
    head = ["question", "script", "finding", "figure"]
    return [filled(sentence, numbers), "", *table(head, rows)]


def answer(answers, states):
    """Return the answer to the question of a row, by the verdicts on its statements."""
    found = []
    for name, *words in answers:
        given = dict(zip(("supported", "contradicted", "undecided"), words, strict=True))
        found.append(given.get(states[name], "not tested"))
    return ", ".join(found)


def verdicts(facts):
    """Return what is said of the verdicts, and the tables of the main ones and their numbers."""
    counts, *each = facts["counts"]["en"]
    head, rows = [*PREDICTED, "with other seeds"], facts["predicted"]
    lines = table(counts, each)
    if facts["states"]["replication"] == "yes":
        again, *repeated = facts["replication"]
        missing = facts["numbers"]["replication.missing"]
        but = {"replication.but": f" (all but {missing}, for lack of time)" if missing else ""}
        lines += ["", filled(OTHER_SEEDS, facts["numbers"] | but), "", *table(again, repeated)]
    else:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return [filled(VERDICTS_TOLD, facts["numbers"]), "", *table(head, rows), "", *lines]


def table(head, rows):
    """Return the lines of a table."""
    lines = [f"| {' | '.join(map(str, row))} |".replace("\u00a0", " ") for row in (head, *rows)]
    return [lines[0], "|" + " --- |" * len(head), *lines[1:]]


def speed(about):
    """Return the rows of the table of speed. about: the .json of the benchmark."""
    rows = []
    for row in about["summary"]:
        name, value = row["comparison"], row["value"]
        unit = {"seconds": " s", "MB": " MB"}.get(row["kind"], "")
        measured = (f"{value:,.0f}" if value >= 100 else f"{value:.2f}") + unit
        wanted = f"{row['sense']} {row['target']:,}{unit}"
        words = TIMED.get(name.removesuffix("_cuda"), name.replace("_", " "))
        words += f" (on one {about['device']})" if name.endswith("_cuda") else ""
        rows.append([words, f"`{name}`", measured, wanted])
    return rows


def between(page, marks, lines):
    """Return the page with these lines between the two marks."""
    start, end = marks
    if page.count(start) != 1 or page.count(end) != 1 or page.index(end) < page.index(start):
        raise ValueError(f"README.md must have one line `{start}` and below it one line `{end}`.")
    return "\n".join([page[: page.index(start)] + start, "", *lines, "", page[page.index(end) :]])


def rewrite(page, facts, logs):
    """Return the text of README.md with its tables made anew from the facts and the logs."""
    speeds = []
    for path in (logs / "benchmark.json", *logs.glob("gpu/benchmark.json")):
        try:
            speeds += speed(json.loads(path.read_text(encoding="utf-8")))
        except (LookupError, TypeError, ValueError) as error:
            command = "python hw1/bench/benchmark.py"
            command += " --device cuda" if path.parent.name == "gpu" else ""
            raise ValueError(f"{path} is damaged ({error}): `{command}` makes it anew.") from error
    page = between(between(page, VERDICTS, verdicts(facts)), RESULTS, results(facts))
    return between(page, SPEED, table(["what", "row", "measured", "goal"], speeds))
