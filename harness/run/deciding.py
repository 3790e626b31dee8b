"""What decides the bits of a stage that runs the checkpoint itself: equal hashes mean equal traces."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import CHECKPOINT, Artifact
from whisper_parity.backend.contract import Backend
from whisper_parity.backend.facets import Repeatable
from whisper_parity.backend.stage import StageName
from whisper_parity.clips import features
from whisper_parity.project import PACKAGE
from whisper_parity.run.plan import Plan
from whisper_parity.system import machine, serial
from whisper_parity.system.files import sources_sha256
from whisper_parity.trace.trace import TRACE_VERSION

ROOMS = ("clips", "model", "backend", "decode", "trace")
"""Of the harness: what lies between a clip and its trace."""
VARIABLES = ("ATEN_", "DNNL_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "TORCH_")
"""Families of environment variables that choose kernels."""
NOT_DECIDING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Among these, those that decide times only."""


def of_stage(plan: Plan, artifact: Artifact) -> str:
    """One hash over all that decides a stage's numbers beside the clip; "" for a stage that does not promise to repeat.

    Args:
        plan: of the run.
        artifact: of the stage.
    """
    name = StageName.parse(artifact.stage)
    backend = plan.backends.get(name.backend)
    if artifact.origin != CHECKPOINT or not (isinstance(backend, Repeatable) and backend.repeats(name.variant)):
        return ""
    parts: dict[str, Any] = {
        "versions": [TRACE_VERSION, features.VERSION, platform.python_version()],
        "stage": [artifact.stage, artifact.sha256, plan.root],
        "policy": [plan.policy.name, dict(plan.policy.options)],
        "threads": plan.threads,
        "packages": machine.versions(*machine.PACKAGES, *plan.backends.packages([artifact.stage])),
        "settings": plan.backends.deciding_settings(artifact.stage),
        "code": [sources_sha256(PACKAGE / room) for room in ROOMS] + [sources_sha256(_folder(backend))],
        "processor": [platform.machine(), *machine.processor()],
        "environment": {name: os.environ[name] for name in sorted(os.environ) if _chooses_kernels(name)},
    }
    return serial.digest([parts])


def _chooses_kernels(name: str) -> bool:
    return name.startswith(VARIABLES) and name not in NOT_DECIDING


def _folder(backend: Backend) -> Path:
    """Where a backend's package lies, with what it shares with its siblings."""
    package = ".".join(type(backend).__module__.split(".")[:2])
    specification = find_spec(package)
    origin = specification.origin if specification else None
    assert origin is not None  # noqa: S101 - the class was imported from there
    return Path(origin).parent if Path(origin).name == "__init__.py" else Path(origin)
