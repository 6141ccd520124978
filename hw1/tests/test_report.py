"""The report: numbers and words come from the logs, whatever they say, in both languages."""

import csv
import html
import itertools
import json
import math
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

from lab import stats

import made_up
import numpy as np
import pytest
import typst
from fontTools.ttLib import TTFont

HW1 = Path(__file__).resolve().parent.parent
import bonus
import build
import facts
import found
import permutation
import readme
import verdicts
from hypotheses import HYPOTHESES
from words import at_most

LANGUAGES = ("en", "zh")
REPEATED = ["sharpness_mnist", "param_sweep_mnist", "interpolation_cifar10"]  # with other seeds
REPEATED += ["sensitivity_mnist", "sensitivity_cifar10"]
STATES = {"supported": "supported", "contradicted": "contradicted", "undecided": "undecided"}
STATES["missing"] = "not tested"
ABOUT = {  # of a .json beside a made-up log
    "command": "python hw1/script.py",
    "quick": False,
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "device": "a processor, 2 cores",
    "core_gflops": 75,
    "jobs": 2,
    "git_commit": "0123456789ab",
    "data_note": "94 of the 60,000 images were decoded from JPEG copies",
    "core_seconds": 100.5,
    "seconds": 60.2,
}


def compiler(folder, language):
    """A compiler of one document of a prepared folder."""
    fonts = {"font_paths": build.fonts(), "ignore_system_fonts": True}
    return typst.Compiler(folder / f"{language}.typ", root=str(folder), **fonts)


def query(folder, language, label):
    """The values of all metadata with this label, in the order of the document."""
    return json.loads(compiler(folder, language).query(label, field="value"))


def words_of(folder, language):
    """The text of a document without its formulae, as Typst's HTML has it."""
    page = compiler(folder, language).compile(format="html").decode()
    page = re.sub(r"<(style|math|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    page = re.sub(r"</?(span|strong|em|code|a)\b[^>]*>", "", page)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page)).translate({0x201C: '"', 0x201D: '"'})
    return " ".join(text.split())


def remembered(function):
    """The function, which computes only once for equal arrays."""
    known = {}

    def wrapped(*arrays):
        key = tuple((array.dtype.str, array.tobytes()) for array in arrays)
        if key not in known:
            known[key] = function(*arrays)
        return known[key]

    return wrapped


@pytest.fixture(scope="module", autouse=True)
def remember_statistics():
    """They take most of a build, and most tests leave most logs as they are.

    Made-up logs are not so near the level that a million orders would decide otherwise.
    """
    few = partial(permutation.permutation_p, draws=permutation.DRAWS[:1])
    interval, p = remembered(stats.tau_interval), remembered(few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bonus, "tau_interval", interval)
        patch.setattr(verdicts, "tau_interval", interval)
        patch.setattr(verdicts, "permutation_p", p)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with made-up logs of a full run, and in the place of each figure a small one."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "figures").mkdir()
    figure = typst.compile(b"#set page(width: 16cm, height: 5cm)\nFigure")
    for name in re.findall(r'plot\("(\w+)"', (build.HERE / "en.typ").read_text()):
        (folder / "figures" / f"{name}.pdf").write_bytes(figure)
    for log, dataset in facts.WANTED:
        made_up.make(folder, dataset, [log])
        about = json.dumps(ABOUT | {"command": facts.command(log, dataset)})
        (folder / "logs" / f"{log}_{dataset}.json").write_text(about)
    path = folder / "logs" / "param_sweep_mnist.csv"
    noisy = [row for row in records(path) if row["label_corruption"] == "0.2"]
    made_up.write(folder, "param_sweep", "mnist", noisy)  # as in every row of a full run
    shutil.copy(HW1 / "logs" / "benchmark.json", folder / "logs")
    shutil.copytree(HW1 / "logs" / "gpu", folder / "logs" / "gpu")
    (folder / "logs" / "replication").mkdir()
    for name in REPEATED:
        for kind in ("csv", "json"):
            shutil.copy(folder / "logs" / f"{name}.{kind}", folder / "logs" / "replication")
    return folder


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory):
    """The sources, figures and facts of the made-up run in one folder, and the facts."""
    folder = tmp_path_factory.mktemp("prepared")
    return folder, build.prepare(folder, made / "logs", made / "figures")[0]


@pytest.fixture
def run(made, tmp_path):
    """A copy of the made-up run, to be changed."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def altered(prepared, tmp_path):
    """A copy of the prepared folder, to be changed."""
    shutil.copytree(prepared[0], tmp_path / "prepared")
    return tmp_path / "prepared"


def records(path):
    """The rows of a CSV, each {column: text}."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change(path, column, value, **where):
    """Write value(row) into a column of the rows of a CSV in which these columns have these texts.

    A value that is no function is written as it is.
    """
    rows = records(path)
    changed = [row for row in rows if all(row[k] == v for k, v in where.items())]
    assert changed, f"{path.name} has no row with {where}"
    for row in changed:
        row[column] = value(row) if callable(value) else value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def prepare(run):
    """The folder that the build would compile, and its facts."""
    folder = run / "prepared"
    folder.mkdir()
    return folder, build.prepare(folder, run / "logs", run / "figures")[0]


