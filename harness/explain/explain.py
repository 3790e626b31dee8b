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
from whisper_parity.compare import boundaries, recorded, tensor
from whisper_parity.compare.comparison import compare
from whisper_parity.compare.results import ResultComparison
from whisper_parity.errors import ParityError, RecordError, UnavailableError, UsageError
from whisper_parity.explain import crossfeed, edges, layers, policies, weight
from whisper_parity.explain.bench import Bench
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
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import vocabulary
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

MISSING_LIMIT = 300
NO_TENSORS = "two result files hold no tensors: give a run for the other answers"
FIRST_OF_DECODER = "decoder.positions"
"""The unit that the token embedding is part of."""


@dataclass
class _Answers:
    """Collects answers; one that fails leaves its reason in `missing` and does not stop the others."""

    missing: list[str]

    @contextmanager
    def to(self, question: str) -> Iterator[None]:
        """Turn an error inside the block into the reason why `question` has no answer."""
        try:
            yield
        except ParityError as error:
            self.missing.append(f"{question}: {str(error)[:MISSING_LIMIT]}")


def explain(bench: Bench, clip: Clip, spec: str, *, detail: bool = False) -> Explanations:
    """Explain every difference that enters at a stage's own edge on a clip, and write the explanations to the run.

    Args:
        bench: the run; models are opened only for what its traces do not hold.
        clip: of the run.
        spec: the stage.
        detail: look into the blocks too.

    Raises:
        UsageError: the run has no such stage.
        ParityError: the stage itself cannot be run.
    """
    traces, missing = _traces(bench, clip, spec)
    reference = edges.reference_of(bench.plan.stages, bench.plan.root_of(spec) or bench.plan.root, spec)
    if reference is None or reference not in traces:
        return Explanations(clip.name, spec, (), (), (*missing, _no_reference(spec, reference)), compared=False)
    if not _is_of_window(traces[reference], traces[spec]):
        missing += _unpaired(traces[reference], traces[spec])
    changed = differences(traces[reference], traces[spec])
    explained = tuple(_explanation(bench, clip, spec, change, traces, detail) for change in changed)
    if explained:
        result = Explanations(clip.name, spec, explained, (), tuple(missing), *_blame(explained))
    else:
        result = _without_change(bench, clip, spec, traces, missing, detail)
    result = replace(result, findings=recorded.of_traces(traces[reference], traces[spec]))
    serial.write(bench.plan.folder.explanation(clip.name, spec), result)
    return result


def _no_reference(spec: str, reference: str | None) -> str:
    if reference is None:
        return f"{spec} is compared with nothing"
    return f"{spec} is compared with {reference}, which has no trace"


def explain_files(results: ResultComparison) -> Explanations:
    """Explain what two result files alone can: findings, edit classes, surrounding words, segment boundaries."""
    ours, theirs = results.reference, results.candidate
    explained = _of_text(results) if results.tokens is None else _of_tokens(results)
    missing = (f"tokens: {results.not_compared}",) if results.not_compared else ()
    return Explanations(ours.name, theirs.name, tuple(explained), missing=missing, findings=results.findings)


def _of_tokens(results: ResultComparison) -> Iterator[Explanation]:
    ours, theirs = results.reference, results.candidate
    assert ours.n_vocab is not None  # noqa: S101 - tokens were compared
    first, second = (vocabulary.spoken(ours.n_vocab, side.timestamped_tokens) for side in (ours, theirs))
    pairs = boundaries.timestamp_pairs(ours.timestamped_tokens, ours.n_vocab)
    for change in changes(first, second, ours.n_vocab, ours.language or theirs.language):
        entry = Entry(str(Edge(ours.name, theirs.name)), "", (), (), policies.boundary(change, pairs))
        yield Explanation("", ours.name, theirs.name, change, entry, None, (), None, (NO_TENSORS,))


def _of_text(results: ResultComparison) -> Iterator[Explanation]:
    """The edits of two texts without tokens: their places are words, not steps."""
    names = results.reference.name, results.candidate.name
    for edit in results.text.edits:
        mark = (edit.reference or edit.hypothesis) if edit.edit_class == "punctuation" else ""
        change = Change(edit.edit_class, mark, "", edit.reference, edit.hypothesis, "", 0, None, None, None, None)
        yield Explanation("", *names, change, None, None, (), None, (NO_TENSORS,))


