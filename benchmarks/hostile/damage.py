"""Ways to spoil a file: its bytes, its JSON or TOML, its kind."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Damage = tuple[str, Callable[[Path], None]]
"""What is wrong, and a function that makes it so at a path."""

DEEP = 100_000
TEXTS = (
    "", "\0", "\x1b[2J\x1b]0;owned\x07", "::error::owned", "##[error]owned", "safe\u202egnp", "\ud800", "a\nb",
    "../../../etc/passwd",    "/dev/zero", "x" * 100_000, "9" * 5000, "{{7*7}}", "[bold]x[/]", "<script>1</script>",
    "$(touch owned)", "`touch owned`",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**70, -(2**70), 1e308, float("nan"), float("inf"), float("-inf"),
    [], {}, [[]], [None], {"": None},
    [1] * 1000, *TEXTS,
)  # fmt: skip


def special_files() -> tuple[Damage, ...]:
    """What is no regular file, or endless: every one of these must be refused."""
    return (
        ("a pipe", os.mkfifo),
        ("a link to an endless device", lambda path: path.symlink_to("/dev/zero")),
        ("a link to a terminal", lambda path: path.symlink_to("/dev/tty")),
        ("a link to itself", lambda path: path.symlink_to(path)),
        ("a folder", Path.mkdir),
        ("a socket", _socket),
        ("a terabyte of nothing", _sparse),
        ("an empty file", lambda path: path.write_bytes(b"")),
    )


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def spoiled_bytes(random: Random, content: bytes) -> Damage:
    """One damage to the bytes of a sound file."""
    where = random.randrange(max(1, len(content)))
    size = min(len(content) - where, random.choice((1, 4, 64, 4096)))
    edits: dict[str, Callable[[], bytes]] = {
        f"cut at byte {where}": lambda: content[:where],
        f"one bit at byte {where}": lambda: content[:where] + _flipped(random, content[where]) + content[where + 1 :],
        f"{size} random bytes at {where}": lambda: content[:where] + random.randbytes(size) + content[where + size :],
        f"{size} bytes less at {where}": lambda: content[:where] + content[where + size :],
        f"{size} bytes twice at {where}": lambda: content[: where + size] + content[where:],
        f"{size} x FF at {where}": lambda: content[:where] + b"\xff" * size + content[where + size :],
        f"{size} x 00 at {where}": lambda: content[:where] + bytes(size) + content[where + size :],
        "random bytes in the head": lambda: random.randbytes(16) + content[16:],
        "the end twice": lambda: content + content[-4096:],
    }  # fmt: skip
    what = random.choice(list(edits))
    return what, _writes(edits[what]())


def _flipped(random: Random, byte: int) -> bytes:
    return bytes([byte ^ 1 << random.randrange(8)])


def random_bytes(random: Random) -> Damage:
    """Bytes that are nothing at all."""
    size = random.choice((1, 7, 100, 10_000))
    return f"{size} random bytes", _writes(random.randbytes(size))


def spoiled_json(random: Random, text: str) -> Damage:
    """One damage to a JSON document: a value, a key, or its text."""
    document = json.loads(text)
    if random.random() < 0.25:
        return _spoiled_text(random, text)
    place = random.choice(list(_places(document)))
    holder, key = place
    action = random.choice(("another value", "another value", "gone", "a key more", "twice"))
    value = random.choice(VALUES)
    if action == "gone":
        del holder[key]
    elif action == "a key more" and isinstance(holder, dict):
        holder["unknown"] = value
    elif action == "twice" and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = value
    return f"{action} at {key!r:.30}: {value!r:.30}", _writes(json.dumps(document).encode("utf-8", "surrogatepass"))


def _spoiled_text(random: Random, text: str) -> Damage:
    damages: dict[str, bytes] = {
        "cut short": text.encode()[: random.randrange(len(text))],
        "nested without end": b"[" * DEEP,
        "objects nested without end": b'{"a":' * DEEP,
        "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
        "bytes that are no UTF-8": b"\xff\xfe\xfd" + text.encode(),
        "NUL in front": b"\0" + text.encode(),
        "a list": b"[1, 2]",
        "a number": b"7",
        "null": b"null",
        "the same keys twice": text.encode().replace(b"{", b'{"a": 1, "a": 2, ', 1),
    }
    what = random.choice(list(damages))
    return what, _writes(damages[what])


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every value in a document."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [place for key, inner in pairs for place in [(value, key), *_places(inner)]] or [({"": value}, "")]


def _writes(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write