def fails(run, capsys):
    """The one sentence with which the build ends."""
    with pytest.raises(SystemExit) as ended:
        build.main(["--out", str(run)])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.endswith(".\n") and "Traceback" not in message
    assert not list(run.glob("*.pdf*"))
    return message


def test_both_documents_and_the_verdicts_are_written_twice_alike(run):
    written = []
    for _ in range(2):
        build.main(["--out", str(run)])
        paths = [run / name for name in ("Report.pdf", "Report-zh.pdf", "figures/verdicts.csv")]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    *pdfs, table = written[0]
    assert all(pdf.startswith(b"%PDF-") and pdf.count(b"/FontFile") > 3 for pdf in pdfs)
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert [row["name"] for row in rows] == [h.name for h in HYPOTHESES]
    assert sorted(path.name for path in run.glob("*.p*")) == ["Report-zh.pdf", "Report.pdf"]


def test_at_most_ten_pages_with_the_real_figures(run):
    for name in (run / "figures").iterdir():
        shutil.copy(HW1 / "figures" / name.name, name)
    folder, _ = prepare(run)
    for language in LANGUAGES:
        assert 7 <= query(folder, language, "<pages>")[0] <= 10, language


def test_both_languages_print_the_same_numbers_verdicts_figures_tables_and_sources(prepared):
    folder, _ = prepared
    for label in ("<number>", "<state>"):
        english, chinese = (query(folder, language, label) for language in LANGUAGES)
        assert len(english) > 15
        assert {tuple(pair) for pair in english} == {tuple(pair) for pair in chinese}
    english, chinese = (query(folder, language, "<verb>") for language in LANGUAGES)
    assert {name for name, _ in english} == {name for name, _ in chinese}
    sources = [(build.HERE / f"{language}.typ").read_text() for language in LANGUAGES]
    for pattern in (r'plot\("(\w+)"', r'rows\("([\w.]+)"', r"<((?:fig|tab|sec)-\w+)>"):
        english, chinese = (re.findall(pattern, source) for source in sources)
        assert english == chinese
        assert english


def test_every_paper_that_is_cited_is_in_the_references():
    cited = r"(\w+) et al\. \(?((?:19|20)\d\d)"
    english, chinese = (
        set(re.findall(cited, (build.HERE / f"{language}.typ").read_text()))
        for language in LANGUAGES
    )
    assert english == chinese
    tested = {pair for h in HYPOTHESES for pair in re.findall(cited, h.source)}
    listed = (build.HERE / "references.typ").read_text()
    where = r"arXiv~\d{4}\.\d{4,5}\]"
    entries = re.findall(rf"\[(\w+).*? ((?:19|20)\d\d)\. .*{where}", listed)
    assert sorted(entries) == entries
    assert english | tested == set(entries)


@pytest.mark.parametrize(
    ("x", "spec", "shown"),
    [
        (4.3e-7, ".0e", "5×10⁻⁷"),
        (9.2e-7, ".0e", "1×10⁻⁶"),
        (5.01e-7, ".1e", "5.1×10⁻⁷"),
        (0.001, ".0e", "1×10⁻³"),  # a little more in binary
        (0.1, ".1%", "10.0%"),
        (0.5, ".0e", "5×10⁻¹"),
        (0.09503, ".1%", "9.6%"),
        (np.int64(3), ".0e", "3×10⁰"),
        (math.nan, ".1%", "—"),
    ],
)
def test_a_bound_is_rounded_up(x, spec, shown):
    assert at_most(x, spec) == shown


def test_a_changed_log_changes_the_text(run, prepared):
    path, before = run / "logs" / "random_labels_mnist.csv", prepared[1]["numbers"]
    change(path, "test_loss", lambda row: float(row["test_loss"]) + 0.1, label_corruption="1")
    folder, after = prepare(run)
    changed = {name for name in before if after["numbers"][name] != before[name]}
    assert changed == {"rl.1.test_loss", "rl.1.start_test_loss"}
    for language in LANGUAGES:
        shown = dict(query(folder, language, "<number>"))
        assert shown["rl.1.test_loss"] == after["numbers"]["rl.1.test_loss"]


