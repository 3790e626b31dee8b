"""A session through the resident runner: models stay loaded on the device, tokens go in, rows of logits come out.

The encoder's output stays on the device as the decoder's input, and so does the token embedding. The connection is
adb's own stream to an abstract socket: no port is opened on either side.
"""

from __future__ import annotations

import re
import secrets
import shlex
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.link import adb, lock
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.link.store import Store
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import (
    ErrorCode,
    ErrorReply,
    Hello,
    HelloOk,
    RunnerDims,
)
from whisper_parity.backends.dla.sessions.wire import ProtocolError
from whisper_parity.errors import UnavailableError

R = TypeVar("R", bound=protocol.Reply)

START_LIMIT_S = 300.0
"""Time limit for loading both models; a large decoder is slow to map."""
STEPPED = "A decoder with a KV cache is the stage dla:kv"
LINGER_S = 10
IDLE_S = 600
_ALIVE = "for i in 1 2 3 4 5; do grep -q '^State:.[^ZX]' /proc/{pid}/status 2>/dev/null || break; sleep 0.1; done; "
_ALIVE += "grep -q '^State:.[^ZX]' /proc/{pid}/status 2>/dev/null && exit 7"
"""Shell: exit code 7 if a process still lives after half a second; a crashed one takes a moment to vanish."""
_TARGETS = {"aarch64": "aarch64", "arm64": "aarch64"}
_FAULTS = {
    ErrorCode.PROTOCOL_VERSION: Fault.PROTOCOL,
    ErrorCode.MODEL_MISMATCH: Fault.OTHER_MODELS,
    ErrorCode.BUSY: Fault.BUSY,
    ErrorCode.LIBRARY: Fault.LIBRARY,
    ErrorCode.RUNTIME_VERSION: Fault.RUNTIME_VERSION,
    ErrorCode.LOAD: Fault.REFUSED,
    ErrorCode.INFERENCE: Fault.INFERENCE,
    ErrorCode.OUT_OF_MEMORY: Fault.OUT_OF_MEMORY,
    ErrorCode.SHAPE: Fault.SHAPE,
}


