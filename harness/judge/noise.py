"""The noise floor: the root's measured noise, and tolerances as multiples of it.

With k the factor, noise whose amplitude is k times the measured one has

    snr_db      snr_db of the source - 20 log10(k)     energy goes with the square of the amplitude
    kl_max      k^2 x kl_max of the source             for small logit errors e, KL(p || q) = Var_p(e) / 2 + O(e^3)
    top_movement  k x top_movement of the source       a movement is a difference of logits: linear
    a margin    k x rms movement of the source         the same

For kl_max: q = softmax(z + e) has log q = log p + e - log E_p[exp(e)], so that KL = log E_p[exp(e)] - E_p[e], the
cumulant generating function of e without its first term; its second term is half the variance of e under p.

A source that changed no bit has an infinite SNR and no KL: every multiple of it requires identical bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from whisper_parity.errors import ConfigError, RecordError
from whisper_parity.system import serial
from whisper_parity.system.machine import Machine

NOISE_VERSION = 1
MULTIPLE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?x ?([a-z][a-z0-9-]*)")
"""A limit as a multiple: "3 x threads"."""
MEASURE = "Measure it by `parity noise`"

Table = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TensorNoise:
    """How far a source of noise moves one tensor, over all clips."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    name: str
    """"encoder_output" or "logits"."""
    snr_db: float
    """Of the worst clip; +inf when no bit changed."""
    rmse: float
    """Of the worst clip."""
    kl_max: float | None = None
    """Of the worst step [nat]; None for the encoder output."""
    movement_rms: float | None = None
    """Root mean square movement of (choice, runner-up) over all steps of all clips [logit]; None as above."""
    steps_at_risk: int | None = None
    """Steps whose margin is at most TIE_SIGMAS times that of their clip."""
    flips: int | None = None
    steps: int | None = None
    top_movement: float | None = None
    """Largest movement of a top token of a step [logit]; None as above, and in files of before this was measured."""


@dataclass(frozen=True, slots=True)
class SourceNoise:
    """One source of noise."""

    source: str
    """Name in tolerances: "threads"."""
    how: str
    """The compared computations."""
    tensors: tuple[TensorNoise, ...]
    """The tensors that it can move."""


@dataclass(frozen=True)
class Noise:
    """The result of `parity noise`."""

    noise_version: int
    checkpoint: str
    checkpoint_sha256: str
    stage: str
    """The measured stage: the root."""
    label: str
    """Its runtime and version."""
    policy: str
    clips: tuple[str, ...]
    threads: int
    created: str
    seconds: float
    machine: Machine
    sources: tuple[SourceNoise, ...]


def load(path: Path) -> Noise:
    """Read a noise file.

    Raises:
        RecordError: missing, or not of this version.
    """
    noise = serial.read(Noise, path)
    if noise.noise_version != NOISE_VERSION:
        raise RecordError(f"{path}: noise version {noise.noise_version}, this program reads {NOISE_VERSION}")
    return noise


def is_multiple(value: Any) -> bool:
    """Whether a limit is written as a multiple of a source, known or not."""
    match = MULTIPLE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and float(match[1]) > 0


def resolve(table: Table, path: Path, checkpoint_sha256: str) -> tuple[dict[str, dict[str, Any]], Table]:
    """Compute every multiple in a table of tolerances; returns the table, and each multiple's origin by edge and limit.

    The file is read only if there is a multiple.

    Raises:
        ConfigError: no such file or source, a source that does not move that tensor, or noise of another checkpoint.
    """
    multiples = {edge: {k: v for k, v in values.items() if _has_multiple(v)} for edge, values in table.items()}
    multiples = {edge: values for edge, values in multiples.items() if values}
    if not multiples:
        return {edge: dict(values) for edge, values in table.items()}, {}
    noise = _of_checkpoint(path, checkpoint_sha256)
    numbers = {
        edge: {key: _numbers(noise, path, edge, key, values[key]) for key in values} for edge, values in table.items()
    }
    origins = {
        edge: {key: _origin(noise, value) for key, value in values.items()} for edge, values in multiples.items()
    }
    return numbers, origins


def multiple(noise: Noise, key: str, factor: float, source: str) -> float:
    """A limit: `factor` times the measured noise of a source.

    Raises:
        ConfigError: no such source, or it does not move that tensor.
    """
    tensor = _tensor(noise, key, source)
    if key.endswith("_snr_db"):
        if not tensor.snr_db > 0:
            raise ConfigError(f"its SNR of {tensor.snr_db} dB is no noise")
        return tensor.snr_db - 20 * math.log10(factor)
    if key == "kl_max":
        return factor**2 * _measured(tensor.kl_max)
    if key == "top_movement":
        return factor * _measured(tensor.top_movement)
    return factor * _measured(tensor.movement_rms)


def _of_checkpoint(path: Path, checkpoint_sha256: str) -> Noise:
    try:
        noise = load(path)
    except RecordError as error:
        raise ConfigError(f"tolerances are multiples of measured noise, but {error}", hint=MEASURE) from error
    if noise.checkpoint_sha256 != checkpoint_sha256:
        raise ConfigError(
            f"{path}: the noise of checkpoint {noise.checkpoint} ({noise.checkpoint_sha256[:12]}), "
            f"this run is of {checkpoint_sha256[:12]}",
            hint=f"{MEASURE} --checkpoint FILE --out FILE, and name it by noise under [run]",
        )
    return noise


def _has_multiple(value: Any) -> bool:
    return is_multiple(value) or (isinstance(value, list) and any(map(is_multiple, value)))


def _numbers(noise: Noise, path: Path, edge: str, key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(noise, path, edge, key, bound) for bound in value]
    if key == "reason" or not is_multiple(value):
        return value
    factor, source = _parts(value)
    try:
        return multiple(noise, key, factor, source)
    except ConfigError as error:
        raise ConfigError(f"tolerance {edge!r}, {key}: {value!r}: {error} in {path}", hint=error.hint) from error


def _parts(value: str) -> tuple[float, str]:
    match = MULTIPLE.fullmatch(value)
    assert match is not None  # noqa: S101 - callers checked is_multiple
    return float(match[1]), match[2]


def _tensor(noise: Noise, key: str, source: str) -> TensorNoise:
    sources = {measured.source: measured for measured in noise.sources}
    if source not in sources:
        raise ConfigError(f"no source {source!r} (there are {', '.join(sources) or 'none'})")
    name = "encoder_output" if key.startswith("encoder_output") else "logits"
    for tensor in sources[source].tensors:
        if tensor.name == name:
            return tensor
    raise ConfigError(f"source {source!r} does not concern {name}")


def _measured(value: float | None) -> float:
    if value is None:
        raise ConfigError("was not measured", hint=f"{MEASURE} again")
    if not 0 <= value < math.inf:
        raise ConfigError(f"was measured to be {value}")
    return value


def _origin(noise: Noise, value: Any) -> str:
    words = [str(bound) for bound in (value if isinstance(value, list) else [value])]
    return f"{', '.join(words)} (noise of {noise.checkpoint}, measured {noise.created[:10]})"
