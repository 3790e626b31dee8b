"""From options to a plan: what will be run, on what, judged how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from whisper_parity.backend import registry
from whisper_parity.backend.build import Workshop
from whisper_parity.backend.registry import Stage
from whisper_parity.clips import manifest as fixture
from whisper_parity.clips.clip import BadClip, Clip, ClipSet
from whisper_parity.decode import policy
from whisper_parity.decode.policy import Policy
from whisper_parity.errors import UsageError
from whisper_parity.judge import noise as floor
from whisper_parity.judge import tolerance
from whisper_parity.model import checkpoint
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.project import Project
from whisper_parity.run.options import OPTIONS, Options
from whisper_parity.system import files, serial


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know before it starts."""

    options: Options
    checkpoint: Checkpoint
    stages: tuple[Stage, ...]
    clips: tuple[Clip, ...]
    bad_clips: tuple[BadClip, ...]
    policy: Policy
    tolerances: Mapping[str, Mapping[str, Any]]
    """Every limit as numbers."""
    tolerance_origins: Mapping[str, Mapping[str, str]]
    """By edge and limit: what a number was computed from, where it was written as a multiple of noise."""
    workshop: Workshop
    folder: Path
    """reports/<run>."""

    def stage(self, spec: str) -> Stage:
        """A stage of this run by name.

        Raises:
            UsageError: it has no such stage.
        """
        for stage in self.stages:
            if stage.spec == spec:
                return stage
        known = ", ".join(stage.spec for stage in self.stages)
        raise UsageError(f"run {self.folder.name} has no stage {spec!r}", hint=f"It has {known}")


def make(options: Options, settings: Project) -> Plan:
    """Resolve names into a plan.

    Raises:
        UsageError: an unknown stage, policy, clip, language or option.
        ManifestError, CheckpointError, ConfigError: what was named cannot be used.
    """
    configure_backends(options, settings)
    chosen_policy = policy.named(options.policy, settings.policies)
    stages, (clips, bad_clips) = cells(options)
    policy.check_language(options.language)
    found = checkpoint.resolve(options.checkpoint)
    table = tolerance.load(settings.tolerances, registry.names())
    tolerances, origins = floor.resolve(table, options.noise or settings.noise, found.sha256)
    return Plan(
        options=options,
        checkpoint=found,
        stages=stages,
        clips=clips,
        bad_clips=bad_clips,
        policy=chosen_policy,
        tolerances=tolerances,
        tolerance_origins=origins,
        workshop=workshop(options, found),
        folder=options.report_dir / (options.run_id or new_run_id(options)),
    )


def remember(plan: Plan) -> None:
    """Write a plan's options into its run's folder, so that the run can be asked about later."""
    serial.write(plan.folder / OPTIONS, replace(plan.options, run_id=plan.folder.name, report_dir=plan.folder.parent))


def of_run(folder: Path, settings: Project) -> Plan:
    """The plan of a recorded run, from the options that it was made with.

    Raises:
        RecordError: the folder holds none.
        ParityError: what they name is not there any more.
    """
    options = serial.read(Options, folder / OPTIONS)
    return make(replace(options, run_id=folder.name, report_dir=folder.absolute().parent), settings)


def configure_backends(options: Options, settings: Project) -> None:
    """Hand parity.toml's [backends.NAME] to the backends, with the target that was named on the command line over it.

    Raises:
        ConfigError: settings that cannot be used.
    """
    tables = {name: dict(table) for name, table in settings.backends.items()}
    for option, (name, setting) in registry.TARGET_OPTIONS.items():
        if value := getattr(options, option):
            tables.setdefault(name, {})[setting] = value
    registry.configure(tables)


def cells(options: Options) -> tuple[tuple[Stage, ...], ClipSet]:
    """The stages and clips of a run, without touching checkpoint or models.

    Raises:
        UsageError: an unknown stage or clip.
        ManifestError: the manifest cannot be used.
    """
    return registry.plan(options.stages), fixture.select(options.clips, options.manifest, options.language)


def workshop(options: Options, found: Checkpoint) -> Workshop:
    """Where this run's artifacts come from.

    Raises:
        UsageError: a mask value that is no negative number.
    """
    try:
        negative = float(options.mask_value) < 0
    except ValueError:
        negative = False
    if not negative:
        raise UsageError(f"mask value {options.mask_value!r}: expected a negative number", hint="Use -inf or -10000")
    return Workshop(found, options.cache, options.artifacts, {"mask_value": options.mask_value})


def new_run_id(options: Options) -> str:
    """Time in UTC and the checkpoint's name: sorts by age."""
    stem = Path(options.checkpoint).stem if options.checkpoint else "micro"
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{files.safe_name(stem)}"
