"""The folder that `parity-whisper` reads beside its DLA files: model.json, filters, vocabulary, rules of decoding."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.dla.sessions import stepform, stepwise
from whisper_parity.decode.policy import DecodingPlan
from whisper_parity.errors import OutputError, UsageError
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims

MODEL, FILTERS, VOCABULARY, DECODE = "model.json", "mel_filters.txt", "vocab.txt", "decode.json"
"""Names of the files that are written."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Names of the files of a model, relative to the folder."""

    encoder: str = "encoder.dla"
    decoder: str = "decoder.dla"
    token_embedding: str = "token_embedding.npy"
    position_embedding: str | None = None
    """Of a decoder with a KV cache, and of no other: by it the program knows one."""
    fitted: Fitted | None = None
    """How such a decoder takes and gives its numbers; None: the program tells the layout `stacked` by sizes."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the program decodes a window: what `decode.json` holds."""

    suppress: tuple[int, ...] = ()
    """Ids that are never chosen."""
    suppress_first: tuple[int, ...] = ()
    """Ids that are not chosen at a window's first step."""
    max_tokens: int = 0
    """Steps of a window, that of end-of-text included; 0: as many as the decoder has room for."""
    prompt: tuple[int, ...] = ()
    """Ids to feed; (): made by the program of language and task."""


def rules(plan: DecodingPlan, dims: Dims) -> Rules:
    """The program's rules that state a policy: what its filters forbid at the first step, and at every other.

    Args:
        plan: the policy, made concrete for a language; where it has a prompt of its own, that one is fed.
        dims: of the checkpoint.

    Raises:
        UsageError: the policy decodes timestamps, which the program does not.
    """
    if not plan.options.get("without_timestamps", True):
        raise UsageError(
            "parity-whisper decodes without timestamps, the policy asks for them", hint="Use policy whisper or plain"
        )
    first, later = (_forbidden(plan, dims.n_vocab, tokens) for tokens in ((), (0,)))
    return Rules(
        suppress=tuple(sorted(first & later)),
        suppress_first=tuple(sorted(first - later)),
        max_tokens=plan.max_steps,
        prompt=plan.prompt if plan.options.get("prompt") else (),
    )


def write(folder: Path, dims: Dims, artifacts: Artifacts, *, n_text_ctx: int | None = None) -> None:
    """Write model.json, mel_filters.txt and vocab.txt into a folder.

    Args:
        folder: made if there is none.
        dims: of the checkpoint.
        artifacts: names of the files beside them.
        n_text_ctx: tokens that the decoder's file has room for, where they are fewer than the checkpoint's.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_text(json.dumps(model(dims, artifacts, n_text_ctx), indent=1) + "\n", "utf-8")
        (folder / FILTERS).write_text(filters_text(dims.n_mels), "utf-8")
        (folder / VOCABULARY).write_text(vocabulary_text(dims.vocabulary), "utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_rules(path: Path, rules: Rules) -> None:
    """Write a decode.json.

    Raises:
        OutputError: it cannot be written.
    """
    fields: dict[str, Any] = {"suppress": list(rules.suppress), "suppress_first": list(rules.suppress_first)}
    fields |= {"max_tokens": rules.max_tokens} if rules.max_tokens else {}
    fields |= {"prompt": list(rules.prompt)} if rules.prompt else {}
    try:
        path.write_text(json.dumps(fields) + "\n", "utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def model(dims: Dims, artifacts: Artifacts, n_text_ctx: int | None = None) -> Mapping[str, Any]:
    """What model.json holds: dimensions, names of files, ids of special tokens and languages."""
    words = vocabulary.tokenizer(dims.vocabulary)
    languages = zip(words.all_language_codes, words.all_language_tokens)
    return {
        "n_mels": dims.n_mels,
        "n_frames": dims.n_frames,
        "n_audio_ctx": dims.n_audio_ctx,
        "n_audio_state": dims.n_audio_state,
        "n_text_ctx": min(dims.n_text_ctx, n_text_ctx or dims.n_text_ctx),
        "n_text_state": dims.n_text_state,
        "n_vocab": dims.n_vocab,
        "vocabulary": dims.vocabulary,
        "files": {
            "encoder": artifacts.encoder,
            "decoder": artifacts.decoder,
            "token_embedding": artifacts.token_embedding,
            "mel_filters": FILTERS,
            "vocabulary": VOCABULARY,
            **({"position_embedding": artifacts.position_embedding} if artifacts.position_embedding else {}),
        },
        **({"steps": steps(artifacts.fitted)} if artifacts.fitted else {}),
        "special": {
            name: getattr(words, name)
            for name in ("sot", "eot", "transcribe", "translate", "no_timestamps", "no_speech")
        },
        "languages": dict(sorted(languages)) if vocabulary.is_multilingual(dims.vocabulary) else {},
    }


def steps(fitted: Fitted) -> str:
    """A layout as the program reads it: base64 of what the runner is told by LAYOUT."""
    layout = stepform.of(fitted)
    return base64.b64encode(stepwise.PACK[type(layout)](layout)).decode()


def filters(n_mels: int) -> NDArray[np.float32]:
    """openai-whisper's own mel filters, float32 [n_mels, 201]."""
    from whisper.audio import mel_filters

    return mel_filters("cpu", n_mels).numpy()  # type: ignore[no-any-return]


def filters_text(n_mels: int) -> str:
    """The filters as text, one number a line, row by row; nine digits give each float32 back bit for bit."""
    return "".join(f"{value:.8e}\n" for value in filters(n_mels).ravel())


def vocabulary_text(n_vocab: int) -> str:
    """A line "ID WORD" for each token: base64 of its bytes, "=" for none, specials by name."""
    encoding = vocabulary.tokenizer(n_vocab).encoding
    eot = vocabulary.tokenizer(n_vocab).eot
    words = [encoding.decode_single_token_bytes(token) for token in range(encoding.n_vocab)]
    coded: Sequence[str] = [base64.b64encode(word).decode() or "=" for word in words[:eot]]
    return "".join(f"{i} {word}\n" for i, word in enumerate([*coded, *(word.decode() for word in words[eot:])]))


def _forbidden(plan: DecodingPlan, n_vocab: int, tokens: Sequence[int]) -> set[int]:
    logits = np.zeros(n_vocab, np.float32)
    for apply in plan.filters:
        apply(logits, (*plan.prompt, *tokens))
    return {int(token) for token in np.flatnonzero(np.isneginf(logits))}


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror})", hint="Check free space and write permission")
