"""The session of a decoder with a KV cache: the lookups outside the files, and what the checks of a cache ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Facts, Float32
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.split import stepping
from whisper_parity.backends.split.cross import NOTE, Projections
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.stepping import Encode, Steps
from whisper_parity.errors import BackendError

ONE_A_CALL = "one token a call: a clip at parity takes as many decoder calls as its prompt and its tokens, and no more"
ROWS = {"token_embedding": "token", "position_embedding": "position"}
"""Inputs of the decoder by the table that their rows are looked up in."""


class SlottedSession:
    """Implement `whisper_parity.backend.facets.Slotted` over the steps of a decoder's file."""

    def __init__(self, fitted: Fitted, artifact: Artifact, encode: Encode, steps: Steps, facts: Facts) -> None:
        """Take the files, run by `encode` and `steps`, and map the tables beside them.

        Raises:
            ArtifactError: a table is missing, or not of the checkpoint's shape.
        """
        self._fitted, self._encode, self._steps = fitted, encode, steps
        dims = artifact.checkpoint.dims
        self._tables = {role: TokenEmbedding(artifact.path(role), dims, role) for role in fitted.tables}
        self._projections = Projections(artifact.checkpoint)
        self._encoded: tuple[Float32, Mapping[str, Float32]] | None = None
        notes = tuple(note for table in self._tables.values() for note in table.notes)
        solved = (NOTE,) if fitted.layout.tensor("encoder_outputs", "encoder_output") is None else ()
        self.facts = Facts(facts.label, (*facts.notes, ONE_A_CALL, *notes, *solved), facts.placement)

    def usage(self) -> None:
        """It runs on this machine."""

    @property
    def n_slots(self) -> int:
        """Tokens that the cache has room for."""
        return self._fitted.n_text_ctx

    @property
    def position(self) -> int:
        """Tokens that were fed."""
        return self._steps.position

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, n_frames] -> encoder_output float32 [1, n_audio_ctx, n_audio_state], a fresh array."""
        given = self._encode(input_features)
        output = given["encoder_output"] if "encoder_output" in given else self._projections.output(given)
        self._encoded = (output.copy(), given) if self._fitted.layout.cross == "encoder" else None
        return output

    def begin(self, encoder_output: Float32) -> None:
        """See `Stepper`; what the encoder gave is fed as it was, another one's output through the projections."""
        if self._fitted.layout.cross != "encoder":
            self._steps.begin({"encoder_output": encoder_output})
        elif self._encoded is not None and np.array_equal(self._encoded[0], encoder_output, equal_nan=True):
            self._steps.begin({name: self._encoded[1][name] for name in ("cross_keys", "cross_values")})
        else:
            self._steps.begin(self._projections.projected(encoder_output))

    def feed(self, token: int) -> Float32:
        """See `Stepper`.

        Raises:
            BackendError: the cache is full.
        """
        if self.position >= self.n_slots:
            raise BackendError(f"the cache is full: it has room for {self.n_slots} tokens")
        places = {"token_embedding": token, "position_embedding": self.position}
        rows = {ROWS[role]: table.lookup([places[role]], 1)[0, 0] for role, table in self._tables.items()}
        return self._steps.feed(token, rows)

    def rewind(self, count: int) -> None:
        """See `Stepper`."""
        self._steps.rewind(count)

    def written(self) -> dict[str, Float32]:
        """What the last step wrote: "key.0", "value.0", ... float32 [n_text_state], heads merged."""
        return self._steps.written()

    def cross(self) -> dict[str, Float32]:
        """Keys and values of cross attention: "key.0", ... float32 [n_audio_ctx, n_text_state]; {} where it is mute."""
        return self._steps.cross()

    def fill(self, value: float) -> None:
        """Overwrite every slot of the cache that is not in use."""
        self._steps.fill(value)

    def inputs(self) -> tuple[str, ...]:
        """Inputs of the decoder by role: "mask", "past_keys", or "past_keys.0", ..."""
        return tuple(bound.key for bound in self._fitted.inputs)

    @contextmanager
    def replaced(self, name: str, array: NDArray[Any]) -> Iterator[None]:
        """Feed another array for one input, until the context is left."""
        with stepping.replaced(self._steps, name, array):
            yield
