"""What a representation must offer: the backend contract.

A backend builds artifacts and opens them as sessions. There are three kinds of session, told apart by what they offer:
`Halves` (encode; decode rows of a given sequence), `Stepper` (feed one token at a time: a decoder with a KV cache) and
`Program` (audio in, text out). What any of them may say besides is one value, `Facts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.errors import ArtifactError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can be used on this machine."""

    usable: bool
    reason: str
    """Versions when usable; otherwise what is missing and what to install, in one line."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one file of an artifact really ran."""

    component: str
    """"encoder" or "decoder"."""
    target: str
    """As the runtime names it: "XNNPACK", "CPU"; "" where it is unknown, and `note` says why."""
    nodes: int | None
    """Nodes of the graph; None where the runtime does not say."""
    delegated: int | None
    """How many of them run on the target; the others fell back to the CPU."""
    note: str = ""
    """How this is known, and what is not."""
    elsewhere: tuple[str, ...] = ()
    """What else runs parts of it, where the runtime names these without counting: other engines of a plan."""

    @property
    def fell_back(self) -> bool:
        """Whether a part of it runs somewhere else than on the target."""
        return bool(self.elsewhere) or (self.share is not None and self.share < 1)

    @property
    def share(self) -> float | None:
        """Share of nodes that run on the target; None where it is unknown."""
        return None if not self.nodes or self.delegated is None else self.delegated / self.nodes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session says of itself."""

    label: str
    """What really runs, with its version: "pytorch (torch 2.13.0)"."""
    notes: tuple[str, ...] = ()
    """What a reader of the report must know: assumptions about a file, say."""
    placement: tuple[Placement, ...] = ()
    """Where each file runs; empty where the session does not say."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session spent on a device since it was asked last."""

    device: str
    """Which one: model, serial, and what runs there."""
    device_s: float
    """Time of the inferences as the device measured it."""
    sent_bytes: int
    received_bytes: int
    """Bytes over the link."""
    temperature_c: float | None
    """None where it cannot be read."""
    notes: tuple[str, ...]
    """What a reader of the report must know: retries, a device that came back, a wrong clock."""


class Session(Protocol):
    """**Protocol:** what every opened artifact offers, whatever its kind."""

    @property
    def facts(self) -> Facts:
        """What runs; complete once the session has run something."""

    def usage(self) -> Usage | None:
        """What was spent on a device since the last call; None for a session that runs in this machine."""


@runtime_checkable
class Halves(Session, Protocol):
    """**Protocol:** a session that computes the two halves of Whisper."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state], a fresh array."""

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Teacher forced: logits float32 [len(rows), n_vocab] at the asked positions of `tokens`, a fresh array."""


@runtime_checkable
class Stepper(Session, Protocol):
    """**Protocol:** a session that takes one token at a time: a decoder with a KV cache, which the session owns."""

    def encode(self, input_features: Float32) -> Float32:
        """As `Halves.encode`."""

    def begin(self, encoder_output: Float32) -> None:
        """Start a sequence on float32 [1, n_audio_ctx, n_audio_state]; what was fed before is forgotten."""

    def feed(self, token: int) -> Float32:
        """Append one token; logits float32 [n_vocab] of what follows it, a fresh array."""

    def rewind(self, count: int) -> None:
        """Take the last `count` tokens back: the next one overwrites their slots of the cache."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a program that decodes by its own policy returns."""

    text: str
    tokens: tuple[int, ...]
    """As decoded: text, timestamps, without prompt and end-of-text."""
    segments: tuple[tuple[float, float, str], ...]
    """(start [s], end [s], text) of each segment."""
    language: str | None


@runtime_checkable
class Program(Session, Protocol):
    """**Protocol:** audio in, text out, under a decode policy of its own; no tensors."""

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """Transcribe float32 [n_samples] at 16 kHz."""


@runtime_checkable
class Probing(Protocol):
    """**Protocol:** an opened probe: what `open` gives for an artifact that was built with the option `taps`."""

    @property
    def label(self) -> str:
        """What really runs."""

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """Run one component and return its taps by unit, fresh float32 arrays [1, n_rows, n_columns].

        An entire probe takes "input_features", or "tokens" (integers [n]) and "encoder_output"; it gives the asked
        units and the component's last one. A single probe takes "UNIT.input" for every asked unit, the hidden state
        that it is fed, float32 [1, n_rows, n_state] ("input_features" for encoder.conv, "tokens" for
        decoder.positions), and "encoder_output" when a unit attends to it. The decoder's outputs have a row for each
        token or fed row.
        """


AnySession = Halves | Stepper | Program
S_co = TypeVar("S_co", covariant=True)


@runtime_checkable
class Fleet(Protocol[S_co]):
    """**Protocol:** several opened copies of an artifact, used side by side: one on each device."""

    @property
    def size(self) -> int:
        """How many clips may be in work at once."""

    def lease(self) -> AbstractContextManager[S_co]:
        """A session that nobody else uses, for one clip; waits until one is free."""


Opened = AnySession | Probing | Fleet[AnySession | Probing]
"""What opening an artifact gives."""


class Backend(Protocol):
    """**Protocol:** one representation: how its artifact is built from its parent, and how it runs."""

    name: str
    after: str | None
    """The stage that its edge starts from; None for the first."""
    variants: tuple[str, ...]
    """Further stages of its own, asked for as "name:variant"."""
    is_root: bool
    """Every stage behind it is judged against it too: the same weights under our decode loop. One backend is."""
    default_stages: tuple[str, ...]
    """Those of its stages that belong to a run which names none: ("name",), ("name:variant",), or ()."""
    packages: tuple[str, ...]
    """Distributions whose versions its numbers depend on: a run is bound to them."""

    def availability(self) -> Availability:
        """Usable here? If not, why, and what to install."""

    def source(self, variant: str) -> str | None:
        """Stage whose artifact `build` starts from; None when the checkpoint itself is run."""

    def tools(self) -> dict[str, str]:
        """Versions of everything that decides the content of its artifact."""

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """Names of its files by role, as users have them."""

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Write the files named by `file_names` into the folder `out`."""

    def open(self, artifact: Artifact, threads: int) -> AbstractContextManager[Opened]:
        """Load an artifact; leaving the context frees it. One that was built with `taps` gives a Probing."""


@dataclass(frozen=True)
class CheckedHalves:
    """Halves whose every output is held against the checkpoint's dimensions before anybody uses it."""

    session: Halves
    stage: str
    """For messages."""
    dims: Dims

    @property
    def facts(self) -> Facts:
        """Those of the session."""
        return self.session.facts

    def usage(self) -> Usage | None:
        """That of the session."""
        return self.session.usage()

    def encode(self, input_features: Float32) -> Float32:
        """`Halves.encode`, checked.

        Raises:
            ArtifactError: wrong shape or dtype.
        """
        output = self.session.encode(input_features)
        expected = (1, self.dims.n_audio_ctx, self.dims.n_audio_state)
        return _require(output, f"{self.stage}: encoder output", expected, "encoder")

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """`Halves.decode`, checked.

        Raises:
            ArtifactError: wrong shape or dtype.
        """
        logits = self.session.decode(tokens, encoder_output, rows)
        return _require(logits, f"{self.stage}: logits", (len(rows), self.dims.n_vocab), "decoder")


def _require(output: Float32, what: str, shape: tuple[int, ...], component: str) -> Float32:
    if output.shape != shape or output.dtype != np.float32:
        raise ArtifactError(
            f"{what}: expected float32 {list(shape)}, found {output.dtype} {list(output.shape)}",
            hint=f"Is this the {component} of the given checkpoint?",
        )
    return output
