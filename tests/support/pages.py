"""A run's folder made by hand, hostile texts included, and pages of it."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np

from tests.support import sites, sound
from tests.support.traces import N_VOCAB, TEXT, changed, flipped, trace
from whisper_parity.clips import features
from whisper_parity.clips.features import Features
from whisper_parity.compare import comparison as compare
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.decode.loop import TeacherForced
from whisper_parity.explain.explanation import (
    Cause,
    Change,
    Entry,
    Explanation,
    Explanations,
    LayerFinding,
    UnitError,
    Weight,
)
from whisper_parity.gate.result import GateResult, RuleResult, Statistic
from whisper_parity.judge import verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.project import Project
from whisper_parity.report.html import later
from whisper_parity.run import options as run_options
from whisper_parity.run import report as records
from whisper_parity.run.collect import written_limits
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import RunOptions
from whisper_parity.run.report import Judged, Report, Row, StageInfo
from whisper_parity.system import serial
from whisper_parity.system.machine import Machine
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace, WindowTrace

STAGES = (("pytorch", None), ("torchscript", "pytorch"), ("tflite:int8", "torchscript"))
SCRIPT = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
NAMES = ("warble", "b<b onclick=window.ran=1>old\"'&", "مرحبا-🎙️", "long-" + "x" * 150)
TEXTS = {
    NAMES[0]: TEXT,
    NAMES[1]: f"{SCRIPT} </script> \u2028 {{{{ 7*7 }}}} ${{1}}",
    NAMES[2]: "قال \u202eevil\u202c مرحبا، كيف؟ 👩‍👩‍👧 ok",
    NAMES[3]: "word" * 400 + " " + "many words " * 60,
}


def write(folder: Path, cache: Path, *, gate: bool = True, explained: bool = True) -> Path:
    """A run of four clips through three stages; the first clip has audio, the last stage a tie and a fault."""
    run = folder / "reports" / "by-hand"
    wav = sound.write_wav(folder / "warble.wav", sound.warble(2.0))
    heard = features.compute(wav, 80)
    rows = [row for name in NAMES for row in _rows(run, name, heard)]
    rows.append(records.row_without_trace("line-7", "", _bad(f"not JSON: {SCRIPT}"), ""))
    serial.write(RunFolder(run).report, report(rows))
    run_options.write(RunOptions(clips=(str(wav),)), RunFolder(run).options, Project(folder))
    if gate:
        serial.write(RunFolder(run).gate, _gate())
    if explained:
        edge, difference = "torchscript->tflite:int8", _explanation()
        blocks = (Cause(edge, "encoder", "encoder.blocks.0", (), ""), Cause(edge, "decoder", "decoder.ln", (), ""))
        found = Explanations(NAMES[0], "tflite:int8", (difference,), causes=blocks)
        unchanged = Explanations(NAMES[1], "tflite:int8", (), difference.layers, causes=blocks[1:])
        for one in (found, unchanged):
            serial.write(RunFolder(run).explanation(one.clip, "tflite:int8"), one)
    return run


def mostly_sound(folder: Path, cache: Path, clips: int, seconds: float = 10.0) -> Path:
    """A run in which one clip loses a comma with its word, and all others pass; each has a wandering tone."""
    run = folder / "reports" / "mostly-sound"
    (folder / "audio").mkdir(parents=True)
    first = sound.write(folder / "audio" / "clip-0000.wav", sound.warble(seconds), 16_000, "pcm_s16le", "s16")
    heard = features.compute(first, 80)
    base = changed(_named(trace("pytorch"), "clip-0000", "pytorch", heard), segments=((1.0, 9.0, TEXT),))
    chain = [base, *(_named(trace(spec, noise=1e-6), "clip-0000", spec, heard) for spec, _ in STAGES[1:])]
    rows = _saved(run, [*chain[:2], changed(chain[2], text=TEXT.replace(" my fellow Americans,", ""))], TEXT)
    rows = [dataclasses.replace(row, audio_s=seconds) for row in rows]
    hostile = [changed(_renamed(one, "clip-0001"), text=f"{TEXT} {SCRIPT}") for one in chain]
    calm = _saved(run, hostile, TEXT)
    for i in range(1, clips):
        name = f"clip-{i:04}"
        shutil.copy(first, folder / "audio" / f"{name}.wav")
        rows += [dataclasses.replace(row, clip=name, audio_s=seconds) for row in calm]
        for row in calm if i > 1 else ():
            shutil.copy(RunFolder(run).trace("clip-0001", row.stage), RunFolder(run).trace(name, row.stage))
    made = dataclasses.replace(report(rows), run="mostly-sound")
    serial.write(RunFolder(run).report, dataclasses.replace(made, stages=made.stages[: len(STAGES)]))
    run_options.write(RunOptions(clips=(str(folder / "audio"),)), RunFolder(run).options, Project(folder))
    return run


def _renamed(original: Trace, clip: str) -> Trace:
    return Trace(dataclasses.replace(original.header, clip=clip), original.windows)


def whole(path: Path) -> str:
    """A page's text, with that of the clips that it unpacks on demand."""
    text = path.read_text("utf-8")
    data = re.search(r'<script type="application/json" id="later">(.*?)</script>', text, re.DOTALL)
    assert data
    packs = json.loads(data[1])["packs"]
    unpacked = [json.loads(zlib.decompress(base64.b64decode(pack), later.RAW)) for pack in packs]
    return "\n".join([text, *(body for pack in unpacked for body in pack.values())])


