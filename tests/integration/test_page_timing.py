"""When the micro checkpoint says its words: by its cross-attention, and where that cannot be had, by segments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import whisper

from tests.support.traces import PROMPT, trace_header
from whisper_parity.clips import features, selection
from whisper_parity.decode.loop import TeacherForced
from whisper_parity.model import checkpoint, vocabulary
from whisper_parity.report.html import timing
from whisper_parity.trace.trace import Trace, WindowHeader, WindowTrace


@pytest.fixture(scope="module")
def model():
    return whisper.load_model(str(checkpoint.MICRO), device="cpu").eval()


@pytest.fixture(scope="module")
def spoken(model) -> Trace:
    """A clip of two windows of the same words, as a stage with tensors records it."""
    clip = next(clip for clip in selection.select(("all",)).clips if clip.language == "en" and clip.text)
    heard = features.compute(clip.path, model.dims.n_mels)
    n_vocab = model.dims.n_vocab
    tokens = tuple(vocabulary.tokenizer(n_vocab, "en").encode(f" {clip.text}"))
    with torch.no_grad():
        encoder_output = model.encoder(torch.from_numpy(heard.windows[0].input_features)).numpy()
    rows = np.zeros((len(tokens) + 1, 8), np.float32)
    forced = TeacherForced(tokens, rows, np.zeros(len(rows), int), np.ones(len(rows), int))
    headers = [WindowHeader(i, "", PROMPT, tokens, "eot", tokens, 1, 1, 0.1, 0.1) for i in range(2)]
    whole = dataclasses.replace(
        trace_header("pytorch", *headers), text=f"{clip.text} {clip.text}", n_vocab=n_vocab, vocabulary=n_vocab,
        audio_s=30 + heard.seconds,
    )  # fmt: skip
    return Trace(whole, tuple(WindowTrace(header, encoder_output, forced) for header in headers))


def test_words_are_spoken_one_after_the_other_within_the_sound(model, spoken):
    """Each character of the text and each step has its second; the second window begins where the first ends."""
    times = timing.by_attention(spoken, model)
    letters = [letter for letter in spoken.header.text if not letter.isspace()]
    assert times.source == "cross-attention"
    assert len(times.characters) == len(letters)
    assert list(times.characters) == sorted(times.characters)
    assert 0 <= times.characters[0] < times.characters[len(letters) // 2 - 1] <= 30
    assert 30 <= times.characters[len(letters) // 2] <= times.characters[-1] <= spoken.header.audio_s
    steps = range(len(spoken.windows[0].header.forced_tokens) + 1)
    starts = [times.start((0, step)) for step in steps]
    assert None not in starts
    assert starts == sorted(starts)
    assert times.start((1, 0)) >= 30


def test_segments_stand_in_where_there_is_no_cross_attention(spoken):
    """Their characters spread evenly; no step has a second, since none is known."""
    text_only = Trace(dataclasses.replace(spoken.header, segments=((1.0, 2.0, "ab cd"), (4.0, 5.0, "e"))), ())
    times = timing.by_segments(text_only)
    assert times.characters == (1.0, 1.25, 1.5, 1.75, 4.0)
    assert (times.source, times.start((0, 0)), times.second(4), times.second(99)) == ("segments", None, 4.0, 4.0)
    assert timing.by_segments(Trace(spoken.header, ())) is timing.UNKNOWN
