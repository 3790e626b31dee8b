"""Values inside the files of many programs: names of fields, ids, times, texts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whisper_parity.errors import RecordError

LARGEST_ID = 2**31
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
"""[hours:]minutes:seconds."""


def field(content: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of some fields that is there and not null; "tokenIds", "token_ids" and "TokenIds" are one name."""
    plain = {_bare(key): value for key, value in list(content.items())[::-1] if isinstance(key, str)}
    return next((plain[_bare(name)] for name in names if plain.get(_bare(name)) is not None), None)


def ids(value: Any, where: str) -> tuple[int, ...] | None:
    """Token ids of a list: integers, integers written as floats, objects with an "id", or a batch of one list.

    None for what holds no ids: nothing, or tokens as strings.

    Raises:
        RecordError: a batch of several, or an entry that is no id.
    """
    if not isinstance(value, list):
        return None
    if value and all(isinstance(item, list) for item in value):
        if len(value) != 1:
            raise RecordError(f"{where}: a batch of {len(value)} token lists", hint="Give one clip a file")
        return ids(value[0], where)
    if value and all(isinstance(item, dict) for item in value):
        if any("id" not in item for item in value):
            return None
        value = [item["id"] for item in value]
    if value and all(isinstance(item, str) for item in value):
        return None
    return tuple(_id(item, where) for item in value)


def are_strings(value: Any) -> bool:
    """Whether a list holds tokens as strings."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def seconds(value: Any) -> float | None:
    """A time in seconds: a number, a string of one, or a clock; None for anything else."""
    if isinstance(value, str):
        if match := CLOCK.fullmatch(value.strip()):
            hours, minutes, rest = match.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
        try:
            value = float(value.strip().removesuffix("s"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def joined(texts: Sequence[str]) -> str:
    """Texts of segments or words as one: as they are where they bring their blanks along, else with blanks between."""
    texts = [text for text in texts if text.strip()]
    if any(text[0].isspace() for text in texts[1:]):
        return "".join(texts)
    return " ".join(text.strip() for text in texts)


def kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _id(item: Any, where: str) -> int:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < LARGEST_ID:
        raise RecordError(f"{where}: {item!s:.40} is no token id", hint="Give ids as whole numbers, or leave them out")
    return item


def _bare(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").casefold()
