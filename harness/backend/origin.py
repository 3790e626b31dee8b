"""The files that a stage's own were made from: what is looked into where these show nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_parity.backend.artifact import Artifact
from whisper_parity.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Origin:
    """The files in front of a stage's own, and how that is known."""

    artifact: Artifact
    assumed: bool
    """No record says so: they are those that lie in front of them."""

    def sentence(self, stage: str) -> str:
        """What a probe that is made from them is, for findings."""
        made, files = f"measured in {stage} files that we made from", f"{self.artifact.stage} files"
        if not self.assumed:
            return f"{made} the same {files}, with their hidden states as outputs"
        assumed = f"the {files} in {self.artifact.folder.name} (that the shipped ones were made from them is assumed)"
        return f"{made} {assumed}, with their hidden states as outputs"


def chosen(shipped: Artifact, candidates: Sequence[Artifact], source: str) -> Origin:
    """The files that given ones were made from: those of their record, else the first of those in front of them.

    Args:
        shipped: given files that show nothing of what is inside.
        candidates: that they may be made from, the nearest first.
        source: the stage whose files they are usually made from, for messages.

    Raises:
        UnavailableError: there is no candidate, or none is that of the record.
    """
    unknown = f"{shipped.stage}: its files show nothing of what is inside, and the {source} files that they"
    if shipped.parent_sha256 is None:
        if candidates:
            return Origin(candidates[0], assumed=True)
        raise UnavailableError(
            f"{unknown} were made from are not in {shipped.folder}: no layer is looked at",
            hint=f"Put the {source} files beside them",
        )
    for candidate in candidates:
        if candidate.sha256 == shipped.parent_sha256:
            return Origin(candidate, assumed=False)
    raise UnavailableError(
        f"{unknown} were made from by their record (sha256 {shipped.parent_sha256[:12]}) are not here: "
        "no layer is looked at",
        hint=f"Put those {source} files, with their record, into {shipped.folder}",
    )
