"""A KV cache kept wrongly in each of the known ways is caught, and its cause is named; a sound one raises no alarm."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.support.steppers import FAULTS, IN_A_LAYER, OPENS_AT, MemoryStepper, Remembering
from whisper_parity.backends.pytorch import PyTorchSession
from whisper_parity.run import cache_checks
from whisper_parity.run.report import CacheFault


@cache
def reference() -> PyTorchSession:
    """A decoder of small random weights, large enough that every part of it matters."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    model = Whisper(ModelDimensions(8, 24, 32, 4, 1, 211, 64, 32, 4, 2)).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("weight") and tensor.ndim == 2:
                tensor.normal_(std=1.5 * tensor.shape[1] ** -0.5)
        model.decoder.positional_embedding.normal_(std=0.5)
    model.requires_grad_(False)
    torch.set_num_threads(1)
    return PyTorchSession(model, "random")


@cache
def remembering() -> Remembering:
    """The same, for every test of this process: what a slip of it gives is computed once."""
    return Remembering(reference())


def checked(stepper: MemoryStepper, *, is_whole: bool = False) -> tuple[CacheFault, ...]:
    features = np.random.default_rng(1).standard_normal((1, 8, 48)).astype(np.float32)
    return cache_checks.faults(stepper, remembering(), features, is_whole=is_whole)


def memory(fault: str = "", layer: int | None = None, noise: float = 0.0) -> MemoryStepper:
    return MemoryStepper(reference()._model, fault, layer, noise)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_cache_kept_wrongly_is_caught_and_its_cause_is_named(fault: str):
    """Precision is a choice, and a remark; everything else fails the stage. The limit is filled where that is asked."""
    first, *_ = checked(memory(fault), is_whole=fault == "ring")
    assert (first.kind, first.fails) == (FAULTS[fault], fault not in ("fp16", "int8")), first.sentence


@pytest.mark.parametrize("fault", IN_A_LAYER)
def test_a_fault_of_one_layer_names_it(fault: str):
    first, *_ = checked(memory(fault, layer=1))
    assert (first.kind, first.fails) == (FAULTS[fault], True), first.sentence
    assert ", in layer 1:" in first.sentence


@pytest.mark.parametrize("fault", OPENS_AT)
def test_a_mask_that_is_wrong_at_one_step_alone_is_caught_there(fault: str):
    """At the first, the second, and the last one but one that the cache has room for."""
    first, *_ = checked(memory(fault), is_whole=OPENS_AT[fault] < 0)
    part, step = ("last slots", 2) if OPENS_AT[fault] < 0 else ("poison", OPENS_AT[fault])
    assert (first.part, first.step, first.kind, first.fails) == (part, step, "", True), first.sentence


@pytest.mark.parametrize("noise", [0.0, 1e-6, 2**-11, 0.004])
def test_a_sound_cache_raises_no_alarm(noise: float):
    """Rows in single precision, with the noise of half precision, and with that of 8 bits."""
    found = checked(memory(noise=noise), is_whole=True)
    assert [(fault.kind, fault.sentence) for fault in found] == [
        ("dead input", "input unused is dead: changed, it moves no row")
    ]


def test_the_reference_by_steps_gives_the_rows_of_the_checkpoints_own_decoder():
    """Otherwise it proves nothing."""
    session = reference()
    sound = np.random.default_rng(2).standard_normal((1, 24, 32)).astype(np.float32)
    tokens = [3, 7, 11, 200, 5, 9]
    expected = session.decode(tokens, sound, range(len(tokens)))
    steps = session.stepped(None)
    steps.begin(sound)
    assert np.allclose(expected, [steps.feed(token) for token in tokens], atol=1e-4)
