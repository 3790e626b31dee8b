"""What the inputs and outputs of a given file can only be, by their shapes, types and names.

Two readings of a file are no reading: the message names both, and how to choose.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from whisper_parity.backend.interface import Half, Interface, Port
from whisper_parity.errors import ArtifactError
from whisper_parity.model.dims import Dims

ROLES = ("input_features", "token_embeddings", "encoder_output", "logits")
"""Tensors of rows and columns, under the names that every part of the harness has for them."""
NAMED = {
    "input_features": re.compile(r"mel|feature|spectrogram", re.I),
    "encoder_output": re.compile(r"encod|audio_features|last_hidden|^xa$", re.I),
    "logits": re.compile(r"logits|lm_|scores", re.I),
}
"""What others call them."""
EXTRAS = (
    (re.compile(r"past|cache|key|value|kv", re.I), "a KV cache"),
    (re.compile(r"mask", re.I), "a mask"),
    (re.compile(r"pos", re.I), "positions"),
    (re.compile(r"len|offset|step", re.I), "a length or an offset"),
)
"""What a surplus input is, by its name."""
PADDINGS = (8, 16, 32, 64, 128, 256)
"""A vocabulary is filled up to a multiple of one of these."""
NUMBERS = ("float32", "float16")
"""Types that stand for numbers without a scale."""
FEWEST_TOKENS = 4
"""A decoder with room for fewer takes one token at a time, or none of ours."""
MOST_FRAMES = 60_000
FRAMES_PER_SECOND = 100
FITS = "Is it from the given checkpoint?"
ANY_LENGTH = -1
"""An axis of free length in the shape of a port."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user says of square tensors: whether columns come before rows cannot be read from a shape."""

    transposed: tuple[str, ...] = ()
    """Roles that are, or "none"; empty: nothing was said."""
    setting: str = ""
    """How it is said, for messages: "tflite.transposed"."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for among the ports of a file."""

    role: str
    rows: Container[int]
    columns: Container[int]
    usual: int
    """The length of an axis that the file leaves free."""

    def __str__(self) -> str:
        """As a message shows it: "encoder_output [1, 1500, 512]"."""
        rows, columns = (size[0] if isinstance(size, tuple) else "n" for size in (self.rows, self.columns))
        return f"{self.role} [1, {rows}, {columns}]"


def role(inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims) -> str | None:
    """The half that ports belong to: it may have others besides, which are refused where it is read; None for neither.

    Args:
        inputs: of a file.
        outputs: the same.
        dims: of the checkpoint.
    """
    hidden = Wanted("", range(2, MOST_FRAMES), (dims.n_audio_state,), dims.n_audio_ctx)
    mels = Wanted("", (dims.n_mels,), range(2, MOST_FRAMES), dims.n_frames)
    rows = Wanted("", range(1, dims.n_text_ctx + 1), padded(dims.n_vocab), dims.n_text_ctx)
    if any(_readings(port, mels) for port in inputs) and any(_readings(port, hidden) for port in outputs):
        return "encoder"
    gives_logits = is_last_row(outputs, dims) or any(_readings(port, rows) for port in outputs)
    return "decoder" if gives_logits and any(_readings(port, hidden) for port in inputs) else None


