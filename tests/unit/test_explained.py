"""Explanations at the terminal."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from whisper_parity.explain import hypothesis
from whisper_parity.explain.explanation import (
    Cause,
    Change,
    CrossFeed,
    Entry,
    Explanation,
    Explanations,
    LayerFinding,
    PolicyPart,
    UnitError,
    Weight,
)
from whisper_parity.report import explained

CHANGE = Change("punctuation", ",", "my fellow Americans", "", ",", "ask not what your", 0, 5, None, 11, None)
BARE = Explanation("jfk", "torchscript", "tflite", CHANGE, None, None, (), None, ())
LAYER = LayerFinding(
    "encoder",
    (
        UnitError("encoder.conv", 131.4, 130.6, 0, False),
        UnitError("encoder.blocks.0", 31.0, None, 0, False, entire_fails=True),
        UnitError("encoder.blocks.1", None, math.inf, 0, False),
        UnitError("encoder.blocks.2", None, -math.inf, 7, True),
        UnitError("encoder.ln_post", None, None, 0, False),
    ),
    "encoder.blocks.0",
    True,
    3,
    "encoder.blocks.0 fails alone",
)
WHOLE = replace(
    BARE,
    entry=Entry("torchscript->tflite", "", (), (PolicyPart("timestamps", True, True),), "enters there"),
    cross_feed=CrossFeed("encoder", (), "the encoder alone does it"),
    layers=(LAYER,),
    weight=Weight(0.1, 0.2, 0.3, (), 0.4, "tie", "tie: margin 0.1"),
    missing=("layer of the decoder: no probe",),
)


def lines(*found: Explanation, **others) -> list[str]:
    return explained.lines(Explanations("jfk", "tflite", found, **others))


def blamed(part: str, unit: str = "", **others) -> dict[str, object]:
    """An explanation's fields for one cause."""
    return {"causes": (Cause("", part, unit, (), ""),), "part": part, "unit": unit, **others}


def shown(text: str) -> str:
    """What the terminal gets of a change that says `text`."""
    out = io.StringIO()
    change = replace(CHANGE, candidate_text=text)
    found = Explanations("jfk", "tflite", (replace(BARE, change=change),), missing=(text,))
    explained.show(found, Console(file=out, force_terminal=True, width=500))
    return out.getvalue()


def test_all_five_answers():
    """One line each, behind what changed."""
    assert lines(WHOLE, **blamed("encoder", "encoder.blocks.0", missing=("dla did not run: no device",))) == [
        "jfk · tflite: 1 difference(s) in tokens",
        "  1. punctuation ',': my fellow Americans [(nothing) -> ,] ask not what your (step 5)",
        "     edge     enters there",
        "     policy   timestamps makes and breaks it",
        "     part     the encoder alone does it",
        "     layer    encoder.blocks.0 fails alone",
        "     layer    single dB: conv 131, blocks.1 identical, blocks.2 -inf!",
        "     layer    entire dB: conv 131, blocks.0 31!",
        "     matters  tie: margin 0.1",
        "     not known: layer of the decoder: no probe",
        "  comes from encoder · encoder.blocks.0",
        "  not known  dla did not run: no device",
    ]


@pytest.mark.parametrize(
    ("kinds", "label"),
    [
        (("tie", "justified"), "comes from"), (("tie", "fault"), "to blame  "), ((), "to blame  "),
    ],
)  # fmt: skip
def test_nobody_is_to_blame_for_a_tie(kinds, label):
    """Though it is said where it comes from; one fault is enough."""
    found = [replace(WHOLE, weight=replace(WHOLE.weight, kind=kind)) for kind in kinds] or [BARE]
    assert f"  {label} encoder" in lines(*found, **blamed("encoder"))


def test_nothing_at_all():
    """No token differs, and nothing else is known."""
    assert lines() == ["jfk · tflite: no token differs"]


def test_what_was_not_compared_is_not_called_equal():
    """A row that could not be explained, and why."""
    assert lines(compared=False, missing=("no trace",)) == ["jfk · tflite: not explained", "  not known  no trace"]


