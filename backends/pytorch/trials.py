"""The trials of a unit in PyTorch: its graph, and every kind of wrong that is known of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.backend.facets import Trial
from whisper_parity.backend.taps import Step
from whisper_parity.backends.pytorch import kinds, kinds_attention, kinds_ends, kinds_layers, units
from whisper_parity.backends.pytorch.graph import Graph
from whisper_parity.backends.pytorch.kinds import Kind
from whisper_parity.backends.pytorch.units import CROSS, MLP, Fed


class UnitTrials:
    """Implement `whisper_parity.backend.facets.Trials` for one unit of openai-whisper's model."""

    def __init__(self, model: Any, step: Step, inputs: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> None:
        """Take the unit and what it is fed: see `whisper_parity.backend.facets.Hypothetical.trials`."""
        self._model, self._step, self._tokens = model, step, inputs.get("tokens")
        self._rows = list(rows)
        with torch.no_grad():
            self._chart = units.graph(model, step, _fed(model, step, inputs, rows))
            self._kinds = (*self._plain(), *map(kinds.costly, self._costly()))

    @property
    def offered(self) -> Sequence[Trial]:
        """All of them, in no order of likelihood."""
        return tuple(kind.trial for kind in self._kinds)

    def unchanged(self) -> Float32:
        """Whisper's own output."""
        with torch.no_grad():
            return np.asarray(self._chart.value(self._chart.target).numpy())

    def output(self, number: int, value: float) -> Float32:
        """That of the changed graph."""
        with torch.no_grad():
            return np.asarray(self._chart.output(self._kinds[number].changes(value)).float().numpy())

    def _plain(self) -> Iterator[Kind]:
        chart, step = self._chart, self._step
        yield from kinds.of_lost_biases(chart)
        if step.part == "conv":
            yield from kinds_ends.of_convolutions(chart)
        elif step.part == "positions":
            yield from self._positions(chart)
        elif step.part == "norm":
            yield from kinds_layers.of_norm(chart, "ln", "ln.normed")
        elif step.part == "logits":
            yield from kinds_ends.of_logits(chart)
        else:
            yield from self._block(chart)

    def _costly(self) -> Iterator[Kind]:
        """Whole matrices made anew: for blocks of many weights most of the time."""
        chart, step = self._chart, self._step
        yield from kinds.of_precision(chart)
        names = units.sublayers(chart)
        for name in names:
            yield from kinds.of_precision_in(chart, name)
            if name != MLP:
                yield from kinds_attention.of_parts(chart, name)
        if names:
            yield from kinds.of_single_weights(chart)
            yield from kinds.of_turned_weights(chart)
            yield from kinds_layers.of_other_layers(chart, units.other_layers(self._model, step))

    def _positions(self, chart: Graph) -> Iterator[Kind]:
        yield from kinds_ends.of_positions(chart)
        if self._tokens is None:
            yield from kinds_ends.of_sinusoids(chart)
            return
        tokens = torch.from_numpy(np.asarray(self._tokens, np.int64))[self._rows]
        embedding = self._model.decoder.token_embedding
        yield from kinds_ends.of_embeddings(chart, tokens, getattr(embedding, "table", embedding.weight).detach())

    def _block(self, chart: Graph) -> Iterator[Kind]:
        names = units.sublayers(chart)
        for name in names:
            yield from kinds_layers.of_norm(chart, f"{name}_ln", f"{name}.normed")
            if name != MLP:
                yield from kinds_attention.of_attention(chart, name, self._fed_rows)
        if MLP in names:
            yield from kinds_layers.of_mlp(chart)
        yield from kinds_layers.of_all_norms(chart, [f"{name}.normed" for name in names])
        yield from kinds_layers.of_sums(chart)

    @property
    def _fed_rows(self) -> torch.Tensor:
        return torch.tensor(self._rows)


def _fed(model: Any, step: Step, inputs: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> Fed:
    """The inputs of a unit by what they are; hidden states of a decoder reach to its full context, as in a file."""
    audio = inputs.get("encoder_output") if step.takes_encoder_output else None
    places = torch.tensor(list(rows))
    encoder_output = torch.from_numpy(audio) if audio is not None else None
    if "tokens" in inputs:
        tokens = torch.from_numpy(np.asarray(inputs["tokens"], np.int64))
        return Fed(model.decoder.token_embedding(tokens)[None], places)
    hidden = torch.from_numpy(next(array for name, array in inputs.items() if name != "encoder_output"))
    if step.unit.startswith("decoder.") and step.part not in ("norm", "logits"):
        missing = model.dims.n_text_ctx - hidden.shape[1]
        hidden = torch.nn.functional.pad(hidden, (0, 0, 0, max(0, missing)))
    return Fed(hidden, places, encoder_output if step.part in ("block", CROSS) else None)
