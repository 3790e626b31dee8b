"""Measurement of the noise floor: the root against itself, computed in ways that do not change the model.

Every pass is teacher forced with the tokens of the first one, so that all differences are at the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend import build, registry
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.backend.facets import Perturbable, Perturbation
from whisper_parity.backend.registry import Backends
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, clip_features
from whisper_parity.compare.comparison import Comparison, compare, steps_at_risk
from whisper_parity.decode import draft, policy
from whisper_parity.decode.loop import teacher_forced
from whisper_parity.decode.policy import Policy
from whisper_parity.errors import BackendError, UnavailableError, UsageError, mapped
from whisper_parity.judge import noise
from whisper_parity.judge.noise import NOISE_VERSION, Noise, SourceNoise, TensorNoise
from whisper_parity.judge.tolerance import TIE_SIGMAS
from whisper_parity.model import checkpoint
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.project import Project
from whisper_parity.run import threads
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import workshop
from whisper_parity.system import cores, machine
from whisper_parity.trace.record import Recorder, record
from whisper_parity.trace.trace import Trace, WindowTrace

FINITE_MASK = -10000.0
SUFFIX = (220, 11, 13, 1000)
"""Ordinary tokens, repeated behind the requested rows."""
BOTH = ("encoder_output", "logits")
DECODER = ("logits",)


@dataclass(frozen=True)
class Subject:
    """The measured artifact, and the clips and settings of the measurement."""

    backends: Backends
    artifact: Artifact
    policy: Policy
    clips: tuple[tuple[Clip, Features], ...]
    threads: int
    cache: Path

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the artifact."""
        return self.artifact.checkpoint


@dataclass(frozen=True)
class Pass:
    """One way to compute all clips again."""

    session: Halves
    tensors: tuple[str, ...] = BOTH
    """The tensors that it can move; without the encoder, it is fed the first pass's encoder output."""
    suffix: tuple[int, ...] = ()
    """Tokens behind the rows, up to the end of the context; empty for the session's own padding."""
    half: bool = False
    """Whether inputs and outputs are rounded to half precision."""


@dataclass(frozen=True)
class Source:
    """Passes that are compared with a base pass."""

    name: str
    how: str
    passes: tuple[Pass, ...]


def measure(options: RunOptions, project: Project) -> Noise:
    """Measure the root's noise on the clips of a run's options.

    Raises:
        UsageError: an unknown policy or clip, or an unreadable clip.
        ParityError: the checkpoint is unusable or cannot run here.
    """
    started = time.perf_counter()
    subject = _subject(options, project)
    root = subject.backends.root
    backend = subject.backends.get(root)
    with mapped(BackendError, "measuring noise failed"):
        with backend.open(subject.artifact, subject.threads) as session:
            if not isinstance(session, Halves) or not isinstance(session, Perturbable):
                raise UnavailableError(f"{root}: this backend cannot be perturbed", hint="Use the built-in one")
            first = {clip.name: _first(subject, session, clip, features) for clip, features in subject.clips}
            sources = [*_unperturbed(subject, session, first), *_perturbed(subject, session, first)]
            label = session.facts.label
        sources.append(_threads(subject, first))
    return _noise(subject, project.folder, label, sources, time.perf_counter() - started)


def target(out: Path | None, options: RunOptions, project: Project) -> Path:
    """The file for a checkpoint's noise: the approved one, unless it belongs to another checkpoint.

    Raises:
        UsageError: it belongs to another checkpoint, and no other file was named.
    """
    file = project.noise
    if out is not None or not file.is_file():
        return out or file
    recorded, weights = noise.load(file), checkpoint.resolve(options.checkpoint, options.cache)
    if recorded.checkpoint_sha256 != weights.sha256:
        raise UsageError(
            f"{file} holds the noise of {recorded.checkpoint}, not of {weights.name}", hint="Name a file by --out"
        )
    return file