class Resident:
    """A runner on one device with the files of one artifact."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, tables: Sequence[str], *more: str) -> None:
        """Push the files, start the runner, and shake hands.

        Args:
            device: the device.
            facts: what it is.
            artifact: the files.
            tables: roles of those that the runner looks rows up in.
            more: words of its command line.

        Raises:
            DeviceError: it does not start, or refuses the files.
            BuildError, UnavailableError: no runner for this device's processor.
        """
        self.device = device
        self.notes: tuple[str, ...] = ()
        self._facts, self._more = facts, more
        self._dims = artifact.checkpoint.dims
        self._hashes = {role: artifact.files[role].sha256 for role in ("encoder", "decoder", *tables)}
        self._name = f"whisper-parity-{secrets.token_hex(8)}"
        self._token = secrets.token_bytes(32)
        self._token_file = f"{facts.work_folder}/{self._name}.token"
        self._pid = self._start(artifact)
        self._link = Link(device, self._name, RunnerDims.of(self._dims).max_reply)
        try:
            self._runner = self._link.ask(self._hello_request(), HelloOk)
        except BaseException:
            self.close()
            raise
        runtime = f"NeuronRuntime V{self._runner.api} {self._runner.runtime_version}".strip()
        self.via = f"runner {self._runner.build_id[:8]}, {runtime}"

    @property
    def temperature_c(self) -> float | None:
        """The device's temperature; None if it cannot be read."""
        with suppress(DeviceError):
            millidegrees = self._link.ask(protocol.Status(), protocol.StatusOk).temperature_millidegrees
            return None if millidegrees == -1 else millidegrees / 1000
        return None

    def close(self) -> None:
        """End the runner."""
        with suppress(DeviceError):
            self._link.ask(protocol.Bye(), protocol.ByeOk)
        self._link.close()

    def _ask(self, request: protocol.Request, kind: type[R]) -> R:
        """Send a request and return its reply; kill a runner that hangs, and report how one crashed."""
        try:
            return self._link.ask(request, kind)
        except DeviceError as error:
            if error.fault is Fault.HANG:
                raise self._error(Fault.HANG, f"{error.message}; the runner {self._kill()}") from error
            if error.fault is Fault.LOST_RUNNER:
                raise self._crash_report(error) from error
            raise

    def _start(self, artifact: Artifact) -> int:
        """Start the runner on the device; its process id there."""
        command = self._command(artifact)
        line = self._launch(command)
        if line.startswith("ERROR 6 ") and (leftover := re.search(r"pid (\d+)", line)):
            # We hold the device's lock, so a runner that still lives was left behind: end it.
            self.device.script(f"kill {leftover[1]}; sleep 0.2; kill -9 {leftover[1]} 2>/dev/null; true")
            if lock.owner() not in line:  # our own, from before the link was lost, needs no note
                self.notes = (f"a runner that was left behind was ended ({line[leftover.start() :][:160]})",)
            line = self._launch(command)
        if ready := re.match(r"READY (\d+) ", line):
            return int(ready[1])
        if failed := re.match(r"ERROR (\d+) (.*)", line):
            raise self._start_error(int(failed[1]), failed[2])
        raise self._error(Fault.FAILED, f"the runner printed neither READY nor ERROR: {line[:200] or 'nothing'}")

    def _launch(self, command: Sequence[str]) -> str:
        """Start the runner once; return its status line."""
        with tempfile.NamedTemporaryFile() as file:  # a command line would show it to other users, on both machines
            file.write(self._token.hex().encode())
            file.flush()
            self.device.push(Path(file.name), self._token_file)
        quoted = shlex.quote(self._token_file)
        completed = self.device.script(f"chmod 600 {quoted} && {shlex.join(command)} 2>&1", limit_s=START_LIMIT_S)
        lines = [line.strip() for line in completed.out.decode(errors="replace").splitlines() if line.strip()]
        status_lines = [line for line in lines if line.startswith(("READY ", "ERROR "))]
        if not status_lines and completed.code > 128:
            raise self._error(Fault.CRASH, f"the runner ended by signal {completed.code - 128} while it started")
        return (status_lines or lines or [""])[-1]

    def _command(self, artifact: Artifact) -> list[str]:
        """The runner's command line, after pushing every file that it names."""
        store = Store(self.device, self._facts)
        settings, folder = self.device.settings, self._facts.work_folder
        binary = store.put(runner_for(self.device, self._facts), ".runner", executable=True)
        command = [binary, "--daemon"]
        options = {"encoder": "encoder", "decoder": "decoder", "token_embedding": "embedding"}
        for role, option in ((role, options[role]) for role in self._hashes):
            suffix = ".npy" if option == "embedding" else ".dla"
            remote = store.put(artifact.path(role), suffix, sha256=self._hashes[role])
            command += [f"--{option}", remote, f"--{option}-sha256", self._hashes[role]]
        command += ["--dims", str(RunnerDims.of(self._dims)), "--listen", f"abstract:{self._name}"]
        command += ["--token-file", self._token_file, "--lock", f"{folder}/runner.lock"]
        command += ["--log", f"{folder}/runner.log", "--idle-s", str(IDLE_S), "--linger-s", str(LINGER_S)]
        command += ["--runtime", settings.runtime_library] if settings.runtime_library else []
        return [*command, *self._more, "--owner", lock.owner()]

    def _hello_request(self) -> Hello:
        encoder, decoder, *table = map(protocol.digest_bytes, self._hashes.values())
        return Hello(self._token, encoder, decoder, table[0] if table else bytes(32), lock.owner())

    def _start_error(self, code: int, text: str) -> DeviceError:
        fault = _FAULTS.get(code, Fault.FAILED)
        if fault is Fault.LIBRARY and "namespace" in text:
            fault = Fault.NAMESPACE
        if "mismatching runtime" in text:
            fault = Fault.RUNTIME_VERSION
        hint = STEPPED if fault is Fault.SHAPE and "decoder: expected 2 inputs" in text else ""
        return DeviceError(fault, self.device.serial, f"the runner did not start: {text}", hint=hint)

    def _crash_report(self, error: DeviceError) -> DeviceError:
        """Why a runner hung up: it crashed, or only the link to it broke."""
        quoted = shlex.quote(f"{self._facts.work_folder}/runner.log")
        try:
            completed = self.device.script(f"{_ALIVE.format(pid=self._pid)}; tail -c 500 {quoted}", limit_s=10.0)
        except DeviceError as link_error:
            return link_error
        if completed.code == 7:
            return error
        log = " ".join(completed.out.decode(errors="replace").split())
        return self._error(Fault.CRASH, f"the runner died: {log[-300:] or 'its log is empty'}")

    def _kill(self) -> str:
        with suppress(DeviceError):
            return (
                "was killed" if self.device.shell("kill", "-9", str(self._pid), limit_s=10.0).code == 0 else "was gone"
            )
        return "could not be reached"

    def _add_device_time(self, device_us: int) -> None:
        self.device.meter.device_s += device_us / 1e6

    def _error(self, fault: Fault, message: str) -> DeviceError:
        return DeviceError(fault, self.device.serial, message)


