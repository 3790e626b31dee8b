"""What a backend or a session may offer besides the contract; each one is asked for where it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from whisper_parity.backend.account import ProgramOutput
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.constants import Constant
from whisper_parity.backend.contract import Backend, Float32, Halves, Probing, Program, Stepper, Transcript
from whisper_parity.backend.interface import Interface
from whisper_parity.backend.layout import Fitted
from whisper_parity.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from whisper_parity.backend.taps import Step, Taps

Table = Mapping[str, Mapping[str, Any]]
"""Values by section: an edge such as "*->name"."""


@runtime_checkable
class Configurable(Protocol):
    """**Protocol:** a backend that has settings: [backends.NAME] of parity.toml, `--set NAME.KEY=VALUE`."""

    settings_type: type[Any]
    """A dataclass: its fields are the settings (`backend.settings.setting` gives their help)."""

    def configured(self, settings: Any) -> Backend:
        """The same backend with these settings, an instance of `settings_type`."""


@runtime_checkable
class Borrowing(Protocol):
    """**Protocol:** a backend that works with another one's settings: the device that it reaches, say."""

    borrows: str
    """Name of the other one."""

    def lent(self, other: Backend) -> Backend:
        """The same backend with the other one, which has its settings."""


@runtime_checkable
class Limited(Protocol):
    """**Protocol:** a backend that brings limits for the edges to its stages."""

    def tolerances(self) -> Table:
        """Sections as in `judge/tolerances.toml`: "*->name", "*->name:variant", "other->name"."""

    def gate_rules(self) -> Table:
        """Sections as in `gate/rules.toml`."""


@runtime_checkable
class Recognising(Protocol):
    """**Protocol:** a backend that can tell what a file is without its name."""

    def recognise(self, path: Path, checkpoint: Checkpoint, variant: str) -> str | None:
        """The role ("encoder", "decoder") of a file of this variant, by its inputs and outputs; None when it is none.

        The file is untrusted: nothing in it is loaded or run in this process.
        """


@runtime_checkable
class Legible(Protocol):
    """**Protocol:** a backend whose files can be read for what they hold, without running them."""

    suffixes: tuple[str, ...]
    """Endings of the names of files that it reads: (".npy",) among them for tables."""

    def constants(self, path: Path) -> Sequence[Constant]:
        """Every constant of one of its files: parameters, buffers, weights in the graph, a table beside it.

        The file is untrusted: nothing in it is executed.

        Raises:
            ArtifactError: it is no such file, or not whole.
        """


@runtime_checkable
class Readable(Protocol):
    """**Protocol:** a backend whose files say how they take and give numbers: window, context, order, types."""

    def interface(self, artifact: Artifact) -> Interface | Fitted | None:
        """What the halves of a given artifact take and give; they are untrusted. None: what loads them will say.

        Raises:
            ArtifactError: they are no halves of this checkpoint, or can be read in two ways.
            BackendError: what looks at them died, or did not answer in time.
        """


@runtime_checkable
class Spreading(Protocol):
    """**Protocol:** a backend whose sessions can run side by side, on several devices: it opens a `Fleet`."""

    def width(self, variant: str) -> int:
        """How many clips may be in work at once, as far as the settings tell; nothing is opened for it."""


@runtime_checkable
class Bound(Protocol):
    """**Protocol:** a backend some of whose stages run where something is that has room for one process: a device."""

    def resource(self, variant: str) -> str:
        """What that is called among machines that offer it: "name_MODEL"; "" for a variant that runs anywhere."""


@runtime_checkable
class Tappable(Protocol):
    """**Protocol:** a backend whose files show nothing: it builds probes of them.

    `build` with the option `taps` is given what the shipped files were made from, and makes files of it that have
    hidden states for outputs or inputs; `open` of these gives a `Probing`.
    """

    def probe_names(self, checkpoint: Checkpoint, variant: str, wanted: Taps) -> dict[str, str]:
        """Names of a probe's files by role, "_probe" in those that must not ship by mistake."""

    def probe_tools(self) -> dict[str, str]:
        """Versions of everything that decides a probe's content beside `tools`: ordinary artifacts keep their keys."""


@runtime_checkable
class Transparent(Protocol):
    """**Protocol:** a backend that opens its ordinary files with taps: nothing is built to look inside.

    `open` of an artifact whose options hold `taps` then gives a `Probing`; units that the file does not keep apart
    have no output.
    """

    def looks_inside(self, artifact: Artifact) -> bool:
        """Whether this artifact's files show what is inside."""


@runtime_checkable
class Inspectable(Protocol):
    """**Protocol:** a session that shows what is inside the files that it has open: nothing is loaded again for it."""

    def inside(self, wanted: Taps) -> Probing:
        """A probe of these taps, as long as the session is open.

        Raises:
            UnavailableError: the hidden states of such files cannot be read.
        """


@runtime_checkable
class Hearing(Program, Protocol):
    """**Protocol:** a program that reads the sound file itself, and gives an account of more than its text."""

    def hear(self, sound: Path, language: str | None, options: Mapping[str, Any]) -> ProgramOutput:
        """Run the program on a file.

        Args:
            sound: the clip's file.
            language: Whisper code that it is told; None to let it detect one.
            options: the run's decode policy as `whisper.DecodingOptions`, for a program that takes one.

        Raises:
            BackendError: it gave no result, whatever its exit code says.
            InputError: it refuses the file.
        """


