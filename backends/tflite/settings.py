"""[backends.tflite] of parity.toml: which converter writes the files, which interpreter runs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import ConfigError

ENVIRONMENT = {
    "mtk_python": "MTK_PYTHON",
    "mtk_sdk": "MTK_NEURON_SDK",
    "mtk_converter_path": "MTK_CONVERTER_PATH",
}
"""Settings that the environment may give, under parity.toml."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a site may have to say; by default MediaTek's tools are not there."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    converter: Literal["litert", "mtk"] = "litert"
    """Who writes the float32 files: LiteRT's converter, or MediaTek's from the TorchScript files."""
    interpreter: Literal["auto", "litert", "mtk"] = "auto"
    """Who runs them; auto: files of MediaTek's converter by MediaTek's where mtk_python is set, others by LiteRT."""
    mtk_python: str | None = None
    """The Python that mtk_converter is installed for; environment: MTK_PYTHON. Without it MediaTek's is not there."""
    mtk_sdk: str | None = None
    """Root of the Neuron SDK, whose host/lib/python is searched for mtk_converter; environment: MTK_NEURON_SDK."""
    mtk_converter_path: str | None = None
    """The folder that holds the package mtk_converter, where it lies elsewhere; environment: MTK_CONVERTER_PATH."""
    start_limit_s: float = 120.0
    """For starting that Python and importing mtk_converter."""
    convert_limit_s: float = 1800.0
    """For converting one file."""
    run_limit_s: float = 300.0
    """For loading a file, and for one pass."""
    assumptions: Assumptions = field(default_factory=Assumptions)
    """What is not public of MTKEXT ops and decides how they are lowered."""


def read(table: Mapping[str, Any]) -> Settings:
    """The settings of a table of parity.toml, with the environment under it.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a time limit that is none.
    """
    given = {key: value for key, name in ENVIRONMENT.items() if (value := os.environ.get(name))}
    if not table:
        return Settings(**given)  # type: ignore[arg-type]  # text each; files run where pydantic is not installed
    found = _validated({**given, **table})
    for name in ("start_limit_s", "convert_limit_s", "run_limit_s"):
        if not 0 < getattr(found, name) <= 86400:
            raise ConfigError(f"parity.toml [backends.tflite] {name}: expected seconds, more than 0 and at most 86400")
    return found


def _validated(values: Mapping[str, Any]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"parity.toml [backends.tflite] {key}: {first['msg']}",
            hint="docs/mediatek.md lists the settings",
        ) from error
