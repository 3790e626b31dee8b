"""From features to a trace: run one stage on one clip."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from whisper_parity.backend.account import Account
from whisper_parity.backend.contract import CheckedHalves, Float32, Halves, Program, Transcript, Usage
from whisper_parity.backend.facets import Drafting, Hearing
from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, Window
from whisper_parity.decode import policy
from whisper_parity.decode.loop import decode
from whisper_parity.decode.policy import DecodingPlan, Policy
from whisper_parity.errors import BackendError, RecordError
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims
from whisper_parity.system.activity import Kind, step
from whisper_parity.trace.trace import TRACE_VERSION, Trace, TraceHeader, WindowHeader, WindowTrace

Drafts = Callable[[str, DecodingPlan, Callable[[], list[int]]], list[int]]
"""(hash of the input features, plan, how to compute) -> the root's draft, cached where possible."""


@dataclass(frozen=True)
class Recorder:
    """An opened stage, ready to record clips."""

    stage: str
    session: Halves | Program
    artifact_sha256: str
    dims: Dims
    policy: Policy
    drafts: Drafts
    step_by_step: bool = False
    n_text_ctx: int | None = None
    """Tokens that the stage's files have room for, where they are fewer than the checkpoint's."""


def record(recorder: Recorder, clip: Clip, features: Features, reference: Trace | None, language: str | None) -> Trace:
    """Run a stage on a clip.

    Args:
        recorder: the stage.
        clip: the clip.
        features: its windows, the same arrays for every stage.
        reference: the root's trace, whose tokens are the draft; None when this stage is the root.
        language: Whisper code; None to detect it.

    Raises:
        BackendError: the runtime failed.
        ArtifactError: its outputs do not have the shapes of the checkpoint.
    """
    session = recorder.session
    before = session.usage()
    if isinstance(session, Program):
        with step(Kind.CLIPS, "transcribing"):
            trace = _transcribe(recorder, session, clip, features, language)
    else:
        checked = CheckedHalves(session, recorder.stage, recorder.dims)
        trace = _decode_windows(recorder, checked, clip, features, reference, language)
    return replace(trace, header=replace(trace.header, usage=_whole_usage(before, session.usage())))


STEPS_AGAIN = 4
"""Steps of a stage that decodes one token a call, when it runs a window again."""


def again(recorder: Recorder, features: Features, trace: Trace) -> Trace:
    """The trace with its first window run again by the same calls: one of the encoder, one of the decoder.

    Args:
        recorder: the stage.
        features: of the clip.
        trace: what this stage recorded of it.

    Raises:
        BackendError: the runtime failed.
        ArtifactError: its outputs do not have the shapes of the checkpoint.
    """
    if not trace.windows:
        raise BackendError(f"{trace.header.clip}: a trace without windows cannot be run again in part")
    assert isinstance(recorder.session, Halves)  # noqa: S101 - it has windows
    session = CheckedHalves(recorder.session, recorder.stage, recorder.dims)
    window, forced = trace.windows[0], trace.windows[0].teacher_forced
    encoder_output = session.encode(features.windows[0].input_features)
    prompt, fed = window.header.prompt, forced.tokens[: len(forced.logits) - 1]
    if recorder.step_by_step:
        steps = range(min(STEPS_AGAIN, len(forced.logits)))
        rows = [session.decode([*prompt, *fed[:i]], encoder_output, [len(prompt) + i - 1]) for i in steps]
        logits = np.concatenate([*rows, forced.logits[len(rows) :]])
    else:
        start = len(prompt) - 1
        logits = session.decode([*prompt, *fed], encoder_output, range(start, start + len(forced.logits)))
    session.usage()  # what this spends is no clip's
    repeated = WindowTrace(window.header, encoder_output, replace(forced, logits=logits))
    return replace(trace, windows=(repeated, *trace.windows[1:]))


def _whole_usage(before: Usage | None, clip: Usage | None) -> Usage | None:
    """A clip's usage with the bytes and notes of the session's setup."""
    if before is None or clip is None:
        return clip
    return replace(
        clip,
        sent_bytes=before.sent_bytes + clip.sent_bytes,
        received_bytes=before.received_bytes + clip.received_bytes,
        notes=(*before.notes, *clip.notes),
    )


def detect_language(session: Halves, dims: Dims, encoder_output: Float32) -> str:
    """The likeliest language at the start-of-transcript position, as `whisper.detect_language` does."""
    if not vocabulary.is_multilingual(dims.vocabulary):
        return "en"
    words = vocabulary.tokenizer(dims.vocabulary)
    row = session.decode([words.sot], encoder_output, [0])[0]
    best = max(zip(words.all_language_tokens, words.all_language_codes), key=lambda pair: row[pair[0]])
    return str(best[1])


def _transcribe(recorder: Recorder, session: Program, clip: Clip, features: Features, language: str | None) -> Trace:
    started = time.perf_counter()
    if isinstance(session, Hearing):
        output = session.hear(clip.path, language, recorder.policy.options)
        seconds = time.perf_counter() - started
        header = _header(recorder, clip, features, _transcript(output.account, language), seconds, ())
        return Trace(replace(header, account=output.account), (), output.tensors)
    transcript = session.transcribe(audio.load(clip.path), language)
    return Trace(_header(recorder, clip, features, transcript, time.perf_counter() - started, ()), ())


