"""Digests of the code, so that results of older code are not mistaken for those of this code."""

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
    neither does code that the functions never reach. If a file is imported inside a function, or
    as a.b, or with *, all of it counts. Names that are looked up by text (getattr) are
    not followed, nor are registries that a decorator of another file fills: use --fresh after a
    change of these.
    """
    plain = map(inspect.unwrap, functions)  # a decorator's wrapper lies in another file
    todo = [(Path(f.__code__.co_filename), f.__name__) for f in plain]
    found, seen = {}, set()
    while todo:
        path, name = todo.pop()
        definitions, imports, wholes = _module(path)
        if path not in seen:
            seen.add(path)
            for file in wholes:
                todo += [(file, inner) for names in _module(file)[:2] for inner in names]
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

    The latter is {name: (file, name there)}, where the name there is None for a whole module, and
    a set of files that count as a whole.
    """
    definitions, imports, wholes = {}, {}, set()
    if not path.exists() or path == HW1 / "lab" / "files.py":  # the data have a digest of their own
        return definitions, imports, wholes
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, dotted, file, inner in _imported(path, node):
                if dotted:
                    wholes.add(file)
                else:
                    imports[name] = file, inner
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                part.value.value = ""  # a docstring
            elif isinstance(part, ast.Import | ast.ImportFrom):
                wholes |= {file for _, _, file, _ in _imported(path, part)}
        for name in {*_bound(node)}:
            definitions.setdefault(name, []).append(node)
    for node in [node for nodes in list(definitions.values()) for node in nodes]:
        for name in _registers(node, definitions):  # such as NETWORKS, which @register fills
            definitions[name].append(node)
    return definitions, imports, wholes


def _imported(path, node):
    """Yield (name, whether it is a.b or *, file in hw1/, name there) of an import statement."""
    level, module = getattr(node, "level", 0), getattr(node, "module", None)
    folder, start = path.parents[level - 1] if level else HW1, module.split(".") if module else []
    for alias in node.names:
        dotted, inner = "." in alias.name or alias.name == "*", None
        file = _file(folder, [*start, *alias.name.split(".")])
        if not file and isinstance(node, ast.ImportFrom):
            file, inner = _file(folder, start), alias.name
        if file:
            yield alias.asname or alias.name, dotted, file, inner


def _file(folder, parts):
    """Return the file of a module or of a package, or None if it is not one of this project."""
    place = folder.joinpath(*parts)
    files = [place / "__init__.py", *([place.with_suffix(".py")] if parts else [])]
    return next((file for file in files if file.is_file() and HW1 in file.parents), None)


def _registers(node, definitions):
    """Return this file's names that are used by the functions which decorate this definition."""
    found = set()
    for decorator in getattr(node, "decorator_list", []):
        for part in ast.walk(decorator):
            for function in definitions.get(getattr(part, "id", None), []):
                found |= {inner.id for inner in ast.walk(function) if isinstance(inner, ast.Name)}
    return found & definitions.keys()


def _bound(statement):
    """Yield the names that a top-level statement defines or changes, such as X of `X["a"] += 1`.

    A call counts as a change of its arguments and of the object whose method it calls, unless the
    statement assigns the value of the call.
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
