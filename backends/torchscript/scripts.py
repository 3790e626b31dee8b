"""Loaded TorchScript files, and what is asked of them: the same in this process and in a confined one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Half, Interface
from whisper_parity.backend.layout import Fitted, Layout
from whisper_parity.backends.split import interface as split
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.split.stepping import Core, Encode, Run, Steps, encoded
from whisper_parity.backends.torchscript import archive, operators
from whisper_parity.errors import ArtifactError, BackendError, first_line
from whisper_parity.model.dims import Dims

if TYPE_CHECKING:
    from whisper_parity.backends.torchscript.surgery import Inside

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TapRequest:
    """Which units of which file are asked for."""

    component: str
    kind: str
    """"entire" or "single"."""
    units: tuple[str, ...]
    fed: tuple[str, ...]
    """Units that come with a hidden state of their own."""
    dims: Dims
    half: Half | None = None
    """How a given file takes and gives its numbers."""


class Scripts(Protocol):
    """**Protocol:** two or fewer loaded files, by component ("encoder", "decoder")."""

    def load(self, component: str, path: Path, shape: Shape | None) -> None:
        """Load a file; with a shape, one that holds a weight of it (`weight_shape`)."""

    def rows(self, component: str, arrays: Sequence[Float32], rows: Sequence[int] | None, n_ctx: int) -> Float32:
        """One pass of a file with one output; of logits [1, n_ctx, n_vocab] the asked rows [len(rows), n_vocab]."""

    def read(self, component: str, half: Half, arrays: Sequence[Float32], rows: Sequence[int] | None) -> Float32:
        """One pass of a file whose ports were read: our arrays go in, our output comes out, or the asked rows."""

    def outputs(self, component: str, arrays: Sequence[Float32]) -> tuple[Float32, ...]:
        """One pass of a file with several outputs."""

    def inputs(self, component: str) -> list[str]:
        """Names of a file's inputs."""

    def stepped(self, fitted: Fitted) -> tuple[Encode, Steps]:
        """The encoder and the steps of a decoder with a KV cache, both loaded."""

    def tapped(self, request: TapRequest, arrays: Sequence[Float32], hidden: Sequence[Float32]) -> dict[str, Float32]:
        """Outputs of units inside a file, in the file's layout."""


class LoadedScripts:
    """Files in this process: our own, or those that a confined process was given."""

    def __init__(self, *, foreign: bool) -> None:
        """Take whether the files are checked before they are loaded and run; our own need no check."""
        self._foreign = foreign
        self._modules: dict[str, Any] = {}
        self._insides: dict[str, Inside] = {}

    def load(self, component: str, path: Path, shape: Shape | None) -> None:
        """See `Scripts`.

        Raises:
            ArtifactError: no TorchScript file, one that does more than arithmetic, or one without such a weight.
        """
        module = read_foreign(path) if self._foreign else read(path)
        if shape is not None and not holds(module, shape):
            raise ArtifactError(
                f"{path}: no weight of shape {list(shape)} ({WEIGHTS[component]})",
                hint="Is it from the given checkpoint?",
            )
        self._modules[component] = module

    def rows(self, component: str, arrays: Sequence[Float32], rows: Sequence[int] | None, n_ctx: int) -> Float32:
        """See `Scripts`.

        Raises:
            ArtifactError: it fails on these inputs, or gives something else.
            BackendError: no memory.
        """
        output = self._run(component, arrays)
        if rows is None:
            return np.asarray(output.numpy())
        if output.ndim != 3 or output.shape[:2] != (1, n_ctx):
            raise ArtifactError(
                f"torchscript {component}: expected logits [1, {n_ctx}, n_vocab], found {list(output.shape)}",
                hint="Trace it at the full context",
            )
        return np.asarray(output[0, list(rows)].numpy())

    def read(self, component: str, half: Half, arrays: Sequence[Float32], rows: Sequence[int] | None) -> Float32:
        """See `Scripts`; errors as of `rows`."""
        from whisper_parity.backends.torchscript import trials

        tensors = trials.flattened(self._call(component, half.packed(arrays)))
        port = half.output
        try:
            return port.unpack(tensors[port.index][1].numpy(), rows)
        except (ValueError, IndexError, TypeError) as error:
            raise ArtifactError(f"torchscript {component}: its output is not what it was: {error}") from error

    def interface(self, files: Mapping[str, str], dims: Dims, choices: Choices) -> Interface:
        """What both files take and give, found by running them.

        Args:
            files: names for messages, by component.
            dims: of the checkpoint.
            choices: of the user.

        Raises:
            ArtifactError: they are no halves of this checkpoint.
            BackendError: no memory.
        """
        from whisper_parity.backends.torchscript import trials

        runs = {component: partial(self._call, component) for component in files}
        encoder = trials.encoder(files["encoder"], self._modules["encoder"], runs["encoder"], dims, choices)
        decoder, takes_ids, last_row = trials.decoder(
            files["decoder"], self._modules["decoder"], runs["decoder"], dims, encoder.output.sizes[0], choices
        )
        return split.whole(encoder, decoder, takes_ids, last_row, dims)

    def fitted(self, files: Mapping[str, str], layouts: Sequence[Layout], dims: Dims) -> Fitted:
        """How both files of a decoder with a KV cache take and give their numbers; arguments and errors as above."""
        from whisper_parity.backends.torchscript import trials

        runs = {component: partial(self._call, component) for component in files}
        return trials.stepped(files, self._modules, runs, layouts, dims)

    def run(self, component: str) -> Run:
        """What runs a file on all its inputs, and gives all its outputs."""
        from whisper_parity.backends.torchscript import trials

        def outputs(arrays: Sequence[NDArray[Any]], changed: Collection[int] | None = None) -> list[NDArray[Any]]:
            del changed  # tensors are views of the arrays: nothing is copied
            return [tensor.numpy() for _, tensor in trials.flattened(self._call(component, arrays))]

        return outputs

    def stepped(self, fitted: Fitted) -> tuple[Encode, Steps]:
        """See `Scripts`."""
        encoder, features = self.run("encoder"), fitted.features
        assert features is not None  # noqa: S101 - it was read with its encoder
        return lambda given: encoded(fitted, encoder([features.pack(given)])), Core(fitted, self.run("decoder"))

    def outputs(self, component: str, arrays: Sequence[Float32]) -> tuple[Float32, ...]:
        """See `Scripts`; errors as of `rows`."""
        return tuple(np.asarray(output.numpy()) for output in self._call(component, arrays))

    def inputs(self, component: str) -> list[str]:
        """See `Scripts`."""
        return [argument.name for argument in self._modules[component].forward.schema.arguments[1:]]

    def tapped(self, request: TapRequest, arrays: Sequence[Float32], hidden: Sequence[Float32]) -> dict[str, Float32]:
        """See `Scripts`.

        Raises:
            UnavailableError: the file's units are not told apart.
            ArtifactError: it fails on these inputs.
            BackendError: no memory.
        """
        import torch

        from whisper_parity.backends.torchscript.surgery import Inside

        component = request.component
        if component not in self._insides:
            self._insides[component] = Inside(self._modules[component], component, request.dims, request.half)
        packed = request.half.packed(arrays) if request.half else arrays
        inside, tensors = self._insides[component], [torch.from_numpy(array) for array in packed]
        with self._failing(f"taps of the torchscript {component}", packed):
            if request.kind == taps.ENTIRE:
                return inside.entire(request.units, tensors)
            return inside.single(request.units, tensors, dict(zip(request.fed, hidden, strict=True)))

    def _run(self, component: str, arrays: Sequence[Float32]) -> Any:
        import torch

        output = self._call(component, arrays)
        dtype = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        if dtype != torch.float32:
            raise ArtifactError(
                f"torchscript {component}: expected one float32 tensor as output, found {dtype}", hint="Trace it again"
            )
        return output

    def _call(self, component: str, arrays: Sequence[NDArray[Any]]) -> Any:
        import torch

        with self._failing(f"torchscript {component}", arrays), torch.no_grad():
            return self._modules[component](*map(torch.from_numpy, arrays))

    @contextmanager
    def _failing(self, what: str, arrays: Sequence[NDArray[Any]]) -> Iterator[None]:
        """Say what failed, and on which inputs."""
        try:
            yield
        except RuntimeError as error:
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            lines = [line for line in str(error).splitlines() if "Error" in line]
            reason = (lines or [first_line(error)])[-1].strip()
            message = f"{what}: failed on inputs {shapes} ({reason:.200})"
            if "allocate memory" in message:
                hint = OWN_LIMIT if self._foreign else "Free memory, or run fewer things at once"
                raise BackendError(message, hint=hint) from error
            raise ArtifactError(message, hint=split.FITS) from error


