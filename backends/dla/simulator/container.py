"""The stand-in for a DLA file: our own header, then a TFLite file with fp16 weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

MAGIC = b"SIMDLA01"
ALIGNMENT = 64
HEADER_LIMIT = 1 << 16
VERSION = "8.2.31"
"""The version that the stand-ins report: that of the compiler in the public SDK 8.0.11."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata of a real file, as far as it is public."""

    version: str
    major: int
    arch: str
    soc: str | None
    suppress_io: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    targets: tuple[str, ...]


def write(path: Path, header: Header, model: bytes) -> None:
    """Write a container, with `model` aligned to 64 bytes."""
    text = json.dumps({"stand_in": True, **asdict(header)}).encode()
    start = len(MAGIC) + 4 + len(text)
    padding = b"\0" * (-start % ALIGNMENT)
    path.write_bytes(MAGIC + len(text).to_bytes(4, "little") + text + padding + model)


def read(data: bytes) -> tuple[Header, bytes]:
    """Return the header and the TFLite file of a container.

    Raises:
        ValueError: not a container.
    """
    size = int.from_bytes(data[8:12], "little")
    if data[:8] != MAGIC or size > HEADER_LIMIT or len(data) < 12 + size:
        raise ValueError("BAD_DATA: not a DLA file of this simulator")
    try:
        fields = json.loads(data[12 : 12 + size])
        fields.pop("stand_in", None)
        sides = {side: tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in fields[side]) for side in _SIDES}
        header = Header(**{**fields, **sides, "targets": tuple(fields["targets"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"BAD_DATA: malformed header of the DLA file ({error})") from error
    start = 12 + size
    return header, data[start + -start % ALIGNMENT :]


_SIDES = ("inputs", "outputs")
