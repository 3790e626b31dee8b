"""A program's text against our decoding of its own tokens.

A cause is named where doing the same to our decoding gives the program's text exactly, blanks at its ends apart, and a
row of U+FFFD or of question marks counted as one. Without such a proof the first difference is said, and no cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rapidfuzz.distance import Indel

from whisper_parity.backend.account import Account
from whisper_parity.compare import audit, detokenisers
from whisper_parity.compare.finding import Finding, cut, finding
from whisper_parity.compare.result import SPECIAL
from whisper_parity.model import vocabulary

Tokens = tuple[int, ...]
Decode = Callable[[Sequence[int]], str]

UNLIKE = 0.4
"""Share of equal characters below which a text is of other tokens altogether."""
COMPARED = 20_000
"""Characters of a text that are looked at for that."""
SHOWN = 24
"""Characters of a place that are shown."""
BROKEN = re.compile("[\ufffd?]+")
PLACEHOLDER = re.compile(r"\d{1,6}")


@dataclass(frozen=True, slots=True)
class _Said:
    """What a program's tokens say, as its text can be compared with it."""

    windows: tuple[Tokens, ...]
    """Text tokens of each window."""
    n_vocab: int

    def by(self, decode: Decode) -> tuple[str, ...]:
        """The whole text by a way of decoding, its windows joined with a blank and with none."""
        texts = [decode(window) for window in self.windows]
        stripped = " ".join(filter(None, (text.strip() for text in texts)))
        return tuple(dict.fromkeys((stripped, "".join(texts).strip())))

    @property
    def texts(self) -> tuple[str, ...]:
        """The whole text, rightly decoded."""
        return self.by(partial(vocabulary.token_text, self.n_vocab))


def shows(account: Account) -> bool:
    """Whether a program gives text and tokens, so that one can be held against the other."""
    return account.names_tokens and account.text is not None


def findings(account: Account, n_vocab: int) -> tuple[Finding, ...]:
    """What is wrong with a program's text by its own tokens: one finding at most, none where nothing is.

    A text without the blank that its first token begins with is right: most programs strip it. That blank kept is a
    remark. Tokens behind an end-of-text may be in the text or not.

    Args:
        account: of the program.
        n_vocab: size of the checkpoint's vocabulary.
    """
    if not shows(account):
        return ()
    text, tokens = account.text or "", [window.tokens or () for window in account.windows]
    unknown = [vocabulary.first_unknown(n_vocab, window) for window in tokens]
    if outside := [token for token in unknown if token is not None]:
        return (finding("text against tokens", f"token {outside[0]} is outside a vocabulary of {n_vocab}"),)
    versions = [_Said(tuple(windows), n_vocab) for windows in _versions(tokens, n_vocab)]
    if any(_same(text, ours) for said in versions for ours in said.texts):
        return _blank(text)
    named = next(filter(None, (_cause(text, said) for said in versions)), None)
    return (named or _unexplained(text, versions[0]),)


def _versions(tokens: Sequence[Sequence[int]], n_vocab: int) -> Iterator[list[Tokens]]:
    """Text tokens of the windows: up to end-of-text, and all."""
    eot = vocabulary.eot_of(n_vocab)
    ended = [tuple(window)[: window.index(eot)] if eot in window else tuple(window) for window in map(tuple, tokens)]
    yield [vocabulary.spoken(n_vocab, window) for window in ended]
    yield [vocabulary.spoken(n_vocab, window) for window in tokens]


def _same(text: str, ours: str) -> bool:
    """Equal but for blanks at the ends; halves of characters, which are ours, too, may be written in any way."""
    if text.strip() == ours.strip():
        return True
    if "\ufffd" not in ours:
        return False
    dropped = text.replace("\ufffd", "").strip() == ours.replace("\ufffd", "").strip()
    return dropped or _marked(text) == _marked(ours)


def _blank(text: str) -> tuple[Finding, ...]:
    if not text.startswith(" ") or not text.strip():
        return ()
    return (finding("detokeniser", "its text keeps the blank in front of its first word", is_fault=False),)


def _cause(text: str, said: _Said) -> Finding | None:
    for find in (_same_words, _exact, _specials, _placeholder, _moved, _but_for_blanks, _lengths):
        if named := find(text, said):
            return named
    return None


def _exact(text: str, said: _Said) -> Finding | None:
    """Another way of decoding that gives the text."""
    return _by_way(text, said, _marked, "")


def _but_for_blanks(text: str, said: _Said) -> Finding | None:
    """Another way of decoding that gives the text, blanks apart."""
    return _by_way(text, said, _unspaced, ", and other blanks")


def _by_way(text: str, said: _Said, alike: Callable[[str], str], more: str) -> Finding | None:
    right = {alike(ours) for ours in said.texts}
    for way in detokenisers.ways(said.n_vocab):
        if alike(text) in {alike(theirs) for theirs in said.by(way.decode)} - right - {""}:
            words = f"{way.sentence}{more}: {_first(text, said.texts[0])}"
            return finding("detokeniser", words, is_fault=way.is_fault)
    return None


def _unspaced(text: str) -> str:
    return _marked("".join(text.split()))


def _marked(text: str) -> str:
    """A text for proof: a row of broken characters is one."""
    return BROKEN.sub("\ufffd", text).strip()


