"""`parity explain`: the five answers for each difference of a clip and stage, from a recorded run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from whisper_parity.backend.contract import Transcript
from whisper_parity.backend.facets import Switchable
from whisper_parity.backend.stage import Edge
from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import comparison, tensor
from whisper_parity.compare.results import ResultComparison
from whisper_parity.errors import ParityError, RecordError, UnavailableError, UsageError
from whisper_parity.explain import crossfeed, edges, layers, policies, weight
from whisper_parity.explain.bench import Bench, expecting_probes
from whisper_parity.explain.bench import bench as opened_bench
from whisper_parity.explain.crossfeed import Pair
from whisper_parity.explain.differences import changes, differences
from whisper_parity.explain.explanation import (
    Change,
    CrossFeed,
    Entry,
    Explanation,
    Explanations,
    LayerFinding,
    Weight,
)
from whisper_parity.explain.weight import Place
from whisper_parity.judge import tolerance
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import vocabulary
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace, WindowTrace

MISSING_LIMIT = 300
FIRST_OF_DECODER = "decoder.positions"
"""The unit that the token embedding is part of."""


@dataclass
class _Answers:
    """Gathers answers; one that cannot be had leaves its reason and not the others."""

    missing: list[str]

    @contextmanager
    def to(self, question: str) -> Iterator[None]:
        """What is asked inside."""
        try:
            yield
        except ParityError as error:
            self.missing.append(f"{question}: {str(error)[:MISSING_LIMIT]}")


def explain(bench: Bench, clip: Clip, spec: str, *, detail: bool = False) -> Explanations:
    """Explain every difference of a stage on a clip that enters at its own edge, and write it down.

    Args:
        bench: the run; models are opened only for what its traces do not hold.
        clip: of the run.
        spec: the stage.
        detail: look into the blocks too.

    Raises:
        UsageError: a stage that the run does not have.
        ParityError: the stage itself could not be run.
    """
    known, missing = _traces(bench, clip, spec)
    reference = edges.reference_of(bench.plan.stages, bench.plan.root, spec)
    if reference is None or reference not in known:
        return Explanations(clip.name, spec, (), (), (*missing, _no_reference(spec, reference)), compared=False)
    missing += _unpaired(known[reference], known[spec])
    found = differences(known[reference], known[spec])
    explained = tuple(_explanation(bench, clip, spec, change, known, detail) for change in found)
    if explained:
        result = Explanations(clip.name, spec, explained, (), tuple(missing), *_blame(explained))
    else:
        result = _without_change(bench, clip, spec, known, missing, detail)
    serial.write(bench.plan.folder.explanation(clip.name, spec), result)
    return result


def _no_reference(spec: str, reference: str | None) -> str:
    return f"{spec} is held against {reference}, which has no trace" if reference else f"{spec} is held against nothing"


def explain_files(found: ResultComparison, n_vocab: int) -> Explanations:
    """What two result files alone can tell: classes, words around, segment boundaries."""
    sides = (found.reference, found.candidate)
    first, second = (vocabulary.spoken(n_vocab, each.timestamped_tokens) for each in sides)
    boundaries = comparison.timestamp_pairs(found.reference.timestamped_tokens, n_vocab)
    language = found.reference.language or found.candidate.language
    reason = "two result files hold no tensors: give a run for the other answers"
    explained = []
    for change in changes(first, second, n_vocab, language):
        said = policies.boundary(change, boundaries)
        entry = Entry(str(Edge(found.reference.name, found.candidate.name)), "", (), (), said)
        explained.append(Explanation("", sides[0].name, sides[1].name, change, entry, None, (), None, (reason,)))
    return Explanations(sides[0].name, sides[1].name, tuple(explained))


def wanted(report: Report, clips: Sequence[str], stage: str | None) -> list[tuple[str, str]]:
    """(clip, stage) of the rows that have something to explain, in the order of the report.

    Without names: every row whose tokens differ from what it is judged against, or that diverged.

    Raises:
        UsageError: the run has no such clip or stage.
    """
    if unknown := sorted(set(clips) - {row.clip for row in report.rows}):
        raise UsageError(f"run {report.run} has no clip {', '.join(unknown)}", hint="`parity report` lists them")
    stages = [each.spec for each in report.stages]
    if stage is not None and stage not in stages:
        raise UsageError(f"run {report.run} has no stage {stage!r}", hint=f"It has {', '.join(stages)}")
    rows = [row for row in report.rows if row.stage and (not clips or row.clip in clips)]
    return [(row.clip, row.stage) for row in rows if (stage is None or row.stage == stage) and (_differs(row) or stage)]


def nothing(report: Report) -> str:
    """What is said where `wanted` found no row."""
    lost = (Outcome.NOT_COMPARED, Outcome.INVALID_INPUT, Outcome.FAILED)
    count = sum(row.verdict.outcome in lost for row in report.rows)
    left = f"; {count} row(s) were not compared (`parity report` says why)" if count else ""
    return f"nothing to explain: tokens are equal on every edge that was compared, and no stage diverged{left}"


def _differs(row: Row) -> bool:
    judged = [each for each in (row.vs_parent, row.vs_root) if each]
    if any(each.comparison.tokens and not each.comparison.tokens.equal for each in judged):
        return True
    return row.verdict.outcome is Outcome.DIVERGED


def _traces(bench: Bench, clip: Clip, spec: str) -> tuple[dict[str, Trace], list[str]]:
    """Traces of the clip by stage, in the order of the run; what could not be had, with its reason."""
    bench.plan.stage(spec)
    found, answers = {spec: bench.trace(spec, clip)}, _Answers([])
    for stage in bench.plan.stages:
        with answers.to(f"{stage.spec} did not run"):
            found[stage.spec] = bench.trace(stage.spec, clip)
    return {stage.spec: found[stage.spec] for stage in bench.plan.stages if stage.spec in found}, answers.missing


def _explanation(
    bench: Bench,
    clip: Clip,
    spec: str,
    change: Change,
    known: dict[str, Trace],
    detail: bool,
) -> Explanation:
    entry = edges.entry(change, bench.plan.stages, bench.plan.root, spec, known)
    edge = Edge.parse(entry.edge)
    assert edge is not None  # noqa: S101 - made of two stages
    parent, entered = edge.reference, edge.candidate
    result = Explanation(clip.name, parent, entered, change, entry, None, (), None, ())
    if entered != spec:
        return replace(result, missing=(f"it entered before, at {entry.edge}: ask for --stage {entered}",))
    if change.follows_from is not None:
        return result
    answers = _Answers([])
    if not known[parent].windows:
        with answers.to("policy"):
            entry = _with_policy(bench, clip, change, known[parent], known[spec], entry)
        return replace(result, entry=entry, missing=tuple(answers.missing))
    crossed: CrossFeed | None = None
    weighed: Weight | None = None
    where: list[LayerFinding] = []
    pair = _pair(change, parent, spec, known)
    with answers.to("encoder, embedding or decoder"):
        crossed = crossfeed.cross_feed(bench, pair, clip, change)
    for component in _components(crossed):
        with answers.to(f"layer of the {component}"):
            where.append(layers.locate(bench, parent, spec, clip, change.window, component, detail=detail))
    with answers.to("does it matter"):
        weighed = _weight(bench, pair, clip, change, where)
    return replace(result, cross_feed=crossed, layers=tuple(where), weight=weighed, missing=tuple(answers.missing))


def _pair(change: Change, parent: str, spec: str, known: dict[str, Trace]) -> Pair:
    def window(name: str) -> WindowTrace:
        for each in known[name].windows:
            if each.header.index == change.window:
                return each
        raise UnavailableError(f"{name} has no window {change.window}")

    return Pair(parent, spec, window(parent), window(spec))


def _unpaired(reference: Trace, candidate: Trace) -> list[str]:
    """What is said where one side has windows that the other has not."""
    ours, theirs = ({window.header.index for window in each.windows} for each in (reference, candidate))
    if not ours or not theirs or ours == theirs:
        return []
    return [f"windows {', '.join(map(str, sorted(ours ^ theirs)))}, which only one of the two has"]


def _components(crossed: CrossFeed | None) -> tuple[str, ...]:
    part = crossed.part if crossed else "both"
    return {"encoder": ("encoder",), "decoder": ("decoder",), "embedding": ("decoder",), "state": ()}.get(
        part, ("encoder", "decoder")
    )


def _weight(bench: Bench, pair: Pair, clip: Clip, change: Change, where: Sequence[LayerFinding]) -> Weight:
    step = crossfeed.flip_step(pair, change)
    moved = weight.movements(_recorded(bench, pair.reference, pair.candidate))
    place: Place = (clip.name, change.window, step)
    most = tolerance.for_edge(bench.plan.tolerances, Edge(pair.reference, pair.candidate)).max_tie_margin
    found = weight.weigh(pair.ours, pair.theirs, place, moved, where, most)
    if found is None:
        raise UnavailableError(f"{pair.candidate} does not flip there when it is fed the reference's tokens")
    return found


def _recorded(bench: Bench, reference: str, candidate: str) -> Iterator[tuple[Trace, Trace]]:
    """Pairs of the run's traces on an edge, those that are there."""
    for clip in bench.plan.clips:
        paths = [bench.plan.folder.trace(clip.name, spec) for spec in (reference, candidate)]
        with suppress(RecordError):
            if all(each.is_file() for each in paths):
                yield file.load(paths[0]), file.load(paths[1])


