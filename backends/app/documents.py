"""JSON in a program's output: a whole file, or lines between others, in any known form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.backends.app import paths, values
from whisper_parity.backends.app.output import Output
from whisper_parity.backends.app.patterns import Patterns
from whisper_parity.compare import vocabularies
from whisper_parity.compare.readers import records
from whisper_parity.compare.result import Result
from whisper_parity.errors import BackendError, RecordError
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims

PROMPT = 4
"""Most ids of a prompt from start-of-transcript on: that, language, task, no-timestamps."""


def read(output: Output, patterns: Patterns) -> Any:
    """The JSON value that holds the result; None where there is none.

    Of several lines of JSON it is the one in which a path finds a text; an error's, where none does.

    Raises:
        BackendError: several lines hold a text.
    """
    if patterns.reads_result and not patterns.paths:
        return None
    contents = [*_contents(output.document)]
    if not patterns.paths:
        return contents[0] if len(contents) == 1 else contents or None
    wanted = [item for item in contents if _leads(item, patterns.paths.get("text", ()))]
    if len(wanted) > 1:
        raise BackendError(f"{len(wanted)} results for one sound in its JSON lines", hint="Run it on one sound")
    others = [item for item in contents if _leads(item, patterns.paths.get("error", ()))]
    return (wanted or others or contents or [None])[0]


def of_any_form(content: Any, dims: Dims) -> Account | None:
    """An account of JSON in any form that results have; None where it holds none.

    Raises:
        BackendError: it holds several results, or values of the wrong kind.
    """
    if content is None:
        return None
    try:
        results = records.results(content, "its JSON")
    except RecordError as error:
        raise BackendError(f"no result: {error}") from error
    if len(results) != 1:
        raise BackendError(f"{len(results)} results for one sound", hint="Run it on one sound")
    (result,) = results
    spoken = values.language(result.language, dims) if result.language else None
    return Account(result.text, _windows(result, dims), spoken)


def _windows(result: Result, dims: Dims) -> tuple[AccountWindow, ...]:
    """All ids as one window, the prompt taken from their front by the checkpoint's vocabulary."""
    if result.parts is None:
        return ()
    tokens = tuple(token for part in result.parts for token in part)
    prompt = vocabularies.prompt(tokens, dims.vocabulary)[:PROMPT]
    if not prompt:
        return (AccountWindow(None, tokens),)
    start = tokens.index(vocabulary.tokenizer(dims.vocabulary).sot)
    return (AccountWindow(tokens[: start + len(prompt)], tokens[start + len(prompt) :]),)


def _contents(text: str) -> list[Any]:
    """A JSON value, or every object that is a line of its own."""
    whole = _parsed(text)
    if whole is not None:
        return [whole]
    lines = [_parsed(line) for line in text.splitlines() if line.lstrip().startswith("{")]
    objects = [item for item in lines if isinstance(item, Mapping)]
    return objects or _embedded(text)


def _embedded(text: str) -> list[Any]:
    """An object over several lines, between lines of a log."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line == "{"][:8]
    for start in starts:
        ends = [i for i, line in enumerate(lines) if line == "}" and i > start]
        for end in ends[:1]:
            if (value := _parsed("\n".join(lines[start : end + 1]))) is not None:
                return [value]
    return []


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text, strict=False)  # a line break in a string, as programs print it
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (Mapping, list)) else None


def _leads(content: Any, every: Sequence[Sequence[paths.Step]]) -> bool:
    return any(paths.values(content, steps) for steps in every)
