"""Build the report, in English and in Traditional Chinese, and the README's tables from the logs.

    python hw1/report/build.py [--out DIR] [--logs DIR] [--readme FILE]

reads hw1/logs and hw1/figures, decides every hypothesis, and writes hw1/figures/verdicts.csv,
Report.pdf, hw1/Report.pdf and the tables in README.md. With --out DIR it reads DIR/logs and
DIR/figures, writes DIR/figures/verdicts.csv, DIR/Report.pdf and DIR/Report-zh.pdf, and rewrites a
README only if --readme names it. The text (en.typ, zh.typ) holds no number and no finding: facts.py
derives them from the logs, and the words follow the verdicts. Only a log or figure that is missing
or broken stops the build, with one sentence. It takes 10 to 20 seconds. The same logs give the same
bytes wherever git knows their commit, whose day stands in the report.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from lab import say
from lab.tables import folder, write, write_table

import typst

import facts
import readme

FONTS = "pylopdf_fonts_zh_tw"  # Noto Serif TC and Noto Sans TC, SIL Open Font License
KINDS = {"n": "numbers", "w": "words", "pick": "states"}  # what a function of lib.typ looks up


def fonts():
    """Return the folder of the Chinese fonts, which a package of requirements.txt brings."""
    spec = find_spec(FONTS)
    if spec is None:
        package = FONTS.replace("_", "-")
        raise ModuleNotFoundError(f"The Chinese fonts are missing: `pip install {package}`.")
    return list(spec.submodule_search_locations)


def prepare(place, logs, figures):
    """Put the sources, the figures and the facts into one folder; return facts and verdicts."""
    found, rows = facts.collect(logs)
    (place / "facts.json").write_text(json.dumps(found), encoding="utf-8")
    for source in HERE.glob("*.typ"):
        shutil.copyfile(source, place / source.name)  # without its mode, which may be read-only
    for language in facts.LANGUAGES:
        words = (HERE / f"{language}.typ").read_text(encoding="utf-8")
        for name in re.findall(r'plot\("(\w+)"', words):
            if not (figures / f"{name}.pdf").exists():
                makes = f"`python hw1/plot_all.py{facts.out(figures)}` makes it"
                raise facts.MissingLogError(f"{figures / name}.pdf is missing: {makes}.")
            shutil.copyfile(figures / f"{name}.pdf", place / f"{name}.pdf")
        for kind, name in re.findall(r'#(n|w|pick)\("([^"]+)"', words):
            known = found[KINDS[kind]]
            if name not in (known[language] if kind == "w" else known):
                raise facts.MissingLogError(
                    f"The report needs {name}, but the logs in {logs} do not have it:"
                    " run that experiment with its default settings."
                )
    return found, rows


def build(logs, figures, pdfs, page):
    """Write the documents, {language: path}, the verdicts, and the tables of `page`, if any."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        found, rows = prepare(place, logs, figures)
        compiler = typst.Compiler(root=name, font_paths=fonts(), ignore_system_fonts=True)
        made = {
            path: compiler.compile(place / f"{language}.typ", format="pdf")
            for language, path in pdfs.items()
        }
    if page:
        text = readme.rewrite(page.read_text(encoding="utf-8"), found, logs)
        made[page] = text.encode("utf-8")
    for path, content in made.items():
        write(path, content)
        say(f"report: wrote {path}")
    say(f"report: wrote {write_table(figures / 'verdicts.csv', rows, '.6g')}")


def main(argv=None):
    """Read the logs, decide, write; exit code 2 and one sentence say what is wrong."""
    title = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=title, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=folder, metavar="DIR", help="(default: hw1 and the folder above it)")
    add("--logs", type=folder, metavar="DIR", help="(default: logs/ under --out)")
    add("--readme", type=folder, metavar="FILE", help="(default: README.md; none with --out)")
    args = parser.parse_args(argv)
    home, page = args.out or HERE.parent, args.readme
    pdfs = {"en": home / "Report.pdf", "zh": home / "Report-zh.pdf"}
    if args.out is None:
        pdfs = {"en": HERE.parent.parent / "Report.pdf", "zh": HERE.parent / "Report.pdf"}
        page = page or HERE.parent.parent / "README.md"
    try:
        build(args.logs or home / "logs", home / "figures", pdfs, page)
    except (ValueError, OSError, ImportError, typst.TypstError) as error:
        parser.exit(2, f"report: error: {str(error).rstrip('.')}.\n")


if __name__ == "__main__":
    main()
    sys.exit(say.lost)
