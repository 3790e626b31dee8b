"""The page in a real headless Chromium: loads, lands, filters, draws; no request, no script of a transcript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pages
from tests.support.browsing import Visit, browser, needs_browser, pixels, share_near, visit
from whisper_parity.report.html import page
from whisper_parity.run.folder import RunFolder

pytestmark = needs_browser

Visitor = Callable[..., Visit]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The page of a run with hostile texts."""
    return page.write(RunFolder(pages.write(tmp_path_factory.mktemp("page"), cache_dir)))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def open_page(chromium: Any, written: Path) -> Iterator[Visitor]:
    """Opens the page; whatever else a test looks at, at its end nothing was said, asked or run."""
    visits: list[Visit] = []

    def opened(**options: Any) -> Visit:
        visits.append(visit(chromium, written, **options))
        return visits[-1]

    yield opened
    for each in visits:
        assert (each.said, each.asked, each.ran) == ([], [], False)
        each.page.context.close()


def test_it_loads_in_silence_and_alone(open_page: Visitor):
    """No message on the console, no request, and the verdict is the first thing on it."""
    seen = open_page()
    assert seen.page.locator("h1").inner_text() == (
        "tflite:int8 must not ship: it invents 4 words in 4 of 4 clips; dla could not be judged; "
        "everything before it is the same model"
    )
    assert "failed: 1 of 2 rules: flips" in seen.page.locator("#verdict .lead").first.inner_text()
    assert seen.page.evaluate("performance.getEntriesByType('resource').map((e) => e.name)"
                              ".filter((name) => !name.startsWith('data:'))") == []  # fmt: skip


def test_every_link_has_a_target_and_no_id_stands_twice(open_page: Visitor):
    """All links stay within the page."""
    links, ids = open_page().page.evaluate(
        "[[...document.querySelectorAll('a')].map((a) => a.getAttribute('href')),"
        " [...document.querySelectorAll('[id]')].map((e) => e.id)]"
    )
    assert len(links) > 40
    assert sorted(set(ids)) == sorted(ids)
    assert [link for link in links if not link.startswith("#") or link[1:] not in ids] == []


def test_each_cell_of_the_grid_lands_on_its_details(open_page: Visitor):
    """A click opens the clip and brings the stage's section into view."""
    seen = open_page()
    seen.page.locator("#close-all").click()
    for link in seen.page.locator(".grid td a").all():
        link.click()
        target = seen.page.locator(f"[id='{link.get_attribute('href')[1:]}']")
        assert target.evaluate("(e) => { const box = e.getBoundingClientRect();"
                               " return box.height > 20 && box.top < innerHeight && box.bottom > 0 }")  # fmt: skip


def test_the_filter_takes_words_and_verdicts(open_page: Visitor):
    """Rows of the grid and clips below follow, and the number is said."""
    seen = open_page().page
    shown = "() => [...document.querySelectorAll('tr[data-clip]')].filter((e) => e.offsetParent).length"
    clips = "() => [...document.querySelectorAll('details.clip')].filter((e) => e.offsetParent).length"
    assert (seen.evaluate(shown), seen.evaluate(clips)) == (5, 5)
    seen.locator("#find").fill("ask NOT")
    assert (seen.evaluate(shown), seen.evaluate(clips)) == (1, 1)
    assert seen.locator("#count").inner_text() == "1 of 5 clips"
    seen.locator("#find").fill("no such word")
    assert seen.locator("#none-left").is_visible()
    seen.locator("#find").fill("")
    for name in ("pass", "drift", "reference", "diverged"):
        if seen.locator(f"input[value='{name}']").count():
            seen.locator(f"input[value='{name}']").uncheck()
    assert seen.locator("#count").inner_text() == "1 of 5 clips"
    assert seen.locator("tr[data-clip]:visible th").inner_text() == "line-7"


@pytest.mark.parametrize(
    ("plot", "colour"),
    [("snr-tflite-int8", "#3f7fd0"), ("snr-torchscript", "#d9772b"), ("scatter-tflite-int8", "#3f7fd0"),
     ("layers-tflite-int8", "#d9772b"), ("margins", "#3f7fd0")],
)  # fmt: skip
def test_plots_are_drawn(open_page: Visitor, plot: str, colour: str):
    """Pixels of the marks' colours, and not only a few."""
    place = open_page().page.locator(f"#plot-{plot}")
    card = place.locator("xpath=ancestor::details[contains(@class, 'card')]")
    if card.count() and not card.evaluate("(e) => e.open"):
        card.locator("summary").first.click()
    place.locator("svg").wait_for()
    picture = pixels(place.screenshot())
    assert share_near(picture, colour) > 2e-4


def test_the_log_mel_is_drawn_and_the_sound_can_be_played(open_page: Visitor):
    """A picture of many shades, and an audio element that knows how long it is."""
    seen = open_page().page
    seen.locator("#open-all").click()
    clip = seen.locator("#clip-warble")
    picture = pixels(clip.locator("img").screenshot())
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) > 12
    seconds = clip.locator("audio").evaluate(
        "(e) => new Promise((done) => {"
        " e.onloadedmetadata = () => done(e.duration); e.preload = 'metadata'; e.load(); })"
    )
    assert seconds == pytest.approx(2.0, abs=0.1)


