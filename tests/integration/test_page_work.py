"""Working with the page in a real Chromium: sound, seconds, packed clips, links, sorting, keys, a thousand rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pages
from tests.support.browsing import Visit, browser, needs_browser, pixels, visit
from whisper_parity.report.html import page
from whisper_parity.run.folder import RunFolder

pytestmark = needs_browser

AT = "() => document.querySelector('#clip-clip-0000 audio').currentTime"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> RunFolder:
    """Three clips of ten seconds: one loses words, two pass."""
    return RunFolder(pages.mostly_sound(tmp_path_factory.mktemp("sound"), cache_dir, clips=3))


@pytest.fixture(scope="module")
def written(run: RunFolder) -> Path:
    return page.write(run)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def seen(chromium: Any, written: Path) -> Iterator[Visit]:
    """The page; at the end of a test nothing was said or asked."""
    found = visit(chromium, written)
    yield found
    assert (found.said, found.asked, found.ran) == ([], [], False)
    found.page.context.close()


def opened(seen: Visit, clip: str) -> Any:
    """A clip's section, opened and filled."""
    section = seen.page.locator(f"#clip-{clip}")
    if not section.evaluate("(e) => e.open"):
        section.locator("summary").first.click()
    section.locator("details.stop").first.wait_for()
    return section


def playing(seen: Visit) -> bool:
    return seen.page.evaluate("[...document.querySelectorAll('audio')].some((sound) => !sound.paused)")


def test_every_clip_has_a_sound_that_plays(seen: Visit):
    """The one that diverged in the page itself, those that pass from its data; all as long as they were recorded."""
    for name in ("clip-0000", "clip-0001", "clip-0002"):
        sound = opened(seen, name).locator("audio")
        seen.page.wait_for_function("(e) => e.readyState > 0", arg=sound.element_handle())
        assert sound.get_attribute("src").startswith("data:audio/webm;base64,")
        assert sound.evaluate("(e) => e.duration") == pytest.approx(10.0, abs=0.1)


def test_an_edit_plays_around_its_second(seen: Visit):
    """A click on what was lost: a little before it, and it stops by itself a little behind it."""
    edit = opened(seen, "clip-0000").locator("button.edit").first
    second = float(edit.get_attribute("data-at"))
    assert 1.0 < second < 9.0
    edit.click()
    seen.page.wait_for_function("() => [...document.querySelectorAll('audio')].some((sound) => !sound.paused)")
    assert seen.page.evaluate(AT) == pytest.approx(second - 0.7, abs=0.5)
    seen.page.wait_for_function("() => [...document.querySelectorAll('audio')].every((sound) => sound.paused)")
    assert seen.page.evaluate(AT) == pytest.approx(second + 1.6, abs=0.6)


def test_a_click_on_the_spectrogram_seeks_and_the_head_is_there(seen: Visit):
    """By pointer and by arrow keys; the axis is in seconds."""
    section = opened(seen, "clip-0000")
    scope, head = section.locator(".scope"), section.locator(".head")
    width = scope.evaluate("(e) => e.clientWidth")
    scope.click(position={"x": width * 0.4, "y": 40})
    seen.page.wait_for_function(f"{AT.removeprefix('() => ')} > 3.9")
    assert seen.page.evaluate(AT) == pytest.approx(4.0, abs=0.1)
    assert float(head.evaluate("(e) => e.style.left").rstrip("%")) == pytest.approx(40, abs=1)
    scope.press("ArrowRight")
    seen.page.wait_for_function(f"{AT.removeprefix('() => ')} > 4.9")
    assert not playing(seen)
    assert section.locator(".axis span").all_inner_texts()[:3] == ["0", "1", "2"]
    assert section.locator("i.mark").count() == 1


def test_a_clip_that_passes_is_in_the_data_until_it_is_opened(seen: Visit):
    """Nothing of it in the document; then its stages, a line each, its sound, and steps that can be read."""
    assert seen.page.locator("#clip-clip-0001 details.stop").count() == 0
    section = opened(seen, "clip-0001")
    assert section.locator("details.stop").count() == 3
    assert section.locator("details.stop[open]").count() == 0
    last = section.locator("details.stop").last
    last.locator("summary").first.click()
    last.locator(".strip .scroll").focus()
    seen.page.keyboard.press("ArrowRight")
    assert "step 0" in last.locator(".readout").inner_text()
    assert last.locator(".strip text.token").all_text_contents()[3] == "␣fellow"


def test_hostile_text_in_packed_data_is_shown_and_not_run(seen: Visit):
    """It was escaped before it was packed; unpacked it is text."""
    section = opened(seen, "clip-0001")
    assert pages.SCRIPT in section.locator(".body").inner_text()
    assert section.locator("script, [onerror], [onclick]").count() == 0


def test_a_link_leads_into_packed_data_and_to_a_second(chromium: Any, written: Path):
    """Opened from an address alone: a cell of a clip that passes, and a second of one that does not."""
    page_ = chromium.new_context().new_page()
    page_.goto(f"{written.as_uri()}#cell-clip-0002--tflite-int8")
    page_.locator("#cell-clip-0002--tflite-int8[open]").wait_for()
    page_.goto("about:blank")
    page_.goto(f"{written.as_uri()}#clip-clip-0000@5")
    page_.wait_for_function(f"{AT.removeprefix('() => ')} > 4")
    assert page_.locator("#clip-clip-0000 .scope").get_attribute("aria-valuenow") in ("5.0", "4.3")
    page_.context.close()


