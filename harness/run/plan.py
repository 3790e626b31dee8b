"""From options to a plan: what will be run, on what, judged how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from whisper_parity.backend import given, registry, settings, trust
from whisper_parity.backend.build import Workshop
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import Stage
from whisper_parity.backend.trust import Program
from whisper_parity.clips.clip import BadClip, Clip, ClipSet
from whisper_parity.decode import policy
from whisper_parity.decode.policy import Policy
from whisper_parity.errors import UsageError
from whisper_parity.judge import noise, tolerance
from whisper_parity.model import checkpoint
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.project import Project
from whisper_parity.run import batches, retention, threads, windows
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import RunOptions
from whisper_parity.run.retention import Keeps
from whisper_parity.system import closeness
from whisper_parity.system.files import safe_name


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know before it starts."""

    options: RunOptions
    """With the number of threads that is used, given or not."""
    threads: int
    """Of every runtime."""
    project: Project
    checkpoint: Checkpoint
    stages: tuple[Stage, ...]
    clips: tuple[Clip, ...]
    bad_clips: tuple[BadClip, ...]
    clip_notes: tuple[str, ...]
    """What the selection of clips left out."""
    policy: Policy
    tolerances: Mapping[str, Mapping[str, Any]]
    """Every limit as numbers."""
    tolerance_origins: Mapping[str, Mapping[str, str]]
    """By edge and limit: what a number was computed from, where it was written as a multiple of noise."""
    workshop: Workshop
    folder: RunFolder
    keeps: Keeps
    """Which traces stay."""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    """By stage: the checkpoint with as few positions as its given files have; the run's own is left out."""

    @property
    def backends(self) -> Backends:
        """Those that are installed, with this run's settings."""
        return self.workshop.backends

    @property
    def batches(self) -> tuple[tuple[Clip, ...], ...]:
        """Its clips as they are taken through the stages."""
        return batches.batches(self.clips)

    @property
    def root(self) -> str:
        """The stage that every later one is judged against."""
        return self.backends.root

    def checkpoint_of(self, spec: str) -> Checkpoint:
        """The checkpoint that a stage descends from: its dimensions are the stage's."""
        return self.checkpoints.get(spec, self.checkpoint)

    def workshop_of(self, spec: str) -> Workshop:
        """Where a stage's artifacts come from."""
        return replace(self.workshop, checkpoint=self.checkpoint_of(spec), whole=self.checkpoint)

    def root_of(self, spec: str) -> str | None:
        """The root under a stage's window, whose tokens are its drafts; None for the roots and what stands before."""
        return self.stage(spec).root

    def stage(self, spec: str) -> Stage:
        """A stage of this run by name.

        Raises:
            UsageError: it has no such stage.
        """
        for stage in self.stages:
            if stage.spec == spec:
                return stage
        raise UsageError(
            f"run {self.folder.name} has no stage {spec!r}", hint=_hint(spec, [stage.spec for stage in self.stages])
        )

    def clip(self, name: str) -> Clip:
        """A clip of this run by name.

        Raises:
            UsageError: it has no such clip.
        """
        for clip in self.clips:
            if clip.name == name:
                return clip
        raise UsageError(
            f"run {self.folder.name} has no clip {name!r}", hint=_hint(name, [clip.name for clip in self.clips])
        )


def _hint(name: str, names: Sequence[str]) -> str:
    """What the run has, and which of it was meant."""
    return closeness.hint(name, names, f"It has {closeness.listed(names)}")


def make(options: RunOptions, project: Project) -> Plan:
    """Resolve names into a plan.

    Raises:
        UsageError: an unknown stage, policy, clip, language or option.
        ArtifactError: a folder of artifacts that is not there.
        ManifestError, CheckpointError, ConfigError: what was named cannot be used.
    """
    if options.artifacts is not None:
        given.require_folder(options.artifacts)
    chosen_policy = policy.named(options.policy, project.policies)
    backends = registry.load(project, options.settings)
    stages, selected = selection(options, backends)
    policy.check_language(options.language)
    weights = checkpoint.resolve(options.checkpoint, options.cache)
    shop = workshop(options, backends, weights)
    fitted = windows.fitted(stages, shop)
    limits = tolerance.load(backends, project.tolerances)
    tolerances, origins = noise.resolve(limits, options.noise or project.noise, weights.sha256)
    chosen_threads = options.threads or threads.suited(weights.dims, options.workers or 1)
    return Plan(
        options=replace(options, threads=chosen_threads),
        threads=chosen_threads,
        project=project,
        checkpoint=weights,
        stages=fitted.stages,
        clips=selected.clips,
        bad_clips=selected.bad,
        clip_notes=selected.notes,
        policy=chosen_policy,
        tolerances=tolerances,
        tolerance_origins=origins,
        workshop=replace(shop, read=fitted.given),
        folder=RunFolder(options.report_dir / (options.run_id or new_run_id(options))),
        keeps=retention.keeps(options.traces, len(selected.clips)),
        checkpoints=fitted.checkpoints,
    )


def remember(plan: Plan) -> None:
    """Write a plan's options into its run's folder, so that the run can be asked about later.

    Programs among them were typed by the user, who thereby trusts the record of them.
    """
    run_options.write(plan.options, plan.folder.options, plan.project)
    if named := programs_of(plan.options):
        trust.trust(plan.folder.options, named)


def of_run(folder: RunFolder, project: Project) -> Plan:
    """The plan of a recorded run, from the options that it was made with.

    Raises:
        RecordError: the folder holds none.
        ParityError: what they name is not there any more.
    """
    return make(options_of(folder, project), project)


def options_of(folder: RunFolder, project: Project) -> RunOptions:
    """The options of a recorded run, as this machine reads them.

    Raises:
        RecordError: the folder holds none, or those of another version.
        ConfigError: they name programs, and were not made here.
    """
    options = run_options.load(folder.options, project.folder)
    trust.require(folder.options, programs_of(options), f"parity trust {folder.path}")
    return replace(options, run_id=folder.name, report_dir=folder.reports.absolute())


def programs_of(options: RunOptions) -> tuple[Program, ...]:
    """What the `--set` words of a run name for execution."""
    return registry.programs(settings.of_words(options.settings))


def selection(options: RunOptions, backends: Backends) -> tuple[tuple[Stage, ...], ClipSet]:
    """The stages and clips of a run, without touching checkpoint or models.

    Raises:
        UsageError: an unknown stage or clip.
        ManifestError: the manifest cannot be used.
    """
    stages = backends.chain(options.stages or backends.default_stages)
    return stages, options.selected()


def workshop(options: RunOptions, backends: Backends, weights: Checkpoint) -> Workshop:
    """Where this run's artifacts come from."""
    return Workshop(
        backends, weights, options.cache, options.artifacts, options.build_missing, {"mask_value": options.mask_value}
    )


def new_run_id(options: RunOptions) -> str:
    """Time in UTC and the checkpoint's name: sorts by age."""
    stem = Path(options.checkpoint).stem if options.checkpoint else "micro"
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{safe_name(stem)}"
