"""Settings of a backend: [backends.NAME] of parity.toml and `--set NAME.KEY=VALUE`, described by its own dataclass."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from whisper_parity.backend.trust import Program
from whisper_parity.errors import ConfigError

S = TypeVar("S")
LONGEST_S = 86_400
LARGEST_GIB = 1024
_HELP, _DECIDES, _VARIABLE, _PROGRAM = "help", "decides_numbers", "environment", "names_program"


def setting(
    default: Any, text: str, *, decides_numbers: bool = True, environment: str = "", names_program: bool = False
) -> Any:
    """A field of a settings dataclass.

    Args:
        default: its value where the site says nothing.
        text: what it is, for `parity backends` and the documentation.
        decides_numbers: whether a run made with another value may give other numbers; a run is bound to those.
        environment: variable that gives the value where parity.toml does not; tuples take one word.
        names_program: whether what it names is executed, here or on a device: a file that sets it must be trusted.
    """
    metadata = {_HELP: text, _DECIDES: decides_numbers, _VARIABLE: environment, _PROGRAM: names_program}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read(kind: type[S], name: str, table: Mapping[str, Any]) -> S:
    """The settings of a backend, with the environment under what the site says.

    Args:
        kind: the dataclass of its settings.
        name: of the backend, for messages.
        table: [backends.NAME], with `--set` over it.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    given = _environment(kind)
    if not table:
        return kind(**given)  # text each; files run where pydantic is not installed
    from pydantic import TypeAdapter, ValidationError

    words = {key: _split(kind, key, value) for key, value in table.items()}
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(words) - set(names)):
        raise ConfigError(f"[backends.{name}]: unknown setting {', '.join(unknown)}", hint=f"Known: {', '.join(names)}")
    try:
        return TypeAdapter(kind).validate_python({**given, **words})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"[backends.{name}] {key}: {first['msg']}", hint=f"`parity backends {name}` lists its settings"
        ) from error


def of_words(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Tables by backend from `--set` words: "name.key=value", "name.table.key=value".

    Raises:
        ConfigError: not of that form.
    """
    tables: dict[str, dict[str, Any]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        name, *keys = (part.strip() for part in place.split("."))
        if not equals or not keys or not all((name, *keys)):
            raise ConfigError(
                f"--set {word!r:.80}: expected BACKEND.KEY=VALUE", hint="`parity backends` lists the keys"
            )
        table = tables.setdefault(name, {})
        for key in keys[:-1]:
            table = table.setdefault(key, {})
        table[keys[-1]] = value.strip()
    return tables


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A table with another one over it, tables inside them too."""
    merged = dict(under)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = laid_over(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def require_seconds(backend: str, settings: Any, *keys: str) -> None:
    """Refuse time limits that limit nothing, NaN included.

    Raises:
        ConfigError: one of no time, or of more than a day.
    """
    for key in keys:
        _require_limit(backend, settings, key, "seconds", LONGEST_S)


def require_gib(backend: str, settings: Any, *keys: str) -> None:
    """Refuse limits of memory that limit nothing, NaN included.

    Raises:
        ConfigError: one of nothing, or of more than a TiB.
    """
    for key in keys:
        _require_limit(backend, settings, key, "GiB", LARGEST_GIB)


def _require_limit(backend: str, settings: Any, key: str, unit: str, most: int) -> None:
    if not 0 < getattr(settings, key) <= most:
        raise ConfigError(f"[backends.{backend}] {key}: expected {unit}, more than 0 and at most {most}")


def that_decide(settings: Any) -> dict[str, Any]:
    """The values that numbers depend on, by key, as JSON has them."""
    deciding: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        if field.metadata.get(_DECIDES, True):
            deciding[field.name] = _plain(getattr(settings, field.name))
    return deciding


def _plain(value: Any) -> Any:
    """A value as JSON has it: tables as such, by name where there are several."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if _is_table(value):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, tuple) else value


def programs(kind: type[Any], name: str, table: Mapping[str, Any]) -> Iterator[Program]:
    """The settings of a table that name programs.

    Args:
        kind: the dataclass of the backend's settings.
        name: of the backend.
        table: [backends.NAME].
    """
    for field in dataclasses.fields(kind):
        if field.metadata.get(_PROGRAM) and table.get(field.name):
            yield Program(f"{name}.{field.name}", str(table[field.name]))


def described(kind: type[Any]) -> list[tuple[str, str, str]]:
    """(key, default, help) of every setting, those of inner tables by their dotted keys."""
    lines: list[tuple[str, str, str]] = []
    empty = kind()
    for field in dataclasses.fields(kind):
        value, text = getattr(empty, field.name), field.metadata.get(_HELP, "")
        if _is_table(value):
            lines += [(f"{field.name}.{key}", default, inner) for key, default, inner in described(type(value))]
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else "" if value in (None, {}) else str(value)
            variable = field.metadata.get(_VARIABLE)
            lines.append((field.name, shown, f"{text}; environment: {variable}" if variable else text))
    return lines


def environment_of(kind: type[Any]) -> tuple[str, ...]:
    """Variables that give settings where parity.toml does not."""
    variables = (field.metadata.get(_VARIABLE) for field in dataclasses.fields(kind))
    return tuple(name for name in variables if name)


def _is_table(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _environment(kind: type[Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        variable = field.metadata.get(_VARIABLE)
        if variable and (value := os.environ.get(variable)):
            values[field.name] = (value,) if isinstance(field.default, tuple) else value
    return values


def _split(kind: type[Any], key: str, value: Any) -> Any:
    """Words of the command line as the list that a setting takes."""
    field = next((field for field in dataclasses.fields(kind) if field.name == key), None)
    takes_list = field is not None and "tuple" in str(field.type)
    return tuple(part.strip() for part in value.split(",")) if takes_list and isinstance(value, str) else value
