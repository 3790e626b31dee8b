"""The first edge taken apart: which parts of the decode policy make a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.support.traces import N_VOCAB, says, tokens
from whisper_parity.decode.policy import BUILT_IN, Policy, named
from whisper_parity.explain import policies
from whisper_parity.explain.differences import changes
from whisper_parity.explain.explanation import Change, PolicyPart
from whisper_parity.trace.trace import Trace

ALWAYS = {
    "temperature fallback": {"temperature": 0.0},
    "condition on previous text": {"condition_on_previous_text": False},
    "silence gate": {"no_speech_threshold": None},
    "window padding": {policies.WHOLE_WINDOWS: True},
}
TIMESTAMPS = {"timestamps": {"without_timestamps": True}}
COMMA, PLAIN = " Americans, ask", " Americans ask"
ZERO, ONE, TWO = 50364, 50414, 50464
"""Timestamps of 0, 1 and 2 s."""


def change(reference: str = COMMA, candidate: str = PLAIN, language: str = "en") -> Change:
    return changes(tokens(reference), tokens(candidate), N_VOCAB, language)[0]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (BUILT_IN["whisper"], {**TIMESTAMPS, **ALWAYS}),
        (
            BUILT_IN["plain"],
            {
                **TIMESTAMPS,
                **ALWAYS,
                "suppressed tokens": {"suppress_tokens": None},
                "blank suppression": {"suppress_blank": False},
            },
        ),
        (
            BUILT_IN["app"],
            {
                **TIMESTAMPS,
                **ALWAYS,
                "suppressed tokens": {"suppress_tokens": None},
                "blank suppression": {"suppress_blank": False},
            },
        ),
        (named("own", {"own": {"without_timestamps": False}}), ALWAYS),
        (
            named("own", {"own": {"prompt": "Kennedy", "suppress_tokens": [13]}}),
            {
                **TIMESTAMPS,
                **ALWAYS,
                "suppressed tokens": {"suppress_tokens": [13]},
                "prompt": {"initial_prompt": "Kennedy"},
            },
        ),
    ],
)
def test_a_part_is_switched_where_a_policy_is_not_transcribes_own(policy, expected):
    """The windows of a port are decoded one by one, at temperature 0."""
    assert policies.switches(policy) == expected


def test_timestamps_come_first():
    """The part that most often is to blame."""
    assert next(iter(policies.switches(BUILT_IN["plain"]))) == "timestamps"


Cause = Callable[[policies.Switches], bool]


def without_timestamps(switched: policies.Switches) -> bool:
    return "without_timestamps" in switched


def two_together(switched: policies.Switches) -> bool:
    return {"without_timestamps", "temperature"} <= set(switched)


def either_of_two(switched: policies.Switches) -> bool:
    return bool({"without_timestamps", "temperature"} & set(switched))


def enough_others(switched: policies.Switches) -> bool:
    """Timestamps alone do it, and so do all others."""
    return without_timestamps(switched) or len(switched) == len(ALWAYS)


def parts(cause: Cause) -> tuple[tuple[str, bool, bool], ...]:
    """(part, removes, restores) for a comma that the original leaves out under `cause`, as the candidate does."""

    def run(switched: policies.Switches) -> Sequence[int]:
        return tokens(PLAIN if cause(switched) else COMMA)

    found = policies.parts(change(), says(COMMA), says(PLAIN), BUILT_IN["whisper"], run)
    return tuple((each.part, each.removes, each.restores) for each in found)


@pytest.mark.parametrize(
    ("cause", "timestamps", "temperature"),
    [
        (without_timestamps, (True, True), (False, False)),
        (two_together, (False, True), (False, True)),
        (either_of_two, (True, False), (True, False)),
        (enough_others, (True, False), (False, False)),
    ],
)
def test_each_part_is_switched_alone_and_switched_back_alone(cause, timestamps, temperature):
    """What removes the difference, and what is needed for it."""
    assert parts(cause) == (
        ("timestamps", *timestamps),
        ("temperature fallback", *temperature),
        ("condition on previous text", False, False),
        ("silence gate", False, False),
        ("window padding", False, False),
    )


def test_several_parts_may_do_it_only_together():
    """Any three of five: none is enough and none is needed."""
    found = parts(lambda switched: len(switched) >= 3)
    assert {effect for _, *effects in found for effect in effects} == {False}


def test_there_are_no_parts_where_the_whole_policy_does_not_do_it():
    """Another reason than the policy; one run tells."""
    runs: list[policies.Switches] = []
    assert parts(lambda switched: bool(runs.append(switched))) == ()
    assert len(runs) == 1


def test_only_the_place_of_the_difference_counts():
    """What the policy changes around it is another difference, in one sentence without blanks too."""
    reference, candidate = "你我他说话很好", "你我他讲话很好"
    ours, theirs = says(reference, language="zh"), says(candidate, language="zh")

    def run(switched: policies.Switches) -> Sequence[int]:
        return tokens("您我他讲话很坏" if without_timestamps(switched) else "您我他说话很坏")

    found = policies.parts(change(reference, candidate, "zh"), ours, theirs, BUILT_IN["whisper"], run)
    assert found[0] == PolicyPart("timestamps", True, True)


def original(*, boundary: bool) -> Trace:
    """COMMA as transcribe gives it: one segment, or two that meet at the comma."""
    first, rest = tokens(COMMA)[:1], tokens(COMMA)[1:]
    return says((ZERO, *first, *((ONE, ONE) if boundary else ()), *rest, TWO))


ALONE = PolicyPart("timestamps", True, True)
NEEDED = PolicyPart("timestamps", False, True)
NOTHING = PolicyPart("temperature fallback", False, False)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([ALONE, NOTHING], "comes from the decode policy: timestamps, switched alone, makes both read the same"),
        (
            [ALONE, PolicyPart("prompt", True, False)],
            "comes from the decode policy: timestamps or prompt, switched alone, makes both read the same",
        ),
        ([NEEDED, NOTHING], "comes from the decode policy: timestamps, switched back alone, restores it"),
        ([NOTHING], "comes from the decode policy, but from several parts together: none alone adds or removes it"),
        ([], "is not the policy's: whisper.transcribe under the candidate's policy reads as before"),
    ],
)
def test_what_the_parts_say(found, said):
    """In one sentence, for every combination."""
    assert policies.finding(change(), original(boundary=False), found).startswith(f"the comma {said}")


def test_a_segment_boundary_is_said_where_timestamps_alone_make_it():
    """With them the comma stands at the end of a segment; nothing is claimed of it where they do not decide."""
    said = "the comma is a segment boundary in timestamp mode: without timestamps it reads as the candidate does"
    assert policies.finding(change(), original(boundary=True), [ALONE]) == said
    for part in (NEEDED, NOTHING):
        assert "boundary" not in policies.finding(change(), original(boundary=True), [part])


@pytest.mark.parametrize(
    ("boundaries", "said"),
    [
        ({1}, "the comma is a segment boundary in timestamp mode: suspect the decode policy (timestamps) first"),
        ({0, 2}, "the comma is not at a segment boundary of the reference"),
        ((), "the comma is not at a segment boundary of the reference"),
    ],
)
def test_a_boundary_is_a_place_of_the_reference(boundaries, said):
    """Exactly the one at which the difference begins."""
    assert policies.boundary(change(), frozenset(boundaries)) == said


@pytest.mark.parametrize(
    ("reference", "candidate", "subject"),
    [
        (COMMA, PLAIN, "the comma"),
        (" ask", " ask.", "the full stop"),
        (" ask?", " ask", "the question mark"),
        (" ask", " ask!", "the exclamation mark"),
        ("你好。", "你好", "the full stop"),
        ("你、我", "你我", "the enumeration comma"),
        (" ask?", " ask.", "the mark '?.'"),
        (' he said."', ' he said".', "the mark '.\"'"),
        (" a fox", " a dog", "the word 'fox'"),
        (" fox", " fox ran", "the word 'ran'"),
    ],
)
def test_a_difference_has_a_name(reference, candidate, subject):
    """What the reference says, or what is said in its place."""
    assert policies.subject(change(reference, candidate)) == subject


def test_a_policy_of_transcribes_own_settings_has_the_fixed_parts_only():
    """Nothing of its options differs."""
    own = Policy("own", {"suppress_tokens": "-1", "suppress_blank": True})
    assert policies.switches(own) == ALWAYS
