"""A hash of Python source that follows what the code does, not how it is worded or laid out.

Source is parsed, docstrings and the texts of raised errors are removed, and the syntax tree is written out in a form of
our own. Comments and layout are not in the tree. An error's text counts for nothing because a stage that raises one
writes no result. `ast.dump` is not used because its output changes between Python versions: 3.13 leaves out empty
fields, 3.12 added `type_params` to functions and classes, and versions split the text of f-strings differently. The
form below leaves out everything empty and joins the text of f-strings, so Python 3.11, 3.12 and 3.13 agree
(tests/unit/orchestration/test_syntax_hash.py runs all that are installed).
"""
from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path


def syntax_hash(source: str) -> str:
    """SHA-256 (64 hex digits) of the syntax of a module, without its docstrings, comments and error texts.

    Raises SyntaxError when the source cannot be parsed.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _drop_docstrings(node)
        elif isinstance(node, ast.Raise):
            _drop_message(node)
    return hashlib.sha256("".join(_written(tree)).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file: of its syntax if it is Python source, of its bytes otherwise."""
    if path.suffix == ".py":
        return syntax_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _drop_docstrings(node: ast.AST) -> None:
    """Removes every string that stands alone as a statement: docstrings, and those below the fields of a class."""
    node.body = [statement for statement in node.body
                 if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                         and isinstance(statement.value.value, str))]


def _drop_message(node: ast.Raise) -> None:
    """Removes the arguments of a StudyError or ValueError that is raised."""
    error = node.exc
    if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in ("StudyError", "ValueError"):
        node.exc = error.func


def _written(node: object) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield from ("(JoinedStr", *(part for value in _joined(node.values) for part in _written(value)), ")")
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != [] and name not in ("kind", "type_ignores"):
                yield f" {name}="
                yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for value in node:
            yield from _written(value)
            yield ","
        yield "]"
    else:
        yield f"{type(node).__name__}:{ascii(node)}"


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts joined and empty ones left out."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and value.value == "":
            continue
        if parts and isinstance(value, ast.Constant) and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(parts[-1].value + value.value)
        else:
            parts.append(value)
    return parts
