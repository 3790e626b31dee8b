"""The runner keeps a KV cache as the host does, in every layout: what it computes, and what it refuses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.runners import Session
from tests.support.steppeddla import Steps, files, stepping_on
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Bound, Fitted, Layout, Mask
from whisper_parity.backends.dla.sessions import iomap, protocol, stepform, stepwise
from whisper_parity.backends.dla.sessions.protocol import ErrorCode
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.stepping import Core, canonical, encoded, replaced
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims

pytestmark = pytest.mark.usefixtures("runner_built")

DIMS = Dims(4, 5, 16, 2, 1, 1031, 10, 16, 2, 3)
"""A vocabulary whose filled-up sizes are no other tensor's."""
SLOTS = 8
FEATURES = np.random.default_rng(0).standard_normal((1, 4, 10)).astype(np.float32)


def layout_of(name: str) -> Layout:
    """A shipped layout with a mask whose numbers leave the others visible."""
    layout = next(layout for layout in layouts.shipped() if layout.name == name)
    assert layout.mask is not None
    return replace(layout, mask=Mask(layout.mask.current, 0.25, -2.0))


class Arithmetic:
    """What the stand-in computes without a model, on the host."""

    def __init__(self, ports: Sequence[Port], *, halves: bool) -> None:
        self._ports, self._halves = sorted(ports, key=lambda port: port.index), halves

    def __call__(
        self, arrays: Sequence[np.ndarray], changed: Collection[int] | None = None
    ) -> Sequence[np.ndarray]:  # fmt: skip
        weighed = [(one.ravel().astype(float) * (1 + np.arange(one.size) % 7)).mean() for one in arrays]
        offset = sum(weighed) / (8 * len(arrays))
        return [self._given(which, port, offset) for which, port in enumerate(self._ports)]

    def _given(self, which: int, port: Port, offset: float) -> np.ndarray:
        flat = (((np.arange(np.prod(port.shape)) + which) % 97 - 48) / 16 + offset).astype(np.float32)
        return flat.astype(np.float16 if self._halves else np.float32).astype(port.dtype).reshape(port.shape)


