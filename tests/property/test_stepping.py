"""A decoder with a KV cache in every layout: whatever was asked before, rows are those of a fresh decoder."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper.model import ModelDimensions, Whisper

from tests.support import cachedports
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.stepping import Core, encoded, replaced
from whisper_parity.decode.cached import Cached
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims

DIMS = ModelDimensions(
    n_mels=4, n_audio_ctx=12, n_audio_state=8, n_audio_head=2, n_audio_layer=1,
    n_vocab=40, n_text_ctx=16, n_text_state=8, n_text_head=2, n_text_layer=3,
)  # fmt: skip
LAYOUTS = cachedports.LAYOUTS
TOKENS = st.lists(st.integers(0, 39), min_size=1, max_size=16)


@functools.cache
def model() -> Whisper:
    torch.manual_seed(0)
    whole = Whisper(DIMS)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return whole.eval()


class Eager:
    """A stepper over a port's modules in memory: what a session does, without a file."""

    def __init__(self, name: str) -> None:
        cachedports.SLOTS = 16
        self._port = cachedports.port(name, model())
        inputs = [_port("", place, tensor) for place, tensor in enumerate(self._port.inputs)]
        outputs = [_port("", place, tensor) for place, tensor in enumerate(self._call(self._port.inputs))]
        dims = Dims(**vars(DIMS))
        fitted = fitting.fit(name, layouts.shipped(), inputs, outputs, dims)
        features = Port("mel", 0, (1, 4, 24), (4, 24))
        given = [_port("", place, one) for place, one in enumerate(self._encoded(np.zeros((1, 4, 24), np.float32)))]
        self.fitted: Fitted = fitting.fitting_of(name, fitted, features, given, dims)
        self._held = [np.array(one) for one in self._port.inputs]
        self.core = Core(self.fitted, self._run)

    def begin(self, encoder_output: np.ndarray) -> None:
        """Of this encoder's input, which stands for its output: both ways to cross attention begin here."""
        self.core.begin(encoded(self.fitted, self._encoded(encoder_output)))

    def feed(self, token: int) -> np.ndarray:
        decoder = model().decoder
        positions = decoder.positional_embedding
        tables = {"token": decoder.token_embedding.weight[token], "position": positions[self.core.position]}
        return self.core.feed(token, {name: row.detach().numpy() for name, row in tables.items()})

    def rewind(self, count: int) -> None:
        self.core.rewind(count)

    def _encoded(self, features: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = self._port.encoder(torch.from_numpy(features))
        return [_array(one) for one in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def _run(self, arrays: Sequence[np.ndarray], changed: Collection[int] | None = None) -> list[np.ndarray]:
        """As an interpreter does: what did not change is what it has."""
        assert changed is not None
        for place in changed:
            self._held[place] = np.array(arrays[place])
        return [_array(one) for one in self._call(map(torch.from_numpy, self._held))]

    def _call(self, inputs: Any) -> Sequence[torch.Tensor]:
        with torch.no_grad():
            return self._port.decoder(*inputs)  # type: ignore[no-any-return]


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor)


def _port(name: str, place: int, tensor: Any) -> Port:
    array = np.asarray(tensor)
    return Port(name, place, array.shape, (0, 0), str(array.dtype))


@functools.cache
def stepper(name: str) -> Eager:
    return Eager(name)


def features(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 4, 24)).astype(np.float32)


