"""The sums of what the reference hears go red when it hears otherwise: by the downmix that went before, or a gain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.integration.test_hearing import SUMS, wav
from tests.support import hearing
from whisper_parity.clips import audio


class Otherwise:
    """A resampler whose 16 bit are made in another way."""

    def __init__(self, to_pcm: Callable[[Any], Any], **_: Any) -> None:
        self._to_pcm = to_pcm
        self._float = av.AudioResampler(format="fltp", layout="mono", rate=16_000)

    def resample(self, frame: Any) -> list[Any]:
        frames = []
        for piece in self._float.resample(frame):
            pcm = np.clip(np.rint(self._to_pcm(piece.to_ndarray()) * 32768), -32768, 32767).astype(np.int16)
            frames.append(av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono"))
        return frames


BROKEN: dict[str, Callable[[Any], Any]] = {
    "a downmix to float, that adds power": lambda samples: samples,
    "a downmix that is half as loud": lambda samples: samples / 2,
}


@pytest.mark.parametrize("case", ["s16 16000 stereo", "s16 16000 5.1"])
@pytest.mark.parametrize("broken", BROKEN)
def test_another_downmix_is_not_taken_for_ffmpegs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, broken: str
):
    """What this project did before it heard as openai-whisper does: 3 dB too loud, and more in 5.1."""
    path = wav(tmp_path, case)
    assert hearing.digest(audio.read(path).pcm) in SUMS[case].split()
    monkeypatch.setattr(av, "AudioResampler", _made(BROKEN[broken], av.AudioResampler))
    assert hearing.digest(audio.read(path).pcm) not in SUMS[case].split()


def _made(to_pcm: Callable[[Any], Any], real: Any) -> Callable[..., Any]:
    return lambda **given: Otherwise(to_pcm) if given["format"] == "s16" else real(**given)