def in_halves(fitted: Fitted) -> Fitted:
    """The same compiled for float16 in and out; whole numbers stay."""

    def side(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
        return tuple(replace(one, port=half(one.port)) for one in bounds)

    def half(port: Port) -> Port:
        return replace(port, dtype="float16") if port.dtype == "float32" else port

    sides = {name: side(getattr(fitted, name)) for name in ("inputs", "outputs", "encoder_outputs")}
    assert fitted.features is not None
    return replace(fitted, **sides, features=half(fitted.features))


@contextmanager
def stepping(folder: Path, fitted: Fitted, *, halves: bool = False) -> Iterator[Session]:
    """A session with a runner of such files, whose models are arithmetic."""
    with stepping_on(files(folder, fitted, DIMS, halves=halves)) as session:
        yield session


def rows_of(fitted: Fitted, token: int, position: int) -> dict[str, np.ndarray]:
    """Rows of tables that exist in nobody's file."""
    kinds = {"token": ("embedding", fitted.layout.token, token), "position": ("row", fitted.layout.position, position)}
    return {
        name: np.random.default_rng(100 * len(name) + number).standard_normal(16).astype(np.float32)
        for name, (kind, own, number) in kinds.items()
        if kind == own
    }


def require_same(core: Core, steps: Steps, tolerance: float) -> None:
    """Nothing that the two can be asked is different."""
    assert core.position == steps.position
    for one, other in ((core.written(), steps.written()), (core.cross(), steps.cross())):
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("halves", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("name", ["cross-cached", "cross-encoder", "one-hot", "sliding", "stacked"])
def test_a_cache_in_the_runner_is_kept_as_on_the_host(tmp_path: Path, name: str, halves: bool):
    """Tokens, rewinds, another sound, filled slots, replaced inputs: row for row; its bytes alone tell the layout."""
    layout = layout_of(name)
    usual = fitting.usual(layout, DIMS, SLOTS)
    fitted = in_halves(usual) if halves else usual
    tolerance = 4e-3 if halves else 1e-4
    core = Core(fitted, Arithmetic([one.port for one in fitted.outputs], halves=halves))
    encode = Arithmetic([one.port for one in fitted.encoder_outputs], halves=halves)
    with stepping(tmp_path, usual, halves=halves) as session:
        sizes = session.ask(stepwise.AskMap())
        encoder = iomap.of_sizes(sizes.encoder_inputs, sizes.encoder_outputs)
        decoder = iomap.of_sizes(sizes.decoder_inputs, sizes.decoder_outputs)
        kinds = ("float16", "float32") if halves else ("float32", "float16")
        found = iomap.fit("files", [layout], encoder, decoder, DIMS, kinds)
        assert stepform.of(found) == stepform.of(fitted)
        steps = Steps(session, found)
        own = steps.encode(FEATURES)
        assert fitted.features is not None
        for role, array in encoded(fitted, encode([fitted.features.pack(FEATURES)])).items():
            np.testing.assert_allclose(own[role], array, rtol=tolerance, atol=tolerance)
        other = {role: np.ascontiguousarray(array[:, ::-1]) for role, array in own.items()}
        for sound in (own, other, own):
            core.begin(sound)
            steps.begin(sound)
            for act in (3, 96, -1, 7, 41, -2, "fill", 5, "mask", 9, 0, 11, 13, 50):
                play(core, steps, fitted, act, tolerance)


def play(core: Core, steps: Steps, fitted: Fitted, act: int | str, tolerance: float) -> None:
    """A token to feed, or less than zero to take back; or something else that both do."""
    if act == "fill":
        core.fill(1.5)
        steps.fill(1.5)
    elif act == "mask":
        with replaced(core, "mask", np.full(1, 0.5, np.float32)), replaced(steps, "mask", np.full(1, 0.5, np.float32)):
            play(core, steps, fitted, 17, tolerance)
    elif isinstance(act, int) and act < 0:
        core.rewind(-act)
        steps.rewind(-act)
    elif isinstance(act, int) and core.position < SLOTS:
        rows = rows_of(fitted, act, core.position)
        np.testing.assert_allclose(steps.feed(act, rows), core.feed(act, rows), rtol=tolerance, atol=tolerance)
    require_same(core, steps, tolerance)


def test_whole_inputs_are_replaced_in_our_order(tmp_path: Path):
    """A cache by heads whose slots are the last axis, number by number."""
    fitted = fitting.usual(layout_of("one-hot"), DIMS, SLOTS)
    core = Core(fitted, Arithmetic([one.port for one in fitted.outputs], halves=False))
    with stepping(tmp_path, fitted) as session:
        steps = Steps(session, fitted)
        sound = steps.encode(FEATURES)
        for one in (core, steps):
            one.begin(sound)
        bound = next(one for one in fitted.inputs if one.key == "past_keys.1")
        other = np.random.default_rng(1).standard_normal(bound.port.shape).astype(np.float32)
        with replaced(core, bound.key, other), replaced(steps, bound.key, other):
            row = steps.feed(4, {})
            np.testing.assert_allclose(row, core.feed(4, {}), rtol=1e-4)
        for one in (core, steps):
            one.rewind(1)
        assert np.abs(steps.feed(4, {}) - row).max() > 1e-3


def test_tokens_alone_cost_a_few_bytes(tmp_path: Path):
    """The best tokens of a row and its logsumexp, in the order of the row itself."""
    fitted = fitting.usual(layout_of("stacked"), DIMS, SLOTS)
    with stepping(tmp_path, fitted) as session:
        steps = Steps(session, fitted)
        sound, rows = steps.encode(FEATURES), rows_of(fitted, 5, 0)
        steps.begin(sound)
        top = steps.feed_top(5, rows, 3)
        steps.begin(sound)
        row = steps.feed(5, rows)
        np.testing.assert_array_equal(top.tokens[0], np.argsort(-row, kind="stable")[:3])
        np.testing.assert_allclose(top.logsumexp[0], np.log(np.exp(row.astype(float)).sum()), rtol=1e-5)


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """One runner for all requests that it refuses."""
    with stepping(tmp_path_factory.mktemp("stacked"), fitting.usual(layout_of("stacked"), DIMS, SLOTS)) as session:
        yield Steps(session, fitting.usual(layout_of("stacked"), DIMS, SLOTS))


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (stepwise.Begin(77), ErrorCode.NO_ENCODING, "encoding 77 is not kept"),
        (stepwise.Feed(1031, 0, np.zeros(32, np.float32)), ErrorCode.BAD_REQUEST, "token 1031 is outside"),
        (stepwise.Feed(-1, 0, np.zeros(32, np.float32)), ErrorCode.BAD_REQUEST, "token -1 is outside"),
        (stepwise.Feed(1, 65, np.zeros(32, np.float32)), ErrorCode.BAD_REQUEST, "top_k is 65"),
        (stepwise.Feed(1, 0, np.zeros(31, np.float32)), ErrorCode.BAD_REQUEST, "expected 16 and 16 values"),
        (stepwise.Rewind(1), ErrorCode.BAD_REQUEST, "1 tokens to take back where 0 were fed"),
        (stepwise.Look(1, 6), ErrorCode.BAD_REQUEST, "index 6 of 6"),
        (stepwise.Replace(8, np.zeros(1, np.float32)), ErrorCode.BAD_REQUEST, "the decoder has 8 inputs"),
        (stepwise.Replace(0, np.zeros(3, np.float32)), ErrorCode.BAD_REQUEST, "expected 1 or 16 values, found 3"),
        (stepwise.SetCross(0, np.zeros(80, np.float32)), ErrorCode.BAD_REQUEST, "SET_CROSS: expected 0"),
        (protocol.SetEncoding(np.zeros(79, np.float32)), ErrorCode.BAD_REQUEST, "expected 80 float32 values"),
        (protocol.Decode(1, (1,), (0,)), ErrorCode.BAD_REQUEST, "unknown request type"),
    ],
)
def test_requests_that_cannot_be(stacked: Steps, request_: protocol.Request, code: int, text: str):
    """Each gets its code, and the session goes on."""
    reply = stacked.session.ask(request_)
    assert (reply.code, text in reply.text) == (code, True), reply.text
    assert stacked.session.ask(stepwise.Rewind(0)).position == 0


