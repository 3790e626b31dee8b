"""[backends.app] of parity.toml: which program, how it is called, and how its output is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from whisper_parity.backend import settings
from whisper_parity.backend.settings import setting
from whisper_parity.errors import ConfigError

OWN = "parity-whisper"
"""The preset of our own program."""
LARGEST_MIB = 16 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may have to say; what it leaves out is the preset's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    preset: str = setting(OWN, "what is known of a program: parity-whisper, mtk-model-zoo, mtk-model-zoo-fixed, ...")
    after: str = setting("dla", "the stage whose files the program runs, in front of it in the chain")
    where: Literal["device", "host"] = setting("device", "where the program of `app` runs")
    program: str | None = setting(None, "the binary; by default parity-whisper is built", names_program=True)
    argv: tuple[str, ...] = setting(
        (), "its arguments: {model} {sound} {language} {task} {output} stand for what is given", names_program=True
    )
    environment: Mapping[str, str] = setting(dict, "variables of its environment", names_program=True)
    files: tuple[str, ...] = setting(
        (), "files beside it, patterns such as models/*.dla: put into its working folder", names_program=True
    )
    pull: Mapping[str, Mapping[str, Any]] = setting(
        dict, "files that it writes, by tensor: input_features or encoder_output = {file, dtype, shape}"
    )
    patterns: Mapping[str, str | tuple[str, ...]] = setting(
        dict, "how its output is read, by field: regular expressions with a group of the field's name, or $.paths"
    )
    output: str | None = setting(None, "the file that it writes its result to, where that is not standard output")
    languages: Mapping[str, str] = setting(
        dict, "what it calls a language, by Whisper code; auto: what it is told where none is given"
    )
    sound: Literal["file", "pcm16"] | None = setting(
        None, "what it is given: the clip's own WAV (other formats are converted), or always 16-bit mono 16 kHz"
    )
    recorded: str | None = setting(
        None, "of app:recorded: folder of outputs by clip, or names with {clip}: outputs/{clip}/run.log"
    )
    run_limit_s: float = setting(300.0, "longest run of the program on a clip [s]", decides_numbers=False)
    output_mib: float = setting(64.0, "largest file that it may write, standard output included [MiB]")

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing, and a program in front of itself.

        Raises:
            ConfigError: see above.
        """
        settings.require_seconds("app", self, "run_limit_s")
        if not 0 < self.output_mib <= LARGEST_MIB:
            raise ConfigError(f"[backends.app] output_mib: expected MiB, more than 0 and at most {LARGEST_MIB}")
        if self.after.partition(":")[0] in ("app", "", "whisper"):
            raise ConfigError(f"[backends.app] after {self.after!r}: expected a stage such as dla, tflite or pytorch")

    @property
    def is_own(self) -> bool:
        """Whether the program is ours, or speaks as ours does."""
        return self.preset == OWN


def read(table: Mapping[str, Any]) -> Settings:
    """The settings of a table of parity.toml.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    return settings.read(Settings, "app", table)
