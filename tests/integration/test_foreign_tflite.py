"""TFLite files that are foreign or in the wrong place: a row that says so, even where the interpreter dies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.givenfiles import Folder, replace


def changed_graph(path: Path, change: Callable[[Any], None]) -> None:
    """Change a TFLite file by its schema, so that it stays a valid flatbuffer."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    change(graph)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(graph.Pack(builder), b"TFL3")
    replace(path, bytes(builder.Output()))


def drop_inputs(graph: Any) -> None:
    """Leave every addition without its first input: LiteRT 2.x follows a null pointer there and dies.

    Not so a RESHAPE: its kernel looks first, and whether what runs before it dies depends on the memory.
    """
    for operator in graph.subgraphs[0].operators:
        if graph.operatorCodes[operator.opcodeIndex].deprecatedBuiltinCode == 0:  # ADD
            operator.inputs = [-1, *operator.inputs[1:]]


def foreign_operator(graph: Any) -> None:
    """An operator of MediaTek's."""
    code = graph.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
    code.customCode = b"MTKEXT_LAYER_NORMALIZATION"


def half_inputs(graph: Any) -> None:
    """An input of half as many frames."""
    subgraph = graph.subgraphs[0]
    subgraph.tensors[subgraph.inputs[0]].shape = [1, 80, 1500]


def broken_name(graph: Any) -> None:
    """Names that are not UTF-8."""
    for tensor in graph.subgraphs[0].tensors:
        tensor.name = b"\xff\xfe"


KILLS = (
    r"(running it once: its process died by signal 11 \(Segmentation fault\)|"
    r"Tensor at index 0 was optional but was expected)\). Is it complete"
)
"""What a read outside of an array does is not determined: mostly it kills, and now and then LiteRT sees it in time."""
NOT_LOADED = r"cannot be loaded as TFLite \("
BAD_GRAPHS: dict[str, tuple[Callable[[Any], None], str]] = {
    "kills the interpreter": (drop_inputs, NOT_LOADED + KILLS),
    "foreign operator": (
        foreign_operator,
        NOT_LOADED + r"Encountered unresolved custom op: MTKEXT_LAYER_NORMALIZATION",
    ),
    "another window": (
        half_inputs,
        r"outputs do not fit: expected encoder_output \[1, 750, 64\]; the file has .*1500, 64",
    ),
    "names that are no text": (broken_name, NOT_LOADED + "'utf-8' codec can't decode"),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_a_foreign_tflite_encoder_is_refused(artifacts: Folder, case: str):
    """A valid flatbuffer need not be a model; one that kills its interpreter does not kill the run."""
    change, said = BAD_GRAPHS[case]
    path = artifacts.file("tflite", "encoder")
    changed_graph(path, change)
    assert re.match(rf"{re.escape(str(path))}: {said}", artifacts.refused("tflite"))


def test_tflite_encoder_and_decoder_in_each_others_place_are_refused(artifacts: Folder):
    """A decoder has two inputs: they are listed."""
    encoder, decoder = artifacts.file("tflite", "encoder"), artifacts.file("tflite", "decoder")
    encoder.unlink()
    os.link(decoder, encoder)
    reason = artifacts.refused("tflite")
    assert reason.startswith(f"{encoder}: the encoder has 2 inputs where input_features are expected; it takes: ")
    assert "float32 [1, 448, 64]" in reason
    assert reason.endswith("Is it from the given checkpoint?")