FLIPS = {  # a hypothesis of each kind and of one only: log, column, new value, rows; other words
    "labels.fits": (
        "random_labels_mnist",
        ("train_acc", lambda row: min(0.9, float(row["train_acc"])), {"label_corruption": "1"}),
        ("the network does not fit labels that carry no information", "網路並未擬合毫無資訊的標籤"),
    ),
    "sensitivity.mnist.mlp.train_loss.jacobian_norm_test.batch_size": (
        "sensitivity_mnist",
        ("jacobian_norm_test", lambda row: 1 / float(row["jacobian_norm_test"]), {}),
        (
            "MNIST MLP, equal train loss: the norm of the Jacobian falls with the batch size",
            "MNIST MLP，相同訓練損失：Jacobian 的範數隨批次大小增加而下降",
        ),
    ),
    "labels.test_acc": (
        "random_labels_mnist",
        ("test_acc", lambda row: 1 - float(row["test_acc"]), {}),
        (
            "final test accuracy grows with the fraction",
            "最後的測試準確率隨標籤打亂的比例增加而上升",
        ),
    ),
    "sensitivity.cifar10.cnn.train_loss.jacobian_norm_test.acc_gap": (
        "sensitivity_cifar10",
        (
            "train_acc",
            lambda row: float(row["test_acc"]) + float(row["jacobian_norm_test"]),
            {"stop": "train_loss", "model": "cnn-16"},
        ),
        (
            "the CNN it correlates negatively with the gap in loss and correlates positively with",
            "CNN 的 Jacobian 與損失差距呈負相關，與準確率差距呈正相關",
        ),
    ),
    "line.shared.lr": (
        "interpolation_shared_mnist",
        ("test_acc", 0.9, {}),
        ("under 2 points of test error even for the rates", "即使是學習率，也不到 2 個百分點"),
    ),
}


@pytest.mark.parametrize("name", FLIPS)
def test_a_flipped_verdict_changes_the_words_of_both_documents(run, prepared, name):
    log, (column, value, where), words = FLIPS[name]
    before = prepared[1]["states"][name]
    change(run / "logs" / f"{log}.csv", column, value, **where)
    folder, after = prepare(run)
    assert after["states"][name] != before
    for language, expected in zip(LANGUAGES, words, strict=True):
        assert expected in words_of(folder, language)
        assert expected not in words_of(prepared[0], language)


def reverse(path, *columns):
    """Give the rows with the largest value of a column its least value, and so on inwards."""
    rows = records(path)
    for column in columns:
        values = sorted({row[column] for row in rows}, key=float)
        other = dict(zip(values, reversed(values), strict=True))
        change(path, column, lambda row, column=column, other=other: other[row[column]])


def reverse_settings(logs):
    """Turn every trend."""
    reverse(logs / "random_labels_mnist.csv", "label_corruption")
    for name in ("sensitivity_mnist", "sensitivity_cifar10", "sharpness_mnist"):
        reverse(logs / f"{name}.csv", "batch_size")


def reverse_measures(logs):
    """Turn every correlation."""
    both = ("input_gradient_norm_test", "jacobian_norm_test")
    for name in ("sensitivity_mnist", "sensitivity_cifar10"):
        reverse(logs / f"{name}.csv", *both)
    own = ("sharpness_ball", "sharpness_box", "sharpness_adaptive")
    own += ("hessian_norm", "parameter_gradient_norm")
    reverse(logs / "sharpness_mnist.csv", *both, *own)


def contradict_each_seed(logs):
    """Turn every statement about every seed."""

    def hill(row):
        return 1 + (0 < float(row["alpha"]) < 1)

    edits = {
        "random_labels_mnist": {
            "train_acc": 0.5,
            "test_acc": lambda row: 0.5 if float(row["epoch"]) else 0.9,
        },
        "interpolation_mnist": {"test_acc": 0.9, "test_loss": hill},
        "interpolation_cifar10": {"test_acc": 0.9, "test_loss": hill},
        "interpolation_shared_mnist": {"test_acc": 0.9},
        "sensitivity_mnist": {"test_confidence": 0},
        "sensitivity_cifar10": {"test_confidence": 0},
        "reparametrization_mnist": {
            "max_output_change": 1,
            "hessian_norm": 1,
            "sharpness_box": 1,
            "sharpness_adaptive": lambda row: row["scale"],
        },
    }
    for name in ("param_sweep_mnist", "param_sweep_cifar10"):
        edits[name] = {
            "test_loss": lambda row: 1 / float(row["width"]),
            "test_acc": lambda row: {"1": 0.9, "4": 0.9, "8": 0.5}.get(row["width"], 0.7),
        }
    for name, columns in edits.items():
        for column, value in columns.items():
            change(logs / f"{name}.csv", column, value)


@pytest.fixture(scope="module")
def texts(prepared):
    """The text of the unchanged report in each language."""
    return {language: words_of(prepared[0], language) for language in LANGUAGES}


