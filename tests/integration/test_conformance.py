"""One suite over every backend that gives tensors: the registered ones, caches among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.support import sites, sound
from tests.support.fakes import FakeSession, FakeStepper
from whisper_parity.backend import build
from whisper_parity.backend.build import Workshop
from whisper_parity.backend.contract import Fleet, Halves, Stepper
from whisper_parity.clips import features
from whisper_parity.decode import policy
from whisper_parity.decode.cached import Cached
from whisper_parity.decode.loop import decode, rows_are_invariant
from whisper_parity.run.sessions import as_session

STAGES = (
    "pytorch",
    "torchscript",
    "tflite",
    "tflite:fp16",
    "tflite:int8",
    "torchscript:kv",
    "tflite:kv",
    "dla:simulated",
    "dla:simulated by neuronrt",
    "dla:simulated-kv",
)
"""Both ways to run on a device keep the contract, on a simulated one with a real adb in between."""

WRONG_DRAFTS = {
    "empty": lambda tokens: [],
    "too short": lambda tokens: tokens[: len(tokens) // 2],
    "too long": lambda tokens: [*tokens, 11, 220, 500],
    "wrong at the start": lambda tokens: [999, *tokens[1:]],
    "wrong in the middle": lambda tokens: [*tokens[:4], 999, *tokens[5:]],
    "comma inserted": lambda tokens: [*tokens[:3], 11, *tokens[3:]],
    "comma left out": lambda tokens: [token for token in tokens if token != 11],
    "another text": lambda tokens: [400, 370, 452, 7177, 6280],
}


@pytest.fixture(scope="module")
def workshop(scripted_checkpoint: Path, cache_dir: Path) -> Workshop:
    return sites.workshop(scripted_checkpoint, cache_dir)


@pytest.fixture(scope="module", params=STAGES)
def session(request: pytest.FixtureRequest, workshop: Workshop) -> Iterator[Halves]:
    stage, _, mode = request.param.partition(" by ")
    site = sites.workshop(workshop.checkpoint, workshop.cache, dla={"mode": mode}) if mode else workshop
    with ExitStack() as stack:
        opened = stack.enter_context(site.backends.of(stage).open(build.obtain(site, stage), 2))
        leased = stack.enter_context(opened.lease()) if isinstance(opened, Fleet) else opened
        session = as_session(leased)
        assert isinstance(session, Halves)
        yield session


@pytest.fixture(scope="module")
def input_features(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = sound.write_wav(tmp_path_factory.mktemp("clips") / "warble.wav", sound.warble(3.0))
    return features.compute(path, 80).windows[0].input_features


@pytest.fixture(scope="module")
def encoder_output(session: Halves, input_features: np.ndarray) -> np.ndarray:
    return session.encode(input_features)


def plan(workshop: Workshop, name: str = "whisper") -> policy.DecodingPlan:
    return policy.concrete(policy.named(name), workshop.checkpoint.dims, "en")


def test_it_says_what_really_runs(session: Halves):
    """A label with the runtime and its version."""
    assert "(" in session.facts.label
    assert any(character.isdigit() for character in session.facts.label)


def test_shapes_dtypes_and_finiteness(session: Halves, encoder_output: np.ndarray):
    """float32 [1, 1500, n_audio_state], and one row of logits per asked position, in the order asked."""
    assert (encoder_output.shape, encoder_output.dtype) == ((1, 1500, 64), np.float32)
    logits = session.decode([50258, 50259, 50359, 50363], encoder_output, [3, 1])
    assert (logits.shape, logits.dtype) == ((2, 51865), np.float32)
    assert np.isfinite(encoder_output).all()
    assert np.isfinite(logits).all()
    swapped = session.decode([50258, 50259, 50359, 50363], encoder_output, [1, 3])
    np.testing.assert_array_equal(logits, swapped[::-1])


def test_outputs_are_fresh_and_repeatable(session: Halves, input_features: np.ndarray):
    """A later call leaves earlier outputs alone, and the same input gives the same bits."""
    first = session.encode(input_features)
    kept = first.copy()
    session.encode(input_features * np.float32(0.5))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(session.encode(input_features), kept)
    logits = session.decode([50258, 50259], first, [1])
    kept = logits.copy()
    session.decode([50258, 50260], first, [1])
    np.testing.assert_array_equal(logits, kept)


def test_inputs_are_left_alone(session: Halves, input_features: np.ndarray, encoder_output: np.ndarray):
    """No backend writes into what it is given."""
    features_before, output_before = input_features.copy(), encoder_output.copy()
    session.encode(input_features)
    session.decode([50258, 50259], encoder_output, [1])
    np.testing.assert_array_equal(input_features, features_before)
    np.testing.assert_array_equal(encoder_output, output_before)


def test_the_whole_context_can_be_used(session: Halves, encoder_output: np.ndarray):
    """448 tokens, and the row of the last one."""
    assert session.decode([50258] * 448, encoder_output, [447]).shape == (1, 51865)


def test_rows_of_a_prefix_do_not_change(session: Halves, workshop: Workshop, encoder_output: np.ndarray):
    """Bit for bit: verified drafts stand on it."""
    assert rows_are_invariant(session, plan(workshop), encoder_output)


@pytest.mark.parametrize("name", ["whisper", "plain", "app"])
@pytest.mark.parametrize("kind", WRONG_DRAFTS)
def test_any_draft_gives_the_tokens_of_step_by_step_decoding(
    session: Halves, workshop: Workshop, encoder_output: np.ndarray, stepwise: dict, name: str, kind: str
):
    """For each backend and policy."""
    key = (session.facts.label, name)
    if key not in stepwise:
        stepwise[key] = decode(session, plan(workshop, name), encoder_output, [], step_by_step=True).tokens
    expected = stepwise[key]
    assert len(expected) == 12
    draft = WRONG_DRAFTS[kind](list(expected))
    assert decode(session, plan(workshop, name), encoder_output, draft).tokens == expected
    right = decode(session, plan(workshop, name), encoder_output, expected, reference=expected)
    assert right.tokens == expected
    if isinstance(session, Cached):
        assert right.decoder_calls <= len(plan(workshop, name).prompt) + len(expected)
    else:
        assert right.decoder_calls == 1


@pytest.fixture(scope="module")
def stepwise() -> dict:
    """Tokens of step-by-step decoding by backend and policy, decoded once."""
    return {}


def test_the_fakes_keep_the_contract_too():
    """What unit tests stand on behaves like a backend, a stepper like halves under the adapter."""
    silence = np.zeros((1, 80, 3000), np.float32)
    fake, stepper = FakeSession(), FakeStepper()
    assert isinstance(fake, Halves)
    assert isinstance(stepper, Stepper)
    assert not isinstance(stepper, Halves)
    cached = as_session(stepper)
    assert isinstance(cached, Halves)
    for halves in (fake, cached):
        assert halves.decode([1, 2, 3], halves.encode(silence), [2, 0]).shape == (2, 24)


def test_a_cache_that_is_not_rewound_fails_the_check_of_rows():
    """The fault of KV ports: what was taken back is still seen. The check that verified drafts stand on finds it."""

    def invariant(stepper: FakeStepper) -> bool:
        from tests.support.fakes import plan as small

        return rows_are_invariant(Cached(stepper), small(), np.zeros((1, 4, 2), np.float32))

    assert invariant(FakeStepper())
    assert not invariant(FakeStepper(forgets_to_rewind=True))


def test_every_registered_backend_is_in_this_suite():
    """A new backend cannot stay outside: those that give no tensors are named here."""
    tested = {stage.partition(":")[0] for stage in STAGES}
    assert set(sites.backends().names) == tested | {"whisper", "app"}
