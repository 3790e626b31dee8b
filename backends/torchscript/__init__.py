"""Encoder and split-embedding decoder as TorchScript, traced at fixed shapes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from whisper_parity.backend import settings as reading
from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact, BuildOptions
from whisper_parity.backend.constants import Constant
from whisper_parity.backend.contract import Availability, Backend, Facts, Float32, Placement
from whisper_parity.backend.interface import Half, Interface
from whisper_parity.backend.layout import Fitted
from whisper_parity.backend.stage import StageName
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import provenance
from whisper_parity.backends.split.embedding import TokenEmbedding, constant, filled
from whisper_parity.backends.split.inside import FileProbe, lookup
from whisper_parity.backends.split.last_row import LastRow
from whisper_parity.backends.split.names import KV, cached_names, torchscript_names
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.backends.torchscript import given
from whisper_parity.backends.torchscript.scripts import LoadedScripts, Scripts, TapRequest, weight_shape
from whisper_parity.backends.torchscript.settings import Settings
from whisper_parity.errors import ArtifactError, BackendError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims
from whisper_parity.system.workers import Job, workers

TRACING = "whisper_parity.backends.torchscript.tracing"
"""The task of a worker."""
CPU_ONLY = "loaded with map_location cpu: nothing else was asked for"


class TorchScriptBackend:
    """`torch.jit.trace` of the split modules, run by the TorchScript interpreter."""

    name = "torchscript"
    after: str | None = "pytorch"
    variants: tuple[str, ...] = (KV,)
    is_root = False
    default_stages: tuple[str, ...] = ("torchscript",)
    packages: tuple[str, ...] = ("torch",)
    suffixes: tuple[str, ...] = (".pt", ".npy")

    settings_type = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        """Take the settings of this site; None for what the environment says when they are first needed."""
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """Those of this site."""
        self._settings = self._settings or reading.read(Settings, self.name, {})
        return self._settings

    def configured(self, settings: Settings) -> Backend:
        """The same with other settings."""
        return TorchScriptBackend(settings)

    def availability(self) -> Availability:
        """Needs torch, and openai-whisper to build."""
        return provenance.require("torch", "openai-whisper")

    def source(self, variant: str) -> str | None:
        """Traced from the checkpoint's modules."""
        return "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the traced graph."""
        code = provenance.of_code(
            "backends.split.modules", "backends.split.cached_modules", "backends.split.embedding",
            "backends.split.names", "backends.torchscript.tracing",
        )  # fmt: skip
        dead = {} if self.settings.cached_cross else {"cached_cross": "left out"}
        return provenance.of("torch", "openai-whisper") | code | dead

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_3000.pt, decoder_base_448.pt, ..."""
        return cached_names(checkpoint, ".pt") if variant == KV else torchscript_names(checkpoint)

    def recognise(self, path: Path, checkpoint: Checkpoint, variant: str) -> str | None:
        """The encoder takes one input, the decoder two; where a file holds weights, theirs are among them."""
        if path.suffix != ".pt":
            return None
        try:
            return given.role(self.settings, path, checkpoint.dims, stepped=variant == KV)
        except (ArtifactError, BackendError):
            return None

    def constants(self, path: Path) -> Sequence[Constant]:
        """Parameters, buffers and frozen constants, or the table of a .npy file."""
        from whisper_parity.backends.torchscript import constants

        return (constant(path),) if path.suffix == ".npy" else constants.read(path)

    def interface(self, artifact: Artifact) -> Interface | Fitted:
        """Found by running the files on zeros, in a confined child process: they state no shapes."""
        if is_cached(artifact):
            return given.read_stepped(self.settings, artifact)
        try:
            return given.read(self.settings, artifact)
        except ArtifactError as error:
            decoder = artifact.path("decoder")
            if self.recognise(decoder, artifact.checkpoint, KV) != "decoder":
                raise
            reason = f"{decoder}: this decoder takes as many inputs as one with a KV cache, not two"
            raise ArtifactError(reason, hint="Name the stage torchscript:kv") from error

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Trace both halves in a worker process.

        Raises:
            BuildError: it failed, crashed or took too long.
        """
        from whisper_parity.backends.split import embedding

        checkpoint = parent.checkpoint
        names = self.file_names(checkpoint, variant)
        source = str(parent.path("checkpoint").absolute())
        task = [TRACING, source, str(out.absolute()), json.dumps(names), repr(mask_value(options))]
        if variant == KV:
            task.append("kv" if self.settings.cached_cross else "kv without cached_cross")
        with workers() as pool, pool.doing([Job("checkpoint to TorchScript", out / names["decoder"], task)]):
            if variant == KV:
                embedding.write_of_cached(checkpoint, out)
                return
            embedding.write_of_checkpoint(checkpoint, out)
            embedding.write_metadata(checkpoint, out)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Have torch and openai-whisper imported in the process that traces."""
        with workers() as pool:
            pool.prepare([TRACING])
            yield

    @contextmanager
    def open(
        self, artifact: Artifact, threads: int
    ) -> Iterator[TorchScriptSession | SlottedSession | LastRow | FileProbe]:
        """Load both files and the token embedding, and hold their weights against the checkpoint's dimensions.

        Files that were given, with a lineage record or without, are loaded and run in a confined child process.
        """
        import torch

        torch.set_num_threads(threads)
        with self._scripts(artifact, threads) as (scripts, notes):
            dims = artifact.checkpoint.dims
            wanted = taps.of_options(artifact.options, dims)
            for component in wanted.components if wanted else taps.COMPONENTS:
                scripts.load(component, artifact.path(component), weight_shape(component, dims))
            if is_cached(artifact):
                yield self._slotted(artifact, scripts, notes)
                return
            interface = artifact.interface
            assert not isinstance(interface, Fitted)  # noqa: S101 - those of a KV cache were opened
            takes_ids = interface is not None and interface.takes_ids
            table = None if takes_ids else TokenEmbedding(artifact.path("token_embedding"), dims)
            session = TorchScriptSession(scripts, table, dims, interface, (*notes, *(table.notes if table else ())))
            if wanted is not None:
                yield session.inside(wanted)
                return
            yield LastRow(session, session.row) if interface and interface.last_row else session

    def looks_inside(self, artifact: Artifact) -> bool:
        """Its files, of whatever origin, are opened with taps as they are; not those of a step with a KV cache."""
        return not is_cached(artifact)

    def _slotted(self, artifact: Artifact, scripts: Scripts, notes: tuple[str, ...]) -> SlottedSession:
        """The session of a decoder with a KV cache: in the layout that was read, or the one that we build."""
        import torch

        fitted = artifact.interface
        if not isinstance(fitted, Fitted):
            fitted = own_form(artifact, len(scripts.inputs("decoder")))
        encode, steps = scripts.stepped(fitted)
        facts = Facts(f"{artifact.stage} (torch {torch.__version__})", notes, _on_cpu())
        return SlottedSession(fitted, artifact, encode, steps, facts)

    @contextmanager
    def _scripts(self, artifact: Artifact, threads: int) -> Iterator[tuple[Scripts, tuple[str, ...]]]:
        """Where an artifact's files are loaded, and what a reader of the report must know of it."""
        if artifact.origin != GIVEN:
            yield LoadedScripts(foreign=False), ()
            return
        files = [artifact.path(component) for component in ("encoder", "decoder") if component in artifact.files]
        with given.opened(self.settings, files, threads) as scripts:
            yield scripts, (scripts.note,)


