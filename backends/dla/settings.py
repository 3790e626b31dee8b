"""[backends.dla] of parity.toml: where the SDK is, how to compile, which device, how to run there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from whisper_parity.backend import settings
from whisper_parity.backend.layout import Layout
from whisper_parity.backend.settings import setting
from whisper_parity.backends.dla import soc
from whisper_parity.backends.dla.soc import Soc
from whisper_parity.errors import ConfigError

RELAXED = ("--relax-fp32", "--opt-accuracy", "--opt-footprint")
"""What public Whisper ports compile with beside the flags of the SoC; the NPU has no float32."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may have to say; every default suits most boards."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    soc: str = setting("MT8371", "SoC that a DLA is compiled for; part of the files' names")
    arch: str | None = setting(None, "with l1_size_kb and num_mdla: a SoC that soc.toml does not know")
    l1_size_kb: int | None = setting(None, "see arch")
    num_mdla: int | None = setting(None, "see arch")
    sdk: str | None = setting(
        None, "root of the Neuron SDK, the folder that holds host/bin/ncc-tflite", environment="MTK_NEURON_SDK",
        decides_numbers=False, names_program=True,
    )  # fmt: skip
    ncc: str | None = setting(
        None, "the compiler itself, where it lies elsewhere", decides_numbers=False, names_program=True
    )
    library_path: str | None = setting(
        None, "LD_LIBRARY_PATH of the compiler; by default <sdk>/host/lib", decides_numbers=False, names_program=True
    )
    flags: tuple[str, ...] = setting(RELAXED, "flags of the compiler beside those of the SoC")
    encoder_flags: tuple[str, ...] | None = setting(None, "instead of flags, for the encoder alone")
    decoder_flags: tuple[str, ...] | None = setting(None, "instead of flags, for the decoder alone")
    exec_plan: Literal["required", "ignored"] = setting(
        "required", "required: compiling fails without an execution plan, or with one of other engines than the MDLA"
    )
    compile_limit_s: float = setting(600.0, "longest compilation [s]", decides_numbers=False)

    adb: str | None = setting(
        None, "the adb client; by default the one on PATH, then that of the adbutils package", environment="ADB",
        decides_numbers=False, names_program=True,
    )  # fmt: skip
    serial: tuple[str, ...] = setting(
        (), "devices to use side by side, as adb names them; one attached device needs no name",
        environment="ANDROID_SERIAL", decides_numbers=False,
    )  # fmt: skip
    work_folder: str | None = setting(
        None, "on the device; by default $TMPDIR, /data/local/tmp or /tmp, the first that can be written",
        decides_numbers=False,
    )  # fmt: skip
    mode: Literal["auto", "runner", "neuronrt"] = setting(
        "auto", "what runs the files; auto: the runner where it starts"
    )
    runner: str | None = setting(
        None, "a runner binary for the device; by default one is built for its architecture", names_program=True
    )
    runtime_library: str | None = setting(
        None, "libneuron_runtime.so on the device; by default the documented places are searched"
    )
    neuronrt: str | None = setting(None, "the tool on the device; by default PATH and the usual places are searched")
    neuronrt_push: str | None = setting(
        None,
        "folder of the host whose files (neuronrt and its libraries) are pushed, for boards without the tool",
        names_program=True,
    )
    probe_order: Literal["file", "reversed"] = setting(
        "file",
        "how the compiler numbers the tensors of a probe, or of a step with a KV cache: as the TFLite file has them, "
        "or from the last one",
    )
    layouts: dict[str, Layout] = setting(
        dict, "layouts of decoders with a KV cache beside the shipped ones, as tables by name: docs/kv-cache.md"
    )
    boost: int = setting(100, "performance hint of the runtime", decides_numbers=False)
    run_limit_s: float = setting(120.0, "longest inference [s]", decides_numbers=False)
    link_limit_s: float = setting(
        60.0, "longest adb command [s]; transfers have a second more for each MB", decides_numbers=False
    )
    reconnect_s: float = setting(30.0, "how long to wait for a device that went away [s]", decides_numbers=False)
    lock_wait_s: float = setting(
        0.0, "how long to wait for another harness that uses the device [s]", decides_numbers=False
    )

    def __post_init__(self) -> None:
        """Refuse a SoC that cannot be part of file names, or that nobody knows, and limits that limit nothing.

        Raises:
            ConfigError: see above.
        """
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", self.soc):
            raise ConfigError(f"SoC {self.soc!r}: expected a code such as MT8371", hint="It becomes part of file names")
        for name in ("compile_limit_s", "run_limit_s", "link_limit_s", "reconnect_s", "lock_wait_s"):
            if not 0 <= getattr(self, name) <= settings.LONGEST_S:
                raise ConfigError(f"[backends.dla] {name}: expected seconds, from 0 to {settings.LONGEST_S}")
        _ = self.profile

    @property
    def profile(self) -> Soc:
        """The SoC, with what the site overrides.

        Raises:
            ConfigError: an unknown SoC without an arch of its own.
        """
        base = soc.named(self.soc) if self.arch is None or self.soc in soc.codes() else Soc(self.soc, self.soc, "", "")
        own: dict[str, Any] = {"arch": self.arch, "l1_size_kb": self.l1_size_kb, "num_mdla": self.num_mdla}
        given = {key: value for key, value in own.items() if value is not None}
        return replace(base, **given, source=f"parity.toml, {base.source}".rstrip(", ")) if given else base

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
    return settings.read(Settings, "dla", table)


def compiler_path(site: Settings) -> Path | None:
    """Where ncc-tflite should be; None where the site does not say."""
    if site.ncc:
        return Path(site.ncc)
    return Path(site.sdk) / "host" / "bin" / "ncc-tflite" if site.sdk else None


def compiler_libraries(site: Settings) -> str | None:
    """LD_LIBRARY_PATH for the compiler; None to leave the environment's."""
    if site.library_path:
        return site.library_path
    return str(Path(site.sdk) / "host" / "lib") if site.sdk else None
