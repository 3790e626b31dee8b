"""`parity inspect` and `parity mtk-check`: what a TFLite file holds, and how its custom ops are to be read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisper_parity.errors import UnavailableError
from whisper_parity.system import cores
from whisper_parity.system.terminal import document, line, say, stdout

if TYPE_CHECKING:
    from whisper_parity.backends.tflite.mediatek.checking import Fit
    from whisper_parity.backends.tflite.mediatek.mtk import Executor
    from whisper_parity.backends.tflite.mtkext.inspection import Inspection
    from whisper_parity.backends.tflite.mtkext.ops import Op

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SHOWN = 20
"""Lines of a list on the terminal; --json has all of them."""


@click.command()
@click.argument("file", type=FILE)
@click.option("--soc", metavar="CODE", help="SoC of the verdict [that of parity.toml, else MT8371]")
@click.option("--json", "as_json", is_flag=True, help="everything, as JSON")
def inspect(file: Path, soc: str | None, as_json: bool) -> None:
    """Say what a TFLite file holds, and what an NPU minds of it: custom ops, constants beyond float16, token inputs.

    The last line is the verdict for a SoC.
    """
    from whisper_parity.backends.tflite.mtkext import inspection, readiness
    from whisper_parity.system import serial

    content = inspection.inspect(file)
    if as_json:
        document(serial.dumps(content))
        return
    verdict = readiness.sentence(content, *_target(soc))
    console = stdout()
    for name, value in _facts(content):
        line(console, f"{name:<12} {value}".rstrip(), indent=13)
    line(console, verdict)


@click.command("mtk-check")
@click.argument("file", type=FILE)
@click.option("--seed", type=click.IntRange(0), default=0, help="of the made-up inputs [0]")
@click.option("--json", "as_json", is_flag=True, help="the result as JSON")
def mtk_check(file: Path, seed: int, as_json: bool) -> None:
    """Hold every reading of a file's MTKEXT ops against MediaTek's interpreter, and say which one fits.

    Exit codes: 0 the default reading fits, 1 another one does or none, 3 MediaTek's interpreter is not there.
    """
    from whisper_parity.backends.tflite.mediatek import checking
    from whisper_parity.backends.tflite.mtkext import inspection
    from whisper_parity.backends.tflite.mtkext import ops as mtkext
    from whisper_parity.system import serial

    ports = inspection.inspect(file).inputs
    candidates = [_words(mtkext.differences(reading)) for reading in checking.readings(file)]
    if not as_json:
        for words in candidates:
            say(f"reading      {words}")
    try:
        with executor(file) as reference:

            def execute(arrays: list[Any]) -> Sequence[Any]:
                return reference.run("file", arrays, None)

            fits = checking.check(file, ports, execute, seed, cores.available())
            label = f"mtk {reference.version}"
    except UnavailableError as error:
        hint = "The readings above are what would be tried" if not as_json else error.hint
        raise UnavailableError(f"nothing was checked: {error}", hint=hint) from error
    if as_json:
        document(serial.dumps(checking.Checked(str(file), label, seed, fits)))
    else:
        for line in _lines(fits, label):
            say(line)
    sys.exit(0 if any(fit.fits and not fit.changes for fit in fits) else 1)


def executor(file: Path) -> AbstractContextManager[Executor]:
    """MediaTek's interpreter with a file loaded under the name "file", as parity.toml and the environment say.

    Raises:
        ConfigError: [backends.tflite] cannot be used, or is not trusted.
        UnavailableError: it is not there.
    """
    from whisper_parity import project
    from whisper_parity.backend import registry
    from whisper_parity.backends.tflite import settings as reading
    from whisper_parity.backends.tflite.mediatek import mtk

    site = project.find()
    table = site.backends.get("tflite", {})
    registry.require_trust(site)
    return mtk.executor(reading.read(table), {"file": file}, foreign=True)


def _target(code: str | None) -> tuple[str, str]:
    """A SoC's code and its engines: the one that was named, that of parity.toml, or the default.

    Raises:
        ConfigError: no such SoC, or settings that cannot be used.
    """
    from whisper_parity import project
    from whisper_parity.backends.dla import settings
    from whisper_parity.backends.dla import soc as profiles

    own = settings.read(project.find().backends.get("dla", {}))
    chosen = profiles.named(code) if code else own.profile
    return chosen.code, chosen.arch


def _words(changes: Mapping[str, Any]) -> str:
    """A reading in words: what parity.toml would have to say."""
    return ", ".join(f'{name} = "{value}"' for name, value in changes.items()) or "default"


def _lines(fits: Sequence[Fit], label: str) -> list[str]:
    lines = []
    for fit in fits:
        measured = fit.problem or f"SNR {fit.snr_db:.1f} dB, largest difference {fit.max_abs_err:.2e}"
        lines.append(f"{'fits' if fit.fits else 'differs':<12} {_words(fit.changes)}: {measured}")
    good = [fit for fit in fits if fit.fits]
    alike = [fit for fit in good if fit.snr_db == good[0].snr_db]
    if not good:
        return [*lines, f"no reading computes what {label} computes"]
    if len(alike) > 1:
        names = "; ".join(_words(fit.changes) for fit in alike)
        return [*lines, f"{len(alike)} readings compute the same on this file, what {label} computes: {names}"]
    return [*lines, f"{_words(good[0].changes)} computes what {label} computes"]


def _facts(content: Inspection) -> list[tuple[str, str]]:
    """The report's lines, each with what it is about."""
    facts = [
        ("description", content.description or "(none)"),
        ("converter", content.converter),
        ("size", f"{_size(content.size_bytes)}, {content.subgraphs} subgraph(s), {content.tensors} tensors"),
        *(("input", f"{port.name} {port.dtype} {list(port.shape)}") for port in content.inputs),
        *(("output", f"{port.name} {port.dtype} {list(port.shape)}") for port in content.outputs),
        ("ops", ", ".join(f"{name} {count}" for name, count in content.ops.items()) or "none"),
        *_custom(content.custom_ops),
    ]
    for kind, held in content.weights.items():
        facts.append(("weights", f"{kind}: {_size(held.size_bytes)} in {held.tensors} tensors"))
    facts += [("fp16", _constant(item)) for item in content.fatal_constants[:SHOWN]]
    facts += [("npu", item) for item in content.npu_findings[:SHOWN]]
    facts += [("unread", item) for item in content.unread[:SHOWN]]
    left = sum(max(0, len(item) - SHOWN) for item in (content.fatal_constants, content.npu_findings, content.unread))
    return [*facts, *([("more", f"{left} more lines with --json")] if left else [])]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"


def _custom(ops: Sequence[Op]) -> list[tuple[str, str]]:
    """Custom ops, those of one name and the same options on one line."""
    groups: dict[str, list[int]] = {}
    for op in ops:
        options = ", ".join(f"{key}={value}" for key, value in op.options.items()) or op.problem or "no options"
        groups.setdefault(f"{op.name} ({len(op.inputs)} inputs; {options})", []).append(op.index)
    lines = [("custom", f"{len(places)} x {words}, first at operator {places[0]}") for words, places in groups.items()]
    left = len(lines) - SHOWN
    return lines[:SHOWN] + ([("custom", f"{left} more kinds with --json")] if left > 0 else [])


def _constant(constant: Any) -> str:
    """A constant that float16 does not hold, in one line."""
    counts = {
        "beyond 65504": constant.beyond,
        "-inf": constant.minus_inf,
        "+inf": constant.plus_inf,
        "NaN": constant.nan,
    }
    counted = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    users = ", ".join(constant.ops[:3]) + (f" and {len(constant.ops) - 3} more" if len(constant.ops) > 3 else "")
    return (
        f"{counted} of {constant.elements} in {constant.tensor[:80] or '(no name)'}, taken by {users or 'no operator'}"
    )
