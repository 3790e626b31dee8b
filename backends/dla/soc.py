"""Compiler flags by SoC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.errors import ConfigError

FILE = Path(__file__).with_name("soc.toml")


@dataclass(frozen=True, slots=True)
class Soc:
    """One profile of soc.toml."""

    code: str
    """"MT8371", as in file names."""
    name: str
    arch: str
    """Value of --arch: engines and their versions."""
    source: str
    """Where the profile comes from."""
    l1_size_kb: int | None = None
    num_mdla: int | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that describe the hardware."""
        flags = [f"--arch={self.arch}"]
        flags += [] if self.l1_size_kb is None else [f"--l1-size-kb={self.l1_size_kb}"]
        flags += [] if self.num_mdla is None else [f"--num-mdla={self.num_mdla}"]
        return tuple(flags)


def codes() -> tuple[str, ...]:
    """Codes of the SoCs with a profile."""
    return tuple(project.read_toml(FILE))


def named(code: str) -> Soc:
    """The profile of a SoC.

    Raises:
        ConfigError: no such profile.
    """
    table = project.read_toml(FILE)
    if code not in table:
        raise ConfigError(
            f"SoC {code!r}: expected one of {', '.join(table)}",
            hint="For another one set arch, l1_size_kb and num_mdla under [backends.dla] of parity.toml",
        )
    return Soc(code, **table[code])
