"""The named findings of two traces."""

from __future__ import annotations

from collections.abc import Iterator

from whisper_parity.compare import audit, findings, vocabularies
from whisper_parity.compare.finding import Finding, finding, worst_first
from whisper_parity.compare.result import Result, Segment
from whisper_parity.compare.sides import Side, side
from whisper_parity.trace.trace import Trace


def of_traces(reference: Trace, candidate: Trace) -> tuple[Finding, ...]:
    """Every finding of a candidate's trace against its reference's, worst first; none for equal tokens and texts.

    Of a program that gives an account, prompt, language, detokeniser, end and the loops of its tokens are findings of
    the program by itself, which `prompting`, `detokenising` and `ending` name.
    """
    ours, theirs = _side(reference), _side(candidate)
    named = [*_of_program(candidate), *_ends(reference, candidate), *findings.of_pair(ours, theirs)]
    account = candidate.header.account
    if account is not None:
        return tuple(item for item in named if not (account.names_tokens and item.kind == "repetition loop"))
    if candidate.header.language and reference.header.language not in (None, candidate.header.language):
        words = f"the reference decodes {reference.header.language}, the candidate {candidate.header.language}"
        named.append(finding("language", words))
    return worst_first(named)


def _side(trace: Trace) -> Side:
    header = trace.header
    segments = tuple(Segment(text, start, end) for start, end, text in header.segments)
    whole = side(header.text, header.tokens, header.n_vocab, segments, header.language, is_silent=header.silent)
    if vocabularies.bare(whole.text) == vocabularies.bare(header.text):
        return whole
    return side(header.text, None, None, segments, header.language, is_silent=header.silent)


def _of_program(trace: Trace) -> Iterator[Finding]:
    """What a program that decodes by itself shows of its own end and text; our own loop cannot go wrong there."""
    header = trace.header
    if trace.windows or header.account is not None or not header.timestamped_tokens:
        return
    result = Result(header.stage, "trace", header.text, (header.timestamped_tokens,), header.language)
    if wrong := audit.own_text(result, header.n_vocab):
        yield wrong
    yield from audit.prompts(result, header.n_vocab, header.language)
    yield from (item for item in audit.endings(result, header.n_vocab) if item.kind == "end-of-text passed")


def _ends(reference: Trace, candidate: Trace) -> Iterator[Finding]:
    """Windows that stop at the limit of tokens where the reference's came to its end."""
    ended = {window.header.index: window.header.ended for window in reference.windows}
    for window in candidate.windows:
        header = window.header
        if header.ended == "length" and ended.get(header.index) == "eot":
            where = f"window {header.index} " if len(candidate.windows) > 1 else ""
            words = f"{where}stops after {len(header.tokens)} tokens, the limit, without end-of-text"
            yield finding("token limit", words, count=len(header.tokens))
