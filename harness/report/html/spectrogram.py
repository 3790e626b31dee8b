"""The log-mel picture: the encoder's input as a small PNG."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import account
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, clip_features
from whisper_parity.errors import ParityError
from whisper_parity.trace.trace import Trace

MEL_BANDS = (80, 128)
"""n_mels of openai-whisper's models; the recorded hash tells which one was used."""
FRAMES_PER_SECOND = 100
MAX_WIDTH = 640
LEVELS = 32
"""Shades: fewer make a smaller file, more are not visible."""
PALETTE = ((0, "0b0d1a"), (0.25, "3b1c62"), (0.5, "9b2f6e"), (0.75, "ee7350"), (1, "fdeeb0"))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, or the reason why there is none."""

    uri: str
    width: int
    height: int
    seconds: float
    """Length of the shown audio [s]."""
    note: str


NO_PICTURE = Picture("", 0, 0, 0.0, "")
"""Of a clip beyond the room for pictures: the page's script draws its sound."""


def picture(clip: Clip | None, recorded: Trace | None, folder: Path | None) -> Picture:
    """The log-mel of a clip as the run's encoder received it.

    Args:
        clip: the clip; None when its audio is missing.
        recorded: a trace with windows, whose hashes the features must match.
        folder: the cache of features.
    """
    if clip is None or folder is None:
        return _none("no log-mel picture: the clip's audio file was not found")
    if recorded is None:
        return _none("no log-mel picture: no stage of this run recorded windows of this clip")
    wanted = [window.header.input_features_sha256 for window in recorded.windows]
    for n_mels in MEL_BANDS:
        try:
            features = clip_features(folder, clip, n_mels, n_frames=recorded.header.n_frames)
        except ParityError as error:
            return _none(f"no log-mel picture: {error}")
        if [window.sha256 for window in features.windows] == wanted:
            return _draw(features)
    return _none("no log-mel picture: the audio file is not the one that this run recorded")


def own_picture(trace: Trace) -> Picture | None:
    """The log-mel that a program computed itself, its first window with all frames; None where it is no picture."""
    values = trace.tensors.get(account.tensor_name(account.FEATURES, 0))
    plain = None if values is None else np.squeeze(values)
    if plain is None or plain.ndim != 2 or plain.shape[0] not in MEL_BANDS or not np.isfinite(plain).all():
        return None
    return _drawn(plain, plain.shape[1])


def png(levels: NDArray[np.uint8]) -> bytes:
    """Shades 0 to LEVELS - 1, uint8 [height, width], as a PNG with a palette; encoded by FFmpeg."""
    import av

    height, width = levels.shape
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "pal8"
    codec.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray((np.ascontiguousarray(levels), _palette()), format="pal8")  # type: ignore[arg-type]
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))


def _draw(features: Features) -> Picture:
    mel = np.concatenate([window.input_features[0] for window in features.windows], axis=1)
    return _drawn(mel, min(mel.shape[1], max(1, round(features.seconds * FRAMES_PER_SECOND))))


def _drawn(mel: NDArray[np.float32], frames: int) -> Picture:
    """The first frames of a log-mel, float32 [n_mels, n_frames]."""
    pool = -(-frames // MAX_WIDTH)
    usable = max(1, frames // pool) * pool
    pooled = mel[::-1, :usable].reshape(mel.shape[0], -1, pool).max(axis=2)  # low frequencies below
    low, high = float(pooled.min()), float(pooled.max())
    scaled = (pooled - low) / ((high - low) or 1.0)
    levels = np.minimum(scaled * LEVELS, LEVELS - 1).astype(np.uint8)
    uri = f"data:image/png;base64,{base64.b64encode(png(levels)).decode()}"
    return Picture(uri, levels.shape[1], levels.shape[0], frames / FRAMES_PER_SECOND, "")


def _palette() -> NDArray[np.uint8]:
    """Alpha, red, green, blue of each shade, uint8 [256, 4]."""
    places = [place for place, _ in PALETTE]
    channels = np.array([list(bytes.fromhex(colour)) for _, colour in PALETTE])
    at = np.linspace(0, 1, LEVELS)
    palette = np.full((256, 4), 255, np.uint8)
    palette[:LEVELS, 1:] = np.stack([np.interp(at, places, channels[:, i]) for i in range(3)], axis=1).round()
    return palette


def _none(note: str) -> Picture:
    return Picture("", 0, 0, 0.0, note)
