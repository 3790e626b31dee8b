"""`parity explain` of a program: what it fed its own model, fed to the reference's, one thing at a time.

    its input features   -> the reference's encoder and decoder     the front end alone
    its encoder output   -> the reference's decoder                 front end and encoder
    its prompt           -> the reference's decoder                 the prompt alone
    its tokens           -> the reference's decoder, forced         its margin at each step that differs
    its tokens           -> our detokeniser                         the detokeniser alone

What alone gives the program's tokens at a place makes the difference there. A program that does not show one of these
leaves the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import recorded
from whisper_parity.compare.finding import Finding, cut
from whisper_parity.decode import policy
from whisper_parity.errors import UnavailableError
from whisper_parity.explain import causes, edges, feeds, policies, program_parts, weight
from whisper_parity.explain.answers import Answers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.differences import changes, overlaps
from whisper_parity.explain.explanation import Change, CrossFeed, Entry, Explanation, Explanations, Weight
from whisper_parity.explain.feeds import Feeder, Said
from whisper_parity.explain.front_end import MARKS
from whisper_parity.explain.program_parts import Evidence
from whisper_parity.judge import program, tolerance, verdict
from whisper_parity.judge.verdict import Grade, Outcome
from whisper_parity.model import vocabulary
from whisper_parity.run import program as programs
from whisper_parity.trace.trace import Trace

TRIED = {
    "features": "its input features through the encoder and decoder of {}",
    "prompt": "its prompt through the decoder of {}",
    "features and prompt": "its input features and its prompt through the encoder and decoder of {}",
    "encoder": "its encoder output through the decoder of {}",
}
"""What is fed to the reference, in the order of the flow; the last one holds the first."""


@dataclass(frozen=True)
class _Case:
    """A program's row, and what was measured of it."""

    bench: Bench
    clip: Clip
    spec: str
    traces: Mapping[str, Trace]
    evidence: Evidence
    feeder: Feeder | None
    said: Mapping[str, Said]
    """What the reference says of each thing that was fed to it, by TRIED."""

    @property
    def reference(self) -> Trace:
        """The root's trace."""
        return self.evidence.reference

    @property
    def edge(self) -> str:
        """Between reference and program."""
        return str(self.evidence.edge)


def explained(bench: Bench, clip: Clip, spec: str, traces: Mapping[str, Trace], reference: str) -> Explanations:
    """Explain every difference of a program's text, and every rung of its own that fails.

    Args:
        bench: the run.
        clip: of the run.
        spec: the program's stage.
        traces: of the program and of the stages that it descends from.
        reference: the root.

    Raises:
        ParityError: the clip cannot be read.
    """
    ours, theirs = traces[reference], traces[spec]
    edge, answers = Edge(reference, spec), Answers([])
    check = programs.checked(bench.plan, edge, clip, theirs, ours)
    assert check is not None  # noqa: S101 - it gives an account
    limits = tolerance.for_edge(bench.plan.tolerances, edge)
    decoding = policy.concrete(bench.plan.policy, bench.plan.checkpoint.dims, ours.header.language)
    evidence = Evidence(edge, ours, theirs, check, limits, decoding.prompt)
    fed: Feeder | None = None
    with answers.to(f"feeding {reference}"):
        fed = feeds.feeder(bench, ours, theirs)
    said = _tried(fed, evidence, answers) if fed else {}
    case = _Case(bench, clip, spec, traces, evidence, fed, said)
    found = tuple(_differences(case, answers))
    parts = tuple(program_parts.measured(evidence, fed, answers)) if fed else ()
    result = Explanations(clip.name, spec, found, parts=parts, findings=_findings(evidence))
    before = [cause for item in found for cause in causes.outside(item, spec)]
    named = [*before, *program_parts.of_differences(evidence, found), *program_parts.of_rungs(evidence, said, parts)]
    result = causes.named(result, named, diverged=_is_diverged(evidence))
    return replace(result, missing=tuple(dict.fromkeys(answers.missing)))


def _findings(evidence: Evidence) -> tuple[Finding, ...]:
    has_text = evidence.program.header.has_text
    of_edge = recorded.of_traces(evidence.reference, evidence.program) if has_text else ()
    return (*evidence.check.findings, *of_edge)


def _is_diverged(evidence: Evidence) -> bool:
    whole = program.laid_around(verdict.judge(evidence.compared, evidence.limits), evidence.check)
    return whole.outcome is Outcome.DIVERGED


