"""The stage of a whole program: a sound goes in, a text comes out; what is between is the program's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity.backend import settings as backend_settings
from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Availability, Backend
from whisper_parity.backend.stage import StageName
from whisper_parity.backends import limits, provenance
from whisper_parity.backends.app import description as descriptions
from whisper_parity.backends.app.description import Description
from whisper_parity.backends.app.settings import Settings, read
from whisper_parity.backends.split.names import KV
from whisper_parity.errors import ConfigError, ParityError
from whisper_parity.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from whisper_parity.backends.app.recorded import RecordedSession
    from whisper_parity.backends.app.session import DeviceApp, HostApp
    from whisper_parity.backends.dla.backend import DLABackend
    from whisper_parity.backends.dla.fleet import DeviceFleet

SIMULATED, RECORDED = "simulated", "recorded"
RECORD = "app_program.json"
"""The file that says what runs: settings, and the hashes of everything that decides."""


class AppBackend:
    """`app` runs a program on a device or this machine, `app:simulated` on the simulated device.

    `app:kv` and `app:simulated-kv` run a decoder with a KV cache. `app:recorded` reads what a program gave elsewhere.
    """

    name = "app"
    variants: tuple[str, ...] = (SIMULATED, RECORDED, KV, f"{SIMULATED}-{KV}")
    is_root = False
    default_stages: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    borrows = "dla"

    settings_type = Settings

    def __init__(self, settings: Settings | None = None, device: DLABackend | None = None) -> None:
        """Take the settings of this site, and the backend whose devices it uses."""
        self._settings = settings
        self._device = device
        self.after: str | None = self.settings.after

    @property
    def settings(self) -> Settings:
        """Those of this site."""
        self._settings = self._settings or read({})
        return self._settings

    @property
    def device(self) -> DLABackend:
        """What reaches the devices."""
        from whisper_parity.backends.dla.backend import DLABackend

        self._device = self._device or DLABackend()
        return self._device

    def configured(self, settings: Settings) -> Backend:
        """The same with other settings, which are checked as far as that needs no file.

        Raises:
            ConfigError: an unknown preset, a pattern that is none, an argument that nobody fills in.
        """
        descriptions.of(settings)
        return AppBackend(settings, self._device)

    def lent(self, other: Backend) -> Backend:
        """The same on the devices of `dla`."""
        from whisper_parity.backends.dla.backend import DLABackend

        return AppBackend(self._settings, other if isinstance(other, DLABackend) else None)

    @cached_property
    def description(self) -> Description:
        """The program as data."""
        return descriptions.of(self.settings)

    def width(self, variant: str) -> int:
        """One clip on each device."""
        if _runs_elsewhere(variant) or self.settings.where == "host":
            return 1
        return self.device.width("")

    def resource(self, variant: str) -> str:
        """The device, of which `dla` needs the same; a program of this machine runs anywhere."""
        return "" if _runs_elsewhere(variant) or self.settings.where == "host" else self.device.resource("")

    def availability(self) -> Availability:
        """Everything that this needs is asked for when a stage is built or opened."""
        program = self.settings.program or "built here"
        return Availability(True, f"preset {self.settings.preset}; program {program}; on the devices of dla")

    def tolerances(self) -> dict[str, dict[str, Any]]:
        """Limits of the edges to its stages."""
        return limits.of(limits.TOLERANCES, self.name)

    def gate_rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the gate for them."""
        return limits.of(limits.RULES, self.name)

    def source(self, variant: str) -> str | None:
        """Our own program runs the files of dla; another one brings its own."""
        if variant == RECORDED or not self.settings.is_own:
            return "pytorch"
        return str(StageName("dla", self._of_dla(variant)))

    def tools(self) -> dict[str, str]:
        """What decides its files, and what else runs."""
        deciding = json.dumps(backend_settings.that_decide(self.settings), sort_keys=True)
        own = {"program": self._native()} if self.settings.is_own else {}
        return {
            "settings": hashlib.sha256(deciding.encode()).hexdigest()[:16],
            **own,
            **self._hashes("files", self._job_hashes),
            **self._hashes("recorded", self._recorded_hashes),
            **provenance.of_code("backends.dla.app_tables", "backends.app.own"),
        }

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """The record of the program; for our own also the DLA files and the tables beside them."""
        if variant == RECORDED or not self.settings.is_own:
            return {"program": RECORD}
        from whisper_parity.backends.app import own

        names = self.device.file_names(checkpoint, self._of_dla(variant))
        return {"program": RECORD, **{role: names[role] for role in own.halves(names)}, **own.TABLES}

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Write the record, and for our own program its folder.

        Raises:
            ConfigError: the program, its files or the recorded outputs are not there.
            ArtifactError: a decoder with a KV cache whose layout is not known.
        """
        (out / RECORD).write_text(json.dumps(self._record(variant), indent=2, sort_keys=True) + "\n", "utf-8")
        if variant != RECORDED and self.settings.is_own:
            from whisper_parity.backends.app import own

            own.write(parent, out, self.device.settings)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[HostApp | RecordedSession | DeviceFleet[DeviceApp]]:
        """Have the program at its place.

        Raises:
            DeviceError: no device, or it cannot be reached.
            UnavailableError, BuildError: our own program cannot be built here.
        """
        variant = StageName.parse(artifact.stage).variant
        with ExitStack() as stack:
            if variant == RECORDED:
                yield self._recorded(artifact)
            elif not is_simulated(variant) and self.settings.where == "host":
                yield stack.enter_context(self._on_host(artifact))
            else:
                yield stack.enter_context(self._on_devices(artifact, threads, simulated=is_simulated(variant)))

    def _of_dla(self, variant: str | None) -> str:
        """The variant of `dla` whose files it runs: the stand-in runtime takes those of the stand-in compiler alone."""
        is_here = is_simulated(variant) or self.settings.where == "host"
        return "-".join(part for part, holds in ((SIMULATED, is_here), (KV, is_stepped(variant))) if holds)

    @contextmanager
    def _program(self, artifact: Artifact) -> Iterator[Any]:
        from whisper_parity.backends.app import job as jobs
        from whisper_parity.backends.app import own
        from whisper_parity.backends.app.session import Program

        job = jobs.of(self.settings, self.description)
        if not self.settings.is_own:
            yield Program(job, self.settings, None)
            return
        with own.prepared(artifact, job, self.device.settings) as (prepared, rules):
            yield Program(prepared, self.settings, rules)

    @contextmanager
    def _on_host(self, artifact: Artifact) -> Iterator[HostApp]:
        from whisper_parity.backends.app import session

        with self._program(artifact) as program, session.on_host(program, artifact) as opened:
            yield opened

    @contextmanager
    def _on_devices(self, artifact: Artifact, threads: int, *, simulated: bool) -> Iterator[DeviceFleet[DeviceApp]]:
        from whisper_parity.backends.app.session import DeviceApp
        from whisper_parity.backends.dla import fleet
        from whisper_parity.backends.dla.link.device import Device

        site = self.device.settings
        with (
            self._program(artifact) as program,
            fleet.attached(site, simulated=simulated, threads=threads) as (client, serials),
            fleet.of_links(
                [DeviceApp(Device(client, serial, site), artifact, threads, program=program) for serial in serials]
            ) as opened,
        ):
            yield opened

    def _recorded(self, artifact: Artifact) -> RecordedSession:
        from whisper_parity.backends.app.job import Job
        from whisper_parity.backends.app.recorded import RecordedSession, Records
        from whisper_parity.system.inputs import MIB

        records = Records(self._recorded_place())
        label = f"{artifact.stage} ({self.settings.preset}, outputs of {records.sha256()[:8]})"
        largest = int(self.settings.output_mib * MIB)
        return RecordedSession(records, Job(self.description, None), artifact.checkpoint.dims, largest, label)

    def _recorded_place(self) -> str:
        if self.settings.recorded is None:
            raise ConfigError(
                "[backends.app] recorded: app:recorded needs the folder of a program's outputs",
                hint="Set recorded under [backends.app], or --set app.recorded=FOLDER",
            )
        return self.settings.recorded

    def _record(self, variant: str) -> Mapping[str, Any]:
        deciding = {"preset": self.settings.preset, "where": self.settings.where, "called": self.description.data}
        if variant == RECORDED:
            from whisper_parity.backends.app.recorded import Records

            return {**deciding, "recorded": Records(self._recorded_place()).sha256()}
        return {
            **deciding,
            "files": self._job_hashes(),
            **({"sources": self._native()} if self.settings.is_own else {}),
        }

    def _job_hashes(self) -> dict[str, str]:
        from whisper_parity.backends.app import job as jobs

        return jobs.of(self.settings, self.description).hashes()

    def _recorded_hashes(self) -> str:
        from whisper_parity.backends.app.recorded import Records

        return Records(self.settings.recorded).sha256() if self.settings.recorded else ""

    def _hashes(self, key: str, ask: Any) -> dict[str, str]:
        """What is asked for, as one hash; what is not there is said when it is needed, not for another variant."""
        try:
            answer = json.dumps(ask(), sort_keys=True)
        except ParityError as error:
            answer = str(error)
        return {key: hashlib.sha256(answer.encode(errors="surrogateescape")).hexdigest()[:16]}

    def _native(self) -> str:
        from whisper_parity.backends.dla import native

        return native.app_id()


def is_simulated(variant: str | None) -> bool:
    """Whether the program of a variant runs on the simulated device."""
    return (variant or "").partition("-")[0] == SIMULATED


def is_stepped(variant: str | None) -> bool:
    """Whether the decoder that the program of a variant runs has a KV cache."""
    return (variant or "").rpartition("-")[2] == KV


def _runs_elsewhere(variant: str) -> bool:
    """Whether no device of the site is needed."""
    return variant == RECORDED or is_simulated(variant)