def wanted(report: Report, clips: Sequence[str], stage: str | None) -> list[tuple[str, str]]:
    """(clip, stage) of the cells that have something to explain, in the order of the report.

    Without names: every cell whose tokens differ from what it is judged against, or that left its limits.

    Raises:
        UsageError: the run has no such clip or stage.
    """
    if unknown := sorted(set(clips) - {cell.clip for cell in report.rows}):
        raise UsageError(f"run {report.run} has no clip {', '.join(unknown)}", hint="`parity report` lists them")
    stages = [run_stage.spec for run_stage in report.stages]
    if stage is not None and stage not in stages:
        raise UsageError(f"run {report.run} has no stage {stage!r}", hint=f"It has {', '.join(stages)}")
    cells = [cell for cell in report.rows if cell.stage and (not clips or cell.clip in clips)]
    if stage is not None:
        return [(cell.clip, cell.stage) for cell in cells if cell.stage == stage]
    return [(cell.clip, cell.stage) for cell in cells if _differs(cell)]


def nothing(report: Report) -> str:
    """The message where `wanted` returns nothing."""
    lost = (Outcome.NOT_COMPARED, Outcome.INVALID_INPUT, Outcome.FAILED)
    count = sum(cell.verdict.outcome in lost for cell in report.rows)
    left = f"; {count} row(s) were not compared (`parity report` says why)" if count else ""
    return f"nothing to explain: tokens are equal on every edge that was compared, and no stage left its limits{left}"


def _differs(cell: Row) -> bool:
    judged = [edge for edge in (cell.vs_parent, cell.vs_root) if edge]
    if any(edge.comparison.tokens and not edge.comparison.tokens.equal for edge in judged):
        return True
    return cell.verdict.outcome in (Outcome.DIVERGED, Outcome.DRIFT)


def _traces(bench: Bench, clip: Clip, spec: str) -> tuple[dict[str, Trace], list[str]]:
    """Traces of the clip by stage, in the order of the run, and the reasons for those that are missing."""
    bench.plan.stage(spec)
    traces, answers = {spec: bench.trace(spec, clip)}, _Answers([])
    for stage in bench.plan.stages:
        with answers.to(f"{stage.spec} did not run"):
            traces[stage.spec] = bench.trace(stage.spec, clip)
    return {stage.spec: traces[stage.spec] for stage in bench.plan.stages if stage.spec in traces}, answers.missing


def _explanation(
    bench: Bench,
    clip: Clip,
    spec: str,
    change: Change,
    traces: dict[str, Trace],
    detail: bool,
) -> Explanation:
    entry = edges.entry(change, bench.plan.stages, bench.plan.root_of(spec) or bench.plan.root, spec, traces)
    edge = Edge.parse(entry.edge)
    assert edge is not None  # noqa: S101 - made of two stages
    parent, entered = edge.reference, edge.candidate
    result = Explanation(clip.name, parent, entered, change, entry, None, (), None, ())
    if entered != spec:
        return replace(result, missing=(f"it entered before, at {entry.edge}: use --stage {entered}",))
    if change.follows_from is not None:
        return result
    if _is_of_window(traces[parent], traces[spec]):
        finding = f"{entry.finding}; {_window(traces[parent], traces[spec])}"
        return replace(result, entry=replace(entry, finding=finding))
    answers = _Answers([])
    if not traces[parent].windows:
        with answers.to("policy"):
            entry = _with_policy(bench, clip, change, traces[parent], traces[spec], entry)
        return replace(result, entry=entry, missing=tuple(answers.missing))
    crossed: CrossFeed | None = None
    weighed: Weight | None = None
    where: list[LayerFinding] = []
    pair = _pair(change, parent, spec, traces)
    with answers.to("encoder, embedding or decoder"):
        crossed = crossfeed.cross_feed(bench, pair, clip, change)
    for component in _components(crossed):
        with answers.to(f"layer of the {component}"):
            where.append(layers.locate(bench, parent, spec, clip, change.window, component, detail=detail))
    with answers.to("does it matter"):
        failing = _failing(bench, traces[parent], traces[spec])
        weighed = _weight(bench, pair, clip, change, where, failing)
    return replace(result, cross_feed=crossed, layers=tuple(where), weight=weighed, missing=tuple(answers.missing))