@runtime_checkable
class Preparable(Protocol):
    """**Protocol:** a backend whose first build waits for something that can start earlier, beside other work."""

    def prepared(self) -> AbstractContextManager[None]:
        """Start it and return at once; leaving the context frees what it holds."""


@runtime_checkable
class Repeatable(Protocol):
    """**Protocol:** a backend of which stages run the checkpoint itself, in this machine, and repeat.

    A promise: the same clip, checkpoint, policy, threads, packages, settings, code and processor give the same bits.
    Traces of such a stage are kept in the cache, and the next run reads them.
    """

    def repeats(self, variant: str) -> bool:
        """Whether a variant does."""


@runtime_checkable
class Drafting(Halves, Protocol):
    """**Protocol:** halves that can also decode by themselves: the root, which has no other stage to draft from."""

    def greedy(self, encoder_output: Float32, options: Mapping[str, Any]) -> list[int]:
        """openai-whisper's own greedy decoding under its DecodingOptions: tokens without prompt and end-of-text."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """Another way for the root to compute the same model: what its own noise is measured by."""

    half_weights: bool = False
    """Weights rounded to half precision; arithmetic stays float32."""
    mask_value: float | None = None
    """Value of the causal mask, added to the scores by attention written out; None for the fused attention."""


@runtime_checkable
class Perturbable(Halves, Protocol):
    """**Protocol:** halves that can compute the same in another way: the root."""

    def perturbed(self, change: Perturbation) -> AbstractContextManager[Halves]:
        """A session under a change, next to this one, which stays as it is."""


@runtime_checkable
class Switchable(Program, Protocol):
    """**Protocol:** a program whose decode policy can be switched part by part."""

    def transcribe_with(self, samples: Float32, language: str | None, switches: Mapping[str, Any]) -> Transcript:
        """`transcribe` with other arguments of `whisper.transcribe` than its defaults."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way in which a unit may be computed wrongly, or several that differ in a number."""

    family: str
    """Trials of a family are versions of one kind: the best speaks for it, and none contradicts another."""
    kind: str
    """In words that go behind "UNIT with"; "{value:g}" stands for the number."""
    values: tuple[float, ...] = ()
    """Numbers to try; none for a trial without one."""
    fitted: bool = False
    """Whether numbers between these are tried too: one free parameter."""
    is_whole: bool = False
    """Whether they are whole numbers."""
    is_costly: bool = False
    """Whether it is tried only where nothing else settles the matter."""


class Trials(Protocol):
    """**Protocol:** the trials of one unit on one input, cheap to go through."""

    @property
    def offered(self) -> Sequence[Trial]:
        """What can be tried: the same ones, in the same order, whatever the rows are."""

    def unchanged(self) -> Float32:
        """The unit's output as it should be, float32 [1, len(rows), n_columns]."""

    def output(self, number: int, value: float) -> Float32:
        """Its output under `offered[number]`; `value` is of no meaning to a trial without numbers."""


@runtime_checkable
class Hypothetical(Halves, Protocol):
    """**Protocol:** halves whose units can be computed wrongly in named ways: what a faulty unit is held against."""

    def trials(self, step: Step, inputs: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> Trials:
        """The trials of a unit.

        Args:
            step: the unit, as `backend.taps.steps` cuts the component.
            inputs: as `Probing.tapped` of a single probe of this unit takes them.
            rows: of the output, those that are asked for.
        """


@runtime_checkable
class Slotted(Stepper, Protocol):
    """**Protocol:** a stepper that shows its cache: what the checks of a cache ask beside rows."""

    @property
    def n_slots(self) -> int:
        """Tokens that the cache has room for."""

    @property
    def position(self) -> int:
        """Tokens that were fed."""

    def written(self) -> Mapping[str, Float32]:
        """What the last feed wrote: "key.0", "value.0", ... by layer, float32 [n_text_state], heads merged."""

    def cross(self) -> Mapping[str, Float32]:
        """Keys and values of cross attention: "key.0", ... float32 [n_audio_ctx, n_text_state]; {} where it is mute."""

    def fill(self, value: float) -> None:
        """Overwrite every slot of the cache that is not in use with a finite value."""

    def inputs(self) -> tuple[str, ...]:
        """Inputs of the decoder by role."""

    def replaced(self, name: str, array: NDArray[Any]) -> AbstractContextManager[None]:
        """Feed another array for one input, until the context is left."""


@dataclass(frozen=True, slots=True)
class Slip:
    """One way in which a cache may be kept wrongly."""

    kind: str
    """In words that go behind "its rows are those of a decoder with"."""
    layer: int | None = None
    """The layer that it is in; None for all of them."""
    number: int = 0
    """Slots, tokens or positions, where it is one of several."""
    source: int | None = None
    """The layer whose part is taken in place of the own one; None: there is none, or it is the one behind."""
    is_behind: bool = False
    """Whether the token that is fed sees its own row as it should be, and later ones alone what was kept of it."""
    is_precision: bool = False
    """Whether it is a choice of number format rather than an error."""


@runtime_checkable
class Rehearsing(Halves, Protocol):
    """**Protocol:** halves that can also take one token at a time, and keep their cache wrongly in named ways."""

    def slips(self) -> Sequence[Slip]:
        """Those that can be made."""

    def stepped(self, slip: Slip | None) -> Slotted:
        """The decoder by steps, sound or with a slip; its `encode` is the sound one."""
