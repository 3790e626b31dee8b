"""`parity explain`: the five answers for each difference of a clip and stage, from a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Transcript
from whisper_parity.backend.facets import Switchable
from whisper_parity.backend.stage import Edge
from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import boundaries, recorded
from whisper_parity.compare.comparison import compare
from whisper_parity.compare.results import ResultComparison
from whisper_parity.errors import ParityError, RecordError, UnavailableError, UsageError
from whisper_parity.explain import cached, causes, crossfeed, edges, layers, moved, parts, policies, program, weight
from whisper_parity.explain.answers import Answers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.bench import bench as opened_bench
from whisper_parity.explain.crossfeed import Pair
from whisper_parity.explain.differences import changes, differences
from whisper_parity.explain.explanation import (
    Cause,
    Change,
    CrossFeed,
    Entry,
    Explanation,
    Explanations,
    LayerFinding,
    PartFinding,
    Weight,
)
from whisper_parity.explain.weight import Place
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import vocabulary
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import closeness, inputs, serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

OUTSIDE = ("policy", "window", "state")
"""Parts of causes beside which no layer is asked."""
NO_TENSORS = "two result files hold no tensors: give a run for the other answers"


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
    if traces[spec].header.account is not None and traces[reference].windows:
        result = program.explained(bench, clip, spec, traces, reference)
        result = replace(result, missing=(*missing, *result.missing))
        serial.write(bench.plan.folder.explanation(clip.name, spec), result)
        return result
    if not _is_of_window(traces[reference], traces[spec]):
        missing += _unpaired(traces[reference], traces[spec])
    changed = differences(traces[reference], traces[spec])
    if changed:
        traces = _with_later(bench, clip, spec, traces)
    judged_by = moved.sides(bench, spec, traces)
    found = tuple(_explanation(bench, clip, spec, change, traces, detail) for change in changed)
    named = [*cached.causes(bench.plan, f"{reference}->{spec}", spec)]
    named += [cause for item in found for cause in _without_model(item, spec)]
    answers = Answers(missing)
    for item in found:
        with answers.to("embedding"):
            named += _of_model(bench, item, traces)
    result = Explanations(clip.name, spec, found)
    if not any(item.cross_feed for item in found) and not any(cause.part in OUTSIDE for cause in named):
        result, more = moved.explained(bench, clip, spec, traces, judged_by, detail=detail)
        result, named = replace(result, found=found), [*named, *more]
    findings = recorded.of_traces(traces[reference], traces[spec])
    result = replace(result, findings=findings, missing=(*missing, *result.missing))
    diverged = any(side.verdict.outcome is Outcome.DIVERGED for side in judged_by)
    result = causes.named(result, named, diverged=diverged)
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


def _hint(name: str, names: Sequence[str]) -> str:
    """What a run has, and which of it was meant."""
    return closeness.hint(name, names, f"It has {closeness.listed(names)}")


def wanted(report: Report, clips: Sequence[str], stage: str | None) -> list[tuple[str, str]]:
    """(clip, stage) of the cells that have something to explain, in the order of the report.

    Without names: every cell whose tokens differ from what it is judged against, or that left its limits.

    Raises:
        UsageError: the run has no such clip or stage.
    """
    names = list(dict.fromkeys(cell.clip for cell in report.rows))
    if unknown := sorted(set(clips) - set(names)):
        raise UsageError(f"run {report.run} has no clip {', '.join(unknown)}", hint=_hint(unknown[0], names))
    stages = [run_stage.spec for run_stage in report.stages]
    if stage is not None and stage not in stages:
        raise UsageError(f"run {report.run} has no stage {stage!r}", hint=_hint(stage, stages))
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
    """Traces of a stage and of those that it descends from, in this order, and the reasons for those that are missing.

    Of what stands before the root only the root itself needs a trace.
    """
    path = edges.chain(bench.plan.stages, bench.plan.stage(spec).spec)
    reference = edges.reference_of(bench.plan.stages, bench.plan.root_of(spec) or bench.plan.root, spec)
    path = path[path.index(reference) :] if reference in path else path
    traces, answers = {spec: bench.trace(spec, clip)}, Answers([])
    for name in path:
        with answers.to(f"{name} did not run"):
            traces[name] = bench.trace(name, clip)
    return {name: traces[name] for name in path if name in traces}, answers.missing


def _with_later(bench: Bench, clip: Clip, spec: str, traces: Mapping[str, Trace]) -> dict[str, Trace]:
    """With the traces of later stages that the run has: one of them may undo a difference. None is recorded for it."""
    later = [
        stage.spec for stage in bench.plan.stages
        if stage.spec not in traces and spec in edges.chain(bench.plan.stages, stage.spec)
    ]  # fmt: skip
    whole = dict(traces)
    for name in later:
        with suppress(ParityError):
            if inputs.is_there(bench.plan.folder.trace(clip.name, name)):
                whole[name] = bench.trace(name, clip)
    return whole


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
        return replace(result, entry=replace(entry, finding=finding, window=True))
    answers = Answers([])
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
    halves: tuple[PartFinding, ...] = ()
    if crossed is not None and crossed.part != "state":
        with answers.to("encoder or decoder alone"):
            halves = _halves(bench, pair, traces)
    for component in _components(crossed, parts.failing(halves)):
        with answers.to(f"layer of the {component}"):
            alone = parts.of(halves, component)
            where.append(layers.locate(bench, parent, spec, clip, change.window, component, detail=detail, alone=alone))
    with answers.to("does it matter"):
        failing = _failing(bench, traces[parent], traces[spec])
        weighed = _weight(bench, pair, clip, change, where, failing)
    return replace(
        result, cross_feed=crossed, layers=tuple(where), weight=weighed, missing=tuple(answers.missing), parts=halves
    )


def _halves(bench: Bench, pair: Pair, traces: Mapping[str, Trace]) -> tuple[PartFinding, ...]:
    """What each half loses on a window, measured once for all its differences."""
    sides = traces[pair.reference], traces[pair.candidate]
    key = (pair.reference, pair.candidate, sides[0].header.clip, pair.ours.header.index)
    return bench.kept("halves", key, lambda: parts.measured(bench, pair, sides))


def _without_model(explanation: Explanation, spec: str) -> Iterator[Cause]:
    """The cause of a difference that no half of this stage makes."""
    crossed = explanation.cross_feed
    if crossed is None:
        yield from causes.outside(explanation, spec)
    elif crossed.part == "state":
        yield Cause(explanation.entry.edge if explanation.entry else "", "state", "", (), crossed.finding)


def _of_model(bench: Bench, explanation: Explanation, traces: Mapping[str, Trace]) -> Iterator[Cause]:
    """The causes of one difference: the half that makes it first, then the other where it left its limits as well."""
    crossed = explanation.cross_feed
    if crossed is None or crossed.part == "state":
        return
    if not (failing := parts.failing(explanation.parts)):
        edge = str(Edge(explanation.reference, explanation.candidate))
        yield from causes.within_limits(edge, crossed, explanation.layers)
        return
    pair = _pair(explanation.change, explanation.reference, explanation.candidate, traces)
    for part in sorted(failing, key=lambda part: part != causes.half_of(crossed.part)):
        yield from moved.causes_of(bench, pair, traces, part, explanation.layers, explanation.parts)


def _is_of_window(reference: Trace, candidate: Trace) -> bool:
    return bool(reference.windows and candidate.windows) and not share_windows(reference, candidate)


def _window(reference: Trace, candidate: Trace) -> str:
    """What lies between two stages that hear other pieces of a clip."""
    ours, theirs = reference.header.window_s, candidate.header.window_s
    return f"windows of {theirs:g} s in place of {ours:g} s do it, with the same weights and before any conversion"


def _pair(change: Change, parent: str, spec: str, traces: Mapping[str, Trace]) -> Pair:
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


def _components(crossed: CrossFeed | None, failing: Sequence[str]) -> tuple[str, ...]:
    """The halves to look into: those that left their limits, and the one that makes the difference."""
    part = crossed.part if crossed else "both"
    if part == "state":
        return ()
    if failing and part in ("both", "either"):
        return tuple(failing)
    makes = {"encoder": ("encoder",), "decoder": ("decoder",), "embedding": ("decoder",)}.get(part, taps.COMPONENTS)
    return tuple(component for component in taps.COMPONENTS if component in (*failing, *makes))


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
