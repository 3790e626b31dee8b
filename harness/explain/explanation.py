"""What `parity explain` finds: one explanation for each difference, readable and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Change:
    """What changed: the first of the five answers."""

    edit_class: str
    """"punctuation", "case", "number", "spacing", "script", "word", "repetition", "timestamp", "language",
    "missing end", "extra end", or "token" for tokens that give the same text."""
    mark: str
    """The punctuation marks concerned: those on one side only, or those that moved; or ""."""
    before: str
    """Words in front of it, as the reference says them."""
    reference_text: str
    candidate_text: str
    after: str
    """Words behind it."""
    window: int
    step: int | None
    """Step of the reference; None where only texts are known."""
    reference_token: int | None
    candidate_token: int | None
    follows_from: int | None
    """Index of the difference (in the same list) that this one is a consequence of; None for a first cause."""
    reference_span: tuple[int, int] = (0, 0)
    """Tokens of the reference's window that it concerns, [start, end)."""
    candidate_span: tuple[int, int] = (0, 0)
    """Tokens of the candidate's window that it concerns, [start, end)."""


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """One part of the decode policy, switched on its own."""

    part: str
    """"timestamps", "suppressed tokens", "blank suppression", "temperature fallback",
    "condition on previous text", "silence gate", "window padding", "prompt"."""
    removes: bool
    """Switched from the reference's setting to the candidate's, it alone makes the reference say what the candidate
    says there."""
    restores: bool
    """Switched from the candidate's setting to the reference's, it alone brings the reference's text back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where it first appears: the second answer."""

    edge: str
    """"reference->candidate"; the edge at which the difference enters."""
    undone_by: str
    """The later edge that undoes it, or ""."""
    stages: tuple[tuple[str, str], ...]
    """(stage, text or token there) along the chain."""
    policy: tuple[PolicyPart, ...]
    """Parts of the policy, where the reference decodes by a policy of its own."""
    finding: str
    """In one sentence."""


@dataclass(frozen=True, slots=True)
class CrossFeed:
    """Which part alone reproduces the change: the third answer."""

    part: str
    """"encoder", "decoder", "embedding", "both" (only together), "either" (each alone), or "state": the same artifact,
    opened afresh, does not do it again."""
    tried: tuple[tuple[str, bool], ...]
    """("encoder of STAGE, decoder of STAGE", reproduces the change)."""
    finding: str


@dataclass(frozen=True, slots=True)
class UnitError:
    """Error of one unit (convolutions, positions, a block, a norm) of the candidate."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    unit: str
    """"encoder.conv", "encoder.positions", "encoder.blocks.0", "encoder.ln_post", "decoder.positions",
    "decoder.blocks.0", "decoder.ln", "decoder.logits"."""
    entire_snr_db: float | None
    """Accumulated from the start of its component; None when it was not measured."""
    single_snr_db: float | None
    """Of this unit alone, fed with the reference's input."""
    nonfinite: int
    """NaN or infinite values in its output."""
    fails: bool
    """Its single error is outside the edge's limit."""
    entire_fails: bool = False
    """Its entire error is: accumulated, so that it says nothing about this unit alone."""


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """Which layer: the fourth answer."""

    component: str
    """"encoder" or "decoder"."""
    units: tuple[UnitError, ...]
    """In the order of the graph."""
    culprit: str
    """The first unit that fails while its inputs pass; "" when there is none."""
    faithful: bool
    """The probe's final outputs equal the shipped file's."""
    probes: int
    """Probe artifacts that had to run."""
    finding: str
    """In one sentence, what is not known included."""
    output_fails: bool = False
    """The component's output is outside the limit, in a file that speaks for the shipped one: what the units add up to
    can explain a large movement."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Does it matter: the fifth answer."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    margin: float
    """Logit of the reference's choice minus that of the candidate's, at this step."""
    movement: float
    """How far the candidate moved that pair."""
    noise: float
    """Root mean square movement over all other steps of the run on this edge."""
    movements: tuple[float, ...]
    """Quantiles 5, 25, 50, 75, 95 % of the absolute movements over all other steps."""
    flip_probability: float | None
    """Probability that Gaussian noise of this size flips this margin; None where the noise is not known."""
    kind: str
    """"tie", "justified", "fault", or "unjudged" where too few other steps tell the noise."""
    finding: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One difference and the five answers; an answer that could not be had is None, and `missing` says why."""

    clip: str
    reference: str
    """Stage."""
    candidate: str
    change: Change
    entry: Entry | None
    cross_feed: CrossFeed | None
    layers: tuple[LayerFinding, ...]
    weight: Weight | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanations:
    """All explanations of one clip and stage."""

    clip: str
    stage: str
    found: tuple[Explanation, ...]
    layers: tuple[LayerFinding, ...] = ()
    """Where tensors moved beyond their limits and no token changed: which layer, for encoder and decoder."""
    missing: tuple[str, ...] = ()
    """What could not be looked at, and why."""
    edge: str = ""
    """Where what is to blame comes in: "reference->candidate"."""
    part: str = ""
    """What is to blame: a part as in CrossFeed, "policy", or "" where nothing is."""
    unit: str = ""
    """The unit to blame; "" where none is, or none is known."""
    compared: bool = True
    """The tokens could be compared; `missing` says why not."""
