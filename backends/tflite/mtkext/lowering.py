"""Replace MTKEXT ops by equivalent built-in ones, so that any TFLite interpreter runs the file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.backends.tflite.mtkext import flatfile, tensors
from whisper_parity.backends.tflite.mtkext import ops as mtkext
from whisper_parity.backends.tflite.mtkext.ops import Assumptions, Op, Used, Value
from whisper_parity.backends.tflite.mtkext.recipes import RECIPES
from whisper_parity.backends.tflite.mtkext.rewriting import Ledger, MisfitError, Rewriter
from whisper_parity.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Lowered:
    """What lowering a file changed and assumed."""

    replaced: Mapping[str, int]
    """Custom ops by name."""
    assumptions: tuple[Used, ...]
    """Those that affected this file, including defaults of missing options."""
    unknown_options: Mapping[str, Mapping[str, Value]]
    """By op: undocumented option keys with the first value seen; they were ignored."""
    notes: tuple[str, ...]
    """Other remarks: quantised ops that are computed in float32."""
    seconds: float


def lower(source: Path, target: Path, assumptions: Assumptions = Assumptions()) -> Lowered:  # noqa: B008 - frozen
    """Write a copy without MTKEXT ops; description, names, signatures and weights stay.

    Args:
        source: the .tflite file.
        target: where to write; replaced atomically.
        assumptions: about what is not public of these ops.

    Raises:
        ArtifactError: not a TFLite file, an unknown custom op, or one with invalid operands or options.
        OutputError: the target cannot be written.
    """
    started = time.monotonic()
    if target.exists() and target.samefile(source):
        raise ArtifactError(f"{target}: would be written over its source", hint="Name another file")
    model = flatfile.read(source)
    ops, ledger = tuple(mtkext.custom_ops(model)), Ledger(assumptions)
    for number, graph in enumerate(model.subgraphs):
        _replace(source, model, graph, {op.index: op for op in ops if op.subgraph == number}, ledger)
    _drop_unused_codes(model)
    flatfile.write(model, target)
    return Lowered(
        replaced=dict(sorted(Counter(op.name for op in ops).items())),
        assumptions=tuple(ledger.used.values()),
        unknown_options=_unknown(ops, assumptions),
        notes=tuple(ledger.notes),
        seconds=time.monotonic() - started,
    )


def _replace(source: Path, model: Any, graph: Any, ops: Mapping[int, Op], ledger: Ledger) -> None:
    """Put each op's replacement in its place: operators run in file order."""
    operators: list[Any] = []
    for index, operator in enumerate(graph.operators):
        operators += _replacement(source, model, graph, ops[index], ledger) if index in ops else [operator]
    graph.operators = operators


def _replacement(source: Path, model: Any, graph: Any, op: Op, ledger: Ledger) -> list[Any]:
    rewriter = Rewriter(model, graph, op, ledger)
    try:
        if op.name not in RECIPES:
            raise MisfitError(f"not a custom op that can be lowered; known: {', '.join(RECIPES)}")
        if op.problem:
            raise MisfitError(op.problem)
        RECIPES[op.name](rewriter)
    except MisfitError as error:
        raise ArtifactError(
            f"{source}: operator {op.index} {op.name}: {error}; {_operands(graph, op)}",
            hint="MediaTek's interpreter runs the file as it is",
        ) from error
    return rewriter.operators


def _operands(graph: Any, op: Op) -> str:
    """An op's inputs and option keys, for messages."""
    names = [tensors.describe(graph.tensors[index]) if index >= 0 else "none" for index in op.inputs[:8]]
    more = f" and {len(op.inputs) - 8} more" if len(op.inputs) > 8 else ""
    return f"inputs: {', '.join(names) or 'none'}{more}; options: {', '.join(op.options) or 'none'}"


def _unknown(ops: tuple[Op, ...], assumptions: Assumptions) -> dict[str, dict[str, Value]]:
    unknown_options: dict[str, dict[str, Value]] = {}
    for op in ops:
        for key, value in mtkext.unknown(op, assumptions).items():
            unknown_options.setdefault(op.name, {}).setdefault(key, value)
    return unknown_options


def _drop_unused_codes(model: Any) -> None:
    """Remove unused operator codes, which interpreters would have to resolve too."""
    used = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    new_indices = {old: new for new, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[old] for old in used]
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = new_indices[operator.opcodeIndex]
