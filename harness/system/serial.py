"""Frozen dataclasses to JSON and back; infinities are the strings "Infinity" and "-Infinity".

A file name need not be UTF-8: Python represents its odd bytes as lone surrogates, which are kept as escapes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from whisper_parity.errors import InputError, RecordError, first_line
from whisper_parity.system import files, inputs

T = TypeVar("T")
_SURROGATE = "\\udc"
_INVISIBLE = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control, format and direction marks that JSON allows unescaped: a terminal would obey them."""


def dumps(value: Any) -> str:
    """A dataclass as indented JSON."""
    return _dumped(value, 1)


def line(value: Any) -> str:
    """A dataclass as JSON on one line."""
    return _dumped(value, None)


def _dumped(value: Any, indent: int | None) -> str:
    adapter = _adapter(type(value))
    try:
        text = str(adapter.dump_json(value, indent=indent).decode())
    except ValueError:  # a lone surrogate
        return json.dumps(adapter.dump_python(value, mode="json"), indent=indent)
    return _INVISIBLE.sub(lambda mark: json.dumps(mark[0])[1:-1], text)


def loads(kind: type[T], text: str | bytes, where: str) -> T:
    """Read JSON back into the dataclass `kind`.

    Raises:
        RecordError: not JSON, or not of that form.
    """
    adapter = _adapter(kind)
    try:
        escaped = _SURROGATE in (text if isinstance(text, str) else text.decode("utf-8", "replace"))
        return cast(T, adapter.validate_python(json.loads(text)) if escaped else adapter.validate_json(text))
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{where}: cannot be read as a {kind.__name__} ({_reason(error)})",
            hint="Was it written by another version, or cut short?",
        ) from error


def _reason(error: ValueError | RecursionError) -> str:
    """The first error in a text, with its location."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return first_line(error)
    first, *others = error.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"])
    reason = f"{where:.120}: {first['msg']:.200}" if where else f"{first['msg']:.200}"
    return f"{reason}, and {len(others)} more" if others else reason


def write(path: Path, value: Any) -> None:
    """Write a dataclass as JSON; readers see the old file or the new one, never half of it.

    Raises:
        OutputError: the folder cannot be written.
    """
    files.write_text(path, dumps(value) + "\n")


def read(kind: type[T], path: Path) -> T:
    """Read a JSON file back into the dataclass `kind`.

    Raises:
        RecordError: missing, not JSON, or not of that form.
    """
    return loads(kind, inputs.read(path, kind=RecordError, hint="Give the folder of a finished run"), str(path))


_ADAPTERS: dict[type[Any], Any] = {}


def _adapter(kind: type[Any]) -> Any:
    """The reader and writer of a type, built once."""
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def remembered(path: Path, compute: Callable[[], Any]) -> Any:
    """A JSON value from a file, computed and written when missing or unreadable."""
    try:
        return inputs.read_json(path)
    except InputError:
        value = compute()
        files.write_text(path, json.dumps(value))
        return value


def digest(parts: list[Any]) -> str:
    """A key for values: 32 hex digits of SHA-256 over their JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
