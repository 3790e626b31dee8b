"""Hidden states of a file as the harness knows them, and as the file lays them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Interface
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split.embedding import TokenEmbedding, filled
from whisper_parity.backends.split.stream import Tap
from whisper_parity.errors import ArtifactError, BackendError, UnavailableError
from whisper_parity.model.dims import Dims
from whisper_parity.system.frames import Message

Shape = tuple[int, ...]
Lookup = Callable[[Sequence[int], int], Float32]
"""Tokens, n -> float32 [1, n, n_text_state], or ids [1, n]; zero after the last one."""

BEHIND_LAST_ROW = ("decoder.ln", "decoder.logits")
"""Units that may have one row, where a decoder gives the logits of the last token alone."""


class Tapping(Protocol):
    """**Protocol:** what computes the units inside one file or more, wherever these are opened."""

    def entire(
        self, component: str, wanted: Sequence[str], arrays: Mapping[str, Float32]
    ) -> Mapping[str, NDArray[Any]]:
        """Outputs of the wanted units that the file has, and of its last, on its own inputs (by our names)."""

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> Mapping[str, NDArray[Any]]:
        """The same of units that are each fed their own hidden state, by unit; the first takes the file's input."""


class FileProbe:
    """Implement `whisper_parity.backend.contract.Probing` by the taps inside a stage's own files."""

    def __init__(
        self, label: str, selection: Taps, dims: Dims, tapping: Tapping, lookup: Lookup,
        interface: Interface | None = None,
    ) -> None:  # fmt: skip
        """Take what computes.

        Args:
            label: what really runs.
            selection: the taps that are asked for; units that a file does not keep apart have no output.
            dims: of the checkpoint.
            tapping: computes.
            lookup: what tokens are to the decoder.
            interface: how given files take and give their numbers.

        Raises:
            UnavailableError: the hidden states of such files cannot be read.
        """
        self.label = label
        self._taps, self._dims, self._tapping, self._lookup = selection, dims, tapping, lookup
        self._interface = interface
        if interface is not None:
            require_told_apart(interface, selection.components, dims)

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`; one row, the last, of units behind the choice of a last row.

        Raises:
            UnavailableError: the file's units are not told apart.
            ArtifactError: outputs of another shape.
        """
        wanted, count = self._taps.of(component), taps.rows(component, self._dims, inputs)
        rows = self._rows(component, count)
        arrays, hidden = self._split(component, inputs, rows)
        if self._taps.kind == taps.ENTIRE:
            outputs = self._tapping.entire(component, wanted, arrays)
        else:
            outputs = self._tapping.single(component, wanted, arrays, hidden)
        return {unit: self._canonical(unit, output, rows)[:, :count] for unit, output in outputs.items()}

    def _rows(self, component: str, count: int) -> int:
        """Rows of the component's hidden states: as many as there are tokens, where the last row must be theirs."""
        if component == "encoder":
            return self._dims.n_audio_ctx
        if self._interface is None or not self._interface.last_row:
            return self._dims.n_text_ctx
        _require_not_square(component, count, self._dims.n_text_state)
        return count

    def _canonical(self, unit: str, output: NDArray[Any], rows: int) -> Float32:
        """A unit's output [1, n_rows, n_columns]; the last one's is the file's own, laid out as the file says."""
        component = unit.partition(".")[0]
        if self._interface is None or unit != taps.FINAL[component]:
            columns = taps.ports(taps.make(taps.ENTIRE, [unit], self._dims), component, self._dims).outputs[unit][2]
            return canonical(unit, output, rows, columns)
        try:
            whole = self._interface.half(component).output.unpack(output)
        except ValueError as error:
            raise ArtifactError(f"output of {unit}: {error}") from error
        return whole[..., : self._dims.n_vocab] if component == "decoder" else whole

    def _split(
        self, component: str, inputs: Mapping[str, NDArray[Any]], rows: int
    ) -> tuple[dict[str, Float32], dict[str, Float32]]:
        """The file's own inputs, zeros for those that no unit is fed; and the hidden states by unit."""
        own = taps.ports(taps.make(taps.ENTIRE, [taps.FINAL[component]], self._dims), component, self._dims).inputs
        given = {**inputs}
        if "token_embeddings" in own:
            given["token_embeddings"] = self._lookup([int(token) for token in given.pop("tokens", ())], rows)
        arrays = {name: np.asarray(given.get(name, np.zeros(shape)), np.float32) for name, shape in own.items()}
        suffix = ".input"
        hidden = {
            name.removesuffix(suffix): _padded(array, rows)
            for name, array in given.items() if name.endswith(suffix)
        }  # fmt: skip
        return arrays, hidden


def require_told_apart(interface: Interface, components: Collection[str], dims: Dims) -> None:
    """Refuse files whose hidden states would be read in a wrong order, or at a wrong place.

    Args:
        interface: of the files.
        components: that are looked into.
        dims: of the checkpoint, with the positions that the files have.

    Raises:
        UnavailableError: rows and columns are equally many.
    """
    if "encoder" in components:
        _require_not_square("encoder", dims.n_audio_ctx, dims.n_audio_state)
    if "decoder" in components and not interface.last_row:  # of which the rows are the tokens
        _require_not_square("decoder", dims.n_text_ctx, dims.n_text_state)


def _require_not_square(component: str, rows: int, columns: int) -> None:
    if rows == columns:
        raise UnavailableError(
            f"the {component}'s layers are not looked at: its hidden states are {rows} x {columns}, "
            "and no file says which axis is which"
        )


def lookup(table: TokenEmbedding | None) -> Lookup:
    """What tokens are to a decoder; see `whisper_parity.backends.split.embedding.filled`."""
    return lambda tokens, count: filled(tokens, table, count)


def chosen(selection: Sequence[Tap], fed: Collection[str]) -> tuple[Tap, ...]:
    """Units that can be measured alone: the first takes the file's own input, the others are fed."""
    return tuple(tap for place, tap in enumerate(selection) if place == 0 or tap.fed in fed)


def laid_out(hidden: Float32, shape: Shape, unit: str) -> Float32:
    """A hidden state in a file's layout: axes of size 1 anywhere, rows and columns in either order.

    Args:
        hidden: float32 [1, n_rows, n_columns].
        shape: of the file's tensor; where it has one row, that is the last.
        unit: that takes it, for messages.

    Raises:
        ArtifactError: a tensor of that shape holds something else.
    """
    axes = tuple(size for size in shape if size != 1)
    if axes == hidden.shape[1:]:
        return hidden.reshape(shape)
    if axes == hidden.shape[2:]:
        return hidden[:, -1].reshape(shape)
    if axes == hidden.shape[:0:-1]:
        return np.ascontiguousarray(hidden.transpose(0, 2, 1)).reshape(shape)
    raise ArtifactError(f"input of {unit}: expected float32 {list(hidden.shape)}, found {list(shape)}")


def canonical(unit: str, output: NDArray[Any], rows: int, columns: int) -> Float32:
    """A unit's output as float32 [1, n_rows, n_columns], from whatever layout a file has; or [1, 1, n_columns].

    Raises:
        ArtifactError: it holds something else.
    """
    axes = tuple(size for size in output.shape if size != 1)
    if axes == (rows, columns):
        return np.array(output.reshape(1, rows, columns), np.float32)
    if axes == (columns, rows):
        return np.array(output.reshape(columns, rows).T[None], np.float32)
    if axes == (columns,) and unit in BEHIND_LAST_ROW:
        return np.array(output.reshape(1, 1, columns), np.float32)
    raise ArtifactError(f"output of {unit}: expected float32 {[1, rows, columns]}, found {list(output.shape)}")


def _padded(array: NDArray[Any], rows: int) -> Float32:
    """A hidden state of as many rows as the file takes: rows of zeros behind the last."""
    padded = np.zeros((1, rows, array.shape[2]), np.float32)
    padded[:, : array.shape[1]] = array
    return padded


def named(answer: Message, units: Collection[str], component: str, what: str) -> list[str]:
    """The units that a confined child computed, as it names them.

    Args:
        answer: of the child: names as a JSON list, and as many arrays.
        units: that were asked for; the component's last one is always there.
        component: "encoder" or "decoder".
        what: was asked, for messages.

    Raises:
        BackendError: other units, one twice, or another number of arrays.
    """
    try:
        names = json.loads(answer.text)
        valid = isinstance(names, list) and set(names) <= {*units, taps.FINAL[component]}
        if valid and len(set(names)) == len(names) == len(answer.arrays):
            return [str(name) for name in names]
    except (ValueError, TypeError, RecursionError) as error:
        raise BackendError(f"{what}: its process sent what are no names of units") from error
    raise BackendError(f"{what}: its process sent other units than were asked for")
