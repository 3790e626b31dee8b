"""[backends.tflite] of parity.toml: which converter writes the files, which interpreter runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from whisper_parity.backend import settings
from whisper_parity.backend.layout import Layout
from whisper_parity.backend.settings import setting
from whisper_parity.backends.tflite.mtkext.ops import Assumptions


@dataclass(frozen=True, slots=True)
class Settings:
    """What a site may have to say; by default MediaTek's tools are not there."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    converter: Literal["litert", "mtk"] = setting(
        "litert", "who writes the float32 files: LiteRT's converter, or MediaTek's from the TorchScript files"
    )
    interpreter: Literal["auto", "litert", "mtk"] = setting(
        "auto", "who runs them; auto: files of MediaTek's converter by MediaTek's where mtk_python is set"
    )
    mtk_python: str | None = setting(
        None,
        "the Python that mtk_converter is installed for",
        environment="MTK_PYTHON",
        decides_numbers=False,
        names_program=True,
    )
    mtk_sdk: str | None = setting(
        None, "root of the Neuron SDK, whose host/lib/python is searched for mtk_converter",
        environment="MTK_NEURON_SDK", decides_numbers=False, names_program=True,
    )  # fmt: skip
    mtk_converter_path: str | None = setting(
        None, "the folder that holds the package mtk_converter, where it lies elsewhere",
        environment="MTK_CONVERTER_PATH", decides_numbers=False, names_program=True,
    )  # fmt: skip
    start_limit_s: float = setting(
        120.0, "for starting that Python and importing mtk_converter [s]", decides_numbers=False
    )
    convert_limit_s: float = setting(1800.0, "for converting one file [s]", decides_numbers=False)
    run_limit_s: float = setting(300.0, "for loading a given file, and for one pass [s]", decides_numbers=False)
    given_memory_gib: float = setting(
        4.0, "memory for running given files, beside four times their size [GiB]", decides_numbers=False
    )
    transposed: tuple[str, ...] = setting(
        (), "of given files, what has columns before rows where the shape is square and does not say: input_features, "
        'token_embeddings, encoder_output, logits, or "none"',
    )  # fmt: skip
    layouts: dict[str, Layout] = setting(
        dict, "layouts of decoders with a KV cache beside the shipped ones, as tables by name: docs/kv-cache.md"
    )
    cached_cross: bool = setting(
        True, "whether tflite:kv has the inputs cached_cross_keys and _values, which nothing reads, as the original"
    )
    assumptions: Assumptions = setting(Assumptions, "what is not public of MTKEXT ops and decides how they are lowered")

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing.

        Raises:
            ConfigError: a time limit of no time, or of more than a day; memory of nothing, or above a TiB.
        """
        settings.require_gib("tflite", self, "given_memory_gib")
        settings.require_seconds("tflite", self, "start_limit_s", "convert_limit_s", "run_limit_s")


def read(table: Mapping[str, Any]) -> Settings:
    """The settings of a table of parity.toml, with the environment under it.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a time limit that is none.
    """
    return settings.read(Settings, "tflite", table)