@pytest.mark.parametrize(
    ("kind", "turn"),
    [
        ("trend", reverse_settings),
        ("correlation", reverse_measures),
        (verdicts.EVERY, contradict_each_seed),
    ],
)
def test_opposite_logs_turn_each_verdict_and_its_words(run, prepared, texts, kind, turn):
    opposite = {"supported": "contradicted", "contradicted": "supported"}
    before = prepared[1]["states"]
    turned = {h.name: h for h in HYPOTHESES if h.kind == kind and before[h.name] in opposite}
    turn(run / "logs")
    folder, after = prepare(run)
    for name in turned:
        assert after["states"][name] == opposite[before[name]], name
    for language in LANGUAGES:
        states = dict(query(folder, language, "<state>"))
        assert all(states[name] == after["states"][name] for name in states.keys() & turned.keys())
        for name, verb in query(folder, language, "<verb>"):
            if name in turned:
                assert verb == verdicts.verb(turned[name], after["states"][name], language)
        old, new = texts[language], words_of(folder, language)
        told = 0
        for name, h in turned.items():
            was = verdicts.sentence(h, before[name], language)
            now = verdicts.sentence(h, after["states"][name], language)
            assert (was in old, now in old) == (now in new, was in new), name
            told += was in old
        assert told > 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_verdict_has_a_wording_of_its_own(altered, prepared, language):
    """All hypotheses get each verdict in turn: the text compiles, and each choice reads anew."""
    texts, verbs = {}, {}
    for state in STATES.values():
        about = json.loads(json.dumps(prepared[1]))
        for h in HYPOTHESES:
            about["states"][h.name] = state
            about["words"][language][h.name] = verdicts.verb(h, state, language)
        (altered / "facts.json").write_text(json.dumps(about))
        texts[state] = words_of(altered, language)
        verbs[state] = [words for _, words in query(altered, language, "<verb>")]
    assert len(set(texts.values())) == len(set(map(tuple, verbs.values()))) == 4
    source = (build.HERE / f"{language}.typ").read_text()
    used = [name for name, _ in query(altered, language, "<state>")]
    tested = {h.name for h in HYPOTHESES} & set(used)
    assert len(tested) >= 12
    for name in tested:
        start = source.index(f'pick("{name}"')
        wordings = re.findall(r"(\w+): \[([^#\]]+)", source[start : source.index("])", start)])
        assert {"supported", "contradicted", "undecided"} <= {state for state, _ in wordings}
        own = {STATES[state]: " ".join(words.split()) for state, words in wordings}
        for words, (other, text) in itertools.product(own.values(), texts.items()):
            assert (words in text) == (words in own.get(other, "")), (name, words, other)


def test_other_states_have_wordings_too(altered, prepared):
    """The choices that follow no hypothesis: a schedule, a comparison, other seeds."""
    ways = {"rl.schedule": ("linear", "constant"), "small.schedule": ("linear", "constant")}
    ways |= {"rl.confident": ("more", "less", "unclear"), "noise.fits": ("yes", "no")}
    ways |= {"path.longer": ("always", "sometimes", "never")}
    ways["replication"] = ("yes", "no")
    ways["again.size.4000.descent.loss"] = verdicts.VERDICTS
    used = {name for name, _ in query(altered, "en", "<state>")}
    assert used - {h.name for h in HYPOTHESES} == set(ways)
    for (name, states), language in itertools.product(ways.items(), LANGUAGES):
        texts = set()
        for state in states:
            about = json.loads(json.dumps(prepared[1]))
            about["states"][name] = state
            (altered / "facts.json").write_text(json.dumps(about))
            texts.add(words_of(altered, language))
        assert len(texts) == len(states)


def test_the_table_starts_with_what_is_contradicted(prepared):
    rows = prepared[1]["found"]["en"]
    order = [row[0] for row in rows]
    assert order == sorted(order, key=found.ORDER.index)
    assert len(rows) >= 30 and len({row[1] for row in rows}) == len(rows)
    text = words_of(prepared[0], "en")
    assert all(sentence in text for _, sentence, _, _ in rows)


def test_the_counts_are_those_of_all_verdicts(prepared):
    states = [prepared[1]["states"][h.name] for h in HYPOTHESES]
    head, *rows = prepared[1]["counts"]["en"]
    assert [row[0] for row in rows] == list(verdicts.VERDICTS)
    assert [row[-1] for row in rows] == [states.count(verdict) for verdict in verdicts.VERDICTS]
    assert all(sum(row[1:-1]) == row[-1] for row in rows)
    column = head.index("sharpness")
    of = [state for h, state in zip(HYPOTHESES, states, strict=True)
          if h.name.startswith("sharpness.")]  # fmt: skip
    assert [row[column] for row in rows] == [of.count(verdict) for verdict in verdicts.VERDICTS]


