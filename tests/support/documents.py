"""Commands in Markdown: blocks of ```console and ```sh, what is said above them, and the output that they show.

Above a block, on lines of their own:

| line | meaning |
|---|---|
| `*Not run by the tests: REASON.*` | not run; the reader sees it |
| `*Output: REASON.*` | run, and what it prints is not compared; the reader sees it |
| `<!-- before: COMMANDS -->` | run first: brings the files that the reader has |
| `<!-- needs: PATH -->` | run where that path is, seen from the project's folder |
| `<!-- meanwhile -->` | run in a terminal of its own, until the document ends |

A command ends with exit code 0, or with N where its comment says `exit code N`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PROMPT = "$ "
LEFT_OUT = "..."
LANGUAGES = ("console", "sh", "bash", "shell")
_FENCE = re.compile(r"^( *)```(\S*)\s*$")
_NOT_RUN = re.compile(r"^ *\*Not run by the tests: (.+)\.\*$")
_OUTPUT = re.compile(r"^ *\*Output: (.+)\.\*$")
_BEFORE = re.compile(r"^ *<!-- before: (.+?) ?-->$", re.DOTALL)
_NEEDS = re.compile(r"^ *<!-- needs: (\S+) -->$")
_MEANWHILE = re.compile(r"^ *<!-- meanwhile -->$")
_EXIT_CODE = re.compile(r"#.*\bexit code (\d)\b")
_BARE = re.compile(r"(?:\w+=\S+ )*(?:parity|pytest|pip|make|ray) [a-z-]+(?: [^:⇥]*)?")
_HERE = re.compile(r"<<'(\w+)'")

TALK = re.compile(r"^parity: .* so far(, about .* left)?$|^(time|report|page): ")
"""Lines that say how far a command is, and where it wrote."""
ELIDED = (
    (re.compile(r"\d{8}-\d{6}-\S+?(?=[\s/:;`.,]|$)"), "RUN"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HASH"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"(?<![\w./~])/[\w./~+-]+"), "PATH"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DATE"),
    (re.compile(r"(?<![\w.])-?\d+(\.\d+)?([eE][+-]?\d+)? ?(s|ms|min|dB|MB|MiB|GiB|nat|logit)\b"), "#"),
    (re.compile(r"(?<![\w.])-?\d+\.\d+([eE][+-]?\d+)?(?!\d| ?%)"), "#"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"─+"), "─"),
)  # fmt: skip
"""What differs from machine to machine, and what stands in its place: names of runs, hashes, addresses, absolute paths,
dates, numbers with a unit of time, size or level, other numbers with a point; and the width of tables. Percentages and
whole numbers stay."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, and what is shown below it."""

    text: str
    """A line, or several with a backslash at their ends, or up to the end of what `<<'END'` begins; of ```sh all."""
    shown: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or what its comment says."""
        named = _EXIT_CODE.search(self.text)
        return int(named[1]) if named else 0


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands."""

    line: int
    """Of its fence, from 1."""
    commands: tuple[Command, ...]
    before: str = ""
    needs: str = ""
    is_meanwhile: bool = False
    not_run: str = ""
    """Why it is not run; "" where it is."""
    not_compared: str = ""
    """Why its output is not compared."""


def blocks(text: str) -> list[Block]:
    """The blocks of commands of a document, in order."""
    return [_block(line, language, body, above) for line, language, body, above in _fences(text) if language]


def stray(text: str) -> list[int]:
    """Lines that look like a typed command and stand in no block of commands: nobody would run them."""
    inside = {line + number for line, _, body, _ in _fences(text) for number in range(len(body) + 2)}
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if number not in inside]
    typed = [number for number, line in lines if _is_typed(line) or (line[:4].isspace() and _is_bare(line))]
    others = [
        line
        for line, language, body, _ in _fences(text)
        if not language and any(_is_typed(line) or _is_bare(line) for line in body)
    ]
    return sorted([*typed, *others])


