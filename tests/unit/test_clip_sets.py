"""Sets of clips in the formats that people keep them in: known by content, read one by one, not trusted."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from tests.support import clipsets
from tests.support.clipsets import NAMES, TEXTS, cut, json_lines, wav
from whisper_parity.clips import audio, selection
from whisper_parity.clips.clip import ClipSet
from whisper_parity.clips.filters import Filters
from whisper_parity.clips.sets import formats
from whisper_parity.errors import ManifestError, ParityError, UnavailableError, UsageError
from whisper_parity.system import machine


def selected(*paths: Path, cache: Path | None = None, **options: object) -> ClipSet:
    return selection.select([str(path) for path in paths], cache=cache or paths[0].parent / "cache", **options)


def needing(build) -> None:
    if build in clipsets.ARROW:
        pytest.importorskip("pyarrow", reason="the extra datasets is not installed")


@pytest.mark.parametrize("build", [*clipsets.PLAIN, *clipsets.ARROW], ids=lambda build: build.__name__)
def test_every_format_gives_names_sounds_texts_and_languages(tmp_path, build):
    """The same three clips, whatever they are kept in; an empty transcript is silence, none is unknown."""
    needing(build)
    clips = selected(build(tmp_path), cache=tmp_path / "cache")
    assert (clips.bad, clips.notes) == ((), ())
    assert {clip.name: clip.text for clip in clips.clips} == dict(zip(NAMES, TEXTS))
    says_language = build not in (clipsets.librispeech, clipsets.aishell, clipsets.sounds, clipsets.tree)
    assert {clip.language for clip in clips.clips} == {"en" if says_language else None}
    whole = audio.read(wav(tmp_path / "again.wav")).pcm
    assert all((audio.read(clip.path).pcm == whole).all() for clip in clips.clips)


@pytest.mark.parametrize("build", [*clipsets.PLAIN, *clipsets.ARROW], ids=lambda build: build.__name__)
def test_every_format_is_known_by_its_content(tmp_path, build):
    """A file under another name is the same; one that only has the name is none, and a clip is found by its name."""
    needing(build)
    path = build(tmp_path)
    if path.is_file():
        path = path.rename(path.with_name("renamed.bin"))
        hollow = path.with_name("hollow.jsonl")
        hollow.write_bytes(b"nothing of the kind\n")
        assert formats.recognise(hollow) is None
    (clip,) = selection.select(["two"], path, cache=tmp_path / "cache").clips
    assert (clip.name, clip.text) == ("two", TEXTS[1])


def test_parts_of_a_corpus_are_tags(tmp_path):
    """`--manifest CORPUS --clips test-clean`, and a folder inside it alone."""
    corpus = clipsets.librispeech(tmp_path)
    assert len(selection.select(["test-clean"], corpus).clips) == 3
    assert len(selected(corpus / "test-clean" / "1089").clips) == 3
    assert len(selected(clipsets.aishell(tmp_path) / "wav" / "test").clips) == 3


def test_parts_of_a_sound_are_cut_once(tmp_path):
    """Offset and duration of a manifest, start and duration of a cut: the very samples of the whole file."""
    whole = audio.read(wav(tmp_path / "long.wav", 1.0)).pcm
    rows = [{"audio_filepath": "long.wav", "offset": start, "duration": 0.25} for start in (0.0, 0.25, 0.7)]
    manifest = json_lines(tmp_path / "m.jsonl", [*rows, {"audio_filepath": "long.wav", "offset": 5, "duration": 1}])
    found = selected(manifest)
    assert [clip.name for clip in found.clips] == ["long", "long-0.25-0.50", "long-0.70-0.95"]
    for clip, start in zip(found.clips, (0, 4000, 11_200)):
        assert (audio.read(clip.path).pcm == whole[start : start + 4000]).all()
    (bad,) = found.bad
    assert bad.error.endswith("no sound from 5 s to 6 s, it has 1.00 s. Correct offset and duration")
    stamps = [clip.path.stat().st_mtime_ns for clip in found.clips]
    assert [clip.path.stat().st_mtime_ns for clip in selected(manifest).clips] == stamps
    (tmp_path / "sub").mkdir()
    cuts = json_lines(tmp_path / "cuts.jsonl", [cut("a", "long.wav", 0.25, 0.25, duration=1.0)])
    assert (audio.read(selected(cuts).clips[0].path).pcm == whole[4000:8000]).all()


def test_sounds_of_one_stem_in_a_set_get_more_of_their_paths(tmp_path):
    """Two speakers' 001.wav; a name that a set gives twice is a bad line."""
    rows = [{"audio_filepath": f"{name}/001.wav"} for name in ("p1", "p2")]
    for row in rows:
        wav(tmp_path / row["audio_filepath"])
    twice = [{"audio_filepath": "p1/001.wav", "name": "x"}] * 2
    found = selected(json_lines(tmp_path / "m.jsonl", [*rows, *twice]))
    assert [clip.name for clip in found.clips] == ["001", "001.wav", "x"]
    assert [bad.name for bad in found.bad] == ["line-4"]
    assert 'a second clip named x. Give it a "name"' in found.bad[0].error


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (cut("a", "x.wav", sources=[{"type": "command", "source": "touch ran"}]), "of the kind 'command', only files"),
        (
            cut("a", "http://127.0.0.1/x", sources=[{"type": "url", "source": "http://127.0.0.1/x"}]),
            "of the kind 'url'",
        ),
        (cut("a", "../secret.wav"), "'../secret.wav' points outside the manifest's folder"),
        (cut("a", ["x"]), "of the kind 'file', only files are read"),
        (cut("a", "x.wav", sources=[]), "a recording of one file is expected"),
        (cut("a", "x.wav", transforms=[{"name": "Speed"}]), "transformed by lhotse"),
        (cut("a", "x.wav", start=-1.0), '"start" must be a number of seconds. Found -1.0'),
        ({**cut("a", "x.wav"), "recording": None}, "a cut without a recording of its own (MonoCut)"),
        ({**cut("a", "x.wav"), "type": "MixedCut", "recording": None}, "of its own (MixedCut)"),
        ({"id": "r", "sources": [], "sampling_rate": 16000}, "a recording or supervision, no cut. Make cuts of them"),
    ],
    ids=["command", "url", "above", "no path", "no file", "transformed", "negative", "none", "mixed", "half"],
)
def test_a_cut_that_cannot_be_heard_is_a_bad_line(tmp_path, row, said):
    """Nothing is run or fetched, nothing outside is read, and no sound is judged that lhotse would hear otherwise."""
    wav(tmp_path / "set" / "x.wav"), wav(tmp_path / "secret.wav")
    (bad,) = selected(json_lines(tmp_path / "set" / "cuts.jsonl", [row])).bad
    assert said in bad.error
    assert not (tmp_path / "set" / "ran").exists()
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"duration": "long"}, "\"duration\" must be a number of seconds. Found 'long'"),
        ({"offset": float("nan")}, '"offset" must be a number of seconds. Found nan'),
        ({"offset": -1}, '"offset" must be a number of seconds'),
        ({"duration": True}, '"duration" must be a number of seconds. Found True'),
        ({"duration": 10**400}, '"duration" must be a number of seconds'),
    ],
)
def test_lengths_of_a_manifest_are_numbers(tmp_path, fields, said):
    """Infinite, negative and written ones are bad lines."""
    wav(tmp_path / "a.wav")
    (bad,) = selected(json_lines(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav", **fields}])).bad
    assert said in bad.error


def test_a_set_may_point_into_a_folder_that_the_user_names(tmp_path):
    """Absolute paths, as NeMo writes them, and relative ones; without it they are refused, with the way out."""
    sound = wav(tmp_path / "sounds" / "a.wav")
    rows = [{"audio_filepath": str(sound)}, {"audio_filepath": "a.wav", "name": "b"}]
    manifest = json_lines(tmp_path / "lists" / "m.jsonl", rows)
    assert "name the folder of the sounds with --audio-root" in selected(manifest).bad[0].error
    found = selected(manifest, roots=(tmp_path / "sounds",))
    assert [clip.path for clip in found.clips] == [sound, sound]
    outside = json_lines(tmp_path / "lists" / "n.jsonl", [{"audio_filepath": "/etc/passwd"}])
    assert "points outside" in selected(outside, roots=(tmp_path / "sounds",)).bad[0].error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path\tsentence\nonly one cell\n", "2 columns expected, found 1"),
        (b"path\tsentence\n../secret.wav\thello\n", "points outside the manifest's folder"),
        (b"path\tsentence\n\thello\n", "names no sound"),
        (b"path\tsentence\n", "holds no clip"),
        (b"path\tsentence\n\xff\xfe\n", "not UTF-8 text"),
    ],
)
def test_rows_of_a_table_are_not_trusted(tmp_path, content, said):
    """One line each."""
    wav(tmp_path / "secret.wav")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test.tsv").write_bytes(content)
    try:
        error = selected(tmp_path / "set" / "test.tsv").bad[0].error
    except ManifestError as raised:
        error = str(raised)
    assert said in error


