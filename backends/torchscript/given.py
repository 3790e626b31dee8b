"""TorchScript files of others: loaded and run in a confined child process, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from whisper_parity import project
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Half, Interface
from whisper_parity.backend.layout import Fitted, Layout, expanded
from whisper_parity.backends import provenance
from whisper_parity.backends.split import fitting, inside, layouts
from whisper_parity.backends.split import interface as split
from whisper_parity.backends.split.fitting import PLAIN_INPUTS
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.split.remote import RemoteSteps
from whisper_parity.backends.split.stepping import Encode, Steps
from whisper_parity.backends.torchscript.scripts import Shape, TapRequest, weight_shape
from whisper_parity.backends.torchscript.settings import Settings
from whisper_parity.errors import BackendError, ParityError
from whisper_parity.model.dims import Dims
from whisper_parity.system import files as files_of
from whisper_parity.system import inputs, serial
from whisper_parity.system.child import Child, Limits

WORKER = "whisper_parity.backends.torchscript.worker"
TYPES = ("float32", "float16", "int32", "int64")
MOST_INPUTS = 300
"""Of any decoder: four of each of 64 layers, and some."""
CODE = (
    "backend.interface", "backend.layout", "backends.split.fitting", "backends.split.interface",
    "backends.torchscript.trials", "backends.torchscript.scripts",
)  # fmt: skip
"""What decides how files are read."""


class GivenScripts:
    """`Scripts` whose files are in the child: what comes back is arrays and text."""

    def __init__(self, child: Child, threads: int) -> None:
        self._child, self._threads = child, threads

    @property
    def note(self) -> str:
        """For the report: what the files are kept from."""
        return f"given files, run in a child process: {self._child.confinement}"

    def load(self, component: str, path: Path, shape: Shape | None) -> None:
        """See `Scripts`; raises what it does."""
        request = {
            "do": "load", "component": component, "path": str(path.absolute()), "shape": shape,
            "threads": self._threads,
        }  # fmt: skip
        self._child.call(f"{path}", request)

    def rows(self, component: str, arrays: Sequence[Float32], rows: Sequence[int] | None, n_ctx: int) -> Float32:
        """See `Scripts`; raises what it does."""
        asked = None if rows is None else [int(row) for row in rows]
        (output,) = self._ask({"do": "rows", "component": component, "rows": asked, "n_ctx": n_ctx}, arrays, 1)
        return output

    def read(self, component: str, half: Half, arrays: Sequence[Float32], rows: Sequence[int] | None) -> Float32:
        """See `Scripts`; raises what it does."""
        asked = None if rows is None else [int(row) for row in rows]
        request = {"do": "read", "component": component, "rows": asked, "half": asdict(half)}
        (output,) = self._ask(request, arrays, 1)
        return output

    def interface(self, files: Mapping[str, Path], dims: Dims, choices: Choices) -> Interface:
        """What loaded files take and give, by component; raises what `LoadedScripts.interface` does."""
        named = {component: str(path) for component, path in files.items()}
        request = {"do": "interface", "files": named, "dims": asdict(dims), "choices": asdict(choices)}
        return interface_of(self._child.call("torchscript", request).text, dims)

    def fitted(self, files: Mapping[str, Path], known: Sequence[Layout], dims: Dims) -> Fitted:
        """How both files of a decoder with a KV cache take and give their numbers; raises what `LoadedScripts` does."""
        named = {component: str(path) for component, path in files.items()}
        request = {"do": "fit", "files": named, "dims": asdict(dims), "layouts": [asdict(layout) for layout in known]}
        return fitted_of(self._child.call("torchscript", request).text, known, dims)

    def stepped(self, fitted: Fitted) -> tuple[Encode, Steps]:
        """See `Scripts`."""
        steps = RemoteSteps(self._child, "torchscript decoder", fitted)
        return steps.encode, steps

    def outputs(self, component: str, arrays: Sequence[Float32]) -> tuple[Float32, ...]:
        """See `Scripts`; raises what it does."""
        return self._ask({"do": "outputs", "component": component}, arrays, None)

    def inputs(self, component: str) -> list[str]:
        """See `Scripts`."""
        return self._child.call(f"torchscript {component}", {"do": "inputs", "component": component}).text.splitlines()

    def tapped(self, request: TapRequest, arrays: Sequence[Float32], hidden: Sequence[Float32]) -> dict[str, Float32]:
        """See `Scripts`; raises what it does.

        Raises:
            BackendError: the child names other units than were asked for.
        """
        what = f"taps of the torchscript {request.component}"
        answer = self._child.call(what, {"do": "tapped", **asdict(request)}, [*arrays, *hidden])
        return dict(zip(inside.named(answer, request.units, request.component, what), answer.arrays, strict=True))

    def _ask(self, request: Mapping[str, object], arrays: Sequence[Float32], count: int | None) -> tuple[Float32, ...]:
        what = f"torchscript {request['component']}"
        outputs = self._child.call(what, request, arrays).arrays
        if count is not None and len(outputs) != count:
            raise BackendError(f"{what}: {len(outputs)} arrays where {count} was asked for")
        return outputs


@contextmanager
def opened(settings: Settings, files: Sequence[Path], threads: int) -> Iterator[GivenScripts]:
    """A child process that may read these files, until the context is left.

    Raises:
        BackendError: it does not start.
    """
    child = Child(WORKER, files, Limits.of(files, settings.given_limit_s, settings.given_memory_gib))
    try:
        yield GivenScripts(child, threads)
    finally:
        child.close()


def interface_of(text: str, dims: Dims) -> Interface:
    """An interface from the child's answer: parsed, not believed.

    Raises:
        BackendError: it is none.
    """
    try:
        stated = serial.loads(Interface, text, "the child's answer")
        ports = [*stated.encoder.inputs, stated.encoder.output, *stated.decoder.inputs, stated.decoder.output]
        if any(port.dtype not in TYPES or min(port.sizes) < 1 or port.scale for port in ports):
            raise ValueError("a port of no known type or size")
    except (ParityError, ValueError) as error:
        raise BackendError("torchscript: the process of given files sent what is no interface") from error
    return split.whole(stated.encoder, stated.decoder, stated.takes_ids, stated.last_row, dims)


def read(settings: Settings, artifact: Artifact) -> Interface:
    """What the files of an artifact take and give; they are run for it, once for each content.

    Raises:
        ArtifactError: they are no halves of the checkpoint.
        BackendError: their process died, or did not answer in time.
    """
    dims, choices = artifact.checkpoint.dims, Choices(settings.transposed, "torchscript.transposed")
    files = {component: artifact.path(component) for component in ("encoder", "decoder")}
    hashes = [artifact.files[component].sha256 for component in files]
    parts = [*hashes, asdict(dims), choices.transposed, provenance.of_code(*CODE), provenance.of("torch")]
    path = project.cache() / "interfaces" / f"{serial.digest(parts)}.json"
    with suppress(ParityError):
        return interface_of(inputs.read(path).decode(), dims)
    with opened(settings, list(files.values()), 1) as scripts:
        for component, file in files.items():
            scripts.load(component, file, weight_shape(component, dims))
        interface = scripts.interface(files, dims, choices)
    serial.write(path, interface)
    return interface


def read_stepped(settings: Settings, artifact: Artifact) -> Fitted:
    """The layout of the files of an artifact with a KV cache; they are run for it, once for each content.

    Raises:
        ArtifactError: they fit no layout that is known, or several.
        BackendError: their process died, or did not answer in time.
    """
    dims, known = artifact.checkpoint.dims, layouts.known(settings.layouts)
    files = {component: artifact.path(component) for component in ("encoder", "decoder")}
    hashes = [artifact.files[component].sha256 for component in files]
    parts = [*hashes, asdict(dims), [asdict(one) for one in known], provenance.of_code(*CODE), provenance.of("torch")]
    path = project.cache() / "interfaces" / f"{serial.digest(parts)}.json"
    with suppress(ParityError):
        return fitted_of(inputs.read(path).decode(), known, dims)
    with opened(settings, list(files.values()), 1) as scripts:
        for component, file in files.items():
            scripts.load(component, file, weight_shape(component, dims))
        fitted = scripts.fitted(files, known, dims)
    files_of.write_text(path, json.dumps(fitting.stated(fitted)) + "\n")
    return fitted


def fitted_of(text: str, known: Sequence[Layout], dims: Dims) -> Fitted:
    """A fitted layout from the child's answer: parsed, not believed.

    Raises:
        BackendError: it is none.
    """
    try:
        fitted = fitting.parsed(json.loads(text), known)
        fitting.require_sound(fitted, dims)
    except (ParityError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BackendError("torchscript: the process of given files sent what is no layout") from error
    return replace(fitted, notes=fitting.notes_of(fitted, dims))


def role(settings: Settings, path: Path, dims: Dims, *, stepped: bool) -> str | None:
    """The half that a file can only be; None where it is neither.

    Args:
        settings: of this site.
        path: the file.
        dims: of the checkpoint.
        stepped: whether a decoder with a KV cache is looked for, and no other one.

    Raises:
        ArtifactError: no TorchScript file, or one that is refused.
        BackendError: the process that looks at it died, or did not answer in time.
    """
    counts = {
        len(expanded(tensors, dims.n_text_layer, layout.order))
        for layout in layouts.known(settings.layouts) for tensors in fitting.subsets(layout.inputs)
    }  # fmt: skip
    decoders = counts if stepped else {PLAIN_INPUTS}
    others = set(range(1, MOST_INPUTS)) - counts if stepped else counts - {PLAIN_INPUTS}
    child = Child(WORKER, [path], Limits.of([path], settings.given_limit_s, settings.given_memory_gib))
    try:
        shapes = {component: weight_shape(component, dims) for component in ("encoder", "decoder")}
        asked = {"shapes": shapes, "decoders": sorted(decoders), "others": sorted(others)}
        text = child.call(f"{path}", {"do": "inspect", "path": str(path.absolute()), **asked}).text
        return text if text in shapes else None
    finally:
        child.close()
