"""A program by itself, judged: which rung decides, and what the verdict says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.support.traces import TEXT, TOKENS, trace, trace_header
from whisper_parity.backend.account import ENCODER_OUTPUT, Account, AccountWindow, tensor_name
from whisper_parity.backend.stage import Edge
from whisper_parity.compare.comparison import compare
from whisper_parity.compare.finding import finding
from whisper_parity.compare.front_end.difference import FrontEndCause, FrontEndDiff
from whisper_parity.judge import program, tolerance, verdict
from whisper_parity.judge.program import checked, laid_around
from whisper_parity.judge.verdict import Grade, Outcome
from whisper_parity.project import read_toml
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

N_VOCAB = 51865
LIMITS = tolerance.for_edge(read_toml(tolerance.FILE), Edge("pytorch", "app"))
SOUND = FrontEndDiff(0, (1, 80, 3000), (1, 80, 3000), 120.0, 121.0, None, 119.0)
PADDED = dataclasses.replace(
    SOUND, whole_db=0.4, speech_db=123.0, padding_db=0.3,
    causes=(FrontEndCause("padding", "spectrogram padded with 0.0", 120.0),),
)  # fmt: skip
WRONG = finding("wrong prompt", "translate for transcribe")
LOST_BLANK = finding("text against tokens", "its text says 'a' where its tokens decode to ' a'", is_fault=False)


def of_program(text: str | None = TEXT, tokens: tuple[int, ...] | None = (*TOKENS, 50257), **tensors) -> Trace:
    """A program's trace of the clip of `trace`."""
    account = Account(text, (AccountWindow(None, tokens, "eot" if tokens else ""),))
    chosen = tuple(token for token in tokens or () if token < 50257)
    header = dataclasses.replace(
        trace_header("app"), text=text or "", tokens=chosen, timestamped_tokens=tokens or (), account=account
    )
    return Trace(header, (), {tensor_name(name, 0): value for name, value in tensors.items()})


def judged(candidate: Trace, tie_margin: float = LIMITS.max_tie_margin) -> verdict.Verdict:
    limits = dataclasses.replace(LIMITS, max_tie_margin=tie_margin)
    return verdict.judge(compare(trace(), candidate, N_VOCAB, limits.max_tie_margin), limits)


def test_text_alone_is_judged_by_text():
    """Nothing is said of tokens that a program does not name."""
    comparison = compare(trace(), of_program(tokens=None), N_VOCAB)
    assert comparison.tokens is None
    result = judged(of_program(tokens=None))
    assert result.outcome is Outcome.PASS
    assert [rung.grade for rung in result.rungs] == [Grade.NOT_COMPARED] * 3 + [Grade.PASS]


def test_tensors_alone_are_judged_without_a_text():
    """A features file that somebody sent says nothing of a text."""
    result = judged(of_program(text=None, tokens=None))
    assert result.outcome is Outcome.NOT_COMPARED
    whole = laid_around(result, checked((PADDED,), {}, LIMITS))
    assert (whole.outcome, whole.rung) == (Outcome.DIVERGED, "features")


def test_a_split_has_the_margin_of_the_reference():
    """Tokens without logits: the reference says how near the other choice was."""
    other = (*TOKENS[:3], 13, *TOKENS[4:], 50257)
    split = compare(trace(), of_program(tokens=other), N_VOCAB).split
    assert split is not None
    assert (split.window, split.step, split.candidate_token) == (0, 3, 13)
    assert split.margin == pytest.approx(5.0)
    assert judged(of_program(tokens=other)).rung == "token"
    tie = judged(of_program(tokens=other), tie_margin=6.0)
    assert next(rung for rung in tie.rungs if rung.rung == "token").grade is Grade.DRIFT


def test_an_end_that_comes_too_early_is_a_split():
    """End-of-text is a choice like others."""
    split = compare(trace(), of_program(tokens=(*TOKENS[:5], 50257)), N_VOCAB).split
    assert split is not None
    assert (split.step, split.candidate_token) == (5, 50257)


