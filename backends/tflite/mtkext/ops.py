"""MediaTek's custom ops MTKEXT_*: their options, what is documented of them, and what has to be assumed.

Options are one flexbuffer map. It is read as it stands: a key that nobody documented is reported, never dropped.
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
"""Bytes of an op's options; the largest real one seen has 112."""
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
    """Its place among the operators of its subgraph."""
    inputs: tuple[int, ...]
    """Tensors of the subgraph; -1 for one that is left out."""
    outputs: tuple[int, ...]
    options: Mapping[str, Value]
    problem: str = ""
    """Why its options cannot be read."""
    subgraph: int = 0


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is not public and decides numbers; `KNOWN_FROM` says where each default comes from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    gelu: Literal["erf", "tanh"] = setting("erf", "what MTKEXT_GELU computes where its options do not say")
    gelu_option: str = setting(
        "approximate", "key of MTKEXT_GELU's options that asks for tanh when it is true; empty to let gelu decide alone"
    )
    layer_norm_order: Order = setting("x_axis_gamma_beta", "operands of MTKEXT_LAYER_NORMALIZATION")
    rms_norm_order: Order = setting("x_axis_gamma_beta", "operands of MTKEXT_RMS_NORMALIZATION")
    layer_norm_epsilon: float = setting(1e-5, "where the options do not hold one")
    rms_norm_epsilon: float = setting(2.0**-23, "where the options do not hold one")


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
    """One assumption that decided something in a file."""

    name: str
    """A field of `Assumptions`, or OP.key of an option that was missing."""
    value: Value
    known_from: str


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is documented."""

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
"""Documented options of each op that is known; a default of None is one of `Assumptions`."""


def custom_ops(model: Any) -> Iterator[Op]:
    """The custom ops of a `ModelT`, in order; one whose options cannot be read says why."""
    codes = enumerate(model.operatorCodes)
    custom = {number: tensors.op_name(code) for number, code in codes if tensors.is_custom(code)}
    for number, graph in enumerate(model.subgraphs):
        for index, operator in enumerate(graph.operators):
            if operator.opcodeIndex in custom:
                yield _op(custom[operator.opcodeIndex], operator, index, number)


def _op(name: str, operator: Any, index: int, subgraph: int) -> Op:
    found: Mapping[str, Value] = {}
    problem = ""
    try:
        found = options(operator.customOptions)
    except ValueError as error:
        problem = str(error)
    inputs, outputs = (tuple(int(each) for each in side) for side in (operator.inputs, operator.outputs))
    return Op(name, index, inputs, outputs, found, problem, subgraph)


def options(raw: Any) -> dict[str, Value]:
    """Read an op's options: numbers, text and flat vectors by key; nothing for no bytes.

    Args:
        raw: the bytes, or uint8 [n], or None.

    Raises:
        ValueError: not one flexbuffer map, cut short, nested, or larger than any op's.
    """
    content = b"" if raw is None else bytes(raw[: OPTIONS_LIMIT + 1])
    if not content:
        return {}
    if len(content) > OPTIONS_LIMIT:
        raise ValueError(f"options of more than {OPTIONS_LIMIT} bytes")
    try:
        return _map(content)
    except Exception as error:  # the library raises whatever its reads run into
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
    """A number, a text or a flat vector; a vector of vectors may hold itself, and no op needs one."""
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
    """A plain value; text also for a number that is not finite, which JSON cannot hold and no op can use."""
    if not (ref.IsNull or ref.IsBool or ref.IsNumeric or ref.IsString or ref.IsKey):
        raise ValueError("a nested value")
    found = ref.Value
    if isinstance(found, float) and not math.isfinite(found):
        return str(found)
    return found if found is None or isinstance(found, (bool, int, float)) else str(found)


def documented(op: Op, key: str) -> Value:
    """The value of a documented option, of its documented type; None when the options do not hold it.

    Raises:
        ValueError: a value of another type, or a number that is not finite.
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
    """Options of an op that nobody documented, nor is assumed."""
    known = set(OPTIONS.get(op.name, {}))
    if op.name == "MTKEXT_GELU":
        known.add(assumptions.gelu_option)
    return {key: value for key, value in op.options.items() if key not in known}


def readings(ops: Sequence[Op]) -> tuple[Assumptions, ...]:
    """All readings of a file with these custom ops that differ, the default first."""
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
        replace(Assumptions(), **{key: value for choice in chosen for key, value in choice.items()})
        for chosen in itertools.product(*choices)
    )


def _gelu_readings(with_option: int, count: int) -> list[dict[str, Any]]:
    """Those that differ: the kind means nothing where the option decides, the option nothing where it is absent."""
    plain: list[dict[str, Any]] = [{"gelu": "erf"}, {"gelu": "tanh"}]
    deaf = [{**reading, "gelu_option": ""} for reading in plain]
    if with_option == 0:
        return plain
    return (plain[:1] if with_option == count else plain) + deaf


def differences(assumptions: Assumptions) -> dict[str, Value]:
    """What a reading changes of the default."""
    default = Assumptions()
    found = {field.name: getattr(assumptions, field.name) for field in fields(Assumptions)}
    return {name: value for name, value in found.items() if value != getattr(default, name)}
