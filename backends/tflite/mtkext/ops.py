"""MediaTek's custom ops MTKEXT_*: their options, documented or assumed.

Options are one flexbuffer map, read as it is: an undocumented key is reported, never dropped.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from whisper_parity.backend.settings import setting
from whisper_parity.backends.tflite.mtkext import tensors
from whisper_parity.errors import first_line

PREFIX = "MTKEXT_"
OPTIONS_LIMIT = 65536
"""Bytes of an op's options; the largest seen in a real file is 112."""
KEYS_LIMIT = 64
ELEMENTS_LIMIT = 1024

Value = bool | int | float | str | tuple[Any, ...] | None
Order = Literal["x_axis_gamma_beta", "x_gamma_beta_axis", "x_axis_beta_gamma"]
ORDERS: tuple[Order, ...] = ("x_axis_gamma_beta", "x_gamma_beta_axis", "x_axis_beta_gamma")


@dataclass(frozen=True, slots=True)
class Op:
    """A custom op of a file."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"ser_json_inf_nan": "strings"}

    name: str
    index: int
    """Its position among the operators of its subgraph."""
    inputs: tuple[int, ...]
    """Tensors of the subgraph; -1 for an omitted one."""
    outputs: tuple[int, ...]
    options: Mapping[str, Value]
    problem: str = ""
    """Why its options cannot be read, else ""."""
    subgraph: int = 0


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is not public but affects the numbers; `KNOWN_FROM` gives the source of each default."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    gelu: Literal["erf", "tanh"] = setting("erf", "what MTKEXT_GELU computes if its options do not specify it")
    gelu_option: str = setting(
        "approximate", "option key of MTKEXT_GELU that selects tanh when true; empty to use gelu alone"
    )
    layer_norm_order: Order = setting("x_axis_gamma_beta", "operand order of MTKEXT_LAYER_NORMALIZATION")
    rms_norm_order: Order = setting("x_axis_gamma_beta", "operand order of MTKEXT_RMS_NORMALIZATION")
    layer_norm_epsilon: float = setting(1e-5, "if the options do not contain one")
    rms_norm_epsilon: float = setting(2.0**-23, "if the options do not contain one")


KNOWN_FROM = {
    "gelu": "inferred: Whisper's models use erf; the NPU's own GELU may be tanh (docs/mediatek.md)",
    "gelu_option": "a guess: the option key is not public; named as in the built-in op",
    "layer_norm_order": "inferred from MTKEXT_RMS_NORMALIZATION and the Neuron Adapter's operands; no real file seen",
    "rms_norm_order": "public converter code (MNN)",
    "layer_norm_epsilon": "the default of torch.nn.LayerNorm, and Whisper's",
    "rms_norm_epsilon": "float32's machine epsilon: torch.nn.RMSNorm's default, and LiteRT's MediaTek plugin's",
}
"""Where each assumption comes from."""


@dataclass(frozen=True, slots=True)
class Used:
    """One assumption that affected a file."""

    name: str
    """A field of `Assumptions`, or OP.key of a missing option."""
    value: Value
    known_from: str


@dataclass(frozen=True, slots=True)
class Option:
    """A documented option."""

    kind: type
    default: Value
    known_from: str


_SCHEMA = "missing; the built-in op's meaning of none"
_ACTIVATION = {"fused_activation_function": Option(int, 0, _SCHEMA)}
_EPSILON = {"epsilon": Option(float, None, "")}

OPTIONS: dict[str, dict[str, Option]] = {
    "MTKEXT_CONV_2D": {
        **{key: Option(int, 1, _SCHEMA) for key in ("stride_w", "stride_h", "dilation_w_factor", "dilation_h_factor")},
        "padding": Option(int, 0, "missing; SAME, the schema's default"),
        **_ACTIVATION,
    },
    "MTKEXT_FULLY_CONNECTED": {**_ACTIVATION, "keep_num_dims": Option(bool, False, "missing; the schema's default")},
    "MTKEXT_GELU": {},
    "MTKEXT_LAYER_NORMALIZATION": _EPSILON,
    "MTKEXT_RMS_NORMALIZATION": _EPSILON,
    "MTKEXT_RSQRT": {},
    "MTKEXT_SILU": {},
    "MTKEXT_SQUARED_DIFFERENCE": {},
    "MTKEXT_TILE": {},
}
"""Documented options of each known op; a default of None means that `Assumptions` has it."""


def custom_ops(model: Any) -> Iterator[Op]:
    """The custom ops of a `ModelT`, in order; `problem` explains unreadable options."""
    codes = enumerate(model.operatorCodes)
    custom = {number: tensors.op_name(code) for number, code in codes if tensors.is_custom(code)}
    for number, graph in enumerate(model.subgraphs):
        for index, operator in enumerate(graph.operators):
            if operator.opcodeIndex in custom:
                yield _op(custom[operator.opcodeIndex], operator, index, number)


def _op(name: str, operator: Any, index: int, subgraph: int) -> Op:
    op_options: Mapping[str, Value] = {}
    problem = ""
    try:
        op_options = options(operator.customOptions)
    except ValueError as error:
        problem = str(error)
    inputs, outputs = (tuple(int(tensor) for tensor in side) for side in (operator.inputs, operator.outputs))
    return Op(name, index, inputs, outputs, op_options, problem, subgraph)


def options(raw: Any) -> dict[str, Value]:
    """Parse an op's options: numbers, text and flat vectors by key; empty for no bytes.

    Args:
        raw: the bytes, or uint8 [n], or None.

    Raises:
        ValueError: not a flexbuffer map, truncated, nested, or larger than any op's.
    """
    content = b"" if raw is None else bytes(raw[: OPTIONS_LIMIT + 1])
    if not content:
        return {}
    if len(content) > OPTIONS_LIMIT:
        raise ValueError(f"options of more than {OPTIONS_LIMIT} bytes")
    try:
        return _map(content)
    except Exception as error:  # the library's reads may raise anything
        raise ValueError(f"options that are not a flexbuffer map ({first_line(error)})") from error


def _map(content: bytes) -> dict[str, Value]:
    from flatbuffers import flexbuffers  # type: ignore[import-untyped,unused-ignore]

    root = flexbuffers.GetRoot(content)
    if not root.IsMap:
        raise ValueError("the root is no map")
    entries = root.AsMap
    keys, values = entries.Keys, entries.Values
    if len(keys) != len(values) or len(keys) > KEYS_LIMIT:
        raise ValueError(f"{len(keys)} keys and {len(values)} values")
    names = [keys[number].AsKey for number in range(len(keys))]
    if names != sorted(set(names)) or not all(re.fullmatch(r"[A-Za-z0-9_.:/-]{1,128}", name) for name in names):
        raise ValueError("its keys are not sorted names")
    return {name: _value(values[number]) for number, name in enumerate(names)}


def _value(ref: Any) -> Value:
    """A scalar or a flat vector. Nested vectors are refused: one may contain itself, and no op needs them."""
    if ref.IsTypedVector or ref.IsFixedTypedVector:
        vector = ref.AsTypedVector if ref.IsTypedVector else ref.AsFixedTypedVector
        _limit(len(vector))
        return tuple(vector.Value)
    if ref.IsVector and not ref.IsMap:
        vector = ref.AsVector
        _limit(len(vector))
        return tuple(_scalar(vector[number]) for number in range(len(vector)))
    return _scalar(ref)


def _limit(count: int) -> None:
    if count > ELEMENTS_LIMIT:
        raise ValueError(f"a vector of {count} elements")


def _scalar(ref: Any) -> Value:
    """A scalar; a non-finite number becomes text, since JSON cannot hold it and no op can use it."""
    if not (ref.IsNull or ref.IsBool or ref.IsNumeric or ref.IsString or ref.IsKey):
        raise ValueError("a nested value")
    value = ref.Value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def documented(op: Op, key: str) -> Value:
    """The value of a documented option in its documented type; None if it is missing.

    Raises:
        ValueError: a value of another type, or a non-finite number.
    """
    if key not in op.options:
        return None
    value, kind = op.options[key], OPTIONS[op.name][key].kind
    if kind is bool and value in (0, 1):
        return bool(value)
    if kind is float and type(value) in (int, float) and math.isfinite(float(value)):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    if kind is int and type(value) is int:
        return value
    raise ValueError(f"option {key}: expected {kind.__name__}, found {value!r:.60}")


def unknown(op: Op, assumptions: Assumptions) -> dict[str, Value]:
    """Options of an op that are neither documented nor assumed."""
    known_keys = set(OPTIONS.get(op.name, {}))
    if op.name == "MTKEXT_GELU":
        known_keys.add(assumptions.gelu_option)
    return {key: value for key, value in op.options.items() if key not in known_keys}


def readings(ops: Sequence[Op]) -> tuple[Assumptions, ...]:
    """The distinct readings of a file with these custom ops, the default first."""
    names = {op.name for op in ops}
    choices: list[list[dict[str, Any]]] = []
    if gelus := [op for op in ops if op.name == "MTKEXT_GELU"]:
        choices.append(_gelu_readings(sum(Assumptions().gelu_option in op.options for op in gelus), len(gelus)))
    for name, field in (
        ("MTKEXT_LAYER_NORMALIZATION", "layer_norm_order"),
        ("MTKEXT_RMS_NORMALIZATION", "rms_norm_order"),
    ):
        if name in names:
            choices.append([{field: order} for order in ORDERS])
    return tuple(
        replace(Assumptions(), **{key: value for choice in combination for key, value in choice.items()})
        for combination in itertools.product(*choices)
    )


def _gelu_readings(with_option: int, count: int) -> list[dict[str, Any]]:
    """Distinct readings: `gelu` has no effect where the option decides, nor the option where it is absent."""
    by_kind: list[dict[str, Any]] = [{"gelu": "erf"}, {"gelu": "tanh"}]
    ignoring_option = [{**reading, "gelu_option": ""} for reading in by_kind]
    if with_option == 0:
        return by_kind
    return (by_kind[:1] if with_option == count else by_kind) + ignoring_option


def differences(assumptions: Assumptions) -> dict[str, Value]:
    """Differences of a reading from the default."""
    default = Assumptions()
    values = {field.name: getattr(assumptions, field.name) for field in fields(Assumptions)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}