class ResidentSession(Resident):
    """Encoder and decoder of one artifact in a runner on one device."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact) -> None:
        """As `Resident`, with the table of the token embedding."""
        super().__init__(device, facts, artifact, ("token_embedding",))
        self._encoding: tuple[Float32, int] | None = None

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        reply = self._ask(protocol.Encode(input_features, want_output=True), protocol.Encoded)
        self._add_device_time(reply.device_us)
        shape = (1, self._dims.n_audio_ctx, self._dims.n_audio_state)
        if reply.values.size != np.prod(shape):
            message = f"expected encoder output {list(shape)}, found {reply.values.size} values"
            raise self._error(Fault.SHORT_OUTPUT, message)
        output = np.array(reply.values, np.float32).reshape(shape)
        self._encoding = (output, reply.encoding_id)
        return output.copy()

    def encode_only(self, input_features: Float32) -> None:
        """Run the encoder and leave its output on the device, for callers that want only tokens."""
        reply = self._ask(protocol.Encode(input_features), protocol.Encoded)
        self._add_device_time(reply.device_us)
        self._encoding = (np.zeros(0, np.float32), reply.encoding_id)

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the requested positions."""
        request = protocol.Decode(self._encoding_id(encoder_output), tuple(tokens), tuple(rows))
        reply = self._ask(request, protocol.DecodedRows)
        self._add_device_time(reply.device_us)
        if reply.logits.shape != (len(rows), self._dims.n_vocab):
            message = f"expected logits {[len(rows), self._dims.n_vocab]}, found {list(reply.logits.shape)}"
            raise self._error(Fault.SHORT_OUTPUT, message)
        return np.array(reply.logits, np.float32)

    def decode_top(self, tokens: Sequence[int], rows: Sequence[int], top_k: int) -> protocol.DecodedTop:
        """The best tokens of the requested positions and their logsumexp: a few bytes instead of whole rows."""
        if self._encoding is None:
            raise self._error(Fault.FAILED, "decode_top before any encode")
        request = protocol.Decode(self._encoding[1], tuple(tokens), tuple(rows), top_k)
        reply = self._ask(request, protocol.DecodedTop)
        self._add_device_time(reply.device_us)
        return reply

    def output(self, component: int, index: int, offset: int, length: int) -> protocol.OutputBytes:
        """Raw bytes of an output of the last inference: the taps of a probe variant."""
        return self._ask(protocol.Output(component, index, offset, length), protocol.OutputBytes)

    def _encoding_id(self, encoder_output: Float32) -> int:
        """The id of an encoder output on the device; send it there first if it came from another stage."""
        if self._encoding is None or not np.array_equal(self._encoding[0], encoder_output):
            reply = self._ask(protocol.SetEncoding(encoder_output), protocol.EncodingSet)
            self._encoding = (encoder_output.copy(), reply.encoding_id)
        return self._encoding[1]


