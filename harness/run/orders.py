"""The state checks of a run: chosen by its clips, run by its sessions, kept beside its rows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backend.registry import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import clip_features
from whisper_parity.errors import ParityError
from whisper_parity.run import order as state
from whisper_parity.run.evaluation import Evaluation
from whisper_parity.run.order import Order, Player, Sound
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import StateCheck
from whisper_parity.system import serial

FOLDER = "states"


@dataclass(frozen=True, slots=True)
class Checked:
    """What is kept of a stage."""

    artifact_sha256: str
    clips: tuple[str, ...]
    """The clips of the run, of which the sequences were made."""
    whole: bool
    """Whether it is the whole set."""
    checks: tuple[StateCheck, ...]


def of_stage(evaluation: Evaluation, stage: Stage) -> tuple[StateCheck, ...]:
    """Check a stage, unless that was done in this run for this artifact; errors become checks that say so."""
    plan = evaluation.plan
    try:
        sha256 = evaluation.artifact(stage.spec).sha256
        known = read(plan, stage.spec)
        if known and _holds(known, plan, sha256):
            return known.checks
        checks = _checked(evaluation, stage.spec)
    except ParityError as error:
        sha256 = ""
        checks = (StateCheck(stage.spec, "", (), False, str(error), checked=False, error_code=error.exit_code),)
    clips = tuple(clip.name for clip in plan.clips)
    serial.write(_path(plan, stage.spec), Checked(sha256, clips, plan.options.state, checks))
    return checks


def read(plan: Plan, spec: str) -> Checked | None:
    """What is known of a stage in this run."""
    path = _path(plan, spec)
    return serial.read(Checked, path) if path.is_file() else None


def _holds(known: Checked, plan: Plan, sha256: str) -> bool:
    """Whether it need not be done again: an error may be gone by now, and a device be back."""
    if any(check.error_code for check in known.checks):
        return False
    same_clips = known.clips == tuple(clip.name for clip in plan.clips)
    return known.artifact_sha256 == sha256 and same_clips and known.whole >= plan.options.state


def _checked(evaluation: Evaluation, spec: str) -> tuple[StateCheck, ...]:
    plan = evaluation.plan
    sounds = _sounds(plan)
    orders = state.whole(sounds) if plan.options.state else state.small(sounds)
    pair = state.two_sessions(sounds)
    player = _player(evaluation, spec, (*orders, pair))
    checks = [state.check(player, order) for order in orders]
    if plan.options.state:
        checks.append(state.check(player, pair, at_once=True))
    if not checks:
        reason = "no clip of the run can be read and says something"
        checks.append(StateCheck(spec, "A B A", (), False, reason, checked=False))
    return tuple(checks)


def _player(evaluation: Evaluation, spec: str, orders: tuple[Order, ...]) -> Player:
    """Everything is prepared before the first session is opened: preparing may run the root."""
    names = {name for order in orders for name in order.clips if name}
    clips = [clip for clip in evaluation.plan.clips if clip.name in names]
    tasks = {clip.name: evaluation.prepare(spec, clip) for clip in clips}
    recorded = {clip.name: evaluation.just_recorded(spec, clip) for clip in clips}
    return Player(
        stage=spec,
        play=lambda session, clip: evaluation.play(spec, session, tasks[clip]),
        fresh=lambda: evaluation.fresh(spec),
        pair=lambda: evaluation.pair(spec),
        known={name: trace for name, trace in recorded.items() if trace},
        used=None if evaluation.plan.options.state else lambda: evaluation.session(spec),
    )


def _sounds(plan: Plan) -> list[Sound]:
    """The clips that can be read, each audio once; no more of them than the small set needs, if that is all."""
    found: dict[str, Sound] = {}
    for clip in plan.clips:
        if not plan.options.state and sum(not sound.silent for sound in found.values()) == 2:
            break
        with suppress(ParityError):  # the row of such a clip says what is wrong with it
            sha256, sound = _sound(plan, clip)
            found.setdefault(sha256, sound)
    return list(found.values())


def _sound(plan: Plan, clip: Clip) -> tuple[str, Sound]:
    features = clip_features(plan.options.cache, clip, plan.checkpoint.dims.n_mels)
    return features.audio_sha256, Sound(clip.name, features.seconds, features.silent)


def _path(plan: Plan, spec: str) -> Path:
    return plan.folder / FOLDER / f"{spec.replace(':', '-')}.json"