def report(rows: list[Row]) -> Report:
    """A report of these rows."""
    stages = tuple(StageInfo(spec, parent, True, f"{spec} 1.0", "built", sha256=spec * 8) for spec, parent in STAGES)
    machine = Machine("Linux", "a processor", 2, "3.11.7", {"torch": "2.13.0"}, None, None)
    return Report(
        records.SCHEMA_VERSION, "by-hand", "2026-01-01T00:00:00Z", True, Outcome.DIVERGED, 1, "diverged: 1 diverged",
        "micro", "0" * 64, "made by hand", "whisper", {"sample_len": None}, written_limits(sites.tolerances()), machine,
        (*stages, StageInfo("dla", "tflite:int8", False, f"no device: {SCRIPT}")), tuple(rows), 1.5,
    )  # fmt: skip


def many(folder: Path, cache: Path, clips: int, steps: int = 60) -> Path:
    """A large run: each clip with 10 s of noise that no codec makes smaller, through three stages."""
    run = folder / "reports" / "many"
    (folder / "audio").mkdir()
    noise = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1
    first = sound.write(folder / "audio" / "noise-000.wav", noise, 16_000, "pcm_s16le", "s16")
    rows = _noisy_rows(run, "noise-000", features.compute(first, 80), steps)
    for i in range(1, clips):
        shutil.copy(first, folder / "audio" / f"noise-{i:03}.wav")
        for row in rows[: len(STAGES)]:
            rows.append(dataclasses.replace(row, clip=f"noise-{i:03}"))
            source, target = (RunFolder(run).trace(name, row.stage) for name in ("noise-000", f"noise-{i:03}"))
            shutil.copy(source, target)
    serial.write(RunFolder(run).report, dataclasses.replace(report(rows), run="many"))
    run_options.write(RunOptions(clips=(str(folder / "audio"),)), RunFolder(run).options, Project(folder))
    return run


def _rows(run: Path, name: str, heard: Features) -> list[Row]:
    base = _named(trace("pytorch"), name, "pytorch", heard)
    near = _named(trace("torchscript", noise=1e-5), name, "torchscript", heard)
    close = base.windows[0].teacher_forced.logits.copy()
    close[3, 13], close[5, 13] = close[3].max() - 0.01, close[5].max() - 2
    base, near = changed(base, logits=close), changed(near, logits=close + 1e-6)
    base = changed(base, segments=((0.2, 1.8, TEXTS[name]),))
    far = changed(_named(trace("tflite:int8", noise=0.02), name, "tflite:int8", heard), logits=close)
    far = flipped(flipped(far, 3, 13, 0.01), 5, 13, 0.1)
    far = changed(far, text=TEXTS[name].replace("Americans,", "americans") + " more")
    return _saved(run, [base, near, far], TEXTS[name])


