"""From a file to a recording, bit for bit as `ffmpeg -threads 0 -i FILE -f s16le -ac 1 -ar 16000` does it.

Rate, layout and format are converted in one step by FFmpeg's own resampler: a downmix to 16 bit is scaled to the range
of an integer, one to float is not. The stream is the one that ffmpeg picks, the residue of the resampler is lost
where the sound changes its format, and what a damaged MP3 packet held is left out: all as ffmpeg has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.clips.recording import SAMPLE_RATE, Recording
from whisper_parity.clips.source import opened, sounding
from whisper_parity.clips.truncation import missing_s
from whisper_parity.errors import AudioError, first_line

MAX_SECONDS = 3 * 3600.0
"""Longer files are refused: a hostile header must not keep a run busy for ever."""
MAX_MISSING_S = 0.1
"""A file may be this much shorter than its header says: MP3 encoders pad by up to a few frames."""
COPY_AGAIN = "Copy it again"
RESYNCHRONISING = {"mp3"}
"""Containers without a length or a checksum, where a tag or a cut amid packets is common."""


@dataclass(slots=True)
class _Tape:
    """What a file has given so far."""

    path: Path
    pcm: bytearray = field(default_factory=bytearray)
    n_channels: int = 0
    layout: str = ""
    packets: int = 0
    damaged: int = 0
    source_s: float = 0.0
    """Length of the decoded frames [s], at their own rate."""


def decode(path: Path) -> Recording:
    """Decode a regular file.

    Raises:
        AudioError: not audio, cut short, not finite or longer than MAX_SECONDS.
    """
    import av

    tape = _Tape(path)
    try:
        with opened(path) as container:
            stream = best_stream(container, path)
            rate = stream.sample_rate  # a damaged packet may change what the decoder says
            _play(container, stream, tape)
            missing = missing_s(container, stream, path, rate, len(tape.pcm) / 2 / SAMPLE_RATE)
            notes = tuple(_notes(tape, container, stream))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AudioError(
            f"{path}: cannot be decoded as audio ({reason})", hint="Is it complete, and a sound file?"
        ) from error
    if missing > MAX_MISSING_S:
        raise AudioError(f"{path}: cut short, {missing:.2f} s that its header announces are missing", hint=COPY_AGAIN)
    return Recording(np.frombuffer(tape.pcm, np.int16), notes)


def best_stream(container: Any, path: Path) -> Any:
    """The stream that ffmpeg takes when none is named: a default one first, then the most channels, then the first.

    Raises:
        AudioError: there is none.
    """
    from av.stream import Disposition

    if not (streams := sounding(container)):
        raise AudioError(f"{path}: no audio stream in it", hint="Give a file with sound")
    return max(streams, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.channels))


def _play(container: Any, stream: Any, tape: _Tape) -> None:
    """Decode and convert frame by frame; a converter serves as long as the frames keep their form."""
    converter = _Converter(tape)
    for packet in container.demux(stream):
        for frame in _frames(packet, tape, container.format.name in RESYNCHRONISING):
            converter.take(frame)
    converter.end()
    if 2 * tape.damaged > tape.packets:
        raise ValueError(f"{tape.damaged} of {tape.packets} packets are damaged")


def _frames(packet: Any, tape: _Tape, lenient: bool) -> Iterator[Any]:
    """The frames of a packet; a damaged one has none in a container that recovers, and ends the others."""
    import av

    tape.packets += 1
    try:
        frames = packet.decode()
    except av.error.InvalidDataError:
        if not lenient:
            raise
        tape.damaged += 1
        return
    lossless = packet.stream.codec_context.codec.lossless
    for frame in frames:
        if lossless:  # a lossy decoder makes no NaN, and most of its frames are float
            _require_finite(frame, tape)
        tape.source_s += frame.samples / frame.sample_rate
        yield frame


class _Converter:
    """FFmpeg's resampler, opened anew where the sound changes its form; what the old one still held is lost then."""

    def __init__(self, tape: _Tape) -> None:
        self._tape = tape
        self._form: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def take(self, frame: Any) -> None:
        """Convert a frame."""
        import av

        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._form, self._resampler = form, av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            _remember_layout(self._tape, frame.layout)
        frame.pts = None  # ffmpeg writes raw samples one after the other, whatever their time stamps say
        self._write(frame)

    def end(self) -> None:
        """Take what the resampler still holds."""
        if self._resampler is not None:
            self._write(None)

    def _write(self, frame: Any) -> None:
        import av

        try:
            for piece in self._resampler.resample(frame):
                self._tape.pcm += memoryview(piece.planes[0])[: 2 * piece.samples]  # behind them is padding
        except av.error.ArgumentError as error:
            if frame is None or frame.layout.nb_channels < 2:
                raise
            raise AudioError(
                f"{self._tape.path}: {frame.layout.nb_channels} channels in no known layout cannot be mixed down",
                hint="Export it as mono or stereo",
            ) from error
        if len(self._tape.pcm) > 2 * MAX_SECONDS * SAMPLE_RATE:
            raise AudioError(f"{self._tape.path}: longer than {MAX_SECONDS / 3600:.0f} h", hint="Cut it into clips")


def _remember_layout(tape: _Tape, layout: Any) -> None:
    if layout.nb_channels > tape.n_channels:
        tape.n_channels, tape.layout = layout.nb_channels, layout.name


def _layout_name(tape: _Tape) -> str:
    """How the layout is called; one that the file does not name is the usual one of so many channels."""
    import av

    unnamed = tape.layout == f"{tape.n_channels} channels"
    return f"taken for {av.AudioLayout(f'{tape.n_channels}c').name}" if unnamed else tape.layout


def _require_finite(frame: Any, tape: _Tape) -> None:
    if not frame.format.name.startswith(("flt", "dbl")):
        return
    values = frame.to_ndarray()
    if np.isfinite(values).all():
        return
    at = np.flatnonzero(~np.isfinite(values).reshape(values.shape[0], -1).all(axis=0))[0]
    place = at if frame.format.is_planar else at // frame.layout.nb_channels
    seconds = tape.source_s + int(place) / frame.sample_rate
    raise AudioError(
        f"{tape.path}: a sample is NaN or infinite (first at {seconds:.3f} s)", hint="Export the clip again"
    )


def _notes(tape: _Tape, container: Any, stream: Any) -> Iterator[str]:
    if tape.n_channels > 1:
        yield f"mixed down from {tape.n_channels} channels ({_layout_name(tape)})"
    streams = sounding(container)
    if len(streams) > 1:
        yield f"audio stream {streams.index(stream) + 1} of {len(streams)}, the one that ffmpeg takes"
    if tape.damaged:
        yield f"{tape.damaged} of {tape.packets} packets are damaged and were left out, as ffmpeg does"
