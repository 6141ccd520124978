"""The report: its numbers come from the logs, it claims nothing they contradict, both languages."""

import csv
import json
import re
import shutil
from pathlib import Path

from lab import stats

import made_up
import pytest
import typst
from fontTools.ttLib import TTFont

HW1 = Path(__file__).resolve().parent.parent
import bonus
import build
import facts
import readme
import words

LANGUAGES = ("en", "zh")


def query(folder, language, label):
    """The values of all metadata with this label, in the order of the document."""
    fonts = {"font_paths": build.fonts(), "ignore_system_fonts": True}
    document = typst.Compiler(folder / f"{language}.typ", root=str(folder), **fonts)
    return json.loads(document.query(label, field="value"))


@pytest.fixture(scope="module", autouse=True)
def remember_intervals():
    """The bootstrap takes most of a build, and most tests leave most logs as they are."""
    found = {}

    def remembered(*arrays):
        key = tuple(array.tobytes() for array in arrays)
        if key not in found:
            found[key] = stats.tau_interval(*arrays)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bonus, "tau_interval", remembered)
        patch.setattr(words, "tau_interval", remembered)
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The sources, figures and numbers of the committed run in one folder, and the numbers."""
    folder = tmp_path_factory.mktemp("prepared")
    return folder, build.prepare(folder, HW1 / "logs", HW1 / "figures")


@pytest.fixture
def run(tmp_path):
    """A copy of the committed run, to be changed."""
    for name in ("logs", "figures"):
        shutil.copytree(HW1 / name, tmp_path / name)
    return tmp_path


def change(path, column, value, **where):
    """Write value(old) into a column of the rows of a CSV in which these columns have these texts.

    A value that is no function is written as it is.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    changed = [row for row in rows if all(row[k] == v for k, v in where.items())]
    assert changed, f"{path.name} has no row with {where}"
    for row in changed:
        row[column] = value(float(row[column])) if callable(value) else value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def fails(run, capsys):
    """The one sentence with which the build ends."""
    with pytest.raises(SystemExit) as ended:
        build.main(["--out", str(run)])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.endswith(".\n") and "Traceback" not in message
    assert not list(run.glob("*.pdf*"))
    return message


