"""Decode policies: the allowed tokens and the stop condition. Data here; the rules are openai-whisper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.errors import ArtifactError, UsageError
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims
from whisper_parity.system import closeness

LogitFilter = Callable[[NDArray[np.float32], Sequence[int]], None]
"""Forbids tokens in place: (logits float32 [n_vocab], prompt and tokens so far)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A named set of openai-whisper's DecodingOptions, decoded greedily."""

    name: str
    options: Mapping[str, Any]
    """Fields of `whisper.DecodingOptions`; sample_len 0 means up to the end of the context."""


SPECIALS = "specials"
"""As `suppress_tokens`: every id behind end-of-text, whatever the vocabulary."""

BUILT_IN = {
    "whisper": Policy(
        "whisper", {"without_timestamps": True, "suppress_blank": True, "suppress_tokens": "-1", "sample_len": None}
    ),
    "plain": Policy(
        "plain", {"without_timestamps": True, "suppress_blank": False, "suppress_tokens": None, "sample_len": 0}
    ),
    "app": Policy(
        "app", {"without_timestamps": True, "suppress_blank": False, "suppress_tokens": SPECIALS, "sample_len": 444}
    ),
}
"""`whisper`: the filters of `whisper.decode`, no timestamps. `plain`: argmax to end-of-text, as a C++ port does. `app`:
argmax over text and end-of-text alone, 444 steps, as the C++ programs of KV-cache ports do."""

CONFIGURABLE: Mapping[str, tuple[type, ...]] = {
    "without_timestamps": (bool,),
    "suppress_blank": (bool,),
    "suppress_tokens": (str, list),
    "sample_len": (int,),
    "max_initial_timestamp": (int, float),
    "prompt": (str, list),
}
"""Options that a policy of parity.toml may set, with their types."""


@dataclass(frozen=True)
class DecodingPlan:
    """A policy made concrete for one model and language: everything the decode loop needs, without torch."""

    prompt: tuple[int, ...]
    """Tokens before the first step."""
    eot: int
    n_ctx: int
    """Positions of the decoder: prompt and tokens together."""
    max_steps: int
    filters: tuple[LogitFilter, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """`whisper.DecodingOptions` that state the same policy."""

    def choose(self, logits: NDArray[np.float32], tokens: Sequence[int]) -> tuple[int, int]:
        """The token that greedy decoding chooses at a step, and its second choice.

        Args:
            logits: raw, float32 [n_vocab]; not modified.
            tokens: the tokens before this step, without prompt.
        """
        allowed = logits.copy()
        for apply in self.filters:
            apply(allowed, (*self.prompt, *tokens))
        choice = int(allowed.argmax())
        allowed[choice] = -np.inf
        return choice, int(allowed.argmax())


def named(name: str, custom: Mapping[str, Mapping[str, Any]] | None = None) -> Policy:
    """Find a policy, built in or from parity.toml (`[policies.NAME]`, with `base` and options).

    Raises:
        UsageError: no such policy, or an unknown option or value.
    """
    custom = custom or {}
    if name in custom:
        own = dict(custom[name])
        base = named(str(own.pop("base", "whisper")), {k: v for k, v in custom.items() if k != name})
        if unknown := set(own) - set(CONFIGURABLE):
            raise UsageError(
                f"policy {name!r}: unknown option {', '.join(sorted(unknown))}",
                hint=f"Options are base, {', '.join(sorted(CONFIGURABLE))}",
            )
        for key, value in own.items():
            if type(value) not in CONFIGURABLE[key] or (key == "sample_len" and value < 0):
                kinds = " or ".join(kind.__name__ for kind in CONFIGURABLE[key])
                raise UsageError(f"policy {name!r}: {key} cannot be {value!r:.60}", hint=f"Give {kinds}, not negative")
        return Policy(name, {**base.options, **own})
    if name not in BUILT_IN:
        raise UsageError(f"no policy called {name!r}", hint=_hint(name, (*BUILT_IN, *custom)))
    return BUILT_IN[name]


def concrete(policy: Policy, dims: Dims, language: str | None, n_text_ctx: int | None = None) -> DecodingPlan:
    """Set up a policy by openai-whisper's own DecodingTask: its prompt, its filters, its limits.

    Args:
        policy: the policy.
        dims: of the checkpoint: its context decides the policy's limit.
        language: Whisper code.
        n_text_ctx: tokens that a file has room for, where they are fewer: decoding ends there at the latest.

    Raises:
        UsageError: a language or option that openai-whisper does not know.
        ArtifactError: the file has no room for the policy's prompt.
    """
    from whisper.decoding import DecodingOptions, DecodingTask

    options = {**policy.options, "language": language, "fp16": False}
    if options["suppress_tokens"] == SPECIALS:
        options["suppress_tokens"] = list(range(vocabulary.eot_of(dims.vocabulary) + 1, dims.n_vocab))
    options["sample_len"] = dims.n_text_ctx if options["sample_len"] == 0 else options["sample_len"]
    try:
        task = DecodingTask(_described(dims), DecodingOptions(**options))  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"policy {policy.name!r}: {error}", hint="Check the language and the policy's options"
        ) from error
    tokens = [*task.initial_tokens, *(t for rule in task.logit_filters for t in getattr(rule, "suppress_tokens", ()))]
    if (unknown := vocabulary.first_unknown(dims.n_vocab, tokens)) is not None:
        raise UsageError(f"policy {policy.name!r}: token {unknown} is outside a vocabulary of {dims.n_vocab}")
    n_ctx = min(dims.n_text_ctx, n_text_ctx or dims.n_text_ctx)
    room = n_ctx - len(task.initial_tokens) + 1  # the last position still predicts one token
    if room < 1:
        raise ArtifactError(
            f"policy {policy.name!r}: a prompt of {len(task.initial_tokens)} tokens, the decoder has room for {n_ctx}",
            hint="Use a shorter prompt, or a decoder with more room",
        )
    return DecodingPlan(
        prompt=tuple(task.initial_tokens),
        eot=task.tokenizer.eot,
        n_ctx=n_ctx,
        max_steps=min(task.sample_len, room),
        filters=tuple(_over_arrays(rule) for rule in task.logit_filters),
        options=options,
    )


def check_language(language: str | None) -> None:
    """Accept a Whisper language code or None.

    Raises:
        UsageError: not a Whisper language.
    """
    if language is None:
        return
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE  # which imports torch

    if language not in LANGUAGES:
        codes = {**{code: code for code in LANGUAGES}, **TO_LANGUAGE_CODE}
        near = codes.get(closeness.closest(language, codes))
        hint = " ".join([*([f"Did you mean {near}?"] if near else []), "Use a Whisper code such as en, zh or de"])
        raise UsageError(f"unknown language {language!r}", hint=hint)


def _hint(name: str, names: Sequence[str]) -> str:
    return closeness.hint(name, names, f"Use one of {', '.join(names)}")


def _described(dims: Dims) -> Any:
    """The model attributes that DecodingTask reads, without weights."""
    return SimpleNamespace(
        dims=dims,
        is_multilingual=vocabulary.is_multilingual(dims.vocabulary),
        num_languages=vocabulary.num_languages(dims.vocabulary),
        decoder=SimpleNamespace(blocks=[]),
    )


def _over_arrays(rule: Any) -> LogitFilter:
    """Adapt one of openai-whisper's filters, which take tensors, to arrays; both share memory."""
    import torch

    def apply(logits: NDArray[np.float32], tokens: Sequence[int]) -> None:
        rule.apply(torch.from_numpy(logits)[None], torch.tensor([list(tokens)]))

    return apply
