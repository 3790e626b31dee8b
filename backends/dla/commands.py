"""`parity device ...`: what is attached, what this project has put there, and a simulated one to try with."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whisper_parity.errors import ArtifactError, ParityError, UsageError
from whisper_parity.system import inputs
from whisper_parity.system.progress import working
from whisper_parity.system.terminal import say

if TYPE_CHECKING:
    from whisper_parity.backends.dla.link.adb import Adb
    from whisper_parity.backends.dla.link.device import Device
    from whisper_parity.backends.dla.settings import Settings
    from whisper_parity.backends.dla.simulator.device import SimulatedDevice
    from whisper_parity.backends.dla.simulator.outfit import Admission

F = TypeVar("F", bound=Callable[..., Any])


def serial_option(command: F) -> F:
    """--serial, as `parity run` has it."""
    return click.option("--serial", metavar="A,B", help="devices, as adb names them [the only one attached]")(command)


@click.group()
def device() -> None:
    """Devices: list, info, push, clean, doctor, simulate."""


@device.command("list")
@serial_option
def list_(serial: str | None) -> None:
    """List the devices that adb sees, and their state; those of the network when they are named."""
    from whisper_parity.backends.dla.link import adb

    settings = _settings(serial)
    with adb.server(adb.find(settings.adb), settings.serial) as client:
        for serial in settings.serial:
            with suppress(ParityError):
                client.connect(serial)
        devices = client.devices()
    for attached in devices:
        say(attached.serial, attached.state, attached.details)
    if not devices:
        say("no device; attach one, or start `parity device simulate`", to_stderr=True)
        sys.exit(3)


@device.command()
@serial_option
def info(serial: str | None) -> None:
    """Say what a device is: model, SoC, system, space, adbd, runtime."""
    for board in _boards(serial):
        for name, value in _facts(board):
            say(board.serial, name, value)


@device.command()
@serial_option
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def push(serial: str | None, files: tuple[Path, ...]) -> None:
    """Put files (of an artifact, say) on a device by content, and print where they are."""
    from whisper_parity.backends.dla.link.device import facts
    from whisper_parity.backends.dla.link.store import Store

    for file in files:
        inputs.require_regular(file, inputs.MODEL_BYTES, ArtifactError)
    for board in _boards(serial):
        store = Store(board, facts(board))
        for file in files:
            with working(f"{file.name} to {board.serial}"):
                remote = store.put(file, _suffix(file))
            say(board.serial, file.name, remote)


@device.command()
@serial_option
def clean(serial: str | None) -> None:
    """Remove everything that this project has put on a device, its lock too."""
    from whisper_parity.backends.dla.link.device import facts
    from whisper_parity.backends.dla.link.store import Store

    for board in _boards(serial):
        freed = Store(board, facts(board)).clean()
        say(board.serial, f"freed {freed / 2**20:.1f} MiB")


@device.command()
@serial_option
def doctor(serial: str | None) -> None:
    """Check everything that a run needs, one line each; exit code 3 when something is missing."""
    from whisper_parity.backends.dla import doctor as checking

    good = True
    for board in _boards(serial):
        for check in checking.checks(board):
            good &= check.good
            say(board.serial, "ok" if check.good else "MISSING", check.name, check.found)
    sys.exit(0 if good else 3)


@device.command()
@click.option("--target", default="host", metavar="A,B", help="host, aarch64, android [host]")
def runner(target: str) -> None:
    """Build the runner, and print where it is; `runner` in parity.toml takes one that was built elsewhere."""
    from whisper_parity.backends.dla import native

    _built("the runner", native.runner, target)


@device.command()
@click.option("--target", default="host", metavar="A,B", help="host, aarch64, android [host]")
def program(target: str) -> None:
    """Build parity-whisper, and print where it is; it reads the folder of `parity build --stages app`."""
    from whisper_parity.backends.dla import native

    _built("parity-whisper", native.app, target)


def _built(what: str, build: Callable[[str], Path], targets: str) -> None:
    for name in targets.split(","):
        with working(f"building {what} for {name}"):
            path = build(name)
        say(name, f"{path.stat().st_size} bytes", path)


@device.command()
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="its files [temporary]")
@click.option("--legacy", is_flag=True, help="an adbd of Android 5 to 6: no exit codes, 4 KB payloads")
@click.option("--rate", type=click.FloatRange(min=0.01), metavar="MB/S", help="speed of the link [unlimited]")
@click.option("--compute-ms", type=click.IntRange(0, 600_000), default=0, help="delay of every inference [0]")
@click.option("--fault", metavar="NAME", help="a fault of the runtime to inject: docs/device-reference.md lists them")
@click.option(
    "--sdk", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="write a stand-in SDK there"
)
def simulate(
    root: Path | None, legacy: bool, rate: float | None, compute_ms: int, fault: str | None, sdk: Path | None
) -> None:
    """Start a simulated device; it is there until Ctrl-C. Nothing that it computes is MediaTek's."""
    from whisper_parity.backends.dla.link import adb
    from whisper_parity.backends.dla.simulator.outfit import admission, started

    environment = {"PARITY_SIM_COMPUTE_MS": str(compute_ms), **_faulty(fault)}
    binary = adb.find(_settings(None).adb)
    with ExitStack() as stack:
        folder = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parity-simulated-")))
        admitted = admission(binary, folder.absolute())
        simulated = stack.enter_context(
            started(
                root=folder, legacy=legacy, rate_bytes_per_s=rate and rate * 1e6, environment=environment,
                keys=admitted.accepted,
            )
        )  # fmt: skip
        interrupted = _interruption()  # before anybody is told that it is there
        _announce(simulated, admitted, sdk)
        interrupted.wait()