OWN_LIMIT = "The process of given files has a limit: given_memory_gib under [backends.torchscript]"
WEIGHTS: Mapping[str, str] = {"encoder": "first convolution", "decoder": "output projection"}


def weight_shape(component: str, dims: Dims) -> Shape:
    """Shape of a weight that tells a half of this checkpoint from one of another size."""
    return (dims.n_audio_state, dims.n_mels, 3) if component == "encoder" else (dims.n_vocab, dims.n_text_state)


def holds(module: Any, shape: Shape) -> bool:
    """Whether a weight of this shape is among a module's, in any order of axes.

    A vocabulary may be filled up, and a kernel unrolled into a matrix. A frozen module names no weights, and may hold
    it.
    """
    shapes = [tuple(value.shape) for value in module.state_dict().values()]
    if len(shape) == 2:
        wanted = [sorted((size, shape[1])) for size in split.padded(shape[0])]
    else:
        wanted = [sorted(shape), sorted((shape[0], math.prod(shape[1:])))]
    return not shapes or any(sorted(size for size in other if size != 1) in wanted for other in shapes)


def read(path: Path) -> Any:
    """Load a file that we made.

    Raises:
        ArtifactError: it is damaged.
    """
    import torch

    try:
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # torch.jit.load raises dozens of types on foreign bytes
        raise _not_read(path, error) from error


def read_foreign(path: Path) -> Any:
    """Check and load a file of others; called in a confined process only: no check is complete.

    Raises:
        ArtifactError: no TorchScript file, or one that does more than arithmetic.
    """
    import torch
    from torch.jit._recursive import wrap_cpp_module

    try:
        archive.require_one_reading(path)
        archive.require_no_code_at_load(path, torch._C.PyTorchFileReader(str(path)))
        unit: Any = torch._C.CompilationUnit()
        load: Any = torch._C.import_ir_module
        loaded = load(unit, str(path), torch.device("cpu"), {}, False)  # as torch.jit.load does
        operators.require_arithmetic(path, (function.graph for function in unit.get_functions()))
        module = wrap_cpp_module(loaded)  # type: ignore[no-untyped-call]
        module.forward  # noqa: B018 - raises where there is none
    except ArtifactError:
        raise
    except Exception as error:  # zipfile and torch raise dozens of types on foreign bytes
        raise _not_read(path, error) from error
    return module


def _not_read(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: not a TorchScript file ({first_line(error)})", hint="Build or copy it again")
