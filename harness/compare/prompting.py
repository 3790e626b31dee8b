"""The prompt that a program fed, against the one that the run's policy feeds: the ids by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whisper_parity.backend.account import Account
from whisper_parity.clips import languages
from whisper_parity.compare.finding import Finding, finding
from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL

SIZES = (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3)
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Parts:
    """The ids of a prompt from start-of-transcript on, by what they say in one vocabulary."""

    language: str | None
    """The first language token's code."""
    task: str | None
    """"transcribe" or "translate"."""
    without_timestamps: bool


def shows(account: Account) -> bool:
    """Whether a program shows anything of its prompt: ids, or the language that it says it decodes."""
    return account.language is not None or any(window.prompt is not None for window in account.windows)


def findings(
    account: Account, n_vocab: int, language: str | None, expected_prompt: Sequence[int]
) -> tuple[Finding, ...]:
    """What is wrong with a program's prompt; at most one finding of its ids, and one of what it says of the language.

    Text in front of start-of-transcript is compared where the policy gives one: a program may put its own previous
    text before a later window.

    Args:
        account: of the program.
        n_vocab: size of the checkpoint's vocabulary.
        language: Whisper code that the run decodes: the one asked for, else the reference's; None to accept any.
        expected_prompt: of the run's policy in this vocabulary.
    """
    prompts = [(index, window.prompt) for index, window in enumerate(account.windows) if window.prompt is not None]
    reasons = [(index, prompt, wrong(index, prompt, n_vocab, language, expected_prompt)) for index, prompt in prompts]
    named = [item for item in reasons if item[2]]
    if named:
        index, prompt, reason = named[0]
        expected = _expected(prompt, n_vocab, language, expected_prompt)
        where = f"window {index}" + (f" (and {len(named) - 1} more)" if named[1:] else "") + ": "
        words = (
            f"{where if len(account.windows) > 1 else ''}{reason}: {_ids(prompt, n_vocab)} in a vocabulary of "
            f"{n_vocab}, where {_ids(expected, n_vocab)} is expected"
        )
        return (finding("wrong prompt", words, count=len(named), step=0),)
    return tuple(_echo(account.language, n_vocab, language, fed={_language(p, n_vocab) for _, p in prompts}))


def whole_in(head: Sequence[int]) -> tuple[int, ...]:
    """Sizes of the vocabularies in which ids are a whole prompt: start, language and task, perhaps no-timestamps."""
    return tuple(n for n in SIZES if _is_whole(tuple(head), n))


def names(tokens: Sequence[int], n_vocab: int) -> str:
    """Ids with their names: "50258 <|startoftranscript|> 50259 <|en|>"; an id outside the vocabulary has none."""
    return " ".join(
        f"{token} {vocabulary.token_text(n_vocab, [token])}" if 0 <= token < n_vocab else str(token) for token in tokens
    )


def head(prompt: Sequence[int], n_vocab: int) -> tuple[int, ...]:
    """A prompt without the text in front of start-of-transcript."""
    words, prompt = vocabulary.tokenizer(n_vocab), tuple(prompt)
    return prompt[prompt.index(words.sot) :] if prompt[:1] == (words.sot_prev,) and words.sot in prompt else prompt


def parts(prompt: Sequence[int], n_vocab: int) -> Parts:
    """What the ids of a prompt say in a vocabulary."""
    words, ids = vocabulary.tokenizer(n_vocab), head(prompt, n_vocab)
    tasks = {words.transcribe: "transcribe", words.translate: "translate"}
    task = next((tasks[token] for token in ids if token in tasks), None)
    return Parts(_language(ids, n_vocab), task, words.no_timestamps in ids)


def _language(prompt: Sequence[int], n_vocab: int) -> str | None:
    codes = _codes(n_vocab)
    return next((codes[token] for token in head(prompt, n_vocab) if token in codes), None)


def _codes(n_vocab: int) -> dict[int, str]:
    """Language codes by their tokens; of an English vocabulary none is ever fed."""
    words = vocabulary.tokenizer(n_vocab)
    return dict(zip(words.all_language_tokens, words.all_language_codes))


def _expected(
    prompt: Sequence[int], n_vocab: int, language: str | None, expected_prompt: Sequence[int]
) -> tuple[int, ...]:
    """The policy's prompt, in the language of the run, or else in the one that the program chose."""
    codes = _codes(n_vocab)
    tokens = {code: token for token, code in codes.items()}
    chosen = tokens.get(language or _language(prompt, n_vocab) or "")
    return tuple(chosen if chosen is not None and token in codes else token for token in expected_prompt)


