"""Verified drafts on trained weights and real decisions: near ties, commas, two languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import sites
from whisper_parity.backend import build
from whisper_parity.backend.contract import Halves
from whisper_parity.clips import features, selection
from whisper_parity.decode import policy
from whisper_parity.decode.loop import decode
from whisper_parity.model import checkpoint

CLIPS = ("en-comma-01", "zh-question-01")


@pytest.fixture(scope="module", params=["pytorch", "torchscript", "tflite", "tflite:int8"])
def session(request, cache_dir) -> Iterator[Halves]:
    """Each stage on the embedded micro checkpoint."""
    workshop = sites.workshop(None, cache_dir)
    with sites.backends().of(request.param).open(build.obtain(workshop, request.param), 2) as opened:
        assert isinstance(opened, Halves)
        yield opened


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("kind", ["whisper", "plain"])
def test_any_draft_gives_the_tokens_of_step_by_step_decoding(session, name, kind):
    """Right in one call; with a comma more or less, a wrong token or too many, the same tokens all the same."""
    (clip,) = selection.select((name,)).clips
    plan = policy.concrete(policy.named(kind), checkpoint.resolve(None).dims, clip.language)
    encoder_output = session.encode(features.compute(clip.path, 80).windows[0].input_features)
    expected = decode(session, plan, encoder_output, [], step_by_step=True).tokens
    assert expected
    right = decode(session, plan, encoder_output, expected, reference=expected)
    assert (right.tokens, right.decoder_calls) == (expected, 1)
    middle = len(expected) // 2
    for draft in (
        [*expected[:middle], 11, *expected[middle:]],
        [999, *expected[1:], 220, 220],
    ):
        found = decode(session, plan, encoder_output, draft)
        assert found.tokens == expected
        assert found.decoder_calls <= len(expected) + 1
