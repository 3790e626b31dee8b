"""From the constants of a file to what it holds of the checkpoint: tensors by grade, differences, surplus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from whisper_parity.backend.constants import Constant
from whisper_parity.weights import kinds, layout, ordering, places, reference
from whisper_parity.weights.finding import Finder, Match
from whisper_parity.weights.fit import Grade
from whisper_parity.weights.kinds import Pair
from whisper_parity.weights.reference import TABLE
from whisper_parity.weights.result import Difference, FileWeights, Surplus

FOLDED = "folded into the next layer"
ELSEWHERE = "in a file of its own"
NEUTRAL = "neutral"
"""A gain of ones or a shift of zeros, which a file need not hold."""
MISPLACED = "misplaced"
FEW_LEVELS = 8
"""A constant with fewer distinct values among its samples is a mask or a filler, and no weights."""
BAD = (Grade.DIFFERS.value, Grade.ZERO.value, Grade.MISSING.value)
MINORITY = 0.25
"""Most of the quantised weights that "one layer has fewer bits" can be said of."""


def of_file(
    finder: Finder, constants: Sequence[Constant], role: str, name: str, elsewhere: frozenset[str] = frozenset()
) -> FileWeights:
    """Look a file up.

    Args:
        finder: of the checkpoint.
        constants: of the file.
        role: "encoder", "decoder", "token_embedding"; "" where nothing says what it is for.
        name: of the file.
        elsewhere: tensors that files beside it hold.
    """
    component = role if role in ("encoder", "decoder") else ""
    matches = ordering.settled(finder, finder.matches(constants, component))
    by_tensor: dict[str, list[Match]] = {}
    for match in matches:
        by_tensor.setdefault(match.target.tensor, []).append(match)
    wanted = _wanted(finder, role, by_tensor)
    grades = {tensor: _grade(finder, tensor, by_tensor) for tensor in wanted}
    grades |= {name: ELSEWHERE for name, grade in grades.items() if grade == Grade.MISSING.value and name in elsewhere}
    strangers = places.misplaced(finder, matches, component)
    differences = [*_misplaced(strangers), *_differences(finder, role, grades, by_tensor, strangers)]
    return FileWeights(
        role=role or _half(wanted),
        name=name,
        tensors=len(wanted),
        matrices=sum(len(finder.weights.shape(tensor)) > 1 for tensor in wanted),
        counts=_counts(grades.values()),
        differences=tuple(differences),
        surplus=tuple(_surplus(finder, constants, matches)),
        remarks=tuple(_remarks(finder, matches)),
    )


def _wanted(finder: Finder, role: str, by_tensor: dict[str, list[Match]]) -> tuple[str, ...]:
    """Tensors that the file has to hold: those of its half; without a role, of the halves that it holds most of."""
    if role in ("encoder", "decoder"):
        return finder.wanted(role)
    if role == "token_embedding":
        return (TABLE,)
    whole = [half for half in ("encoder", "decoder") if _share(finder.wanted(half), by_tensor) > 0.5]
    return tuple(tensor for half in whole for tensor in finder.wanted(half)) or tuple(
        tensor for tensor in finder.weights.names if tensor in by_tensor
    )


def _half(wanted: Sequence[str]) -> str:
    """The half whose tensors these are; "" for those of both, or none."""
    halves = {tensor.partition(".")[0] for tensor in wanted}
    return halves.pop() if len(halves) == 1 and len(wanted) > 1 else ""


def _share(wanted: Sequence[str], by_tensor: dict[str, list[Match]]) -> float:
    return sum(tensor in by_tensor for tensor in wanted) / len(wanted)


def _grade(finder: Finder, tensor: str, by_tensor: dict[str, list[Match]]) -> str:
    matches = by_tensor.get(tensor, ())
    if not matches:
        return _without(finder, tensor, by_tensor)
    worst = max((match.fit.grade for match in matches), key=lambda grade: grade.rank)
    if worst is Grade.BFLOAT16 and all(match.item.constant.dtype == "bfloat16" for match in matches):
        return str(worst.value)
    return str(worst.value if _is_covered(finder, tensor, matches) else Grade.MISSING.value)


def _is_covered(finder: Finder, tensor: str, matches: Iterable[Match]) -> bool:
    """Whether parts make up a tensor; positions may be cut to a shorter window or context."""
    if any(match.target.span is None for match in matches):
        return True
    if tensor.endswith("positional_embedding"):
        return True
    spans = {match.target.span for match in matches if match.target.span}
    axis = next(iter(spans)).axis
    return sum(span.stop - span.start for span in spans) == finder.weights.shape(tensor)[axis]


def _without(finder: Finder, tensor: str, by_tensor: dict[str, list[Match]]) -> str:
    """What became of a tensor that no constant is."""
    norm, _, kind = tensor.rpartition(".")
    layers = [layer for name, layer in finder.weights.norms() if name == norm]
    folded = [match for layer in layers for match in by_tensor.get(f"{layer}.weight", ()) if match.target.norm == norm]
    if layers and len(folded) == len(layers) and (kind == "weight" or _is_shift_folded(norm, layers, by_tensor)):
        return FOLDED
    values = finder.weights.values(tensor)
    is_gain = kind == "weight" and ("ln" in norm.rpartition(".")[2])
    if values.ndim == 1 and np.all(values == (1 if is_gain else 0)):
        return NEUTRAL
    return Grade.MISSING.value


def _is_shift_folded(norm: str, layers: Sequence[str], by_tensor: dict[str, list[Match]]) -> bool:
    """Whether every layer behind a norm has its shift in its bias; a key's adds the same to all scores, and may go."""
    return all(
        any(match.target.norm == norm for match in by_tensor.get(f"{layer}.bias", ()))
        for layer in layers
        if not layer.endswith(".key")
    )


