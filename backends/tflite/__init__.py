"""The split modules as TFLite files: converted by LiteRT or by MediaTek, run by either one's interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends import files, probing, versions
from backends.probing import HostProbe
from backends.tflite import settings as reading
from backends.tflite.session import MTKSession, TFLiteSession, opened, tapped
from backends.tflite.settings import Settings
from backends.tflite.worker import build_files, workers
from backends.torchscript import mask_value
from harness.artifact import Artifact, Options
from harness.attribution import taps
from harness.attribution.taps import Taps
from harness.backend import Availability, Backend
from harness.checkpoint import Checkpoint
from harness.errors import ParityError, UnavailableError

INTERPRETERS = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "LiteRT"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""Packages that offer `Interpreter`: import path and the name that reports use. The first one installed is taken."""
QUANTISED = ("fp16", "int8")
CONVERT = ("backends.tflite.convert", "convert")
"""The task of a worker, as far as what it imports depends on it."""
MTK_CODE = ("inspection.py", "mtk.py", "mtk_build.py", "mtk_process.py", "mtk_worker.py", "session.py")
"""What decides files of MediaTek's converter, the record of the conversion among them."""


class TFLiteBackend:
    """litert-torch's conversion of the split modules, or mtk_converter's; `fp16` and `int8` are LiteRT's variants."""

    name = "tflite"
    after: str | None = "torchscript"
    variants: tuple[str, ...] = ("fp32", "fp16", "int8")

    def __init__(self, settings: Settings | None = None) -> None:
        """Take the settings of this site; None for what the environment says when they are first needed."""
        self._settings = settings
        self._mtk: str | ParityError | None = None

    @property
    def settings(self) -> Settings:
        """Those of this site."""
        self._settings = self._settings or reading.read({})
        return self._settings

    def configured(self, settings: Mapping[str, Any]) -> Backend:
        """The same with [backends.tflite] of parity.toml.

        Raises:
            ConfigError: a setting that cannot be used.
        """
        return TFLiteBackend(reading.read(settings))

    def probe(self) -> Availability:
        """Needs an interpreter, LiteRT's or MediaTek's; the converters only when something is to be built."""
        found = versions.of(*INTERPRETERS)
        mtk, usable = self._probe_mtk()
        if not (found or usable):
            reason = "no TFLite interpreter is installed: run `pip install ai-edge-litert`"
            return Availability(False, "; ".join([reason, *mtk]))
        converters = versions.of("litert-torch", "ai-edge-quantizer")
        said = [f"{name} {version}" for name, version in {**found, **converters}.items()]
        return Availability(True, ", ".join([*said, *mtk]))

    def source(self, variant: str) -> str | None:
        """litert-torch takes the checkpoint's modules, mtk_converter the TorchScript files; variants the fp32 file."""
        if variant in QUANTISED:
            return "tflite"
        return "torchscript" if self.settings.converter == "mtk" else "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the converted files.

        Raises:
            UnavailableError: MediaTek's converter was chosen and is not there.
        """
        if self.settings.converter == "mtk":
            from backends.tflite.mtk import QUANTIZE

            chosen = {"mtk_converter": self._mtk_version(), "mtk_converter options": QUANTIZE}
            return chosen | versions.of_code("files.py", *(f"tflite/{name}" for name in MTK_CODE))
        packages = versions.of("litert-torch", "litert-converter", "ai-edge-quantizer", "torch", "openai-whisper")
        return packages | versions.of_code("split.py", "files.py", "tflite/convert.py", "tflite/worker.py")

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_80x3000.tflite, decoder_base_448.tflite, ...; with mtk_converter a record of what it did."""
        names = files.tflite_names(checkpoint, "" if variant == "fp32" else variant)
        if self.settings.converter == "mtk" and variant not in QUANTISED:
            names["conversion"] = f"conversion_{checkpoint.name}.json"
        return names

    def probe_names(self, checkpoint: Checkpoint, variant: str, found: Taps) -> dict[str, str]:
        """encoder_base_80x3000_probe.tflite, encoder_base_80x3000_int8_probe.tflite, ..."""
        return taps.file_names(files.tflite_names(checkpoint, "" if variant == "fp32" else variant), found)

    def probe_tools(self) -> dict[str, str]:
        """Our modules around Whisper's, and their conversion."""
        return probing.tools() | {"conversion": versions.of_code("tflite/probe_files.py")["whisper-parity"]}

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Have litert-torch imported, which takes seconds; MediaTek's converter has a process of its own."""
        if self.settings.converter != "litert":
            yield
            return
        with workers() as found:
            found.prepare(CONVERT)
            yield

    def build(self, parent: Artifact, out: Path, variant: str, options: Options) -> None:
        """Convert, or quantise, both files in worker processes side by side.

        Raises:
            UnavailableError: the chosen converter is not there, or has no such variant.
            BuildError: it failed.
        """
        names = self.file_names(parent.checkpoint, variant)
        if found := taps.of_options(options, parent.checkpoint.dims):
            self._build_probe(parent, out, variant, options, found)
            return
        if self.settings.converter == "litert":
            build_files(parent, out, names, variant, options)
            return
        if variant in QUANTISED:
            raise UnavailableError(
                f"tflite:{variant} is made by LiteRT's quantiser, which has no MTKEXT ops",
                hint='Set converter = "litert" in [backends.tflite]',
            )
        from backends.tflite import mtk_build

        mtk_build.build_files(self.settings, parent, out, names)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[TFLiteSession | MTKSession | HostProbe]:
        """Load both files, matching their inputs and outputs by name, shape and dtype, and the token embedding."""
        if found := taps.of_options(artifact.options, artifact.checkpoint.dims):
            yield tapped(artifact, found, threads)
            return
        with opened(self.settings, artifact, threads) as session:
            yield session

    def _build_probe(self, parent: Artifact, out: Path, variant: str, options: Options, found: Taps) -> None:
        from backends.tflite.probe_files import build_probe

        if self.settings.converter == "mtk":
            raise UnavailableError(
                "probes of files by mtk_converter are not built: those of LiteRT's converter would say nothing of them",
                hint='Set converter = "litert" in [backends.tflite] to look at the layers of such files',
            )
        names = self.probe_names(parent.checkpoint, variant, found)
        build_probe(parent, out, names, variant, mask_value(options), found)

    def _probe_mtk(self) -> tuple[list[str], bool]:
        """What is to be said of MediaTek's tools, and whether they can be used; nothing where nobody asked for them."""
        if self.settings.mtk_python is None and "mtk" not in (self.settings.converter, self.settings.interpreter):
            return [], False
        try:
            return [f"mtk_converter {self._mtk_version()}"], True
        except ParityError as error:
            return [str(error)], False

    def _mtk_version(self) -> str:
        """mtk_converter's version, asked once: importing it takes seconds, and what fails fails again."""
        from backends.tflite import mtk

        if self._mtk is None:
            try:
                self._mtk = mtk.version(self.settings)
            except ParityError as error:
                self._mtk = error
        if isinstance(self._mtk, ParityError):
            raise self._mtk
        return self._mtk
