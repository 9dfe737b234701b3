"""A hash of Python source that follows what the code does, not how it is worded or laid out.

The source is parsed, docstrings and error messages are removed from the syntax tree, and the rest is written in a text
form defined here. A syntax tree has no comments and no layout. Error messages are ignored because a stage that raises
an error writes no result. `ast.dump` is unsuitable: Python 3.13 omits empty fields, 3.12 added `type_params` to
functions and classes, and versions split the text of f-strings in different places. The form used here omits every
empty field and joins adjacent pieces of f-string text, so Python 3.11, 3.12 and 3.13 give the same hash
(tests/unit/orchestration/test_syntax_hash.py).
"""
from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

MESSAGE_ERRORS = ("StudyError", "ValueError")       # their arguments are messages for people


@cache
def parsed(source: str) -> tuple[str, frozenset[str]]:
    """Returns the hash of a module's syntax, and the names that it imports, at the top or inside functions.

    The hash is the SHA-256 (64 hex digits) of the syntax without docstrings, comments and error messages. The last part
    of a name may be a class, a function or a constant. Raises SyntaxError if the source cannot be parsed.
    """
    tree, names = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _drop_docstrings(node)
        elif isinstance(node, ast.Raise):
            _drop_message(node)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts: list[str] = []
    _write(tree, parts)
    return hashlib.sha256("".join(parts).encode()).hexdigest(), frozenset(names)


def syntax_hash(source: str) -> str:
    """Returns the hash of a module's syntax; see `parsed`."""
    return parsed(source)[0]


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file: of its syntax if it is Python source, else of its bytes."""
    if path.suffix == ".py":
        return syntax_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _drop_docstrings(node: ast.AST) -> None:
    """Removes every statement that is only a string: docstrings, and the descriptions under the fields of a class."""
    node.body = [statement for statement in node.body
                 if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                         and isinstance(statement.value.value, str))]


def _drop_message(node: ast.Raise) -> None:
    """Removes the arguments of a raised error if they are a message."""
    error = node.exc
    if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in MESSAGE_ERRORS:
        node.exc = error.func


def _write(node: object, parts: list[str]) -> None:
    """Appends the text form of a node, or of a field's value, to `parts`."""
    if isinstance(node, ast.JoinedStr):
        parts.append("(JoinedStr")
        for value in _joined(node.values):
            _write(value, parts)
        parts.append(")")
    elif isinstance(node, ast.AST):
        parts.append(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in ("kind", "type_ignores"):
                parts.append(f" {name}=")
                _write(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for value in node:
            _write(value, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(f"{type(node).__name__}:{ascii(node)}")


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Returns the parts of an f-string with adjacent texts joined and empty ones omitted."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and value.value == "":
            continue
        if parts and isinstance(value, ast.Constant) and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(parts[-1].value + value.value)
        else:
            parts.append(value)
    return parts
