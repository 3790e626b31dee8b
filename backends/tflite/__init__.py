"""The split modules as TFLite files: converted by LiteRT or by MediaTek, run by either one's interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.constants import Constant
from whisper_parity.backend.contract import Availability, Backend
from whisper_parity.backend.interface import Interface
from whisper_parity.backend.layout import Fitted
from whisper_parity.backend.stage import StageName
from whisper_parity.backends import limits, provenance
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.inside import FileProbe
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.split.last_row import LastRow
from whisper_parity.backends.split.names import KV, cached_names, tflite_names
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.backends.tflite import settings as reading
from whisper_parity.backends.tflite import stepped
from whisper_parity.backends.tflite.litert.worker import build_files
from whisper_parity.backends.tflite.session import MTKSession, TFLiteSession, opened
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import ParityError, UnavailableError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system.workers import workers

INTERPRETERS = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "LiteRT"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""Packages that offer `Interpreter`: import path and the name that reports use. The first one installed is taken."""
QUANTISED = ("fp16", "int8")
CONVERT = ("whisper_parity.backends.tflite.litert.convert", "convert")
"""The task of a worker, as far as what it imports depends on it."""
LITERT_CODE = (
    "backends.split.modules", "backends.split.cached_modules", "backends.split.embedding", "backends.split.names",
    "backends.tflite.litert.convert", "backends.tflite.litert.worker",
)  # fmt: skip
"""What decides files of LiteRT's converter."""
MTK_CODE = (
    "backends.split.embedding", "backends.split.names", "backends.tflite.graph", "backends.tflite.session",
    "backends.tflite.mtkext.inspection",
    *(f"backends.tflite.mediatek.{name}" for name in ("mtk", "mtk_build", "mtk_process", "mtk_worker")),
)  # fmt: skip
"""What decides files of MediaTek's converter, the record of the conversion among them."""


