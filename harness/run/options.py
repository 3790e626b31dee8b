"""What a user may choose: one table, from which every face of a run reads its options.

Each field of `RunOptions` carries an `Option`: its help, how it is typed, and what it decides. The command line,
`--parity-*` of pytest, [run] of parity.toml, the command that reproduces a row and the record of a run are read from
it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity import project as projects
from whisper_parity.errors import ConfigError, RecordError
from whisper_parity.project import FILE_NAME, Project
from whisper_parity.system import amounts, files, inputs

if TYPE_CHECKING:
    from whisper_parity.clips.clip import ClipSet
    from whisper_parity.clips.filters import Filters

MAX_THREADS = 1024
MOST = 10**9
"""Of numbers of clips, and of a seed."""
RESERVED = ("default", "all", "fetched")
"""Words for clips that no folder of that name takes over."""


class Kind(Enum):
    """How an option's value is written."""

    TEXT = "text"
    SOURCE = "a name, or a file that is there"
    PATH = "a path"
    NAMES = "names separated by commas"
    CLIPS = "names, or paths that are there, separated by commas"
    WORDS = "BACKEND.KEY=VALUE, as often as needed"
    FLAG = "true or false"
    SIZE = "a number of bytes, as 16GiB"
    COUNT = "a number"
    NUMBER = "a whole number"
    LENGTH = "a number of seconds"
    MASK = "a negative number"
    FOLDER_NAME = "a name of letters, digits, '.', '_' and '-'"


