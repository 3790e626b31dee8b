"""Two result files side by side."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from whisper_parity.compare.finding import cut
from whisper_parity.compare.results import Opinion, ResultComparison
from whisper_parity.report import numbers
from whisper_parity.report.numbers import rate
from whisper_parity.system import terminal

LONGEST = 300
"""Characters of a text."""
LONGEST_EDIT = 100
MOVED = "the decode policy moved them, not the conversion"
"""Said of marks at segment boundaries alone."""
SMALL = "marks, case, numbers or spelling, no word is lost, invented or changed"


def show(results: ResultComparison, console: Console) -> None:
    """Print the comparison of two result files."""
    for line in lines(results):
        terminal.line(console, line)


def lines(results: ResultComparison) -> list[str]:
    """What is found, worst first; the two texts; how they differ; one closing sentence."""
    return [
        *(f"{'finding' if item.is_fault else 'remark'}: {item.sentence}" for item in results.findings),
        *_sides(results),
        *_text(results),
        *_tokens(results),
        _closing(results),
    ]


def _sides(results: ResultComparison) -> Iterator[str]:
    yield f"reference {_about(results.reference)}: {cut(results.text.reference, LONGEST)}"
    yield f"candidate {_about(results.candidate)}: {cut(results.text.hypothesis, LONGEST)}"


def _about(opinion: Opinion) -> str:
    facts = [opinion.form, *([f"vocabulary {opinion.n_vocab}"] if opinion.n_vocab else [])]
    return f"{opinion.name} ({', '.join([*facts, *filter(None, [opinion.language])])})"


def _text(results: ResultComparison) -> Iterator[str]:
    text = results.text
    yield (
        f"text {'equal' if text.equal else 'differs'}: WER {rate(text.wer)}, CER {rate(text.cer)}; normalised "
        f"WER {rate(text.wer_normalised)}, CER {rate(text.cer_normalised)} ({text.normaliser})"
    )
    edits = [f"  {edit.edit_class}: {_quoted(edit.reference)} -> {_quoted(edit.hypothesis)} at unit {edit.position}"
             for edit in text.edits]  # fmt: skip
    yield from numbers.folded(edits, _left_out)


def _tokens(results: ResultComparison) -> Iterator[str]:
    tokens = results.tokens
    if tokens is None:
        yield f"tokens not compared, texts alone: {results.not_compared}"
        return
    counted = f"{tokens.reference_count} and {tokens.candidate_count}"
    yield f"tokens {'equal' if tokens.equal else 'differ'}: {counted}; vocabulary: {results.candidate.vocabulary}"
    edits = []
    for i, edit in enumerate(tokens.edits):
        where = ": at a segment boundary (timestamp pair) of the reference" if i in results.edits_at_boundaries else ""
        what = f"{edit.kind} {_quoted(edit.reference_text)} -> {_quoted(edit.candidate_text)}"
        edits.append(f"  step {edit.reference_start}: {what}{where}")
    yield from numbers.folded(edits, _left_out)


def _quoted(text: str) -> str:
    return repr(cut(text, LONGEST_EDIT))


def _left_out(count: int) -> str:
    return f"  ... {count} more, all of them in --json"


def _closing(results: ResultComparison) -> str:
    """The worst finding, or what the edits of tokens are where nothing is found."""
    faults = [item for item in results.findings if item.is_fault]
    if faults:
        more = f"; {len(faults)} findings in all" if len(faults) > 1 else ""
        return f"finding: {faults[0].sentence}{more}"
    if results.tokens is None or (not results.text.equal and results.tokens.equal):
        return "finding: the same text" if results.text.equal else f"finding: the texts differ in {SMALL}"
    return _of_edits(results)


def _of_edits(results: ResultComparison) -> str:
    assert results.tokens is not None  # noqa: S101 - narrowed by the caller
    edits, moved = len(results.tokens.edits), len(results.edits_at_boundaries)
    if results.tokens.equal:
        return "finding: the same tokens"
    if moved == edits:
        return f"finding: all {edits} edits stand at segment boundaries: {MOVED}"
    return f"finding: {moved} of {edits} edits stand at segment boundaries; the others need an explanation: {SMALL}"