def encoder(where: str, inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims, choices: Choices) -> Half:
    """The encoder's ports, sizes filled in.

    Args:
        where: the file, for messages.
        inputs: as the file has them.
        outputs: the same.
        dims: of the checkpoint.
        choices: of the user.

    Raises:
        ArtifactError: they cannot be an encoder's of these dimensions, or in two ways.
    """
    window = features(where, inputs, dims, choices)
    return Half((window,), encoded(where, outputs, window.sizes[1] // 2, dims, choices))


def features(where: str, inputs: Sequence[Port], dims: Dims, choices: Choices) -> Port:
    """The encoder's input; raises as `encoder`."""
    wanted = Wanted("input_features", (dims.n_mels,), range(2, MOST_FRAMES), dims.n_frames)
    require_inputs(where, "encoder", 1, inputs, [port for port in inputs if _readings(port, wanted)])
    port = _only(where, "input", inputs, wanted, choices)
    if port.sizes[1] % 2:
        raise ArtifactError(f"{where}: takes {port.sizes[1]} frames: Whisper's encoder halves them", hint=FITS)
    return port


def frames(port: Port, dims: Dims) -> int:
    """Frames that an encoder's input takes; 0 where it is none."""
    readings = _readings(port, Wanted("", (dims.n_mels,), range(2, MOST_FRAMES), dims.n_frames))
    return readings[0].sizes[1] if readings else 0


def encoded(where: str, outputs: Sequence[Port], n_audio_ctx: int, dims: Dims, choices: Choices) -> Port:
    """The encoder's output among all outputs; raises as `encoder`."""
    wanted = Wanted("encoder_output", (n_audio_ctx,), (dims.n_audio_state,), n_audio_ctx)
    return _only(where, "output", outputs, wanted, choices)


def decoder(
    where: str, inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims, n_audio_ctx: int, choices: Choices
) -> tuple[Half, bool, bool]:
    """The decoder's ports, whether it takes ids, and whether it gives the last row alone.

    Args:
        where: the file, for messages.
        inputs: as the file has them.
        outputs: the same.
        dims: of the checkpoint.
        n_audio_ctx: rows of the encoder's output.
        choices: of the user.

    Raises:
        ArtifactError: they cannot be a decoder's of these dimensions, or in two ways.
    """
    wanted = Wanted("encoder_output", (n_audio_ctx,), (dims.n_audio_state,), n_audio_ctx)
    tables = Wanted(
        "token_embeddings", range(FEWEST_TOKENS, dims.n_text_ctx + 1), (dims.n_text_state,), dims.n_text_ctx
    )
    fed = [port for port in inputs if not is_ids(port)]
    ids = [reading for port in inputs if is_ids(port) for reading in _ids(port, dims)]
    encodings = _named([port for port in fed if _readings(port, wanted)], "encoder_output")
    embeddings = [port for port in fed if _readings(port, tables) and port not in encodings[:1]]
    require_inputs(where, "decoder", 2, inputs, [*encodings[:1], *(ids or embeddings)[:1]])
    tokens = (
        ids[0] if ids else _only(where, "input", [port for port in fed if port not in encodings[:1]], tables, choices)
    )
    rest = [port for port in fed if port.index != tokens.index]
    encoding = _only(where, "input", rest, wanted, choices)
    output, last = logits(where, outputs, tokens, dims, choices)
    return Half((tokens if last else replace(tokens, free_axis=None), encoding), output), bool(ids), last


def logits(where: str, outputs: Sequence[Port], tokens: Port, dims: Dims, choices: Choices) -> tuple[Port, bool]:
    """The logits among all outputs, and whether they are those of the last token alone.

    Raises:
        ArtifactError: as `decoder`; or a fixed number of tokens goes in, and one row comes out.
    """
    count, columns = max(tokens.sizes) if is_ids(tokens) else tokens.sizes[0], padded(dims.n_vocab)
    last = _last_rows(outputs, dims)
    if len(last) == 1 and tokens.free_axis is None:
        raise ArtifactError(
            f"{where}: takes {count} tokens at once and gives the logits of one position: which one, no file says",
            hint="Export the logits of all positions, or a free number of tokens",
        )
    if len(last) == 1:
        return last[0], True
    wanted = Wanted("logits", (count,), columns, count)
    return replace(_only(where, "output", outputs, wanted, choices), free_axis=None), False


def padded(n_vocab: int) -> tuple[int, ...]:
    """Sizes that a vocabulary may have in a file: its own first, then filled up."""
    return tuple(dict.fromkeys((n_vocab, *(-(-n_vocab // multiple) * multiple for multiple in PADDINGS))))


def is_ids(port: Port) -> bool:
    """Whether a port takes whole numbers that stand for themselves."""
    return port.dtype in ("int32", "int64") and not port.scale


def require_inputs(where: str, role: str, count: int, inputs: Sequence[Port], known: Sequence[Port]) -> None:
    """Refuse a file with another number of inputs, and say what the surplus ones are.

    Raises:
        ArtifactError: it has more or fewer.
    """
    if len(inputs) == count:
        return
    indices = {port.index for port in known}
    surplus = [port for port in inputs if port.index not in indices] if len(known) == count else []
    listed = ", ".join(f"{port}{_kind(port)}" for port in surplus or inputs) or "none"
    takes = "input_features" if role == "encoder" else "tokens and encoder_output"
    beside = "beside them" if surplus else "it takes"
    raise ArtifactError(
        f"{where}: the {role} has {len(inputs)} inputs where {takes} are expected; {beside}: {listed}",
        hint="Make constants of further inputs; a decoder with a KV cache is a stage of its own, named with :kv"
        if len(inputs) > count and role == "decoder"
        else FITS,
    )


def whole(encoder: Half, decoder: Half, takes_ids: bool, last_row: bool, dims: Dims) -> Interface:
    """Both halves, with what is to be said of them."""
    interface = Interface(encoder, decoder, takes_ids, last_row)
    return replace(interface, notes=tuple(_notes(interface, dims)))


def _notes(interface: Interface, dims: Dims) -> Iterator[str]:
    encoder, decoder = interface.encoder, interface.decoder
    if interface.n_audio_ctx != dims.n_audio_ctx:
        frames = 2 * interface.n_audio_ctx
        yield f"the encoder takes windows of {frames / FRAMES_PER_SECOND:g} s ({frames} frames)"
    if interface.n_text_ctx != dims.n_text_ctx:
        yield f"the decoder has room for {interface.n_text_ctx} tokens, the checkpoint for {dims.n_text_ctx}"
    if interface.takes_ids:
        yield f"the decoder takes token ids ({decoder.inputs[0].dtype}) and looks them up by itself"
    if interface.last_row:
        yield "the decoder gives the logits of the last token alone: it is run once for each token"
    ports = {
        "input_features": encoder.inputs[0], "encoder_output": encoder.output, "tokens": decoder.inputs[0],
        "encoder_output of the decoder": decoder.inputs[1], "logits": decoder.output,
    }  # fmt: skip
    if turned := [role for role, port in ports.items() if port.transposed]:
        yield f"transposed in the file: {', '.join(turned)}"
    for role, port in ports.items():
        if port.scale:
            yield f"{role} in {port.dtype}: scale {port.scale:.6g}, zero point {port.zero_point}"
        elif port.dtype != "float32" and not is_ids(port):
            yield f"{role} in {port.dtype}"
    if decoder.output.sizes[1] > dims.n_vocab:
        yield f"logits in {decoder.output.sizes[1]} columns: those behind the vocabulary of {dims.n_vocab} are cut"


def _only(where: str, kind: str, ports: Sequence[Port], wanted: Wanted, choices: Choices) -> Port:
    fitting = _named([port for port in ports if _readings(port, wanted)], wanted.role)
    if len(fitting) > 1:
        raise ArtifactError(
            f"{where}: which {kind} is {wanted}? {', '.join(map(str, fitting))}",
            hint=f"Export that one alone, or name it {wanted.role}",
        )
    if not fitting:
        listed = ", ".join(map(str, ports)) or "no tensor"
        raise ArtifactError(f"{where}: {kind}s do not fit: expected {wanted}; the file has {listed}", hint=FITS)
    return _chosen(where, wanted, _readings(fitting[0], wanted), choices)


def _chosen(where: str, wanted: Wanted, readings: Sequence[Port], choices: Choices) -> Port:
    if len(readings) == 1:
        return readings[0]
    if not choices.transposed:
        raise ArtifactError(
            f"{where}: {readings[0]} is {wanted.role} with rows first or with columns first: the shape does not say",
            hint=f"Say --set {choices.setting}={wanted.role} for columns first, else --set {choices.setting}=none",
        )
    return readings[wanted.role in choices.transposed]


def _named(ports: Sequence[Port], role: str) -> list[Port]:
    """Of several ports those that are called by the role, where some are; others keep their order."""
    if len(ports) < 2 or role not in NAMED:
        return list(ports)
    return [port for port in ports if port.name == role] or [p for p in ports if NAMED[role].search(p.name)] or [*ports]


def _readings(port: Port, wanted: Wanted) -> list[Port]:
    """The port as rows and columns, and as columns and rows, as far as it can be either."""
    shape = _without_batch(port.shape, 3)
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    if len(axes) != 2 or not (port.scale or port.dtype in NUMBERS):
        return []
    readings = []
    for transposed, (of_rows, of_columns) in ((False, axes), (True, reversed(axes))):
        rows, columns = (wanted.usual if shape[axis] == ANY_LENGTH else shape[axis] for axis in (of_rows, of_columns))
        if rows in wanted.rows and columns in wanted.columns:
            free = next((axis for axis in (of_rows, of_columns) if shape[axis] == ANY_LENGTH), None)
            filled = tuple(wanted.usual if size == ANY_LENGTH else size for size in shape)
            readings.append(replace(port, shape=filled, sizes=(rows, columns), transposed=transposed, free_axis=free))
    return readings


def _ids(port: Port, dims: Dims) -> list[Port]:
    shape = _without_batch(port.shape, 2)
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    if len(axes) != 1:
        return []
    count = dims.n_text_ctx if shape[axes[0]] == ANY_LENGTH else shape[axes[0]]
    if not FEWEST_TOKENS <= count <= dims.n_text_ctx:
        return []
    free = axes[0] if shape[axes[0]] == ANY_LENGTH else None
    filled = tuple(count if size == ANY_LENGTH else size for size in shape)
    return [replace(port, shape=filled, sizes=(1, count), free_axis=free)]


def is_last_row(outputs: Sequence[Port], dims: Dims) -> bool:
    """Whether one output is one row of logits."""
    return len(_last_rows(outputs, dims)) == 1


def _last_rows(outputs: Sequence[Port], dims: Dims) -> list[Port]:
    return [port for port in map(_last_row, outputs) if port and port.sizes[1] in padded(dims.n_vocab)]


def _last_row(port: Port) -> Port | None:
    """The port as one row of columns; None where it has several."""
    shape = _without_batch(port.shape, 2)
    wide = [size for size in shape if size != 1]
    return replace(port, shape=shape, sizes=(1, wide[0])) if len(wide) == 1 else None


def _without_batch(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """A shape whose free number of sequences is one."""
    return (1, *shape[1:]) if len(shape) >= rank and shape[0] == ANY_LENGTH else shape


def _kind(port: Port) -> str:
    kind = next((kind for name, kind in EXTRAS if name.search(port.name)), "")
    return f" (by its name {kind})" if kind else ""
