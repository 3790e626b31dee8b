"""One cell: a stage on a clip, judged against its parent and against the root."""

from __future__ import annotations

from dataclasses import dataclass, replace

from whisper_parity.backend.stage import Edge, Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.selection import EMBEDDED
from whisper_parity.compare.comparison import compare
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.text import TextDiff
from whisper_parity.errors import ParityError
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.program import ProgramCheck, laid_around
from whisper_parity.judge.verdict import Grade, Outcome, RungResult, Verdict
from whisper_parity.run import options, program, report
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Judged, Row
from whisper_parity.run.traces import Traces
from whisper_parity.run.weights import laid_before
from whisper_parity.trace import context
from whisper_parity.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Cell:
    """One clip in one stage: what a run records, and then judges."""

    stage: Stage
    clip: Clip

    @property
    def key(self) -> tuple[str, str]:
        """(clip, stage): what tells it apart in a report."""
        return self.clip.name, self.stage.spec

    def __str__(self) -> str:
        """As progress shows it."""
        return f"{self.stage.spec} · {self.clip.name}"


def judged(plan: Plan, cell: Cell, traces: Traces) -> Row:
    """Judge a cell.

    Raises:
        ParityError: its trace, or that of a stage that it is judged against, could not be recorded.
    """
    stage, clip = cell.stage, cell.clip
    trace = traces.get(stage.spec, clip)
    vs_parent = _judge(plan, Edge(stage.parent, stage.spec), trace, clip, traces) if stage.parent else None
    has_root = stage.parent is not None and stage.root not in (None, stage.parent)
    vs_root = _judge(plan, Edge(stage.root, stage.spec), trace, clip, traces) if has_root and stage.root else None
    header = trace.header
    looked = traces.weights(stage.spec)
    edges = _worst(vs_parent, vs_root)
    sides = [side.comparison for side in (vs_parent, vs_root) if side]
    agree = all(side.split is None for side in sides)
    check = _by_itself(plan, stage, clip, trace, traces, tokens_agree=agree)
    return Row(
        clip=clip.name,
        stage=stage.spec,
        verdict=_within_context(
            laid_before(laid_around(edges, check) if check else edges, looked), stage, clip, trace, traces
        ),
        label=header.label,
        text=header.text,
        tokens=len(header.tokens),
        audio_s=header.audio_s,
        seconds=header.seconds,
        encoder_calls=sum(window.encoder_calls for window in header.windows),
        decoder_calls=sum(window.decoder_calls for window in header.windows),
        vs_parent=vs_parent,
        vs_root=vs_root,
        vs_transcript=_vs_transcript(clip, trace),
        notes=_notes(trace),
        reproduce=reproduce(plan, cell),
        usage=header.usage,
        language=header.language or "",
        token_ids=header.tokens,
        program=check,
        recorded=header.recorded if traces.is_of_another_run(trace) else "",
    )


def _by_itself(
    plan: Plan, stage: Stage, clip: Clip, trace: Trace, traces: Traces, *, tokens_agree: bool
) -> ProgramCheck | None:
    """What a program did by itself; None for other stages, and for one that is judged against nothing."""
    if trace.header.account is None or stage.parent is None:
        return None
    reference = traces.get(stage.root, clip) if stage.root else None
    edge = Edge(stage.parent, stage.spec)
    return program.checked(plan, edge, clip, trace, reference, tokens_agree=tokens_agree)


def of_error(plan: Plan, cell: Cell, error: ParityError) -> Row:
    """The row of a cell that could not be judged."""
    outcome = verdict.of_error(error)
    if isinstance(error, _NotComparedError):
        outcome = Verdict(Outcome.NOT_COMPARED, "", str(error), ())
    return report.row_without_trace(cell.clip.name, cell.stage.spec, outcome, reproduce(plan, cell))


class _NotComparedError(ParityError):
    """The stage ran, but the stage that it is judged against did not."""

    def __init__(self, reference: str, error: ParityError) -> None:
        super().__init__(f"not compared, since its reference {reference} did not run: {error}")


