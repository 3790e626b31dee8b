"""The page's own tests can fail: a page that asks the network or runs a transcript's script is caught."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import pages
from tests.support.browsing import browser, needs_browser, visit
from whisper_parity.report.html import page
from whisper_parity.run.folder import RunFolder

pytestmark = needs_browser

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> str:
    """A page as it should be."""
    return page.write(RunFolder(pages.write(tmp_path_factory.mktemp("detectors"), cache_dir))).read_text("utf-8")


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


def opened(chromium, tmp_path: Path, text: str, **options):
    (tmp_path / "page.html").write_text(text, "utf-8")
    return visit(chromium, tmp_path / "page.html", **options)


def test_a_request_is_seen(chromium, tmp_path, text):
    """A picture from elsewhere, on a page without policy."""
    broken = POLICY.sub("", text).replace("<main>", '<main><img src="http://127.0.0.1:9/spy.png" alt="">')
    assert opened(chromium, tmp_path, broken).asked == ["http://127.0.0.1:9/spy.png"]


def test_a_request_is_stopped_by_the_policy_and_said(chromium, tmp_path, text):
    """The same picture with the policy in place: not loaded, and an error on the console."""
    broken = text.replace("<main>", '<main><img src="http://127.0.0.1:9/spy.png" alt="">')
    found = opened(chromium, tmp_path, broken)
    assert any("Content Security Policy" in line and "spy.png" in line for line in found.said)


@pytest.fixture
def unescaped(tmp_path, cache_dir, monkeypatch) -> str:
    """A page made by templates that escape nothing."""
    monkeypatch.setattr(page.environment(), "autoescape", False)
    page.environment().cache.clear()
    try:
        return page.write(RunFolder(pages.write(tmp_path, cache_dir))).read_text("utf-8")
    finally:
        page.environment().cache.clear()


def test_a_script_that_runs_is_seen(chromium, tmp_path, unescaped):
    """Without escaping and without policy."""
    assert opened(chromium, tmp_path, POLICY.sub("", unescaped), drawn=False).ran is True


def test_a_script_that_is_not_escaped_is_stopped_by_the_policy_and_said(chromium, tmp_path, unescaped):
    """The second line of defence."""
    found = opened(chromium, tmp_path, unescaped, drawn=False)
    assert found.ran is False
    assert any("Content Security Policy" in line for line in found.said)


def test_an_error_of_the_page_is_seen(chromium, tmp_path, text):
    """An exception in the page's own script."""
    broken = POLICY.sub("", text).replace('"use strict";', 'setTimeout(() => { throw new Error("broken") });', 1)
    assert any("uncaught: broken" in line for line in opened(chromium, tmp_path, broken).said)


def test_a_plot_that_is_not_drawn_is_said(chromium, tmp_path, text):
    """A broken description leaves words where the plot should be, and an error."""
    broken = text.replace('"type": "bar"', '"type": "nonsense"')
    assert broken != text
    found = opened(chromium, tmp_path, broken)
    assert found.said
    assert found.page.locator("#plot-margins").inner_text().startswith("Not drawn")


def test_a_link_without_target_is_seen(chromium, tmp_path, text):
    """What the link test collects holds it."""
    broken = text.replace('id="cell-warble--torchscript"', 'id="elsewhere"')
    seen = opened(chromium, tmp_path, broken).page
    dead = seen.evaluate(
        "[...document.querySelectorAll('a')].map((a) => a.getAttribute('href').slice(1))"
        ".filter((id) => !document.getElementById(id))"
    )
    assert set(dead) == {"cell-warble--torchscript"}


def test_a_pack_that_cannot_be_read_is_said(chromium, tmp_path, cache_dir):
    """Where a clip that passes should be there are words, and not nothing."""
    whole = page.write(RunFolder(pages.mostly_sound(tmp_path / "run", cache_dir, clips=2))).read_text("utf-8")
    broken = re.sub(r'"packs": \["[^"]{40}', '"packs": ["' + "A" * 40, whole)
    assert broken != whole
    seen = opened(chromium, tmp_path, broken).page
    seen.locator("#clip-clip-0001 > summary").click()
    seen.locator("#clip-clip-0001", has_text="Not shown").wait_for()


def test_a_script_in_packed_data_is_stopped_by_the_policy_and_said(chromium, tmp_path, cache_dir, monkeypatch):
    """The second line of defence where nothing is escaped."""
    monkeypatch.setattr(page.environment(), "autoescape", False)
    page.environment().cache.clear()
    try:
        path = page.write(RunFolder(pages.mostly_sound(tmp_path / "run", cache_dir, clips=2)))
    finally:
        page.environment().cache.clear()
    found = visit(chromium, path, drawn=False)
    found.page.locator("#clip-clip-0001").evaluate("(e) => { e.open = true }")
    found.page.wait_for_timeout(500)
    assert found.ran is False
    assert any("Content Security Policy" in line for line in found.said)


def test_a_sound_that_cannot_be_played_is_seen(chromium, tmp_path, cache_dir):
    """What the test of sounds waits for does not come where the sound is damaged."""
    whole = page.write(RunFolder(pages.mostly_sound(tmp_path / "run", cache_dir, clips=2))).read_text("utf-8")
    broken = re.sub(r'(src="data:audio/webm;base64,)[^"]+', r"\1AAAA", whole)
    seen = opened(chromium, tmp_path, broken).page
    seen.wait_for_function("document.querySelector('#clip-clip-0000 audio').error !== null")
    assert seen.evaluate("document.querySelector('#clip-clip-0000 audio').readyState") == 0