def test_a_strip_shows_a_tie_and_a_fault(open_page: Visitor):
    """In their colours, read out by the arrow keys, with the top five of both beside."""
    seen = open_page().page
    stop = seen.locator("#cell-warble--tflite-int8")
    picture = pixels(stop.locator("figure.strip svg").first.screenshot())
    assert share_near(picture, "#d99a1c", 20) > 1e-3
    assert share_near(picture, "#d8453b", 20) > 1e-3
    stop.locator(".strip .scroll").focus()
    for _ in range(6):
        seen.keyboard.press("ArrowRight")
    assert "step 5" in stop.locator(".readout").inner_text()
    assert "flipped: fault" in stop.locator(".readout").inner_text()
    assert stop.locator(".flip").count() == 2
    assert stop.locator(".flip").first.locator("tbody tr").count() == 10


def test_the_theme_follows_the_system_and_the_button(open_page: Visitor):
    """Light and dark by preference; one press each to overrule it."""
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page().page, open_page(scheme="dark").page
    assert light.evaluate(ground) != dark.evaluate(ground)
    button = light.get_by_role("button", name="Theme")
    button.click()
    assert light.evaluate(ground) == dark.evaluate(ground)
    assert button.inner_text() == "Theme: dark"
    button.click()
    assert light.evaluate(ground) != dark.evaluate(ground)
    dark.get_by_role("button", name="Theme").click(click_count=2)
    assert dark.evaluate(ground) == light.evaluate(ground)


def test_the_keyboard_reaches_everything(open_page: Visitor):
    """Tab comes past every link, button, field and summary that is visible, the link past the heading first."""
    seen = open_page().page
    wanted = seen.evaluate(
        "() => { const all = [...document.querySelectorAll('a, button, input, summary')]"
        ".filter((e) => e.checkVisibility()); all.forEach((e, i) => { e.dataset.at = i }); return all.length }"
    )
    reached: list[str] = []
    for _ in range(3 * wanted):
        seen.keyboard.press("Tab")
        at = seen.evaluate("document.activeElement.dataset.at ?? null")
        if at is not None:
            reached.append(at)
        if len(set(reached)) == wanted:
            break
    assert len(set(reached)) == wanted
    assert seen.locator(f"[data-at='{reached[0]}']").inner_text().startswith("Skip")


def test_what_can_be_used_has_a_name(open_page: Visitor):
    """As the browser tells a screen reader."""
    seen = open_page().page
    seen.locator("#open-all").click()
    tree = seen.context.new_cdp_session(seen).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"link", "button", "searchbox", "checkbox", "image", "img", "region", "DisclosureTriangle"}
    named = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(named) > 60
    assert [node["role"]["value"] for node in named if not node["name"]["value"].strip()] == []


def test_hostile_text_is_shown_and_not_run(open_page: Visitor):
    """Letter by letter, in names, transcripts, reasons and rules; what turns the direction is written out."""
    seen = open_page().page
    seen.locator("#open-all").click()
    body = seen.locator("main").inner_text()
    for text in (pages.NAMES[1], pages.NAMES[2], f"not JSON: {pages.SCRIPT}", f"1 fault on {pages.SCRIPT}"):
        assert text in body
    summary = seen.locator("details.clip", has_text="window.ran=1>old").locator("summary").first.inner_text()
    assert f"{pages.SCRIPT} </script> \\u2028 {{{{ 7*7 }}}}" in summary
    assert "\\u202eevil" in body
    assert "\u202e" not in seen.content()
    assert seen.locator("main script, main [onclick], main [onerror]").count() == 0


@pytest.mark.parametrize("width", [360, 390, 768])
def test_no_sideways_scrolling(open_page: Visitor, width: int):
    """With everything open; wide tables scroll within themselves."""
    seen = open_page(width=width).page
    seen.locator("#open-all").click()
    seen.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    assert seen.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(open_page: Visitor):
    """White, without what only a screen can use."""
    seen = open_page(scheme="dark").page
    seen.emulate_media(media="print")
    assert seen.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not seen.locator("#filter").is_visible()
    assert seen.pdf().startswith(b"%PDF")


def test_it_reads_without_script(chromium: Any, written: Path):
    """Grid, verdict and details are in the page itself; a link opens its clip all the same."""
    context = chromium.new_context(java_script_enabled=False)
    seen = context.new_page()
    seen.goto(f"{written.as_uri()}#cell-warble--torchscript")
    assert seen.locator("#cell-warble--torchscript > summary").is_visible()
    assert seen.locator(".grid td a").count() > 10
    context.close()


def test_no_guess_stands_beside_what_was_measured(tmp_path: Path, cache_dir: Path):
    """The verdict's hint is not on the page: there is a measured cause, or the command that measures it."""
    import dataclasses

    from whisper_parity.run import report as records
    from whisper_parity.system import serial

    run = RunFolder(pages.write(tmp_path, cache_dir, gate=False, explained=False))
    whole = records.load(run)
    hint = "; the encoder agrees: look at the decoder and the token embedding (of the same checkpoint?)"
    rows = [
        dataclasses.replace(row, verdict=dataclasses.replace(row.verdict, reason=f"{row.verdict.reason}{hint}"))
        if row.verdict.rungs and row.verdict.outcome.exit_code
        else row
        for row in whole.rows
    ]
    serial.write(run.report, dataclasses.replace(whole, rows=tuple(rows)))
    text = page.write(run).read_text("utf-8")
    assert "the encoder agrees" not in text
    assert f"parity explain {pages.NAMES[0]} --run by-hand" in text
