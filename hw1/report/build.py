"""Build the report, in English and in Traditional Chinese, from the logs and the figures.

    python hw1/report/build.py [--out DIR] [--logs DIR]

reads hw1/logs and hw1/figures and writes Report.pdf and hw1/Report.pdf; with --out DIR it reads
DIR/logs and DIR/figures and writes DIR/Report.pdf and DIR/Report-zh.pdf. No number stands in the
text (en.typ, zh.typ): facts.py derives them all and ends the build with one sentence where the
logs contradict what the text claims. The same logs give the same bytes. Two seconds.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import typst

import facts

FONTS = "pylopdf_fonts_zh_tw"  # Noto Serif TC and Noto Sans TC, SIL Open Font License


def fonts():
    """The folder of the Chinese fonts, which a package of requirements.txt brings."""
    spec = find_spec(FONTS)
    if spec is None:
        package = FONTS.replace("_", "-")
        raise ModuleNotFoundError(f"The Chinese fonts are missing: `pip install {package}`.")
    return list(spec.submodule_search_locations)


def prepare(folder, logs, figures):
    """Lay the sources, the figures and the numbers into one folder, and return the numbers."""
    numbers, tables = facts.collect(logs, figures)
    for source in HERE.glob("*.typ"):
        shutil.copy(source, folder)
    for name in re.findall(r'plot\("(\w+)"', (HERE / "en.typ").read_text(encoding="utf-8")):
        if not (figures / f"{name}.pdf").exists():
            raise facts.MissingLogError(
                f"{figures / name}.pdf is missing: `python hw1/plot_all.py` makes it."
            )
        shutil.copy(figures / f"{name}.pdf", folder)
    text = json.dumps({"numbers": numbers, "tables": tables})
    (folder / "facts.json").write_text(text, encoding="utf-8")
    return numbers


def main(argv=None):
    """Read the logs, check the claims, compile both documents; exit code 2 says what is amiss."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: hw1 and its parent)")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="(default: logs/ under --out)")
    args = parser.parse_args(argv)
    home = args.out or HERE.parent
    pdfs = {"en": home / "Report.pdf", "zh": home / "Report-zh.pdf"}
    if args.out is None:
        pdfs = {"en": HERE.parent.parent / "Report.pdf", "zh": HERE.parent / "Report.pdf"}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, args.logs or home / "logs", home / "figures")
            compiler = typst.Compiler(root=name, font_paths=fonts(), ignore_system_fonts=True)
            for language, path in pdfs.items():
                pdf = compiler.compile(folder / f"{language}.typ", format="pdf")
                part = path.with_name(f"{path.name}.part")
                part.write_bytes(pdf)
                os.replace(part, path)
                print(f"report: wrote {path}")
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"report: error: {error}\n")


if __name__ == "__main__":
    main()
