"""What a representation must offer: the backend contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact, Options
from whisper_parity.backend.taps import Taps
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


@runtime_checkable
class Session(Protocol):
    """**Protocol:** an opened artifact that computes the two halves of Whisper."""

    @property
    def label(self) -> str:
        """What really runs: "tflite (LiteRT 2.3.0)"."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state], a fresh array."""

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Teacher forced: logits float32 [len(rows), n_vocab] at the asked positions of `tokens`, a fresh array."""


@runtime_checkable
class DraftingSession(Session, Protocol):
    """**Protocol:** a session that can also decode by itself: the root, which has nobody to draft from."""

    def greedy(self, encoder_output: Float32, options: Mapping[str, Any]) -> list[int]:
        """openai-whisper's own greedy decoding under its DecodingOptions: tokens without prompt and end-of-text."""


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
class Transcriber(Protocol):
    """**Protocol:** audio in, text out, under a decode policy of its own; no tensors."""

    @property
    def label(self) -> str:
        """What really runs."""

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """Transcribe float32 [n_samples] at 16 kHz."""


@runtime_checkable
class Switchable(Transcriber, Protocol):
    """**Protocol:** a transcriber whose decode policy can be switched part by part."""

    def transcribe_with(self, samples: Float32, language: str | None, switches: Mapping[str, Any]) -> Transcript:
        """`transcribe` with other arguments of `whisper.transcribe` than its defaults."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session spent on a device since it was asked last."""

    device: str
    """Which one: "Genio 520 (MT8371) 0123456789 via runner"."""
    device_s: float
    """Time of the inferences as the device measured it."""
    sent_bytes: int
    received_bytes: int
    """Bytes over the link."""
    temperature_c: float | None
    """None where it cannot be read."""
    notes: tuple[str, ...]
    """What a reader of the report must know: retries, a device that came back, a wrong clock."""


@runtime_checkable
class Metered(Protocol):
    """**Protocol:** a session on a device, which counts."""

    def usage(self) -> Usage:
        """What was spent since the last call of this method."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one file of an artifact really ran."""

    component: str
    """"encoder" or "decoder"."""
    target: str
    """As the runtime names it: "XNNPACK", "MDLA_5_3", "CPU"; "" where nobody can say, and `note` why."""
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


@runtime_checkable
class Placed(Protocol):
    """**Protocol:** a session that knows where its files really run."""

    def placement(self) -> tuple[Placement, ...]:
        """One for each file."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A change of how the root computes that leaves the model what it is: what its own noise is measured by."""

    half_weights: bool = False
    """Weights rounded to half precision; arithmetic stays float32."""
    mask_value: float | None = None
    """Value of the causal mask, added to the scores by attention written out; None for the fused attention."""


@runtime_checkable
class Perturbable(Protocol):
    """**Protocol:** a session that can compute the same in another way: the root."""

    def perturbed(self, change: Perturbation) -> AbstractContextManager[Session]:
        """A session under a change, next to this one, which stays as it is."""


@runtime_checkable
class Noted(Protocol):
    """**Protocol:** a session that has to say how it came to its numbers."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the report must know: assumptions about a file, say."""


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


@runtime_checkable
class Tappable(Protocol):
    """**Protocol:** a backend that can build probes: it understands the build option `taps`.

    One that does not is never asked to: who wants its layers gets an UnavailableError.
    """

    def probe_names(self, checkpoint: Checkpoint, variant: str, found: Taps) -> dict[str, str]:
        """Names of a probe's files by role, "_probe" in those that nobody may ship by mistake."""

    def probe_tools(self) -> dict[str, str]:
        """Versions of everything that decides a probe's content beside `tools`: ordinary artifacts keep their keys."""


@runtime_checkable
class Preparable(Protocol):
    """**Protocol:** a backend whose first build waits for something that can be done before, beside other work."""

    def prepared(self) -> AbstractContextManager[None]:
        """Begin it and come back at once; leaving the context frees what it holds."""


@runtime_checkable
class Fleet(Protocol):
    """**Protocol:** several opened copies of an artifact, used side by side: one on each device."""

    @property
    def size(self) -> int:
        """How many clips may be in work at once."""

    def lease(self) -> AbstractContextManager[Session]:
        """A session that nobody else uses, for one clip; waits until one is free."""


@runtime_checkable
class Configurable(Protocol):
    """**Protocol:** a backend that has settings, [backends.NAME] of parity.toml."""

    def configured(self, settings: Mapping[str, Any]) -> Backend:
        """The same backend with these settings; ConfigError when they cannot be used."""


class Backend(Protocol):
    """**Protocol:** one representation: how its artifact is built from its parent, and how it runs."""

    name: str
    after: str | None
    """The stage that its edge starts from; None for the first."""
    variants: tuple[str, ...]
    """Further stages of its own, asked for as "name:variant"."""

    def probe(self) -> Availability:
        """Usable here? If not, why, and what to install."""

    def source(self, variant: str) -> str | None:
        """Stage whose artifact `build` starts from; None when the checkpoint itself is run."""

    def tools(self) -> dict[str, str]:
        """Versions of everything that decides the content of its artifact."""

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """Names of its files by role, as users have them."""

    def build(self, parent: Artifact, out: Path, variant: str, options: Options) -> None:
        """Write the files named by `file_names` into the folder `out`."""

    def open(self, artifact: Artifact, threads: int) -> AbstractContextManager[Session | Transcriber | Fleet | Probing]:
        """Load an artifact; leaving the context frees it. One that was built with `taps` gives a Probing."""


@dataclass(frozen=True)
class CheckedSession:
    """A session whose every output is held against the checkpoint's dimensions before anybody uses it."""

    session: Session
    label: str
    """The stage, for messages."""
    dims: Dims

    def encode(self, input_features: Float32) -> Float32:
        """`Session.encode`, checked.

        Raises:
            ArtifactError: wrong shape or dtype.
        """
        output = self.session.encode(input_features)
        expected = (1, self.dims.n_audio_ctx, self.dims.n_audio_state)
        return _require(output, f"{self.label}: encoder output", expected, "encoder")

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """`Session.decode`, checked.

        Raises:
            ArtifactError: wrong shape or dtype.
        """
        logits = self.session.decode(tokens, encoder_output, rows)
        return _require(logits, f"{self.label}: logits", (len(rows), self.dims.n_vocab), "decoder")


def _require(found: Float32, what: str, shape: tuple[int, ...], component: str) -> Float32:
    if found.shape != shape or found.dtype != np.float32:
        raise ArtifactError(
            f"{what}: expected float32 {list(shape)}, found {found.dtype} {list(found.shape)}",
            hint=f"Is this the {component} of the given checkpoint?",
        )
    return found
