"""Encoder, embedding or decoder: feed one stage's encoder output to the other's decoder, at the changed step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whisper_parity.backend.artifact import Artifact, describe
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.clips.clip import Clip
from whisper_parity.decode import policy
from whisper_parity.decode.policy import DecodingPlan
from whisper_parity.errors import UnavailableError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import Change, CrossFeed
from whisper_parity.model.checkpoint import read
from whisper_parity.model.vocabulary import token_text
from whisper_parity.trace.trace import WindowTrace

EMBEDDING = "token_embedding"

Decode = Callable[[Halves, Float32], int | None]
"""(decoder, encoder output) -> the token that the policy chooses at the step; None where logits are not finite."""


@dataclass(frozen=True)
class Pair:
    """The two stages of an edge on one window."""

    reference: str
    candidate: str
    ours: WindowTrace
    theirs: WindowTrace


def cross_feed(bench: Bench, pair: Pair, clip: Clip, change: Change) -> CrossFeed:
    """Find the part that alone makes the candidate choose differently at a step under the root's tokens.

    Raises:
        UnavailableError: one of the two gives text only, or the candidate does not flip under these tokens.
        ParityError: an artifact cannot be opened here.
    """
    step = flip_step(pair, change)
    reference, candidate = _session(bench, pair.reference), _session(bench, pair.candidate)
    plan = policy.concrete(
        bench.plan.policy, bench.plan.checkpoint.dims, bench.trace(pair.candidate, clip).header.language
    )
    next_token, token = _next_token_at(pair, plan, step), _recorded_token(pair.theirs, step)
    if next_token(candidate, _encoded(bench, pair, clip)) != token:
        return _state(pair.candidate)
    by_encoder, by_decoder = (
        next_token(reference, pair.theirs.encoder_output),
        next_token(candidate, pair.ours.encoder_output),
    )
    tried = [
        (f"encoder of {pair.candidate}, decoder of {pair.reference}", by_encoder == token),
        (f"encoder of {pair.reference}, decoder of {pair.candidate}", by_decoder == token),
    ]
    part = _part(by_encoder == token, by_decoder == token)
    if part in ("decoder", "either") and (table := other_table(bench, pair)) is not None:
        with with_table(bench, pair.candidate, table) as hybrid:
            persists = next_token(hybrid, pair.ours.encoder_output) == token
        tried.append((f"the same with the token embedding of {pair.reference}", persists))
        part = part if persists else "embedding"
    elif part in ("decoder", "either"):
        apart = EMBEDDING in bench.artifact(pair.candidate).files
        inside = "the token embedding is inside the decoder and was not tried separately"
        tried.append(("the token embeddings are equal, so it is not the lookup" if apart else inside, True))
    alone = ""
    if part == "both":
        first, second = (_text(bench, choice) for choice in (by_encoder, by_decoder))
        alone = f"; its encoder alone gives {first}, its decoder alone {second}"
    return CrossFeed(part, tuple(tried), _finding(part, pair) + alone)


def flip_step(pair: Pair, change: Change) -> int:
    """The step of a change at which the candidate flips under the root's tokens.

    Raises:
        UnavailableError: it does not.
    """
    first, last = change.reference_span
    ours, theirs = pair.ours.teacher_forced.choices, pair.theirs.teacher_forced.choices
    count = min(len(ours), len(theirs))
    for step in range(first, min(max(last, first + 1), count)):
        if ours[step] != theirs[step]:
            return step
    raise UnavailableError(f"{pair.candidate} does not flip there under the reference's tokens")


def _session(bench: Bench, spec: str) -> Halves:
    return as_halves(bench.session(spec), spec)


def as_halves(session: object, spec: str) -> Halves:
    """A session whose halves can be fed separately.

    Raises:
        UnavailableError: it gives text only.
    """
    if not isinstance(session, Halves):
        raise UnavailableError(f"{spec} gives text only: its encoder and decoder cannot be fed separately")
    return session


def _encoded(bench: Bench, pair: Pair, clip: Clip) -> Float32:
    """The candidate's encoder output in a fresh session, kept for the next question on this window."""

    def encode() -> Float32:
        features = bench.features(clip, pair.candidate).windows[pair.theirs.header.index].input_features
        return _session(bench, pair.candidate).encode(features)

    return bench.kept("encoded", (pair.candidate, clip.name, pair.theirs.header.index), encode)