class Link:
    """The stream to a runner: one reply per request."""

    def __init__(self, device: Device, name: str, max_reply: int) -> None:
        """Connect.

        Args:
            device: the device.
            name: of the runner's socket.
            max_reply: bytes of the longest payload that it may send.

        Raises:
            DeviceError: nothing listens, or the device is gone.
        """
        self._device = device
        self.max_reply = max_reply
        self._next_id = 1
        self._socket: socket.socket | None = device.stream(f"localabstract:{name}", device.settings.link_limit_s)

    def ask(self, request: protocol.Request, kind: type[R]) -> R:
        """Send a request and wait for its reply, at most `run_limit_s`.

        Raises:
            DeviceError: the runner's error, or a fault of the link.
        """
        if self._socket is None:
            raise self._error(Fault.LOST_RUNNER, "the stream is closed")
        request_id, self._next_id = self._next_id, self._next_id + 1
        try:
            reply = self._exchange(self._socket, request, request_id)
        except DeviceError:
            self.close()  # a late reply would be taken for that of the next request
            raise
        if isinstance(reply, ErrorReply):
            incomplete = "did not write its whole output" in reply.text
            raise self._error(
                Fault.SHORT_OUTPUT if incomplete else _FAULTS.get(reply.code, Fault.FAILED), _describe(reply)
            )
        if not isinstance(reply, kind):
            self.close()
            raise self._error(Fault.GARBAGE, f"expected {kind.__name__}, found {type(reply).__name__}")
        return reply

    def close(self) -> None:
        """Hang up."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: socket.socket, request: protocol.Request, request_id: int) -> protocol.Reply:
        limit_s = self._device.settings.run_limit_s
        deadline = time.monotonic() + limit_s
        connection.settimeout(limit_s)
        try:
            frame = protocol.pack(request, request_id)
            connection.sendall(frame)
            self._device.meter.sent += len(frame)
            header = protocol.parse_header(self._exactly(connection, protocol.HEADER.size, deadline), self.max_reply)
            payload = self._exactly(connection, header.length, deadline)
            if header.request_id != request_id:
                raise ProtocolError(f"expected the reply to request {request_id}, found {header.request_id}")
            return protocol.parse_reply(header.type, payload, halves=header.halves, packed=header.packed)
        except TimeoutError as error:
            raise self._error(Fault.HANG, f"no answer to {type(request).__name__} after {limit_s:.0f} s") from error
        except ProtocolError as error:
            raise self._error(Fault.GARBAGE, str(error)) from error
        except OSError as error:
            raise self._error(Fault.LOST_RUNNER, f"{type(request).__name__}: {error}") from error

    def _exactly(self, connection: socket.socket, size: int, deadline: float) -> bytes:
        data = adb.exactly(connection, size, deadline)
        self._device.meter.received += len(data)
        if len(data) < size:
            raise ConnectionResetError(f"hung up after {len(data)} of {size} bytes")
        return data

    def _error(self, fault: Fault, message: str) -> DeviceError:
        return DeviceError(fault, self._device.serial, message)


def runner_for(device: Device, facts: Facts) -> Path:
    """The runner's binary for a device, built if necessary.

    Raises:
        UnavailableError: no runner for its processor, or no compiler for it.
        BuildError: it does not compile.
    """
    if device.settings.runner:
        return Path(device.settings.runner)
    return native.runner(target_of(facts, "runner", hint="Build one, and set runner under [backends.dla]"))


def target_of(facts: Facts, what: str, *, hint: str) -> str:
    """What is built for a device: a target of `native`.

    Raises:
        UnavailableError: nothing is built for its processor.
    """
    if facts.simulated:
        return "host"
    if facts.system.startswith("Android"):
        return "android"
    if facts.machine not in _TARGETS:
        raise UnavailableError(f"no {what} for a {facts.machine!r} device", hint=hint)
    return _TARGETS[facts.machine]


def _describe(reply: ErrorReply) -> str:
    runtime = f" (the runtime returned {reply.runtime_code})" if reply.runtime_code else ""
    return f"{reply.text}{runtime}"
