"""A session through MediaTek's neuronrt: one call of the tool per encoder or decoder pass, tensors as files.

Verified drafts make that one encoder and one decoder call per clip. The encoder's output stays on the device as the
decoder's input, and the requested rows are cut out there: 25 rows of Whisper base are 5 MB, all of them 93 MB.
"""

from __future__ import annotations

import re
import secrets
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.dla.link import faults
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.link.store import Store
from whisper_parity.backends.dla.sessions import layout
from whisper_parity.backends.dla.sessions.layout import Layout
from whisper_parity.backends.split.embedding import TokenEmbedding

USUAL_PLACES = ("/usr/sbin/neuronrt", "/usr/bin/neuronrt", "/vendor/bin/neuronrt", "/data/local/tmp/neuronrt")
STALE = 91
"""Exit code of our script if an old output cannot be removed."""
_TIME = re.compile(r"Total inference time = ([\d.]+) ms")
_HANDLE = re.compile(r"Handle\s*=\s*(\d+)\s*,\s*<([\dx ]+)>")


@dataclass(frozen=True, slots=True)
class Tool:
    """neuronrt on a device."""

    path: str
    libraries: str
    """LD_LIBRARY_PATH; "" to leave it unset."""
    version: str


@dataclass(frozen=True, slots=True)
class IOMap:
    """Shapes by handle, as `neuronrt -d` prints them."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


class Workplace:
    """The tool on one device, its models, and a private folder there for inputs and outputs."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, roles: Sequence[str]) -> None:
        """Find the tool and push the models.

        Raises:
            DeviceError: no tool, or no space.
        """
        self.device = device
        self._dims = artifact.checkpoint.dims
        self._store = Store(device, facts)
        self._tool = find(device, self._store)
        self._folder = f"{facts.work_folder}/run-{secrets.token_hex(4)}"
        self._models = {
            role: self._store.put(artifact.path(role), ".dla", sha256=artifact.files[role].sha256) for role in roles
        }
        self.via = f"neuronrt {self._tool.version}"
        self.notes: tuple[str, ...] = ()

    @property
    def temperature_c(self) -> float | None:
        """Not read: it would cost another round trip per clip."""
        return None

    def close(self) -> None:
        """Remove the run's files from the device."""
        with suppress(DeviceError):  # `parity device clean` removes what a lost link leaves
            self.device.shell("rm", "-rf", self._folder, limit_s=10.0)

    def _put(self, role: str, array: Float32, name: str, size: int | None = None) -> None:
        """Write an input on the device, padded with zeros to `size` elements."""
        dtype = "float16" if self.device.settings.native_inputs(role) else "float32"
        data = layout.pack(array, dtype)
        self._push(data, name)
        padded_size = (size or 0) * np.dtype(dtype).itemsize
        if padded_size > len(data):
            quoted = shlex.quote(f"{self._folder}/{name}")
            self._run_script(f"dd if=/dev/null of={quoted} bs=1 seek={padded_size} count=0 2>/dev/null", name)

    def _push(self, data: bytes, name: str) -> None:
        """Write a file in our folder."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.device.push(Path(file.name), f"{self._folder}/{name}")

    def _run(self, role: str, inputs: Sequence[str], outputs: Mapping[str, tuple[int, int]]) -> dict[str, Layout]:
        """Call the tool once; return the layout of each output file.

        Args:
            role: which model.
            inputs: file names in our folder, in the order of the handles.
            outputs: expected (rows, columns) by file name, in the order of the handles.
        """
        sizes = self._timed(role, inputs, tuple(outputs))
        return {name: self._layout(role, size, *outputs[name]) for name, size in zip(outputs, sizes)}

    def _timed(self, role: str, inputs: Sequence[str], outputs: Sequence[str]) -> list[int]:
        """Call the tool once; return the sizes of the output files."""
        boost = str(self.device.settings.boost)
        command = [self._tool.path, "-m", "hw", "-a", self._models[role], "-c", "1", "-b", boost]
        for name in inputs:
            command += ["-i", f"{self._folder}/{name}"]
        for name in outputs:
            command += ["-o", f"{self._folder}/{name}"]
        sizes, log = self._parse_result(role, self._call(command, outputs))
        self.device.meter.device_s += float(_TIME.search(log)[1]) / 1000  # type: ignore[index]
        return sizes

    def _layout(self, role: str, size: int, rows: int, columns: int) -> Layout:
        native = self.device.settings.native_outputs(role)
        if (output_layout := layout.of_size(size, rows, columns, native=native)) is None:
            fault = Fault.SHORT_OUTPUT if size < rows * columns * (2 if native else 4) else Fault.SHAPE
            expected = layout.expected(rows, columns, native=native)
            message = f"{role}: {size} bytes of output, expected {expected}"
            raise DeviceError(
                fault, self.device.serial, message, hint="Check that the flags in parity.toml match the file"
            )
        return output_layout

    def _call(self, command: list[str], outputs: Sequence[str]) -> tuple[int, str]:
        """Remove old outputs, then run the tool with its process id and log kept in files; (exit code, text)."""
        folder = shlex.quote(self._folder)
        targets = [shlex.quote(f"{self._folder}/{name}") for name in outputs]
        sizes = " ".join(f"$(wc -c < {target} 2>/dev/null || echo 0)" for target in targets)
        prefix = _library_prefix(self._tool.libraries)
        script = (
            f"cd {folder} || exit 1; "
            + "".join(f"rm -f {target}; [ ! -e {target} ] || exit {STALE}; " for target in targets)
            + f"{prefix}sh -c 'echo $$ > pid; exec \"$@\"' sh {shlex.join(command)} > log 2>&1; "
            "code=$?; rm -f pid; "
            f"echo size {sizes}; tail -c 2000 log; exit $code"
        )
        limit_s = self.device.settings.run_limit_s
        try:
            completed = self.device.script(script, limit_s=limit_s)
        except DeviceError as error:
            if error.fault is Fault.HANG:
                fate = self._kill()
                message = f"no result after {limit_s:.0f} s; the process on the device {fate}"
                raise DeviceError(
                    Fault.HANG, self.device.serial, message, hint="Raise run_limit_s under [backends.dla]"
                ) from error
            raise
        return completed.code, completed.out.decode(errors="replace")

    def _kill(self) -> str:
        quoted = shlex.quote(f"{self._folder}/pid")
        with suppress(DeviceError):
            completed = self.device.script(f"kill -9 $(cat {quoted}) && rm -f {quoted}", limit_s=10.0)
            return "was killed" if completed.code == 0 else "was gone"
        return "could not be reached"

    def _parse_result(self, role: str, result: tuple[int, str]) -> tuple[list[int], str]:
        """Raise unless the call succeeded; return the sizes of the outputs and the log."""
        code, text = result
        first, _, log = text.partition("\n")
        sizes = [int(size) if size.isdigit() else 0 for size in first.removeprefix("size").split()]
        serial, last = self.device.serial, _last_line(log)
        if code == STALE:
            raise DeviceError(
                Fault.STALE_OUTPUT, serial, f"{role}: an old output in {self._folder} cannot be removed")  # fmt: skip
        if code > 128:
            raise DeviceError(Fault.CRASH, serial, f"{role}: neuronrt ended by signal {code - 128}: {last}")
        if code:
            fault = faults.of_tool(log) or Fault.FAILED
            raise DeviceError(fault, serial, f"{role}: neuronrt exit code {code}: {last}")
        if not sizes or 0 in sizes:
            raise DeviceError(Fault.NO_OUTPUT, serial, f"{role}: neuronrt exit code 0, but it wrote nothing: {last}")
        if not _TIME.search(log):
            raise DeviceError(Fault.FAILED, serial, f'{role}: neuronrt printed no "Total inference time": {last}')
        return sizes, log

    def _cut(self, name: str, output: Layout, rows: Sequence[int]) -> None:
        """Extract rows of an output on the device, consecutive ones at a time."""
        source, target = shlex.quote(f"{self._folder}/{name}"), shlex.quote(f"{self._folder}/rows")
        parts = [
            f"dd if={source} bs={output.row_bytes} skip={first} count={count} 2>/dev/null"
            for first, count in _consecutive(rows)
        ]
        self._run_script(f"{{ {'; '.join(parts)}; }} > {target}", "rows")

    def _fetch(self, name: str, size: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            self.device.pull(f"{self._folder}/{name}", local, size)
            return local.read_bytes()

    def _run_script(self, script: str, what: str) -> None:
        completed = self.device.script(script)
        if completed.code:
            fault = faults.of_adb(completed.message) or Fault.FAILED
            raise DeviceError(fault, self.device.serial, f"{what}: {completed.message}")

    def _read_map(self, role: str) -> IOMap:
        command = [self._tool.path, "-m", "hw", "-a", self._models[role], "-d"]
        completed = self.device.script(
            f"{_library_prefix(self._tool.libraries)}{shlex.join(command)} 2>&1",
            limit_s=self.device.settings.run_limit_s,
        )
        text = completed.out.decode(errors="replace")
        if completed.code:
            self._parse_result(role, (completed.code, f"size 0\n{text}"))
        return parse_map(text)


class NeuronrtSession(Workplace):
    """Encoder and decoder of one artifact on one device."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact) -> None:
        """Push the files and check the I/O maps.

        Raises:
            DeviceError: no tool, a file that it refuses, or tensors that do not match.
        """
        super().__init__(device, facts, artifact, ("encoder", "decoder"))
        self._embedding = TokenEmbedding(artifact.path("token_embedding"), self._dims)
        self._order = self._check_maps()
        self._encoding: Float32 | None = None
        device.shell("mkdir", "-p", self._folder)

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        self._put("encoder", input_features, "features")
        rows, columns = layout.encoder_output(self._dims)
        output_layout = self._run("encoder", ["features"], {"encoding": (rows, columns)})["encoding"]
        output = output_layout.unpack(self._fetch("encoding", rows * output_layout.row_bytes), rows)[None]
        self._encoding = output
        return output.copy()

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the requested positions; only these rows leave the device."""
        if self._encoding is None or not np.array_equal(self._encoding, encoder_output):
            self._put("decoder", encoder_output, "encoding")
            self._encoding = encoder_output.copy()
        embeddings = self._embedding.lookup(tokens)[:, : len(tokens)]
        self._put("decoder", embeddings, "embeddings", size=self._dims.n_text_ctx * self._dims.n_text_state)
        names = ["embeddings", "encoding"]
        output_layout = self._run("decoder", [names[i] for i in self._order], {"logits": layout.logits(self._dims)})[
            "logits"
        ]
        distinct_rows = sorted(set(rows))
        self._cut("logits", output_layout, distinct_rows)
        values = output_layout.unpack(
            self._fetch("rows", len(distinct_rows) * output_layout.row_bytes), len(distinct_rows)
        )
        return values[[distinct_rows.index(row) for row in rows]]

    def _check_maps(self) -> list[int]:
        """Check the I/O maps against the checkpoint; return the decoder's order of (embeddings, encoding)."""
        dims = self._dims
        encoder, decoder = (self._read_map(role) for role in ("encoder", "decoder"))
        encoding = (dims.n_audio_ctx, dims.n_audio_state)
        embeddings = (dims.n_text_ctx, dims.n_text_state)
        self._require_map("encoder", encoder, [(dims.n_mels, dims.n_frames)], encoding)
        self._require_map("decoder", decoder, sorted([embeddings, encoding]), (dims.n_text_ctx, dims.n_vocab))
        shapes = [plain(shape) for shape in decoder.inputs]
        return [0, 1] if shapes[0] == embeddings else [1, 0]

    def _require_map(self, role: str, io_map: IOMap, inputs: list[tuple[int, int]], output: tuple[int, int]) -> None:
        actual = sorted(plain(shape) for shape in io_map.inputs), [plain(shape) for shape in io_map.outputs]
        if actual != (inputs, [output]):
            message = f"{role}: expected inputs {inputs} and output {output}, the file has {actual[0]} and {actual[1]}"
            raise DeviceError(Fault.SHAPE, self.device.serial, message, hint="Was it compiled from this checkpoint?")