def spoilt(form: stepwise.LayOut, side: int, place: int, **changes: Any) -> stepwise.LayOut:
    """A layout with one tensor told wrongly."""
    sides = [list(ports) for ports in form.sides]
    sides[side][place] = replace(sides[side][place], **changes)
    return replace(form, sides=tuple(map(tuple, sides)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda form: spoilt(form, 2, 2, kind=1), ErrorCode.SHAPE, "decoder input 2: expected 768 bytes"),
        (lambda form: spoilt(form, 2, 2, axes=((3, 128), (8, 16), (16, 2))), ErrorCode.SHAPE, "decoder input 2"),
        (lambda form: spoilt(form, 3, 0, handle=9), ErrorCode.SHAPE, "decoder output 9: the DLA has none"),
        (lambda form: spoilt(form, 2, 0, handle=1), ErrorCode.BAD_REQUEST, "a tensor is there twice"),
        (lambda form: spoilt(form, 2, 2, slot_axis=0), ErrorCode.BAD_REQUEST, "a cache without its slots"),
        (lambda form: spoilt(form, 3, 1, role=12), ErrorCode.BAD_REQUEST, "a tensor is there twice"),
        (lambda form: spoilt(form, 3, 1, axes=((3, 16), (8, 1))), ErrorCode.BAD_REQUEST, "another size than its cache"),
        (lambda form: replace(form, n_vocab=1032), ErrorCode.BAD_REQUEST, "no logits of the vocabulary"),
        (lambda form: replace(form, slots=7), ErrorCode.BAD_REQUEST, "a cache without its slots"),
        (lambda form: replace(form, words=(0, 1, 0, 0, 2)), ErrorCode.BAD_REQUEST, "a mask of another length"),
        (lambda form: replace(form, words=(0, 1, 0, 1, 1)), ErrorCode.BAD_REQUEST, ""),
        (lambda form: replace(form, words=(0, 9, 0, 0, 1)), ErrorCode.BAD_REQUEST, "the form of positions is 9"),
        (
            lambda form: replace(form, sides=(form.sides[0], (), *form.sides[2:])),
            ErrorCode.BAD_REQUEST,
            "encoder's out",
        ),
    ],
)
def test_layouts_that_cannot_be(stacked: Steps, change: Any, code: int, text: str):
    """Told wrongly, it is refused, and what was told before holds."""
    form = stepform.of(stacked.fitted)
    reply = stacked.session.ask(change(form))
    if text == "":  # cross attention that is kept: this file gives it as it takes it
        assert isinstance(stacked.session.ask(form), stepwise.Position)
        return
    assert (reply.code, text in reply.text) == (code, True), reply.text
    assert stacked.session.ask(stepwise.Rewind(0)).position == 0


def test_nothing_is_fed_before_its_layout(tmp_path: Path):
    fitted = fitting.usual(layout_of("stacked"), DIMS, SLOTS)
    with stepping(tmp_path, fitted) as session:
        assert "LAYOUT comes first" in session.ask(stepwise.Feed(1, 0, np.zeros(32, np.float32))).text
        assert isinstance(session.ask(protocol.Status()), protocol.StatusOk)


def test_a_cache_that_is_full_is_said(stacked: Steps):
    """As many tokens as slots, and one more."""
    stacked.begin(stacked.encode(FEATURES))
    for token in range(SLOTS):
        stacked.feed(token, rows_of(stacked.fitted, token, token))
    with pytest.raises(BackendError, match="the cache is full: it has room for 8 tokens"):
        stacked.feed(1, rows_of(stacked.fitted, 1, SLOTS))
    stacked.rewind(SLOTS)


def test_places_follow_our_order():
    """Strides of an axis are those of the array itself, wherever the file has it."""
    fitted = fitting.usual(layout_of("sliding"), DIMS, SLOTS)
    form = stepform.of(fitted)
    for bound, told in zip(fitted.inputs, form.sides[2]):
        places = np.arange(int(np.prod(bound.port.shape))).reshape(bound.port.shape)
        walked = np.zeros(tuple(size for size, _ in told.axes), int)
        for axis, (size, stride) in enumerate(told.axes):
            walked += (np.arange(size) * stride).reshape([-1 if at == axis else 1 for at in range(len(told.axes))])
        np.testing.assert_array_equal(walked.ravel(), canonical(fitted, "inputs", bound, places).ravel())