def test_what_was_found_and_sorted_is_in_the_address(chromium: Any, seen: Visit):
    """Filter and order are the address's, so that a link shows the same."""
    names = "[...document.querySelectorAll('tr[data-clip]')].filter((e) => e.offsetParent).map((e) => e.dataset.name)"
    seen.page.locator("#sort").select_option("name")
    seen.page.locator("#find").fill("clip-000")
    seen.page.locator("input[value=diverged]").uncheck()
    address = seen.page.url
    assert address.endswith("#grid?find=clip-000&sort=name&without=diverged")
    again = chromium.new_context().new_page()
    again.goto(address)
    again.wait_for_function("document.getElementById('find').value === 'clip-000'")
    assert again.evaluate(names) == ["clip-0000", "clip-0001", "clip-0002"]
    again.locator("#sort").select_option("words")
    assert again.evaluate(names)[0] == "clip-0000"
    assert again.locator("#count").inner_text() == "3 of 3 clips"
    again.context.close()


def test_word_lines_show_what_differs_and_all_on_demand(seen: Visit):
    """Both texts in place; the reference's line and the transcript come with the switch, and with a key."""
    section = opened(seen, "clip-0000")
    edit = section.locator("button.edit").first
    assert (edit.locator("del").inner_text(), edit.locator("ins").inner_text()) == ("my fellow Americans,", "∅")
    assert section.locator(".line:visible").count() == 1
    assert section.locator(".who:visible").inner_text() == "pytorch → tflite:int8"
    seen.page.locator("#all-lines").check()
    assert section.locator(".who:visible").all_inner_texts()[1:] == ["pytorch, torchscript", "transcript"]
    seen.page.locator("h2").first.click()
    seen.page.keyboard.press("a")
    assert section.locator(".line:visible").count() == 1


def test_keys_lead_through_the_page(seen: Visit):
    """/ finds, j and k go from clip to clip, n to the next edit, ? lists them, t changes the theme."""
    focused = "document.activeElement.closest('details.clip')?.id ?? document.activeElement.id"
    seen.page.keyboard.press("/")
    assert seen.page.evaluate(focused) == "find"
    seen.page.keyboard.press("Tab")
    seen.page.evaluate("document.activeElement.blur()")
    for key, place in (("j", "clip-clip-0000"), ("j", "clip-clip-0001"), ("k", "clip-clip-0000")):
        seen.page.keyboard.press(key)
        assert seen.page.evaluate(focused) == place
    seen.page.keyboard.press("n")
    assert seen.page.evaluate("document.activeElement.className").startswith("u e-word edit")
    seen.page.keyboard.press("?")
    assert seen.page.locator("dialog[open]").is_visible()
    seen.page.keyboard.press("Escape")
    seen.page.keyboard.press("t")
    assert seen.page.locator("#theme").inner_text() == "Theme: dark"


def test_a_spectrogram_without_picture_is_drawn_from_the_sound(
    chromium: Any, run: RunFolder, tmp_path: Path, monkeypatch
):
    """Where the page has no room for one: the sound's own, in many shades."""
    from whisper_parity.report.html import story

    monkeypatch.setattr(story, "PICTURES", 0)
    found = visit(chromium, page.write(run, tmp_path / "page.html"))
    section = opened(found, "clip-0001")
    section.locator("figure.player[data-drawn]").wait_for()
    shades = {tuple(pixel) for pixel in pixels(section.locator("canvas").screenshot()).reshape(-1, 3)}
    assert len(shades) > 100
    assert (found.said, found.asked) == ([], [])
    found.page.context.close()


def test_a_run_is_held_against_the_last_of_its_kind(run: RunFolder, tmp_path: Path, cache_dir: Path):
    """Without being asked; and where something was approved, against that."""
    import dataclasses
    import shutil

    from whisper_parity.gate import approved
    from whisper_parity.run import report as records
    from whisper_parity.system import serial

    now = RunFolder(tmp_path / "reports" / "now")
    shutil.copytree(run.path, now.path)
    assert 'id="beside"' not in page.write(now).read_text("utf-8")
    report = records.load(now)
    before = dataclasses.replace(report, run="before", created="2025-01-01T00:00:00Z")
    rows = tuple(dataclasses.replace(row, text="And so") if row.stage == "tflite:int8" else row for row in before.rows)
    serial.write(RunFolder(tmp_path / "reports" / "before").report, dataclasses.replace(before, rows=rows))
    text = page.write(now).read_text("utf-8")
    assert "Since <bdi>before</bdi>" in text
    assert "9 rows compared, 3 changed, 3 worse" in text
    (tmp_path / "parity.toml").write_text("")
    approved.save(
        tmp_path / "fixtures" / "approved" / "micro-whisper.json", approved.summarise(report, "micro-whisper")
    )
    text = page.write(now).read_text("utf-8")
    assert "Against what was approved: <bdi>micro-whisper</bdi>" in text
    assert "All 9 approved cells say the same" in text
    assert "Since <bdi>before</bdi>" not in text


def test_a_thousand_rows_are_painted_within_a_second_and_fit_ten_megabytes(
    chromium: Any, tmp_path: Path, cache_dir: Path
):
    """334 clips on three stages, each with its sound."""
    path = page.write(RunFolder(pages.mostly_sound(tmp_path, cache_dir, clips=334, seconds=4.0)))
    assert path.stat().st_size <= 10_000_000
    painted = []
    for _ in range(2):
        found = visit(chromium, path, drawn=False)
        found.page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        painted.append(found.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        assert found.page.locator("details.clip").count() == 334
        assert found.page.locator("details.stop").count() == 3
        last = opened(found, "clip-0333")
        assert last.locator("details.stop").count() == 3
        assert last.locator("audio").get_attribute("src")
        assert found.said == []
        found.page.context.close()
    assert min(painted) < 1000, painted
