"""Digests of the code: what was computed by other code is not taken for a result of this one."""

import ast
import hashlib
import inspect
import itertools
from functools import cache
from pathlib import Path

from lab import HW1

SHARED = ("data", "models", "train", "measures", "symmetries")


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