def test_both_documents_are_built_twice_alike(run, capsys):
    pdfs = []
    for _ in range(2):
        build.main(["--out", str(run)])
        pdfs.append([(run / name).read_bytes() for name in ("Report.pdf", "Report-zh.pdf")])
    assert pdfs[0] == pdfs[1]
    assert all(pdf.startswith(b"%PDF-") and pdf.count(b"/FontFile") > 3 for pdf in pdfs[0])
    assert sorted(path.name for path in run.glob("*.p*")) == ["Report-zh.pdf", "Report.pdf"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_at_most_eight_pages(prepared, language):
    assert 6 <= query(prepared[0], language, "<pages>")[0] <= 8


def test_both_languages_print_the_same_numbers_figures_tables_and_sources(prepared):
    folder, _ = prepared
    english, chinese = (query(folder, language, "<number>") for language in LANGUAGES)
    assert len(english) > 100
    assert {tuple(pair) for pair in english} == {tuple(pair) for pair in chinese}
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
    listed = (build.HERE / "references.typ").read_text()
    where = r"arXiv~\d{4}\.\d{4,5}\]"
    entries = re.findall(rf"\[(\w+).*? ((?:19|20)\d\d)\. .*{where}", listed)
    assert sorted(entries) == entries
    assert english == set(entries)


def test_a_changed_log_changes_the_text(run, prepared):
    path, before = run / "logs" / "random_labels_mnist.csv", prepared[1]
    epochs = before["rl.epoch"]
    change(path, "test_loss", lambda old: old + 0.1, label_corruption="1", epoch=epochs)
    folder = run / "prepared"
    folder.mkdir()
    after = build.prepare(folder, run / "logs", run / "figures")
    assert {name for name in after if after[name] != before[name]} == {"rl.1.test_loss"}
    for language in LANGUAGES:
        shown = dict(query(folder, language, "<number>"))
        assert shown["rl.1.test_loss"] == after["rl.1.test_loss"] != before["rl.1.test_loss"]


OPTIMIZERS = {"adam": ("Adam", 0), "muon": ("Muon", 1)}  # how often its update is explained


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_muon_has_orthogonalised_updates(run, language, optimizer):
    change(run / "logs" / "random_labels_mnist.csv", "optimizer", optimizer)
    folder, (name, times) = run / "prepared", OPTIMIZERS[optimizer]
    folder.mkdir()
    assert build.prepare(folder, run / "logs", run / "figures")["rl.optimizer"] == name
    mark = '#show regex("orthogonalised|正交化"): it => [#it#metadata(1)<explained>]'
    (folder / "marked.typ").write_text(f'{mark}\n#include "{language}.typ"')
    assert len(query(folder, "marked", "<explained>")) == times


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_pair_is_compared_at_what_both_models_share(run, language):
    for log in ("interpolation", "interpolation_shared"):
        path = run / "logs" / f"{log}_mnist.csv"
        change(path, "setting_1", "32", pair="batch_size")
        change(path, "setting_2", "2048", pair="batch_size")
    folder = run / "prepared"
    folder.mkdir()
    build.prepare(folder, run / "logs", run / "figures")
    names = ("path.batch_size.one", "path.batch_size.two", "path.batch_size.lr")
    names += ("path.lr.one", "path.lr.two", "path.lr.batch_size")
    shown = [tuple(pair) for pair in query(folder, language, "<number>")]
    start = min(shown.index((name, value)) for name, value in shown if name in names)
    said = dict(shown[start : start + 6])
    assert said == dict(zip(names, ("32", "2048", "0.001", "0.001", "0.01", "1024"), strict=True))


def test_the_readme_is_what_the_build_writes(prepared):
    page = (HW1.parent / "README.md").read_text()
    assert readme.rewrite(page, prepared[1], HW1 / "logs") == page


def test_a_changed_log_changes_the_readme_between_the_marks_only(run, prepared):
    page = run / "README.md"
    shutil.copy(HW1.parent / "README.md", page)
    change(run / "logs" / "param_sweep_cifar10.csv", "test_acc", lambda old: old + 0.01)
    path = run / "logs" / "benchmark.json"
    about = json.loads(path.read_text())
    about["summary"][-1]["value"] = 5999.7
    path.write_text(json.dumps(about))
    before = page.read_text().splitlines()
    build.main(["--out", str(run), "--readme", str(page)])
    after = page.read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 2 and "`param_sweep.py`" in changed[0] and "| 6,000 MB |" in changed[1]
    low = words.text(float(prepared[1]["cnn.last.test_acc"].split("%")[0]) + 1, ".1f")
    assert f"and {low}% [" in changed[0]


def test_a_readme_without_marks_is_one_sentence(run, capsys):
    page = run / "README.md"
    page.write_text("Results\n<!-- end of results -->\n")
    with pytest.raises(SystemExit) as ended:
        build.main(["--out", str(run), "--readme", str(page)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and readme.RESULTS[0] in error


def test_a_tilde_is_the_home_folder(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run))
    build.main(["--out=~"])
    assert (run / "Report.pdf").exists()


QUICK = {  # which rows a quick run of each log would leave
    "random_labels": lambda row: int(row["epoch"]) <= 5,
    "param_sweep": lambda row: row["width"] in ("4", "14", "64"),
    "interpolation": lambda row: row["seed"] != "2" and float(row["alpha"]) in (-1, 0, 0.5, 1),
    "sensitivity": lambda row: row["batch_size"] in ("32", "256"),
    "sharpness": lambda row: row["approach"] in ("batch_size=16", "batch_size=2048"),
    "reparametrization": lambda row: row["scale"] in ("1", "2"),
}


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "not marked"])
@pytest.mark.parametrize("log", QUICK)
def test_a_quick_log_is_one_sentence(run, capsys, recwarn, log, marked):
    path = run / "logs" / f"{log}_mnist.csv"
    with path.open(newline="") as file:
        kept = [row for row in csv.DictReader(file) if QUICK[log](row)]
    made_up.write(run, log, "mnist", kept)
    about = json.loads(path.with_suffix(".json").read_text()) | {"quick": marked}
    path.with_suffix(".json").write_text(json.dumps(about))
    message = fails(run, capsys)
    assert not recwarn.list
    if marked:
        assert str(path) in message and f"`python hw1/{facts.LOGS[log]}.py" in message


