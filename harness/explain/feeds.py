"""What a program fed its own model, fed to the reference's: does one thing alone give the program's text?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.account import ENCODER_OUTPUT, FEATURES, Account, AccountWindow, tensor_name
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.compare.comparison import own_encodings
from whisper_parity.compare.front_end.layout import as_bands
from whisper_parity.decode import policy
from whisper_parity.decode.loop import decode
from whisper_parity.decode.policy import DecodingPlan, LogitFilter
from whisper_parity.errors import UnavailableError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.crossfeed import as_halves
from whisper_parity.model import vocabulary
from whisper_parity.trace.trace import Trace

Said = tuple[tuple[int, ...], ...]
"""Tokens of each window."""


@dataclass(frozen=True)
class Feeder:
    """The reference's session, and what reference and program recorded of a clip."""

    session: Halves
    plan: DecodingPlan
    n_vocab: int
    n_mels: int
    n_frames: int
    reference: Trace
    program: Trace

    @property
    def account(self) -> Account:
        """Of the program."""
        assert self.program.header.account is not None  # noqa: S101 - it is a program
        return self.program.header.account

    def features(self, window: int) -> Float32 | None:
        """The program's input features of a window, float32 [1, n_mels, n_frames]; None where it gave none.

        Raises:
            UnavailableError: their shape is not the encoder's, or they are not finite.
        """
        array = self.program.tensors.get(tensor_name(FEATURES, window))
        if array is None:
            return None
        bands = as_bands(array, self.n_mels, self.n_frames)
        if bands is None or not np.isfinite(bands).all():
            shape = f"{list(array.shape)}, where [1, {self.n_mels}, {self.n_frames}] is expected"
            raise UnavailableError(f"its input features are {'not finite' if bands is not None else shape}")
        return np.ascontiguousarray(bands[None], np.float32)

    def encodings(self) -> dict[int, Float32]:
        """The program's encoder outputs, by window; those that the reference's decoder takes."""
        pairs = own_encodings(self.reference, self.program)
        return {index: theirs for index, ours, theirs in pairs if theirs.shape == ours.shape}

    def by_features(self, *, prompt: bool = False) -> Said:
        """What the reference says of the program's input features, and with its prompt, too.

        Raises:
            UnavailableError: it gave none, or none that fit.
        """
        encoded = {}
        for index in self._windows:
            if (features := self.features(index)) is not None:
                encoded[index] = self.session.encode(features)
        if not encoded:
            raise UnavailableError("it gave no input features")
        return self._said(encoded, prompt=prompt)

    def by_encodings(self) -> Said:
        """What the reference's decoder says of the program's encoder outputs.

        Raises:
            UnavailableError: it gave none, or none that fit.
        """
        encoded = self.encodings()
        if not encoded:
            given = any(name.startswith(f"{ENCODER_OUTPUT}.") for name in self.program.tensors)
            raise UnavailableError(f"it gave no encoder output{' that the decoder takes' if given else ''}")
        if not all(np.isfinite(output).all() for output in encoded.values()):
            raise UnavailableError("its encoder output is not finite")
        return self._said(encoded)

    def by_prompt(self) -> Said:
        """What the reference says under the program's prompt.

        Raises:
            UnavailableError: it does not say what it fed, or the decoder cannot be fed that.
        """
        return self._said({}, prompt=True)

    def margins(self, window: int, tokens: Sequence[int]) -> dict[int, float]:
        """Where the reference, fed the program's tokens, chooses otherwise: step, and margin of its choice [logit].

        Args:
            window: of the clip.
            tokens: that the program chose there, end-of-text included where it did.

        Raises:
            UnavailableError: an id is none of the vocabulary.
        """
        chosen = tuple(tokens)[: self.plan.max_steps]
        if (unknown := vocabulary.first_unknown(self.n_vocab, chosen)) is not None:
            raise UnavailableError(f"token {unknown} is outside a vocabulary of {self.n_vocab}")
        if not chosen:
            return {}
        fed, start = [*self.plan.prompt, *chosen[:-1]], len(self.plan.prompt) - 1
        rows = self.session.decode(fed, self.reference.windows[window].encoder_output, range(start, len(fed)))
        choices = [self.plan.choose(row, chosen[:step])[0] for step, row in enumerate(rows)]
        return {
            step: float(row[choice]) - float(row[token])
            for step, (row, choice, token) in enumerate(zip(rows, choices, chosen))
            if choice != token
        }

    def window(self, index: int) -> AccountWindow:
        """What the program says of a window; nothing where it does not count them."""
        return self.account.windows[index] if index < len(self.account.windows) else AccountWindow()

    @property
    def _windows(self) -> range:
        return range(len(self.reference.windows))

    def _said(self, encoded: dict[int, NDArray[np.float32]], *, prompt: bool = False) -> Said:
        return tuple(self._window(index, encoded.get(index), prompt=prompt) for index in self._windows)

    def _window(self, index: int, encoded: Float32 | None, *, prompt: bool) -> tuple[int, ...]:
        plan = self._prompted(index) if prompt else self.plan
        recorded = self.reference.windows[index].header.tokens
        if encoded is None and plan is self.plan:
            return recorded
        draft = ended_tokens(self.window(index).tokens or recorded, plan.eot)
        draft = recorded if vocabulary.first_unknown(self.n_vocab, draft) is not None else draft
        output = self.reference.windows[index].encoder_output if encoded is None else encoded
        return decode(self.session, plan, output, draft).tokens

    def _prompted(self, index: int) -> DecodingPlan:
        prompt = self.window(index).prompt
        if prompt is None:
            raise UnavailableError("it does not say which prompt it fed")
        return prompted(self.plan, prompt, self.n_vocab)