def expected(tokens: Sequence[int], given_features: np.ndarray) -> np.ndarray:
    """Rows of openai-whisper's decoder on the whole sequence."""
    with torch.no_grad():
        output = model().encoder(torch.from_numpy(given_features))
        return np.array(model().decoder(torch.tensor([list(tokens)]), output)[0])


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=15, deadline=None)
@given(walk=st.lists(st.tuples(TOKENS, st.integers(0, 1)), min_size=1, max_size=5))
def test_any_walk_of_calls_gives_the_rows_of_fresh_ones(name: str, walk: list[tuple[list[int], int]]):
    """Longer, shorter, other tokens, another clip and back: the rows are openai-whisper's, 100 dB."""
    cached = Cached(stepper(name))  # type: ignore[arg-type]
    for tokens, clip in walk:
        rows = cached.decode(tokens, features(clip), range(len(tokens)))
        whole = expected(tokens, features(clip))
        assert ((rows - whole) ** 2).sum() <= 1e-10 * (whole**2).sum()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_rewound_session_is_a_fresh_one_bit_for_bit(name: str):
    """Stale slots behind the position are seen by nobody."""
    one = stepper(name)
    one.begin(features(0))
    fresh = [one.feed(token) for token in (1, 2, 3, 4, 5)]
    one.begin(features(0))
    for token in (1, 2, 9, 8, 7, 6):
        one.feed(token)
    one.rewind(4)
    again = [one.feed(token) for token in (3, 4, 5)]
    np.testing.assert_array_equal(np.stack(again), np.stack(fresh[2:]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_slots_that_are_not_in_use_may_hold_anything(name: str):
    """Finite values there move nothing, as large as the layout's mask can close."""
    one = stepper(name)
    mask = one.fitted.layout.mask
    assert mask is not None
    large = 1e4 if name in ("stacked", "cross-cached", "cross-encoder") else abs(mask.closed) / 100
    one.begin(features(0))
    fresh = [one.feed(token) for token in (1, 2, 3)]
    one.begin(features(0))
    one.core.fill(large)
    first = one.feed(1)
    one.core.fill(-large)
    np.testing.assert_array_equal(np.stack([first, one.feed(2), one.feed(3)]), np.stack(fresh))


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_step_writes_is_the_token_s_key_and_value(name: str):
    """By layer, heads merged; and the keys and values of cross attention where the file shows them."""
    one = stepper(name)
    one.begin(features(0))
    one.feed(3)
    one.feed(7)
    block = model().decoder.blocks[0]
    decoder = model().decoder
    with torch.no_grad():
        hidden = block.attn_ln(decoder.token_embedding.weight[7] + decoder.positional_embedding[1])
        audio = model().encoder(torch.from_numpy(features(0)))
        cross = {"key": block.cross_attn.key(audio)[0], "value": block.cross_attn.value(audio)[0]}
    written, shown = one.core.written(), one.core.cross()
    np.testing.assert_allclose(written["key.0"], block.attn.key(hidden).detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(written["value.0"], block.attn.value(hidden).detach().numpy(), atol=1e-4)
    assert sorted(written) == [f"{name}.{layer}" for name in ("key", "value") for layer in range(3)]
    assert bool(shown) == (name != "one-hot")
    for kind in cross if shown else ():
        np.testing.assert_allclose(shown[f"{kind}.0"], cross[kind].numpy(), atol=1e-4)


def test_an_input_is_replaced_for_a_while():
    """A dead one moves nothing, a live one does, and after it everything is as before."""
    one = stepper("stacked")
    one.begin(features(0))
    fresh = one.feed(3)
    for name, moves in (("cross_keys", False), ("encoder_output", True)):
        one.begin(features(0))
        shape = next(bound.port.shape for bound in one.fitted.inputs if bound.key == name)
        with replaced(one.core, name, np.full(shape, 0.5, np.float32)):
            assert np.array_equal(one.feed(3), fresh) != moves
    one.begin(features(0))
    np.testing.assert_array_equal(one.feed(3), fresh)
    with pytest.raises(BackendError, match="no input 'nothing'"):
        one.core.replace("nothing", np.zeros(1))


def test_more_tokens_than_were_fed_are_not_taken_back():
    """A mistake of the caller, said."""
    one = stepper("stacked")
    one.begin(features(0))
    one.feed(3)
    with pytest.raises(BackendError, match="2 tokens to take back where 1 were fed"):
        one.rewind(2)
