"""What a look-up says, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from whisper_parity.weights import reference
from whisper_parity.weights.fit import Grade
from whisper_parity.weights.lookup import MISPLACED
from whisper_parity.weights.result import Difference, FileWeights

MOST = 0.8
"""Part of a file's tensors from which on it is said of the file, and not of each tensor."""
VECTOR = re.compile(r"bias$|ln(_post)?\.weight$")
SHOWN = 6
"""Units of a file of which tensors are named."""
FEW = 2
"""Tensors of a unit that are named one by one."""


def of_files(checkpoint: str, files: Sequence[FileWeights]) -> tuple[str, ...]:
    """What differs, file by file, the total behind it; the total alone when all is well."""
    return (*(line for file in files for line in _differences(checkpoint, file)), *_total(checkpoint, files))


def named(difference: Difference) -> str:
    """One difference as a sentence."""
    return f"{difference.tensor} {difference.what}"


def _total(checkpoint: str, files: Sequence[FileWeights]) -> Iterator[str]:
    counted = [file for file in files if not file.unread and file.role in ("encoder", "decoder", "")]
    counted = counted or [file for file in files if not file.unread]
    if total := sum(file.tensors for file in counted):
        good = total - len({difference.tensor for file in files for difference in file.differences})
        counts: dict[str, int] = {}
        for file in counted:
            for grade, count in file.counts.items():
                counts[grade] = counts.get(grade, 0) + count
        kept = {grade: count for grade, count in counts.items() if not _is_bad(grade)}
        how = next(iter(kept)) if len(kept) == 1 else ", ".join(f"{count} {grade}" for grade, count in kept.items())
        beside = [file for file in files if file not in counted and not file.unread and file.is_good and file.tensors]
        tables = "".join(f"; {file.name}: {', '.join(file.counts)}" for file in beside)
        separator = ", " if len(kept) == 1 else ": "
        yield f"{good} of {total} tensors of {checkpoint}{separator if kept else ''}{how}{tables}"
    elif counted:
        yield f"no constant is a tensor of {checkpoint}"
    yield from (f"{file.name}: {file.unread}" for file in files if file.unread)


def _is_bad(grade: str) -> bool:
    return grade in (Grade.DIFFERS.value, Grade.ZERO.value, Grade.MISSING.value)


def _differences(checkpoint: str, file: FileWeights) -> Iterator[str]:
    left = list(file.differences)
    for take in (_absent, _everywhere, _brain, _swapped):
        sentence, taken = take(checkpoint, file, left)
        if sentence:
            yield f"{file.name}: {sentence}"
            left = [difference for difference in left if difference not in taken]
    yield from (f"{file.name}: {line}" for line in _by_unit(left))
    if file.surplus and left:
        first = file.surplus[0]
        count = f"{len(file.surplus)} constants look" if len(file.surplus) > 1 else "one constant looks"
        shape = f"{first.dtype} {list(first.shape)}"
        yield f"{file.name}: {count} like weights and are no tensor of {checkpoint}: {first.constant}, {shape}"
    yield from (f"{file.name}: {remark}" for remark in file.remarks)


def _by_unit(left: Sequence[Difference]) -> Iterator[str]:
    """Each difference of a unit with few of them, the first one of others, and the units that are left."""
    units: dict[str, list[Difference]] = {}
    for difference in left:
        units.setdefault(difference.unit, []).append(difference)
    shown = list(units.values())[:SHOWN]
    for entries in shown:
        few = entries if len(entries) <= FEW else entries[:1]
        yield from (named(difference) for difference in few[:-1])
        more = len(entries) - len(few)
        yield named(few[-1]) + (f", and {more} tensors more of {few[-1].unit}" if more else "")
    if others := list(units)[len(shown) :]:
        yield f"and {len(left) - sum(map(len, shown))} tensors more, in {', '.join(others)}"


def _absent(checkpoint: str, file: FileWeights, left: Sequence[Difference]) -> tuple[str, list[Difference]]:
    """Hardly any tensor is there."""
    missing = [difference for difference in left if difference.grade == Grade.MISSING.value]
    if len(missing) < MOST * max(1, file.tensors):
        return "", []
    held = (
        f"; its {len(file.surplus)} constants that look like weights are none of {checkpoint}" if file.surplus else ""
    )
    return f"{len(missing)} of {file.tensors} tensors of {checkpoint} are not in it{held}", missing


def _everywhere(checkpoint: str, file: FileWeights, left: Sequence[Difference]) -> tuple[str, list[Difference]]:
    """Nearly every matrix differs, and is there: another state of training, or noise."""
    differing = [difference for difference in left if difference.grade == Grade.DIFFERS.value]
    matrices = [difference for difference in differing if not VECTOR.search(difference.tensor)]
    if file.matrices < FEW or len(matrices) < MOST * file.matrices:
        return "", []
    levels = sorted(difference.snr_db for difference in matrices if difference.snr_db is not None)
    span = f"by {levels[0]:.0f} to {levels[-1]:.0f} dB (median {levels[len(levels) // 2]:.0f})"
    lost = [entry for entry in left if entry.grade == Grade.MISSING.value and VECTOR.search(entry.tensor)]
    beside = f", {len(lost)} biases, gains or shifts are not recognised" if lost else ""
    words = f"{len(differing)} of {file.tensors} tensors differ, {len(matrices)} of {file.matrices} matrices {span}"
    return f"{words}{beside}: not the weights of {checkpoint}", [*differing, *lost]


def _brain(_checkpoint: str, _file: FileWeights, left: Sequence[Difference]) -> tuple[str, list[Difference]]:
    rounded = [difference for difference in left if difference.grade == Grade.BFLOAT16.value]
    if len(rounded) <= FEW:
        return "", []
    return (
        f"{len(rounded)} tensors are rounded to bfloat16, which the type that they are stored in does not say",
        rounded,
    )


def _swapped(_checkpoint: str, _file: FileWeights, left: Sequence[Difference]) -> tuple[str, list[Difference]]:
    """Whole units in each other's place."""
    moves: dict[tuple[str, str], list[Difference]] = {}
    for difference in left:
        if difference.grade == MISPLACED:
            moves.setdefault((difference.unit, reference.unit(difference.source)), []).append(difference)
    whole = {move: entries for move, entries in moves.items() if len(entries) > 1 and move[0] != move[1]}
    words = [f"{there} has the weights of {source}" for there, source in whole]
    return "; ".join(words), [difference for entries in whole.values() for difference in entries]