def test_a_setting_that_the_text_needs_is_named(run, capsys):
    path = run / "logs" / "sharpness_mnist.csv"
    change(path, "approach", "optimizer=sgd", approach="optimizer=momentum")
    assert "sharp.optimizer=momentum.lr" in fails(run, capsys)


CONTRADICTIONS = {  # words of the claim: file, column, factor, rows
    "fits shuffled labels": ("random_labels_mnist", "train_acc", 0.9, {"label_corruption": "1"}),
    "test loss is lowest in between": ("param_sweep_cifar10", "test_loss", 0.1, {"width": "1"}),
    "peaks between two valleys": ("param_sweep_mnist", "test_loss", 9, {"width": "512"}),
    "explodes on one side": ("interpolation_mnist", "test_acc", 0.1, {"alpha": "-1"}),
    "matching lowers": ("barriers_mnist", "test_barrier", 9, {"alignment": "weight_matching"}),
    "Jacobian grows": ("sensitivity_mnist", "jacobian_norm_test", 9, {"batch_size": "32"}),
    "falls with the batch": ("sensitivity_cifar10", "test_loss", -1, {"stop": "train_loss"}),
    "gradient term dwarfs": ("sharpness_mnist", "parameter_gradient_norm", 1e-3, {}),
    "rescaling does not move": ("reparametrization_mnist", "test_loss", 2, {"scale": "10"}),
    "does not predict": ("predictors_mnist", "low", -1, {"measure": "sharpness_ball"}),
}


@pytest.mark.parametrize("claim", CONTRADICTIONS)
def test_a_contradicted_claim_ends_the_build(run, capsys, claim):
    name, column, factor, where = CONTRADICTIONS[claim]
    [path] = run.glob(f"*/{name}.csv")
    change(path, column, lambda old: old * factor, **where)
    message = fails(run, capsys)
    assert "contradict" in message and claim in message


@pytest.mark.parametrize("log, dataset", facts.WANTED)
def test_a_missing_log_names_its_command(run, capsys, log, dataset):
    (run / "logs" / f"{log}_{dataset}.csv").unlink()
    message = fails(run, capsys)
    command = re.search(r"`python (hw1/\w+\.py)( --dataset \w+)?`", message)
    assert (HW1.parent / command[1]).exists()


def test_a_json_that_holds_no_object_is_named(run, capsys):
    (run / "logs" / "sharpness_mnist.json").write_text("[]")
    assert "sharpness_mnist.json is damaged" in fails(run, capsys)


@pytest.mark.parametrize("name", ["figures/barriers_mnist.csv", "figures/random_labels_mnist.pdf"])
def test_a_missing_figure_or_table_names_its_command(run, capsys, name):
    (run / name).unlink()
    assert "plot_all.py" in fails(run, capsys)


def test_missing_fonts_name_their_package(run, capsys, monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    message = fails(run, capsys)
    package = re.search(r"pip install ([\w-]+)", message)[1]
    assert package in (HW1.parent / "requirements.txt").read_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_chinese_character_has_a_glyph(language):
    wanted = {c for c in (build.HERE / f"{language}.typ").read_text() if ord(c) > 0x2E80}
    for name in ("NotoSerifTC-Regular.otf", "NotoSansTC-Regular.otf"):
        font = TTFont(Path(build.fonts()[0]) / name, lazy=True)
        assert not wanted - set(map(chr, font.getBestCmap()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_number_is_typed_into_the_prose(language):
    prose = (build.HERE / f"{language}.typ").read_text()
    assert not re.findall(r'#n\("[^"]*"\);', prose), "Typst takes this semicolon for its own"
    known = [
        r'"[^"\n]*"',  # names of numbers, files and columns
        r"\$[^$]*\$",  # formulae
        r"(784|3072)(-\d+)+",  # a network's name
        r"(?<!\d)(19|20)\d\d(?!\d)",  # the year of a paper
        r"(metric|指標) 2\.1",  # Keskar et al.
        r"95%",  # the confidence that plot_all.py knows
        r"\d+(\.\d+)?pt",
    ]
    for pattern in known:
        prose = re.sub(pattern, "", prose)
    assert not re.findall(r".*?(?:\d\.\d|\d ?%|\d{3,}|\d×10).*", prose)
