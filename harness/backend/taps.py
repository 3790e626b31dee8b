"""Taps: the named places between blocks where a hidden state is recorded, and the build option that selects them.

A probe is the same stage built with the option `taps`, a kind and a list of units:

    entire:encoder.conv,encoder.blocks.0     the whole component on its own input, these hidden states as extra outputs
    single:decoder.blocks.1,decoder.ln       each unit on its own, fed from its own input

Units in the order of the graph: encoder.conv (behind both convolutions and GELU), encoder.positions, encoder.blocks.K,
encoder.ln_post; decoder.positions (token embedding + positional embedding), decoder.blocks.K, decoder.ln,
decoder.logits. On request also encoder.blocks.K.attn, decoder.blocks.K.attn and decoder.blocks.K.cross_attn: the
residual stream behind that sublayer. A block with a tapped sublayer is reduced to the part behind its last sublayer,
the MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import BuildOptions
from whisper_parity.errors import UsageError
from whisper_parity.model.dims import Dims

OPTION = "taps"
"""Name of the build option."""
ENTIRE, SINGLE = "entire", "single"
COMPONENTS = ("encoder", "decoder")
FINAL = {"encoder": "encoder.ln_post", "decoder": "decoder.logits"}
"""The unit whose output is the component's own; every entire probe outputs it."""
SUBLAYERS = {"encoder": ("attn",), "decoder": ("attn", "cross_attn")}
"""Sublayers that can be tapped inside a block; the MLP's output is the block's."""

Float32 = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One unit as computed by the graph."""

    unit: str
    part: str
    """"conv", "positions", "block", "attn", "cross_attn", "mlp", "norm" or "logits"."""
    layer: int = 0
    """Index of the block."""

    @property
    def takes_encoder_output(self) -> bool:
        """Whether it attends to the audio."""
        return self.unit.startswith("decoder.") and self.part in ("block", "cross_attn")


@dataclass(frozen=True, slots=True)
class Taps:
    """A value of the build option."""

    kind: str
    """"entire" or "single"."""
    units: tuple[str, ...]
    """In the order of the graph, encoder first."""

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.units)}"

    @property
    def components(self) -> tuple[str, ...]:
        """The components with taps; a probe has no files for the others."""
        return tuple(component for component in COMPONENTS if self.of(component))

    def of(self, component: str) -> tuple[str, ...]:
        """The units of one component."""
        return tuple(unit for unit in self.units if unit.startswith(f"{component}."))


@dataclass(frozen=True, slots=True)
class Ports:
    """Inputs and outputs of one file of a probe, by name, in their order; all float32."""

    inputs: Mapping[str, Shape]
    """"input_features", "token_embeddings", "encoder_output", or "encoder.blocks.0.input", the input of that unit."""
    outputs: Mapping[str, Shape]
    """By unit."""


def units(dims: Dims, component: str, *, detail: bool = False) -> tuple[str, ...]:
    """All units of a component in the order of the graph.

    Args:
        dims: dimensions of the checkpoint.
        component: "encoder" or "decoder".
        detail: include the sublayers of the blocks.
    """
    return tuple(step.unit for step in _graph(dims, component, range(_layers(dims, component)) if detail else ()))


def steps(dims: Dims, component: str, asked: Collection[str]) -> tuple[Step, ...]:
    """The whole component as steps; blocks with a tapped sublayer are split."""
    opened = [layer for layer in range(_layers(dims, component)) if _is_opened(component, layer, asked)]
    return _graph(dims, component, opened)


def make(kind: str, wanted: Collection[str], dims: Dims) -> Taps:
    """Taps in the order of the graph, without duplicates, so that equal requests share one spelling and cache key.

    Raises:
        UsageError: an unknown kind, no unit, or one that a model of these dimensions lacks.
    """
    if kind not in (ENTIRE, SINGLE):
        raise UsageError(f"taps {kind!r:.60}: expected {ENTIRE} or {SINGLE}", hint="Write entire:encoder.blocks.0")
    model_units = [unit for component in COMPONENTS for unit in units(dims, component, detail=True)]
    if unknown := sorted(set(wanted) - set(model_units)):
        raise UsageError(f"no unit {unknown[0]!r:.60} in this model", hint=f"It has {', '.join(model_units)}")
    if not wanted:
        raise UsageError(f"taps {kind}: names no unit", hint=f"The model has {', '.join(model_units)}")
    return Taps(kind, tuple(unit for unit in model_units if unit in wanted))


def parse(text: str, dims: Dims) -> Taps:
    """Read the build option.

    Raises:
        UsageError: not of the form kind:unit,unit, or an unknown unit.
    """
    kind, _, names = text.partition(":")
    return make(kind, [name for name in names.split(",") if name], dims)


def of_options(options: BuildOptions | Mapping[str, Any] | None, dims: Dims) -> Taps | None:
    """The taps in build options; None for an ordinary artifact.

    Raises:
        UsageError: see `parse`.
    """
    option = (options or {}).get(OPTION)
    return parse(str(option), dims) if option else None


def ports(taps: Taps, component: str, dims: Dims) -> Ports:
    """Inputs and outputs of a probe's file."""
    asked = taps.of(component)
    graph = steps(dims, component, asked)
    if taps.kind == ENTIRE:
        wanted = dict.fromkeys((*asked, FINAL[component]))
        first = "input_features" if component == "encoder" else "token_embeddings"
        extra = () if component == "encoder" else ("encoder_output",)
        return Ports({name: _shape(dims, name) for name in (first, *extra)}, {u: _shape(dims, u) for u in wanted})
    chosen = [step for step in graph if step.unit in asked]
    names = [fed_name(step) for step in chosen]
    if any(step.takes_encoder_output for step in chosen):
        names.append("encoder_output")
    return Ports({name: _shape(dims, name) for name in names}, {s.unit: _shape(dims, s.unit) for s in chosen})


