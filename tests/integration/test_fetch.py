"""`parity fetch`: from an address or a folder, checked by hash; what goes wrong is one line each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support import sound
from tests.support.refusals import require_no_traceback
from whisper_parity.clips import fetching, selection
from whisper_parity.clips.fetching import PublicClip
from whisper_parity.errors import UsageError


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, PublicClip]]:
    """Clips on a server of this machine: one as it was published, another file, half a file, none, nobody there."""
    pytest.importorskip("pooch", reason="the extra fetch is not installed")
    content = sound.write_wav(tmp_path / "made.wav", sound.warble(0.5)).read_bytes()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "missing" in self.path:
                self.send_error(404)
                return
            body = content[:-1] + b"x" if "other" in self.path else content
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if "half" in self.path else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.server_port}"
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        clip = PublicClip("good.wav", f"{address}/good.wav", hashlib.sha256(content).hexdigest(), "en", "what is said")
        clips = {
            "good": clip,
            **{
                name: dataclasses.replace(clip, file=f"{name}.wav", url=f"{address}/{name}.wav")
                for name in ("other", "half", "missing")
            },
            "nobody": dataclasses.replace(clip, file="nobody.wav", url=f"{dead}/nobody.wav"),
        }
        monkeypatch.setattr(fetching, "public", lambda: tuple(clips.values()))
        yield clips
    server.shutdown()
    server.server_close()


def test_a_clip_is_fetched_once_and_used(published, parity, tmp_path):
    """With its text and language; the second time it is there."""
    cache = tmp_path / "cache"
    result = parity("fetch", "good", "--cache", cache)
    require_no_traceback(result, 0)
    assert result.stdout == f"good.wav: fetched: {cache / 'fetched' / 'good.wav'}\n"
    assert parity("fetch", "good.wav", "--cache", cache).stdout.startswith("good.wav: is there: ")
    (clip,) = selection.select(["fetched"], cache=cache).clips
    assert (clip.name, clip.text, clip.language) == ("good", "what is said", "en")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("other", 2, "not the file that was published (its hash differs). Download it elsewhere"),
        ("half", 3, "not received ("),
        ("missing", 3, "not received (404 Client Error: Not Found"),
        ("nobody", 3, "not received ("),
    ],
)
def test_what_cannot_be_fetched_is_one_line(published, parity, tmp_path, name, code, said):
    """And nothing of it is left in the cache."""
    result = parity("fetch", name, "--cache", tmp_path / "cache")
    require_no_traceback(result, code)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"parity: {published[name].url}: {said}")
    folder = tmp_path / "cache" / "fetched"
    assert not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


def test_one_that_fails_does_not_stop_the_others(published, parity, tmp_path):
    """The worst exit code; what came is in the set."""
    cache = tmp_path / "cache"
    result = parity("fetch", "other", "good", "nobody", "--cache", cache)
    require_no_traceback(result, 3)
    assert (len(result.stdout.splitlines()), len(result.stderr.splitlines())) == (1, 2)
    assert [clip.name for clip in selection.select(["fetched"], cache=cache).clips] == ["good"]


def test_clips_come_from_a_folder(parity, tmp_path, monkeypatch):
    """Without pooch and without a network; another file of that name is refused with both hashes."""
    folder = tmp_path / "have"
    folder.mkdir()
    good = sound.write_wav(folder / "good.wav", sound.warble(0.5))
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    clips = (
        PublicClip("good.wav", "http://x/good.wav", digest, "en"),
        PublicClip("bad.wav", "http://x/bad.wav", "0" * 64, "en"),
        PublicClip("none.wav", "http://x/none.wav", "1" * 64, "en"),
    )  # fmt: skip
    monkeypatch.setattr(fetching, "public", lambda: clips)
    (folder / "bad.wav").write_bytes(b"RIFF")
    cache = tmp_path / "cache"
    result = parity("fetch", "--from", folder, "--cache", cache)
    require_no_traceback(result, 2)
    other, missing = result.stderr.splitlines()
    assert "bad.wav: not the file that was published (sha256 " in other
    assert "expected 000000000000). Get it from http://x/bad.wav" in other
    assert "none.wav: cannot be read (No such file or directory). Name the folder that holds it with --from" in missing
    listed = (cache / "fetched" / "manifest.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["audio_filepath"] for line in listed] == ["good.wav"]


def test_a_damaged_clip_is_fetched_again(parity, tmp_path, monkeypatch):
    """By its hash."""
    good = sound.write_wav(tmp_path / "good.wav", sound.warble(0.5))
    clip = PublicClip("good.wav", "http://x/good.wav", hashlib.sha256(good.read_bytes()).hexdigest(), "en")
    monkeypatch.setattr(fetching, "public", lambda: (clip,))
    parity("fetch", "--from", tmp_path, "--cache", tmp_path / "cache")
    kept = tmp_path / "cache" / "fetched" / "good.wav"
    kept.write_bytes(kept.read_bytes()[:-10])
    assert parity("fetch", "--from", tmp_path, "--cache", tmp_path / "cache").stdout.startswith("good.wav: fetched")
    assert kept.read_bytes() == good.read_bytes()


def test_without_pooch_the_extra_is_named_once(parity, tmp_path, monkeypatch):
    """One line, however many clips."""
    monkeypatch.setattr("whisper_parity.system.machine.versions", lambda *_: {})
    result = parity("fetch", "--cache", tmp_path / "cache")
    require_no_traceback(result, 3)
    assert result.stderr == "parity: pooch is not installed. Run `pip install 'whisper-parity[fetch]'`\n"


def test_fetched_before_anything_was_says_how(tmp_path):
    """The command is in the line."""
    with pytest.raises(UsageError, match=r"no clip was fetched\. Run `parity fetch`"):
        selection.select(["fetched"], cache=tmp_path)


def test_the_published_hashes_are_those_of_the_real_clips(shared_folder):
    """The files beside this project, as far as they lie there."""
    for clip in fetching.public():
        places = [shared_folder / name / clip.file for name in ("audio", "clips")]
        (file,) = [place for place in places if place.is_file()]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == clip.sha256
