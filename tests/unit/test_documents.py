"""Documents: what is read of their commands, and where their links lead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import documents
from tests.support.checkout import CHECKOUT

PAGES = [CHECKOUT / "README.md", CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
PAGE = """# A page

*Not run by the tests: it needs a board.*

```console
$ parity device list
```

<!-- needs: ../shared -->
<!-- before: mkdir a
cd a -->

```console
$ parity run \\
    --clips a   # exit code 1
parity pass: 1 pass
...
$ cat >x <<'END'
$ no command
END
```

```sh
one
two
```
"""


def test_blocks_commands_and_marks_are_read():
    """What is typed, what is shown, what is run before, and why a block is not run."""
    board, run, script = documents.blocks(PAGE)
    assert (board.not_run, [command.text for command in board.commands]) == ("it needs a board", ["parity device list"])
    assert (run.needs, run.before, run.not_run) == ("../shared", "mkdir a\ncd a", "")
    first, second = run.commands
    assert (first.text, first.exit_code) == ("parity run \\\n    --clips a   # exit code 1", 1)
    assert first.shown == ("parity pass: 1 pass", "...")
    assert (second.text, second.shown) == ("cat >x <<'END'\n$ no command\nEND", ())
    assert [command.text for command in script.commands] == ["one\ntwo"]


def test_a_command_that_nobody_runs_is_seen():
    """In an indented block, in a block of text, in a sentence."""
    page = "    $ parity run\n\n```text\n$ parity gate\n```\n\n```console\n$ parity explain\n```\n\n"
    bare = "    parity gate --run x\n\n    parity pass: 6 pass\n\n```text\nparity pass: 6 pass\n```\n"
    assert documents.stray(page + bare) == [1, 3, 11]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["run 20260101-000000-base: 3.5 s"], ["run 20261127-023302-base: 12.1 s"]),
        (["a  3 pass  0.0%  130 dB"], ["", "a   3 pass   0.0%    99 dB"]),
        (["first", "...", "last"], ["first", "other", "last"]),
        (["file 12ab34cd56ef of ..."], ["parity: pytorch: 0 of 9, 0 s so far", "file ffffffffffff of /tmp/a"]),
        (["at /home/ada/x.html"], ["page:   /tmp/x/x.html", "at /tmp/x/x.html"]),
    ],
)  # fmt: skip
def test_what_differs_by_machine_is_left_out(shown: list[str], printed: list[str]):
    """Names of runs, times, levels, hashes, absolute paths, progress; `...` stands for anything."""
    assert documents.difference(shown, printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["3 pass"], ["2 pass"]),
        (["WER 0.0%"], ["WER 8.7%"]),
        (["diverged"], []),
        (["first"], ["first", "second"]),
        (["second"], ["first", "second"]),
        (["first", "...", "last"], ["last", "first"]),
        (["a ... c"], ["a b d"]),
    ],
)  # fmt: skip
def test_another_outcome_is_a_difference(shown: list[str], printed: list[str]):
    """Counts, rates, lines that are missing, lines that are not shown."""
    assert documents.difference(shown, printed)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path):
    """To a file of the project, and to a heading of it."""
    prose = re.sub(r"^( *)```.*?^\1```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text("utf-8")), link