@dataclass(frozen=True, slots=True)
class Option:
    """What every face of a run needs to know about one option."""

    name: str
    """Field of `RunOptions`, and key of [run]."""
    kind: Kind
    help: str
    metavar: str
    default: str
    """The default in words, for help."""
    flag: str
    """On the command line: "--mask-value"; pytest has "--parity-mask-value"."""
    commands: tuple[str, ...]
    """Commands of `parity` that take it."""
    repeated: bool
    """It decides numbers or their judgement, so the command that reproduces a row repeats it."""
    recorded: bool
    """A run's record holds it; the others are of the machine that it ran on."""
    configurable: bool
    """[run] of parity.toml may set it."""

    @property
    def is_flag(self) -> bool:
        """Whether it stands alone, without a value."""
        return self.kind is Kind.FLAG

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times."""
        return self.kind is Kind.WORDS


ALL = ("run", "build", "noise")


def _option(
    value: Any,
    kind: Kind,
    text: str,
    *,
    metavar: str = "",
    shown: str = "",
    flag: str = "",
    commands: tuple[str, ...] = ("run",),
    repeated: bool = False,
    recorded: bool = True,
    configurable: bool = True,
) -> Any:
    facts = {
        "kind": kind, "help": text, "metavar": metavar, "default": shown, "flag": flag, "commands": commands,
        "repeated": repeated, "recorded": recorded, "configurable": configurable,
    }  # fmt: skip
    return dataclasses.field(**{"default_factory" if callable(value) else "default": value}, metadata=facts)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user may choose; the same names and defaults on the command line, in pytest and in parity.toml."""

    checkpoint: str | None = _option(
        None, Kind.SOURCE, "Whisper name, or checkpoint file", metavar="NAME|FILE",
        shown="the embedded micro checkpoint", commands=ALL, repeated=True,
    )  # fmt: skip
    stages: tuple[str, ...] = _option(
        (), Kind.NAMES, "stages, variants as name:variant", metavar="A,B", shown="those of the installed backends",
        commands=("run", "build"),
    )  # fmt: skip
    artifacts: Path | None = _option(
        None, Kind.PATH, "folder of converted files to judge", metavar="DIR", shown="build them",
        commands=("run", "build"), repeated=True,
    )  # fmt: skip
    build_missing: bool = _option(
        False, Kind.FLAG, "build the stages of which --artifacts holds no file", commands=("run", "build"),
        repeated=True,
    )  # fmt: skip
    clips: tuple[str, ...] = _option(
        ("default",), Kind.CLIPS, "names, tags, default, all, fetched, or paths of sets, sounds and folders of them",
        metavar="A,B", shown="default", commands=("run", "noise"),
    )  # fmt: skip
    manifest: Path | None = _option(
        None, Kind.PATH, "set of clips that names and tags are of: a manifest, or any set that --clips takes",
        metavar="PATH", shown="the embedded clips", commands=("run", "noise"), repeated=True,
    )  # fmt: skip
    audio_root: Path | None = _option(
        None, Kind.PATH, "folder that the paths of a set may point into", metavar="DIR", shown="the set's own",
        commands=("run", "noise"), repeated=True,
    )  # fmt: skip
    lang: tuple[str, ...] = _option(
        (), Kind.NAMES, "take clips of these languages alone", metavar="A,B", shown="all", commands=("run", "noise"),
    )  # fmt: skip
    max_seconds: float | None = _option(
        None, Kind.LENGTH, "take clips of at most so many seconds, by their set or header", metavar="S", shown="all",
        commands=("run", "noise"),
    )  # fmt: skip
    limit: int | None = _option(
        None, Kind.NUMBER, "take the first N clips", metavar="N", shown="all", commands=("run", "noise"),
    )  # fmt: skip
    sample: int | None = _option(
        None, Kind.NUMBER, "take N clips drawn by chance, always the same for a seed", metavar="N", shown="all",
        commands=("run", "noise"),
    )  # fmt: skip
    seed: int = _option(
        0, Kind.NUMBER, "of --sample", metavar="N", shown="0", commands=("run", "noise"),
    )  # fmt: skip
    policy: str = _option(
        "whisper", Kind.TEXT, "decode policy: whisper, plain, or one of parity.toml", metavar="NAME", shown="whisper",
        commands=("run", "noise"), repeated=True,
    )  # fmt: skip
    language: str | None = _option(
        None, Kind.TEXT, "language of clips that do not name theirs", metavar="CODE", shown="detected",
        commands=("run", "noise"), repeated=True,
    )  # fmt: skip
    threads: int | None = _option(
        None, Kind.COUNT, "threads of every runtime", metavar="N", shown="what the model occupies, at most all cores",
        commands=ALL, repeated=True,
    )  # fmt: skip
    workers: int | None = _option(
        None, Kind.COUNT, "processes that record and judge side by side, each with its own sessions", metavar="N",
        shown="one for each core where a model has one thread, else 1", recorded=False,
    )  # fmt: skip
    ray: str | None = _option(
        None, Kind.TEXT, "a Ray cluster that exists already, whose machines record and judge", metavar="ADDRESS|auto",
        shown="this machine alone", recorded=False,
    )  # fmt: skip
    mask_value: str = _option(
        "-inf", Kind.MASK, "causal mask of built decoders: -inf as in openai-whisper, or finite for an NPU",
        metavar="X", shown="-inf", commands=("run", "build"), repeated=True,
    )  # fmt: skip
    settings: tuple[str, ...] = _option(
        (), Kind.WORDS, "a setting of a backend; `parity backends` lists them", metavar="BACKEND.KEY=VALUE",
        flag="--set", commands=ALL, repeated=True, configurable=False,
    )  # fmt: skip
    report_dir: Path = _option(
        lambda: projects.find().reports, Kind.PATH, "folder that gets the run's folder", metavar="DIR",
        shown="reports in the project", recorded=False,
    )  # fmt: skip
    run_id: str | None = _option(
        None, Kind.FOLDER_NAME, "name of the run; an existing one is continued", metavar="NAME",
        shown="time and checkpoint", recorded=False, configurable=False,
    )  # fmt: skip
    cache: Path = _option(
        projects.cache, Kind.PATH, "folder of built artifacts", metavar="DIR", shown="the user's cache folder",
        commands=ALL, recorded=False,
    )  # fmt: skip
    cache_limit: str = _option(
        "16GiB", Kind.SIZE, "most that the cache may hold; 0 keeps nothing", metavar="SIZE", shown="16GiB",
        recorded=False,
    )  # fmt: skip
    fresh: bool = _option(
        False, Kind.FLAG, "record every trace, also those that the cache holds of the checkpoint's stages",
        recorded=False,
    )  # fmt: skip
    traces: str | None = _option(
        None, Kind.TEXT, "traces that stay: all, none, worst or worst:N of each stage, with what is not pass",
        metavar="WHICH", shown="all; of more than 50 clips worst:10",
    )  # fmt: skip
    noise: Path | None = _option(
        None, Kind.PATH, "measured noise that tolerances are multiples of", metavar="FILE",
        shown="noise.json among the approved results", repeated=True,
    )  # fmt: skip
    state: bool = _option(False, Kind.FLAG, "check state and order by the whole set of sequences")
    no_state: bool = _option(False, Kind.FLAG, "do not check state and order; the report says so")
    require_placement: bool = _option(
        False, Kind.FLAG, "fail where a stage fell back to the CPU, or does not say where it runs"
    )

    def __post_init__(self) -> None:
        """Refuse values that no run can have.

        Raises:
            ConfigError: a thread count, mask value or run name that cannot be used.
        """
        if self.threads is not None and not 1 <= self.threads <= MAX_THREADS:
            raise ConfigError(f"threads {self.threads}: expected a number from 1 to {MAX_THREADS}")
        if self.workers is not None and not 1 <= self.workers <= MAX_THREADS:
            raise ConfigError(f"workers {self.workers}: expected a number from 1 to {MAX_THREADS}")
        if self.state and self.no_state:
            raise ConfigError("state and no_state: expected one of them, found both", hint="Leave one out")
        if not _is_negative(self.mask_value):
            raise ConfigError(
                f"mask value {self.mask_value!r:.60}: expected a negative number", hint="Use -inf or -10000"
            )
        if self.run_id is not None and self.run_id != files.safe_name(self.run_id):
            raise ConfigError(f"run id {self.run_id!r:.60}: use letters, digits, '.', '_' and '-'")
        _ = self.cache_bytes, self.filters

    @property
    def filters(self) -> Filters:
        """Which of the clips are taken.

        Raises:
            UsageError: both a limit and a sample.
        """
        from whisper_parity.clips.filters import Filters

        return Filters(self.limit, self.sample, self.seed, self.lang, self.max_seconds)

    def selected(self) -> ClipSet:
        """The clips; errors as `selection.select` raises them."""
        from whisper_parity.clips import selection

        roots = (self.audio_root,) if self.audio_root else ()
        return selection.select(
            self.clips, self.manifest, self.language, filters=self.filters, roots=roots, cache=self.cache
        )

    @property
    def cache_bytes(self) -> int:
        """Most that the cache may hold.

        Raises:
            ConfigError: no size.
        """
        try:
            return amounts.size(self.cache_limit)
        except ValueError as error:
            raise ConfigError(f"cache limit {error}") from error