def _counts(grades: Iterable[str]) -> dict[str, int]:
    order = [*(grade.value for grade in Grade), FOLDED, ELSEWHERE, NEUTRAL]
    counts = dict.fromkeys(order, 0)
    for grade in grades:
        counts[grade] += 1
    return {grade: count for grade, count in counts.items() if count}


def _misplaced(strangers: dict[str, Match]) -> Iterator[Difference]:
    for tensor, match in strangers.items():
        what = f"has the numbers of {match.target.tensor} in its place"
        yield Difference(
            tensor, reference.unit(tensor), MISPLACED, None, match.item.constant.key, what, match.target.tensor
        )


def _differences(
    finder: Finder, role: str, grades: dict[str, str], by_tensor: dict[str, list[Match]], strangers: dict[str, Match]
) -> Iterator[Difference]:
    moved = {match.target.tensor for match in strangers.values()}
    for tensor, grade in grades.items():
        unit = reference.unit(tensor, is_table=role == "token_embedding")
        matches = by_tensor.get(tensor, [])
        if grade == Grade.BFLOAT16.value and all(match.item.constant.dtype == "bfloat16" for match in matches):
            continue
        if grade not in (*BAD, Grade.BFLOAT16.value) or (tensor in moved and grade == Grade.MISSING.value):
            continue
        if grade == Grade.MISSING.value and tensor in strangers:
            continue
        worst = max(matches, key=lambda match: match.fit.grade.rank, default=None)
        if worst is None or grade == Grade.MISSING.value:
            yield Difference(tensor, unit, grade, None, "", _missing_words(tensor, matches))
        else:
            what = kinds.describe(_pair(finder, worst))
            yield Difference(tensor, unit, grade, worst.fit.snr_db, worst.item.constant.key, what)


def _missing_words(tensor: str, matches: Sequence[Match]) -> str:
    if matches:
        return f"is there in part only: {', '.join(str(match.target.span) for match in matches[: kinds.SHOWN])}"
    return "is lost: no constant holds it" if tensor.endswith("bias") else "is missing: no constant holds it"


def _pair(finder: Finder, match: Match) -> Pair:
    wanted = finder.weights.target(match.target)
    held = np.asarray(layout.arranged(match.item.of(match.item.constant.values()), match.order, wanted.shape))
    return Pair(match.target.tensor, wanted, held, match.fit, finder.weights.dims)


def _surplus(finder: Finder, constants: Sequence[Constant], matches: Iterable[Match]) -> Iterator[Surplus]:
    used = {match.item.constant.key for match in matches}
    for constant in constants:
        if constant.key in used or not constant.is_number or constant.stored.size < finder.weights.dims.n_text_state:
            continue
        flat = constant.stored.reshape(-1)[layout.positions(constant.stored.size)]
        if len(np.unique(flat)) >= FEW_LEVELS:
            yield Surplus(constant.key, constant.dtype, constant.shape)


def _remarks(finder: Finder, matches: Sequence[Match]) -> Iterator[str]:
    for match in matches:
        if match.target.span and match.target.tensor.endswith("embedding"):
            yield f"{match.target.tensor}: {match.target.span} of {finder.weights.shape(match.target.tensor)[0]}"
        if match.item.span and match.target.tensor == TABLE:
            yield f"{TABLE}: padded to {match.item.constant.shape[match.item.span.axis]} rows"
    yield from _fewer_bits(matches)
    yield from _turned(finder, matches)


def _fewer_bits(matches: Iterable[Match]) -> Iterator[str]:
    """Weights of a minority whose type has fewer bits than that of the others."""
    kept: dict[str, list[str]] = {}
    for match in matches:
        if match.item.constant.scales is not None:
            kept.setdefault(match.item.constant.dtype, []).append(match.target.tensor)
    total = sum(map(len, kept.values()))
    for dtype, tensors in kept.items():
        if len(tensors) <= MINORITY * total:
            names = ", ".join(tensors[: kinds.SHOWN])
            more = f" and {len(tensors) - kinds.SHOWN} more" if len(tensors) > kinds.SHOWN else ""
            yield f"{dtype}, unlike the other quantised weights: {names}{more}"


def _turned(finder: Finder, matches: Iterable[Match]) -> Iterator[str]:
    """Square weights of a minority that lie otherwise than the others."""
    lying: dict[bool, list[str]] = {False: [], True: []}
    for match in matches:
        shape = finder.weights.shape(match.target.tensor) if match.target.tensor in finder.names else ()
        if len(shape) == 2 and shape[0] == shape[1] and match.item.span is None and match.target.span is None:
            lying[match.order == (1, 0)].append(match.target.tensor)
    for is_turned, tensors in lying.items():
        others = len(lying[not is_turned])
        if tensors and len(tensors) <= MINORITY * others:
            state = "transposed" if is_turned else "not transposed"
            yield f"{state}, unlike the {others} other square weights: {', '.join(tensors[: kinds.SHOWN])}"
