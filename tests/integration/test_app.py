"""The backend app: programs that run here, on a simulated device, and outputs that somebody sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sites, sound, standins
from tests.support.simulated import users_server
from tests.support.standins import EOT, PROMPT, TEXT, TOKENS
from whisper_parity.backend import build
from whisper_parity.backend.account import ProgramOutput
from whisper_parity.backend.contract import Fleet
from whisper_parity.backend.facets import Hearing
from whisper_parity.backends.app import sounds
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.outfit import keys_of, started
from whisper_parity.clips import features
from whisper_parity.errors import BackendError, ConfigError, ParityError, UnavailableError

OPTIONS = {"without_timestamps": True, "suppress_blank": True, "suppress_tokens": "-1", "sample_len": None}


@pytest.fixture
def opened(scripted_checkpoint: Path, cache_dir: Path) -> Callable[..., Any]:
    """A session of `app` under settings."""

    @contextmanager
    def open_stage(stage: str = "app", dla: dict[str, Any] | None = None, **own: Any) -> Iterator[Hearing]:
        site = sites.workshop(scripted_checkpoint, cache_dir, app=own, dla=dla or {})
        with site.backends.of(stage).open(build.obtain(site, stage), 2) as session:
            if isinstance(session, Fleet):
                with session.lease() as leased:
                    yield leased
            else:
                yield session

    return open_stage


@pytest.fixture
def hear(opened, clip: Path) -> Callable[..., ProgramOutput]:
    """What a program on this machine gives of a clip."""

    def heard(program: Path, preset: str = "mtk-model-zoo", **own: Any) -> ProgramOutput:
        with opened(where="host", preset=preset, program=str(program), **own) as session:
            return session.hear(clip, "en", OPTIONS)

    return heard


def kv(folder: Path, clip: Path, **how: Any) -> Path:
    """A stand-in for the KV-cache program that writes its tensors too."""
    tensors = {
        "npu_mel_spec.bin": standins.padded_spectrogram(clip).astype("<f4").tobytes(),
        "npu_encoder_output.bin": np.ones((1500, 64), "<f4").tobytes(),
    }
    return standins.script(folder / "whisper_kv_test", standins.kv_output(), files=tensors, **how)


def test_a_foreign_program_on_this_machine(hear, tmp_path, clip):
    """Text, tokens, prompt and both tensors of a program that was not changed; its warnings with them."""
    output = hear(kv(tmp_path / "p", clip, stderr="[WARN] Position file missing, zeros\n"))
    assert (output.account.text, output.account.windows[0].tokens) == (TEXT, (*TOKENS, EOT))
    assert output.account.windows[0].prompt == PROMPT
    assert output.account.warnings == ("Position file missing, zeros",)
    assert (output.account.exit_code, output.account.sound) == (0, "")
    assert {name: array.shape for name, array in output.tensors.items()} == {
        "input_features.0": (80, 3000), "encoder_output.0": (1500, 64)
    }  # fmt: skip


def test_files_environment_and_arguments_reach_the_program(hear, tmp_path):
    """Beside it under their own names, a folder with its own; no name of the clip reaches it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "enc.dla").write_text("enc")
    (tmp_path / "vocab.txt").write_text("words")
    body = 'cat vocab.txt models/enc.dla; printf " %s" "$A" "$@"\n'
    program = standins.path_of(tmp_path / "p", f"printf '{{\"text\": \"'; {body} printf '\"}}'\n")
    output = hear(
        program, "generic-json", files=[str(tmp_path / "models"), str(tmp_path / "v*.txt")], environment={"A": "x y"},
        argv=["{program}", "{model}", "{sound}", "{language}", "{task}"], languages={"en": "English"},
    )  # fmt: skip
    assert output.account.text == "wordsenc x y . sound.wav English transcribe"


def test_what_is_no_wav_is_converted_and_said(opened, tmp_path):
    """The account says what the program was given instead of the clip; a WAV is given as it is unless asked."""
    program = standins.path_of(tmp_path / "p", "printf '{\"text\": \"'; wc -c < sound.wav; printf '\"}'\n")
    wav = sound.write_wav(tmp_path / "c.wav", sound.warble(1.0))
    with sounds.given(wav, "file") as given:
        assert (given.path, given.note, given.n_windows) == (wav, "", 1)
    with sounds.given(wav, "pcm16") as given:
        assert given.note == sounds.CONVERTED
    with opened(where="host", preset="generic-json", program=str(program), sound="pcm16") as session:
        assert session.hear(wav, "en", {}).account.sound == "converted to 16-bit WAV, mono, 16 kHz"


def test_a_result_in_a_file(hear, tmp_path):
    """whisper-cli writes JSON; a run that leaves none has no result, whatever it prints."""
    content = {"result.json": standins.whisper_cli_json().encode()}
    good = hear(standins.script(tmp_path / "a" / "cli", "log", files=content), "whisper-cli")
    assert good.account.text == TEXT.strip()
    with pytest.raises(BackendError, match="cli gave no result"):
        hear(standins.script(tmp_path / "b" / "cli", "error: no model\n"), "whisper-cli")


