"""What a program did by itself on a clip: its account and tensors, held against what the harness knows of the clip."""

from __future__ import annotations

from collections.abc import Iterator

from whisper_parity.backend import account as accounts
from whisper_parity.backend.account import Account
from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import detokenising, ending, prompting
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.front_end import difference
from whisper_parity.compare.front_end.difference import FrontEndDiff
from whisper_parity.decode import policy
from whisper_parity.judge import program, tolerance
from whisper_parity.judge.program import ProgramCheck
from whisper_parity.run.plan import Plan
from whisper_parity.trace.trace import Trace


def checked(
    plan: Plan, edge: Edge, clip: Clip, trace: Trace, reference: Trace | None, *, tokens_agree: bool = False
) -> ProgramCheck | None:
    """A program's own part of a trace, judged; None for a stage that gives no account of itself.

    Args:
        plan: of the run.
        edge: whose limits hold.
        clip: the clip.
        trace: of the program.
        reference: the root's trace, whose tokens say what a loop is; None without a root.
        tokens_agree: see `judge.program.checked`.
    """
    account = trace.header.account
    if account is None:
        return None
    findings = dict(_findings(plan, clip, trace, account, reference))
    limits = tolerance.for_edge(plan.tolerances, edge)
    return program.checked(_features(plan, clip, trace), findings, limits, tokens_agree=tokens_agree)


def _features(plan: Plan, clip: Clip, trace: Trace) -> tuple[FrontEndDiff, ...]:
    dims = plan.checkpoint_of(trace.header.stage).dims
    names = {int(name.rpartition(".")[2]): name for name in trace.tensors if name.startswith(accounts.FEATURES)}
    return tuple(
        difference.measure(trace.tensors[names[window]], clip.path, window, dims.n_mels, dims.n_frames)
        for window in sorted(names)
    )


def _findings(
    plan: Plan, clip: Clip, trace: Trace, account: Account, reference: Trace | None
) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    """Findings by rung, for what there is evidence of."""
    dims = plan.checkpoint_of(trace.header.stage).dims
    language = clip.language or (reference.header.language if reference else trace.header.language)
    decoding = policy.concrete(plan.policy, dims, language)
    if prompting.shows(account):
        yield program.PROMPT, prompting.findings(account, dims.vocabulary, language, decoding.prompt)
    if detokenising.shows(account):
        yield program.DETOKENISE, detokenising.findings(account, dims.vocabulary)
    printed = ending.warnings(account)
    if ending.shows(account) or printed:
        tokens = reference.header.tokens if reference and reference.header.names_tokens else None
        ends = ending.findings(account, dims.vocabulary, decoding.max_steps, tokens)
        yield program.END, (*ends, *printed)
