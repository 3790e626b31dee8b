"""Python objects as they print themselves: faster-whisper's segments, written to a file by `print`."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from whisper_parity.errors import RecordError

SEGMENT = re.compile(r"^\s*[\[(]*\s*(?:\w+\.)*\w*Segment\w*\(")
"""`Segment(id=1, ...)`, also within a list or a tuple."""

PYTHON = re.compile(r"^\s*[\[({][\[({\s]*'")
"""A dict or list with a text in single quotes, which JSON does not have."""


def looks_printed(text: str) -> bool:
    """Whether a text begins with a printed segment, or is a dict or list in Python's own writing."""
    return bool(SEGMENT.match(text) or PYTHON.match(text))


def objects(text: str, where: str) -> Any:
    """What a text of printed Python objects stands for, in the values of JSON; nothing is run.

    Raises:
        RecordError: not Python's writing.
    """
    try:
        with warnings.catch_warnings():  # Python's own remarks on what stands there are not ours
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            statements = ast.parse(text.strip()).body
        values = [_value(statement.value) for statement in statements if isinstance(statement, ast.Expr)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RecordError(
            f"{where}: printed objects that cannot be read ({type(error).__name__})", hint="Save the result as JSON"
        ) from error
    return values[0] if len(values) == 1 else values


def _value(node: ast.expr) -> Any:
    """Calls become objects of their keywords; an argument of an unknown kind is null."""
    if isinstance(node, ast.Call):
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
        return {str(_value(key)): _value(value) for key, value in pairs if key is not None}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
