"""The tables of README.md, written from the logs between their marks."""

import json
import re

from readme_rows import OTHER_SEEDS, ROWS, TIMED

VERDICTS = "<!-- verdicts: written by hw1/report/build.py -->", "<!-- end of verdicts -->"
RESULTS = "<!-- results: written by hw1/report/build.py -->", "<!-- end of results -->"
SPEED = "<!-- speed: written by hw1/report/build.py -->", "<!-- end of speed -->"
FIGURE = "[{0}](hw1/figures/{0}.png)"


def filled(words, numbers):
    """Return the words with each {name} replaced. numbers: {name: text}, from facts.py."""
    return re.sub(r"{([^}]+)}", lambda found: numbers[found[1]], words)


def results(numbers):
    """Return the table of results. numbers: {name: text}, from facts.py."""
    sentence = "Mean over {rl.seeds} seeds [lowest, highest]; tau with its 95% bootstrap interval."
    sentence += " Run on {run.device}."
    rows = []
    for question, command, finding, names in ROWS:
        figures = ", ".join(FIGURE.format(name) for name in names)
        rows.append([question, f"`{command}`", filled(finding, numbers), figures])
    head = ["question", "script", "finding", "figure"]
    return [filled(sentence, numbers), "", *table(head, rows)]


def verdicts(facts):
    """Return the sentence of the counts, and the tables of what was found and of other seeds."""
    head, *each = facts["counts"]["en"]
    yes, no, open_, lost = (row[-1] for row in each)
    sentence = (
        f"Before the run, {yes + no + open_ + lost} statements from the literature were written"
        " down, each with its statistic and its predicted sign; their thresholds were chosen after"
        f" an earlier, smaller run. The logs support {yes}, contradict {no}, leave {open_} undecided"
        f" and cannot test {lost}; all of them are in [verdicts.csv](hw1/figures/verdicts.csv). Here"
        " are the main ones. Of the trends with the batch size they are those of the Jacobian, the"
        " Hessian and test accuracy at equal train loss; of the measures that may predict how well a"
        " network generalises, only those that are decided at equal train loss. Each row says what"
        " the logs show, and the verdict is on what was predicted: that every run (a network or a"
        " pair of networks) does it, or the sign of the trend. The effect is Kendall's tau with its"
        " 95% interval, which decides nothing: a verdict needs p < 0.05 after Holm's correction."
        " For a statement about every run it is the mean [lowest, highest] of what it is about."
    )
    rows = ([words, source, effect, label] for label, words, source, effect in facts["found"]["en"])
    main = table(["what we found", "source", "effect", "verdict"], rows)
    lines = [sentence, "", *main, "", *table(head, each)]
    if facts["states"]["replication"] == "yes":
        head, *each = facts["replication"]
        lines += ["", filled(OTHER_SEEDS, facts["numbers"]), "", *table(head, each)]
    return lines


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
    page = between(between(page, VERDICTS, verdicts(facts)), RESULTS, results(facts["numbers"]))
    return between(page, SPEED, table(["what", "row", "measured", "wanted"], speeds))
