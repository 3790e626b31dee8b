"""The archive of a TorchScript file, held to one reading before anything in it is loaded.

torch finds an entry whatever the case of its name, and takes one of several that are called alike; another reader takes
another one. A file of which two readings are possible is refused, and what is searched is what torch reads.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipInfo

from whisper_parity.errors import ArtifactError

ENTRIES_LIMIT = 100_000
CODE_LIMIT = 2**26
"""Most bytes of one entry that holds code or a pickle."""
LOCAL = struct.Struct("<4sHHHHHIIIHH")
END = struct.Struct("<4sHHHHIIH")
CUSTOM_CLASS = re.compile(rb"torch\.classes\.(\w+)")
CUSTOM_CLASSES = {b"quantized", b"rnn", b"sparse"}
"""Namespaces of classes in C++ that hold packed weights; others open processes, devices and profiles."""
PACKED = re.compile(r"code/__torch__/torch/(ao/)?nn/(quantized|intrinsic|sparse)/")
"""torch's own quantised layers unpack their weights while they are loaded."""
AGAIN = "Trace it again"


def require_one_reading(path: Path) -> None:
    """Refuse an archive that two readers could understand differently.

    Raises:
        ArtifactError: entries called alike, outside the top folder, or not as its directory says; or bytes around it.
        OSError, zipfile.BadZipFile, ValueError: no archive.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        for problem in _ambiguities(file, entries):
            raise ArtifactError(f"{path}: {problem}", hint=AGAIN)


def require_no_code_at_load(path: Path, reader: Any) -> None:
    """Refuse what would run code while it is loaded.

    Args:
        path: the file, for messages.
        reader: torch's own of this archive (`torch._C.PyTorchFileReader`).

    Raises:
        ArtifactError: `__setstate__`, classes of other libraries, or a format without these names.
    """
    for name in reader.get_all_records():
        lowered = name.lower()
        if lowered == "model.json":
            raise ArtifactError(f"{path}: the format of torch before 1.4", hint=AGAIN)
        if lowered.endswith((".py", ".pkl")):
            _search(path, name, reader.get_record(name))


def _search(path: Path, name: str, content: bytes) -> None:
    if name.lower().endswith(".py") and b"__setstate__" in content and not PACKED.match(name):
        raise ArtifactError(f"{path}: runs code of its own when loaded (__setstate__ in {name})", hint=AGAIN)
    for match in CUSTOM_CLASS.finditer(content):
        if match[1] not in CUSTOM_CLASSES:
            raise ArtifactError(
                f"{path}: uses torch.classes.{match[1].decode('ascii', 'replace')} (in {name}), "
                "which a Whisper does not need",
                hint=AGAIN,
            )


def _ambiguities(file: Any, entries: Sequence[ZipInfo]) -> Iterator[str]:
    """Why an archive has more than one reading; nothing if it has one."""
    if not entries or len(entries) > ENTRIES_LIMIT:
        yield f"an archive of {len(entries)} entries"
        return
    names: dict[str, str] = {}
    top = entries[0].filename.partition("/")[0].lower()
    for entry in entries:
        alike = names.setdefault(entry.filename.lower(), entry.filename)
        if len(names) <= len(entries) and alike is not entry.filename:
            yield f"two entries that torch does not tell apart ({alike} and {entry.filename})"
        yield from _oddities(entry, top)
        yield from _disagreements(file, entry)
    yield from _surroundings(file, entries)


def _oddities(entry: ZipInfo, top: str) -> Iterator[str]:
    name = entry.orig_filename
    parts = name.split("/")
    if name != entry.filename or not name.isprintable() or "\\" in name:
        yield f"an entry with a name that readers cut or change ({name!r})"
    if parts[0].lower() != top or len(parts) < 2 or ".." in parts:
        yield f"an entry outside its folder {top} ({name})"
    if name.lower().endswith((".py", ".pkl")) and entry.file_size > CODE_LIMIT:
        yield f"{entry.file_size} bytes of code in one entry ({name})"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 0x1:
        yield f"an entry that is packed otherwise than torch packs ({name})"


def _disagreements(file: Any, entry: ZipInfo) -> Iterator[str]:
    """Where an entry's own header says something else than the directory at the end."""
    file.seek(entry.header_offset)
    header = file.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
        yield f"an entry that is not where the directory says ({entry.filename})"
        return
    _, _, flags, method, _, _, _, packed, size, length, _ = LOCAL.unpack(header)
    encoded = entry.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace")
    sizes = {0, 0xFFFFFFFF}  # written behind the entry, or in an extra field
    if file.read(length) != encoded or method != entry.compress_type:
        yield f"an entry under two names or packings ({entry.filename})"
    if packed not in {entry.compress_size, *sizes} or size not in {entry.file_size, *sizes}:
        yield f"an entry of two sizes ({entry.filename})"


def _surroundings(file: Any, entries: Sequence[ZipInfo]) -> Iterator[str]:
    """Bytes before the first entry or behind the directory, where another archive could lie."""
    if min(entry.header_offset for entry in entries) != 0:
        yield "bytes before the archive"
    file.seek(-END.size, 2)
    if not file.read(END.size).startswith(b"PK\x05\x06"):
        yield "bytes behind the archive"
