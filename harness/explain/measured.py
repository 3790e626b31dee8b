"""Probes of one question, run once: their measurements are kept in reports/<run>/taps/ and reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.backend.stage import StageName
from whisper_parity.backend.taps import Taps
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import array_sha256
from whisper_parity.compare import tensor
from whisper_parity.errors import UnavailableError, UsageError
from whisper_parity.explain.bench import Bench
from whisper_parity.system import serial
from whisper_parity.system.threads import side_by_side


@dataclass(frozen=True, slots=True)
class Question:
    """One component of a candidate on one window of a clip, against a reference."""

    reference: str
    candidate: str
    clip: Clip
    window: int
    component: str
    """"encoder" or "decoder"."""
    detail: bool = False
    """Include the sublayers of blocks."""


@dataclass(frozen=True, slots=True)
class TapError:
    """Distance of a unit's output from the reference's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    unit: str
    snr_db: float | None
    """-inf when values are not finite; None when the reference's own are not, so that no distance exists."""
    nonfinite: int
    """NaN or infinite values."""


@dataclass(frozen=True, slots=True)
class Probed:
    """One probe that was run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    taps: str
    label: str
    errors: tuple[TapError, ...]
    """In the order of the graph; the last one of an entire probe is its final output."""
    faithful: bool | None
    """The final output equals the shipped file's bit for bit; None for a single probe, which has no final output."""
    final_snr_db: float | None
    """SNR of the final output against the shipped file's."""
    inside: bool = False
    """Measured in the shipped file itself; else in one that was made for it."""
    made: str = ""
    """What that one is, in a sentence."""