def _tried(fed: Feeder, evidence: Evidence, answers: Answers) -> dict[str, Said]:
    """What the reference says of the program's own things; those that are the reference's are not tried."""
    said: dict[str, Said] = {}
    features = [rung for rung in evidence.check.rungs if rung.rung == program.FEATURES]
    if not features or features[0].grade is not Grade.PASS:
        with answers.to("front end alone"):
            said["features"] = fed.by_features()
    prompts = [window.prompt for window in fed.account.windows]
    if None in prompts or not prompts or any(prompt != fed.plan.prompt for prompt in prompts):
        with answers.to("prompt alone"):
            said["prompt"] = fed.by_prompt()
    if "features" in said and "prompt" in said:
        with answers.to("front end and prompt"):
            said["features and prompt"] = fed.by_features(prompt=True)
    with answers.to("front end and encoder together"):
        said["encoder"] = fed.by_encodings()
    return said


def _differences(case: _Case, answers: Answers) -> Iterator[Explanation]:
    if case.evidence.program.header.names_tokens:
        yield from _of_tokens(case, answers)
        yield from _of_detokeniser(case)
    elif case.evidence.program.header.has_text:
        answers.missing.append("margins: it names no tokens")
        yield from _of_text(case)
    else:
        answers.missing.append(
            "its text: none was handed over, so what the reference makes of its tensors stands for it"
        )
        yield from _of_tensors(case)


def _of_tokens(case: _Case, answers: Answers) -> Iterator[Explanation]:
    """The differences of its tokens, window by window."""
    count, index = len(case.evidence.windows), 0
    for window, (ours, theirs) in enumerate(case.evidence.windows):
        edits = changes(ours, theirs, case.evidence.n_vocab, case.reference.header.language, window)
        flips: dict[int, float] | None = None
        if edits and case.feeder:
            with answers.to("margins"):
                _require_aligned(case)
                flips = case.feeder.margins(window, case.evidence.chosen(window))
        cause: int | None = None
        for change in edits:
            margin = _margin(change, flips)
            follows = cause if flips is not None and margin is None else None
            cause = index if follows is None else cause
            passed = case.evidence.passed(window) if case.evidence.is_aligned else None
            is_end = flips == {} and change.candidate_span == (len(theirs), len(theirs))
            is_end = is_end or (passed is not None and change.candidate_span[0] >= passed)
            place = _Place(replace(change, follows_from=follows), theirs, margin, is_end)
            yield _explanation(case, place, is_only=count == 1)
            index += 1


def _require_aligned(case: _Case) -> None:
    if not case.evidence.is_aligned:
        account, count = case.evidence.program.header.account, len(case.reference.windows)
        theirs = len(account.windows) if account else 0
        raise UnavailableError(f"its tokens are of {theirs} window(s), the clip has {count}")


def _margin(change: Change, flips: Mapping[int, float] | None) -> float | None:
    """The margin of the reference at the first step of a change at which it chooses otherwise."""
    start, end = change.candidate_span
    return next((margin for step, margin in (flips or {}).items() if start <= step < max(end, start + 1)), None)


@dataclass(frozen=True)
class _Place:
    """A difference in tokens."""

    change: Change
    tokens: tuple[int, ...]
    """The program's, of its window."""
    margin: float | None
    """Of the reference under these tokens, where it chooses otherwise."""
    is_end: bool
    """It stops behind tokens that the reference chooses, too, or goes on behind an end-of-text."""


def _explanation(case: _Case, place: _Place, *, is_only: bool) -> Explanation:
    change = place.change
    entry = _entry(case, change) if is_only else _at(case)
    names = Edge.parse(entry.edge)
    assert names is not None  # noqa: S101 - made of two stages
    result = Explanation(case.clip.name, names.reference, names.candidate, change, entry, None, (), None, ())
    if names.candidate != case.spec:
        return replace(result, missing=(f"it entered before, at {entry.edge}: use --stage {names.candidate}",))
    if change.follows_from is not None:
        return result
    crossed = _crossed(case, change, lambda said: _says(case, said, place), is_end=place.is_end)
    return replace(result, cross_feed=crossed, weight=None if place.margin is None else _weight(case, place.margin))


def _entry(case: _Case, change: Change) -> Entry:
    plan = case.bench.plan
    return edges.entry(change, plan.stages, plan.root_of(case.spec) or plan.root, case.spec, case.traces)


def _at(case: _Case) -> Entry:
    return Entry(case.edge, "", (), (), f"against {case.evidence.edge.reference}")


def _says(case: _Case, said: Said, place: _Place) -> bool:
    """Whether what the reference says reads as the program's tokens at the place of a difference."""
    return _reads(case, case.evidence.of_window(said, place.change.window), place.tokens, place.change)