def _is_of_window(reference: Trace, candidate: Trace) -> bool:
    return bool(reference.windows and candidate.windows) and not share_windows(reference, candidate)


def _window(reference: Trace, candidate: Trace) -> str:
    """What lies between two stages that hear other pieces of a clip."""
    ours, theirs = reference.header.window_s, candidate.header.window_s
    return f"windows of {theirs:g} s in place of {ours:g} s do it, with the same weights and before any conversion"


def _pair(change: Change, parent: str, spec: str, traces: dict[str, Trace]) -> Pair:
    def window(name: str) -> WindowTrace:
        for window in traces[name].windows:
            if window.header.index == change.window:
                return window
        raise UnavailableError(f"{name} has no window {change.window}")

    return Pair(parent, spec, window(parent), window(spec))


def _unpaired(reference: Trace, candidate: Trace) -> list[str]:
    """A note where one side has windows that the other lacks."""
    ours, theirs = ({window.header.index for window in trace.windows} for trace in (reference, candidate))
    if not ours or not theirs or ours == theirs:
        return []
    return [f"windows {', '.join(map(str, sorted(ours ^ theirs)))}: only one of the two has them"]


def _components(crossed: CrossFeed | None) -> tuple[str, ...]:
    part = crossed.part if crossed else "both"
    return {"encoder": ("encoder",), "decoder": ("decoder",), "embedding": ("decoder",), "state": ()}.get(
        part, ("encoder", "decoder")
    )


def _weight(
    bench: Bench, pair: Pair, clip: Clip, change: Change, where: Sequence[LayerFinding], failing: str
) -> Weight:
    step = crossfeed.flip_step(pair, change)
    moved = weight.movements(_recorded(bench, pair.reference, pair.candidate))
    place: Place = (clip.name, change.window, step)
    limits = tolerance.for_edge(bench.plan.tolerances, Edge(pair.reference, pair.candidate))
    weighed = weight.weigh(pair.ours, pair.theirs, place, moved, where, limits, failing)
    if weighed is None:
        raise UnavailableError(f"{pair.candidate} does not flip there when it is fed the reference's tokens")
    return weighed


def _failing(bench: Bench, reference: Trace, candidate: Trace) -> str:
    """The rung below the tokens that fails between two traces; "" when none does."""
    limits = tolerance.for_edge(bench.plan.tolerances, Edge(reference.header.stage, candidate.header.stage))
    compared = compare(reference, candidate, reference.header.vocabulary)
    failing = verdict.failing_tensors(compared, limits)
    return compared.broken.tensor if compared.broken else next((result.rung for result in failing), "")


def _recorded(bench: Bench, reference: str, candidate: str) -> Iterator[tuple[Trace, Trace]]:
    """Pairs of the run's recorded traces on an edge."""
    for clip in bench.plan.clips:
        paths = [bench.plan.folder.trace(clip.name, spec) for spec in (reference, candidate)]
        with suppress(RecordError):
            if all(path.is_file() for path in paths):
                yield file.load(paths[0]), file.load(paths[1])


def _with_policy(bench: Bench, clip: Clip, change: Change, ours: Trace, theirs: Trace, entry: Entry) -> Entry:
    session = bench.session(ours.header.stage)
    if not isinstance(session, Switchable):
        raise UnavailableError(f"{ours.header.stage} has no policy to switch")
    samples, n_vocab = audio.load(clip.path), ours.header.vocabulary
    transcripts: dict[str, Sequence[int]] = {}

    def run(switched: policies.Switches) -> Sequence[int]:
        key = repr(sorted(switched.items()))
        if key not in transcripts:
            options = dict(switched)
            heard = audio.whole_windows(samples) if options.pop(policies.WHOLE_WINDOWS, False) else samples
            transcripts[key] = _spoken(session.transcribe_with(heard, theirs.header.language, options), n_vocab)
        return transcripts[key]

    parts = policies.parts(change, ours, theirs, bench.plan.policy, run)
    return replace(entry, policy=parts, finding=f"{entry.finding}; {policies.finding(change, ours, parts)}")