@pytest.mark.parametrize(
    ("body", "own", "words"),
    [
        ("sleep 60\n", {"run_limit_s": 1}, "p: not finished after 1 s, killed"),
        ("yes\n", {"output_mib": 1}, "p: its output has reached the limit of 1 MiB"),
        ("echo '[ERROR] no NPU' >&2; exit 0\n", {}, "p gave no result (exit code 0): no NPU"),
        ("kill -SEGV $$\n", {}, "p gave no result (exit code 139)"),
    ],
)
def test_programs_that_fail(hear, tmp_path, body, own, words):
    """A hang, endless output, an error with exit code 0, a crash: each in one line."""
    started_at = time.monotonic()
    with pytest.raises(BackendError) as caught:
        hear(standins.path_of(tmp_path / "p", body), **own)
    assert words in str(caught.value)
    assert time.monotonic() - started_at < 30


def test_what_is_not_there_is_named(hear, tmp_path):
    """The program, the files beside it, the setting itself."""
    with pytest.raises(ConfigError, match=r"\[backends.app\] program: .*nowhere"):
        hear(tmp_path / "nowhere")
    program = standins.path_of(tmp_path / "p", "true\n")
    with pytest.raises(ConfigError, match=r"files 'models/\*.dla': no such file"):
        hear(program, files=["models/*.dla"])


def test_the_lineage_holds_everything_that_decides(scripted_checkpoint, cache_dir, tmp_path):
    """Another byte of the program, of a file beside it, another argument or pattern is another artifact."""
    program, table = standins.path_of(tmp_path / "p", "true\n"), tmp_path / "table"
    table.write_text("1")

    def artifact(**own: Any) -> str:
        settings = {"where": "host", "preset": "generic-json", "program": str(program), "files": [str(table)], **own}
        return build.obtain(sites.workshop(scripted_checkpoint, cache_dir, app=settings), "app").sha256

    first = artifact()
    assert artifact() == first
    others = [artifact(argv=["{program}", "-v", "{sound}"]), artifact(patterns={"warning": "(?P<warning>W.*)"})]
    others.append(artifact(environment={"A": "1"}))
    table.write_text("2")
    others.append(artifact())
    program.write_text("#!/bin/sh\nfalse\n")
    others.append(artifact())
    assert len({first, *others}) == 6


def record(folder: Path, clip: Path) -> None:
    """Outputs of three clips: a folder of its own, flat files, features alone."""
    (folder / "warble").mkdir(parents=True)
    (folder / "warble" / "stdout").write_text(standins.kv_output())
    (folder / "warble" / "run.log").write_text("[WARN] slow\n")
    (folder / "warble" / "npu_mel_spec.bin").write_bytes(standins.padded_spectrogram(clip).astype("<f4").tobytes())
    (folder / "flat.txt").write_text(standins.kv_output(" flat"))
    (folder / "only_npu_mel_spec.bin").write_bytes(features.compute(clip, 80).windows[0].input_features.tobytes())


def test_recorded_outputs(opened, tmp_path, clip):
    """By the names of clips; a clip without output is refused with what was looked for and what is there."""
    record(tmp_path / "sent", clip)
    with opened("app:recorded", preset="mtk-model-zoo", recorded=str(tmp_path / "sent")) as session:
        whole = session.hear(clip, "en", OPTIONS)
        assert (whole.account.text, whole.account.warnings, [*whole.tensors]) == (TEXT, ("slow",), ["input_features.0"])
        assert session.hear(Path("flat.wav"), "en", {}).account.text == " flat"
        only = session.hear(Path("only.wav"), "en", {})
        assert (only.account.text, len(only.account.windows), [*only.tensors]) == (None, 1, ["input_features.0"])
        with pytest.raises(UnavailableError) as caught:
            session.hear(Path("other.wav"), "en", {})
    assert "no output of clip other" in str(caught.value)
    assert "it holds flat.txt, only_npu_mel_spec.bin, warble" in str(caught.value)


def test_recorded_names_are_given_where_several_fit(opened, tmp_path):
    """Two programs' files of one clip: the error names the setting that tells them apart, and that works."""
    for name in ("baseline", "port"):
        (tmp_path / f"{name}_a.json").write_text(json.dumps({"text": name, "tokens": [*PROMPT, *TOKENS]}))
    asked = r"several files for clip a: .*recorded = .*/baseline_\{clip\}.json"
    with (
        opened("app:recorded", preset="generic-json", recorded=str(tmp_path)) as session,
        pytest.raises(UnavailableError, match=asked),
    ):
        session.hear(Path("a.wav"), "en", {})
    with opened("app:recorded", preset="generic-json", recorded=f"{tmp_path}/port_{{clip}}.json") as session:
        account = session.hear(Path("a.wav"), "en", {}).account
    assert (account.text, account.windows[0].prompt, account.windows[0].tokens) == ("port", PROMPT, TOKENS)


