"""Bytes to text: UTF-8 and UTF-16, with and without byte order mark."""

from __future__ import annotations

import codecs

from whisper_parity.errors import RecordError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; UTF-32's begins with UTF-16's, so it is asked for first."""
SAMPLE = 512
"""Bytes that are looked at where there is no mark."""

BINARY = {
    b"PK\x03\x04": "a zip archive (a checkpoint, .npz or document)",
    b"\x93NUMPY": "a numpy array",
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"RIFF": "sound or video (RIFF)",
    b"fLaC": "sound (FLAC)",
    b"OggS": "sound (Ogg)",
    b"ID3": "sound (MP3)",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF model",
}
"""First bytes of files that are given in place of a result."""

HINT = "Give a result with a text: JSON, subtitles or plain text, in UTF-8"


def text_of(content: bytes, where: str) -> str:
    """The text of a file.

    Raises:
        RecordError: not text, or in another encoding.
    """
    for start, what in BINARY.items():
        if content.startswith(start):
            raise RecordError(f"{where}: expected a result, found {what}", hint=HINT)
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{where}: not {encoding.upper()} text (byte {error.start})", hint="Save it as UTF-8"
        ) from error
    if "\0" in text:
        raise RecordError(f"{where}: expected a result, found binary data (zero bytes)", hint=HINT)
    return text


def _encoding(content: bytes) -> str:
    """By its mark, else UTF-16 where every other byte of ASCII is zero, else UTF-8."""
    for mark, name in MARKS:
        if content.startswith(mark):
            return name
    sample = content[:SAMPLE]
    half = len(sample) // 2
    if half and sample[1::2].count(0) > 0.4 * half and not sample[0::2].count(0):
        return "utf-16-le"
    if half and sample[0::2].count(0) > 0.4 * half and not sample[1::2].count(0):
        return "utf-16-be"
    return "utf-8"