OPTIONS: Mapping[str, Option] = {
    field.name: Option(
        field.name, **{**field.metadata, "flag": field.metadata["flag"] or f"--{field.name.replace('_', '-')}"}
    )
    for field in dataclasses.fields(RunOptions)
}
"""The table, by field of `RunOptions`."""


def of(command: str) -> tuple[Option, ...]:
    """The options that a command of `parity` takes."""
    return tuple(option for option in OPTIONS.values() if command in option.commands)


def read(given: Mapping[str, Any], project: Project) -> RunOptions:
    """Options with [run] of parity.toml under what was given; None means not given.

    Relative paths that were given start at the working folder, those of parity.toml at the project's.

    Raises:
        ConfigError: an unknown key of [run], or a value of the wrong type.
    """
    where = f"{project.folder / FILE_NAME} [run]"
    configurable = tuple(name for name, option in OPTIONS.items() if option.configurable)
    if unknown := sorted(set(project.run) - set(configurable)):
        raise ConfigError(
            f"{where}: unknown key {', '.join(unknown)}",
            hint=f"Known: {', '.join(sorted(configurable))}; settings of a backend go into [backends.NAME]",
        )
    values = {
        name: _typed(OPTIONS[name], value, f"{where} {name}", project.folder) for name, value in project.run.items()
    }
    for typed, other in (("limit", "sample"), ("sample", "limit")):
        if given.get(typed) is not None and given.get(other) is None:
            values.pop(other, None)  # parity.toml's sample gives way to a limit that is typed
    for name, value in given.items():
        if value is not None and value != ():
            values[name] = _typed(OPTIONS[name], value, OPTIONS[name].flag, Path.cwd())
    return replace(RunOptions(report_dir=project.reports), **values)


def command(options: RunOptions, clip: str, stages: Sequence[str]) -> str:
    """The shell command that repeats one clip of this run, typed in the project's folder."""
    words = ["parity", "run", "--clips", clip, "--stages", ",".join(stages)]
    default = RunOptions(report_dir=options.report_dir)
    for option in OPTIONS.values():
        value = getattr(options, option.name)
        if option.repeated and value != getattr(default, option.name):
            words += _words(option, value)
    return " ".join(quoted(word) for word in words)


