"""Texts of many clips, one a line: "text (id)" of NIST, "id text" of Kaldi and LibriSpeech."""

from __future__ import annotations

from whisper_parity.compare.result import Result


def trn(text: str, name: str) -> tuple[Result, ...]:
    """Results of a trn, of two clips or more; none where a line does not end with an id in brackets."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [line[:-1].rpartition("(") for line in lines if line.endswith(")")]
    is_trn = len(lines) > 1 and len(pairs) == len(lines)
    if not is_trn or not all(bracket and _is_id(identity) for _, bracket, identity in pairs):
        return ()
    return tuple(Result(name, "trn", said.strip(), None, id=identity) for said, _, identity in pairs)


def with_ids(text: str, name: str) -> tuple[Result, ...]:
    """Results of lines "id text", of two clips or more; none where a line begins with no id such as 84-121-0003."""
    found = by_first_word(text)
    if len(found) < 2 or not all(map(_is_utterance, found)):
        return ()
    return tuple(Result(name, "lines of id and text", said, None, id=identity) for identity, said in found.items())


def by_first_word(text: str) -> dict[str, str]:
    """Texts by the first word of each line; none where a line has the id of another."""
    pairs = [line.strip().partition(" ") for line in text.replace("\t", " ").splitlines() if line.strip()]
    found = {identity: said.strip() for identity, _, said in pairs}
    return found if len(found) == len(pairs) else {}


def _is_utterance(word: str) -> bool:
    """Whether a word is an id, and no word of a language: digits, and parts between them."""
    return len(word) > 3 and any(map(str.isdigit, word)) and any(mark in word for mark in "-_") and ":" not in word


def _is_id(text: str) -> bool:
    return bool(text) and not any(character.isspace() or character in "()" for character in text)