def test_a_folder_of_sounds_with_metadata_is_that_list(tmp_path):
    """metadata.jsonl, as metadata.csv: what Hugging Face calls an audiofolder."""
    folder = clipsets.sounds(tmp_path)
    json_lines(folder / "metadata.jsonl", [{"file_name": "two.wav", "transcription": "from the list"}])
    assert [(clip.name, clip.text) for clip in selected(folder).clips] == [("two", "from the list")]


def test_a_data_set_in_hugging_faces_cache_is_read_through_its_links(tmp_path):
    """snapshots/ holds links into blobs/; links that lead elsewhere are not followed."""
    pytest.importorskip("pyarrow", reason="the extra datasets is not installed")
    made = clipsets.parquet(tmp_path / "made") / "data" / "test-00000-of-00001.parquet"
    home = tmp_path / "hub" / "datasets--x--y"
    snapshot = home / "snapshots" / "abc" / "data"
    for folder in (home / "blobs", snapshot):
        folder.mkdir(parents=True)
    blob = made.rename(home / "blobs" / "0123")
    (snapshot / "test-00000-of-00001.parquet").symlink_to("../../../blobs/0123")
    assert len(selected(snapshot.parent, cache=tmp_path / "cache").clips) == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "test.parquet").symlink_to(blob)
    with pytest.raises(UsageError, match="no sound in this folder"):
        selected(tmp_path / "other")