@pytest.mark.parametrize("shape", [(1, 20, 8), (20, 8), (1, 1, 20, 8)])
def test_an_encoder_output_is_compared_whatever_its_leading_axes(shape: tuple[int, ...]):
    """Programs write [rows, columns], we have [1, rows, columns]."""
    output = trace().windows[0].encoder_output
    comparison = compare(trace(), of_program(**{ENCODER_OUTPUT: output.reshape(shape)}), N_VOCAB)
    assert comparison.worst("encoder_output").snr_db == np.inf  # type: ignore[union-attr]
    noisy = output + np.float32(0.1)
    assert judged(of_program(**{ENCODER_OUTPUT: noisy.reshape(shape)})).rung == "tensor"


@pytest.mark.parametrize("broken", ["shape", "nan"])
def test_an_encoder_output_of_another_shape_or_with_nan_breaks_a_premise(broken: str):
    output = trace().windows[0].encoder_output.copy()
    output.reshape(-1)[3] = np.nan
    output = output[:, :10] if broken == "shape" else output
    comparison = compare(trace(), of_program(**{ENCODER_OUTPUT: output}), N_VOCAB)
    assert comparison.broken is not None
    assert comparison.broken.premise == ("shapes" if broken == "shape" else "finiteness")


def test_a_front_end_decides_before_the_text():
    """The first rung that breaks is named first, with its cause and its figures; the text's reason stays."""
    other = judged(of_program(text="And so my fellow Americans ask not what"))
    whole = laid_around(other, checked((PADDED,), {}, LIMITS))
    assert (whole.outcome, whole.rung) == (Outcome.DIVERGED, "features")
    assert whole.reason.startswith(
        "features: spectrogram padded with 0.0; input_features SNR 0.4 dB (speech 123.0 dB, padding 0.3 dB) "
        "(pass from 90, drift from 40); "
    )
    assert other.reason in whole.reason
    assert [rung.rung for rung in whole.rungs] == ["features", "tensor", "logits", "token", "text"]


@pytest.mark.parametrize(
    ("rung", "where"), [("prompt", 0), ("detokenise", -2), ("end", -1)],
)  # fmt: skip
def test_a_finding_of_a_rung_fails_the_row(rung: str, where: int):
    findings = {"prompt": (), "detokenise": (), "end": (), rung: (WRONG,)}
    whole = laid_around(judged(of_program()), checked((SOUND,), findings, LIMITS))
    assert (whole.outcome, whole.rung) == (Outcome.DIVERGED, rung)
    assert whole.reason == f"{rung}: {WRONG.sentence}"
    assert [name.rung for name in whole.rungs][where + (1 if rung == "prompt" else 0)] == rung


def test_a_remark_fails_nothing():
    whole = laid_around(judged(of_program()), checked((SOUND,), {"detokenise": (LOST_BLANK,)}, LIMITS))
    assert whole.outcome is Outcome.PASS
    assert LOST_BLANK.sentence in whole.rungs[-1].reason


def test_features_within_the_drift_band_make_an_amber_row():
    """A symmetric window moves no token: it is said, and fails nothing."""
    symmetric = dataclasses.replace(SOUND, whole_db=62.0, speech_db=60.0)
    whole = laid_around(judged(of_program()), checked((symmetric,), {}, LIMITS))
    assert (whole.outcome, whole.rung) == (Outcome.DRIFT, "features")


@pytest.mark.parametrize("diff", [
    dataclasses.replace(SOUND, whole_db=None, speech_db=None, padding_db=None, shape=(3001, 80)),
    dataclasses.replace(SOUND, nonfinite=3),
])  # fmt: skip
def test_features_that_cannot_be_compared_fail(diff: FrontEndDiff):
    check = checked((SOUND, diff), {}, LIMITS)
    assert check.failing == check.rungs


def test_no_evidence_makes_no_rung():
    result = judged(of_program(tokens=None))
    assert laid_around(result, checked((), {}, LIMITS)) is result
    assert program.checked((), {"prompt": ()}, LIMITS).rungs[0].grade is Grade.PASS


def test_an_account_is_kept_in_its_trace(tmp_path):
    """Words, tokens and tensors, in the shape in which they were written."""
    original = of_program(**{ENCODER_OUTPUT: trace().windows[0].encoder_output[0]})
    file.save(original, tmp_path / "clip.safetensors")
    loaded = file.load(tmp_path / "clip.safetensors")
    assert loaded.header == original.header
    assert loaded.tensors.keys() == original.tensors.keys()
    assert np.array_equal(loaded.tensors["encoder_output.0"], original.tensors["encoder_output.0"])
