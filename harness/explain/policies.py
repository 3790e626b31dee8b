"""The first edge taken apart: the same weights under the parts of the decode policy, switched one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from whisper_parity.compare.boundaries import timestamp_pairs
from whisper_parity.compare.finding import cut
from whisper_parity.decode.policy import SPECIALS, Policy
from whisper_parity.explain.differences import changes, overlaps
from whisper_parity.explain.explanation import Change, PolicyPart
from whisper_parity.trace.trace import Trace

Switches = Mapping[str, Any]
"""Arguments of `whisper.transcribe` that differ from its defaults."""

Transcribe = Callable[[Switches], Sequence[int]]
"""Text tokens under these switches."""

WHOLE_WINDOWS = "whole_windows"
"""Not an argument: pads the audio with silence to whole windows, as ours are. By itself `whisper.transcribe` pads the
last window with zeros of the log-mel spectrogram, which are louder than silence (openai-whisper, transcribe.py,
`pad_or_trim(mel_segment, N_FRAMES)`)."""


def switches(policy: Policy) -> dict[str, Switches]:
    """For each part in which they differ: the arguments that make `whisper.transcribe` follow `policy`.

    `whisper.transcribe` by default: timestamps, temperature fallback, conditioning on previous text, a gate for
    silence, zeros behind the last frame, openai-whisper's suppressed tokens, no blank at the start, no prompt
    (openai-whisper, transcribe.py).
    """
    options = policy.options
    parts: dict[str, Switches] = {
        "temperature fallback": {"temperature": 0.0},
        "condition on previous text": {"condition_on_previous_text": False},
        "silence gate": {"no_speech_threshold": None},
        "window padding": {WHOLE_WINDOWS: True},
    }
    if options.get("without_timestamps"):
        parts = {"timestamps": {"without_timestamps": True}, **parts}
    if options.get("suppress_tokens") != "-1":
        own = options.get("suppress_tokens")  # without specials the text's tokens are all allowed, as with no filter
        parts["suppressed tokens"] = {"suppress_tokens": None if own == SPECIALS else own}
    if not options.get("suppress_blank"):
        parts["blank suppression"] = {"suppress_blank": False}
    if options.get("prompt"):
        parts["prompt"] = {"initial_prompt": options["prompt"]}
    return parts


def parts(
    change: Change, reference: Trace, candidate: Trace, policy: Policy, run: Transcribe
) -> tuple[PolicyPart, ...]:
    """Find the parts of the policy that create or remove a difference.

    Args:
        change: between the two.
        reference: decoded by `whisper.transcribe`.
        candidate: the same weights, decoded by `policy`.
        policy: of the candidate.
        run: `whisper.transcribe` on this clip.

    Returns:
        One for each part in which they differ; empty when all of them together do not remove the difference.
    """
    switched_parts = switches(policy)
    whole: dict[str, Any] = {key: value for switched in switched_parts.values() for key, value in switched.items()}
    ours, theirs = reference.header, candidate.header

    def reads_as_candidate(switched: Switches) -> bool:
        edits = changes(run(switched), theirs.tokens, theirs.vocabulary, theirs.language)
        return not any(overlaps(edit.candidate_span, change.candidate_span) for edit in edits)

    def reads_as_reference(switched: Switches) -> bool:
        edits = changes(ours.tokens, run(switched), ours.vocabulary, theirs.language)
        return not any(overlaps(edit.reference_span, change.reference_span) for edit in edits)

    if not reads_as_candidate(whole):
        return ()
    moving = []
    for part, switched in switched_parts.items():
        without = {key: value for key, value in whole.items() if key not in switched}
        moving.append(PolicyPart(part, reads_as_candidate(switched), reads_as_reference(without)))
    return tuple(moving)


def finding(change: Change, reference: Trace, parts: Sequence[PolicyPart]) -> str:
    """The cause of a difference according to the parts, in one sentence."""
    what = subject(change)
    at_boundary = change.reference_span[0] in timestamp_pairs(
        reference.header.timestamped_tokens, reference.header.vocabulary
    )
    alone = [part.part for part in parts if part.removes]
    needed = [part.part for part in parts if part.restores]
    if at_boundary and change.edit_class == "punctuation" and "timestamps" in alone:
        return f"{what} is a segment boundary in timestamp mode: without timestamps it reads as the candidate does"
    if alone:
        return f"{what} comes from the decode policy: {' or '.join(alone)}, switched alone, makes both read the same"
    if needed:
        return f"{what} comes from the decode policy: {' or '.join(needed)}, switched back alone, restores it"
    if not parts:
        return (
            f"{what} is not the policy's: whisper.transcribe under the candidate's policy reads as before, so the "
            "difference lies in the arithmetic of decoding token by token"
        )
    return f"{what} comes from the decode policy, but from several parts together: none alone adds or removes it"


def boundary(change: Change, boundaries: frozenset[int]) -> str:
    """Whether a difference is at a pair of timestamps of the reference, in words; needs no run."""
    if change.reference_span[0] not in boundaries:
        return f"{subject(change)} is not at a segment boundary of the reference"
    if change.edit_class != "punctuation":
        return f"{subject(change)} stands at a segment boundary, where a decode policy moves marks and writes no words"
    return f"{subject(change)} is a segment boundary in timestamp mode: suspect the decode policy (timestamps) first"


def subject(change: Change) -> str:
    """The difference as the subject of a sentence."""
    names = {",": "the comma", ".": "the full stop", "?": "the question mark", "!": "the exclamation mark"}
    names |= {"，": "the comma", "。": "the full stop", "？": "the question mark", "、": "the enumeration comma"}
    if change.edit_class == "punctuation" and change.mark:
        return names.get(change.mark, f"the mark {change.mark!r}")
    return f"the {change.edit_class} {cut(change.reference_text or change.candidate_text)!r}"
