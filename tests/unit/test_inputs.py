"""Files that somebody gave are looked at before their first byte is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from whisper_parity.errors import ConfigError, InputError, RecordError
from whisper_parity.system import inputs


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path has at most 107 bytes


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pipe, "expected a file, found a pipe"),
        (endless, "expected a file, found a device"),
        (socket_file, "expected a file, found a socket"),
        (Path.mkdir, "expected a file, found a folder"),
        (huge, "1024.0 GiB, at most 64.0 MiB are read"),
        (lambda path: None, "cannot be read (No such file or directory)"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_what_is_no_file_of_a_plausible_size_is_refused(make, reason: str, tmp_path: Path):
    """Nothing is read, so nothing can hang or fill memory."""
    make(tmp_path / "given")
    with pytest.raises(RecordError) as refusal:
        inputs.read(tmp_path / "given", kind=RecordError, hint="Give a result")
    assert str(refusal.value) == f"{tmp_path / 'given'}: {reason}. Give a result"


def test_a_name_with_a_nul_is_no_file(tmp_path: Path):
    """Python raises ValueError for it, not OSError."""
    with pytest.raises(InputError, match="cannot be read"):
        inputs.read(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ("9" * 5000, "not JSON (Exceeds the limit (4300"),
        ("{", "not JSON (Expecting property name"),
    ],
)
def test_json_of_any_form_is_a_value_or_one_line(text: str, reason: str):
    """Deep nesting and endless digits too."""
    with pytest.raises(RecordError) as refusal:
        inputs.parse_json(text, "a.json", RecordError)
    assert str(refusal.value).startswith(f"a.json: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = " + "[" * 100_000, "nested too deep"),
        ("a = " + "9" * 5000, "not TOML (Exceeds the limit (4300"),
        ("a = \0", "not TOML ("),
        ("a", "not TOML ("),
    ],
)
def test_toml_of_any_form_is_a_table_or_one_line(text: str, reason: str, tmp_path: Path):
    """Deep nesting, endless digits and NUL too."""
    path = tmp_path / "parity.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        inputs.read_toml(path, ConfigError)
    assert str(refusal.value).startswith(f"{path}: {reason}")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    """Editors of one vendor write it."""
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert inputs.read_json(tmp_path / "a.json") == {}
