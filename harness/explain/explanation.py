"""What `parity explain` finds: one explanation for each difference, readable and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whisper_parity.compare.finding import Finding
from whisper_parity.explain.hypothesis import Hypothesis


@dataclass(frozen=True, slots=True)
class Change:
    """What changed: the first of the five answers."""

    edit_class: str
    """"punctuation", "case", "number", "spacing", "script", "word", "repetition", "timestamp", "language",
    "missing end", "extra end", or "token" for tokens that give the same text."""
    mark: str
    """The punctuation marks concerned: those on one side only, or those that moved; or ""."""
    before: str
    """The reference's words in front of it."""
    reference_text: str
    candidate_text: str
    after: str
    """The reference's words behind it."""
    window: int
    step: int | None
    """Step of the reference; None where only texts are known."""
    reference_token: int | None
    candidate_token: int | None
    follows_from: int | None
    """Index (in the same list) of the difference that caused this one; None for a first cause."""
    reference_span: tuple[int, int] = (0, 0)
    """Affected tokens of the reference's window, [start, end)."""
    candidate_span: tuple[int, int] = (0, 0)
    """Affected tokens of the candidate's window, [start, end)."""


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """One part of the decode policy, switched on its own."""

    part: str
    """"timestamps", "suppressed tokens", "blank suppression", "temperature fallback",
    "condition on previous text", "silence gate", "window padding", "prompt"."""
    removes: bool
    """Switched from the reference's setting to the candidate's, it alone gives the candidate's text there."""
    restores: bool
    """Switched from the candidate's setting to the reference's, it alone restores the reference's text."""


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
    """Parts of the policy, where the reference decodes by its own policy."""
    finding: str
    """One sentence."""
    window: bool = False
    """The two stages hear other pieces of the clip, which does it before any conversion."""


@dataclass(frozen=True, slots=True)
class CrossFeed:
    """Which part alone reproduces the change: the third answer."""

    part: str
    """"encoder", "decoder", "embedding", "both" (only together), "either" (each alone), or "state": the same artifact
    does not reproduce it in a fresh session."""
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
    """Accumulated from the start of its component; None when not measured."""
    single_snr_db: float | None
    """Of this unit alone, fed the reference's input."""
    nonfinite: int
    """NaN or infinite values in its output."""
    fails: bool
    """Its single error is outside the edge's limit."""
    entire_fails: bool = False
    """Its entire error is outside the limit; being accumulated, this does not incriminate the unit itself."""


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """Which layer: the fourth answer."""

    component: str
    """"encoder" or "decoder"."""
    units: tuple[UnitError, ...]
    """In the order of the graph."""
    culprit: str
    """The first of `culprits`; "" when there is none."""
    faithful: bool
    """The probe's final outputs equal the shipped file's."""
    probes: int
    """Probe artifacts that were run; results already measured are not counted."""
    finding: str
    """One sentence, including what is unknown."""
    output_fails: bool = False
    """The component's output is outside the limit, in a file that represents the shipped one: the sum of the units'
    errors can explain a large movement."""
    culprits: tuple[str, ...] = ()
    """Units with a fault of their own, in the order of the graph: their single errors stand out apart."""
    spread: bool = False
    """All units lose alike, as by noise, quantisation or arithmetic of less precision: none is at fault by itself."""
    kinds: tuple[Hypothesis, ...] = ()
    """What kind of wrong culprits are, where it could be told with its proof."""


@dataclass(frozen=True, slots=True)
class PartFinding:
    """Which half: what one loses alone, whatever became of the tokens."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    part: str
    """"encoder", or "decoder", which is fed the reference's tokens and the reference's encoder output."""
    snr_db: float
    """Of its output against the reference's; -inf where values are not finite."""
    fails: bool
    """Whether it left what passes on this edge: by SNR, or as logits by any of their limits."""
    finding: str
    """One sentence."""
    shift_db: float | None = None
    """SNR that columns of the logits which are off by the same at every step would leave alone; None without any."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong."""

    edge: str
    """Where it enters: "reference->candidate"."""
    part: str
    """As in CrossFeed, or "policy", "window", "cache"."""
    unit: str
    """"" where none is at fault by itself, or none is known."""
    kinds: tuple[Hypothesis, ...]
    finding: str
    """One sentence."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Does it matter: the fifth answer."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    margin: float
    """Logit of the reference's choice minus that of the candidate's, at this step."""
    movement: float
    """How far the candidate moved that pair."""
    floor: float
    """Root mean square movement of pairs in sound ports of this kind of edge [logit]."""
    movements: tuple[float, ...]
    """Quantiles 5, 25, 50, 75, 95 % of the absolute movements over all other steps."""
    flip_probability: float
    """Probability that Gaussian noise of the floor's size flips this margin."""
    kind: str
    """"tie", "justified" or "fault"."""
    finding: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One difference and the five answers; a missing answer is None, and `missing` gives the reason."""

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
    parts: tuple[PartFinding, ...] = ()
    """What each half loses alone, on the window of the difference."""


@dataclass(frozen=True, slots=True)
class Explanations:
    """All explanations of one clip and stage."""

    clip: str
    stage: str
    found: tuple[Explanation, ...]
    layers: tuple[LayerFinding, ...] = ()
    """The responsible layers of encoder and decoder, where tensors exceed their limits and no token changed."""
    missing: tuple[str, ...] = ()
    """Questions without an answer, each with its reason."""
    edge: str = ""
    """Where the first cause enters: "reference->candidate"."""
    part: str = ""
    """The part of the first cause: as in CrossFeed, "policy", "window", or "" where there is none."""
    unit: str = ""
    """The unit of the first cause; "" where none is at fault by itself, or none is known."""
    compared: bool = True
    """The tokens could be compared; where False, `missing` gives the reason."""
    findings: tuple[Finding, ...] = ()
    """Named findings of the two texts, worst first: loops, lost and invented text."""
    causes: tuple[Cause, ...] = ()
    """Everything that is wrong: the cause of the first difference first, then in the order of the flow."""
    parts: tuple[PartFinding, ...] = ()
    """What each half loses alone, on the window that is explained."""
    spread: bool = False
    """A cause is no unit's: all units of a part lose alike."""
    answered: bool = True
    """False for a row that diverged where no cause is named and no reason explains it."""
