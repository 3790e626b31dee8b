"""Traces of a decoder with less room for tokens than the checkpoint's: compared as far as both were fed."""

from __future__ import annotations

from dataclasses import replace

from whisper_parity.trace.trace import Trace, WindowTrace, share_windows


def needed(reference: Trace) -> int:
    """Tokens that the decoder must have room for: the prompt and the text of the longest window, 0 without windows.

    What ends the text is predicted at the last of them, and is not fed.
    """
    return max((len(window.prompt) + len(window.tokens) for window in reference.header.windows), default=0)


def as_far_as_fed(reference: Trace, candidate: Trace) -> tuple[Trace, Trace]:
    """Both traces with the teacher-forced steps that both have: only a lack of room makes one of them shorter."""
    if not share_windows(reference, candidate) or reference.header.n_text_ctx == candidate.header.n_text_ctx:
        return reference, candidate
    pairs = [_cut(ours, theirs) for ours, theirs in zip(reference.windows, candidate.windows)]
    return _with(reference, [ours for ours, _ in pairs]), _with(candidate, [theirs for _, theirs in pairs])


def _cut(ours: WindowTrace, theirs: WindowTrace) -> tuple[WindowTrace, WindowTrace]:
    steps = min(len(window.teacher_forced.logits) for window in (ours, theirs))
    return _first(ours, steps), _first(theirs, steps)


def _first(window: WindowTrace, steps: int) -> WindowTrace:
    """The first steps of a window; the tokens fed behind them are left out."""
    forced = window.teacher_forced
    if len(forced.logits) == steps:
        return window
    forced = replace(
        forced,
        tokens=forced.tokens[:steps],
        logits=forced.logits[:steps],
        choices=forced.choices[:steps],
        runners_up=forced.runners_up[:steps],
        limited=True,
    )
    header = replace(window.header, forced_tokens=forced.tokens, forced_limited=True)
    return replace(window, header=header, teacher_forced=forced)


def _with(trace: Trace, windows: list[WindowTrace]) -> Trace:
    """A trace with other windows; with more of them than its partner has, it keeps all, and is not comparable."""
    return replace(trace, windows=(*windows, *trace.windows[len(windows) :]))
