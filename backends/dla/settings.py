"""[backends.dla] of parity.toml: where the SDK is, how to compile, which device, how to run there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from whisper_parity.backends.dla import soc
from whisper_parity.backends.dla.soc import Soc
from whisper_parity.errors import ConfigError

RELAXED = ("--relax-fp32", "--opt-accuracy", "--opt-footprint")
"""What public Whisper ports compile with beside the flags of the SoC; the NPU has no float32."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a site may have to say; every field has a default that suits most boards."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    soc: str = "MT8371"
    arch: str | None = None
    """With l1_size_kb and num_mdla: a SoC that soc.toml does not know."""
    l1_size_kb: int | None = None
    num_mdla: int | None = None
    sdk: str | None = None
    """Root of the Neuron SDK (the folder that holds host/bin/ncc-tflite); environment: MTK_NEURON_SDK."""
    ncc: str | None = None
    """The compiler itself, where it lies elsewhere."""
    library_path: str | None = None
    """LD_LIBRARY_PATH of the compiler; None for <sdk>/host/lib."""
    flags: tuple[str, ...] = RELAXED
    encoder_flags: tuple[str, ...] | None = None
    """Instead of `flags`, for the encoder alone."""
    decoder_flags: tuple[str, ...] | None = None
    exec_plan: Literal["required", "ignored"] = "required"
    """Whether compiling fails when the tool prints no execution plan, or one with other engines than the MDLA."""
    compile_limit_s: float = 600.0

    adb: str | None = None
    """The adb client; environment: ADB; then PATH; then the one in the adbutils package."""
    serial: tuple[str, ...] = ()
    """Devices to use, side by side; environment: ANDROID_SERIAL. One attached device needs no name."""
    work_folder: str | None = None
    """On the device; None for $TMPDIR, /data/local/tmp or /tmp, whichever comes first and can be written."""
    mode: Literal["auto", "runner", "neuronrt"] = "auto"
    runner: str | None = None
    """A runner binary for the device; None to build one for its architecture."""
    runtime_library: str | None = None
    """libneuron_runtime.so on the device; None to search the documented places."""
    neuronrt: str | None = None
    """The tool on the device; None to search PATH, then the usual places."""
    neuronrt_push: str | None = None
    """Folder of the host whose files (neuronrt and its libraries) are pushed and used, for boards without the tool."""
    probe_order: Literal["file", "reversed"] = "file"
    """How the compiler numbers the tensors of a probe: as the TFLite file has them, or from the last one."""
    boost: int = 100
    run_limit_s: float = 120.0
    """Longest inference."""
    link_limit_s: float = 60.0
    """Longest adb command beside transfers, which have a second more for each MB."""
    reconnect_s: float = 30.0
    """How long a device that went away may take to come back."""
    lock_wait_s: float = 0.0
    """How long to wait for another harness that uses the device."""

    @property
    def profile(self) -> Soc:
        """The SoC, with what the site overrides.

        Raises:
            ConfigError: an unknown SoC without an arch of its own.
        """
        known = soc.named(self.soc) if self.arch is None or self.soc in soc.codes() else Soc(self.soc, self.soc, "", "")
        own: dict[str, Any] = {"arch": self.arch, "l1_size_kb": self.l1_size_kb, "num_mdla": self.num_mdla}
        given = {key: value for key, value in own.items() if value is not None}
        return replace(known, **given, source=f"parity.toml, {known.source}".rstrip(", ")) if given else known

    def native_inputs(self, role: str) -> bool:
        """Whether a file compiled with these flags takes float16 as the NPU has it."""
        return not {"--suppress-input", "-R"}.isdisjoint(self.compile_flags(role))

    def native_outputs(self, role: str) -> bool:
        """Whether it gives float16 as the NPU has it."""
        return not {"--suppress-output", "-R"}.isdisjoint(self.compile_flags(role))

    def compile_flags(self, role: str) -> tuple[str, ...]:
        """All flags for the encoder or the decoder."""
        own = self.encoder_flags if role == "encoder" else self.decoder_flags
        return (*self.profile.flags, *(self.flags if own is None else own))


def read(table: Mapping[str, Any]) -> Settings:
    """The settings of a table of parity.toml, with the environment under it.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        found = TypeAdapter(Settings).validate_python({**_environment(), **table})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"parity.toml [backends.dla] {key}: {first['msg']}", hint="docs/device.md lists the settings"
        ) from error
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", found.soc):
        raise ConfigError(f"SoC {found.soc!r}: expected a code such as MT8371", hint="It becomes part of file names")
    _ = found.profile
    return found


def _environment() -> dict[str, Any]:
    """What the environment says, in the words of the settings."""
    found: dict[str, Any] = {}
    if sdk := os.environ.get("MTK_NEURON_SDK"):
        found["sdk"] = sdk
    if adb := os.environ.get("ADB"):
        found["adb"] = adb
    if serial := os.environ.get("ANDROID_SERIAL"):
        found["serial"] = (serial,)
    return found


def compiler_path(settings: Settings) -> Path | None:
    """Where ncc-tflite should be; None when nobody said."""
    if settings.ncc:
        return Path(settings.ncc)
    return Path(settings.sdk) / "host" / "bin" / "ncc-tflite" if settings.sdk else None


def compiler_libraries(settings: Settings) -> str | None:
    """LD_LIBRARY_PATH for the compiler; None to leave the environment's."""
    if settings.library_path:
        return settings.library_path
    return str(Path(settings.sdk) / "host" / "lib") if settings.sdk else None
