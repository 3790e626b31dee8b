"""What a run and a gate look like on a screen of 80 columns, in a pipe, in one line and in full."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.support import runs
from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import GateResult, RuleResult
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.report import console, gated
from whisper_parity.run.report import Report, StageInfo
from whisper_parity.system import terminal
from whisper_parity.system.terminal import Amount

UNITS = ("dB", "s", "%")


def shown(
    report: Report | Judgement, amount: Amount = Amount.SCREEN, *, width: int = 80, pipe: bool = False
) -> list[str]:
    """Lines at a terminal of that width, or in a pipe."""
    screen = Console(file=io.StringIO(), width=width, force_terminal=not pipe, color_system=None)
    (console if isinstance(report, Report) else gated).show(report, screen, amount)  # type: ignore[arg-type]
    return screen.file.getvalue().splitlines()  # type: ignore[attr-defined]


def diverging(stages: int = 1, name: str = "two") -> Report:
    """A run in which one clip fails in so many stages."""
    whole = runs.report()
    last = list(runs.STAGES)[-stages:]
    for stage in last:
        reason = (
            f"logits: logits SNR 39.3 dB (pass from 40, drift from 10), largest error 0.11 in 0.25 s of {'words ' * 9}"
        )
        whole = runs.with_row(whole, "two", stage, verdict=Verdict(Outcome.DIVERGED, "logits", reason, ()))
    rows = (replace(row, clip=name) if row.clip == "two" else row for row in whole.rows)
    return replace(whole, rows=tuple(rows), verdict=Outcome.DIVERGED, summary="diverged: 5 pass, 1 diverged")


def widened(report: Report, count: int) -> Report:
    """The same with so many more stages, each under a long name, all diverged on the clip "two"."""
    rows, stages = list(report.rows), list(report.stages)
    for number in range(count):
        spec = f"other-npu-{number}:int8-per-channel"
        stages.append(StageInfo(spec, "pytorch", True, "", origin="given"))
        rows += [replace(row, stage=spec) for row in report.rows if row.stage == "tflite"]
    return replace(report, rows=tuple(rows), stages=tuple(stages))


@pytest.mark.parametrize("amount", [Amount.SCREEN, Amount.ALL])
@pytest.mark.parametrize("name", ["two", "a_recording_of_a_meeting_with_a_very_long_name_2026-11-26_part_0001_of_12"])
@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_a_run_fits_80_columns_and_breaks_no_unit(count: int, name: str, amount: Amount):
    """Whatever the number of stages and the length of names; commands alone are left whole, to be copied."""
    lines = [line for line in shown(widened(diverging(name=name), count), amount) if not line.startswith("  → ")]
    assert max(map(cell_len, lines)) <= 80
    assert not any(line.split()[:1] == [unit] for line in lines for unit in UNITS)
    assert not any(line.rstrip().endswith(("@", "WER", "CER")) for line in lines if "lowest SNR" not in line)


def test_the_verdict_stands_first_and_what_passes_is_folded():
    """One column for the stages that pass, one line for the clips that pass."""
    lines = shown(diverging())
    assert lines[0] == "parity diverged: 5 pass, 1 diverged"
    header = next(line for line in lines if line.split()[:1] == ["clip"])
    assert header.split() == ["clip", "tflite", "other", "stages"]
    row = next(line for line in lines if line.split()[:1] == ["two"])
    assert row.split()[:3] == ["two", "diverged", "WER"]
    assert next(line for line in lines if line.split()[:2] == ["2", "others"]).split()[2:] == ["pass", "pass"]
    assert not any(line.split()[:1] == ["one"] for line in lines)
    everything = shown(diverging(), Amount.ALL)
    assert sum(line.split()[:1] == ["one"] for line in everything) >= 1


def test_a_run_that_passes_has_a_line_for_each_stage():
    """And no table of clips."""
    lines = [line.split() for line in shown(runs.report()) if line.strip()]
    assert [words[0] for words in lines if words[0] in runs.STAGES] == list(runs.STAGES)
    assert not any(words[0] in runs.CLIPS for words in lines)


def test_cells_that_do_not_fit_beside_each_other_stand_below():
    """One line for each, with its stage."""
    lines = shown(widened(diverging(), 3))
    header = next(line for line in lines if line.split()[:1] == ["clip"])
    assert header.split() == ["clip", "stage", "verdict", "text", "error", "step", "SNR"]
    assert sum(line.split()[:1] == ["two"] for line in lines) == 4


def test_quiet_is_one_line_and_a_pipe_folds_no_sentence():
    """For a shell that reads the first, and one that searches the other."""
    assert shown(diverging(), Amount.LINE) == ["parity diverged: 5 pass, 1 diverged"]
    (failure,) = [line for line in shown(diverging(), pipe=True) if line.startswith("diverged: ")]
    assert failure.endswith("  →  parity run --clips two")
    assert "\x1b" not in "".join(shown(diverging(), pipe=True))


def test_a_long_list_of_failures_is_folded():
    """The first and the last of them, and how many there are; all of them on demand."""
    whole = diverging()
    (bad,) = [row for row in whole.rows if row.verdict.outcome is Outcome.DIVERGED]
    many = replace(whole, rows=(*whole.rows, *(replace(bad, clip=f"clip-{n}") for n in range(40))))
    lines = shown(many, pipe=True)
    assert sum(line.startswith("diverged: ") for line in lines) == 11
    assert "failed: 30 more cells, all of them with -v" in lines
    assert sum(line.startswith("diverged: ") for line in shown(many, Amount.ALL, pipe=True)) == 41


RULES = (
    RuleResult("faults", "a->b", "", "at most 0", "0 faults", True, (), "default"),
    RuleResult("kl_max", "a->b", "", "not judged", "none", True, (), "default"),
    *(
        RuleResult("logits_snr_db", edge, "", "at least 40 dB", f"38.8 dB on {'a-clip-' * 9}", False, ("x",), "default")
        for edge in ("a->b", "a->c")
    ),
)


def judged(rules: tuple[RuleResult, ...], passed: bool) -> Judgement:
    """A judgement made of rules."""
    return Judgement(GateResult("r", passed, 1 - passed, "the sentence", rules, (), ()), ())


def test_the_gate_says_what_failed_and_counts_the_rest():
    """The same finding on two edges is one line; what passed is a number."""
    assert shown(judged(RULES, passed=False), pipe=True) == [
        "gate failed: 2 of 3 rules on 2 edges",
        f"FAIL logits_snr_db 2 times (a->b, a->c): {RULES[2].actual}; limit at least 40 dB (default); clips x",
        "passed: 1 rules, 1 not judged: each of them with -v",
    ]
    assert shown(judged(RULES[:2], passed=True)) == [
        "gate passed: 1 rules on 1 edge, 1 not judged: each of them with -v"
    ]
    assert shown(judged(RULES, passed=False), Amount.LINE) == ["gate the sentence"]
    everything = shown(judged(RULES, passed=False), Amount.ALL, pipe=True)
    assert "pass faults a->b: 0 faults; limit at most 0 (default)" in everything
    assert "-    kl_max a->b: not judged (default)" in everything
    assert max(map(cell_len, shown(judged(RULES, passed=False), Amount.ALL))) <= 80


def test_results_that_are_missing_are_one_line_whatever_the_rules():
    """The cause once, instead of once for each of the twenty rules that needed the result."""
    actual = "no result on 1 of 3 clips, first one (failed: no device (unplugged)); {} on the others"
    rules = tuple(
        RuleResult(name, "a->b", "", "at most 0", actual.format(name), False, ("one",), "default")
        for name in ("faults", "kl_max", "findings")
    )
    lines = shown(judged(rules, passed=False), pipe=True)
    assert lines[1:-1] == ["FAIL 3 rules on a->b: no result on 1 of 3 clips, first one (failed: no device (unplugged))"]
    assert sum(line.startswith("FAIL ") for line in shown(judged(rules, passed=False), Amount.ALL, pipe=True)) == 4


@pytest.mark.parametrize("width", [20, 34, 80])
def test_a_folded_line_holds_every_word_once(width: int):
    """In their order, a number beside its unit, Chinese by its width."""
    text = "an SNR of 39.3 dB in 0.25 s, 1.5 MiB and 3 % of 中文中文中文中文中文中文中文中文中文中文 and more"
    lines = terminal.folded(text, Console(width=width, force_terminal=True), 4)
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert not any(line.split()[:1] == [unit] for line in lines for unit in ("dB", "s", "MiB", "%"))
