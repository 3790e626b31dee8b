"""The DLA stage: TFLite files compiled by ncc-tflite, run on a device that adb reaches, or on a simulated one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact, BuildOptions
from whisper_parity.backend.constants import Constant
from whisper_parity.backend.contract import Availability, Backend
from whisper_parity.backend.layout import Fitted
from whisper_parity.backend.stage import StageName
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import limits, provenance
from whisper_parity.backends.dla import compiler, probes, steps
from whisper_parity.backends.dla import settings as reading
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.settings import Settings
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.embedding import constant, link_or_copy_token_embedding
from whisper_parity.backends.split.names import KV, POSITION_EMBEDDING, dla_names
from whisper_parity.errors import ParityError, UnavailableError
from whisper_parity.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from whisper_parity.backends.dla.fleet import DeviceFleet, DeviceSession, DeviceStepper

SIMULATED = "simulated"
ROLES = ("encoder", "decoder")
PLAIN = "The plain stage shows them"


class DLABackend:
    """`dla` needs MediaTek's SDK (or files compiled elsewhere) and a device; `dla:simulated` needs neither.

    `dla:kv` and `dla:simulated-kv` are the same for a decoder with a KV cache, which stays on the device.
    """

    name = "dla"
    after: str | None = "tflite"
    variants: tuple[str, ...] = (SIMULATED, KV, f"{SIMULATED}-{KV}")
    is_root = False
    default_stages: tuple[str, ...] = ("dla:simulated",)
    packages: tuple[str, ...] = ("ai-edge-litert", "ai-edge-quantizer")
    suffixes: tuple[str, ...] = (".npy",)

    settings_type = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        """Take the settings of this site; None for what the environment says when they are first needed."""
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """Those of this site."""
        self._settings = self._settings or reading.read({})
        return self._settings

    def configured(self, settings: Settings) -> Backend:
        """The same with other settings."""
        return DLABackend(settings)

    def constants(self, path: Path) -> Sequence[Constant]:
        """The table of a .npy file; compiled files hold nothing that can be read."""
        return (constant(path),)

    def width(self, variant: str) -> int:
        """One clip on each device that the settings name; the simulated one is alone."""
        return 1 if is_simulated(variant) else len(self.settings.serial)

    def resource(self, variant: str) -> str:
        """A device of the SoC that files are compiled for; a simulated one starts wherever it is asked for."""
        return "" if is_simulated(variant) else f"dla_{self.settings.profile.code}"

    def availability(self) -> Availability:
        """Needs an adb client; the reason says what else is there."""
        try:
            client = adb.find(self.settings.adb)
        except ParityError as error:
            return Availability(False, str(error))
        try:
            ncc = f"ncc-tflite {compiler.find(self.settings, simulated=False).version}"
        except ParityError as error:
            ncc = str(error)
        return Availability(True, f"adb {client}; {ncc}; {SIMULATED} by LiteRT {_litert()}")

    def tolerances(self) -> dict[str, dict[str, Any]]:
        """Limits of the edges to its stages."""
        return limits.of(limits.TOLERANCES, self.name)

    def gate_rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the gate for them."""
        return limits.of(limits.RULES, self.name)

    def source(self, variant: str) -> str | None:
        """Compiled from the float32 TFLite files."""
        return f"tflite:{KV}" if is_stepped(variant) else "tflite"

    def interface(self, artifact: Artifact) -> Fitted | None:
        """Of files whose decoder has a KV cache, as far as it can be known without a device."""
        if not is_stepped(StageName.parse(artifact.stage).variant):
            return None
        return steps.stated(artifact, layouts.known(self.settings.layouts))

    def tools(self) -> dict[str, str]:
        """What decides the compiled files: the compiler and its flags, or the stand-in."""
        return {
            **{f"{role} flags": " ".join(self.settings.compile_flags(role)) for role in ROLES},
            **_compiler_version(self.settings),
            **provenance.of("ai-edge-quantizer"),
            **provenance.of_code(
                "backends.split.embedding",
                "backends.split.names",
                "backends.dla.compiler",
                "backends.dla.steps",
                "backends.dla.simulator.ncc_tflite",
                "backends.dla.simulator.container",
            ),
        }

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_80x3000_MT8371.dla, decoder_base_448_MT8371.dla, and how; stand-ins end in _simulated.dla.

        With a KV cache they have the same names, as in the original project, and a table more.
        """
        target = self.settings.profile.code
        names = dla_names(checkpoint, f"{target}_{SIMULATED}" if is_simulated(variant) else target)
        return names | ({"position_embedding": POSITION_EMBEDDING} if is_stepped(variant) else {})

    def probe_names(self, checkpoint: Checkpoint, variant: str, wanted: Taps) -> dict[str, str]:
        """encoder_base_80x3000_MT8371_probe.dla, ..."""
        return taps.file_names(self.file_names(checkpoint, variant), wanted)

    def probe_tools(self) -> dict[str, str]:
        """What puts taps into the files that are compiled."""
        return probes.tools()

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Compile both files; command, plan and time of each go beside them.

        Raises:
            UnavailableError: no compiler here.
            BuildError: it failed, or placed something elsewhere than on the MDLA.
        """
        if is_simulated(variant):
            provenance.require_extra("litert", "ai-edge-quantizer")
        wanted, checkpoint = taps.of_options(options, parent.checkpoint.dims), parent.checkpoint
        if wanted and is_stepped(variant):
            raise UnavailableError(f"dla:{variant}: hidden states inside a step are not looked into", hint=PLAIN)
        names = self.probe_names(checkpoint, variant, wanted) if wanted else self.file_names(checkpoint, variant)
        tool = compiler.find(self.settings, simulated=is_simulated(variant))
        record: dict[str, Any] = {
            "compiler": tool.version, "soc": self.settings.profile.code, "source": self.settings.profile.source
        }  # fmt: skip
        if wanted:
            record |= probes.compiled(tool, parent, out, names, wanted, self.settings)
        for role in () if wanted else ROLES:
            flags = self.settings.compile_flags(role)
            foreign = parent.origin == GIVEN
            done = compiler.compile_file(
                tool, parent.path(role), out / names[role], flags, self.settings, foreign=foreign
            )
            record[role] = asdict(done)
        if is_stepped(variant):
            record[steps.RECORD] = steps.recorded(parent, layouts.known(self.settings.layouts))
            steps.write_tables(parent, out)
        (out / names["compilation"]).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        if "token_embedding" in names and not is_stepped(variant):
            link_or_copy_token_embedding(parent, out)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[DeviceFleet[DeviceSession | DeviceStepper]]:
        """Reach the devices, push what they lack, start what runs there.

        Raises:
            DeviceError: no device, or it cannot run the files.
        """
        from whisper_parity.backends.dla import fleet

        variant = StageName.parse(artifact.stage).variant
        how = {"simulated": is_simulated(variant), "stepped": is_stepped(variant)}
        with fleet.opened(self.settings, artifact, threads=threads, **how) as session:
            yield session


def is_simulated(variant: str) -> bool:
    """Whether a variant runs on the simulated device."""
    return variant.partition("-")[0] == SIMULATED


def is_stepped(variant: str) -> bool:
    """Whether the decoder of a variant has a KV cache."""
    return variant.rpartition("-")[2] == KV


def _compiler_version(settings: Settings) -> dict[str, str]:
    """Version of the compiler that is configured; the stand-in's own needs no asking."""
    if reading.compiler_path(settings) is None:
        return {}
    try:
        return {"ncc-tflite": compiler.find(settings, simulated=False).version}
    except ParityError as error:  # reported when it is built, not when the stand-in is used
        return {"ncc-tflite": str(error)}


def _litert() -> str:
    return provenance.of("ai-edge-litert").get("ai-edge-litert", "(not installed)")