def _with_policy(bench: Bench, clip: Clip, change: Change, ours: Trace, theirs: Trace, entry: Entry) -> Entry:
    session = bench.session(ours.header.stage)
    if not isinstance(session, Switchable):
        raise UnavailableError(f"{ours.header.stage} has no policy that could be switched")
    samples, n_vocab = audio.load(clip.path), ours.header.n_vocab
    kept: dict[str, Sequence[int]] = {}

    def run(switched: policies.Switches) -> Sequence[int]:
        key = repr(sorted(switched.items()))
        if key not in kept:
            options = dict(switched)
            heard = audio.whole_windows(samples) if options.pop(policies.WHOLE_WINDOWS, False) else samples
            kept[key] = _spoken(session.transcribe_with(heard, theirs.header.language, options), n_vocab)
        return kept[key]

    found = policies.parts(change, ours, theirs, bench.plan.policy, run)
    return replace(entry, policy=found, finding=f"{entry.finding}; {policies.finding(change, ours, found)}")


def _spoken(found: Transcript, n_vocab: int) -> Sequence[int]:
    return vocabulary.spoken(n_vocab, found.tokens)


def _blame(explained: Sequence[Explanation]) -> tuple[str, str, str]:
    """Edge, part and unit that the first cause names."""
    for each in explained:
        edge = each.entry.edge if each.entry else ""
        if each.cross_feed:
            return edge, each.cross_feed.part, next((layer.culprit for layer in each.layers if layer.culprit), "")
        if each.entry and each.entry.policy:
            return edge, "policy", ""
    return next((each.entry.edge for each in explained if each.entry), ""), "", ""


