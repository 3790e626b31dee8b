"""From what a program printed to its account: text, tokens, prompt, language, end, warnings, times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.backends.app import documents, paths, values
from whisper_parity.backends.app.output import Output
from whisper_parity.backends.app.patterns import Patterns, Search, lines_of
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims

MOST_LINES = 200
"""Warnings and errors of a program that are kept, each."""
LONGEST = 1000
"""Characters of one that are kept."""


def account(output: Output, patterns: Patterns, dims: Dims, *, by: str, tensors: Sequence[str] = ()) -> Account:
    """A program's account of one sound.

    Args:
        output: what it printed and wrote.
        patterns: how that is read; without one for a text, JSON of any known form.
        dims: of the checkpoint: ids are of its vocabulary.
        by: the program, for messages.
        tensors: names of the tensors that it gave: where there are some, it may be without a text.

    Raises:
        BackendError: it gave no result, or several that differ; its exit code is no proof of one.
    """
    search = Search(lines_of(output.printed))
    document = documents.read(output, patterns)
    reader = _Reader(search, patterns, document, dims)
    problems = reader.lines("error")
    said = reader.whole() if patterns.reads_result else documents.of_any_form(document, dims)
    if said is None or (said.text is None and not said.names_tokens):
        if not tensors or problems or output.exit_code:
            raise BackendError(_no_result(output, problems, by))
        said = said or Account(None, ())
    return replace(
        said,
        warnings=reader.lines("warning"),
        errors=problems,
        seconds=reader.times(),
        exit_code=output.exit_code,
        peak_memory_bytes=reader.peak_memory(),
    )


class _Reader:
    """One output under the patterns of a program."""

    def __init__(self, search: Search, patterns: Patterns, document: Any, dims: Dims) -> None:
        self._search, self._patterns, self._document, self._dims = search, patterns, document, dims

    def whole(self) -> Account | None:
        """Text, windows and language; None where there is neither text nor token."""
        text, windows = self._text(), self._windows()
        if text is None and not any(window.tokens is not None for window in windows):
            return None
        spoken = [word for word in self._found("language") if isinstance(word, str)]
        return Account(text, windows, values.language(spoken[-1], self._dims) if spoken else None)

    def lines(self, field: str) -> tuple[str, ...]:
        """Warnings or errors, a line each."""
        named = [word for word in self._found(field) if isinstance(word, str)]
        named += [word for inner in self._found(field) if isinstance(inner, list) for word in map(str, inner)]
        cut = [word.strip()[:LONGEST] for word in named if word.strip()]
        return (
            tuple(cut[:MOST_LINES])
            if len(cut) <= MOST_LINES
            else (*cut[:MOST_LINES], f"and {len(cut) - MOST_LINES} more")
        )

    def times(self) -> dict[str, float]:
        """Times by name [s]."""
        measured: dict[str, float] = {}
        for item in self._of_paths("times"):
            measured |= values.seconds(item)
        for expression in self._patterns.expressions.get("times", ()):
            for _, match in self._search.matches(expression):
                measured |= values.seconds_of_groups(match.groupdict())
        return measured

    def peak_memory(self) -> int | None:
        """Bytes; None where it does not say."""
        sizes = [size for size in map(values.whole, self._found("peak_memory")) if size is not None and size > 0]
        return max(sizes, default=None)

    def _text(self) -> str | None:
        blocks = tuple(self._blocks())
        texts = [item for item in (*self._found("text"), *blocks) if isinstance(item, str)]
        if len(set(texts)) > 1:
            if self._patterns.paths.get("text") and any(None in steps for steps in self._patterns.paths["text"]):
                return "".join(texts)
            raise BackendError(
                f"{len(texts)} results that differ for one sound: {texts[0]!r:.80} and {texts[-1]!r:.80}",
                hint="Make the pattern of the text more narrow",
            )
        return texts[0] if texts else None

    def _blocks(self) -> Iterator[str]:
        """Texts between lines: behind consecutive lines that match text_start, up to one that matches text_end."""
        starts, ends = (self._patterns.expressions.get(name, ()) for name in ("text_start", "text_end"))
        if not starts:
            return
        heads = [{number for number, _ in self._search.matches(start)} for start in starts]
        tails = sorted(number for end in ends for number, _ in self._search.matches(end))
        for first in sorted(heads[0]):
            behind = first + len(starts)
            if all(first + i in head for i, head in enumerate(heads)):
                last = next((number for number in tails if number >= behind), None)
                if last is not None:
                    yield "\n".join(self._search.lines[behind:last])

    def _windows(self) -> tuple[AccountWindow, ...]:
        tokens, prompts = self._lists("tokens") or self._single_tokens(), self._lists("prompt")
        ends = [values.ended(item) for item in self._found("ended")] or [self._marked_end()]
        count = max(len(tokens), len(prompts))
        if not count:
            return (AccountWindow(ended=ends[0]),) if ends[0] else ()
        one_end = len(ends) == 1 and count > 1
        return tuple(
            AccountWindow(_at(prompts, i), _at(tokens, i), "" if one_end else _at(ends, i) or "") for i in range(count)
        )

    def _single_tokens(self) -> list[tuple[int, ...]]:
        singles = [values.whole(item) for item in self._found("token")]
        return [tuple(token for token in singles if token is not None)] if singles else []

    def _lists(self, field: str) -> list[tuple[int, ...]]:
        """Lists of ids of a field, one a window; what is no list of ids is left out."""
        lists = [values.ids(item) for item in self._found(field)]
        return [ids for ids in lists if ids is not None]

    def _marked_end(self) -> str:
        for mark, end in (("ended_eot", "eot"), ("ended_length", "length")):
            if self._search.first(self._patterns.expressions.get(mark, ())):
                return end
        return ""

    def _found(self, field: str) -> list[Any]:
        """Values of a field: those of its paths, else the groups of its first expression that matches."""
        named = [match.group(field) for match in self._search.first(self._patterns.expressions.get(field, ()))]
        return [*self._of_paths(field), *(word for word in named if word is not None)]

    def _of_paths(self, field: str) -> list[Any]:
        every = self._patterns.paths.get(field, ())
        return next(filter(None, (paths.values(self._document, steps) for steps in every)), [])


def _at(items: Sequence[Any], index: int) -> Any:
    return items[index] if index < len(items) else None


def _no_result(output: Output, problems: Sequence[str], by: str) -> str:
    """Why there is none, in the program's own words."""
    printed = [line.strip() for line in output.printed.splitlines() if line.strip()]
    last = problems[-1] if problems else printed[-1] if printed else "it printed nothing"
    code = "" if output.exit_code is None else f" (exit code {output.exit_code})"
    return f"{by} gave no result{code}: {last[:300]}"
