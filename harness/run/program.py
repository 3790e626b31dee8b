"""From a program's trace to what it did by itself, judged: front end, prompt, detokeniser, end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from whisper_parity.backend.account import FEATURES, Account, tensor_name
from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import detokenising, ending, front_end, prompting
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.front_end import FrontEndDiff
from whisper_parity.decode import policy
from whisper_parity.judge import program, tolerance
from whisper_parity.judge.program import ProgramCheck
from whisper_parity.run.plan import Plan
from whisper_parity.trace.trace import FRAMES_PER_SECOND, Trace


def check(plan: Plan, edge: Edge, clip: Clip, trace: Trace, reference: Trace) -> ProgramCheck | None:
    """What a program did by itself on a clip; None for a stage that gives no account.

    Args:
        plan: of the run.
        edge: whose limits hold for it.
        clip: of the run.
        trace: of the program.
        reference: the root's.

    Raises:
        AudioError: the clip cannot be read.
        UsageError: the policy does not know the clip's language.
    """
    if trace.header.account is None:
        return None
    limits = tolerance.for_edge(plan.tolerances, edge)
    features = tuple(measured(plan, edge.candidate, clip, trace))
    return program.checked(features, findings(plan, trace.header.account, reference), limits)


def measured(plan: Plan, stage: str, clip: Clip, trace: Trace) -> Iterator[FrontEndDiff]:
    """The program's own input features, of each window of the clip of which it gave them."""
    dims, seconds = plan.checkpoint_of(stage).dims, trace.header.audio_s
    for index in range(math.ceil(round(seconds * FRAMES_PER_SECOND / dims.n_frames, 6)) or 1):
        if (array := trace.tensors.get(tensor_name(FEATURES, index))) is not None:
            yield front_end.measure(array, clip.path, index, dims.n_mels, dims.n_frames)


def findings(plan: Plan, account: Account, reference: Trace) -> dict[str, tuple[Finding, ...]]:
    """What is found of prompt, detokeniser and end, by rung; a rung of which the program shows nothing is left out."""
    dims, header = plan.checkpoint.dims, reference.header
    decoding = policy.concrete(plan.policy, dims, header.language)
    n_vocab, spoken = dims.vocabulary, header.tokens if header.names_tokens else None
    named: dict[str, tuple[Finding, ...]] = {}
    if prompting.shows(account):
        named[program.PROMPT] = prompting.findings(account, n_vocab, header.language, decoding.prompt)
    if detokenising.shows(account):
        named[program.DETOKENISE] = detokenising.findings(account, n_vocab)
    printed = ending.warnings(account)
    if ending.shows(account) or printed:
        named[program.END] = (*ending.findings(account, n_vocab, decoding.max_steps, spoken), *printed)
    return named