class TFLiteBackend:
    """litert-torch's conversion of the split modules, or mtk_converter's; `fp16` and `int8` are LiteRT's variants."""

    name = "tflite"
    after: str | None = "torchscript"
    variants: tuple[str, ...] = ("fp32", "fp16", "int8", KV)
    is_root = False
    default_stages: tuple[str, ...] = ("tflite",)
    suffixes: tuple[str, ...] = (".tflite", ".npy")
    packages: tuple[str, ...] = (
        "ai-edge-litert",
        "tflite-runtime",
        "litert-torch",
        "litert-converter",
        "ai-edge-quantizer",
    )

    settings_type = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        """Take the settings of this site; None for what the environment says when they are first needed."""
        self._settings = settings
        self._mtk: str | ParityError | None = None

    @property
    def settings(self) -> Settings:
        """Those of this site."""
        self._settings = self._settings or reading.read({})
        return self._settings

    def configured(self, settings: Settings) -> Backend:
        """The same with other settings."""
        return TFLiteBackend(settings)

    def recognise(self, path: Path, checkpoint: Checkpoint, variant: str) -> str | None:
        """By inputs and outputs, and for a quantised variant by the type of its weights."""
        from whisper_parity.backends.tflite import recognition

        if path.suffix != ".tflite":
            return None
        return recognition.role(path, checkpoint.dims, variant, layouts.known(self.settings.layouts))

    def constants(self, path: Path) -> Sequence[Constant]:
        """Every buffer of the flatbuffer, or the table of a .npy file."""
        from whisper_parity.backends.split.embedding import constant
        from whisper_parity.backends.tflite import constants

        return (constant(path),) if path.suffix == ".npy" else constants.read(path)

    def interface(self, artifact: Artifact) -> Interface | Fitted | None:
        """Read from the files, which are not run; `transposed` says what square tensors do not."""
        from whisper_parity.backends.tflite import ports

        files = {role: artifact.path(role) for role in ("encoder", "decoder")}
        choices = Choices(self.settings.transposed, "tflite.transposed")
        known, dims = layouts.known(self.settings.layouts), artifact.checkpoint.dims
        if StageName.parse(artifact.stage).variant == KV:
            return ports.stepped(files, known, dims, choices)
        return ports.interface(files, known, dims, choices)

    def availability(self) -> Availability:
        """Needs an interpreter, LiteRT's or MediaTek's; the converters only when something is to be built."""
        installed = provenance.of(*INTERPRETERS)
        mtk, usable = self._probe_mtk()
        if not (installed or usable):
            reason = "no TFLite interpreter is installed: run `pip install ai-edge-litert`"
            return Availability(False, "; ".join([reason, *mtk]))
        converters = provenance.of("litert-torch", "ai-edge-quantizer")
        named = [f"{name} {version}" for name, version in {**installed, **converters}.items()]
        return Availability(True, ", ".join([*named, *mtk]))

    def tolerances(self) -> dict[str, dict[str, Any]]:
        """Limits of the edges to its stages."""
        return limits.of(limits.TOLERANCES, self.name)

    def gate_rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the gate for them."""
        return limits.of(limits.RULES, self.name)

    def source(self, variant: str) -> str | None:
        """litert-torch takes the checkpoint's modules, mtk_converter the TorchScript files; variants the fp32 file."""
        if variant in QUANTISED:
            return "tflite"
        return "torchscript" if self.settings.converter == "mtk" and variant != KV else "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the converted files.

        Raises:
            UnavailableError: MediaTek's converter was chosen and is not there.
        """
        if self.settings.converter == "mtk":
            from whisper_parity.backends.tflite.mediatek.mtk import QUANTIZE

            chosen = {"mtk_converter": self._mtk_version(), "mtk_converter options": QUANTIZE}
            return chosen | provenance.of_code(*MTK_CODE)
        packages = provenance.of("litert-torch", "litert-converter", "ai-edge-quantizer", "torch", "openai-whisper")
        dead = {} if self.settings.cached_cross else {"cached_cross": "left out"}
        return packages | provenance.of_code(*LITERT_CODE) | dead

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_80x3000.tflite, decoder_base_448.tflite, ...; with mtk_converter a record of what it did."""
        if variant == KV:
            return cached_names(checkpoint, ".tflite")
        names = tflite_names(checkpoint, "" if variant == "fp32" else variant)
        if self.settings.converter == "mtk" and variant not in QUANTISED:
            names["conversion"] = f"conversion_{checkpoint.name}.json"
        return names

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Have litert-torch imported, which takes seconds; MediaTek's converter has a process of its own."""
        if self.settings.converter != "litert":
            yield
            return
        with workers() as pool:
            pool.prepare(CONVERT)
            yield

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Convert, or quantise, both files in worker processes side by side.

        Raises:
            UnavailableError: the chosen converter is not there, or has no such variant.
            BuildError: it failed.
        """
        if self.settings.converter == "litert" or variant in QUANTISED:
            provenance.require_extra("litert", "ai-edge-quantizer" if variant in QUANTISED else "litert-torch")
        names = self.file_names(parent.checkpoint, variant)
        if self.settings.converter == "litert":
            build_files(parent, out, names, variant, options, cached_cross=self.settings.cached_cross)
            return
        if variant in (*QUANTISED, KV):
            raise UnavailableError(
                f"tflite:{variant} is made by LiteRT's tools, which have no MTKEXT ops",
                hint='Set converter = "litert" in [backends.tflite]',
            )
        from whisper_parity.backends.tflite.mediatek import mtk_build

        mtk_build.build_files(self.settings, parent, out, names)

    @contextmanager
    def open(
        self, artifact: Artifact, threads: int
    ) -> Iterator[TFLiteSession | SlottedSession | LastRow | MTKSession | FileProbe]:
        """Load both files, matching their inputs and outputs by name, shape and dtype, and the token embedding."""
        if StageName.parse(artifact.stage).variant == KV:
            with stepped.opened(self.settings, artifact, threads) as slotted:
                yield slotted
            return
        if wanted := taps.of_options(artifact.options, artifact.checkpoint.dims):
            from whisper_parity.backends.tflite import tapping

            with tapping.opened(self.settings, artifact, wanted, threads) as probe:
                yield probe
            return
        with opened(self.settings, artifact, threads) as session:
            yield session

    def looks_inside(self, artifact: Artifact) -> bool:
        """Its files, of whatever origin, are opened with taps as they are: copies of them show what is inside.

        Not those of a step with a KV cache, whose hidden states are of one token.
        """
        return StageName.parse(artifact.stage).variant != KV

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
        from whisper_parity.backends.tflite.mediatek import mtk

        if self._mtk is None:
            try:
                self._mtk = mtk.version(self.settings)
            except ParityError as error:
                self._mtk = error
        if isinstance(self._mtk, ParityError):
            raise self._mtk
        return self._mtk