def wrong(index: int, prompt: Sequence[int], n_vocab: int, language: str | None, expected_prompt: Sequence[int]) -> str:
    """What is wrong with the prompt of a window, in words; "" where nothing is."""
    expected = _expected(prompt, n_vocab, language, expected_prompt)
    ours, theirs = head(expected, n_vocab), head(prompt, n_vocab)
    if theirs != ours:
        return "; ".join(_reasons(theirs, ours, n_vocab))
    before, other = expected[: len(expected) - len(ours)], tuple(prompt)[: len(prompt) - len(theirs)]
    if index == 0 and before and before != other:
        return f"{'another' if other else 'no'} text in front of start-of-transcript"
    return ""


def _reasons(theirs: tuple[int, ...], ours: tuple[int, ...], n_vocab: int) -> Iterator[str]:
    if not theirs:
        yield "no prompt is fed"
        return
    others = [n for n in whole_in(theirs) if n != n_vocab]
    if others and n_vocab not in whole_in(theirs):
        yield f"it is the prompt of a vocabulary of {' or '.join(map(str, others))}"
    if unknown := [token for token in theirs if not 0 <= token < n_vocab]:
        yield f"{_listed(unknown)} outside the vocabulary"
    if others and vocabulary.tokenizer(n_vocab).sot not in theirs:
        return  # by their names here such ids say nothing
    said = [*_start(theirs, n_vocab), *_meanings(theirs, ours, n_vocab)]
    yield from said or ([] if others or unknown else _counts(theirs, ours, n_vocab))


def _start(theirs: tuple[int, ...], n_vocab: int) -> Iterator[str]:
    sot = vocabulary.tokenizer(n_vocab).sot
    if sot not in theirs:
        yield "no start-of-transcript"
    elif theirs[0] != sot:
        yield f"{names(theirs[: theirs.index(sot)], n_vocab)} in front of start-of-transcript"
    elif theirs.count(sot) > 1:
        yield f"start-of-transcript {theirs.count(sot)} times"


def _meanings(theirs: tuple[int, ...], ours: tuple[int, ...], n_vocab: int) -> Iterator[str]:
    """What the ids say otherwise: language, task, timestamps."""
    fed, wanted = parts(theirs, n_vocab), parts(ours, n_vocab)
    if fed.language != wanted.language:
        silently = "silently English, " if fed.language == ENGLISH else ""
        yield f"{silently}language {fed.language or 'missing'} for {wanted.language or 'none'}"
    if fed.task != wanted.task:
        yield f"task {fed.task or 'missing'} for {wanted.task or 'none'}"
    if fed.without_timestamps != wanted.without_timestamps:
        yield "timestamps asked for" if wanted.without_timestamps else "no timestamps asked for"


def _counts(theirs: tuple[int, ...], ours: tuple[int, ...], n_vocab: int) -> Iterator[str]:
    """Ids too many and too few, or in another order."""
    extra, missing = Counter(theirs) - Counter(ours), Counter(ours) - Counter(theirs)
    if doubled := [token for token in extra if token in ours]:
        yield f"{names(doubled, n_vocab)} doubled"
    if foreign := [token for token in extra.elements() if token not in ours]:
        yield f"{names(foreign, n_vocab)} too much"
    if missing:
        yield f"{names([*missing.elements()], n_vocab)} missing"
    if not extra and not missing:
        yield "its ids are in another order"


def _echo(said: str | None, n_vocab: int, language: str | None, fed: set[str | None]) -> Iterator[Finding]:
    """The language that a program says it decodes; where its ids say the right one, that is a remark."""
    code, wanted = languages.code(said), languages.code(language)
    if n_vocab == ENGLISH_ONLY or code is None or wanted in (None, code):
        return
    if wanted in fed:
        words = f"it says that it decodes {code}, and feeds {wanted}, which is right"
        yield finding("language", words, is_fault=False)
        return
    silently = "silently English: " if code == ENGLISH else ""
    yield finding("language", f"{silently}it says that it decodes {code} where the run decodes {wanted}")


def _is_whole(ids: tuple[int, ...], n_vocab: int) -> bool:
    words = vocabulary.tokenizer(n_vocab)
    if n_vocab == ENGLISH_ONLY:
        return ids == (words.sot, words.no_timestamps)
    return (
        len(ids) in (3, 4)
        and ids[0] == words.sot
        and ids[1] in words.all_language_tokens
        and ids[2] in (words.transcribe, words.translate)
        and ids[3:] in ((), (words.no_timestamps,))
    )


def _listed(tokens: Sequence[int]) -> str:
    return f"{', '.join(map(str, tokens))} {'is' if len(tokens) == 1 else 'are'}"


SHOWN = 12


def _ids(tokens: Sequence[int], n_vocab: int) -> str:
    """Ids with their names for a sentence; the middle of a long prompt left out."""
    if not tokens:
        return "nothing"
    if len(tokens) <= SHOWN:
        return names(tokens, n_vocab)
    half = SHOWN // 2
    return f"{names(tokens[:half], n_vocab)} … {names(tokens[-half:], n_vocab)}"