def _judge(plan: Plan, edge: Edge, candidate: Trace, clip: Clip, traces: Traces) -> Judged:
    try:
        reference = traces.get(edge.reference, clip)
    except ParityError as error:
        raise _NotComparedError(edge.reference, error) from error
    limits = tolerance.for_edge(plan.tolerances, edge)
    fed = context.as_far_as_fed(reference, candidate)
    comparison = compare(*fed, plan.checkpoint.dims.vocabulary, limits.max_tie_margin)
    return Judged(comparison, verdict.judge(comparison, limits))


def _vs_transcript(clip: Clip, trace: Trace) -> TextDiff | None:
    if clip.text is None:
        return None
    return compare_texts(reference=clip.text, hypothesis=trace.header.text, language=trace.header.language)


def _worst(vs_parent: Judged | None, vs_root: Judged | None) -> Verdict:
    """The verdict of a row; where there are two references, its reason says which one."""
    sides = [side for side in (vs_parent, vs_root) if side]
    if not sides:
        return Verdict(Outcome.REFERENCE, "", "", ())
    worst = max(sides, key=lambda side: verdict.severity(side.verdict))
    if len(sides) == 1 or not worst.verdict.reason:
        return worst.verdict
    reason = f"against {worst.comparison.reference}: {worst.verdict.reason}"
    if worst is vs_parent and vs_root and not vs_root.verdict.outcome.exit_code and worst.verdict.outcome.exit_code:
        reason += f"; it agrees with the root {vs_root.comparison.reference}, so look at {worst.comparison.reference}"
    return replace(worst.verdict, reason=reason)


def _within_context(verdict: Verdict, stage: Stage, clip: Clip, trace: Trace, traces: Traces) -> Verdict:
    """The verdict of a row, or that its files have no room for the clip, whatever else is found in what fits.

    Such a port loses the end of the text on every clip as long as this one: it has diverged.
    """
    room = trace.header.n_text_ctx
    needed = context.needed(traces.get(stage.root, clip)) if room and stage.root else 0
    if room is None or needed <= room:
        return verdict
    words = f"the clip needs {needed} tokens, prompt included, and the decoder has room for {room}: the rest is lost"
    rungs = (RungResult("context", Grade.FAIL, words), *verdict.rungs)
    reason = "; ".join(filter(None, [f"context: {words}", verdict.reason]))
    return Verdict(Outcome.DIVERGED, "context", reason, rungs)


def _notes(trace: Trace) -> tuple[str, ...]:
    header = trace.header
    notes = list(header.audio_notes)
    if header.silent:
        notes.append("the audio is silent (every sample is 0): any text is invented")
    if header.step_by_step:
        notes.append("decoded step by step: rows of a prefix change with the suffix, so no draft can be verified")
    if any(window.ended == "length" for window in header.windows):
        is_full = header.n_text_ctx is not None and context.needed(trace) >= header.n_text_ctx
        limit = f"the decoder's room for {header.n_text_ctx} tokens" if is_full else "the policy's limit of tokens"
        notes.append(f"stopped at {limit}, not at end-of-text")
    if len(header.windows) > 1:
        notes.append(f"{len(header.windows)} windows of {header.window_s:g} s, texts joined")
    return (*notes, *header.notes, *(header.usage.notes if header.usage else ()))


def reproduce(plan: Plan, cell: Cell) -> str:
    """The command that repeats a cell."""
    stages = [cell.stage.spec]
    while (parent := plan.stage(stages[0]).parent) is not None:
        stages.insert(0, parent)
    listing = cell.clip.listing
    manifest = listing.path if listing and listing.path != EMBEDDED else None
    return options.command(replace(plan.options, manifest=manifest), _named(plan, cell.clip), stages)


def _named(plan: Plan, clip: Clip) -> str:
    """A clip as a user types it: by its name in its set, else by its path (from the project's folder)."""
    if clip.listing is not None:
        return clip.listing.name
    folder = plan.project.folder
    return str(clip.path.relative_to(folder) if clip.path.is_relative_to(folder) else clip.path)