def test_equal_logs_repeat_every_verdict(prepared):
    """The made-up replication has some of the logs, and so not every statement."""
    families = {"line", "sensitivity", "sharpness", "predictors", "size"}
    head, tested, alike, undecided, once, opposite = prepared[1]["replication"]
    assert len(head) == len(tested) == 8
    assert all(
        sum(both) == n
        for n, *both in zip(*(r[1:] for r in (tested, alike, undecided)), strict=True)
    )
    shown = {name for name, (english, _) in found.FAMILIES.items() if tested[head.index(english)]}
    assert shown == families and tested[-1] == sum(tested[1:-1]) > 30
    assert once[1:] == opposite[1:] == [0] * 7
    numbers = prepared[1]["numbers"]
    shown = [numbers[f"replication.{name}"] for name in ("tested", "alike", "undecided", "gained")]
    assert shown == [str(n) for n in (tested[-1], alike[-1], undecided[-1], 0)] and alike[-1] > 3
    assert (numbers["replication.seeds"], numbers["replication.device"]) == (
        "0, 1, 2",
        ABOUT["device"],
    )
    missing = numbers["replication.missing"].split(", ")
    assert missing == ["random_labels_mnist", "param_sweep_cifar10", "interpolation_mnist"]
    assert not any("†" in row[1] for row in prepared[1]["found"]["en"])
    assert f"(all but {missing[0]}, {missing[1]}" in "\n".join(readme.verdicts(prepared[1]))


def test_a_reversed_replication_has_opposite_verdicts(run, prepared, texts):
    states, where = prepared[1]["states"], run / "logs" / "replication"
    reverse(where / "sharpness_mnist.csv", "batch_size")
    build.main(["--out", str(run)])
    rows = list(csv.DictReader((run / "figures" / "verdicts.csv").open(newline="")))
    trends = [row for row in rows if row["family"] == "sharpness" and row["kind"] == "trend"]
    decided = [row for row in trends if states[row["name"]] in found.DECIDED]
    assert len(decided) > 3
    assert all({row["verdict"], row["replication"]} == set(found.DECIDED) for row in decided)
    elsewhere = [row for row in rows if row["family"] == "labels"]
    assert elsewhere and all(row["replication"] == "not tested" for row in elsewhere)
    folder, facts_of = prepare(run)
    assert facts_of["replication"][-1][-1] >= len(decided)
    marked = [words for _, words, *_ in facts_of["found"]["en"] if words.endswith("†")]
    assert "MNIST, equal train loss: the norm of the Hessian grows with the batch size†" in marked
    for language, words in zip(
        LANGUAGES, (" (with other seeds it", "；換成別的種子則隨"), strict=True
    ):
        assert words in words_of(folder, language) and words not in texts[language]


def test_other_seeds_of_the_networks_are_told_alike_in_both_languages(run, texts):
    where = run / "logs" / "replication"
    reverse(where / "sensitivity_cifar10.csv", "batch_size")
    change(where / "interpolation_cifar10.csv", "test_loss", 1, alignment="weight_matching")
    folder, after = prepare(run)
    shown = [dict(query(folder, language, "<number>")) for language in LANGUAGES]
    assert shown[0] == shown[1]
    assert shown[0]["again.line.matching.cnn"] != after["numbers"]["line.matching.cnn"]
    verbs = [{name for name, _ in query(folder, language, "<verb>")} for language in LANGUAGES]
    assert verbs[0] == verbs[1]
    assert "again.sensitivity.cifar10.cnn.train_loss.jacobian_norm_test.batch_size" in verbs[0]
    for language, words in zip(
        LANGUAGES, ("; with other seeds (", "；換成別的種子（"), strict=True
    ):
        assert words in words_of(folder, language) and words not in texts[language]


def test_without_a_replication_nothing_is_said_of_one(run, prepared):
    shutil.rmtree(run / "logs" / "replication")
    folder, without = prepare(run)
    assert without["states"]["replication"] == "no"
    for language, words in zip(LANGUAGES, ("Other seeds.", "再做一次"), strict=True):
        assert words in words_of(prepared[0], language)
        assert words not in words_of(folder, language)
    pages = [readme.verdicts(some) for some in (prepared[1], without)]
    assert [sum("Would other seeds" in line for line in lines) for lines in pages] == [1, 0]


def test_a_damaged_log_of_other_seeds_is_one_sentence(run, capsys):
    path = run / "logs" / "replication" / "sharpness_mnist.csv"
    path.write_text("seed,batch_size\n0\n")
    message = fails(run, capsys)
    assert "replication" in message and "--seeds 3 4 5" in message
    path.with_suffix(".json").unlink()
    shutil.copy(run / "logs" / "sharpness_mnist.csv", path)
    assert "replication" in fails(run, capsys)


def test_what_an_earlier_run_had_decided_otherwise_is_told(monkeypatch):
    rows = [
        {"name": h.name, "family": h.name.partition(".")[0], "kind": h.kind, "verdict": "undecided"}
        for h in HYPOTHESES
    ]
    rows[0]["verdict"], rows[1]["verdict"] = "supported", "contradicted"
    old = {"effect": 0.5, "low": 0.4, "high": 0.6}
    before = {
        rows[0]["name"]: old | {"name": rows[0]["name"], "verdict": "contradicted"},
        rows[1]["name"]: old | {"name": rows[1]["name"], "verdict": "undecided"},
    }
    monkeypatch.setattr(found, "earlier", lambda: before)
    [[sentence, now, then, effect]] = found.differs(rows, "en")
    assert sentence == verdicts.sentence(HYPOTHESES[0], "supported", "en")
    assert (now, then, effect) == ("supported", "contradicted", "0.50\u00a0[0.40,\u00a00.60]")
    assert found.summary(rows)["newly"] == 1
    assert found.summary(rows)["lost"] == 0
    rows[0]["verdict"] = "undecided"
    assert found.summary(rows)["lost"] == 1