def test_a_tree_of_sounds_and_texts(tmp_path):
    """001.wav of two speakers; a text that is none is a bad line, a link out of the tree is not followed."""
    for speaker in ("p1", "p2"):
        wav(tmp_path / "tree" / speaker / "001.wav").with_suffix(".txt").write_text(f"of {speaker}", "utf-8")
    wav(tmp_path / "tree" / "p2" / "002.wav").with_suffix(".txt").write_bytes(b"\xff\xfe")
    (tmp_path / "tree" / "p2" / "003.wav").symlink_to(wav(tmp_path / "secret.wav"))
    found = selected(tmp_path / "tree")
    assert [(clip.text, clip.tags) for clip in found.clips] == [("of p1", ("p1",)), ("of p2", ("p2",))]
    assert found.clips[0].name == "001"
    assert ["not UTF-8 text" in bad.error or "points outside" in bad.error for bad in found.bad] == [True, True]


def test_a_folder_of_common_voice_with_several_tables_asks_for_one(tmp_path):
    """train.tsv and test.tsv share their clips."""
    table = clipsets.common_voice(tmp_path)
    table.with_name("dev.tsv").write_bytes(table.read_bytes())
    with pytest.raises(UsageError, match=r"2 tables of clips \(dev.tsv, test.tsv\). Name one: "):
        selected(tmp_path)


