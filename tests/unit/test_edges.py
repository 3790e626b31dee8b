"""Where a difference enters the chain, and which edge undoes it."""

from __future__ import annotations

import pytest

from tests.support.traces import SPANISH, says, tokens
from whisper_parity.backend.registry import Stage
from whisper_parity.explain import edges
from whisper_parity.explain.differences import differences
from whisper_parity.explain.explanation import Entry
from whisper_parity.trace.trace import Trace

CHAIN = ("whisper", "pytorch", "torchscript", "tflite", "dla")
STAGES = (*map(Stage, CHAIN, (None, *CHAIN)), Stage("tflite:int8", "tflite"))
PLAIN, COMMA, STOP = " Americans ask", " Americans, ask", " Americans. ask"
PIECES = (*tokens(" Amer"), *tokens("icans ask"))
"""Reads as PLAIN."""


def entry(spec: str, **said: str | Trace | tuple[int, ...]) -> Entry:
    """Where the first difference of a stage enters; `int8` is short for tflite:int8."""
    names = {"int8": "tflite:int8"}
    found = {
        names.get(name, name): each if isinstance(each, Trace) else says(each, stage=name)
        for name, each in said.items()
    }
    reference = edges.reference_of(STAGES, "pytorch", spec)
    return edges.entry(differences(found[reference], found[spec])[0], STAGES, "pytorch", spec, found)


def test_a_chain_is_followed_back_to_its_first_stage():
    """Each the parent of the next."""
    assert edges.chain(STAGES, "dla") == CHAIN
    assert edges.chain(STAGES, "tflite:int8") == ("whisper", "pytorch", "torchscript", "tflite", "tflite:int8")


@pytest.mark.parametrize(
    ("spec", "reference"),
    [("whisper", None), ("pytorch", "whisper"), ("torchscript", "pytorch"), ("tflite:int8", "pytorch")],
)
def test_stages_are_held_against_the_root_and_the_root_against_the_original(spec, reference):
    """Nothing stands before the first."""
    assert edges.reference_of(STAGES, "pytorch", spec) == reference


def test_a_root_that_comes_first_has_no_reference():
    """A run without openai-whisper."""
    assert edges.reference_of((Stage("pytorch", None), Stage("tflite", "pytorch")), "pytorch", "pytorch") is None


@pytest.mark.parametrize(
    ("texts", "edge"),
    [
        ((PLAIN, PLAIN, PLAIN, COMMA), "tflite->dla"),
        ((PLAIN, PLAIN, COMMA, COMMA), "torchscript->tflite"),
        ((PLAIN, COMMA, COMMA, COMMA), "pytorch->torchscript"),
        ((PLAIN, PLAIN, " Americans ask,", COMMA), "tflite->dla"),
    ],
)
def test_a_difference_enters_at_the_first_edge_behind_which_it_reads_so(texts, edge):
    """Another difference at its place is another one, and so is the same one elsewhere."""
    found = entry("dla", **dict(zip(CHAIN[1:], texts)))
    assert (found.edge, found.undone_by, found.finding) == (edge, "", f"enters at {edge}")


@pytest.mark.parametrize(
    ("texts", "before"),
    [
        ((PLAIN, COMMA, PLAIN, COMMA), "torchscript had it before, and a later stage undid it"),
        ((PLAIN, PLAIN, STOP, COMMA), "tflite already says '.' there"),
    ],
)
def test_what_stood_there_in_front_of_the_edge_is_told(texts, before):
    """The edge is the last that brings it; the reader learns that it is not the only one."""
    found = entry("dla", **dict(zip(CHAIN[1:], texts)))
    assert (found.edge, found.finding) == ("tflite->dla", f"enters at tflite->dla; {before}")


def test_the_first_edge_is_between_the_original_and_the_root():
    """What later stages do is told, and not searched."""
    found = entry("pytorch", whisper=COMMA, pytorch=PLAIN, torchscript=PLAIN)
    assert (found.edge, found.undone_by) == ("whisper->pytorch", "")
    assert found.stages == (("whisper", ","), ("pytorch", ""), ("torchscript", ""))


@pytest.mark.parametrize(
    ("dla", "undone_by"), [(PLAIN, "tflite->dla"), (COMMA, ""), (STOP, ""), (PIECES, "tflite->dla")]
)
def test_a_later_edge_may_undo_it(dla, undone_by):
    """Once the text reads as the reference's again."""
    found = entry("tflite", pytorch=PLAIN, torchscript=PLAIN, tflite=" Mexicans ask", dla=dla)
    assert (found.edge, found.undone_by) == ("torchscript->tflite", undone_by if dla != COMMA else "")


def test_what_undoes_it_is_said():
    """In the same sentence."""
    found = entry("tflite", pytorch=PLAIN, tflite=COMMA, dla=PLAIN)
    assert found.finding == "enters at pytorch->tflite; tflite->dla undoes it"


def test_other_tokens_for_the_same_text_are_not_undone_by_having_them_too():
    """Such a difference cannot be told by its text."""
    kept = entry("tflite", pytorch=PLAIN, torchscript=PIECES, tflite=PIECES, dla=PIECES)
    assert (kept.edge, kept.undone_by) == ("pytorch->torchscript", "")
    assert entry("tflite", pytorch=PLAIN, tflite=PIECES, dla=PLAIN).undone_by == "tflite->dla"


def test_a_stage_without_a_trace_is_passed_over():
    """The edge then spans it."""
    found = entry("dla", pytorch=PLAIN, tflite=COMMA, dla=COMMA)
    assert found.edge == "pytorch->tflite"
    assert [name for name, _ in found.stages] == ["pytorch", "tflite", "dla"]


@pytest.mark.parametrize(("tflite", "edge"), [(PLAIN, "tflite->tflite:int8"), (COMMA, "pytorch->tflite")])
def test_a_variant_stands_behind_its_stage(tflite, edge):
    """And beside the stages that do not come from it, which undo nothing."""
    found = entry("tflite:int8", pytorch=PLAIN, tflite=tflite, int8=COMMA, dla=PLAIN)
    assert (found.edge, found.undone_by) == (edge, "")


def test_a_variant_undoes_what_its_stage_did():
    """It is behind it as well."""
    assert entry("tflite", pytorch=PLAIN, tflite=COMMA, int8=PLAIN).undone_by == "tflite->tflite:int8"


def test_a_place_is_a_window_and_a_span():
    """The same change in another window is another one."""
    traces = {
        "pytorch": says(PLAIN, PLAIN),
        "tflite": says(PLAIN, COMMA),
        "dla": says(COMMA, PLAIN),
    }
    assert entry("dla", **traces).edge == "tflite->dla"
    assert entry("tflite", **traces).undone_by == "tflite->dla"


def test_a_language_is_followed_too():
    """By the token of the prompt."""
    spanish = says(PLAIN, prompt=SPANISH)
    assert entry("dla", pytorch=PLAIN, torchscript=PLAIN, tflite=spanish, dla=spanish).edge == "torchscript->tflite"