def test_the_recorded_results_of_a_real_port(opened, shared_folder):
    """The KV port of large-v3-turbo: its wrong prompt apart from what it decoded, end-of-text and loop in that."""
    place = shared_folder / "recorded" / "whisper_turbo_kv" / "torchscript_{clip}.json"
    with opened("app:recorded", preset="generic-json", recorded=str(place)) as session:
        account = session.hear(Path("test_en.wav"), "en", {}).account
    assert account.windows[0].prompt == (50258, 50259, 50359, 50363)
    assert (account.tokens[:2], account.tokens.count(EOT)) == ((50360, 50364), 9)


def test_a_run_of_recorded_outputs(parity, tmp_path, clip):
    """The features rung says what the front end did; the clip without output has a row with a reason."""
    record(tmp_path / "sent", clip)
    other = sound.write_wav(tmp_path / "other.wav", sound.warble(1.0))
    words = ["run", "--stages", "pytorch,app:recorded", "--language", "en", "--clips", f"{clip},{other}"]
    result = parity(*words, "--set", "app.preset=mtk-model-zoo", "--set", f"app.recorded={tmp_path / 'sent'}",
                    "--run-id", "r")  # fmt: skip
    assert "no output of clip other" in result.output, result.output
    report = json.loads((tmp_path / "reports" / "r" / "report.json").read_text())
    rows = {row["clip"]: row for row in report["rows"] if row["stage"] == "app:recorded"}
    assert rows["warble"]["verdict"]["rung"] == "features"
    assert "padded" in rows["warble"]["verdict"]["reason"]


@pytest.fixture
def device(tmp_path_factory, monkeypatch) -> Iterator[Callable[..., Any]]:
    """A simulated device as a user's own, with faults."""
    with users_server(tmp_path_factory.mktemp("home")) as client:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", client.address.partition(":")[2])
        for key, value in (client.environment or {}).items():
            monkeypatch.setenv(key, value)
        yield lambda *faults: started(keys=keys_of(client), faults=faults)


@pytest.mark.usefixtures("runner_built")
def test_a_foreign_program_on_a_device(device, opened, tmp_path, clip):
    """Over adb: pushed by hash, run in a folder of its own, results pulled, nothing left but the store."""
    program = path_on_device(tmp_path)
    with device() as simulated:
        own = {"preset": "mtk-model-zoo", "program": str(program), "files": [str(tmp_path / "stdout")]}
        with opened(dla={"serial": [simulated.serial]}, **own) as session:
            first, again = session.hear(clip, "en", OPTIONS), session.hear(clip, "en", OPTIONS)
            assert (first.account.text, first.account.tokens) == (TEXT, (*TOKENS, EOT))
            assert first.tensors["input_features.0"].shape == (80, 3000)
            assert np.array_equal(first.tensors["input_features.0"], again.tensors["input_features.0"])
            assert session.usage().sent_bytes > clip.stat().st_size
        left = [path.name for path in (simulated.work_folder / "whisper-parity").iterdir()]
    assert left == ["store"]


@pytest.mark.usefixtures("runner_built")
def test_a_cable_that_is_pulled_while_a_program_runs(device, opened, tmp_path, clip):
    """One second try once the device is back, with a note; none where it stays away."""
    program = path_on_device(tmp_path, "sleep 1\n")
    own = {"preset": "mtk-model-zoo", "program": str(program), "files": [str(tmp_path / "stdout")]}
    back = LinkFault(Kind.UNPLUG_IN_PUSH, after_bytes=40_000, after_s=0.5)
    with device(back) as simulated, opened(dla={"serial": [simulated.serial], "reconnect_s": 10.0}, **own) as session:
        assert session.hear(clip, "en", OPTIONS).account.text == TEXT
        assert any("second try after: [unplugged]" in note for note in session.usage().notes)
    away = LinkFault(Kind.UNPLUG_IN_PUSH, after_bytes=40_000)
    with (
        device(away) as simulated,
        opened(dla={"serial": [simulated.serial], "reconnect_s": 1.0}, **own) as session,
        pytest.raises(ParityError, match=r"\[unplugged\]"),
    ):
        session.hear(clip, "en", OPTIONS)


def path_on_device(folder: Path, before: str = "") -> Path:
    """A stand-in that needs no path of this machine."""
    (folder / "stdout").write_text(standins.kv_output())
    features_file = "head -c 960000 /dev/zero > npu_mel_spec.bin\n"
    body = f"{before}[ -s sound.wav ] || exit 66\ncat stdout\n{features_file}"
    return standins.path_of(folder / "whisper_kv_test", body)


@pytest.mark.usefixtures("app_built")
@pytest.mark.parametrize("stage", ["app", "app:simulated", "app:simulated-kv"])
def test_our_own_program(opened, clip, stage):
    """On this machine and on the simulated device: tokens, prompt, features and encoder output of every window."""
    with opened(stage, where="host") as session:
        output = session.hear(clip, "en", OPTIONS)
        assert "parity-whisper" in session.facts.label
    reference = features.compute(clip, 80).windows[0].input_features[0]
    assert np.abs(output.tensors["input_features.0"] - reference).max() < 1e-4
    assert output.tensors["encoder_output.0"].shape == (1500, 64)
    (window,) = output.account.windows
    assert (window.prompt, window.ended, len(window.tokens)) == (PROMPT, "eot", 13)
    assert window.tokens[-1] == EOT
