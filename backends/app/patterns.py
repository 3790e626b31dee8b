"""How a program's output is read: regular expressions over its lines, and paths into its JSON.

Expressions come from a project's file, lines from a program that nobody trusts: they are searched line by line, in
lines of a limited length, and all of them together within a limited time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from whisper_parity.backends.app import paths
from whisper_parity.errors import BackendError, ConfigError

NAMED = ("text", "tokens", "token", "prompt", "language", "ended", "warning", "error", "peak_memory")
"""Fields whose expressions have a group of the field's own name, or that are paths."""
MARKS = ("text_start", "text_end", "ended_eot", "ended_length")
"""Expressions that need no group: lines around a text of its own line, lines that tell how it ended."""
TIMES = "times"
ALL = (*NAMED, *MARKS, TIMES)
LONGEST_LINE = 1 << 20
"""Characters of a line that are searched."""
LIMIT_S = 10.0
"""For all expressions over one output."""
LONGEST_EXPRESSION = 1000


@dataclass(frozen=True, slots=True)
class Patterns:
    """Expressions and paths by field, in the order in which they are tried."""

    expressions: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Compiled."""
    paths: Mapping[str, tuple[tuple[paths.Step, ...], ...]] = field(default_factory=dict)

    @property
    def reads_result(self) -> bool:
        """Whether they find a text; where they do not, the output is JSON of any known form."""
        return any(name in table for table in (self.expressions, self.paths) for name in ("text", "text_start"))


def of(table: Mapping[str, Any]) -> Patterns:
    """Compile the patterns of a table.

    Raises:
        ConfigError: an unknown field, an expression that does not compile or lacks its group, a path that is none.
    """
    expressions: dict[str, tuple[Any, ...]] = {}
    jsons: dict[str, tuple[tuple[paths.Step, ...], ...]] = {}
    for name, given in table.items():
        if name not in ALL:
            raise ConfigError(f"[backends.app.patterns]: no field {name!r:.40}", hint=f"Fields: {', '.join(ALL)}")
        words = (given,) if isinstance(given, str) else tuple(given)
        jsons[name] = tuple(paths.parse(word) for word in words if word.startswith("$"))
        expressions[name] = tuple(_compiled(name, word) for word in words if not word.startswith("$"))
    if "text_start" in expressions and not expressions.get("text_end"):
        raise ConfigError("[backends.app.patterns] text_start: needs text_end, the line behind the text")
    return Patterns(*({name: values for name, values in part.items() if values} for part in (expressions, jsons)))


def _compiled(name: str, word: str) -> Any:
    if len(word) > LONGEST_EXPRESSION:
        raise ConfigError(f"[backends.app.patterns] {name}: an expression of {len(word)} characters")
    try:
        compiled = regex.compile(word)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"[backends.app.patterns] {name}: {word!r:.80} is no regular expression ({error})",
            hint="Write it in TOML between '...', where backslashes stay as they are",
        ) from error
    if name in NAMED and name not in compiled.groupindex:
        raise ConfigError(f"[backends.app.patterns] {name}: {word!r:.80} has no group (?P<{name}>...)")
    if name == TIMES and not compiled.groupindex:
        raise ConfigError(f"[backends.app.patterns] times: {word!r:.80} names no group, such as (?P<decode>...)")
    return compiled


@dataclass(slots=True)
class Search:
    """One output, searched within its time."""

    lines: Sequence[str]
    deadline: float = field(default_factory=lambda: time.monotonic() + LIMIT_S)

    def matches(self, expression: Any) -> Iterator[tuple[int, Any]]:
        """Lines that match, by their numbers.

        Raises:
            BackendError: the expressions take too long.
        """
        for number, line in enumerate(self.lines):
            try:
                found = expression.search(line, timeout=max(self.deadline - time.monotonic(), 1e-3))
            except TimeoutError as error:
                raise BackendError(
                    f"[backends.app.patterns] {expression.pattern!r:.80}: not done with the program's output after "
                    f"{LIMIT_S:.0f} s",
                    hint="Write it without nested repetitions",
                ) from error
            if found:
                yield number, found

    def first(self, expressions: Sequence[Any]) -> list[Any]:
        """All matches of the first expression that matches at all."""
        return next(filter(None, ([found for _, found in self.matches(each)] for each in expressions)), [])


def lines_of(text: str) -> list[str]:
    """The lines of an output, each cut to the longest that is searched."""
    return [line.rstrip("\r")[:LONGEST_LINE] for line in text.split("\n")]
