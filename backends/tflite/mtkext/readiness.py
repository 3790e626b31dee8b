"""Whether an NPU takes a TFLite file: one sentence from what was found in it, for one SoC."""

from __future__ import annotations

from whisper_parity.backends.tflite.mtkext.inspection import RANK_LARGEST, REFUSED, FatalConstant, Inspection
from whisper_parity.backends.tflite.mtkext.recipes import RECIPES

KNOWN_ARCH = "mdla5.3"
"""The engine whose ops are known, as ncc-tflite names it."""


def sentence(content: Inspection, soc: str, arch: str) -> str:
    """The verdict for a SoC, with what to do.

    Args:
        content: of the file.
        soc: its code.
        arch: its engines, as ncc-tflite takes them.
    """
    if not arch.startswith(KNOWN_ARCH):
        return f"ready for {soc}: not known: what an NPU refuses is known for {KNOWN_ARCH} alone, and it has {arch}"
    found = (*_ops(content), *_constants(content))
    if found:
        advice = f"; {MASK_ADVICE}" if any(map(is_mask, content.fatal_constants)) else ""
        return f"ready for {soc}: no: {', '.join(found)}{advice}"
    if content.unread:
        return f"ready for {soc}: not known: {_counted(len(content.unread), 'constant')} could not be read"
    return f"ready for {soc}: yes, as far as is known without ncc-tflite, which has the last word"


MASK_ADVICE = "build it with --mask-value -10000, or with that number in the mask of your own exporter"


def is_mask(constant: FatalConstant) -> bool:
    """Whether a constant is a mask by its values: 0 where something is seen, else what float16 makes -inf of."""
    return constant.largest == 0 and bool(constant.beyond + constant.minus_inf) and not constant.plus_inf + constant.nan


def _ops(content: Inspection) -> list[str]:
    """What the NPU does not run or take."""
    refused = [name for name in content.ops if name in REFUSED]
    ids = [port.name for port in content.inputs if port.dtype in ("int32", "int64")]
    custom = sorted({op.name for op in content.custom_ops if op.problem or op.name not in RECIPES})
    parts = [f"{_counted(len(refused), 'op')} that it does not run ({', '.join(refused)})"] if refused else []
    parts += [f"token ids as input ({', '.join(ids)}): look them up outside"] if ids else []
    parts += [f"{_counted(len(custom), 'custom op')} not understood ({', '.join(custom)})"] if custom else []
    wide = content.wide_tensors
    return parts + ([f"{_counted(wide, 'tensor')} of more than {RANK_LARGEST} axes"] if wide else [])


def _constants(content: Inspection) -> list[str]:
    masks = sum(map(is_mask, content.fatal_constants))
    others = len(content.fatal_constants) - masks
    parts = [f"{_counted(masks, 'mask')} beyond float16"] if masks else []
    return parts + ([f"{_counted(others, 'constant')} beyond float16"] if others else [])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
