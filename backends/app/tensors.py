"""Files of numbers that a program wrote, as float32 arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from whisper_parity.backend.account import tensor_name
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.app.description import Pull
from whisper_parity.backends.app.output import Output
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims

NPY = b"\x93NUMPY"


def of_output(output: Output, pulls: Mapping[str, Pull], dims: Dims) -> dict[str, Float32]:
    """The tensors of an output, by `account.tensor_name`.

    Raises:
        BackendError: a file is no array of floats.
    """
    return {
        tensor_name(name, window): read(content, pulls[name], dims, name)
        for name, files in output.tensors.items()
        for window, content in enumerate(files)
    }


def read(content: bytes, pull: Pull, dims: Dims, name: str) -> Float32:
    """One tensor, float32: raw little-endian numbers, or a .npy file.

    Raw numbers that are more or fewer than their shape has stay flat: the rung that judges them names what that means.

    Raises:
        BackendError: see `of_output`.
    """
    if content.startswith(NPY):
        return _of_npy(content, name)
    dtype, shape = np.dtype(pull.dtype).newbyteorder("<"), pull.sized(dims)
    if not content or len(content) % dtype.itemsize:
        raise BackendError(
            f"{name}: {len(content)} bytes are no {pull.dtype} {list(shape)}",
            hint=f"Set its shape and dtype under [backends.app.pull.{name}]",
        )
    numbers = np.frombuffer(content, dtype).astype(np.float32)
    return numbers.reshape(shape) if numbers.size == np.prod(shape) else numbers


def _of_npy(content: bytes, name: str) -> Float32:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError) as error:
        raise BackendError(f"{name}: no .npy array ({str(error)[:120]})") from error
    if array.dtype.kind != "f" or not array.size:
        raise BackendError(f"{name}: expected floats, found {array.dtype} {list(array.shape)}")
    return np.array(array, np.float32)