def test_what_earlier_runs_found_is_about_the_hypotheses_of_today():
    before = found.earlier()
    assert set(before) <= {h.name for h in HYPOTHESES}
    cnn = before["sensitivity.cifar10.cnn.epochs.jacobian_norm_test.batch_size"]
    assert cnn["effect"] == pytest.approx(-0.93, abs=0.005)  # SCIENCE has these numbers
    cnn = before["sensitivity.cifar10.cnn.train_loss.jacobian_norm_test.batch_size"]
    assert cnn["effect"] == pytest.approx(0.06, abs=0.005)


def test_the_text_names_the_schedule_and_the_settings_of_the_script(monkeypatch, run):
    """The report of an edited experiment: another schedule, another probe, another target."""
    copy = run / "hw1"
    copy.mkdir()
    for name in ("random_labels", "param_sweep", "interpolation", "sensitivity", "sharpness"):
        shutil.copy(HW1 / f"{name}.py", copy)
    shutil.copy(HW1 / "train.py", copy)
    edits = {
        "random_labels": ('schedule="linear"', 'schedule="constant"'),
        "sensitivity": ('PROBE = {"mnist": 10_000', 'PROBE = {"mnist": 5_000'),
        "sharpness": ('"mnist": 0.', '"mnist": 10.'),
    }
    for name, (old, new) in edits.items():
        text = (copy / f"{name}.py").read_text()
        assert old in text
        (copy / f"{name}.py").write_text(text.replace(old, new))
    monkeypatch.setattr("words.HW1", copy)
    _, after = prepare(run)
    assert after["states"]["rl.schedule"] == "constant"
    assert after["states"]["small.schedule"] == "linear"
    assert after["numbers"]["sens.probe"] == "5,000"
    assert after["numbers"]["sharp.target"].startswith("10.")


def test_the_train_size_of_the_text_is_that_of_the_command(run):
    """It was always the one of the script."""
    path = run / "logs" / "sensitivity_cifar10.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"command": about["command"] + " --train-size 5000"}))
    _, after = prepare(run)
    assert after["numbers"]["conv.mlp.train_size"] == "5,000"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_pair_is_compared_at_what_both_models_share(run, language):
    for log in ("interpolation", "interpolation_shared"):
        path = run / "logs" / f"{log}_mnist.csv"
        pair = {"pair": "batch_size", "setting_1": "64", "setting_2": "1024"}
        change(path, "setting_1", "32", **pair)
        change(path, "setting_2", "2048", **pair | {"setting_1": "32"})
    folder, _ = prepare(run)
    names = ("path.batch_size.one", "path.batch_size.two", "path.batch_size.lr")
    shown = dict(query(folder, language, "<number>"))
    assert [shown[name] for name in names] == ["32", "2048", "0.001"]
    names = ("path.lr.one", "path.lr.two", "path.lr.batch_size")
    assert [shown[name] for name in names][:2] == ["0.001", "0.01"]


def test_the_readme_is_what_the_build_writes():
    """Of the committed run."""
    page = (HW1.parent / "README.md").read_text()
    assert readme.rewrite(page, facts.collect(HW1 / "logs")[0], HW1 / "logs") == page


def test_a_changed_log_changes_the_readme_between_the_marks_only(run, prepared):
    page = run / "README.md"
    shutil.copy(HW1.parent / "README.md", page)
    before = readme.rewrite(page.read_text(), prepared[1], run / "logs").splitlines()
    path = run / "logs" / "param_sweep_cifar10.csv"
    change(path, "test_acc", lambda row: float(row["test_acc"]) / 2, train_size="50000")
    path = run / "logs" / "benchmark.json"
    about = json.loads(path.read_text())
    about["summary"][-1]["value"] = 5999.7
    path.write_text(json.dumps(about))
    build.main(["--out", str(run), "--readme", str(page)])
    after = page.read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert any("`param_sweep.py`" in line for line in changed)
    assert any("| 6,000 MB |" in line for line in changed)
    assert all(line.startswith("| ") for line in changed)


def test_the_readme_has_a_line_for_each_main_hypothesis(run, prepared):
    page = run / "README.md"
    shutil.copy(HW1.parent / "README.md", page)
    text = readme.rewrite(page.read_text(), prepared[1], run / "logs")
    for cells in prepared[1]["predicted"]:
        assert f"| {' | '.join(cells)} |".replace("\u00a0", " ") in text
    states = [prepared[1]["states"][h.name] for h in HYPOTHESES]
    verdicts_shown = [cells[4] for cells in prepared[1]["predicted"]]
    assert verdicts_shown == sorted(verdicts_shown, key=found.ORDER.index)
    assert verdicts_shown.count("contradicted") == states.count("contradicted") > 0
    assert len(prepared[1]["predicted"]) >= len(prepared[1]["found"]["en"])


