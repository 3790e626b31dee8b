"""One row: a stage on a clip, judged against its parent and against the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from whisper_parity.backend import registry
from whisper_parity.backend.registry import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import comparison as compare
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.text import TextDiff
from whisper_parity.errors import ParityError
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run import options, report
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Judged, Row
from whisper_parity.trace.trace import Trace

Traces = Callable[[str, Clip], Trace]
"""(stage, clip) -> its trace; raises a ParityError where it could not be recorded."""


def judged(plan: Plan, stage: Stage, clip: Clip, trace: Traces) -> Row:
    """Judge a stage on a clip.

    Raises:
        ParityError: its trace, or that of a stage that it is judged against, could not be recorded.
    """
    found = trace(stage.spec, clip)

    def against(reference: str) -> Judged:
        return _judge(plan, reference, found, clip, trace)

    vs_parent = against(stage.parent) if stage.parent else None
    has_root = stage.parent not in (None, registry.ROOT) and stage.spec != registry.ROOT
    vs_root = against(registry.ROOT) if has_root else None
    header = found.header
    return Row(
        clip=clip.name,
        stage=stage.spec,
        verdict=_worst(vs_parent, vs_root),
        label=header.label,
        text=header.text,
        tokens=len(header.tokens),
        audio_s=header.audio_s,
        seconds=header.seconds,
        encoder_calls=sum(window.encoder_calls for window in header.windows),
        decoder_calls=sum(window.decoder_calls for window in header.windows),
        vs_parent=vs_parent,
        vs_root=vs_root,
        vs_transcript=_vs_transcript(clip, found),
        notes=_notes(found),
        reproduce=_reproduce(plan, stage, clip),
        usage=header.usage,
        language=header.language or "",
        token_ids=header.tokens,
    )


def of_error(plan: Plan, stage: Stage, clip: Clip, error: ParityError) -> Row:
    """The row of what could not be judged."""
    found = verdict.of_error(error)
    if isinstance(error, _NotComparedError):
        found = Verdict(Outcome.NOT_COMPARED, "", str(error), ())
    return report.row_without_trace(clip.name, stage.spec, found, _reproduce(plan, stage, clip))


class _NotComparedError(ParityError):
    """The stage ran, but the stage that it is judged against did not."""

    def __init__(self, reference: str, error: ParityError) -> None:
        super().__init__(f"not compared, since its reference {reference} did not run: {error}")


def _judge(plan: Plan, reference: str, candidate: Trace, clip: Clip, trace: Traces) -> Judged:
    try:
        known = trace(reference, clip)
    except ParityError as error:
        raise _NotComparedError(reference, error) from error
    comparison = compare.compare(known, candidate, plan.checkpoint.dims.n_vocab)
    edge = tolerance.for_edge(plan.tolerances, reference, candidate.header.stage)
    return Judged(comparison, verdict.judge(comparison, edge))


def _vs_transcript(clip: Clip, found: Trace) -> TextDiff | None:
    if clip.text is None:
        return None
    return compare_texts(reference=clip.text, hypothesis=found.header.text, language=found.header.language)


def _worst(vs_parent: Judged | None, vs_root: Judged | None) -> Verdict:
    """The verdict of a row; where there are two references, its reason says which one."""
    judged = [each for each in (vs_parent, vs_root) if each]
    if not judged:
        return Verdict(Outcome.REFERENCE, "", "", ())
    worst = max(judged, key=lambda each: verdict.severity(each.verdict))
    found = worst.verdict
    if len(judged) == 1 or not found.reason:
        return found
    reason = f"against {worst.comparison.reference}: {found.reason}"
    if worst is vs_parent and vs_root and not vs_root.verdict.outcome.exit_code and found.outcome.exit_code:
        reason += f"; it agrees with the root {vs_root.comparison.reference}, so look at {worst.comparison.reference}"
    return replace(found, reason=reason)


def _notes(found: Trace) -> tuple[str, ...]:
    header = found.header
    notes = []
    if header.silent:
        notes.append("the audio is silent (every sample is 0): any text is invented")
    if header.step_by_step:
        notes.append("decoded step by step: rows of a prefix change with the suffix, so no draft can be verified")
    if any(window.ended == "length" for window in header.windows):
        notes.append("stopped at the policy's limit of tokens, not at end-of-text")
    if len(header.windows) > 1:
        notes.append(f"{len(header.windows)} windows of 30 s, texts joined")
    return (*notes, *header.notes, *(header.usage.notes if header.usage else ()))


def _reproduce(plan: Plan, stage: Stage, clip: Clip) -> str:
    needed = [stage.spec]
    while (parent := plan.stage(needed[0]).parent) is not None:
        needed.insert(0, parent)
    from_manifest = plan.options.manifest.parent.resolve() in clip.path.resolve().parents
    return options.command(plan.options, clip.name if from_manifest else str(clip.path), needed)