def _faulty(fault: str | None) -> dict[str, str]:
    """The variable that injects a fault.

    Raises:
        UsageError: no such fault.
    """
    from whisper_parity.backends.dla.simulator.fault import RUNTIME_FAULTS

    name, _, count = (fault or "").partition(":")
    if fault and (name not in RUNTIME_FAULTS or not (count or "1").isdigit()):
        raise UsageError(f"fault {fault!r}: expected one of {', '.join(RUNTIME_FAULTS)}, or NAME:3")
    return {"PARITY_SIM_FAULT": fault} if fault else {}


def _announce(simulated: SimulatedDevice, admitted: Admission, sdk: Path | None) -> None:
    """Say where it is, who is let in, and how to run on it."""
    from whisper_parity.backends.dla.simulator.outfit import write_sdk

    say(f"simulated device: {simulated.serial}")
    if sdk:
        say(f"stand-in SDK: {write_sdk(sdk)}")
    say(f"its commands: {simulated.confinement}", to_stderr=True)
    if admitted.note:
        say(admitted.note, to_stderr=True)
    variables = {"ADB_VENDOR_KEYS": admitted.key} | ({"MTK_NEURON_SDK": sdk.absolute()} if sdk else {})
    words = [*(f"{name}={shlex.quote(str(path))}" for name, path in variables.items()), "parity run"]
    words += ["--stages tflite,dla", f"--set dla.serial={simulated.serial}"]
    say(f"in another terminal: {' '.join(words)}", to_stderr=True)


def _interruption() -> threading.Event:
    """Set by Ctrl-C or SIGTERM, which are the way to end this and no errors."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _settings(serial: str | None) -> Settings:
    from whisper_parity import project
    from whisper_parity.backend import registry
    from whisper_parity.backends.dla import settings as reading

    site = project.find()
    table = dict(site.backends.get("dla", {}))
    registry.require_trust(site)
    if serial:
        table["serial"] = serial.split(",")
    return reading.read(table)


def _boards(serial: str | None) -> Iterator[Device]:
    """The chosen devices, connected."""
    from whisper_parity.backends.dla.link.device import Device, chosen

    settings = _settings(serial)
    with _client(settings) as client:
        for name in chosen(client, settings):
            device = Device(client, name, settings)
            device.present()
            yield device


@contextmanager
def _client(settings: Settings) -> Iterator[Adb]:
    from whisper_parity.backends.dla.link import adb

    with adb.server(adb.find(settings.adb), settings.serial) as client:
        yield client


def _facts(device: Device) -> list[tuple[str, str]]:
    from whisper_parity.backends.dla import doctor as checking
    from whisper_parity.backends.dla.link import device as asking

    facts = asking.facts(device)
    free = "unknown" if facts.free_bytes < 0 else f"{facts.free_bytes / 2**20:.0f} MiB"
    return [
        ("device", facts.name),
        ("system", facts.system),
        ("machine", facts.machine),
        ("clock", asking.date(facts.clock_s)),
        ("work folder", f"{facts.work_folder} ({free} free)"),
        ("adbd features", checking.features(device) or "none: an old adbd, exit codes by a sentinel"),
        *((check.name, check.found) for check in checking.tools(device)),
    ]


def _suffix(file: Path) -> str:
    """The suffix of a file, if it is plain enough for a device's shell."""
    plain = file.suffix.removeprefix(".")
    return f".{plain}" if plain.isascii() and plain.isalnum() else ".bin"