def find(device: Device, store: Store) -> Tool:
    """Find neuronrt on a device: pushed by us, configured, on its PATH, or in a usual place.

    Raises:
        DeviceError: NO_TOOL.
    """
    settings = device.settings
    libraries = ""
    if settings.neuronrt_push:
        libraries = push_folder(Path(settings.neuronrt_push), store)
        places = [f"{libraries}/neuronrt"]
    else:
        places = [settings.neuronrt] if settings.neuronrt else ["neuronrt", *USUAL_PLACES]
    lookups = " || ".join(f"command -v {shlex.quote(place)}" for place in places)
    completed = device.script(lookups)
    paths = completed.out.decode(errors="replace").strip().splitlines()
    if completed.code or not paths:
        raise DeviceError(
            Fault.NO_TOOL, device.serial, f"no neuronrt ({', '.join(places)})",
            hint="Set neuronrt, or neuronrt_push to the SDK's folder for this SoC, under [backends.dla]",
        )  # fmt: skip
    version = device.script(f"{_library_prefix(libraries)}{shlex.quote(paths[0])} -v 2>&1")
    number = re.search(r"(\d+(?:\.\d+)+)", version.out.decode(errors="replace"))
    return Tool(paths[0], libraries, number[1] if number else "of unknown version")


def push_folder(folder: Path, store: Store) -> str:
    """Push neuronrt and its libraries under their own names; return the folder on the device.

    Raises:
        DeviceError: no such folder, no neuronrt in it, or a file name unsafe for the device's shell.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    unsafe = [path.name for path in files if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", path.name)]
    if unsafe or not any(path.name == "neuronrt" for path in files):
        reason = f"a file called {unsafe[0]!r}" if unsafe else "no file neuronrt"
        raise DeviceError(Fault.NO_TOOL, store.device.serial, f"{folder}: {reason}", hint="Check neuronrt_push")
    target = f"{store.facts.work_folder}/neuronrt"
    store.device.shell("mkdir", "-p", target)
    for path in files:
        stored = store.put(path, ".bin", executable=True)
        store.device.shell("ln", "-sf", stored, f"{target}/{path.name}")
    return target


def parse_map(text: str) -> IOMap:
    """Parse the I/O map that `neuronrt -d` prints: "Handle = 0, <1 x 80 x 3000>" under "Input" and "Output"."""
    _, _, sections = text.partition("Input")
    inputs, _, outputs = sections.partition("Output")
    sides = (
        tuple(tuple(int(size) for size in shape.split("x")) for _, shape in sorted(_HANDLE.findall(side)))
        for side in (inputs, outputs)
    )
    return IOMap(*sides)


def _library_prefix(libraries: str) -> str:
    """Shell prefix for a command that needs the libraries of a folder."""
    return f"LD_LIBRARY_PATH={shlex.quote(libraries)} " if libraries else ""


def plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its leading ones."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _consecutive(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of consecutive rows as (first, count): [3, 4, 5, 9] -> [(3, 3), (9, 1)]."""
    groups = groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0])
    runs = [[row for _, row in group] for _, group in groups]
    return [(run[0], len(run)) for run in runs]


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    informative = [line for line in lines if "error" in line.lower() or "fail" in line.lower() or "V" in line[:12]]
    return (informative or lines or ["it printed nothing"])[-1][:200]