@pytest.mark.parametrize(
    ("edit_class", "said"),
    [("missing end", "missing end (the text goes on)"), ("extra end", "extra end (the text stops early)")],
)
def test_which_end_is_meant_is_said(edit_class, said):
    """The end-of-text token is the one that is missing or extra, not words."""
    assert lines(replace(BARE, change=replace(CHANGE, edit_class=edit_class, mark="")))[1].startswith(f"  1. {said}: ")


def test_a_difference_without_answers():
    """What changed is known all the same; where only prompts differ there is no step."""
    language = replace(CHANGE, edit_class="language", mark="", step=None, reference_text="<|en|>", before="", after="")
    assert lines(replace(BARE, change=language))[1:] == ["  1. language:  [<|en|> -> ,] "]


def test_layers_where_no_token_differs():
    """Tensors moved: which layer, and what is to blame."""
    assert lines(**blamed("policy", layers=(replace(LAYER, units=()),)))[1:] == [
        "  layer      encoder.blocks.0 fails alone",
        "  to blame   policy",
    ]


@pytest.mark.parametrize(("unit", "label"), [("", "comes from"), ("encoder.blocks.0", "to blame  ")])
def test_nobody_is_to_blame_where_errors_add_up(unit, label):
    """A component's output fails and no unit of it does."""
    layer = replace(LAYER, units=(), component="encoder", output_fails=True)
    assert lines(**blamed("encoder", unit, layers=(layer,)))[-1].startswith(f"  {label} encoder")


def test_the_kind_of_wrong_stands_behind_the_layer():
    """Of a difference, and where no token differs."""
    found = replace(LAYER, kinds=(hypothesis.of("encoder.blocks.2", "ReLU in its MLP", 0.9999, 90.0),))
    sentence = "encoder.blocks.2 with ReLU in its MLP reproduces 99.9 % of the error's energy; what is left is at 90 dB"
    assert f"     kind     {sentence}" in lines(replace(WHOLE, layers=(found,)))
    assert f"  kind       {sentence}" in lines(layers=(found,))


def test_consequences_are_told_under_their_cause():
    """Counted, the first four in words; numbers are those of the list."""
    follows = replace(BARE, change=replace(CHANGE, follows_from=0, reference_text="fox", candidate_text="dog"))
    other = replace(BARE, change=replace(CHANGE, edit_class="case", mark=""))
    said = lines(BARE, *[follows] * 5, other)
    assert said[0] == "jfk · tflite: 7 difference(s) in tokens"
    assert said[2] == "     follows  5 more: fox -> dog; fox -> dog; fox -> dog; fox -> dog"
    assert [line.split(":")[0] for line in said[3:]] == ["  7. case"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([(True, False)], "a removes it"),
        ([(False, True), (True, True)], "a is needed for it; b makes and breaks it"),
        ([(False, False), (False, False)], "no effect alone: a, b"),
        ([(True, False), (False, False)], "a removes it; no effect alone: b"),
    ],
)
def test_what_each_part_of_the_policy_does(parts, said):
    """Those without effect last."""
    policy = tuple(PolicyPart(name, *effects) for name, effects in zip("ab", parts))
    assert f"     policy   {said}" in lines(replace(BARE, entry=Entry("", "", (), policy, "")))


def test_many_units_are_cut_short():
    """Twelve, and how many more."""
    units = tuple(UnitError(f"encoder.blocks.{i}", None, 40, 0, False) for i in range(15))
    assert lines(layers=(replace(LAYER, units=units),))[2].endswith("blocks.11 40, and 3 more")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("a\r\nb", r"a\r\nb"),
        ("\udc80", r"\udc80"),
        ("[bold]x[/bold] [/]", "[bold]x[/bold] [/]"),
        (":smile:", ":smile:"),
        ("שלום", "שלום"),
    ],
)
def test_hostile_text_does_nothing_to_the_terminal(text, written):
    """Controls and directions are escapes; markup and emoji codes stay as they were said."""
    said = shown(text)
    assert f"[(nothing) -> {written}]" in said
    assert f"not known  {written}" in said
    assert said.count("\n") == 3
    assert not set("\x1b\r\u202e\u2066") & set(said)
