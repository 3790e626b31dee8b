"""Named findings of a run: in the verdict's reason, at the terminal, in the gate, on the page and in explanations."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from tests.support import pages, runs, sites, traces
from tests.support.gates import EDGE, failed, rule
from tests.support.traces import N_VOCAB, TEXT, TOKENS, changed, flipped, trace
from whisper_parity.compare.comparison import Comparison, compare
from whisper_parity.compare.finding import finding
from whisper_parity.explain.explanation import Explanation, Explanations, Weight
from whisper_parity.judge import verdict
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import console, explained, markdown
from whisper_parity.report.html import page
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial
from whisper_parity.trace.trace import Trace

pytestmark = pytest.mark.usefixtures("not_in_ci")

LOOP = " ask not" * 20
LOOPED = "repetition loop: ' ask not' x 20 from step 8 (21 in a row, the other text has 1)"


def saying(text: str, stage: str = "tflite", **fields) -> Trace:
    """A stage's trace whose free-running tokens are those of a text."""
    return changed(trace(stage), text=text.strip(), tokens=traces.tokens(text), **fields)


def program(text: str, *tokens: int) -> Trace:
    """The trace of a program that decodes by itself: text and tokens, no windows."""
    header = saying(text, "app").header
    return Trace(replace(header, timestamped_tokens=tokens or header.tokens, windows=()), ())


def against(candidate: Trace, reference: Trace | None = None) -> Comparison:
    return compare(reference or trace("torchscript"), candidate, N_VOCAB)


def sentences(comparison: Comparison) -> list[str]:
    return [item.sentence for item in comparison.findings]


def reason(comparison: Comparison) -> str:
    return verdict.judge(comparison, sites.limits_of("torchscript", "tflite")).reason


def test_an_unbroken_pair_has_no_finding():
    """Nor a verdict that names one."""
    assert sentences(against(trace("tflite"))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f" {TEXT}{LOOP}", LOOPED),
        (f" {TEXT} thank you", "invented text: 'thank you' (2 words) at step 8, behind the end of the reference"),
        (" And so my fellow Americans,", "lost end: 'ask not' (2 words) from step 6 of the reference"),
        (" Americans, ask not", "lost beginning: 'And so my fellow' (4 words) from step 0 of the reference"),
    ],
)
def test_a_finding_leads_the_reason_of_the_verdict(text, expected):
    """In front of rates and marks."""
    comparison = against(saying(text))
    assert sentences(comparison) == [expected]
    assert reason(comparison).startswith(f"{expected}; ")


def test_a_window_that_stops_at_the_limit_is_named_where_the_reference_ends():
    """And not where the reference stops there too."""
    window = trace("tflite").windows[0]
    limited = dataclasses.replace(window, header=dataclasses.replace(window.header, ended="length"))
    said = "token limit: stops after 8 tokens, the limit, without end-of-text"
    assert sentences(against(Trace(trace("tflite").header, (limited,)))) == [said]
    both = Trace(trace("torchscript").header, (limited,))
    assert sentences(against(Trace(trace("tflite").header, (limited,)), both)) == []


def test_a_program_that_passes_its_end_or_is_given_a_wrong_prompt():
    """What it shows of its own decoding; its text against its tokens."""
    ids = (50258, 50259, 50359, 50363, *TOKENS, 50257)
    assert sentences(against(program(TEXT, *ids))) == []
    assert sentences(against(program(TEXT, *ids, *TOKENS))) == [
        "end-of-text passed: app: once, first at token 12 of 21"
    ]
    (line,) = sentences(against(program(TEXT, 50258, 50265, *ids[2:])))
    assert line.startswith("wrong prompt: app: 50258 <|startoftranscript|> 50265 <|fr|>")
    detokenised = program(TEXT, *ids)
    other = Trace(replace(detokenised.header, text=TEXT.replace("Americans", "Canadians")), ())
    assert sentences(against(other))[0].startswith("text against tokens: app: its text says 'Canadians, ask not'")


def test_a_silent_clip_with_words_is_invented_text():
    """Zero samples, and a reference that is empty."""
    silent = changed(trace("torchscript"), silent=True, text="", tokens=())
    (line,) = sentences(against(saying(" Thank you.", silent=True), silent))
    assert line == "invented text: 'Thank you.' (2 words) at step 0, in silence: every sample is 0"