def test_what_is_in_no_format_is_refused_with_what_was_looked_for(tmp_path):
    """One line."""
    other = tmp_path / "list.yaml"
    other.write_text("clips: []\n", "utf-8")
    with pytest.raises(UsageError) as refused:
        selected(other)
    for form in formats.FORMATS:
        assert form.LOOKED_FOR in str(refused.value)


def test_a_list_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    """A bomb of gzip, and one endless line."""
    monkeypatch.setattr("whisper_parity.system.inputs.LIST_BYTES", 1 << 16)
    first = json.dumps(cut("a", "a.wav")).encode() + b"\n"
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(first + b"\n" * (1 << 18)))
    with pytest.raises(ManifestError, match="unpacks to more than"):
        selected(tmp_path / "bomb.gz")
    monkeypatch.setattr("whisper_parity.system.inputs.LINE_BYTES", 1 << 12)
    (tmp_path / "line.jsonl").write_bytes(b'{"audio_filepath": "a.wav"}\n' + b" " * (1 << 14))
    with pytest.raises(ManifestError, match="line 2 is longer than"):
        selected(tmp_path / "line.jsonl")


def test_a_gzip_that_is_cut_short_is_refused(tmp_path):
    """After the lines that are whole."""
    path = clipsets.lhotse(tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ManifestError, match="cannot be read"):
        selected(path)


def test_transcripts_that_name_no_sound_are_bad_lines_and_sounds_without_one_are_left_out(tmp_path):
    """LibriSpeech; the sounds that lie there are not judged without saying so."""
    corpus = clipsets.librispeech(tmp_path)
    chapter = corpus / "test-clean" / "1089" / "134686"
    (chapter / "two.wav").unlink()
    wav(chapter / "extra.wav")
    found = selected(corpus)
    assert [clip.name for clip in found.clips] == ["one", "three"]
    assert "no sound called 'two' beside it" in found.bad[0].error
    assert found.notes == (f"{corpus}: 1 sounds without a transcript were left out: extra.wav, ...",)


def test_names_in_a_corpus_drive_nothing(tmp_path):
    """Escape sequences and slashes in transcripts and file names: in rows and notes they are shown, not obeyed."""
    corpus = clipsets.librispeech(tmp_path)
    chapter = corpus / "test-clean" / "1089" / "134686"
    wav(chapter / "\x1b[2J::error::.wav")
    with (chapter / "1089-134686.trans.txt").open("a") as file:
        file.write("../\x1b]0;owned SAID\n../../secret SAID\n")
    wav(tmp_path / "secret.wav")
    found = selected(corpus)
    said = [*found.notes, *(text for bad in found.bad for text in (bad.name, bad.error))]
    assert len(found.bad) == 2
    assert all(text.isprintable() for text in said)
    assert not any("/" in bad.name for bad in found.bad)
    assert [clip.name for clip in found.clips] == list(NAMES)


def test_aishell_that_is_still_packed_says_so(tmp_path):
    """Its sounds come as an archive for each speaker."""
    corpus = clipsets.aishell(tmp_path)
    for file in (corpus / "wav").rglob("*.wav"):
        file.unlink()
    with pytest.raises(UsageError, match=r"no sound under wav/. Unpack .*\*.tar.gz"):
        selected(corpus)


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    """Data sets of Hugging Face without pyarrow."""
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    monkeypatch.setattr(machine, "versions", lambda *_: {})
    with pytest.raises(
        UnavailableError, match=r"pyarrow is not installed. Run `pip install 'whisper-parity\[datasets\]'`"
    ):
        selected(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "escape", "no audio"])
