"""MTKEXT ops replaced by built-in ones of the same meaning, so that any TFLite interpreter runs the file."""

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
    """What lowering a file did, and what it had to assume."""

    replaced: Mapping[str, int]
    """Custom ops by name."""
    assumptions: tuple[Used, ...]
    """Those that decided something in this file, defaults of missing options included."""
    unknown_options: Mapping[str, Mapping[str, Value]]
    """By op: option keys that nobody documented, with the first value seen; they were ignored."""
    notes: tuple[str, ...]
    """What else a reader must know: quantised ops that are computed in float32."""
    seconds: float


def lower(source: Path, target: Path, assumptions: Assumptions = Assumptions()) -> Lowered:  # noqa: B008 - frozen
    """Write a file without MTKEXT ops; everything else in it stays: description, names, signatures, weights.

    Args:
        source: the .tflite file.
        target: where to write; replaced in one step.
        assumptions: what is not public of these ops.

    Raises:
        ArtifactError: not a TFLite file, a custom op that is not known, or one whose operands or options do not fit.
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
    """Put each op's replacement where it stood: the order of operators is the order in which they run."""
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
    names = [tensors.described(graph.tensors[index]) if index >= 0 else "none" for index in op.inputs[:8]]
    more = f" and {len(op.inputs) - 8} more" if len(op.inputs) > 8 else ""
    return f"inputs: {', '.join(names) or 'none'}{more}; options: {', '.join(op.options) or 'none'}"


def _unknown(ops: tuple[Op, ...], assumptions: Assumptions) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for op in ops:
        for key, value in mtkext.unknown(op, assumptions).items():
            found.setdefault(op.name, {}).setdefault(key, value)
    return found


def _drop_unused_codes(model: Any) -> None:
    """Interpreters resolve every operator code of a file, used or not."""
    used = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    places = {old: new for new, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[old] for old in used]
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = places[operator.opcodeIndex]