def _subject(options: RunOptions, project: Project) -> Subject:
    chosen = policy.named(options.policy, project.policies)
    policy.check_language(options.language)
    selected = options.selected()
    backends = registry.load(project, options.settings)
    weights = checkpoint.resolve(options.checkpoint, options.cache)
    artifact = build.obtain(workshop(options, backends, weights), backends.root)
    if selected.bad:  # a floor over fewer clips than named would be misleading
        raise UsageError(f"{selected.bad[0].name}: {selected.bad[0].error}", hint="Leave it out")
    n_mels = artifact.checkpoint.dims.n_mels
    usable = tuple((clip, clip_features(options.cache, clip, n_mels)) for clip in selected.clips)
    count = options.threads or threads.suited(artifact.checkpoint.dims)
    return Subject(backends, artifact, chosen, usable, count, options.cache)


def _first(subject: Subject, session: Halves, clip: Clip, features: Features) -> Trace:
    """The pass that all others are compared with, as recorded by a run."""
    recorder = Recorder(
        subject.backends.root, session, subject.artifact.sha256, subject.checkpoint.dims, subject.policy,
        drafts=lambda sha, plan, greedy: draft.root_draft(subject.cache, subject.checkpoint, sha, plan, greedy),
    )  # fmt: skip
    return record(recorder, clip, features, None, clip.language)


def _unperturbed(subject: Subject, session: Halves, first: dict[str, Trace]) -> list[SourceNoise]:
    end = policy.concrete(subject.policy, subject.checkpoint.dims, "en").eot
    return [
        _measured(subject, first, Source("repeat", "the same, twice more", (Pass(session), Pass(session)))),
        _measured(
            subject,
            first,
            Source(
                "position",
                f"tokens {list(SUFFIX)} again and again, and end-of-text, behind the rows, against padding by token 0",
                (Pass(session, DECODER, SUFFIX), Pass(session, DECODER, (end,))),
            ),
        ),
        _measured(
            subject,
            first,
            Source(
                "fp16-io",
                "input features, encoder output and logits rounded to float16, weights and arithmetic in float32",
                (Pass(session, half=True),),
            ),
        ),
    ]


def _perturbed(subject: Subject, session: Halves, first: dict[str, Trace]) -> list[SourceNoise]:
    assert isinstance(session, Perturbable)  # noqa: S101 - asked by the caller
    with session.perturbed(Perturbation(half_weights=True)) as half:
        how = "weights rounded to float16, arithmetic in float32, against float32 weights"
        sources = [_measured(subject, first, Source("fp16", how, (Pass(half),)))]
    with session.perturbed(Perturbation(mask_value=-math.inf)) as explicit:
        how = "attention as matrix products and softmax, against the fused kernel"
        sources.append(_measured(subject, first, Source("attention", how, (Pass(explicit),))))
        base = _all(subject, first, Pass(explicit, DECODER))
    with session.perturbed(Perturbation(mask_value=FINITE_MASK)) as finite:
        how = f"causal mask of {FINITE_MASK:g} against -inf, both with attention written out"
        sources.append(_measured(subject, base, Source("mask", how, (Pass(finite, DECODER),))))
    return sources


def _threads(subject: Subject, first: dict[str, Trace]) -> SourceNoise:
    """Measure other thread counts; last, since the count is global to the process."""
    others = sorted({1, 2, cores.available()} - {subject.threads})
    backend, comparisons = subject.backends.get(subject.backends.root), []
    for count in others:
        with backend.open(subject.artifact, count) as session:
            assert isinstance(session, Halves)  # noqa: S101 - the root is one
            comparisons += _compared(subject, first, _all(subject, first, Pass(session)))
    with backend.open(subject.artifact, subject.threads):
        pass  # restores the process's thread count
    how = f"{' and '.join(map(str, others))} thread(s) against {subject.threads}"
    return SourceNoise("threads", how, _tensors(comparisons, BOTH))


def _measured(subject: Subject, base: dict[str, Trace], source: Source) -> SourceNoise:
    comparisons = [
        comparison for way in source.passes for comparison in _compared(subject, base, _all(subject, base, way))
    ]
    return SourceNoise(source.name, source.how, _tensors(comparisons, source.passes[0].tensors))


def _compared(subject: Subject, base: dict[str, Trace], repeated: dict[str, Trace]) -> list[Comparison]:
    size = subject.checkpoint.dims.vocabulary
    return [_with_risk(base[name], compare(base[name], repeated[name], size)) for name in base]