def write(options: RunOptions, path: Path, project: Project) -> None:
    """Record the options of a run; paths inside the folder of a parity.toml are written relative to it.

    Without a parity.toml nobody could tell later where relative paths start.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = project.folder if project.has_file else None
    record = {name: getattr(options, name) for name, option in OPTIONS.items() if option.recorded}
    files.write_text(
        path, json.dumps({name: _portable(value, folder) for name, value in record.items()}, indent=1) + "\n"
    )


def load(path: Path, folder: Path) -> RunOptions:
    """Read the options of a run back, relative paths from the project's folder.

    Raises:
        RecordError: missing, not JSON, or written by another version of this program.
    """
    hint = "Give the folder of a run"
    record = inputs.read_json(path, kind=RecordError, hint=hint)
    if not isinstance(record, dict):
        raise RecordError(f"{path}: not the options of a run, but {type(record).__name__}", hint=hint)
    given = {name: value for name, value in record.items() if value is not None and value != []}
    local = {name for name, option in OPTIONS.items() if not option.recorded}
    if unknown := sorted(set(given) - set(OPTIONS)):
        raise RecordError(
            f"{path}: written by another version of this program (it has {', '.join(unknown)})", hint="Run again"
        )
    try:
        typed = {
            name: _typed(OPTIONS[name], value, f"{path} {name}", folder)
            for name, value in given.items()
            if name not in local
        }
        return replace(RunOptions(), **typed)
    except ConfigError as error:
        raise RecordError(str(error), hint="Run again") from error


def _typed(option: Option, value: Any, where: str, folder: Path) -> Any:
    """A value as the option's type; relative paths from `folder`."""
    if option.kind is Kind.FLAG:
        return _require(value, type(value) is bool, where, "true or false")
    if option.kind is Kind.COUNT:
        return _require(
            value, type(value) is int and 1 <= value <= MAX_THREADS, where, f"a number from 1 to {MAX_THREADS}"
        )
    if option.kind is Kind.NUMBER:
        least = 0 if option.name == "seed" else 1
        return _require(
            value, type(value) is int and least <= value <= MOST, where, f"a whole number from {least} to {MOST}"
        )
    if option.kind is Kind.LENGTH:
        is_length = type(value) in (int, float) and 0 < value < float("inf")
        return float(_require(value, is_length, where, "a number of seconds above 0"))
    if option.kind is Kind.WORDS:
        return tuple(_require(value, isinstance(value, (list, tuple)), where, option.kind.value))
    if option.kind is Kind.MASK and type(value) in (int, float):
        return str(value)
    if option.kind is Kind.PATH and isinstance(value, (str, Path)) and str(value):
        return Path(os.path.normpath(folder / value))
    if option.kind is Kind.NAMES:
        return _names(value, where)
    if option.kind is Kind.CLIPS:
        return tuple(_placed(name, folder) for name in _names(value, where, folder))
    text = _require(value, isinstance(value, str) and bool(value), where, "text", hint="Put it into quotes")
    return _placed(text, folder) if option.kind is Kind.SOURCE else text


def _require(value: Any, good: bool, where: str, expected: str, hint: str = "") -> Any:
    if not good:
        raise ConfigError(f"{where}: expected {expected}, found {value!r:.60}", hint=hint)
    return value


def _names(value: Any, where: str, folder: Path | None = None) -> tuple[str, ...]:
    """Words of a list, or of a text with commas; a clip's path may hold commas and blanks."""
    if folder is not None and isinstance(value, str) and files.exists(folder / value):
        return (value,)
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(f"{where}: expected names separated by commas, found {value!r:.60}")
    return tuple(word.strip() for word in words)


def _placed(text: str, folder: Path) -> str:
    """A word that names a file or folder, from `folder` on, as an absolute path; any other word as it is."""
    is_path = text not in RESERVED and files.exists(folder / text)
    return os.path.normpath(folder / text) if is_path else text


def _portable(value: Any, folder: Path | None) -> Any:
    """A value as JSON has it, paths inside `folder` relative to it."""
    if isinstance(value, tuple):
        return [_portable(word, folder) for word in value]
    if folder and isinstance(value, (str, Path)) and Path(value).is_relative_to(folder):
        return str(Path(value).relative_to(folder))
    return str(value) if isinstance(value, Path) else value


def _words(option: Option, value: Any) -> list[str]:
    if option.is_flag:
        return [option.flag]
    if option.is_list:
        return [word for item in value for word in (option.flag, item)]
    return [option.flag, ",".join(value) if isinstance(value, tuple) else str(value)]


def _is_negative(text: str) -> bool:
    try:
        return float(text) < 0
    except ValueError:
        return False


def quoted(word: str) -> str:
    """A word for the shell, on one line: what cannot be printed as the escapes of $'...'."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(plain)}'"
