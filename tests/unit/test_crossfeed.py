"""Which part alone chooses otherwise: every combination of two encoders and two decoders, no model involved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.traces import N_VOCAB, changed, says, tokens
from whisper_parity.backend.contract import Facts
from whisper_parity.decode.policy import BUILT_IN
from whisper_parity.explain import crossfeed
from whisper_parity.explain.crossfeed import Pair
from whisper_parity.explain.differences import changes
from whisper_parity.model.dims import Dims

DIMS = Dims(80, 1500, 384, 6, 4, N_VOCAB, 448, 384, 6, 4)
FOX, DOG, CAT, COW = (tokens(text)[0] for text in (" fox", " dog", " cat", " cow"))
CANDIDATE = 1.0
"""What the candidate's encoder gives; the reference's gives 0."""


class Decoder:
    """Chooses by whose encoder output it is given; NaN where the table says None."""

    facts = Facts("by hand")

    def usage(self) -> None: ...

    def __init__(self, by_reference: int | None, by_candidate: int | None) -> None:
        self._chooses = {0.0: by_reference, CANDIDATE: by_candidate}

    def encode(self, input_features):
        return np.full((1, 1, 1), CANDIDATE, np.float32)

    def decode(self, tokens, encoder_output, rows):
        row = np.zeros((1, N_VOCAB), np.float32)
        chosen = self._chooses[float(encoder_output[0, 0, 0])]
        row[0, 0 if chosen is None else chosen] = np.nan if chosen is None else 1
        return row


def crossed(reference: Decoder, candidate: Decoder, records: int | None = DOG) -> crossfeed.CrossFeed:
    """The answer where the candidate's record says dog for fox, or NaN."""
    ours, theirs = (says(text, stage=stage) for text, stage in ((" fox", "pytorch"), (" dog", "tflite")))
    logits = np.zeros((2, N_VOCAB), np.float32)
    logits[0, DOG] = np.nan if records is None else 1
    made = [
        changed(
            trace, logits=logits if chosen == DOG else logits * 0, choices=np.array([chosen, 0]), encoder_output=output
        )
        for trace, chosen, output in ((ours, FOX, encoded(0.0)), (theirs, DOG, encoded(CANDIDATE)))
    ]
    pair = Pair("pytorch", "tflite", made[0].windows[0], made[1].windows[0])
    bench: Any = SimpleNamespace(
        plan=SimpleNamespace(policy=BUILT_IN["plain"], checkpoint=SimpleNamespace(dims=DIMS)),
        session={"pytorch": reference, "tflite": candidate}.__getitem__,
        trace=lambda spec, clip: ours,
        features=lambda clip, spec: SimpleNamespace(windows=[SimpleNamespace(input_features=None)]),
        artifact=lambda spec: SimpleNamespace(files={}),
        kept=lambda name, key, make: make(),
    )
    (change,) = changes(tokens(" fox"), tokens(" dog"), N_VOCAB, "en")
    return crossfeed.cross_feed(bench, pair, SimpleNamespace(name="jfk"), change)  # type: ignore[arg-type]


def encoded(value: float) -> np.ndarray:
    return np.full((1, 1, 1), value, np.float32)


@pytest.mark.parametrize(
    ("reference", "candidate", "part"),
    [
        (Decoder(FOX, DOG), Decoder(FOX, DOG), "encoder"),
        (Decoder(FOX, FOX), Decoder(DOG, DOG), "decoder"),
        (Decoder(FOX, DOG), Decoder(DOG, DOG), "either"),
        (Decoder(FOX, FOX), Decoder(FOX, DOG), "both"),
        (Decoder(FOX, DOG), Decoder(FOX, FOX), "state"),
    ],
)
def test_the_part_that_alone_reproduces_it(reference, candidate, part):
    """Every combination has its name; a record that the file does not repeat is neither part's."""
    assert crossed(reference, candidate).part == part


def test_what_the_parts_say_alone_is_told_where_only_both_together_reproduce_it():
    """A third token is a finding of its own."""
    found = crossed(Decoder(FOX, CAT), Decoder(COW, DOG))
    assert found.part == "both"
    assert found.finding == (
        "only encoder and decoder of tflite together reproduce it; its encoder alone gives ' cat', "
        "its decoder alone ' cow'"
    )
    assert crossed(Decoder(FOX, FOX), Decoder(None, DOG)).finding.endswith("its decoder alone nothing finite")


def test_values_that_are_not_finite_are_reproduced_by_values_that_are_not_finite():
    """And by nothing else: a token is no NaN."""
    assert crossed(Decoder(FOX, None), Decoder(FOX, None), None).part == "encoder"
    assert crossed(Decoder(FOX, FOX), Decoder(FOX, DOG), None).part == "state"
