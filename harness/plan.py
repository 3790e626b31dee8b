"""From options to a plan: what will be run, on what, judged how."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness import checkpoint, config, fixture, floor, policy, registry, serial, tolerance
from harness.build import Workshop
from harness.checkpoint import Checkpoint
from harness.errors import ConfigError, UsageError
from harness.fixture import PROJECT, BadClip, Clip
from harness.policy import Policy
from harness.registry import Stage

OPTIONS = "options.json"
"""Name of the file in a run's folder that holds its options."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose; the same names and defaults on the command line, in pytest and in parity.toml."""

    checkpoint: str | None = None
    """openai-whisper name or path; None for the embedded micro checkpoint."""
    stages: tuple[str, ...] = registry.DEFAULT_STAGES
    artifacts: Path | None = None
    """Folder of converted files that are used instead of building."""
    clips: tuple[str, ...] = ("default",)
    """Names, tags, "default", "all", or paths of audio files and folders."""
    manifest: Path = fixture.MANIFEST
    policy: str = "whisper"
    language: str | None = None
    """For clips that do not name theirs; None to detect."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    mask_value: str = "-inf"
    """Causal mask of built decoders: -inf as in openai-whisper, or a finite value for NPUs."""
    report_dir: Path = PROJECT / "reports"
    run_id: str | None = None
    """Name of the run's folder; None for time and checkpoint. An existing run of that name is continued."""
    cache: Path = PROJECT / "build" / "cache"
    soc: str | None = None
    """SoC that a DLA is compiled for; None as parity.toml says, else MT8371."""
    serial: tuple[str, ...] = ()
    """Devices, as adb names them, used side by side; empty for the only one attached."""
    tflite_converter: str | None = None
    """litert or mtk; None as parity.toml says, else litert."""
    noise: Path | None = None
    """File of measured noise that tolerances are multiples of; None for the approved one."""
    state: bool = False
    """Check state and order by the whole set of sequences, not the small one."""
    require_placement: bool = False
    """A stage of which a part fell back to the CPU, or that does not say where it runs, fails the run."""


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


def options_from(given: Mapping[str, Any], configured: Mapping[str, Any]) -> Options:
    """Options with parity.toml's [run] under what was given; None means not given.

    Raises:
        ConfigError: a configured value of the wrong type.
    """
    merged = {**configured, **{key: value for key, value in given.items() if value is not None}}
    where = {key: _option(key) if given.get(key) is not None else f"{config.FILE_NAME} [run] {key}" for key in merged}
    return replace(Options(), **{key: _typed(key, value, where[key]) for key, value in merged.items()})


def make(options: Options, settings: config.Config) -> Plan:
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
    tolerances, origins = floor.resolve(table, options.noise or floor.APPROVED, found.sha256)
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


def of_run(folder: Path, settings: config.Config) -> Plan:
    """The plan of a recorded run, from the options that it was made with.

    Raises:
        RecordError: the folder holds none.
        ParityError: what they name is not there any more.
    """
    options = serial.read(Options, folder / OPTIONS)
    return make(replace(options, run_id=folder.name, report_dir=folder.absolute().parent), settings)


def configure_backends(options: Options, settings: config.Config) -> None:
    """Hand parity.toml's [backends.NAME] to the backends, with the target that was named on the command line over it.

    Raises:
        ConfigError: settings that cannot be used.
    """
    tables = {name: dict(table) for name, table in settings.backends.items()}
    for option, (name, setting) in registry.TARGET_OPTIONS.items():
        if value := getattr(options, option):
            tables.setdefault(name, {})[setting] = value
    registry.configure(tables)


def cells(options: Options) -> tuple[tuple[Stage, ...], fixture.ClipSet]:
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
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{fixture.safe_name(stem)}"


def command(options: Options, clip: str, stages: Sequence[str]) -> str:
    """The shell command that repeats one clip of this run."""
    default = Options()
    words = ["parity", "run", "--clips", clip, "--stages", ",".join(stages)]
    repeated = ("checkpoint", "artifacts", "manifest", "policy", "language", "mask_value", "noise")
    for name in (*repeated, *registry.TARGET_OPTIONS):
        if (value := getattr(options, name)) != getattr(default, name):
            words += [_option(name), ",".join(value) if isinstance(value, tuple) else str(value)]
    return " ".join(_quoted(word) for word in words)


_LISTS = ("stages", "clips", "serial")
_PATHS = ("artifacts", "manifest", "report_dir", "cache", "noise")
_FLAGS = ("state", "require_placement")


def _typed(key: str, value: Any, where: str) -> Any:
    """A value as the option's type: "a,b" or a list for lists, text for paths."""
    if key not in {each.name for each in fields(Options)}:
        raise ConfigError(f"{where}: unknown option {key!r}")
    if key in _LISTS:
        return _words(key, value, where)
    if key in _PATHS and isinstance(value, (str, Path)):
        return Path(value).absolute()
    if key in _FLAGS:
        if type(value) is not bool:
            raise ConfigError(f"{where}: expected true or false, found {value!r:.60}")
        return value
    if key == "threads":
        if type(value) is not int or not 1 <= value <= 1024:
            raise ConfigError(f"{where}: expected a number from 1 to 1024, found {value!r:.60}")
        return value
    if key == "mask_value" and type(value) in (int, float):
        return str(value)
    if not isinstance(value, str) or key in _PATHS:
        raise ConfigError(f"{where}: expected text, found {value!r:.60}", hint="Put it into quotes")
    if key == "run_id" and value != fixture.safe_name(value):
        raise ConfigError(f"run id {value!r:.60}: use letters, digits, '.', '_' and '-'")
    return value


def _words(key: str, value: Any, where: str) -> tuple[str, ...]:
    if key == "clips" and isinstance(value, str) and fixture.exists(Path(value)):
        return (value,)  # one file, whatever commas and blanks are in its name
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(f"{where}: expected names separated by commas, found {value!r:.60}")
    return tuple(word.strip() for word in words)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _quoted(word: str) -> str:
    """A word for the shell, on one line: what cannot be printed as the escapes of $'...'."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(plain)}'"