def fed_name(step: Step) -> str:
    """Name of a unit's input in a single probe."""
    if step.part == "conv":
        return "input_features"
    if step.unit == "decoder.positions":
        return "token_embeddings"
    return f"{step.unit}.input"


def previous(dims: Dims, component: str, asked: Collection[str]) -> dict[str, str]:
    """The unit whose output each tapped unit takes; "" for the first one, which takes the component's own input."""
    graph = steps(dims, component, asked)
    return {step.unit: before for before, step in zip(("", *(s.unit for s in graph)), graph) if step.unit in asked}


def file_names(names: Mapping[str, str], taps: Taps) -> dict[str, str]:
    """File names of a stage's probe by role: "_probe" in all but the token embedding, so that none is shipped."""
    roles = (*taps.components, *(("token_embedding",) if "decoder" in taps.components else ()), "compilation")
    return {role: names[role] if role == "token_embedding" else _marked(names[role]) for role in roles if role in names}


def file_port(name: str) -> str:
    """A port's name inside a file, where converters turn names into Python identifiers."""
    return name.replace(".", "_")


def fed(
    wanted: Ports, inputs: Mapping[str, NDArray[Any]], lookup: Callable[[Sequence[int]], Float32]
) -> dict[str, Float32]:
    """The array for each input of a file: tokens looked up, hidden states padded with rows of zeros.

    Args:
        wanted: the ports of the file.
        inputs: as taken by `whisper_parity.backend.contract.Probing.tapped`.
        lookup: tokens -> float32 [1, n_text_ctx, n_text_state].

    Raises:
        UsageError: an input is missing, left over, or too large.
    """
    given = {**inputs}
    if "tokens" in given:
        given["token_embeddings"] = lookup([int(token) for token in given.pop("tokens")])
    if set(given) != set(wanted.inputs):
        raise UsageError(f"a probe was fed {', '.join(sorted(given))}; it takes {', '.join(sorted(wanted.inputs))}")
    return {name: _filled(name, given[name], shape) for name, shape in wanted.inputs.items()}


def rows(component: str, dims: Dims, inputs: Mapping[str, NDArray[Any]]) -> int:
    """Number of valid output rows: all of the encoder's, those of the tokens of the decoder's."""
    if component == "encoder":
        return dims.n_audio_ctx
    if "tokens" in inputs:
        return len(inputs["tokens"])
    return min(int(array.shape[1]) for name, array in inputs.items() if name != "encoder_output")


def _layers(dims: Dims, component: str) -> int:
    return dims.n_audio_layer if component == "encoder" else dims.n_text_layer


def _graph(dims: Dims, component: str, opened: Collection[int]) -> tuple[Step, ...]:
    """All steps of a component; blocks in `opened` are split into sublayers."""
    blocks = [step for layer in range(_layers(dims, component)) for step in _block(component, layer, layer in opened)]
    if component == "encoder":
        first = [Step("encoder.conv", "conv"), Step("encoder.positions", "positions")]
        return (*first, *blocks, Step("encoder.ln_post", "norm"))
    last = Step("decoder.ln", "norm"), Step("decoder.logits", "logits")
    return (Step("decoder.positions", "positions"), *blocks, *last)


def _block(component: str, layer: int, opened: bool) -> list[Step]:
    name = f"{component}.blocks.{layer}"
    if not opened:
        return [Step(name, "block", layer)]
    return [*(Step(f"{name}.{part}", part, layer) for part in SUBLAYERS[component]), Step(name, "mlp", layer)]


def _is_opened(component: str, layer: int, asked: Collection[str]) -> bool:
    return any(f"{component}.blocks.{layer}.{part}" in asked for part in SUBLAYERS[component])


def _shape(dims: Dims, name: str) -> Shape:
    """Shape of a port by its name."""
    if name == "input_features":
        return (1, dims.n_mels, dims.n_frames)
    if name == "decoder.logits":
        return (1, dims.n_text_ctx, dims.n_vocab)
    if name == "encoder_output" or name.startswith("encoder."):
        return (1, dims.n_audio_ctx, dims.n_audio_state)
    return (1, dims.n_text_ctx, dims.n_text_state)


def _marked(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}_probe{dot}{suffix}"


def _filled(name: str, array: NDArray[Any], shape: Shape) -> Float32:
    values = np.asarray(array, np.float32)
    if values.ndim != 3 or (values.shape[0], values.shape[2]) != (shape[0], shape[2]) or values.shape[1] > shape[1]:
        raise UsageError(f"a probe's {name}: expected float32 {list(shape)}, found {list(values.shape)}")
    if values.shape == shape:
        return np.ascontiguousarray(values)
    padded = np.zeros(shape, np.float32)
    padded[:, : values.shape[1]] = values
    return padded
