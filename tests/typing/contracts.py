"""Every backend and session against its protocol: checked by mypy (`make lint`), never run."""

from __future__ import annotations

from whisper_parity.backend.contract import Backend, Fleet, Halves, Probing, Program, Stepper
from whisper_parity.backend.facets import (
    Borrowing,
    Configurable,
    Drafting,
    Hearing,
    Hypothetical,
    Limited,
    Perturbable,
    Preparable,
    Recognising,
    Slotted,
    Spreading,
    Switchable,
    Tappable,
    Transparent,
)
from whisper_parity.backends.app import AppBackend
from whisper_parity.backends.app.recorded import RecordedSession
from whisper_parity.backends.app.session import DeviceApp, HostApp
from whisper_parity.backends.dla.backend import DLABackend
from whisper_parity.backends.dla.fleet import DeviceFleet, DeviceProbe, DeviceSession
from whisper_parity.backends.pytorch import PyTorchBackend, PyTorchSession
from whisper_parity.backends.split.inside import FileProbe, Tapping
from whisper_parity.backends.split.probe_session import HostProbe
from whisper_parity.backends.split.remote import RemoteSteps
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.backends.split.stepping import Core, Steps
from whisper_parity.backends.tflite import TFLiteBackend
from whisper_parity.backends.tflite.session import MTKSession, TFLiteSession
from whisper_parity.backends.tflite.tapping import CopyTaps
from whisper_parity.backends.torchscript import ScriptTaps, TorchScriptBackend, TorchScriptSession
from whisper_parity.backends.whisper import WhisperBackend, WhisperSession
from whisper_parity.decode.cached import Cached
from whisper_parity.run.crew import Crew, Pool
from whisper_parity.run.executor import Executor, Serial
from whisper_parity.run.ray_cluster import Cluster
from whisper_parity.run.worker_processes import Processes


def backends(
    whisper: WhisperBackend,
    pytorch: PyTorchBackend,
    script: TorchScriptBackend,
    tflite: TFLiteBackend,
    dla: DLABackend,
    app: AppBackend,
) -> tuple[Backend, ...]:
    return whisper, pytorch, script, tflite, dla, app


def configurable(tflite: TFLiteBackend, dla: DLABackend, app: AppBackend) -> tuple[Configurable, ...]:
    return tflite, dla, app


def borrowing(app: AppBackend) -> Borrowing:
    return app


def limited(pytorch: PyTorchBackend, tflite: TFLiteBackend, dla: DLABackend, app: AppBackend) -> tuple[Limited, ...]:
    return pytorch, tflite, dla, app


def recognising(script: TorchScriptBackend, tflite: TFLiteBackend) -> tuple[Recognising, ...]:
    return script, tflite


def tappable(dla: DLABackend) -> tuple[Tappable, ...]:
    return (dla,)


def transparent(pytorch: PyTorchBackend, script: TorchScriptBackend, tflite: TFLiteBackend) -> tuple[Transparent, ...]:
    return pytorch, script, tflite


def tapping(scripts: ScriptTaps, copies: CopyTaps) -> tuple[Tapping, ...]:
    return scripts, copies


def preparable(tflite: TFLiteBackend) -> Preparable:
    return tflite


def spreading(dla: DLABackend, app: AppBackend) -> tuple[Spreading, ...]:
    return dla, app


def halves(
    pytorch: PyTorchSession,
    script: TorchScriptSession,
    tflite: TFLiteSession,
    mtk: MTKSession,
    device: DeviceSession,
    cached: Cached,
) -> tuple[Halves, ...]:
    return pytorch, script, tflite, mtk, device, cached


def slotted(session: SlottedSession) -> Slotted:
    return session


def steps(core: Core, remote: RemoteSteps) -> tuple[Steps, ...]:
    return core, remote


def root(pytorch: PyTorchSession) -> tuple[Drafting, Perturbable, Hypothetical]:
    return pytorch, pytorch, pytorch


def programs(whisper: WhisperSession) -> tuple[Program, Switchable]:
    return whisper, whisper


def hearing(host: HostApp, device: DeviceApp, recorded: RecordedSession) -> tuple[Hearing, ...]:
    return host, device, recorded


def probes(host: HostProbe, device: DeviceProbe, file: FileProbe) -> tuple[Probing, ...]:
    return host, device, file


def fleets(fleet: DeviceFleet[DeviceSession]) -> Fleet[DeviceSession]:
    return fleet


def steppers(stepper: Stepper) -> Halves:
    return Cached(stepper)


def executors(serial: Serial, crew: Crew) -> tuple[Executor, ...]:
    return serial, crew


def pools(processes: Processes, cluster: Cluster) -> tuple[Pool, ...]:
    return processes, cluster
