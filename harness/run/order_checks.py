"""The checks of state and order of a run's stages: chosen by its clips, run by its sessions, kept in its journal."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass

from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.decode.cached import Cached
from whisper_parity.errors import ParityError
from whisper_parity.run import cache_checks, order
from whisper_parity.run.journal import Journal, Record
from whisper_parity.run.order import Order, Player, Sound
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import OrderCheck
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.traces import Traces


@dataclass(frozen=True, slots=True)
class CheckedStage:
    """What is kept of a stage."""

    artifact_sha256: str
    clips: tuple[str, ...]
    """Those of which the sequences were made."""
    whole: bool
    """Whether it is the whole set."""
    checks: tuple[OrderCheck, ...]
    off: bool = False
    """Whether the run was asked to leave them out."""


ORDER = "order"
OFF = "switched off by --no-state"


def of_stage(plan: Plan, sessions: Sessions, traces: Traces, stage: Stage, journal: Journal) -> tuple[OrderCheck, ...]:
    """Check a stage, unless that was done in this run for this artifact; errors become checks that say so."""
    names = _names(plan)
    try:
        sha256 = sessions.artifact(stage.spec).sha256
        record = read(journal, stage.spec)
        if record and _holds(record, plan, sha256, names):
            return record.checks
        checks = _kept_or_checked(plan, sessions, traces, stage.spec)
    except ParityError as error:
        return of_error(plan, stage, error, journal)
    kept = CheckedStage(sha256, names, plan.options.state, checks, plan.options.no_state)
    journal.append(Record.of(ORDER, (stage.spec,), kept))
    return checks


def of_error(plan: Plan, stage: Stage, error: ParityError, journal: Journal) -> tuple[OrderCheck, ...]:
    """The record of a stage that could not be checked."""
    checks = (OrderCheck(stage.spec, "", (), False, str(error), checked=False, error_code=error.exit_code),)
    kept = CheckedStage("", _names(plan), plan.options.state, checks, plan.options.no_state)
    journal.append(Record.of(ORDER, (stage.spec,), kept))
    return checks


def read(journal: Journal, spec: str) -> CheckedStage | None:
    """What was checked of a stage in this run."""
    record = journal.find(ORDER, spec)
    return record.read(CheckedStage) if record else None


def _clips(plan: Plan) -> tuple[Clip, ...]:
    """The clips that sequences are made of: of a small check those of the last batch, whose traces are still there."""
    return plan.clips if plan.options.state or not plan.batches else plan.batches[-1]


def _names(plan: Plan) -> tuple[str, ...]:
    return tuple(clip.name for clip in _clips(plan))


def _holds(record: CheckedStage, plan: Plan, sha256: str, clips: tuple[str, ...]) -> bool:
    """Whether it need not be done again: an error may be gone by now, and a device be back."""
    if any(check.error_code for check in record.checks) or record.off > plan.options.no_state:
        return False
    return record.artifact_sha256 == sha256 and record.clips == clips and record.whole >= plan.options.state


def _kept_or_checked(plan: Plan, sessions: Sessions, traces: Traces, spec: str) -> tuple[OrderCheck, ...]:
    """What the cache keeps of a stage that repeats, else what is found now; nothing where the run does without."""
    if plan.options.no_state:
        return (OrderCheck(spec, "", (), False, OFF, checked=False),)
    if plan.options.state:
        return _checked(plan, sessions, traces, spec)
    if kept := traces.kept.checks(sessions.artifact(spec)):
        return kept
    checks = _checked(plan, sessions, traces, spec)
    traces.kept.keep_checks(sessions.artifact(spec), checks)
    return checks


def _checked(plan: Plan, sessions: Sessions, traces: Traces, spec: str) -> tuple[OrderCheck, ...]:
    sounds = _sounds(plan, traces)
    orders = order.whole(sounds) if plan.options.state else order.small(sounds)
    pair = order.two_sessions(sounds)
    player = _player(plan, sessions, traces, spec, (*orders, pair) if plan.options.state else orders)
    checks = [order.check(player, sequence) for sequence in orders]
    checks += _of_cache(plan, sessions, traces, spec)
    if plan.options.state:
        checks.append(order.check(player, pair, at_once=True))
    if not sounds:
        reason = "no clip of the run can be read and says something"
        checks.append(OrderCheck(spec, "A B A", (), False, reason, checked=False))
    return tuple(checks)


def _of_cache(plan: Plan, sessions: Sessions, traces: Traces, spec: str) -> tuple[OrderCheck, ...]:
    """The check of a stage's KV cache on the first clip that can be read; none of a stage that keeps no cache."""
    root, sounds = plan.root_of(spec), _sounds(plan, traces)
    if root is None or not sounds:
        return ()
    with sessions.session(spec) as session, ExitStack() as stack:
        if not isinstance(session, Cached):
            return ()
        clip = next(clip for clip in _clips(plan) if clip.name == sounds[0].clip)
        reference = sessions.open(sessions.artifact(root), stack)
        features = traces.features(clip, spec).windows[0].input_features
        return (cache_checks.check(spec, session, reference, features, clip.name, is_whole=plan.options.state),)


def _player(plan: Plan, sessions: Sessions, traces: Traces, spec: str, orders: tuple[Order, ...]) -> Player:
    """Everything is prepared before the first session is opened: preparing may run the root."""
    names = {name for sequence in orders for name in sequence.clips if name}
    clips = {clip.name: clip for clip in _clips(plan) if clip.name in names}
    tasks = {name: traces.prepare(spec, clip) for name, clip in clips.items()}
    return Player(
        stage=spec,
        play=lambda session, clip: traces.play(spec, session, tasks[clip]),
        fresh=lambda: sessions.fresh(spec),
        pair=lambda: sessions.pair(spec),
        recorded=lambda session, names: traces.of_session(spec, [clips[name] for name in names], session),
        used=None if plan.options.state else lambda: sessions.session(spec),
        again=lambda session, trace: traces.again(spec, session, tasks[trace.header.clip], trace),
    )


def _sounds(plan: Plan, traces: Traces) -> list[Sound]:
    """The clips that can be read, each audio once."""
    sounds: dict[str, Sound] = {}
    for clip in _clips(plan):
        with suppress(ParityError):  # the row of such a clip says what is wrong with it
            heard = traces.heard(clip, traces.plan.root)
            sounds.setdefault(heard.audio_sha256, Sound(clip.name, heard.seconds, heard.silent))
    return list(sounds.values())