def test_every_question_of_the_readme_is_answered_by_its_verdicts(prepared):
    names = {h.name for h in HYPOTHESES}
    for _, _, answers, _, _ in readme.ROWS:
        for name, *words in answers:
            assert name in names and len(set(words)) == 3
        given = {
            state: readme.answer(answers, dict.fromkeys(names, state))
            for state in verdicts.VERDICTS
        }
        assert len(set(given.values())) == 4 and given["not tested"].startswith("not tested")
    text = "\n".join(readme.results(prepared[1]))
    assert text.count("**") == 2 * len(readme.ROWS)
    assert readme.answer(readme.ROWS[0][2], {"labels.fits": "contradicted"}) == "No"


def test_the_rows_of_a_gpu_name_it(run, prepared):
    page = (HW1.parent / "README.md").read_text()
    path = run / "logs" / "gpu" / "benchmark.json"
    about = json.loads(path.read_text())
    about |= {"device": "some GPU", "summary": [about["summary"][0] | {"value": 7.891}]}
    path.write_text(json.dumps(about))
    lines = readme.rewrite(page, prepared[1], run / "logs").splitlines()
    assert sum("(on one some GPU) | `mlp_epoch_cuda` | 7.89 |" in line for line in lines) == 1


def test_a_readme_without_marks_is_one_sentence(run, capsys):
    page = run / "README.md"
    page.write_text("Results\n<!-- end of verdicts -->\n")
    with pytest.raises(SystemExit) as ended:
        build.main(["--out", str(run), "--readme", str(page)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and readme.VERDICTS[0] in error


BROKEN = ("{}", '{"summary": [{}]}', '{"summary": 1}', "[]", "{")


@pytest.mark.parametrize(
    ("folder", "command", "text"),
    [
        *((".", "benchmark.py`", text) for text in BROKEN),
        ("gpu", "benchmark.py --device cuda`", "{"),
    ],
)
def test_a_damaged_benchmark_is_one_sentence(run, capsys, folder, command, text):
    (run / "logs" / folder / "benchmark.json").write_text(text)
    page = run / "README.md"
    shutil.copy(HW1.parent / "README.md", page)
    with pytest.raises(SystemExit) as ended:
        build.main(["--out", str(run), "--readme", str(page)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "benchmark.json is damaged" in error
    assert command in error


def test_a_tilde_is_the_home_folder(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run))
    build.main(["--out=~"])
    assert (run / "Report.pdf").exists()


QUICK = {  # which rows a quick run of each log would leave
    "random_labels": lambda row: float(row["epoch"]) <= 5,
    "param_sweep": lambda row: row["width"] in ("4", "16", "64"),
    "interpolation": lambda row: row["seed"] != "2" and float(row["alpha"]) in (-1, 0, 0.5, 1),
    "sensitivity": lambda row: row["batch_size"] in ("32", "256"),
    "sharpness": lambda row: row["approach"] in ("batch_size=16", "batch_size=2048"),
    "reparametrization": lambda row: float(row["scale"]) in (1, 2),
}


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "not marked"])
@pytest.mark.parametrize("log", QUICK)
def test_a_quick_log_is_one_sentence_or_a_report(run, capsys, recwarn, log, marked):
    """If the .json says that it is quick there is no report; few rows may make one."""
    path = run / "logs" / f"{log}_mnist.csv"
    made_up.write(run, log, "mnist", filter(QUICK[log], records(path)))
    path.with_suffix(".json").write_text(json.dumps(ABOUT | {"quick": marked}))
    try:
        build.main(["--out", str(run)])
    except SystemExit as ended:
        message = capsys.readouterr().err
        assert ended.code == 2 and message.count("\n") == 1 and str(path) in message
        assert f"`python hw1/{facts.LOGS[log]}.py" in message
    else:
        assert not marked and (run / "Report.pdf").exists() and (run / "Report-zh.pdf").exists()
    assert not [f"{w.filename}: {w.message}" for w in recwarn.list]


@pytest.mark.parametrize(
    "log, column",
    [
        ("sensitivity_cifar10", "test_confidence"),
        ("interpolation_mnist", "weight_norm_1"),
        ("sharpness_mnist", "sharpness_adaptive"),
        ("reparametrization_mnist", "sharpness_box"),
    ],
)
def test_a_log_without_a_column_names_both(run, capsys, log, column):
    path = run / "logs" / f"{log}.csv"
    name, _, dataset = log.rpartition("_")
    rows = [{k: v for k, v in row.items() if k != column} for row in records(path)]
    made_up.write(run, name, dataset, rows)
    message = fails(run, capsys)
    assert f"{path} has no column {column}: `python hw1/" in message


@pytest.mark.parametrize("log, dataset", facts.WANTED)
def test_a_missing_log_names_its_command(run, capsys, log, dataset):
    (run / "logs" / f"{log}_{dataset}.csv").unlink()
    message = fails(run, capsys)
    command = re.search(r"`python (hw1/\w+\.py)( --dataset \w+)? --out (.+)`", message)
    assert (HW1.parent / command[1]).exists() and command[3] == shlex.quote(str(run))


DAMAGED = ["{}", "[]", "{", "1", "\x00", '{"versions": {}}']
DAMAGED += [json.dumps(ABOUT | change) for change in (
    {"versions": 3}, {"core_seconds": "long"}, {"seconds": None}, {"device": 1},
    {"git_commit": None}, {"data_note": 0}, {"command": []}, {"core_gflops": "fast"},
    {"core_seconds": 10**400},
)]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("log", ["param_sweep_cifar10", "interpolation_shared_mnist"])
def test_a_damaged_json_is_named(run, capsys, log, text):
    (run / "logs" / f"{log}.json").write_text(text)
    message = fails(run, capsys)
    assert log in message and "damaged" in message


def test_a_column_of_words_where_numbers_belong_is_named(run, capsys):
    path = run / "logs" / "sharpness_mnist.csv"
    change(path, "hessian_norm", "large")
    assert str(path) in fails(run, capsys)


def test_models_that_diverged_or_never_reached_the_train_loss_are_no_fault(run):
    measured = ["train_loss", "train_acc", "test_loss", "test_acc", "jacobian_norm_test"]
    rows = {"stop": "train_loss"}
    for column in (*measured, "test_confidence", "input_gradient_norm_test"):
        where = rows | {"model": "cnn-16", "batch_size": "1024"}
        change(run / "logs" / "sensitivity_cifar10.csv", column, "nan", **where)
    for column in (*measured, "hessian_norm", "hessian_norm_block", "sharpness_ball", "residual"):
        where = rows | {"approach": "batch_size=1024"}
        change(run / "logs" / "sharpness_mnist.csv", column, "nan", **where)
    folder, found = prepare(run)
    assert found["numbers"]["conv.cnn.train_loss.last.train_loss"] == "—\u00a0[—,\u00a0—]"
    assert found["numbers"]["sharp.best.name"] != "batch_size=1024"
    assert all("nan" not in words_of(folder, language) for language in LANGUAGES)


@pytest.mark.parametrize("name", ["random_labels_mnist", "interpolation_cifar10"])
def test_a_missing_figure_names_its_command(run, capsys, name):
    (run / "figures" / f"{name}.pdf").unlink()
    assert f"`python hw1/plot_all.py --out {shlex.quote(str(run))}`" in fails(run, capsys)


def test_the_commands_for_the_committed_logs_need_no_folder():
    assert facts.command("sensitivity", "mnist") == "python hw1/sensitivity.py"
    assert facts.out(HW1 / "figures") == "" and facts.out(HW1 / "other") == " --out DIR"


def test_files_that_are_read_only_can_be_built_from(run):
    """The second language could not copy a figure over the first one's, which was read-only."""
    for path in (run / "figures").glob("*.pdf"):
        path.chmod(0o444)
    folder, _ = prepare(run)
    copies = list(folder.glob("*.pdf"))
    assert copies and all(path.stat().st_mode & 0o200 for path in copies)


def test_missing_fonts_name_their_package(run, capsys, monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    message = fails(run, capsys)
    package = re.search(r"pip install ([\w-]+)", message)[1]
    assert package in (HW1.parent / "requirements.txt").read_text()


def test_every_chinese_character_has_a_glyph(prepared):
    wanted = {c for c in words_of(prepared[0], "zh") if ord(c) > 0x2E80}
    wanted |= {c for h in HYPOTHESES for c in h.chinese if ord(c) > 0x2E80}
    assert len(wanted) > 500
    for name in ("NotoSerifTC-Regular.otf", "NotoSansTC-Regular.otf"):
        with TTFont(Path(build.fonts()[0]) / name, lazy=True) as font:
            assert not wanted - set(map(chr, font.getBestCmap()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_number_is_typed_into_the_prose(language):
    prose = (build.HERE / f"{language}.typ").read_text()
    assert not re.findall(r"#\w+\([^()]*\);", prose), "Typst takes this semicolon for its own"
    known = [
        r'"[^"\n]*"',  # names of numbers, files and columns
        r"\$[^$]*\$",  # formulae
        r"(?<!\d)(19|20)\d\d(?!\d)",  # the year of a paper
        r"(metric|指標) 2\.1",  # Keskar et al.
        r"(networks of |每層 )512",  # Ainsworth et al.
        r"95%",  # the confidence that the statistics know
        r"\d+(\.\d+)?pt",
    ]
    for pattern in known:
        prose = re.sub(pattern, "", prose)
    assert not re.findall(r".*?(?:\d\.\d|\d ?%|\d{3,}|\d×10).*", prose)
