"""JSON of many programs: an object with a text, ids or segments, whatever their fields are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from whisper_parity.compare.readers import values
from whisper_parity.compare.result import SPECIAL, Result, Segment
from whisper_parity.errors import RecordError

TEXT = (
    "text", "transcript", "transcription", "prediction", "pred_text", "hypothesis", "display_text", "result", "output",
)  # fmt: skip
PREDICTED = ("pred_text", "prediction", "predicted_text", "hypothesis", "hyp", "hyp_text", "pred", "pred_str")
"""Beside one of these, "text" is what was said: so NeMo writes it."""
SPOKEN = ("reference", "ref", "ground_truth", "truth", "target", "reference_text", "ref_text", "gt", "label_str")
ID = (
    "id", "sample_id", "utt_id", "uttid", "utt", "utterance_id", "clip_id", "audio_id", "segment_id", "key", "name",
)  # fmt: skip
IDS = (
    "tokens", "token_ids", "ids", "sequences_ids", "sequences", "generated_ids", "output_ids", "predicted_ids",
    "input_ids", "labels", "result_tokens",
)  # fmt: skip
PROMPT = ("prompt_ids", "prompt_tokens", "decoder_input_ids", "initial_tokens", "sot_sequence", "prompt")
SEGMENTS = ("segments", "chunks", "transcription", "utterances", "sentences")
LANGUAGE = ("language", "lang", "language_detected", "detected_language", "language_code", "language_specified")
CLIP = (
    "audio_file", "file", "filename", "audio_filepath", "audio_path", "audio", "path", "wav", "clip", "source", "key",
)  # fmt: skip
WRAPPERS = ("result", "results", "output", "response", "data", "transcription", "prediction")
"""Fields that hold the whole result in some services."""

FRAMES_A_SECOND = 100.0
"""Unit of `seek`: frames of the log-mel spectrogram."""
KEYS_SHOWN = 6
HINT = 'Give a result with a text: as openai-whisper\'s {"text", "segments": [{"text", "tokens"}]}'


def results(content: Any, name: str) -> tuple[Result, ...]:
    """The results in a JSON value; one, or a list of several clips'.

    Raises:
        RecordError: nothing that is a text, ids or segments, or values of the wrong kind.
    """
    if isinstance(content, str):
        return (Result(name, "text in JSON", content, None),)
    if isinstance(content, Mapping):
        return (_of_object(content, name),)
    if not isinstance(content, list):
        raise RecordError(f"{name}: expected a result, found {values.kind(content)} in JSON", hint=HINT)
    return _of_list(content, name)


def _of_list(content: list[Any], name: str) -> tuple[Result, ...]:
    if content and all(isinstance(item, Mapping) for item in content):
        if len(content) > 1 and not any(_is_segment(item) for item in content):
            return tuple(_of_object(item, name) for item in content)
        return (_of_object(content[0] if not _is_segment(content[0]) else {"segments": content}, name),)
    if content and all(isinstance(item, str) for item in content):
        return (Result(name, "list of texts", values.joined(content), None, joined=True),)
    if len(content) == 2 and isinstance(content[0], list) and isinstance(content[1], Mapping):
        return (_of_object({**content[1], "segments": content[0]}, name),)  # faster-whisper: segments and info
    tokens = values.ids(content, name)
    if not tokens:
        raise RecordError(f"{name}: expected a result, found an empty list", hint=HINT)
    return (Result(name, "list of token ids", None, (tokens,)),)


def _of_object(content: Mapping[str, Any], name: str) -> Result:
    while (inner := _wrapped(content)) is not None:
        if isinstance(inner, list):
            return _of_list(inner, name)[0]
        content = {**{key: value for key, value in content.items() if not isinstance(value, (dict, list))}, **inner}
    segments = _segments(content, name)
    text = _text(content, segments, name)
    written = values.field(content, IDS)
    parts = _with_prompt(_parts(segments, written, name), content, name)
    if text is None and parts is None:
        raise RecordError(f"{name}: no text and no tokens in {_found(content)}", hint=HINT)
    language, clip, model = (values.field(content, names) for names in (LANGUAGE, CLIP, ("model", "model_name")))
    inner = content.get("result")
    language = values.field(inner, LANGUAGE) if language is None and isinstance(inner, Mapping) else language
    return Result(
        name=name,
        form=_form(content),
        text=text[0] if text else None,
        parts=parts,
        language=language if isinstance(language, str) else None,
        segments=segments,
        clip=PurePath(clip).name if isinstance(clip, str) else "",
        id=_id(content),
        truth=_truth(content),
        model=model if isinstance(model, str) else _named(model, "type"),
        n_vocab=_vocabulary(model),
        joined=bool(text and text[1]),
        tokens_as_text=values.are_strings(written),
    )


def _form(content: Mapping[str, Any]) -> str:
    """The program that writes such fields."""
    if isinstance(content.get("transcription"), list):
        return "whisper.cpp JSON"
    if "chunks" in content:
        return "Hugging Face chunks"
    if "word_segments" in content:
        return "WhisperX JSON"
    if values.are_strings(content.get("tokens")):
        return "sherpa-onnx JSON"
    return "JSON with segments" if "segments" in content else "JSON"


def _wrapped(content: Mapping[str, Any]) -> Mapping[str, Any] | list[Any] | None:
    """The result inside an object that has none of its own."""
    if any(values.field(content, names) is not None for names in (IDS, SEGMENTS[:2])) or "text" in content:
        return None
    for name in WRAPPERS:
        inner = values.field(content, (name,))
        if isinstance(inner, Mapping) and any(
            values.field(inner, names) is not None for names in (TEXT, IDS, SEGMENTS)
        ):
            return inner
        if name == "results" and isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], Mapping):
            return inner[0]
    return None


def _text(content: Mapping[str, Any], segments: Sequence[Segment], name: str) -> tuple[str, bool] | None:
    """(text, whether it was put together); None where the file holds ids alone."""
    for field in (*PREDICTED, *TEXT):
        text = values.field(content, (field,))
        if isinstance(text, list) and len(text) == 1 and isinstance(text[0], str):
            text = text[0]
        if isinstance(text, str):
            return text, False
        if field == "text" and text is not None:
            several = f"a batch of {len(text)} texts" if values.are_strings(text) else values.kind(text)
            raise RecordError(f'{name}: "text" is {several}', hint="Give one text a file")
    if segments and any(part.text for part in segments):
        return values.joined([SPECIAL.sub("", part.text) for part in segments]), True
    if values.field(content, SEGMENTS) == []:
        return "", True
    return None


def _truth(content: Mapping[str, Any]) -> str | None:
    """What was said: a field that says so, or "text" beside a field of the prediction."""
    fields = (*SPOKEN, *(("text", "transcript", "sentence") if values.field(content, PREDICTED) is not None else ()))
    said = values.field(content, fields)
    return said if isinstance(said, str) else None


def _id(content: Mapping[str, Any]) -> str:
    """What the result calls its clip; 12 and "12" are one id."""
    name = values.field(content, ID)
    is_plain = isinstance(name, (str, int)) and not isinstance(name, bool)
    return str(name).strip() if is_plain else ""


def _segments(content: Mapping[str, Any], name: str) -> tuple[Segment, ...]:
    for field in SEGMENTS:
        listed = values.field(content, (field,))
        if isinstance(listed, list):
            return tuple(_segment(item, f"{name}, segment {i}") for i, item in enumerate(listed))
    return ()


def _is_segment(item: Mapping[str, Any]) -> bool:
    return any(name in item for name in ("start", "timestamp", "offsets", "timestamps", "start_time")) and (
        values.field(item, CLIP) is None
    )


def _segment(item: Any, where: str) -> Segment:
    if isinstance(item, str):
        return Segment(item, None, None)
    if isinstance(item, list):
        return _of_values(item, where)
    if not isinstance(item, Mapping):
        raise RecordError(f"{where}: expected an object, found {values.kind(item)}", hint=HINT)
    start, end = _times(item)
    text, words = values.field(item, TEXT), item.get("words")
    if text is None and isinstance(words, list):
        texts = [values.field(word, ("word", "text")) for word in words if isinstance(word, Mapping)]
        text = values.joined([word for word in texts if isinstance(word, str)])
    if text is not None and not isinstance(text, str):
        raise RecordError(f"{where}: its text is {values.kind(text)}", hint=HINT)
    seek = values.seconds(item.get("seek"))
    return Segment(
        text or "", start, end, values.ids(values.field(item, IDS), where),
        None if seek is None else seek / FRAMES_A_SECOND,
    )  # fmt: skip


def _of_values(item: Sequence[Any], where: str) -> Segment:
    """A segment as a bare list, as a named tuple becomes in JSON: the first text, the first list of ids."""
    text = next((value for value in item if isinstance(value, str)), None)
    if text is None:
        raise RecordError(f"{where}: a list without a text", hint=HINT)
    tokens = next((value for value in item if isinstance(value, list)), None)
    front = [value for value in item[: item.index(text)] if isinstance(value, (int, float))]
    start, end = (values.seconds(value) for value in front[-2:]) if len(front) >= 2 else (None, None)
    return Segment(text, start, end, values.ids(tokens, where))


def _times(item: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """[start, end] in seconds, from numbers, clocks, a pair, or whisper.cpp's offsets in milliseconds."""
    pair, offsets = item.get("timestamp"), item.get("offsets")
    if isinstance(pair, (list, tuple)) and len(pair) == 2:
        return values.seconds(pair[0]), values.seconds(pair[1])
    if isinstance(offsets, Mapping):
        times = [values.seconds(offsets.get(name)) for name in ("from", "to")]
        return tuple(None if time is None else time / 1000 for time in times)  # type: ignore[return-value]
    return values.seconds(values.field(item, ("start", "start_time", "begin"))), values.seconds(
        values.field(item, ("end", "end_time"))
    )