class TorchScriptSession:
    """Two loaded files and the lookup between them."""

    def __init__(
        self, scripts: Scripts, table: TokenEmbedding | None, dims: Dims, interface: Interface | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Take the files, the table of a decoder that takes embeddings, and how given files take their numbers."""
        import torch

        self._scripts, self._table, self._dims, self._interface = scripts, table, dims, interface
        self.facts = Facts(_label(torch.__version__), notes, placement=_on_cpu())

    def usage(self) -> None:
        """It runs on this machine."""

    def inputs(self, component: str) -> list[str]:
        """Names of a file's inputs, as traced."""
        return self._scripts.inputs(component)

    def inside(self, wanted: Taps) -> FileProbe:
        """See `whisper_parity.backend.facets.Inspectable`."""
        label = f"{self.facts.label}, taps in the file itself"
        tapping = ScriptTaps(self._scripts, self._dims, self._interface)
        return FileProbe(label, wanted, self._dims, tapping, lookup(self._table), self._interface)

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, n_frames] -> float32 [1, n_audio_ctx, n_audio_state]."""
        if self._interface:
            return self._scripts.read("encoder", self._interface.encoder, [input_features], None)
        return self._scripts.rows("encoder", [input_features], None, self._dims.n_text_ctx)

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions."""
        arrays = [filled(tokens, self._table, self._dims.n_text_ctx), encoder_output]
        if self._interface is None:
            return self._scripts.rows("decoder", arrays, rows, self._dims.n_text_ctx)
        return self._scripts.read("decoder", self._interface.decoder, arrays, rows)[:, : self._dims.n_vocab]

    def row(self, tokens: Sequence[int], encoder_output: Float32) -> Float32:
        """Logits float32 [n_vocab] of what follows the tokens, of a decoder that gives the last row alone."""
        assert self._interface is not None  # noqa: S101 - it says so
        arrays = [filled(tokens, self._table, len(tokens)), encoder_output]
        return self._scripts.read("decoder", self._interface.decoder, arrays, [0])[0, : self._dims.n_vocab]


class ScriptTaps:
    """`Tapping` by the files that are loaded."""

    def __init__(self, scripts: Scripts, dims: Dims, interface: Interface | None = None) -> None:
        self._scripts, self._dims, self._interface = scripts, dims, interface

    def entire(self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        """See `Tapping`."""
        request = TapRequest(component, taps.ENTIRE, tuple(wanted), (), self._dims, self._half(component))
        return self._scripts.tapped(request, [*arrays.values()], [])

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, Float32]:
        """See `Tapping`."""
        request = TapRequest(component, taps.SINGLE, tuple(wanted), tuple(hidden), self._dims, self._half(component))
        return self._scripts.tapped(request, [*arrays.values()], [*hidden.values()])

    def _half(self, component: str) -> Half | None:
        return self._interface.half(component) if self._interface else None


def is_cached(artifact: Artifact) -> bool:
    """Whether a stage's decoder has a KV cache."""
    return StageName.parse(artifact.stage).variant == KV


def own_form(artifact: Artifact, inputs: int) -> Fitted:
    """The form of files that we built: with the two inputs that nothing reads, or without."""
    from whisper_parity.backends.split import layouts
    from whisper_parity.backends.split.fitting import usual

    whole = usual(layouts.ours(), artifact.checkpoint.dims)
    return replace(whole, inputs=whole.inputs[:inputs])


def _on_cpu() -> tuple[Placement, ...]:
    return tuple(Placement(role, "CPU", None, None, CPU_ONLY) for role in ("encoder", "decoder"))


def _label(version: str) -> str:
    return f"torchscript (torch {version})"


def mask_value(options: BuildOptions) -> float:
    """The causal mask's value: -inf as in openai-whisper, or a finite one for NPUs."""
    return float(options.get("mask_value") or -math.inf)
