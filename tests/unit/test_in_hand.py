"""What was used last stays in hand, as far as it fits."""

from __future__ import annotations

from whisper_parity.system.in_hand import InHand


def test_what_was_not_used_for_longest_goes():
    """A look at a value is a use."""
    hand = InHand[str, int](10)
    for name in "abc":
        hand.put(name, 1, 3)
    assert hand.get("a") == 1
    hand.put("d", 1, 3)
    assert [hand.get(name) for name in "abcd"] == [1, None, 1, 1]


def test_a_value_in_place_of_another_counts_once():
    """The bytes of the earlier one are free again."""
    hand = InHand[str, int](10)
    hand.put("a", 1, 4)
    for number in range(5):
        hand.put("b", number, 6)
    assert (hand.get("a"), hand.get("b")) == (1, 4)


def test_a_number_of_values_stays_and_what_is_too_large_does_not():
    """Sizes are of any unit: one each counts values."""
    two, none = InHand[str, int](2), InHand[str, int](10)
    for name in "abc":
        two.put(name, 1, 1)
    assert [two.get(name) for name in "abc"] == [None, 1, 1]
    assert none.put("a", 1, 11) == 1
    assert none.get("a") is None
