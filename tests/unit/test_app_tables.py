"""The tables that parity-whisper reads are openai-whisper's own."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from whisper.audio import mel_filters

from whisper_parity.backends.dla import app_tables
from whisper_parity.backends.dla.app_tables import Artifacts
from whisper_parity.decode import policy
from whisper_parity.errors import OutputError, UsageError
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims

MULTILINGUAL = Dims(80, 1500, 128, 2, 3, 51865, 448, 128, 2, 2)
BY_VOCABULARY = {size: replace(MULTILINGUAL, n_vocab=size, vocabulary=size) for size in (51864, 51865, 51866)}


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_come_back_bit_for_bit(n_mels):
    """Nine digits are enough for every float32."""
    read = np.array([float(line) for line in app_tables.filters_text(n_mels).splitlines()], np.float32)
    np.testing.assert_array_equal(read.reshape(n_mels, 201), mel_filters("cpu", n_mels).numpy())


@pytest.mark.parametrize("size", BY_VOCABULARY)
def test_the_vocabulary_has_every_tokens_bytes(size):
    """A line an id, in order, base64 below end-of-text and names from there on."""
    lines = app_tables.vocabulary_text(size).splitlines()
    words = vocabulary.tokenizer(size)
    assert len(lines) == size
    for token, line in enumerate(lines):
        number, word = line.split(" ")
        spelled = base64.b64decode(word) if token < words.eot and word != "=" else word.encode()
        wanted = vocabulary.token_bytes(size, [token])
        assert (int(number), b"" if word == "=" else spelled) == (token, wanted)


def test_the_vocabulary_is_the_one_of_the_public_port(shared_folder):
    """Byte for byte the file that the C++ programs of the public port read."""
    file = shared_folder / "program" / "vocab.txt"
    if not file.is_file():
        pytest.skip("no table of a public port beside the project")
    assert app_tables.vocabulary_text(51865) == file.read_text("utf-8")


@pytest.mark.parametrize(("size", "special"), [(51864, 50357), (51865, 50358), (51866, 50359)])
def test_ids_of_special_tokens(size, special):
    """Each vocabulary has its own; an English-only one has no languages."""
    model = app_tables.model(BY_VOCABULARY[size], Artifacts())
    assert model["special"]["translate"] == special
    assert len(model["languages"]) == {51864: 0, 51865: 99, 51866: 100}[size]
    assert model["languages"].get("en") == (50259 if size > 51864 else None)


def test_a_decoder_with_less_room():
    """The room is the file's, and never more than the checkpoint's."""
    assert app_tables.model(MULTILINGUAL, Artifacts(), 256)["n_text_ctx"] == 256
    assert app_tables.model(MULTILINGUAL, Artifacts(), 1000)["n_text_ctx"] == 448


def test_rules_state_the_policy():
    """Suppressed ids are openai-whisper's; blank and end-of-text only at the first step."""
    plan = policy.concrete(policy.named("whisper"), MULTILINGUAL, "en")
    rules = app_tables.rules(plan, MULTILINGUAL)
    words = vocabulary.tokenizer(51865)
    assert set(words.non_speech_tokens) < set(rules.suppress)
    assert set(rules.suppress_first) == {220, words.eot}
    assert (rules.max_tokens, rules.prompt) == (plan.max_steps, ())
    plain = app_tables.rules(policy.concrete(policy.named("plain"), MULTILINGUAL, "en"), MULTILINGUAL)
    assert (plain.suppress, plain.suppress_first, plain.max_tokens) == ((), (), 445)


def test_rules_of_a_policy_with_a_prompt():
    """Its ids are written, since the program does not know the text."""
    own = policy.named("own", {"own": {"base": "plain", "prompt": "chairs"}})
    plan = policy.concrete(own, MULTILINGUAL, "en")
    assert app_tables.rules(plan, MULTILINGUAL).prompt == plan.prompt
    assert plan.prompt[0] == vocabulary.tokenizer(51865).sot_prev


def test_rules_with_timestamps_are_refused():
    """The program has no rules of timestamps."""
    own = policy.named("own", {"own": {"without_timestamps": False}})
    with pytest.raises(UsageError, match="without timestamps"):
        app_tables.rules(policy.concrete(own, MULTILINGUAL, "en"), MULTILINGUAL)


def test_what_is_written(tmp_path):
    """Three files, and the rules where they are asked for."""
    app_tables.write(tmp_path / "model", MULTILINGUAL, Artifacts("e.dla", "d.dla", "t.npy"))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "mel_filters.txt",
        "model.json",
        "vocab.txt",
    ]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["files"]["encoder"] == "e.dla"
    app_tables.write_rules(tmp_path / "decode.json", app_tables.Rules((1, 2), (3,), 7))
    rules = json.loads((tmp_path / "decode.json").read_text())
    assert rules == {"suppress": [1, 2], "suppress_first": [3], "max_tokens": 7}


def test_a_folder_that_cannot_be_written(tmp_path):
    """One line that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/model: cannot be written"):
        app_tables.write(tmp_path / "file" / "model", MULTILINGUAL, Artifacts())
    with pytest.raises(OutputError, match=r"decode.json: cannot be written"):
        app_tables.write_rules(tmp_path / "file" / "decode.json", app_tables.Rules())
