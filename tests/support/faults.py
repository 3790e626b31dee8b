"""Units of the micro checkpoint with a fault, and what trials on the reference make of them: no files, no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.pytorch import PyTorchSession
from whisper_parity.backends.split import modules, probes
from whisper_parity.clips import features
from whisper_parity.explain import trials
from whisper_parity.explain.hypothesis import Hypothesis
from whisper_parity.fixtures import breakages
from whisper_parity.fixtures.breakages import Port
from whisper_parity.model.checkpoint import Checkpoint

Spoil = Callable[[Port], None]
TOKENS = tuple(np.random.default_rng(0).integers(300, 50000, 40).tolist())
"""Teacher-forced tokens: any will do that are in no order."""


class Reference:
    """A model, one window of a clip, and the hidden states of both halves."""

    def __init__(self, checkpoint: Checkpoint, clip: Path, tokens: tuple[int, ...] = TOKENS) -> None:
        self.checkpoint, self.dims, self.tokens = checkpoint, checkpoint.dims, tokens
        self.session = PyTorchSession(modules.load_model(checkpoint.path), "test")
        window = features.compute(clip, self.dims.n_mels).windows[0].input_features
        self.features: Float32 = window
        self.hidden: dict[str, Float32] = {}
        self.hidden |= self._entire("encoder", {"input_features": window})
        tokens_of = {"tokens": np.array(tokens), "encoder_output": self.hidden["encoder.ln_post"]}
        self.hidden |= self._entire("decoder", tokens_of)

    def _entire(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        units = taps.units(self.dims, component, detail=True)
        probe = self.session.probe(taps.make(taps.ENTIRE, units, self.dims), self.dims)
        return probe.tapped(component, inputs)

    def place(self, unit: str, *, detail: bool = False) -> trials.Place:
        """A unit, and what it is fed."""
        component = unit.partition(".")[0]
        units = taps.units(self.dims, component, detail=detail)
        step = next(step for step in taps.steps(self.dims, component, units) if step.unit == unit)
        before = taps.previous(self.dims, component, units)[unit]
        first = {"input_features": self.features} if component == "encoder" else {"tokens": np.array(self.tokens)}
        inputs: dict[str, NDArray[Any]] = {f"{unit}.input": self.hidden[before]} if before else {**first}
        if step.takes_encoder_output:
            inputs["encoder_output"] = self.hidden["encoder.ln_post"]
        return trials.Place(step, inputs, self.dims.vocabulary)

    def port(self) -> Port:
        """The model taken apart, to be broken."""
        return breakages.ported(modules.load_model(self.checkpoint.path))


def broken(reference: Reference, place: trials.Place, spoil: Spoil) -> Float32:
    """The output of a unit of a broken port, float32 [1, n_rows, n_columns], attention written out as ports have it."""
    port = reference.port()
    with torch.no_grad(), modules.explicit_attention():
        spoil(port)
        return _computed(reference, place, port)


def _computed(reference: Reference, place: trials.Place, port: Port) -> Float32:
    step, dims = place.step, reference.dims
    component = step.unit.partition(".")[0]
    half = port.encoder if component == "encoder" else port.decoder
    steps = probes.SingleEncoder if component == "encoder" else probes.SingleDecoder
    module = steps(half, [step], [step.unit])  # type: ignore[arg-type]
    inputs = taps.fed(
        taps.Ports({taps.fed_name(step): _shape(reference, step), **_audio(place)}, {}),
        place.inputs,
        lambda tokens: _looked_up(port, tokens, dims.n_text_ctx),
    )
    (output,) = module(*(torch.from_numpy(array) for array in inputs.values()))
    count = taps.rows(component, dims, place.inputs)
    return np.array(output.numpy()[:, :count])


def _shape(reference: Reference, step: taps.Step) -> tuple[int, ...]:
    dims = reference.dims
    if step.part == "conv":
        return (1, dims.n_mels, dims.n_frames)
    if step.unit.startswith("encoder."):
        return (1, dims.n_audio_ctx, dims.n_audio_state)
    return (1, dims.n_text_ctx, dims.n_text_state)


def _audio(place: trials.Place) -> dict[str, tuple[int, ...]]:
    audio_ = place.inputs.get("encoder_output")
    return {} if audio_ is None else {"encoder_output": audio_.shape}


def _looked_up(port: Port, tokens: Any, context: int) -> Float32:
    rows = np.zeros((1, context, port.table.shape[1]), np.float32)
    rows[0, : len(tokens)] = port.table[list(port.fed(list(tokens)))]
    return rows


def told(reference: Reference, unit: str, spoil: Spoil, *, detail: bool = False) -> tuple[Hypothesis, ...]:
    """What is said of a unit that was spoilt."""
    place = reference.place(unit, detail=detail)
    error = trials.Error(reference.hidden[unit], broken(reference, place, spoil))
    return trials.told(reference.session, place, error)
