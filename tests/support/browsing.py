"""A page in a real headless browser, watched: what it says on the console, what it requests, what it runs."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(PROGRAMS)} on PATH")


@dataclass
class Visit:
    """A page that was opened, and all that it did."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)
    """Console messages and uncaught errors."""
    asked: list[str] = field(default_factory=list)
    """Addresses that were requested beside the page itself; what is written inside the page (data:) is no request."""

    @property
    def ran(self) -> bool:
        """Whether the script that hides in names and transcripts ran."""
        return self.page.evaluate("window.ran") is not None

    def watch(self) -> None:
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if url.partition("#")[0] != self.address and not url.startswith(("data:", "blob:")):
            self.asked.append(url)


@contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=PROGRAM)
        yield found
        found.close()


def visit(opened: Any, path: Path, *, width: int = 1280, scheme: str = "light", drawn: bool = True) -> Visit:
    """Open a file and wait until its plots are drawn."""
    page = opened.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    found = Visit(page, path.as_uri())
    found.watch()
    page.goto(path.as_uri())
    if drawn:
        page.wait_for_selector("html[data-plots=drawn]", state="attached")
    return found


def pixels(png: bytes) -> np.ndarray:
    """A screenshot as uint8 [height, width, 3]."""
    with av.open(io.BytesIO(png)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def share_near(picture: np.ndarray, colour: str, within: int = 40) -> float:
    """Share of a picture's pixels whose channels are all within some distance of "#rrggbb"."""
    wanted = np.array(list(bytes.fromhex(colour.removeprefix("#"))))
    return float((np.abs(picture.astype(int) - wanted).max(axis=2) <= within).mean())
