"""Metrics: values worked out by hand, and the edges."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from whisper_parity.compare import logits, tensor, text, token
from whisper_parity.compare.normalise import compare_texts, for_language


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


class TestTensor:
    """whisper_parity.compare.tensor"""

    def test_values_by_hand(self):
        """reference (3, 4), candidate (3, 5): error energy 1, signal energy 25."""
        diff = tensor.measure(reference=array(3, 4), candidate=array(3, 5))
        assert (diff.max_abs_err, diff.max_abs_err_index, diff.max_abs_ref) == (1.0, (1,), 4.0)
        assert diff.mean_abs_err == 0.5
        assert diff.rmse == pytest.approx(math.sqrt(0.5))
        assert diff.snr_db == pytest.approx(10 * math.log10(25))
        assert diff.cosine_similarity == pytest.approx((9 + 20) / (5 * math.sqrt(34)))

    def test_the_reference_is_the_signal(self):
        """Swapping the sides changes the SNR: 25 to 1 one way, 34 to 1 the other."""
        forth = tensor.measure(reference=array(3, 4), candidate=array(3, 5)).snr_db
        back = tensor.measure(reference=array(3, 5), candidate=array(3, 4)).snr_db
        assert (forth, back) == (pytest.approx(13.979, abs=1e-3), pytest.approx(15.315, abs=1e-3))

    def test_identical_is_plus_infinity(self):
        """No noise at all, even of zeros."""
        assert tensor.measure(reference=array(0, 0), candidate=array(0, 0)).snr_db == math.inf

    def test_error_on_a_zero_reference_is_minus_infinity(self):
        """No signal: nothing to be proud of, and no direction to compare."""
        diff = tensor.measure(reference=array(0, 0), candidate=array(0, 1))
        assert (diff.snr_db, diff.cosine_similarity) == (-math.inf, None)

    @pytest.mark.parametrize("bad", [array(1, math.nan), array(1, math.inf), array(1), array()])
    def test_what_cannot_be_compared_is_refused(self, bad):
        """NaN, infinity, another shape: never masked, never broadcast."""
        with pytest.raises(ValueError, match=r"finite|shapes|empty"):
            tensor.measure(reference=array(1, 2) if bad.size else array(), candidate=bad)

    def test_nonfinite_values_are_counted_and_located(self):
        """Count and first index."""
        values = np.array([[0, 1], [math.nan, -math.inf]], np.float32)
        assert (tensor.count_nonfinite(values), tensor.first_nonfinite(values)) == (2, (1, 0))

    def test_sums_run_in_float64(self):
        """A float32 sum of a million squares would lose the small error."""
        reference = np.full(1_000_000, 1000, np.float32)
        candidate = reference.copy()
        candidate[7] += 0.25
        assert tensor.measure(reference=reference, candidate=candidate).snr_db == pytest.approx(
            10 * math.log10(1e12 / 0.0625)
        )


class TestLogits:
    """whisper_parity.compare.logits"""

    def test_kl_by_hand(self):
        """p = (3/4, 1/4) against q = (1/2, 1/2), shifted by constants that softmax ignores."""
        kl = logits.kl_divergence(array(math.log(3) + 50, 50), array(-7, -7))
        assert kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)

    def test_agreement_and_overlap(self):
        """Two steps, one with another largest token; of five largest, four are shared in the second."""
        reference = np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]], np.float32)
        candidate = np.array([[6, 5, 4, 3, 2, 1], [1, 6, 4, 3, 2, 5]], np.float32)
        diff = logits.measure(reference=reference, candidate=candidate)
        assert (diff.steps, diff.argmax_agreement, diff.top5_overlap) == (2, 0.5, pytest.approx(0.9))

    def test_margin_is_choice_minus_runner_up(self):
        """Of the tokens that the policy allowed, not of the raw two largest."""
        values = np.array([[9, 5, 3]], np.float32)
        assert logits.margins(values, np.array([1]), np.array([2])).tolist() == [2.0]

    def test_no_step_is_refused(self):
        """An empty comparison is no perfect one."""
        with pytest.raises(ValueError, match="cannot be compared"):
            logits.measure(reference=np.zeros((0, 5), np.float32), candidate=np.zeros((0, 5), np.float32))


class TestToken:
    """whisper_parity.compare.token"""

    @pytest.mark.parametrize(
        ("reference", "candidate", "expected"),
        [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([], [5], 0), ([1, 2], [1, 2, 3], 2)],
    )
    def test_first_divergence(self, reference, candidate, expected):
        """The end of the shorter one counts as a difference."""
        assert token.first_divergence(reference, candidate) == expected

    def test_an_inserted_comma_is_one_edit(self):
        """Kind, place and tokens."""
        diff = token.compare(reference=[400, 6280, 1029], candidate=[400, 6280, 11, 1029])
        (edit,) = diff.edits
        assert (edit.kind, edit.reference_start, edit.candidate_tokens) == ("insert", 2, (11,))
        assert not diff.equal


class TestText:
    """whisper_parity.compare.text"""

    def test_word_errors_by_hand(self):
        """One substitution, one deletion, one insertion over four words."""
        counts = text.word_errors(reference="a b c d", hypothesis="a x d e")
        assert (counts.errors, counts.length, counts.rate) == (3, 4, 0.75)

    def test_an_empty_reference_has_no_rate(self):
        """Insertions are counted; a rate over nothing is None, never 0."""
        counts = text.word_errors(reference="", hypothesis="peaceful silence")
        assert (counts.insertions, counts.length, counts.rate) == (2, 0, None)

    def test_a_corpus_rate_is_a_sum_over_a_sum(self):
        """1 error of 1 and 0 of 9 make 10 %, not 50 %."""
        assert text.total([text.ErrorCounts(substitutions=1), text.ErrorCounts(hits=9)]).rate == 0.1

    @pytest.mark.parametrize(
        ("reference", "hypothesis", "language", "expected"),
        [
            ("my Americans ask", "my Americans, ask", "en", [("punctuation", "", ",")]),
            ("for you, ask", "for you. ask", "en", [("punctuation", ",", ".")]),
            ("and What then", "and what then", "en", [("case", "What", "what")]),
            ("in 25 years", "in twenty years", "en", [("number", "25", "twenty")]),
            ("a fox ran", "a dog ran", "en", [("word", "fox", "dog")]),
            ("he said it, twice", "he said twice", "en", [("word", "it", ""), ("punctuation", ",", "")]),
            ("介紹我想", "介紹,我想", "zh", [("punctuation", "", ",")]),
            ("介紹我想", "介召我想", "zh", [("word", "紹", "召")]),
        ],
    )
    def test_each_edit_has_its_class(self, reference, hypothesis, language, expected):
        """Marks are never paired with words."""
        found = text.classify(reference=reference, hypothesis=hypothesis, language=language)
        assert [(edit.edit_class, edit.reference, edit.hypothesis) for edit in found] == expected

    def test_inner_marks_belong_to_their_word(self):
        """An apostrophe or hyphen between letters and a point between digits are no punctuation."""
        assert text.units("don't, 3.5 well-known U.S", "en") == ["don't", ",", "3.5", "well-known", "U", ".", "S"]


def test_every_metric_declares_its_direction():
    """A gate that reads no direction here would have to guess."""
    for module, kind in ((tensor, tensor.TensorDiff), (logits, logits.LogitsDiff)):
        described = {"max_abs_err_index", "max_abs_ref", "steps"} | {
            name for name in kind.__slots__ if name.startswith("top_movement_")
        }
        assert set(kind.__slots__) - described == set(module.HIGHER_IS_BETTER)


@pytest.mark.parametrize("language", ["en", "de", "zh"])
@pytest.mark.parametrize("unit", ["[", "(", "<", "[ ", " ", "1", "$", "(a", "1 point "])
def test_a_loop_of_brackets_blanks_or_digits_is_normalised_in_no_time(language, unit):
    """The normalisers' patterns are quadratic there, and Python refuses a number of 5000 digits."""
    started = time.process_time()
    diff = compare_texts(reference="a word", hypothesis=unit * 20_000, language=language)
    assert not diff.equal
    assert time.process_time() - started < 20


def test_ordinary_brackets_and_numbers_are_normalised_as_openai_whisper_does():
    """What is inside brackets is no speech; numbers are spelt in digits."""
    from whisper.normalizers import EnglishTextNormalizer

    said = " [music]  Twenty-one (laughs) of the 1,000\n people <unk> paid $5.50.  "
    assert for_language("en")[1](said) == EnglishTextNormalizer()(said)
