"""How a program came to its end: end-of-text passed, a limit, a loop, nothing at all; and what it printed of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.compare import audit
from whisper_parity.compare import findings as pairs
from whisper_parity.compare.finding import Finding, cut, finding, worst_first
from whisper_parity.compare.sides import Side, side
from whisper_parity.model import vocabulary

PROMPT = 4
"""Ids of a prompt without text: a loop that counts its own tokens stops this many before its context."""
CONTEXTS = (audit.CONTEXT, 200)
"""Positions of Whisper's decoder, and of ports with a shorter one."""
LIMITS = {
    audit.SAMPLED: "Whisper's limit for a window",
    **{size: f"a context of {size}" for size in CONTEXTS},
    **{size - PROMPT: f"a context of {size} less a prompt of {PROMPT}" for size in CONTEXTS},
}
"""Limits of programs in tokens."""
STUCK = 8
"""Times in a row that id 0 ends a window, from which its logits are named."""
LISTED = 5
"""Lines of a program that are listed."""


def shows(account: Account) -> bool:
    """Whether a program shows anything of its end."""
    return bool(any(window.tokens is not None or window.ended for window in account.windows) or _is_empty(account))


def findings(
    account: Account, n_vocab: int, max_steps: int, reference_tokens: Sequence[int] | None
) -> tuple[Finding, ...]:
    """What is wrong with a program's end, worst first.

    Args:
        account: of the program.
        n_vocab: size of the checkpoint's vocabulary.
        max_steps: tokens that the run's policy decodes for a window at most.
        reference_tokens: text tokens of the reference; None where it names none, and then no loop is told from a text
            that repeats.
    """
    named = [*_passed(account, n_vocab), *_limits(account, n_vocab, max_steps, reference_tokens)]
    named += _loops(account, n_vocab, reference_tokens)
    named += _empty(account, reference_tokens)
    return worst_first(named)


def warnings(account: Account) -> tuple[Finding, ...]:
    """What a program printed: errors are faults, though it went on; warnings are remarks, which its numbers judge."""
    named = [finding("program error", words, count=count) for words, count in _lines(account.errors)]
    if account.exit_code:
        words = f"it ended with exit code {account.exit_code} and gave a result all the same"
        named.append(finding("program error", words))
    named += [
        finding("program warning", words, is_fault=False, count=count) for words, count in _lines(account.warnings)
    ]
    return worst_first(named)


def _passed(account: Account, n_vocab: int) -> Iterator[Finding]:
    eot = vocabulary.eot_of(n_vocab)
    places = [(index, _places(window, eot)) for index, window in enumerate(account.windows)]
    inside = [(index, at) for index, at in places if at]
    if not inside:
        return
    count, (index, at) = sum(len(at) for _, at in inside), inside[0]
    times = "once" if count == 1 else f"{count} times"
    length = len(account.windows[index].tokens or ())
    words = f"{times}, first at token {at[0]} of {length}{_of_window(account, index)}"
    yield finding("end-of-text passed", words, count=count, step=at[0])


def _places(window: AccountWindow, eot: int) -> list[int]:
    """Where a window passed its end; one that is said to stop at its limit did not pad, but chose it again."""
    tokens = window.tokens or ()
    if window.ended == "length" and tokens[-2:] == (eot, eot):
        return [i for i, token in enumerate(tokens[:-1]) if token == eot]
    return audit.passed_at(tokens, eot)


def _limits(
    account: Account, n_vocab: int, max_steps: int, reference_tokens: Sequence[int] | None
) -> Iterator[Finding]:
    eot = vocabulary.eot_of(n_vocab)
    spoken = vocabulary.spoken(n_vocab, account.tokens)
    for index, window in enumerate(account.windows):
        if not (limit := _limit(window, eot, max_steps)):
            continue
        # a reference that stops there, too, or says the very same, makes it the policy's end
        same = reference_tokens is not None and tuple(reference_tokens) == spoken
        full = len(account.windows) == 1 and reference_tokens is not None and len(reference_tokens) >= max_steps
        words = f"{limit}{_of_window(account, index)}"
        yield finding("token limit", words, is_fault=not (same or full), count=len(window.tokens or ()))
        return


def _limit(window: AccountWindow, eot: int, max_steps: int) -> str:
    """The limit at which a window stops without end-of-text, in words; "" where it does not, or nobody knows."""
    tokens = window.tokens
    if window.ended == "eot" or (tokens is not None and tokens[-1:] == (eot,)):
        return ""
    if tokens is None:
        return "it stops at its limit, without end-of-text" if window.ended else ""
    positions = len(tokens) + len(window.prompt or ())
    name = "the limit of the run's policy" if len(tokens) == max_steps else LIMITS.get(len(tokens), "")
    if not name and window.prompt and positions in (audit.CONTEXT, audit.CONTEXT + 1):
        name = f"a context of {audit.CONTEXT}"
    if not name and not window.ended:
        return ""
    return f"stops after {len(tokens)} tokens, {name or 'its own limit'}, without end-of-text"


def _loops(account: Account, n_vocab: int, reference_tokens: Sequence[int] | None) -> Iterator[Finding]:
    if not account.names_tokens or vocabulary.first_unknown(n_vocab, account.tokens) is not None:
        return
    ends = [(index, _stuck(window.tokens or (), reference_tokens)) for index, window in enumerate(account.windows)]
    stuck = [(index, step) for index, step in ends if step is not None]
    for index, step in stuck[:1]:
        tokens = account.windows[index].tokens or ()
        text = vocabulary.token_text(n_vocab, [0])
        words = (
            f"id 0, {text!r}, x {len(tokens) - step} from step {step} to the end{_of_window(account, index)}: what a "
            "search for the largest logit gives where all are NaN"
        )
        yield finding("repetition loop", words, count=len(tokens) - step, step=step)
    if reference_tokens is None or stuck:
        return
    ours = _side(vocabulary.spoken(n_vocab, reference_tokens), n_vocab)
    theirs = _side(vocabulary.spoken(n_vocab, account.tokens), n_vocab)
    yield from (item for item in pairs.of_pair(ours, theirs) if item.kind == "repetition loop")


def _side(tokens: Sequence[int], n_vocab: int) -> Side:
    return side("", tokens, n_vocab)


def _stuck(tokens: Sequence[int], reference_tokens: Sequence[int] | None) -> int | None:
    """The step from which a window repeats id 0 to its end; None where it does not, or the reference says it, too."""
    start = len(tokens)
    while start and tokens[start - 1] == 0:
        start -= 1
    count = len(tokens) - start
    return start if count >= STUCK and list(reference_tokens or ()).count(0) < STUCK else None


def _empty(account: Account, reference_tokens: Sequence[int] | None) -> Iterator[Finding]:
    if _is_empty(account) and reference_tokens:
        first = "end-of-text at its first step" if account.names_tokens else "it gives no text"
        yield finding("empty result", f"{first}, where the reference says {len(reference_tokens)} tokens")


def _is_empty(account: Account) -> bool:
    if account.names_tokens:
        return not account.tokens
    return account.text is not None and not account.text.strip()


def _of_window(account: Account, index: int) -> str:
    return f" of window {index}" if len(account.windows) > 1 else ""


def _lines(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Lines that a program printed, each once with its number, the most frequent first; a long list is cut."""
    counted = Counter(line.strip() for line in lines if line.strip()).most_common()
    for line, count in counted[:LISTED]:
        yield cut(line, 160) + (f" (x {count})" if count > 1 else ""), count
    if more := counted[LISTED:]:
        yield f"{len(more)} more", sum(count for _, count in more)