def _parts(segments: Sequence[Segment], written: Any, name: str) -> tuple[tuple[int, ...], ...] | None:
    """Ids of every segment, else the list beside them; None where some have none."""
    of_segments = [part.tokens for part in segments]
    if segments and all(tokens is not None for tokens in of_segments):
        return tuple(tokens for tokens in of_segments if tokens is not None)
    if written is not None and not isinstance(written, (list, Mapping, str)):
        raise RecordError(f"{name}: its tokens are {values.kind(written)}", hint="Give a list of ids, or leave it out")
    tokens = values.ids(written, f"{name}, tokens")
    return None if tokens is None else (tokens,)


def _with_prompt(
    parts: tuple[tuple[int, ...], ...] | None, content: Mapping[str, Any], name: str
) -> tuple[tuple[int, ...], ...] | None:
    """The ids with the prompt in front that stands in a field of its own."""
    written = values.field(content, PROMPT)
    prompt = values.ids(written, f"{name}, prompt") if isinstance(written, list) else None
    if not parts or not prompt or parts[0][: len(prompt)] == prompt:
        return parts
    return ((*prompt, *parts[0]), *parts[1:])


def _vocabulary(model: Any) -> int | None:
    """whisper.cpp writes the size of the vocabulary."""
    size = model.get("vocab") if isinstance(model, Mapping) else None
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _named(content: Any, field: str) -> str:
    value = content.get(field) if isinstance(content, Mapping) else None
    return value if isinstance(value, str) else ""


def _found(content: Mapping[str, Any]) -> str:
    """What an object holds, for a message."""
    keys = [f'"{key!s:.30}"' for key in list(content)[:KEYS_SHOWN]]
    if not keys:
        return "an empty JSON object"
    more = f" and {len(content) - KEYS_SHOWN} more" if len(content) > KEYS_SHOWN else ""
    return f"a JSON object with {', '.join(keys)}{more}"