def test_the_worst_edit_is_named_before_a_mark():
    """A comma that comes first in the text does not hide a word that was lost behind it."""
    judged = verdict.judge(against(saying(" And so my fellow Americans ask")), sites.limits_of("torchscript", "tflite"))
    (text,) = (rung.reason for rung in judged.rungs if rung.rung == "text")
    assert text.endswith("1 punctuation or case edit(s), first word 'not' -> ''")


def test_ties_that_change_too_much_are_reconciled_in_one_sentence():
    """ "tie" of a flip and "diverged" of the cell."""
    (flip,) = against(flipped(trace("tflite"), 6, 13, 0.1)).flips
    tie = replace(flip, margin=1e-5)
    comparison = replace(against(saying(f" {TEXT.replace('ask', 'tell')}")), flips=(tie,))
    judged = verdict.judge(comparison, sites.limits_of("torchscript", "tflite"))
    assert (judged.outcome, judged.rung) == (Outcome.DIVERGED, "text")
    assert judged.reason.endswith(f"first word 'ask' -> 'tell'; {verdict.TIES}")
    fault = replace(comparison, flips=(replace(tie, margin=5.0),))
    assert verdict.TIES not in verdict.judge(fault, sites.limits_of("torchscript", "tflite")).reason


def test_the_terminal_names_findings_before_everything_else():
    """And folds a long list of them."""
    whole = runs.report({("two", "tflite"): runs.saying(f"{TEXT}{LOOP}", traces.tokens(f" {TEXT}{LOOP}"))})
    first = console.lines(whole)[0]
    assert (first.text, first.style) == (f"finding: two · tflite: {LOOPED}", "bold red")
    assert f"**two** tflite: {markdown.escape(LOOPED)}" in markdown.render(whole, None)


def test_the_page_names_findings_at_the_top_and_at_their_cell(tmp_path, cache_dir):
    """Escaped like every other text."""
    run = RunFolder(pages.write(tmp_path, cache_dir))
    whole = records.load(run)
    at = next(i for i, row in enumerate(whole.rows) if row.vs_parent)
    judged = whole.rows[at].vs_parent
    assert judged is not None
    named = (finding("repetition loop", "'<b>' x 60"),)
    row = replace(whole.rows[at], vs_parent=replace(judged, comparison=replace(judged.comparison, findings=named)))
    serial.write(run.report, replace(whole, rows=(*whole.rows[:at], row, *whole.rows[at + 1 :])))
    text = page.write(run).read_text("utf-8")
    assert text.index('id="findings"') < text.index('id="grid"')
    assert text.count("repetition loop: &#39;&lt;b&gt;&#39; x 60") == 2


def test_the_gate_counts_clips_with_a_finding(gate):
    """A loop, and three words lost; one word is left to the rates."""
    looped = runs.report({("two", "tflite"): runs.saying(f"{TEXT}{LOOP}", traces.tokens(f" {TEXT}{LOOP}"))})
    result = rule(gate(looped), "findings")
    assert (result.passed, result.limit, result.clips) == (False, "at most 0 clips", ("two",))
    assert result.actual == f"1 clip, two: {LOOPED}"
    assert ("findings", EDGE, "") in failed(gate(looped))
    short = " And so my fellow Americans, ask"
    assert rule(
        gate(runs.report({("two", "tflite"): runs.saying(short.strip(), traces.tokens(short))})), "findings"
    ).passed


def test_an_explanation_has_the_findings_first_and_reconciles_ties():
    """Under the head of the cell; a tie of a word says why the cell may be red all the same."""
    comparison = against(saying(f" {TEXT}{LOOP}"))
    found = explained.lines(Explanations("jfk", "tflite", (), findings=comparison.findings))
    assert found[1] == f"  finding    {LOOPED}"
    word = _tie("word")
    assert f"  read as    {verdict.TIES}" in explained.lines(Explanations("jfk", "tflite", (word,), part="encoder"))
    mark = _tie("punctuation")
    assert f"  read as    {verdict.TIES}" not in explained.lines(Explanations("jfk", "tflite", (mark,), part="encoder"))


def _tie(kind: str) -> Explanation:
    from tests.unit.test_explained import BARE, CHANGE

    weight = Weight(0.1, 0.2, 0.3, (), 0.4, "tie", "tie: margin 0.1")
    return replace(BARE, change=replace(CHANGE, edit_class=kind, mark=""), weight=weight)