def _spoken(transcript: Transcript, n_vocab: int) -> Sequence[int]:
    return vocabulary.spoken(n_vocab, transcript.tokens)


def _blame(explained: Sequence[Explanation]) -> tuple[str, str, str]:
    """Edge, part and unit named by the first cause."""
    for explanation in explained:
        edge = explanation.entry.edge if explanation.entry else ""
        if explanation.cross_feed:
            return (
                edge,
                explanation.cross_feed.part,
                next((layer.culprit for layer in explanation.layers if layer.culprit), ""),
            )
        if explanation.entry and explanation.entry.policy:
            return edge, "policy", ""
    return next((explanation.entry.edge for explanation in explained if explanation.entry), ""), "", ""


def _without_change(
    bench: Bench, clip: Clip, spec: str, traces: Mapping[str, Trace], missing: Sequence[str], detail: bool
) -> Explanations:
    """Without a changed token: which part and layer moved the tensors, on the window where they moved most."""
    stage = bench.plan.stage(spec)
    result, parent = Explanations(clip.name, spec, (), (), tuple(missing), str(stage.edge or "")), stage.parent
    if parent is None or parent not in traces or not share_windows(traces[parent], traces[spec]):
        return replace(result, edge="")
    ours, theirs = min(zip(traces[parent].windows, traces[spec].windows), key=_kept_db)
    pair, window, answers = Pair(parent, spec, ours, theirs), ours.header.index, _Answers([*missing])
    with answers.to("state"):
        if not crossfeed.reproduces(bench, pair, clip):
            return replace(result, part="state", missing=(*answers.missing, crossfeed.not_reproduced(spec)))
    where: list[LayerFinding] = []
    for component in ("encoder", "decoder"):
        with answers.to(f"layer of the {component}"):
            where.append(layers.locate(bench, parent, spec, clip, window, component, detail=detail))
    failing = [layer for layer in where if layer.culprit] or [layer for layer in where if layer.output_fails]
    part, unit = next(((layer.component, layer.culprit) for layer in failing), ("", ""))
    if len(traces[spec].windows) > 1:
        where = [replace(layer, finding=f"window {window}, which moved most: {layer.finding}") for layer in where]
    with answers.to("embedding"):
        if unit == FIRST_OF_DECODER and crossfeed.other_table(bench, pair) is not None:
            part = "embedding"
    return replace(result, layers=tuple(where), missing=tuple(answers.missing), part=part, unit=unit)


def _kept_db(pair: tuple[WindowTrace, WindowTrace]) -> float:
    """The smaller SNR of encoder output and logits; -inf where values are not finite."""
    reference, candidate = pair
    tensors = ((window.encoder_output, window.teacher_forced.logits) for window in (reference, candidate))
    pairs = [(r, c) for r, c in zip(*tensors) if r.shape == c.shape]
    if any(tensor.count_nonfinite(c) for _, c in pairs):
        return -math.inf
    return min((tensor.measure(reference=r, candidate=c).snr_db for r, c in pairs), default=math.inf)


def explain_all(
    run: RunFolder, chosen: Sequence[tuple[str, str]], advance: Callable[[str], None], detail: bool
) -> Iterator[Explanations]:
    """Explain cells of a run, each with freshly opened models.

    Raises:
        ParityError: the only requested cell cannot be explained; among several, its entry carries the reason.
    """
    for clip, stage in chosen:
        advance(f"{clip} · {stage}")
        try:
            with opened_bench(run) as opened:
                yield explain(opened, opened.plan.clip(clip), stage, detail=detail)
        except ParityError as error:
            if len(chosen) == 1:
                raise
            yield Explanations(clip, stage, (), missing=(str(error),), compared=False)
