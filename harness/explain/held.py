"""What the look-up of a stage's weights says of one half: the shipped file's own evidence, beside its errors."""

from __future__ import annotations

from dataclasses import dataclass

from whisper_parity.weights.fit import Grade
from whisper_parity.weights.lookup import MISPLACED
from whisper_parity.weights.result import Difference, FileWeights, LookUp

MOST = 0.8
"""Part of a half's tensors from which on all of them differ."""
LOST_DB = 6.0
"""SNR below which what stands in a tensor's place has nothing of it."""
TABLE = "token_embedding"


@dataclass(frozen=True, slots=True)
class Held:
    """The weights of one half, as the shipped files hold them."""

    units: tuple[str, ...]
    """Those with a tensor that is not the checkpoint's, in the order of the file."""
    everywhere: bool
    """Nearly all tensors differ, or are not there: noise, another training, another checkpoint."""
    other: bool
    """Most tensors have nothing of the checkpoint's: they are not there, or other numbers stand in their place."""
    quantised: bool
    """Most matrices are equal to their quantisation step."""
    table: bool
    """The token embedding beside the files is one of them."""
    sentences: tuple[str, ...]
    """What the look-up says of the differences."""

    @property
    def exact(self) -> bool:
        """Whether all weights are the checkpoint's, up to the precision of the file's types."""
        return not self.units


def of(look: LookUp | None, component: str) -> Held | None:
    """What is known of a half; None where its files were not read.

    Args:
        look: of the stage's files; None for files that were built here.
        component: "encoder" or "decoder", to which a token embedding belongs.
    """
    roles = (component, TABLE) if component == "decoder" else (component,)
    files = [file for file in look.files if file.role in roles and not file.unread] if look else []
    whole = next((file for file in files if file.role == component), None)
    if whole is None or look is None:
        return None
    names = tuple(f"{file.name}: " for file in files if not file.is_good)
    return Held(
        units=tuple(dict.fromkeys(unit for file in files for unit in file.units)),
        everywhere=len(_strange(whole)) >= MOST * max(1, whole.tensors),
        other=2 * _lost(whole) > whole.tensors,
        quantised=2 * whole.counts.get(Grade.QUANTISED.value, 0) > whole.matrices,
        table=any(file.role == TABLE and not file.is_good for file in files),
        sentences=tuple(sentence for sentence in look.sentences if sentence.startswith(names)),
    )


def _strange(file: FileWeights) -> list[Difference]:
    """Differences but for the checkpoint's own weights in another place: swapped blocks are no others."""
    return [difference for difference in file.differences if difference.grade != MISPLACED]


def _lost(file: FileWeights) -> int:
    return sum(difference.snr_db is None or difference.snr_db < LOST_DB for difference in _strange(file))
