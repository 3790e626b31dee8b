"""README and docs, executed: every block of commands, in order, in one shell for each document, on a clean clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import SHARED
from tests.support import documents
from tests.support.checkout import CHECKOUT
from tests.support.desk import Desk, Ran, warmed
from tests.support.documents import Block
from whisper_parity.model.checkpoint import MICRO

PAGES = {
    str(path.relative_to(CHECKOUT)): path.read_text("utf-8")
    for path in (CHECKOUT / "README.md", CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").rglob("*.md")))
}
WITH_COMMANDS = [name for name, text in PAGES.items() if any(not b.not_run for b in documents.blocks(text))]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, parity_in: Callable[[Path], Callable]) -> Path:
    """What a reader has: a checkpoint, two recordings, and files that were converted before."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(MICRO, folder / "base.pt")
    (folder / "recordings").mkdir()
    clips = CHECKOUT / "fixtures" / "clips"
    shutil.copy(clips / "en-question-01.flac", folder / "recordings" / "jfk.flac")
    shutil.copy(clips / "en-comma-01.flac", folder / "recordings" / "test_en.flac")
    shutil.copytree(folder / "recordings", folder / "clips")
    stages = ("--stages", "torchscript,tflite", "--checkpoint", folder / "base.pt", "--out", folder / "models")
    built = parity_in(folder)("build", *stages)
    assert built.exit_code == 0, built.output
    return folder


@pytest.fixture(scope="module")
def warm() -> Iterator[Path]:
    """A process that has imported what commands import."""
    with TemporaryDirectory() as folder, warmed(Path(folder) / "socket") as path:  # a socket's path is short
        yield path


@pytest.fixture
def desk(tmp_path: Path, cache_dir: Path, own: Path, warm: Path) -> Desk:
    """A clean clone with the reader's files in it, and beside it what lies beside this one."""
    if SHARED.is_dir():
        (tmp_path / "shared").symlink_to(SHARED)
    return Desk.laid(tmp_path / "clone", cache_dir, own, warm)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_of_a_document_runs(name: str, desk: Desk):
    """It ends as the document says, and prints what is shown."""
    blocks = [block for block in documents.blocks(PAGES[name]) if not block.not_run]
    here = [block for block in blocks if (desk.folder / block.needs).exists()]
    ran = desk.run(here)
    for each in ran:
        assert each.exit_code == each.command.exit_code, "\n".join((f"$ {each.command.text}", *each.printed))
    expected = [(block, command) for block in here if not block.is_meanwhile for command in block.commands]
    assert len(ran) == len(expected)
    found = [_compared(f"{name}:{block.line}", block, each) for (block, _), each in zip(expected, ran)]
    assert not any(found), "\n".join(filter(None, found))
    if missing := {block.needs for block in blocks if block not in here}:
        pytest.skip(f"{len(ran)} commands run, but those that need {', '.join(missing)}")


def _compared(place: str, block: Block, ran: Ran) -> str:
    """What a command printed beside what is shown; "" where they agree, or nothing is shown."""
    if block.not_compared or not ran.command.shown:
        return ""
    difference = documents.difference(ran.command.shown, ran.printed)
    return "\n".join((f"{place}: $ {ran.command.text}", difference, *ran.printed)) if difference else ""


@pytest.mark.parametrize("name", PAGES)
def test_no_command_is_neither_run_nor_marked(name: str):
    """Whatever is typed stands in a block of commands."""
    assert documents.stray(PAGES[name]) == []