def _noisy_rows(run: Path, name: str, heard: Features, steps: int) -> list[Row]:
    rng = np.random.default_rng(0)
    tokens = tuple(int(token) for token in rng.integers(300, 480, steps))
    logits = rng.standard_normal((steps + 1, 500), dtype=np.float32)
    logits[np.arange(steps), tokens] = 8
    found = []
    for spec, _ in STAGES:
        base = _named(trace(spec), name, spec, heard)
        moved = logits + rng.standard_normal(logits.shape).astype(np.float32) * 0.3
        choices, second = moved.argmax(1), np.argsort(moved, 1)[:, -2]
        header = dataclasses.replace(base.windows[0].header, forced_tokens=tokens)
        window = WindowTrace(header, base.windows[0].encoder_output, TeacherForced(tokens, moved, choices, second))
        found.append(Trace(dataclasses.replace(base.header, windows=(header,)), (window,)))
    return _saved(run, found, "word " * steps)


def _named(original: Trace, name: str, stage: str, heard: Features) -> Trace:
    window = original.windows[0]
    header = dataclasses.replace(window.header, input_features_sha256=heard.windows[0].sha256)
    whole = dataclasses.replace(
        original.header, clip=name, stage=stage, text=TEXTS.get(name, TEXT), windows=(header,), label=f"{stage} (hand)",
        audio_sha256=heard.audio_sha256,
    )  # fmt: skip
    return Trace(whole, (dataclasses.replace(window, header=header),))


def _saved(run: Path, found: list[Trace], text: str) -> list[Row]:
    rows = []
    parents = dict(STAGES)
    by_stage = {each.header.stage: each for each in found}
    for each in found:
        file.save(each, RunFolder(run).trace(each.header.clip, each.header.stage))
        parent = parents[each.header.stage]
        rows.append(_row(each, by_stage[parent] if parent else None, text))
    return rows


def _row(found: Trace, reference: Trace | None, text: str) -> Row:
    judged = None
    if reference:
        limits = sites.limits_of(reference.header.stage, found.header.stage)
        comparison = compare.compare(reference, found, N_VOCAB, limits.max_tie_margin)
        judged = Judged(comparison, verdict.judge(comparison, limits))
    header = found.header
    diff = compare_texts(reference=text, hypothesis=header.text, language="en")
    return Row(
        header.clip, header.stage, judged.verdict if judged else Verdict(Outcome.REFERENCE, "", "", ()), header.label,
        header.text, len(header.tokens), 2.0, 0.2, 1, 1, judged, None, diff, (), f"parity run --clips '{header.clip}'",
        token_ids=header.tokens,
    )  # fmt: skip


def _bad(reason: str) -> Verdict:
    return Verdict(Outcome.INVALID_INPUT, "", reason, ())


def _gate() -> GateResult:
    edge = "torchscript->tflite:int8"
    rules = (
        RuleResult("flips", edge, "", "ties only", f"1 fault on {SCRIPT}", False, NAMES[:1], "default"),
        RuleResult("approved", "", "", "an approved result", "there is one", True, (), "fixtures/approved/x.json"),
    )
    statistic = Statistic("wer_delta", edge, "en", 0.1, -0.05, float("inf"), False, "paired bootstrap, n = 4")
    return GateResult("by-hand", False, 1, "failed: 1 of 2 rules: flips", rules, (statistic,), ())


def _explanation() -> Explanation:
    change = Change("word", "", "And so my", "Americans", SCRIPT, "", 0, 5, 11, 13, None)
    units = (
        UnitError("encoder.conv", 60.0, 61.0, 0, False),
        UnitError("encoder.blocks.0", 31.0, 30.5, 0, True),
        UnitError("encoder.ln_post", 29.0, float("inf"), 0, False),
    )
    layers = LayerFinding("encoder", units, "encoder.blocks.0", True, 2, "the first block breaks")
    weight = Weight(5.0, 5.1, 0.02, (0.0, 0.01, 0.02, 0.03, 0.1), 1e-9, "fault", "far outside the noise")
    entry = Entry("torchscript->tflite:int8", "", (), (), "it enters with the weights")
    return Explanation(
        NAMES[0], "torchscript", "tflite:int8", change, entry, None, (layers,), weight, ("no device to ask",)
    )