def _specials(text: str, said: _Said) -> Finding | None:
    names = SPECIAL.findall(text)
    bare = " ".join(SPECIAL.sub("", text).split())
    if not names or bare not in [" ".join(ours.split()) for ours in said.texts]:
        return None
    listed = ", ".join(dict.fromkeys(names[: audit.LISTED]))
    return finding("detokeniser", f"special tokens in the text: {listed}", count=len(names))


def _placeholder(text: str, said: _Said) -> Finding | None:
    """Ids in place of a text: "[Tokens: 400, 370, ...]"."""
    ids = [int(number) for number in PLACEHOLDER.findall(text)]
    tokens = [token for window in said.windows for token in window]
    if not ids or ids != tokens[: len(ids)] or len(re.sub(r"[\d\W_]", "", text)) > len("tokens: ids"):
        return None
    return finding(
        "detokeniser", f"ids in place of a text, {len(ids)} of {len(tokens)}: {cut(text.strip())!r}", count=len(ids)
    )


def _same_words(text: str, said: _Said) -> Finding | None:
    """Its words, with other blanks between them; between windows alone that is a remark."""
    if text.strip() == "".join(_stripped(said)):
        return finding("detokeniser", "no blank between its windows", is_fault=False)
    words = text.split()
    return next((_other_blanks(text, ours) for ours in said.texts if words == ours.split()), None)


def _moved(text: str, said: _Said) -> Finding | None:
    """Blanks alone that are lost or added, so that words join or split."""
    for ours in said.texts:
        if "".join(text.split()) == "".join(ours.split()):
            lost, added = _moved_blanks(text, ours)
            counts = [f"{name} in {len(at)} place(s)" for at, name in ((lost, "lost"), (added, "added")) if at]
            return finding(
                "detokeniser", f"blanks {' and '.join(counts)}: {_first(text, ours)}", count=len(lost + added)
            )
    return None


def _stripped(said: _Said) -> list[str]:
    return [vocabulary.token_text(said.n_vocab, window).strip() for window in said.windows]


def _other_blanks(text: str, ours: str) -> Finding:
    """The same words with blanks between the same: doubled, or a line break or tab for one."""
    surplus = len(text.strip()) - len(ours.strip())
    if surplus > 0:
        return finding("detokeniser", f"blanks doubled, {surplus} too many: {_first(text, ours)}", count=surplus)
    return finding("detokeniser", f"blanks written otherwise: {_first(text, ours)}", is_fault=False)


def _moved_blanks(text: str, ours: str) -> tuple[list[int], list[int]]:
    """Letters in front of which a blank is lost, and of which one is added."""
    theirs, right = _starts(text), _starts(ours)
    return sorted(right - theirs), sorted(theirs - right)


def _starts(text: str) -> set[int]:
    """Numbers of the letters that begin a word."""
    starts, count = set(), 0
    for word in text.split():
        starts.add(count)
        count += len(word)
    return starts


def _lengths(text: str, said: _Said) -> Finding | None:
    """A text that is cut, or goes on behind what its tokens say."""
    for ours in said.texts:
        whole, part = ours.strip(), text.strip()
        if part and whole.startswith(part):
            return finding("detokeniser", f"the text is cut{_where(part, whole, said)}: {_tail(part)!r} is its end")
        if part and whole.endswith(part):
            lost = whole[: len(whole) - len(part)]
            return finding("detokeniser", f"its beginning is lost: {cut(lost)!r}, {len(lost)} characters")
        if whole and part.startswith(whole):
            return finding("detokeniser", f"the text goes on behind its tokens: {cut(part[len(whole) :])!r}")
        if whole and part.endswith(whole):
            return finding("detokeniser", f"the text begins before its tokens: {cut(part[: -len(whole)])!r}")
        if whole and not part:
            return finding("detokeniser", f"no text, where its tokens say {cut(whole)!r}")
    return None


def _where(part: str, whole: str, said: _Said) -> str:
    """Where a text is cut, in tokens where it is between two, and in bytes, in which buffers are counted."""
    tokens = [token for window in said.windows for token in window]
    size = len(part.encode())
    ends = (i for i in range(1, len(tokens)) if vocabulary.token_text(said.n_vocab, tokens[:i]).strip() == part)
    at = next(ends, None)
    count = f" after {at} of {len(tokens)} tokens," if at is not None else " inside a token,"
    return f"{count} {size} of {len(whole.encode())} bytes"


def _tail(text: str) -> str:
    return text[-SHOWN:]


def _unexplained(text: str, said: _Said) -> Finding:
    ours = said.texts[0]
    likeness = Indel.normalized_similarity(text[:COMPARED], ours[:COMPARED])
    if likeness < UNLIKE:
        words = f"its text is not of its tokens: it says {cut(text.strip())!r} where they say {cut(ours)!r}"
        return finding("text against tokens", words)
    return finding("text against tokens", _first(text, ours))


def _first(text: str, ours: str) -> str:
    """The first difference, with what stands around it."""
    text, ours = text.strip(), ours.strip()
    place = next((i for i, pair in enumerate(zip(text, ours)) if pair[0] != pair[1]), min(len(text), len(ours)))
    start = max(place - SHOWN // 2, 0)
    return f"it says {text[start : place + SHOWN]!r} where its tokens say {ours[start : place + SHOWN]!r}"