def _reads(case: _Case, ours: Sequence[int], theirs: Sequence[int], change: Change) -> bool:
    edits = changes(ours, theirs, case.evidence.n_vocab, case.reference.header.language)
    return not any(overlaps(edit.candidate_span, change.candidate_span) for edit in edits)


def _crossed(case: _Case, change: Change, says: program_parts.Says, *, is_end: bool) -> CrossFeed | None:
    results = {name: says(said) for name, said in case.said.items()}
    tried = tuple((TRIED[name].format(case.evidence.edge.reference), reads) for name, reads in results.items())
    return program_parts.crossed(case.evidence, _subject(change), change, results, tried, is_end=is_end)


def _subject(change: Change) -> str:
    """The difference as what is reproduced: a mark in place of another one by the name of the one that comes."""
    come = [mark for mark in change.mark if change.candidate_text.count(mark) > change.reference_text.count(mark)]
    known = next((MARKS[mark] for mark in come if mark in MARKS), "") if change.edit_class == "punctuation" else ""
    return known or policies.subject(change)


def _weight(case: _Case, margin: float) -> Weight:
    """A program gives no logits: it moved the pair by its margin at least."""
    limits = case.evidence.limits
    failing = case.evidence.failing
    kind = "tie" if margin <= limits.max_tie_margin and not failing else "fault"
    why = f", and no tie where {failing} fails" if failing and margin <= limits.max_tie_margin else ""
    words = (
        f"{kind}: margin {margin:.3g} of the reference under its tokens, a tie up to {limits.max_tie_margin:.2g}{why}"
    )
    probability = weight.flip_probability(margin, limits.floor)
    return Weight(margin, margin, limits.floor, (), probability, kind, words)


def _of_detokeniser(case: _Case) -> Iterator[Explanation]:
    """The differences between its text and our decoding of its tokens."""
    found = [item for item in case.evidence.check.findings if item.kind in ("detokeniser", "text against tokens")]
    account = case.evidence.program.header.account
    if not any(item.is_fault for item in found) or account is None or account.text is None:
        return
    spoken = tuple(vocabulary.spoken(case.evidence.n_vocab, window.tokens or ()) for window in account.windows)
    tried = ((f"its tokens by our detokeniser, against its text: {found[0].sentence}", True),)
    for change in _of_texts(case, feeds.text(spoken, case.evidence.n_vocab), account.text):
        words = f"detokenise: its tokens say {cut(change.reference_text)!r} there, its text does not"
        yield _textual(case, change, CrossFeed("detokenise", tried, words))


def _of_text(case: _Case) -> Iterator[Explanation]:
    """The differences of a text without tokens."""
    n_vocab, text = case.evidence.n_vocab, case.evidence.program.header.text
    for change in _of_texts(case, case.reference.header.text, text):

        def says(said: Said, change: Change = change) -> bool:
            ours = feeds.encoded(feeds.text(said, n_vocab), n_vocab)
            return _reads(case, ours, feeds.encoded(text, n_vocab), change)

        yield _textual(case, change, _crossed(case, change, says, is_end=False))


def _of_tensors(case: _Case) -> Iterator[Explanation]:
    """What the reference says otherwise when it is fed the program's tensors, the first of them in the flow."""
    name = next((name for name in ("features", "encoder") if name in case.said), None)
    if name is None:
        return
    tried = ((TRIED[name].format(case.evidence.edge.reference), True),)
    names, language = case.evidence.edge, case.reference.header.language
    for window, (ours, theirs) in enumerate(zip(case.reference.windows, case.said[name])):
        sides = case.evidence.alike(ours.header.tokens), case.evidence.alike(theirs)
        for change in changes(*sides, case.evidence.n_vocab, language, window):
            words = program_parts.of_tensor(case.evidence, name, _subject(change))
            crossed = CrossFeed(name, tried, words) if change.follows_from is None else None
            yield Explanation(
                case.clip.name, names.reference, names.candidate, change, _at(case), crossed, (), None, ()
            )


def _of_texts(case: _Case, ours: str, theirs: str) -> list[Change]:
    n_vocab = case.evidence.n_vocab
    sides = feeds.encoded(ours, n_vocab), feeds.encoded(theirs, n_vocab)
    return changes(*sides, n_vocab, case.reference.header.language)


def _textual(case: _Case, change: Change, crossed: CrossFeed | None) -> Explanation:
    """The explanation of an edit of texts: its place is a word, not a step."""
    names = case.evidence.edge
    change = replace(change, step=None, reference_token=None, candidate_token=None, reference_span=(0, 0),
                     candidate_span=(0, 0))  # fmt: skip
    return Explanation(case.clip.name, names.reference, names.candidate, change, _at(case), crossed, (), None, ())
