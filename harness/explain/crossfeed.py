"""Encoder, embedding or decoder: one stage's encoder output into the other's decoder, at the step that changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
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
"""(decoder, encoder output) -> the token that the policy takes at the step; None where logits are not finite."""


@dataclass(frozen=True)
class Pair:
    """The two stages of an edge on one window."""

    reference: str
    candidate: str
    ours: WindowTrace
    theirs: WindowTrace


def cross_feed(bench: Bench, pair: Pair, clip: Clip, change: Change) -> CrossFeed:
    """Find the part that alone makes the candidate choose differently at a step, fed the root's tokens.

    Raises:
        UnavailableError: one of the two gives text only, or the change has no step, or no flip under these tokens.
        ParityError: an artifact cannot be opened here.
    """
    step = flip_step(pair, change)
    reference, candidate = _session(bench, pair.reference), _session(bench, pair.candidate)
    plan = policy.concrete(
        bench.plan.policy, bench.plan.checkpoint.dims, bench.trace(pair.candidate, clip).header.language
    )
    takes, wanted = _asking(pair, plan, step), _taken(pair.theirs, step)
    again = candidate.encode(bench.features(clip).windows[change.window].input_features)
    if takes(candidate, again) != wanted:
        return _not_again(pair.candidate)
    by_encoder, by_decoder = takes(reference, pair.theirs.encoder_output), takes(candidate, pair.ours.encoder_output)
    words = [
        (f"encoder of {pair.candidate}, decoder of {pair.reference}", by_encoder == wanted),
        (f"encoder of {pair.reference}, decoder of {pair.candidate}", by_decoder == wanted),
    ]
    part = _part(by_encoder == wanted, by_decoder == wanted)
    if part in ("decoder", "either") and (table := other_table(bench, pair)) is not None:
        kept = _with_table(bench, pair, table, takes, wanted)
        words.append((f"the same with the token embedding of {pair.reference}", kept))
        part = part if kept else "embedding"
    elif part in ("decoder", "either"):
        apart = EMBEDDING in bench.artifact(pair.candidate).files
        inside = "the token embedding is inside the decoder, and was not tried apart"
        words.append(("the token embeddings are equal, so it is not the lookup" if apart else inside, True))
    alone = ""
    if part == "both":
        first, second = (_text(bench, each) for each in (by_encoder, by_decoder))
        alone = f"; its encoder alone gives {first}, its decoder alone {second}"
    return CrossFeed(part, tuple(words), _finding(part, pair) + alone)


def flip_step(pair: Pair, change: Change) -> int:
    """The step of a change at which the candidate flips when it is fed the root's tokens.

    Raises:
        UnavailableError: it does not.
    """
    first, last = change.reference_span
    ours, theirs = pair.ours.teacher_forced.choices, pair.theirs.teacher_forced.choices
    count = min(len(ours), len(theirs))
    for step in range(first, min(max(last, first + 1), count)):
        if ours[step] != theirs[step]:
            return step
    raise UnavailableError(f"{pair.candidate} does not flip there when it is fed the reference's tokens")


def _session(bench: Bench, spec: str) -> Halves:
    found = bench.session(spec)
    if not isinstance(found, Halves):
        raise UnavailableError(f"{spec} gives text only: its encoder and decoder cannot be fed apart")
    return found


def _asking(pair: Pair, plan: DecodingPlan, step: int) -> Decode:
    """What a decoder on an encoder output takes at the step, fed the root's tokens."""
    fed = list(pair.ours.teacher_forced.tokens[:step])
    tokens = [*pair.ours.header.prompt, *fed]

    def takes(decoder: Halves, encoder_output: Float32) -> int | None:
        row = decoder.decode(tokens, encoder_output, [len(tokens) - 1])[0]
        return int(plan.choose(row, fed)[0]) if np.isfinite(row).all() else None

    return takes


def _taken(window: WindowTrace, step: int) -> int | None:
    """What the record says that was taken at a step."""
    forced = window.teacher_forced
    return int(forced.choices[step]) if np.isfinite(forced.logits[step]).all() else None


def _text(bench: Bench, chosen: int | None) -> str:
    """A token as the reader knows it."""
    return "nothing finite" if chosen is None else repr(token_text(bench.plan.checkpoint.dims.n_vocab, [chosen]))


def _part(encoder: bool, decoder: bool) -> str:
    if encoder and decoder:
        return "either"
    return "encoder" if encoder else "decoder" if decoder else "both"


def repeats(bench: Bench, pair: Pair, clip: Clip) -> bool:
    """Whether the candidate, opened afresh, gives its recorded encoder output again.

    Rounding may differ from run to run, so it repeats as long as the new output is nearer to the recorded one than to
    the reference's.

    Raises:
        UnavailableError: it gives text only.
    """
    features = bench.features(clip).windows[pair.theirs.header.index].input_features
    again = _session(bench, pair.candidate).encode(features).astype(np.float64)
    recorded, reference = pair.theirs.encoder_output, pair.ours.encoder_output
    if np.array_equal(again, recorded, equal_nan=True) or not np.isfinite(again).all():
        return True
    return bool(((again - recorded) ** 2).sum() <= ((again - reference) ** 2).sum())


def not_again(candidate: str) -> str:
    """What is said of a stage whose record cannot be repeated."""
    return f"{candidate}, does not reproduce it in a fresh session: its result depends on what ran before"


def _not_again(candidate: str) -> CrossFeed:
    return CrossFeed("state", ((f"{candidate} again, in a fresh session", False),), not_again(candidate))


def _finding(part: str, pair: Pair) -> str:
    of = f"of {pair.candidate}"
    return {
        "encoder": f"the encoder {of} alone reproduces it",
        "decoder": f"the decoder {of} alone reproduces it",
        "embedding": f"the token embedding {of} reproduces it: with that of {pair.reference} it is gone",
        "either": f"the encoder {of} and its decoder each reproduce it alone",
        "both": f"only encoder and decoder {of} together reproduce it",
    }[part]


def other_table(bench: Bench, pair: Pair) -> Float32 | None:
    """The reference's token embedding, float32 [n_vocab, n_text_state], where the candidate holds another one."""
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


def _with_table(bench: Bench, pair: Pair, table: Float32, takes: Decode, wanted: int | None) -> bool:
    """Whether the candidate still does it with another token embedding."""
    found = bench.artifact(pair.candidate)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder, ExitStack() as stack:
        for role, file in found.files.items():
            if role == EMBEDDING:
                np.save(Path(folder) / file.name, table)
            else:
                _link_or_copy(found.folder / file.name, Path(folder) / file.name)
        names = {role: file.name for role, file in found.files.items()}
        hybrid = replace(found, folder=Path(folder), files=describe(Path(folder), names))
        session = bench.open(hybrid, stack)
        return isinstance(session, Halves) and takes(session, pair.ours.encoder_output) == wanted


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system
        target.write_bytes(source.read_bytes())
