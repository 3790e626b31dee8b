"""Opened TFLite files of a decoder with a KV cache: in this process, or in a confined one that keeps the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.contract import Facts, Float32
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.backends.split.stepping import Core, Encode, Steps, encoded
from whisper_parity.backends.tflite import ports
from whisper_parity.backends.tflite.given import GivenGraph
from whisper_parity.backends.tflite.graph import Graph, Side, not_loaded
from whisper_parity.backends.tflite.session import ROLES, file_name, interpreter_module, loading, runnable_files
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import UnavailableError


@contextmanager
def opened(settings: Settings, artifact: Artifact, threads: int) -> Iterator[SlottedSession]:
    """Both files in LiteRT's interpreter, lowered where they need it.

    Raises:
        ArtifactError: a file that cannot be loaded or lowered, or that fits no layout.
        UnavailableError: the interpreter is not there, or MediaTek's was chosen.
    """
    if settings.interpreter == "mtk":
        raise UnavailableError(
            f"{artifact.stage} is run by LiteRT's interpreter", hint='Set interpreter = "auto" in [backends.tflite]'
        )
    module, runtime = interpreter_module()
    fitted, runnable = _fitted(settings, artifact), runnable_files(artifact, settings)
    lowered = any(file.lowered for file in runnable.values())
    files = [runnable[role].path for role in ROLES]
    with loading(settings, module, files, threads, foreign=artifact.origin == GIVEN or lowered) as load:
        graphs = [
            load(runnable[role].path, *_sides(fitted, role), name=file_name(artifact, role, runnable)) for role in ROLES
        ]
        encode, steps = _running(fitted, *graphs)
        notes = tuple(dict.fromkeys(file.note for file in runnable.values() if file.lowered))
        confined = (graphs[0].note,) if isinstance(graphs[0], GivenGraph) else ()
        label = f"{artifact.stage} ({runtime}{', MTKEXT lowered' if lowered else ''})"
        placement = tuple(graph.placement(role) for role, graph in zip(ROLES, graphs))
        facts = Facts(label, (*notes, *confined), placement)
        yield SlottedSession(fitted, artifact, encode, steps, facts)


def _fitted(settings: Settings, artifact: Artifact) -> Fitted:
    """As it was read from the given files, or is read from ours."""
    if isinstance(artifact.interface, Fitted):
        return artifact.interface
    files = {role: artifact.path(role) for role in ROLES}
    fitted = ports.stepped(files, layouts.known(settings.layouts), artifact.checkpoint.dims, Choices())
    if fitted is None:
        raise not_loaded(files["decoder"], "no TFLite file, or a damaged one")
    return fitted


def _sides(fitted: Fitted, role: str) -> tuple[Side, Side]:
    """Every input and output of a file by its key."""
    if role == "decoder":
        return {one.key: one.port for one in fitted.inputs}, {one.key: one.port for one in fitted.outputs}
    assert fitted.features is not None  # noqa: S101 - it was read with its encoder
    return {"input_features": fitted.features}, {one.key: one.port for one in fitted.encoder_outputs}


def _running(fitted: Fitted, encoder: Graph | GivenGraph, decoder: Graph | GivenGraph) -> tuple[Encode, Steps]:
    if isinstance(encoder, GivenGraph) and isinstance(decoder, GivenGraph):
        steps = decoder.steps(fitted, encoder)
        return steps.encode, steps
    assert isinstance(encoder, Graph)  # noqa: S101 - both are loaded in one place
    assert isinstance(decoder, Graph)  # noqa: S101
    return partial(_encode, fitted, encoder), Core(fitted, decoder.step)


def _encode(fitted: Fitted, encoder: Graph, input_features: Float32) -> dict[str, Float32]:
    assert fitted.features is not None  # noqa: S101 - it was read with its encoder
    return encoded(fitted, encoder.step([fitted.features.pack(input_features)]))
