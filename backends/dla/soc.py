"""What a SoC needs from the compiler."""

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
    """"MT8371", as it stands in file names."""
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
        found = [f"--arch={self.arch}"]
        found += [] if self.l1_size_kb is None else [f"--l1-size-kb={self.l1_size_kb}"]
        found += [] if self.num_mdla is None else [f"--num-mdla={self.num_mdla}"]
        return tuple(found)


def codes() -> tuple[str, ...]:
    """The SoCs that have a profile."""
    return tuple(project.read_toml(FILE))


def named(code: str) -> Soc:
    """A profile by the SoC's code.

    Raises:
        ConfigError: there is none.
    """
    table = project.read_toml(FILE)
    if code not in table:
        raise ConfigError(
            f"SoC {code!r}: expected one of {', '.join(table)}",
            hint="For another one set arch, l1_size_kb and num_mdla under [backends.dla] of parity.toml",
        )
    return Soc(code, **table[code])