def _transcript(account: Account, language: str | None) -> Transcript:
    """What an account says as a program of openai-whisper's would; prompt and end-of-text are no part of its tokens."""
    return Transcript(account.text or "", account.tokens, (), account.language or language)


def _decode_windows(
    recorder: Recorder,
    session: Halves,
    clip: Clip,
    features: Features,
    reference: Trace | None,
    language: str | None,
) -> Trace:
    started = time.perf_counter()
    windows: list[WindowTrace] = []
    for window in features.windows:
        encode_started = time.perf_counter()
        with step(Kind.CLIPS, f"encoding{_of(window, features)}"):
            encoder_output = session.encode(window.input_features)
        encode_s = time.perf_counter() - encode_started
        if language is None:
            language = detect_language(session, recorder.dims, encoder_output)
        with step(Kind.CLIPS, f"decoding{_of(window, features)}"):
            windows.append(_decode_window(recorder, session, window, encoder_output, encode_s, reference, language))
    headers = tuple(window.header for window in windows)
    decoded = tuple(token for window in headers for token in window.tokens)
    size, seconds = recorder.dims.vocabulary, time.perf_counter() - started
    words = vocabulary.tokenizer(size, language)
    texts = [words.decode(list(vocabulary.spoken(size, window.tokens))).strip() for window in headers]
    transcript = Transcript(" ".join(filter(None, texts)), decoded, (), language)
    return Trace(_header(recorder, clip, features, transcript, seconds, headers), tuple(windows))


def _of(window: Window, features: Features) -> str:
    """Which window of a long clip: " (2 of 5)"; "" for the only one."""
    count = len(features.windows)
    return f" ({window.index + 1} of {count})" if count > 1 else ""


def _decode_window(
    recorder: Recorder,
    session: Halves,
    window: Window,
    encoder_output: Float32,
    encode_s: float,
    reference: Trace | None,
    language: str | None,
) -> WindowTrace:
    plan = policy.concrete(recorder.policy, recorder.dims, language, recorder.n_text_ctx)
    draft, forced = _draft(recorder, window, encoder_output, reference, plan)
    started = time.perf_counter()
    decoded = decode(session, plan, encoder_output, draft, reference=forced, step_by_step=recorder.step_by_step)
    seconds = time.perf_counter() - started
    header = WindowHeader(
        window.index, window.sha256, plan.prompt, decoded.tokens, decoded.ended, decoded.teacher_forced.tokens,
        1, decoded.decoder_calls, encode_s, seconds, decoded.teacher_forced.limited,
    )  # fmt: skip
    return WindowTrace(header, encoder_output, decoded.teacher_forced)


def _draft(
    recorder: Recorder,
    window: Window,
    encoder_output: Float32,
    reference: Trace | None,
    plan: DecodingPlan,
) -> tuple[list[int], list[int] | None]:
    """The draft to verify, and the tokens to feed for the teacher-forced record (None: the decoder's own)."""
    if reference is None:
        if not isinstance(recorder.session, Drafting):
            raise BackendError(f"{recorder.stage}: the root reference must be able to decode by itself (greedy)")
        greedy = recorder.session.greedy
        return recorder.drafts(window.sha256, plan, lambda: greedy(encoder_output, plan.options)), None
    tokens = list(_reference_window(reference, window).tokens)
    return tokens, tokens


def _reference_window(reference: Trace, window: Window) -> WindowHeader:
    """The root's record of this window; equal hashes prove that both were fed the same array."""
    headers = reference.header.windows
    header = headers[window.index] if window.index < len(headers) else None
    if header is None or header.input_features_sha256 != window.sha256:
        raise RecordError(
            f"{reference.header.clip}: window {window.index} of the reference was computed from other input features",
            hint="The audio or the feature code changed since; run the reference again",
        )
    return header


def _header(
    recorder: Recorder,
    clip: Clip,
    features: Features,
    transcript: Transcript,
    seconds: float,
    windows: tuple[WindowHeader, ...],
) -> TraceHeader:
    return TraceHeader(
        trace_version=TRACE_VERSION,
        clip=clip.name,
        stage=recorder.stage,
        label=recorder.session.facts.label,
        artifact_sha256=recorder.artifact_sha256,
        audio_sha256=features.audio_sha256,
        n_vocab=recorder.dims.n_vocab,
        policy=recorder.policy.name,
        language=transcript.language,
        audio_s=features.seconds,
        silent=features.silent,
        text=transcript.text.strip(),
        tokens=vocabulary.spoken(recorder.dims.vocabulary, transcript.tokens),
        timestamped_tokens=transcript.tokens,
        segments=transcript.segments,
        step_by_step=recorder.step_by_step,
        seconds=seconds,
        windows=windows,
        notes=recorder.session.facts.notes,
        audio_notes=features.notes,
        n_frames=recorder.dims.n_frames,
        n_text_ctx=recorder.n_text_ctx,
        vocabulary=recorder.dims.vocabulary,
    )