def _with_risk(base: Trace, compared: Comparison) -> Comparison:
    """Steps at risk by the noise that was just measured: here it is the root's own."""
    at_risk = steps_at_risk([window.teacher_forced for window in base.windows], TIE_SIGMAS * (compared.noise or 0.0))
    return replace(compared, steps_at_risk=at_risk)


def _all(subject: Subject, base: dict[str, Trace], way: Pass) -> dict[str, Trace]:
    return {clip.name: _again(subject, base[clip.name], features, way) for clip, features in subject.clips}


def _again(subject: Subject, base: Trace, features: Features, way: Pass) -> Trace:
    """Recompute every window of a clip with the same tokens."""
    inputs = [window.input_features for window in features.windows]
    windows = [
        _window(subject, base, window, input_features, way) for window, input_features in zip(base.windows, inputs)
    ]
    return Trace(base.header, tuple(windows))


def _window(subject: Subject, base: Trace, window: WindowTrace, input_features: Float32, way: Pass) -> WindowTrace:
    dims, forced = subject.checkpoint.dims, window.teacher_forced
    encodes = "encoder_output" in way.tensors
    rounded = _half if way.half else _whole
    encoder_output = rounded(way.session.encode(rounded(input_features))) if encodes else window.encoder_output
    plan = policy.concrete(subject.policy, dims, base.header.language)
    fed = [*plan.prompt, *forced.tokens][: dims.n_text_ctx]
    room = dims.n_text_ctx - len(fed)
    suffix = (way.suffix * room)[:room]
    start = len(plan.prompt) - 1
    logits = way.session.decode([*fed, *suffix], encoder_output, range(start, start + len(forced.logits)))
    perturbed = teacher_forced(plan, forced.tokens, rounded(logits))
    return replace(window, encoder_output=encoder_output, teacher_forced=perturbed)


def _half(values: Float32) -> Float32:
    """float32 values rounded to float16, as at the interfaces of a half-precision device."""
    return values.astype(np.float16).astype(np.float32)


def _whole(values: Float32) -> Float32:
    return values


def _tensors(comparisons: Sequence[Comparison], names: tuple[str, ...]) -> tuple[TensorNoise, ...]:
    """Combine comparisons over all clips: worst values, and sums of counts.

    Raises:
        BackendError: a pass gave other shapes, or values that are not finite.
    """
    for comparison in comparisons:
        if comparison.broken:
            raise BackendError(f"{comparison.clip}: {comparison.broken.tensor}: {comparison.broken.reason}")
    return tuple(_tensor(comparisons, name) for name in names)


def _tensor(comparisons: Sequence[Comparison], name: str) -> TensorNoise:
    diffs = [item.diff for comparison in comparisons for item in comparison.tensors if item.name == name]
    worst = TensorNoise(name, min(diff.snr_db for diff in diffs), max(diff.rmse for diff in diffs))
    if name != "logits":
        return worst
    steps = sum(comparison.steps for comparison in comparisons)
    squares = sum(comparison.steps * (comparison.noise or 0.0) ** 2 for comparison in comparisons)
    return replace(
        worst,
        kl_max=max(diff.kl_max for comparison in comparisons for diff in comparison.logits),
        movement_rms=math.sqrt(squares / steps),
        steps_at_risk=sum(comparison.steps_at_risk for comparison in comparisons),
        top_movement=max(diff.top_movement for comparison in comparisons for diff in comparison.logits),
        flips=sum(len(comparison.flips) for comparison in comparisons),
        steps=steps,
    )


def _noise(subject: Subject, folder: Path, label: str, sources: Sequence[SourceNoise], seconds: float) -> Noise:
    return Noise(
        noise_version=NOISE_VERSION,
        checkpoint=subject.checkpoint.name,
        checkpoint_sha256=subject.checkpoint.sha256,
        stage=subject.backends.root,
        label=label,
        policy=subject.policy.name,
        clips=tuple(clip.name for clip, _ in subject.clips),
        threads=subject.threads,
        created=artifacts.now(),
        seconds=round(seconds, 1),
        machine=machine.describe(folder, subject.backends.packages([subject.backends.root])),
        sources=tuple(sources),
    )