def _next_token_at(pair: Pair, plan: DecodingPlan, step: int) -> Decode:
    """A function that decodes one step after the root's tokens."""
    forced = list(pair.ours.teacher_forced.tokens[:step])
    tokens = [*pair.ours.header.prompt, *forced]

    def next_token(decoder: Halves, encoder_output: Float32) -> int | None:
        row = decoder.decode(tokens, encoder_output, [len(tokens) - 1])[0]
        return int(plan.choose(row, forced)[0]) if np.isfinite(row).all() else None

    return next_token


def _recorded_token(window: WindowTrace, step: int) -> int | None:
    """The token chosen at a step of the trace; None where its logits are not finite."""
    forced = window.teacher_forced
    return int(forced.choices[step]) if np.isfinite(forced.logits[step]).all() else None


def _text(bench: Bench, chosen: int | None) -> str:
    """A token as text."""
    return "nothing finite" if chosen is None else repr(token_text(bench.plan.checkpoint.dims.vocabulary, [chosen]))


def _part(encoder: bool, decoder: bool) -> str:
    if encoder and decoder:
        return "either"
    return "encoder" if encoder else "decoder" if decoder else "both"


def reproduces(bench: Bench, pair: Pair, clip: Clip) -> bool:
    """Whether the candidate reproduces its recorded encoder output in a fresh session.

    Rounding may differ from run to run, so the new output only has to be nearer to the recorded one than to the
    reference's.

    Raises:
        UnavailableError: it gives text only.
    """
    output = _encoded(bench, pair, clip).astype(np.float64)
    recorded, reference = pair.theirs.encoder_output, pair.ours.encoder_output
    if np.array_equal(output, recorded, equal_nan=True) or not np.isfinite(output).all():
        return True
    return bool(((output - recorded) ** 2).sum() <= ((output - reference) ** 2).sum())


def not_reproduced(candidate: str) -> str:
    """The finding for a stage that does not reproduce its own trace."""
    return f"{candidate} does not reproduce it in a fresh session: its result depends on earlier calls"


def _state(candidate: str) -> CrossFeed:
    return CrossFeed("state", ((f"{candidate} in a fresh session", False),), not_reproduced(candidate))


def _finding(part: str, pair: Pair) -> str:
    candidate = pair.candidate
    return {
        "encoder": f"the encoder of {candidate} alone reproduces it",
        "decoder": f"the decoder of {candidate} alone reproduces it",
        "embedding": f"the token embedding of {candidate} reproduces it: with that of {pair.reference} it is gone",
        "either": f"the encoder of {candidate} and its decoder each reproduce it alone",
        "both": f"only encoder and decoder of {candidate} together reproduce it",
    }[part]


def other_table(bench: Bench, pair: Pair) -> Float32 | None:
    """The reference's token embedding, float32 [n_vocab, n_text_state]; None where the candidate has the same."""
    candidate = bench.artifact(pair.candidate)
    if EMBEDDING not in candidate.files:
        return None
    table = _table(bench.artifact(pair.reference))
    return None if np.array_equal(np.load(candidate.path(EMBEDDING), allow_pickle=False), table) else table


def _table(artifact: Artifact) -> Float32:
    if EMBEDDING in artifact.files:
        return np.asarray(np.load(artifact.path(EMBEDDING), allow_pickle=False), np.float32)
    weights = read(artifact.checkpoint.path)["model_state_dict"]
    return np.asarray(weights["decoder.token_embedding.weight"].float().numpy())


@contextmanager
def with_table(bench: Bench, candidate: str, table: Float32) -> Iterator[Halves]:
    """The candidate, opened with another token embedding, float32 [n_vocab, n_text_state].

    Raises:
        UnavailableError: it gives text only.
        ParityError: it cannot be opened here.
    """
    artifact = bench.artifact(candidate)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder, ExitStack() as stack:
        for role, file in artifact.files.items():
            if role == EMBEDDING:
                np.save(Path(folder) / file.name, table)
            else:
                _link_or_copy(artifact.folder / file.name, Path(folder) / file.name)
        names = {role: file.name for role, file in artifact.files.items()}
        hybrid = replace(artifact, folder=Path(folder), files=describe(Path(folder), names))
        yield as_halves(bench.open(hybrid, stack), candidate)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system
        target.write_bytes(source.read_bytes())