def _without_change(
    bench: Bench, clip: Clip, spec: str, known: Mapping[str, Trace], missing: Sequence[str], detail: bool
) -> Explanations:
    """No token differs: which part and layer moved the tensors, on the window where they moved most."""
    stage = bench.plan.stage(spec)
    result, parent = Explanations(clip.name, spec, (), (), tuple(missing), str(stage.edge or "")), stage.parent
    if parent is None or parent not in known or not (known[parent].windows and known[spec].windows):
        return replace(result, edge="")
    ours, theirs = min(zip(known[parent].windows, known[spec].windows), key=_kept_db)
    pair, window, answers = Pair(parent, spec, ours, theirs), ours.header.index, _Answers([*missing])
    with answers.to("state"):
        if not crossfeed.repeats(bench, pair, clip):
            return replace(result, part="state", missing=(*answers.missing, crossfeed.not_again(spec)))
    where: list[LayerFinding] = []
    for component in ("encoder", "decoder"):
        with answers.to(f"layer of the {component}"):
            where.append(layers.locate(bench, parent, spec, clip, window, component, detail=detail))
    named = [each for each in where if each.culprit] or [each for each in where if each.output_fails]
    part, unit = next(((each.component, each.culprit) for each in named), ("", ""))
    if len(known[spec].windows) > 1:
        where = [replace(each, finding=f"window {window}, which moved most: {each.finding}") for each in where]
    with answers.to("embedding"):
        if unit == FIRST_OF_DECODER and crossfeed.other_table(bench, pair) is not None:
            part = "embedding"
    return replace(result, layers=tuple(where), missing=tuple(answers.missing), part=part, unit=unit)


def _kept_db(pair: tuple[WindowTrace, WindowTrace]) -> float:
    """The smaller SNR of encoder output and logits; -inf where values are not finite."""
    reference, candidate = pair
    tensors = ((each.encoder_output, each.teacher_forced.logits) for each in (reference, candidate))
    alike = [(r, c) for r, c in zip(*tensors) if r.shape == c.shape]
    if any(tensor.count_nonfinite(c) for _, c in alike):
        return -math.inf
    return min((tensor.measure(reference=r, candidate=c).snr_db for r, c in alike), default=math.inf)


def explain_all(
    run: RunFolder, chosen: Sequence[tuple[str, str]], advance: Callable[[str], None], detail: bool
) -> Iterator[Explanations]:
    """Explain rows of a run, each clip with models opened afresh.

    Raises:
        ParityError: the only row that was asked for cannot be explained; among others, it is said in its place.
    """
    with expecting_probes(run, (stage for _, stage in chosen)):
        for clip, stage in chosen:
            advance(f"{clip} · {stage}")
            try:
                with opened_bench(run) as opened:
                    yield explain(opened, opened.plan.clip(clip), stage, detail=detail)
            except ParityError as error:
                if len(chosen) == 1:
                    raise
                yield Explanations(clip, stage, (), missing=(str(error),), compared=False)
