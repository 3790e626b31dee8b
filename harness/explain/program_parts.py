"""Which part of a program makes a difference, what its parts lose alone, and what is therefore wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from whisper_parity.backend.account import Account
from whisper_parity.backend.stage import Edge
from whisper_parity.compare import audit, prompting, tensor
from whisper_parity.compare.comparison import Comparison, compare
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.front_end.difference import FrontEndDiff
from whisper_parity.explain import feeds, hypothesis
from whisper_parity.explain.answers import Answers
from whisper_parity.explain.explanation import Cause, Change, CrossFeed, Explanation, PartFinding
from whisper_parity.explain.feeds import Feeder, Said
from whisper_parity.explain.hypothesis import Hypothesis
from whisper_parity.judge import program, verdict
from whisper_parity.judge.program import ProgramCheck
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.judge.verdict import Grade
from whisper_parity.model import vocabulary
from whisper_parity.trace.trace import Trace

Says = Callable[[Said], bool]
"""Whether something that the reference says reads as the program at a place."""
RUNGS = {
    "wrong prompt": "prompt",
    "language": "prompt",
    "detokeniser": "detokenise",
    "text against tokens": "detokenise",
}
"""Rung of a finding; the others are of the end."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a program's row before anything is run."""

    edge: Edge
    """From the reference, the root, to the program."""
    reference: Trace
    program: Trace
    check: ProgramCheck
    limits: Tolerance
    expected_prompt: tuple[int, ...]
    """Of the run's policy, in the language of the reference."""

    @property
    def n_vocab(self) -> int:
        """Size of the vocabulary that ids are of."""
        return self.reference.header.vocabulary

    @cached_property
    def windows(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """Tokens of reference and program, window by window; all as one where they count windows otherwise."""
        ours, theirs = (tuple(self.alike(tokens) for tokens in side) for side in (self._references, self._spoken))
        return tuple(zip(ours, theirs)) if self.is_aligned else ((sum(ours, ()), sum(theirs, ())),)

    @property
    def is_aligned(self) -> bool:
        """Whether the program counts the windows that the reference does."""
        return len(self._references) == len(self._spoken)

    def alike(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Tokens as they are compared: text tokens where reference or program has no timestamps."""
        return tuple(tokens) if self._have_timestamps else vocabulary.spoken(self.n_vocab, tokens)

    def of_window(self, said: Said, window: int) -> tuple[int, ...]:
        """What the reference says of something else in a window, as it is compared."""
        return self.alike(said[window] if self.is_aligned else [token for tokens in said for token in tokens])

    def chosen(self, window: int) -> tuple[int, ...]:
        """The program's tokens of a window as they are compared, end-of-text behind them where it chose it."""
        said, eot = self._account.windows[window], vocabulary.eot_of(self.n_vocab)
        is_ended = said.ended == "eot" or eot in (said.tokens or ())
        return (*self.windows[window][1], *((eot,) if is_ended else ()))

    @cached_property
    def compared(self) -> Comparison:
        """The program's trace against the reference's."""
        return compare(self.reference, self.program, self.n_vocab, self.limits.max_tie_margin)

    @cached_property
    def failing(self) -> str:
        """The first rung in front of the tokens that fails; "" where none does."""
        own = [rung.rung for rung in self.check.failing if rung.rung in program.BEFORE]
        tensors = [rung.rung for rung in verdict.failing_tensors(self.compared, self.limits)]
        broken = [self.compared.broken.tensor] if self.compared.broken else tensors
        return next(iter((*own, *broken)), "")

    def faults(self, rung: str) -> list[Finding]:
        """The findings of a rung that are faults."""
        return [item for item in self.check.findings if item.is_fault and RUNGS.get(item.kind, "end") == rung]

    def passed(self, window: int) -> int | None:
        """How many of its tokens stand in front of an end-of-text that it passed; None where it passed none."""
        tokens = self._account.windows[window].tokens or ()
        places = audit.passed_at(tokens, vocabulary.eot_of(self.n_vocab))
        return len(self.alike(tokens[: places[0]])) if places else None

    @property
    def _account(self) -> Account:
        assert self.program.header.account is not None  # noqa: S101 - it is a program
        return self.program.header.account

    @property
    def _references(self) -> tuple[tuple[int, ...], ...]:
        return tuple(window.header.tokens for window in self.reference.windows)

    @property
    def _spoken(self) -> tuple[tuple[int, ...], ...]:
        eot = vocabulary.eot_of(self.n_vocab)
        windows = (window.tokens or () for window in self._account.windows)
        return tuple(tuple(token for token in tokens if token != eot) for tokens in windows)

    @cached_property
    def _have_timestamps(self) -> bool:
        begin = vocabulary.timestamp_begin(self.n_vocab)
        sides = (self._references, self._spoken)
        return all(any(token >= begin for tokens in side for token in tokens) for side in sides)


def crossed(
    evidence: Evidence,
    subject: str,
    change: Change,
    results: Mapping[str, bool],
    tried: tuple[tuple[str, bool], ...],
    *,
    is_end: bool,
) -> CrossFeed | None:
    """The part that makes a difference, the first in the flow that does it alone; None where nothing tells.

    Args:
        evidence: of the row.
        subject: the difference in words: "the comma".
        change: the difference.
        results: by what was fed to the reference, whether it reads as the program there.
        tried: the same, in words.
        is_end: it stops, or goes on, behind tokens that are all the reference's choice.
    """
    reproduced = next((name for name, reads in results.items() if reads), "")
    if reproduced in ("features", "prompt", "features and prompt"):
        return CrossFeed(reproduced, tried, f"{_of_part(evidence, reproduced)} reproduces {subject}")
    if reproduced == "encoder":
        return CrossFeed("encoder", tried, _of_encoder(evidence, subject, results))
    faults = evidence.faults("end")
    if faults and (is_end or change.edit_class == "repetition"):
        return CrossFeed("end", tried, f"end: {faults[0].sentence}")
    if is_end:
        return CrossFeed("end", tried, "end: each of its tokens is the reference's choice, and then it stops")
    return _inside(evidence, subject, results, tried)


def of_tensor(evidence: Evidence, part: str, subject: str) -> str:
    """A tensor that changes the reference's text where the program's own text is not known."""
    what = front_end(evidence) if part == "features" else "encoder: its encoder output"
    return f"{what}; alone makes the reference change {subject}"


def _of_part(evidence: Evidence, part: str) -> str:
    if part == "features":
        return f"{front_end(evidence)}; alone"
    if part == "prompt":
        return f"{prompt(evidence)}; alone"
    return f"{front_end(evidence)}; and {prompt(evidence)}; only together they"


def _of_encoder(evidence: Evidence, subject: str, results: Mapping[str, bool]) -> str:
    told = f"encoder: its encoder output through the decoder of {evidence.edge.reference} reproduces {subject}"
    if "features" in results:
        return f"{told}, its input features do not"
    if evidence.check.features:
        return f"{told}, and its front end passes"
    return f"front end or {told}; it gave no input features, which would tell the two apart"


def _inside(
    evidence: Evidence, subject: str, results: Mapping[str, bool], tried: tuple[tuple[str, bool], ...]
) -> CrossFeed | None:
    """What none of the things that were fed gives: it is made behind them."""
    if "encoder" in results:
        words = (
            f"decoder: its encoder output does not reproduce {subject}, so its decoder or the loop around it makes it"
        )
        return CrossFeed("decoder", tried, words)
    rungs = {rung.rung for rung in evidence.check.rungs if rung.grade is Grade.PASS}
    is_right = all(name in results or name in rungs for name in program.BEFORE)
    if not is_right:
        return None
    words = f"encoder or decoder: neither its front end nor its prompt reproduces {subject}"
    return CrossFeed("encoder or decoder", tried, f"{words}; it gave no encoder output, which would tell more")


def front_end(evidence: Evidence) -> str:
    """What the program's front end does otherwise: causes, or figures where none is known."""
    diffs = sorted(evidence.check.features, key=lambda diff: not diff.causes)
    if not diffs:
        return "front end"
    causes = ", and ".join(cause.sentence for cause in diffs[0].causes)
    return f"front end: {causes or program.figures(diffs[0])}"


def prompt(evidence: Evidence) -> str:
    """What is wrong with the program's prompt."""
    account, language = evidence.program.header.account, evidence.reference.header.language
    windows = enumerate(account.windows if account else ())
    fed = ((index, window.prompt) for index, window in windows if window.prompt is not None)
    reasons = (prompting.wrong(i, ids, evidence.n_vocab, language, evidence.expected_prompt) for i, ids in fed)
    return f"prompt: {next(filter(None, reasons), 'another than the policy gives')}"


def measured(evidence: Evidence, fed: Feeder, answers: Answers) -> Iterator[PartFinding]:
    """What front end and encoder lose, each alone; the encoder is fed the program's own input features, where known."""
    for diff in sorted(evidence.check.features, key=_level)[:1]:
        fails = any(rung.rung == program.FEATURES for rung in evidence.check.failing)
        words = f"front end: {program.describe(diff, evidence.limits)}"
        yield PartFinding("features", _level(diff), fails, words)
    with answers.to("encoder alone"):
        yield from _encoder(evidence, fed)


def _level(diff: FrontEndDiff) -> float:
    level = program.lowest_db(diff)
    return -math.inf if level is None else level


def _encoder(evidence: Evidence, fed: Feeder) -> Iterator[PartFinding]:
    levels = []
    for index, theirs in fed.encodings().items():
        features = fed.features(index)
        ours = evidence.reference.windows[index].encoder_output if features is None else fed.session.encode(features)
        levels.append((tensor.measure(reference=ours, candidate=theirs).snr_db, features is not None))
    if levels:
        level, own = min(levels)
        limit = evidence.limits.encoder_output_snr_db
        what = "fed its own input features" if own else "fed Whisper's input features"
        figure = "identical" if level == math.inf else f"at {level:.1f} dB"
        words = f"encoder: {what}, its output against {evidence.edge.reference} is {figure}"
        bounds = f"(pass from {limit.passes:g}, drift from {limit.drifts:g})"
        yield PartFinding("encoder", level, verdict.graded(level, limit) is Grade.FAIL, f"{words} {bounds}")


def of_differences(evidence: Evidence, found: Sequence[Explanation]) -> Iterator[Cause]:
    """The causes of differences."""
    for item in found:
        if item.cross_feed:
            kinds = _kinds(evidence) if "features" in item.cross_feed.part else ()
            yield Cause(str(evidence.edge), item.cross_feed.part, "", kinds, item.cross_feed.finding)


def of_rungs(evidence: Evidence, said: Mapping[str, Said], parts: Sequence[PartFinding]) -> Iterator[Cause]:
    """The causes that fail rungs of the program itself, in the order of the flow, whether the text differs or not."""
    edge = str(evidence.edge)
    if any(rung.rung == program.FEATURES for rung in evidence.check.failing):
        effect = _effect(evidence, said.get("features"))
        yield Cause(edge, "features", "", _kinds(evidence), f"{front_end(evidence)}{effect}")
    for item in evidence.faults("prompt"):
        yield Cause(edge, "prompt", "", (), f"{item.sentence}{_effect(evidence, said.get('prompt'))}")
    for part in parts:
        if part.part == "encoder" and part.fails:
            yield Cause(edge, "encoder", "", (), part.finding)
    for rung in program.BEHIND:
        for item in evidence.faults(rung):
            yield Cause(edge, rung, "", (), f"{rung}: {item.sentence}")


def _effect(evidence: Evidence, said: Said | None) -> str:
    """What one thing alone does to the reference's text."""
    if said is None:
        return ""
    text, header = feeds.text(said, evidence.n_vocab), evidence.program.header
    if text == header.text and text != evidence.reference.header.text:
        return "; alone gives this text"
    return "; alone changes no word or mark" if text == evidence.reference.header.text else "; alone gives another text"


def _kinds(evidence: Evidence) -> tuple[Hypothesis, ...]:
    """The causes of the front end, each with the share of the error's energy that it explains with those before it."""
    diff = next((diff for diff in evidence.check.features if diff.causes), None)
    if diff is None or diff.whole_db is None:
        return ()
    return tuple(
        hypothesis.of("front end", cause.sentence, _share(diff.whole_db, cause.explains_db), cause.explains_db)
        for cause in diff.causes
    )


def _share(before_db: float, left_db: float) -> float:
    return max(0.0, 1 - 10 ** ((before_db - left_db) / 10))
