"""Values that programs write, of whatever type, as an account holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
ENDED = {"eot": "eot", "stop": "eot", "end": "eot", "endoftext": "eot", "length": "length", "limit": "length"}
LARGEST = 2**31


def whole(value: Any) -> int | None:
    """A whole number, also one that is written out; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,12}\s*", value):
        return int(value)
    return value if isinstance(value, int) and abs(value) < 2**53 else None


def ids(value: Any) -> tuple[int, ...] | None:
    """Token ids of a list, or of a line such as "50258, 50259"; None for what is none."""
    items = [part for part in re.split(r"[\s,;\[\]]+", value) if part] if isinstance(value, str) else value
    if not isinstance(items, list):
        return None
    numbers = [whole(item) for item in items]
    good = tuple(number for number in numbers if number is not None and abs(number) < LARGEST)
    return good if len(good) == len(items) else None


def ended(value: Any) -> str:
    """How a window ended, in an account's words; "" where these have none."""
    return ENDED.get(re.sub(r"[^a-z]", "", str(value).lower()), "")


def language(word: str, dims: Dims) -> str | None:
    """The Whisper code of a language by code, English name, token or id; None for another word."""
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE

    bare = word.strip().strip("<|>").lower()
    if bare in LANGUAGES:
        return bare
    if (number := whole(bare)) is not None and vocabulary.is_multilingual(dims.vocabulary):
        words = vocabulary.tokenizer(dims.vocabulary)
        return dict(zip(words.all_language_tokens, words.all_language_codes)).get(number)
    code = TO_LANGUAGE_CODE.get(bare)
    return None if code is None else str(code)


def seconds(value: Any) -> dict[str, float]:
    """Times by name of an object, or one time without a name [s]."""
    items = value.items() if isinstance(value, Mapping) else (("total", value),)
    return {str(name)[:40]: number for name, item in items if (number := _time(item)) is not None}


def seconds_of_groups(groups: Mapping[str, str | None]) -> dict[str, float]:
    """Times of a line: each group is one, by its name; "name" and "value" are one together, "unit" is of all [s]."""
    scale = UNITS.get((groups.get("unit") or "s").strip(), 1.0)
    if groups.get("name") and groups.get("value"):
        groups = {(groups["name"] or "").strip(): groups["value"]}
    numbers = {name: _time(text) for name, text in groups.items() if name != "unit"}
    return {name: round(number * scale, 9) for name, number in numbers.items() if number is not None}


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e9 else None