def test_damaged_data_sets_are_refused(tmp_path, damage):
    """Arrow and parquet of strangers: an error of ours in one line, and no file outside the folder."""
    pa = pytest.importorskip("pyarrow", reason="the extra datasets is not installed")
    folder = clipsets.saved(tmp_path)
    file = folder / "data-00000-of-00001.arrow"
    content = file.read_bytes()
    if damage == "escape":
        (tmp_path / "out.arrow").write_bytes(content)
        (folder / "state.json").write_text('{"_data_files": [{"filename": "../out.arrow"}]}')
    elif damage == "no audio":
        table = pa.table({"sentence": ["a"]})
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table)
    else:
        file.write_bytes({"cut": content[: len(content) // 2], "zeros": b"\0" * 64, "text": b"not arrow"}[damage])
    with pytest.raises(ParityError) as refused:
        selected(folder)
    words = {"escape": "points outside", "no audio": "no columns of sounds among sentence"}
    assert words.get(damage, "cannot be read") in str(refused.value)


def numbered(tmp_path: Path, count: int) -> Path:
    """A manifest of many lines over few sounds."""
    sound = wav(tmp_path / "a.wav")
    rows = [
        {
            "audio_filepath": sound.name, "name": f"clip-{i:05d}", "text": f"sentence number {i}",
            "lang": "en" if i % 2 else "de", "duration": i % 10 + 0.5,
        } for i in range(count)
    ]  # fmt: skip
    return json_lines(tmp_path / "many.jsonl", rows)


def test_filters_take_what_is_asked_for_and_say_so(tmp_path):
    """In the order of the set; a sample is the same for a seed, another for another one."""
    manifest = numbered(tmp_path, 100)

    def names(**filters: object) -> list[str]:
        return [clip.name for clip in selected(manifest, filters=Filters(**filters)).clips]

    assert names(limit=3) == ["clip-00000", "clip-00001", "clip-00002"]
    assert names(languages=("de",), max_seconds=2.5, limit=3) == ["clip-00000", "clip-00002", "clip-00010"]
    drawn = names(sample=10, seed=1)
    assert drawn == sorted(drawn) == names(sample=10, seed=1) != names(sample=10, seed=2)
    assert len(set(drawn)) == 10
    assert names(sample=500) == [f"clip-{i:05d}" for i in range(100)]
    note = selected(manifest, filters=Filters(sample=10, languages=("en",))).notes
    assert note == ("10 of 100 clips taken by --lang en --sample 10 --seed 0",)
    with pytest.raises(UsageError, match="no clip is left of 100 by --lang fr"):
        names(languages=("fr",))
    with pytest.raises(UsageError, match="--limit and --sample: expected one of them"):
        Filters(limit=1, sample=1)


def test_a_sample_is_uniform(tmp_path):
    """Every clip is drawn about equally often: 200 seeds, 5 of 20, each 50 times give or take 4 standard deviations."""
    manifest = numbered(tmp_path, 20)
    counts: dict[str, int] = {}
    for seed in range(200):
        for clip in selected(manifest, filters=Filters(sample=5, seed=seed)).clips:
            counts[clip.name] = counts.get(clip.name, 0) + 1
    assert len(counts) == 20
    assert all(abs(count - 50) < 4 * (200 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_a_limit_does_not_read_on(tmp_path):
    """What stands behind the last clip that is taken is not looked at."""
    manifest = numbered(tmp_path, 10)
    with manifest.open("ab") as file:
        file.write(b"\xff\xfe no text at all\n")
    assert len(selected(manifest, filters=Filters(limit=10)).clips) == 10


def test_lengths_come_from_the_header_where_the_set_says_none(tmp_path, monkeypatch):
    """Nothing is decoded."""
    monkeypatch.setattr("whisper_parity.clips.decoding.decode", None)
    for name, seconds in (("short", 0.5), ("long", 2.0)):
        wav(tmp_path / "clips" / f"{name}.wav", seconds)
    found = selected(tmp_path / "clips", filters=Filters(max_seconds=1.0))
    assert [clip.name for clip in found.clips] == ["short"]
    assert found.notes == ("1 of 2 clips taken by --max-seconds 1",)


def test_memory_grows_by_a_small_record_a_clip(tmp_path):
    """At most 1 KiB a clip (measured: 735 bytes of 200 clips, 819 of 20,000)."""

    def peak(count: int) -> int:
        manifest = numbered(tmp_path, count)
        tracemalloc.start()
        try:
            assert len(selected(manifest).clips) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(200) / 200 < 1024
    assert peak(1_000) / 1_000 < 1024
