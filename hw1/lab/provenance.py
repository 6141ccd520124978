"""Where a number comes from: the code, the machine and the instructions that computed it."""

import ast
import hashlib
import inspect
import itertools
import math
import os
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from lab import HW1

import torch

SHARED = ("data", "models", "train", "measures", "symmetries")


def capability():
    """Return the vector instructions that PyTorch uses on this machine's processor, e.g. AVX2."""
    return torch.backends.cpu.get_cpu_capability()


def processor():
    """Return the processor's name, family, model, widest vector instructions and cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        about = {key.strip(): value.strip() for key, _, value in (l.partition(":") for l in lines)}
        name = f"{about['model name']}, family {about['cpu family']}, model {about['model']}"
        flags = about["flags"].split()
        name += f", {next((f for f in ('avx512f', 'avx2', 'avx') if f in flags), 'no AVX')}"
    except (OSError, KeyError):  # not Linux, or not x86-64
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def core_gflops():
    """Return how many 1e9 operations a second one core does in a float32 matrix product.

    The name of a processor says too little about its speed to compare the seconds of two machines.
    """
    square, best = torch.ones(512, 512), math.inf
    for _ in range(20):
        started = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - started)
    return round(2 * 512**3 / best / 1e9)


def packages():
    """Return a line NAME==VERSION for each installed package, as `pip freeze` prints them."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions()}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def git_commit():
    """Return the commit of the checkout, "with changes" if a Python file was edited since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit} with changes" if _git("status", "--porcelain", "--", "*.py") else commit


def _git(*words):
    try:
        run = subprocess.run(["git", *words], cwd=HW1, capture_output=True, text=True, check=False)
    except OSError:  # there is no git on this machine
        return ""
    return run.stdout.strip()


def code_digest(*functions):
    """Return a digest of the functions and of all of this project's code that they use.

    It follows names from file to file. Comments, docstrings and line breaks do not count, and
    neither does code that the functions never reach.
    """
    plain = map(inspect.unwrap, functions)  # a decorator's wrapper lies in another file
    todo = [(Path(f.__code__.co_filename), f.__name__) for f in plain]
    found = {}
    while todo:
        path, name = todo.pop()
        definitions, imports = _module(path)
        if name in imports:
            todo.append(imports[name])
        elif name in definitions and (path, name) not in found:
            nodes = definitions[name]
            found[path, name] = [ast.dump(node) for node in nodes]
            for part in itertools.chain(*map(ast.walk, nodes)):
                if isinstance(part, ast.Name):
                    todo.append((path, part.id))
                elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                    module, inner = imports.get(part.value.id, (None, ""))
                    if module and inner is None:
                        todo.append((module, part.attr))
    ordered = sorted((path.name, name, text) for (path, name), text in found.items())
    return hashlib.sha256(repr(ordered).encode()).hexdigest()


@cache
def modules_digest():
    """Return a digest of the modules that the experiments share, as they are when first asked."""
    paths = [HW1 / f"{name}.py" for name in SHARED] + sorted(HW1.glob("lab/*.py"))
    texts = [path.read_bytes() for path in paths]
    return hashlib.sha256(repr(texts).encode()).hexdigest()


@cache
def _module(path):
    """Return a file's top-level definitions, {name: syntax trees}, and what it imports from hw1/.

    The latter is {name: (file, name there)}, where the name there is None for a whole module.
    """
    definitions, imports = {}, {}
    if not path.exists() or path == HW1 / "lab" / "files.py":  # the data have a digest of their own
        return definitions, imports
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                source = [*(getattr(node, "module", None) or "").split("."), alias.name]
                parts = [part for part in source if part]
                name = alias.asname or alias.name
                if (file := HW1.joinpath(*parts).with_suffix(".py")).exists():
                    imports[name] = file, None
                elif (file := HW1.joinpath(*parts[:-1]).with_suffix(".py")).exists():
                    imports[name] = file, parts[-1]
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                part.value.value = ""  # a docstring
        for name in {*_bound(node)}:
            definitions.setdefault(name, []).append(node)
    return definitions, imports


def _bound(statement):
    """Yield the names that a top-level statement defines or changes, such as X of `X["a"] += 1`.

    A call may change its arguments and what it is a method of, unless its value is assigned.
    """
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name  # but not what its body assigns
        return
    if isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test):
        return  # what only the script itself does
    calls = not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
    for part in ast.walk(statement):
        changed = []
        if isinstance(part, ast.FunctionDef | ast.ClassDef | ast.MatchAs):
            yield part.name
        elif isinstance(part, ast.Call) and calls:
            changed = [part.func, *part.args]
        elif isinstance(getattr(part, "ctx", None), ast.Store | ast.Del):
            changed = [part]
        for inner in changed:
            while isinstance(inner, ast.Attribute | ast.Subscript):
                inner = inner.value
            if isinstance(inner, ast.Name):
                yield inner.id