def feeder(bench: Bench, reference: Trace, program: Trace) -> Feeder:
    """The reference of a run, ready to be fed.

    Raises:
        UnavailableError: it gives text only.
        ParityError: it cannot be opened here.
    """
    spec, dims = reference.header.stage, bench.plan.checkpoint.dims
    plan = policy.concrete(bench.plan.policy, dims, reference.header.language)
    session = as_halves(bench.session(spec), spec)
    return Feeder(session, plan, dims.vocabulary, dims.n_mels, reference.header.n_frames, reference, program)


def prompted(plan: DecodingPlan, prompt: Sequence[int], n_vocab: int) -> DecodingPlan:
    """A plan with another prompt; its filters count steps as before.

    Raises:
        UnavailableError: the prompt is empty, too long, or of ids that the vocabulary does not have.
    """
    prompt = tuple(prompt)
    if prompt == plan.prompt:
        return plan
    if not prompt or vocabulary.first_unknown(n_vocab, prompt) is not None:
        raise UnavailableError("its prompt cannot be fed: " + ("it is empty" if not prompt else "an id is unknown"))
    room = plan.n_ctx - len(prompt) + 1
    if room < 1:
        raise UnavailableError(f"its prompt of {len(prompt)} tokens leaves no room in {plan.n_ctx}")
    filters = tuple(_behind(rule, plan.prompt, len(prompt)) for rule in plan.filters)
    return replace(plan, prompt=prompt, max_steps=min(plan.max_steps, room), filters=filters)


def _behind(rule: LogitFilter, expected: tuple[int, ...], count: int) -> Callable[..., None]:
    """A filter that sees the plan's own prompt, by whose length it knows the first step."""
    return lambda logits, seen: rule(logits, (*expected, *seen[count:]))


def ended_tokens(tokens: Sequence[int], eot: int) -> tuple[int, ...]:
    """Tokens up to end-of-text."""
    tokens = tuple(tokens)
    return tokens[: tokens.index(eot)] if eot in tokens else tokens


def text(said: Said, n_vocab: int) -> str:
    """The text of all windows, as a trace holds it."""
    parts = (vocabulary.token_text(n_vocab, vocabulary.spoken(n_vocab, tokens)).strip() for tokens in said)
    return " ".join(filter(None, parts))


def encoded(text: str, n_vocab: int) -> tuple[int, ...]:
    """Tokens of a text, by which texts without tokens are compared word by word."""
    return tuple(vocabulary.tokenizer(n_vocab).encoding.encode(f" {text.strip()}", disallowed_special=()))