class Measurer:
    """Runs the probes of one question that have no recorded result."""

    def __init__(self, bench: Bench, question: Question) -> None:
        self._bench, self.question = bench, question
        self.dims = bench.plan.checkpoint_of(question.candidate).dims
        self.runs = 0
        """Probes that were run."""
        self._alone: Mapping[str, Float32] = {}
        self._asked_alone: Taps | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """All units of the component, in the order of the graph."""
        return taps.units(self.dims, self.question.component, detail=self.question.detail)

    @property
    def final(self) -> str:
        """The component's last unit."""
        return taps.FINAL[self.question.component]

    @cached_property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """The component's inputs: the reference's own, so that earlier errors do not count.

        Raises:
            UnavailableError: the reference gives no tensors.
            UsageError: the clip has no such window.
        """
        question = self.question
        windows = self._bench.trace(question.reference, question.clip).windows
        if not windows:
            raise UnavailableError(f"{question.reference} gives text only, so no layer can be compared with it")
        if not 0 <= question.window < len(windows):
            raise UsageError(f"{question.clip.name} has no window {question.window}", hint=f"It has {len(windows)}")
        if question.component == "encoder":
            features = self._bench.features(question.clip, question.reference).windows[question.window]
            return {"input_features": features.input_features}
        window = windows[question.window]
        tokens = [*window.header.prompt, *window.header.forced_tokens][: self.dims.n_text_ctx]
        return {"tokens": np.array(tokens, np.int64), "encoder_output": window.encoder_output}

    @property
    def hidden(self) -> dict[str, Float32]:
        """The reference's hidden states by unit, from its own probe; kept for the next candidate."""
        component = self.question.component
        return self._bench.kept(f"hidden states of the {component}", replace(self.question, candidate=""), self._tap)

    def _tap(self) -> dict[str, Float32]:
        probe = self._bench.artifact(self.question.reference, str(taps.make(taps.ENTIRE, self.units, self.dims)))
        with self._bench.probe(probe) as session:
            return session.tapped(self.question.component, self.inputs)

    def build(self) -> None:
        """Build the probes of all units, entire and single, in parallel: a converter process has one thread.

        Raises:
            UnavailableError: the stage gives text only.
            ParityError: one cannot be built here.
        """
        self._session()
        specs = [str(taps.make(kind, self.units, self.dims)) for kind in (taps.ENTIRE, taps.SINGLE)]
        for _ in side_by_side(lambda spec: self._bench.artifact(self.question.candidate, spec), specs):
            pass

    def entire(self, units: Sequence[str]) -> Probed:
        """Errors of units, accumulated from the start of the component, and of its final output."""
        return self._measured(taps.make(taps.ENTIRE, units, self.dims))

    def single(self, units: Sequence[str]) -> Probed:
        """Errors of units alone, each fed the reference's hidden state; of those where the reference has one.

        Raises:
            UnavailableError: it has none for any of them.
        """
        fed = self._fed_units(units)
        if not fed:
            raise UnavailableError(f"{self.question.reference} shows no hidden state in front of {units[0]}")
        return self._measured(taps.make(taps.SINGLE, fed, self.dims))

    def _fed_units(self, units: Sequence[str]) -> list[str]:
        """Those in front of which the reference shows a hidden state of every token: one may show the last alone."""
        before = taps.previous(self.dims, self.question.component, units)
        count = taps.rows(self.question.component, self.dims, self.inputs)
        whole = {unit for unit, hidden in self.hidden.items() if hidden.shape[1] == count}
        return [unit for unit in units if not before[unit] or before[unit] in whole]

    def alone(self, unit: str) -> Float32:
        """The output of a unit that was measured alone, float32 [1, n_rows, n_columns]; run again if it was read.

        Raises:
            UnavailableError: it was not measured alone.
            ParityError: it cannot be run here.
        """
        if unit not in self._alone and self._asked_alone is not None:
            with self._bench.probe(self._bench.artifact(self.question.candidate, str(self._asked_alone))) as session:
                self._alone = session.tapped(self.question.component, self._hidden_inputs(self._asked_alone))
            self.runs += 1
        if unit not in self._alone:
            raise UnavailableError(f"{unit} was not measured alone")
        return self._alone[unit]

    def fed(self, unit: str) -> dict[str, NDArray[Any]]:
        """What a unit is fed when it is measured alone, by the names that `Probing.tapped` knows."""
        wanted = taps.make(taps.SINGLE, self._fed_units(self.units), self.dims)
        inputs = self._hidden_inputs(wanted)
        first = "input_features" if self.question.component == "encoder" else "tokens"
        own = f"{unit}.input" if f"{unit}.input" in inputs else first
        return {name: value for name, value in inputs.items() if name in (own, "encoder_output")}

    def _measured(self, wanted: Taps) -> Probed:
        probe = self._bench.artifact(self.question.candidate, str(wanted))
        if wanted.kind == taps.SINGLE:
            self._asked_alone, self._alone = wanted, {}
        path = self._path(wanted.kind, self._key(str(wanted), probe.sha256))
        if path.is_file():
            return serial.read(Probed, path)
        inputs = self.inputs if wanted.kind == taps.ENTIRE else self._hidden_inputs(wanted)
        shipped = self._output if wanted.kind == taps.ENTIRE else None  # before the probe takes the device
        with self._bench.probe(probe) as session:
            outputs = session.tapped(self.question.component, inputs)
            probed = self._compared(wanted, session.label, outputs, shipped)
        if wanted.kind == taps.SINGLE:
            self._alone = outputs
        inside = probe.sha256 == self._bench.artifact(self.question.candidate).sha256
        probed = replace(probed, inside=inside, made="" if inside else "; ".join(probe.notes))
        self.runs += 1
        serial.write(path, probed)
        return probed

    def _compared(self, wanted: Taps, label: str, outputs: Mapping[str, Float32], shipped: Float32 | None) -> Probed:
        hidden = self.hidden
        errors = tuple(_last_error(unit, hidden[unit], output) for unit, output in outputs.items() if unit in hidden)
        if shipped is None:
            return Probed(str(wanted), label, errors, None, None)
        final = outputs[self.final]
        same = bool(np.array_equal(shipped[:, -final.shape[1] :], final, equal_nan=True))
        distance = _last_error(self.final, shipped, final).snr_db
        return Probed(str(wanted), label, errors, same, distance)

    def _hidden_inputs(self, wanted: Taps) -> dict[str, NDArray[Any]]:
        """Inputs of the tapped units: the reference's output of the unit before each."""
        component = self.question.component
        tapped = wanted.of(component)
        before = taps.previous(self.dims, component, tapped)
        inputs: dict[str, NDArray[Any]] = {f"{u}.input": self.hidden[before[u]] for u in tapped if before[u]}
        if len(inputs) < len(tapped):  # the first unit takes the component's own input
            inputs |= {name: value for name, value in self.inputs.items() if name != "encoder_output"}
        if "encoder_output" in taps.ports(wanted, component, self.dims).inputs:
            inputs["encoder_output"] = self.inputs["encoder_output"]
        return inputs

    def _session(self) -> Halves:
        session = self._bench.session(self.question.candidate)
        if not isinstance(session, Halves):
            raise UnavailableError(f"{self.question.candidate} gives text only, so it has no layers to measure")
        return session

    @cached_property
    def _output(self) -> Float32:
        """The shipped file's final output, float32 [1, n_rows, n_columns]."""
        session, inputs = self._session(), self.inputs
        if self.question.component == "encoder":
            return session.encode(inputs["input_features"])
        tokens = [int(token) for token in inputs["tokens"]]
        return session.decode(tokens, inputs["encoder_output"], range(len(tokens)))[None]

    def _key(self, wanted: str, probe_sha256: str) -> str:
        """A hash of everything that determines a measurement."""
        question = self.question
        artifacts = [self._bench.artifact(spec).sha256 for spec in (question.reference, question.candidate)]
        inputs = [array_sha256(value) for _, value in sorted(self.inputs.items())]
        parts = [wanted, probe_sha256, *artifacts, *inputs, self._bench.plan.threads]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _path(self, kind: str, key: str) -> Path:
        question = self.question
        stages = "--".join(StageName.parse(stage).slug for stage in (question.reference, question.candidate))
        name = f"{question.clip.name}--{stages}--{question.component}-{question.window}-{kind}-{key}.json"
        return self._bench.plan.folder.taps / name


def _last_error(unit: str, reference: Float32, candidate: Float32) -> TapError:
    """The error in the last rows that both have."""
    count = min(reference.shape[1], candidate.shape[1])
    return _error(unit, reference[:, -count:], candidate[:, -count:])


def _error(unit: str, reference: Float32, candidate: Float32) -> TapError:
    nonfinite = tensor.count_nonfinite(candidate)
    if tensor.count_nonfinite(reference):
        return TapError(unit, None, nonfinite)
    if nonfinite:
        return TapError(unit, -np.inf, nonfinite)
    return TapError(unit, tensor.measure(reference=reference, candidate=candidate).snr_db, 0)
