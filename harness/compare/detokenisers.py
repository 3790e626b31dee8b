"""Wrong ways of turning ids into a text, as programs have them: each done to a program's ids proves or refutes it."""

from __future__ import annotations

import base64
import html
import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY, MULTILINGUAL

Decode = Callable[[Sequence[int]], str]
Pieces = Sequence[bytes]

BLANK, NEWLINE = "Ġ", "Ċ"
"""U+0120 and U+010A: blank and newline in GPT-2's alphabet for bytes."""
EMPTY = 50256
"""An id of the multilingual table whose base64, "=", is no byte."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of decoding."""

    sentence: str
    """What it does, in words."""
    decode: Decode
    """From text tokens of a window to its text."""
    is_fault: bool = True


def ways(n_vocab: int) -> Iterator[Way]:
    """Wrong ways of decoding ids of a vocabulary, the simplest first."""
    yield from (Way(words, partial(_of_text, n_vocab, change)) for words, change in OF_TEXT.items())
    yield from (Way(words, partial(_of_pieces, n_vocab, join)) for words, join in OF_PIECES.items())
    for form in ("NFC", "NFD"):
        normal = partial(unicodedata.normalize, form)
        yield Way(f"Unicode's normal form {form}", partial(_of_text, n_vocab, normal), is_fault=False)
    for written, words in ((" ", "as a blank"), ("=", "as '='")):
        yield Way(f"id {EMPTY}, which is empty, decoded {words}", partial(_with_empty, n_vocab, written))
    other = MULTILINGUAL if n_vocab == ENGLISH_ONLY else ENGLISH_ONLY
    kind = "multilingual" if other == MULTILINGUAL else "English"
    yield Way(f"the table of another vocabulary, the {kind} one", partial(_shifted, other, 0))
    for by in (1, -1):
        yield Way(f"a table shifted by one: each id read as id {by:+d}", partial(_shifted, n_vocab, by))


def _pieces(n_vocab: int, tokens: Sequence[int]) -> list[bytes]:
    return [vocabulary.token_bytes(n_vocab, [token]) for token in tokens]


def _of_pieces(n_vocab: int, join: Callable[[Pieces], str], tokens: Sequence[int]) -> str:
    return join(_pieces(n_vocab, tokens))


def _of_text(n_vocab: int, change: Callable[[str], str], tokens: Sequence[int]) -> str:
    return change(vocabulary.token_text(n_vocab, tokens))


def _with_empty(n_vocab: int, written: str, tokens: Sequence[int]) -> str:
    pieces = [written.encode() if token == EMPTY else vocabulary.token_bytes(n_vocab, [token]) for token in tokens]
    return b"".join(pieces).decode("utf-8", "replace")


def _shifted(n_vocab: int, by: int, tokens: Sequence[int]) -> str:
    """Ids by another table, or moved; without those that it does not have."""
    eot = vocabulary.eot_of(n_vocab)
    return vocabulary.token_text(n_vocab, [token + by for token in tokens if 0 <= token + by < eot])


def _apart(errors: str, pieces: Pieces) -> str:
    return "".join(piece.decode("utf-8", errors) for piece in pieces)


def _as_latin(encoding: str, pieces: Pieces) -> str:
    return b"".join(pieces).decode(encoding, "replace")


def _encoded(separator: str, pieces: Pieces) -> str:
    return separator.join(base64.b64encode(piece).decode() for piece in pieces)


@lru_cache(maxsize=1)
def alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def _in_alphabet(blank: str, newline: str, pieces: Pieces) -> str:
    text = "".join(alphabet()[byte] for byte in b"".join(pieces))
    return text.replace(BLANK, blank).replace(NEWLINE, newline)


def _blanks_of_alphabet(pieces: Pieces) -> str:
    """U+0120 for each blank, whole characters otherwise."""
    return b"".join(pieces).decode("utf-8", "replace").replace(" ", BLANK)


def _between(pieces: Pieces) -> str:
    """A blank between all tokens, their own stripped."""
    return " ".join(filter(None, (piece.decode("utf-8", "replace").strip() for piece in pieces)))


def _ascii_alone(pieces: Pieces) -> str:
    return b"".join(bytes(byte for byte in piece if byte < 0x80) for piece in pieces).decode()


def _each_once(pieces: Pieces) -> str:
    kept = [piece for before, piece in zip([b"", *pieces], pieces) if piece != before]
    return b"".join(kept).decode("utf-8", "replace")


OF_PIECES: dict[str, Callable[[Pieces], str]] = {
    "bytes of its tokens decoded apart, so that characters of several tokens break": partial(_apart, "replace"),
    "bytes of its tokens decoded apart, characters of several tokens dropped": partial(_apart, "ignore"),
    "UTF-8 read as Latin-1": partial(_as_latin, "latin-1"),
    "UTF-8 read as Windows-1252": partial(_as_latin, "cp1252"),
    "characters outside ASCII dropped": _ascii_alone,
    "U+0120 left in place of blanks": _blanks_of_alphabet,
    "GPT-2's alphabet for bytes left as it is, U+0120 for a blank": partial(_in_alphabet, BLANK, NEWLINE),
    "GPT-2's alphabet for bytes left as it is, but for its blanks": partial(_in_alphabet, " ", NEWLINE),
    "GPT-2's alphabet for bytes left as it is, but for blanks and newlines": partial(_in_alphabet, " ", "\n"),
    "GPT-2's alphabet for bytes left as it is, but for its blanks, and newlines removed": partial(
        _in_alphabet, " ", ""
    ),
    "base64 of its tokens not decoded": partial(_encoded, ""),
    "base64 of its tokens not decoded, a blank between them": partial(_encoded, " "),
    "a blank between all tokens": _between,
    "tokens that repeat written once": _each_once,
}
"""Ways over the bytes of the tokens, by what they do."""

OF_TEXT: dict[str, Callable[[str], str]] = {
    "newlines removed": lambda text: text.replace("\r", "").replace("\n", ""),
    "U+0120 in the text taken for a blank, newlines removed": lambda text: text.replace(BLANK, " ").replace("\n", ""),
    "escapes of JSON left in the text": lambda text: json.dumps(text)[1:-1],
    "escapes of HTML left in the text": html.escape,
    "written in lower case": str.lower,
    "written in upper case": str.upper,
}
"""Ways over the decoded text."""
