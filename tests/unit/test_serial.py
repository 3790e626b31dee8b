"""What is said of a file that is not what it should be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from whisper_parity.errors import RecordError
from whisper_parity.system import serial


@dataclass(frozen=True, slots=True)
class Inner:
    count: int


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    parts: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "name: Field required"),
        ('{"name": "a", "parts": [{"count": 1}, {"count": "x"}]}', "parts.1.count: Input should be a valid integer"),
        ('{"name": 1, "parts": 2}', "name: Input should be a valid string, and 1 more"),
        ('{"name": "a"', "Invalid JSON: EOF while parsing an object"),
        ('{"name": "\\udc80"', "Expecting ',' delimiter"),
    ],
)
def test_the_place_that_is_wrong_is_named(text, reason):
    """The first one, and how many more there are."""
    with pytest.raises(RecordError) as caught:
        serial.loads(Outer, text, "a.json")
    assert str(caught.value).startswith(f"a.json: cannot be read as a Outer ({reason}")
    assert str(caught.value).endswith("). Was it written by another version, or cut short?")
    assert "\n" not in str(caught.value)
