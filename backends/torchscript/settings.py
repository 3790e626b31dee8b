"""[backends.torchscript] of parity.toml: what a given file may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from whisper_parity.backend import settings
from whisper_parity.backend.layout import Layout
from whisper_parity.backend.settings import setting


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of the process in which files are opened that we did not build."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    given_limit_s: float = setting(300.0, "for loading a given file, and for one pass of it [s]", decides_numbers=False)
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
        True,
        "whether torchscript:kv has the inputs cached_cross_keys and _values, which nothing reads, as the original",
    )

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing.

        Raises:
            ConfigError: a limit of nothing, or above a day or a TiB.
        """
        settings.require_seconds("torchscript", self, "given_limit_s")
        settings.require_gib("torchscript", self, "given_memory_gib")