def difference(shown: Sequence[str], printed: Sequence[str]) -> str:
    """The first shown line that was not printed, or printed line that is not shown; "" where there is none.

    Args:
        shown: of the document; a line `...` stands for any lines, `...` within a line for any text.
        printed: what the command wrote.
    """
    rest = [_elided(line) for line in printed if line.strip() and not TALK.match(line)]
    may_skip = False
    for line in filter(str.strip, shown):
        if line.strip() == LEFT_OUT:
            may_skip = True
            continue
        place = next((number for number, other in enumerate(rest) if _fits(_elided(line), other)), None)
        if place is None or (place and not may_skip):
            return f"shown:   {line}\nprinted: {rest[0] if rest and not may_skip else 'no such line'}"
        rest, may_skip = rest[place + 1 :], False
    return f"printed and not shown: {rest[0]}" if rest and not may_skip else ""


def _elided(line: str) -> str:
    for pattern, word in ELIDED:
        line = pattern.sub(word, line)
    return line.strip()


def _fits(shown: str, printed: str) -> bool:
    """Whether the parts between `...` stand in the printed line in their order, the first and the last at its ends."""
    first, *middle = shown.split(LEFT_OUT)
    if not middle:
        return shown == printed
    *middle, last = middle
    if not printed.startswith(first) or not printed.endswith(last) or len(printed) < len(first) + len(last):
        return False
    inner = printed[len(first) : len(printed) - len(last)]
    for part in middle:
        if part not in inner:
            return False
        inner = inner.partition(part)[2] if part else inner
    return True


def _is_typed(line: str) -> bool:
    return line.lstrip().startswith(PROMPT)


def _is_bare(line: str) -> bool:
    """Whether it is a command without a prompt; a line with a colon is output."""
    return bool(_BARE.fullmatch(line.strip()))


def _fences(text: str) -> list[tuple[int, str, list[str], list[str]]]:
    """Every fence: its line, its language where it is of commands, its lines, and the paragraphs above it."""
    lines = text.splitlines()
    fences, start = [], None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start, indent, language = number, len(fence[1]), fence[2]
        else:
            body = [line[min(indent, len(line) - len(line.lstrip())) :] for line in lines[start + 1 : number]]
            fences.append((start + 1, language if language in LANGUAGES else "", body, _above(lines[:start])))
            start = None
    return fences


def _above(lines: list[str]) -> list[str]:
    """Marks that stand directly above, the lines of a comment joined."""
    marks: list[str] = []
    rest = list(lines)
    while rest:
        last = rest.pop()
        if not last.strip():
            continue
        if last.endswith("-->"):
            while "<!--" not in last and rest:
                last = f"{rest.pop()}\n{last}"
        if not any(pattern.match(last) for pattern in (_NOT_RUN, _OUTPUT, _BEFORE, _NEEDS, _MEANWHILE)):
            break
        marks.append(last)
    return marks


def _block(line: int, language: str, body: list[str], above: list[str]) -> Block:
    def said(pattern: re.Pattern[str]) -> str:
        return next((mark[1] for mark in map(pattern.match, above) if mark), "")

    return Block(
        line,
        tuple(_commands(body)) if language == "console" else (Command("\n".join(body)),),
        before="\n".join(mark[1] for mark in map(_BEFORE.match, reversed(above)) if mark),
        needs=said(_NEEDS),
        is_meanwhile=any(map(_MEANWHILE.match, above)),
        not_run=said(_NOT_RUN),
        not_compared=said(_OUTPUT),
    )


def _goes_on(text: str) -> bool:
    """Whether the next line belongs to the command."""
    here = _HERE.search(text)
    return text.endswith("\\") or bool(here and not text.endswith(f"\n{here[1]}"))


def _commands(body: list[str]) -> list[Command]:
    """Typed lines with what is shown below each."""
    commands: list[Command] = []
    for line in body:
        if commands and not commands[-1].shown and _goes_on(commands[-1].text):
            commands[-1] = Command(f"{commands[-1].text}\n{line}")
        elif line.startswith(PROMPT):
            commands.append(Command(line.removeprefix(PROMPT)))
        else:
            assert commands, f"output without a command: {line}"
            commands[-1] = Command(commands[-1].text, (*commands[-1].shown, line))
    return commands
