"""TorchScript files that attack for real: run as torch runs them, they write a file that nobody asked for."""

from __future__ import annotations

import importlib.util
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SOURCE = """
import torch
from torch import Tensor, nn
from typing import Tuple

def writes(x: Tensor) -> Tensor:
    mapped = torch.from_file("{marker}", True, 16, dtype=torch.float32)
    mapped += 1
    return x + mapped.sum()

class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return writes(x)

class Forks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(writes, x))

class ForksTwice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(again, x))

def again(x: Tensor) -> Tensor:
    return torch.jit.wait(torch.jit.fork(writes, x))

class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return writes(x)

class InAnUnusedMethod(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

class AtLoad(nn.Module):
    def __init__(self):
        super().__init__()
        self.loaded = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> Tuple[Tensor, bool]:
        return self.loaded, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, bool]) -> None:
        self.loaded = writes(state[0])
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.loaded

class Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while bool((x == x).all()):
            x = x + 0
        return x

class Grows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        while bool((x == x).all()):
            kept.append(x.repeat(300, 1, 1))
        return torch.cat(kept)

class Computes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for step in range(3):
            if step > 1:
                x = torch.jit.wait(torch.jit.fork(torch.relu, x))
        return x
"""


def build(name: str, path: Path, marker: Path) -> Path:
    """Script a class of SOURCE and save it.

    Args:
        name: of the class.
        path: the file to write.
        marker: what the attack writes.
    """
    source = path.with_suffix(".src.py")
    source.write_text(SOURCE.replace("{marker}", str(marker)), "utf-8")
    specification = importlib.util.spec_from_file_location(f"attack_{name.lower()}", source)
    assert specification is not None
    assert specification.loader is not None
    module: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    torch.jit.script(getattr(module, name)()).save(str(path))
    source.unlink()
    return path


Entries = list[tuple[str, bytes]]


def rewritten(source: Path, target: Path, change: Callable[[Entries], Entries]) -> Path:
    """Copy an archive with changed entries, as [(name, content)]."""
    with zipfile.ZipFile(source) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in change(entries):
            archive.writestr(zipfile.ZipInfo(name), content)
    return target


def upper_case(path: Path, marker: Path) -> Path:
    """The source under a suffix that only torch takes for source."""
    return rewritten(
        build("AtLoad", path.with_suffix(".whole"), marker),
        path,
        lambda entries: [(name.replace(".py", ".PY") if name.endswith(".py") else name, c) for name, c in entries],
    )


def twice(path: Path, marker: Path, *, clean_first: bool) -> Path:
    """Two sources of one name, of which one is clean."""

    def change(entries: Entries) -> Entries:
        changed: Entries = []
        for name, content in entries:
            both = [(name, content), (name, content.replace(b"__setstate__", b"harmless"))]
            changed += (both[::-1] if clean_first else both) if b"__setstate__" in content else both[:1]
        return changed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile says that the name is there already
        return rewritten(build("AtLoad", path.with_suffix(".whole"), marker), path, change)
