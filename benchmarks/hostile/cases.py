"""Cases: one spoiled input each, made from a seed, and the command that is to deal with it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.hostile import damage
from benchmarks.hostile.damage import Damage
from benchmarks.hostile.world import World

MARKER = "owned"
"""What foreign code would leave behind."""
ODD_NAMES = (
    "a b.wav",
    "-rf.wav",
    "$(touch owned).wav",
    "x;y.wav",
    "a\nb.wav",
    "\x1b[31m.wav",
    "\u202egpj.wav",
    "::error::.wav",
    "a,b.wav",
    "é😀.wav",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One spoiled input."""

    kind: str
    what: str
    """What is wrong with it."""
    make: Callable[[Path], list[str]]
    """Writes it into the working folder; gives the words of the command."""
    must_be_refused: bool
    """Whether an exit code of 0 is a wrong acceptance; a single bit of a weight may pass."""


def case(world: World, seed: int, index: int) -> Case:
    """One case; every kind comes in turn, and the same seed gives the same cases."""
    kind = list(KINDS)[index % len(KINDS)]
    return KINDS[kind](world, kind, Random(f"{seed} {index}"))


def _run(world: World, *words: object, stages: str = "pytorch,torchscript") -> list[str]:
    given = [str(word) for word in words]
    defaults = {"--checkpoint": world.checkpoint, "--clips": world.clip, "--language": "en", "--report-dir": "reports",
                "--run-id": "sound", "--threads": "1", "--stages": stages}  # fmt: skip
    return [
        "run",
        *given,
        *(word for name, value in defaults.items() if name not in given for word in (name, str(value))),
    ]


def _of_file(random: Random, content: bytes) -> tuple[Damage, bool]:
    """A damage to a binary file, and whether it must be refused."""
    chance = random.random()
    if chance < 0.2:
        return random.choice(damage.special_files()), True
    if chance < 0.3:
        return damage.random_bytes(random), True
    return damage.spoiled_bytes(random, content), False


def _of_json(random: Random, path: Path) -> tuple[Damage, bool]:
    if random.random() < 0.15:
        return random.choice(damage.special_files()), True
    return damage.spoiled_json(random, path.read_text("utf-8")), False


def _audio(world: World, kind: str, random: Random) -> Case:
    sound = world.clip.with_suffix(random.choice((".wav", ".flac", ".mp3", ".opus", ".m4a")))
    (what, spoil), refused = _of_file(random, sound.read_bytes())
    name = random.choice((sound.name, sound.name, *ODD_NAMES))

    def make(place: Path) -> list[str]:
        spoil(place / name)
        return _run(world, "--clips", f"./{name}")

    return Case(kind, f"{name!r}: {what}", make, refused and "," not in name and what != "a folder")


def _manifest(world: World, kind: str, random: Random) -> Case:
    line = json.dumps({"audio_filepath": "warble.wav", "text": "one", "lang": "en", "tags": ["a"], "name": "one"})
    if random.random() < 0.15:
        (what, spoil), refused = random.choice(damage.special_files()), True
    else:
        (what, spoil), refused = damage.spoiled_json(random, line), False

    def make(place: Path) -> list[str]:
        shutil.copy(world.clip, place / "warble.wav")
        spoil(place / "clips.jsonl")
        return _run(world, "--manifest", "clips.jsonl", "--clips", "all")

    return Case(kind, what, make, refused)


class _Bomb:
    """Unpickled, it leaves the marker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARKER}",)


def _checkpoint(world: World, kind: str, random: Random) -> Case:
    if random.random() < 0.3:
        return _crafted_checkpoint(world, kind, random)
    file = random.choice(world.checkpoints)
    (what, spoil), refused = _of_file(random, file.read_bytes())

    def make(place: Path) -> list[str]:
        spoil(place / "given.pt")
        return _run(world, "--checkpoint", "given.pt")

    return Case(kind, f"{file.suffix}: {what}", make, refused)


def _crafted_checkpoint(world: World, kind: str, random: Random) -> Case:
    def content(place: Path) -> object:
        import torch

        saved = torch.load(world.checkpoint, weights_only=True)
        if what == "code in a pickle":
            return _Bomb()
        if what == "code beside the weights":
            return {**saved, "extra": _Bomb()}
        if what == "a dimension of another kind":
            name = random.choice(sorted(saved["dims"]))
            return {**saved, "dims": {**saved["dims"], name: random.choice(damage.VALUES)}}
        if what == "a weight of another shape":
            name = random.choice(sorted(saved["model_state_dict"]))
            return {**saved, "model_state_dict": {**saved["model_state_dict"], name: torch.zeros(3)}}
        name = random.choice(sorted(saved["model_state_dict"]))
        weights = {key: value for key, value in saved["model_state_dict"].items() if key != name}
        return {**saved, "model_state_dict": weights}

    what = random.choice(("code in a pickle", "code beside the weights", "a dimension of another kind",
                          "a weight of another shape", "a weight is gone"))  # fmt: skip
    is_bare = random.random() < 0.5 and what == "code in a pickle"

    def make(place: Path) -> list[str]:
        import torch

        if is_bare:
            (place / "given.pt").write_bytes(pickle.dumps(content(place)))
        else:
            torch.save(content(place), place / "given.pt")
        return _run(world, "--checkpoint", "given.pt")

    return Case(kind, what, make, True)


def _artifact(world: World, kind: str, random: Random) -> Case:
    """A stage's folder with one spoiled file."""
    names = {
        "torchscript": ("encoder_tiny_3000.pt", "decoder_tiny_448.pt"),
        "tflite": ("encoder_tiny_80x3000.tflite", "decoder_tiny_448.tflite"),
        "npy": ("token_embedding.npy",),
    }
    stage = "torchscript" if kind == "npy" else kind
    name = random.choice(names[kind])
    if kind == "torchscript" and random.random() < 0.25:
        return _attack(world, kind, random, name)
    (what, spoil), refused = _of_file(random, (world.artifacts / name).read_bytes())

    def make(place: Path) -> list[str]:
        _copied(world.artifacts, place / "given", without=(name, "torchscript.lineage.json", "tflite.lineage.json"))
        spoil(place / "given" / name)
        return _run(world, "--artifacts", "given", stages=f"pytorch,{stage}")

    return Case(kind, f"{name}: {what}", make, refused)


ATTACKS = ("Writes", "Forks", "ForksTwice", "InAnUnusedMethod", "AtLoad", "Endless", "Grows", "upper case", "twice")
TIGHT = ("--set", "torchscript.given_limit_s=10", "--set", "torchscript.given_memory_gib=0.5")


def _attack(world: World, kind: str, random: Random, name: str) -> Case:
    """A TorchScript file that writes, never ends or fills memory, in place of a half."""
    attack = random.choice(ATTACKS)

    def make(place: Path) -> list[str]:
        from tests.support import attacks

        _copied(world.artifacts, place / "given", without=(name, "torchscript.lineage.json", "tflite.lineage.json"))
        path, marker = place / "given" / name, place / MARKER
        if attack == "upper case":
            attacks.upper_case(path, marker)
        elif attack == "twice":
            attacks.twice(path, marker, clean_first=random.random() < 0.5)
        else:
            attacks.build(attack, path, marker)
        return _run(world, "--artifacts", "given", *TIGHT)

    return Case(kind, f"{name}: attack {attack}", make, must_be_refused=True)


def _lineage(world: World, kind: str, random: Random) -> Case:
    stage = random.choice(("torchscript", "tflite"))
    name = f"{stage}.lineage.json"
    (what, spoil), refused = _of_json(random, world.artifacts / name)

    def make(place: Path) -> list[str]:
        _copied(world.artifacts, place / "given", without=(name,))
        spoil(place / "given" / name)
        return _run(world, "--artifacts", "given", stages=f"pytorch,{stage}")

    return Case(kind, f"{name}: {what}", make, refused and what != "a folder")


def _result(world: World, kind: str, random: Random) -> Case:
    name = random.choice(("given.json", "given.txt", "given.srt", "given.jsonl"))
    (what, spoil), refused = _of_json(random, world.folder / "result.json")

    def make(place: Path) -> list[str]:
        spoil(place / name)
        words = [name, str(world.folder / "result.json")]
        random.shuffle(words)
        return [random.choice(("compare", "explain")), *words]

    return Case(kind, f"{name}: {what}", make, refused)


def _trace(world: World, kind: str, random: Random) -> Case:
    stage = random.choice(("pytorch", "torchscript"))
    name = f"traces/warble--{stage}.safetensors"
    (what, spoil), _ = _of_file(random, (world.run / name).read_bytes())

    def make(place: Path) -> list[str]:
        _copied(world.run, place / "reports" / "sound", without=(name,))
        spoil(place / "reports" / "sound" / name)
        again = ["explain", "warble", "--stage", "torchscript", "--run", "reports/sound"]
        return random.choice((_run(world, stages="pytorch,torchscript,tflite"), again))

    return Case(kind, f"{name}: {what}", make, True)


def _record(world: World, kind: str, random: Random) -> Case:
    """One of the files of a run."""
    names = {"report": ["report.json"], "options": ["options.json", "run.json"], "row": ["journal.jsonl"]}
    name = random.choice(names[kind])
    is_lines = name.endswith(".jsonl")
    (what, spoil), _ = (
        _of_file(random, (world.run / name).read_bytes()) if is_lines else _of_json(random, world.run / name)
    )

    def make(place: Path) -> list[str]:
        _copied(world.run, place / "reports" / "sound", without=(name,))
        spoil(place / "reports" / "sound" / name)
        run = "reports/sound"
        return random.choice((
            ["report", run], ["report", run, "--format", "html"], ["report", run, "--format", "junit"],
            ["gate", run], ["history"],
            ["explain", "warble", "--stage", "torchscript", "--run", run], ["approve", run],
            ["compare", run, str(world.run)],
            _run(world, stages="pytorch,torchscript,tflite"),
        ))  # fmt: skip

    return Case(kind, f"{name}: {what}", make, must_be_refused=False)


TOML = {
    "run": {"stages": "pytorch,torchscript", "threads": 1, "policy": "whisper", "clips": "clip.wav", "run_id": "x"},
    "policies.mine": {"base": "plain", "sample_len": 20, "suppress_tokens": [1], "prompt": [50258]},
    'tolerances."pytorch->torchscript"': {"logits_snr_db": [90.0, 70.0], "reason": "because"},
    "backends.dla": {"soc": "MT8371", "flags": ["-R"], "boost": 50, "adb": "./tool", "run_limit_s": 5.0},
    "backends.tflite": {"converter": "litert", "mtk_python": "./tool", "run_limit_s": 10},
    "gate": {"stages": ["pytorch"], "folder": "approved", "require_approved": False},
    'gate.edges."pytorch->torchscript"': {"logits_snr_db": 80},
}


def _toml(world: World, kind: str, random: Random) -> Case:
    section = random.choice(list(TOML))
    table = dict(TOML[section])
    key = random.choice([*table, "unknown"])
    value = random.choice(damage.VALUES)
    table[key] = value
    lines = [f"[{section}]", *(f"{name} = {_toml_value(inner)}" for name, inner in table.items())]
    text = "\n".join(lines) if random.random() < 0.7 else random.choice((
        "a = " + "[" * damage.DEEP, "[" * damage.DEEP, "a = " + "9" * 5000, "a = \0", "\xff", lines[1],
        "\n".join([*lines, *lines]),
        "[" + ".".join("a" * 2000) + "]", "[run]\n[run]", "a = 'x",
    ))  # fmt: skip

    def make(place: Path) -> list[str]:
        tool = place / "tool"
        tool.write_text(f"#!/bin/sh\ntouch '{place / MARKER}'\n", "utf-8")
        tool.chmod(0o755)
        shutil.copy(world.clip, place / "clip.wav")
        (place / "parity.toml").write_bytes(text.encode("latin-1", "replace"))
        return random.choice(
            (
                ["doctor"],
                ["history"],
                ["trust"],
                _run(world),
                ["device", "list"],
                ["backends"],
                ["build", "--stages", "pytorch"],
            )
        )

    return Case(kind, f"[{section}] {key} = {value!r:.30}", make, must_be_refused=False)


def _toml_value(value: Any) -> str:
    if isinstance(value, (bool, int)):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return "''" if value is None else json.dumps(value)


def _approved(world: World, kind: str, random: Random) -> Case:
    """What a run is judged by: noise, approved results, accepted divergences."""
    name = {"noise": "noise.json", "approved": "sound.json"}[kind]
    (what, spoil), _ = _of_json(random, world.approved / name)

    def make(place: Path) -> list[str]:
        _copied(world.folder / "fixtures", place / "fixtures", without=(f"approved/{name}",))
        spoil(place / "fixtures" / "approved" / name)
        _copied(world.run, place / "reports" / "sound")
        limits = (
            '[tolerances."pytorch->torchscript"]\nlogits_snr_db = ["3 x attention", "10 x attention"]\n'
            'max_tie_margin = "3 x fp16-io"\nreason = "measured"\n'
        )
        (place / "parity.toml").write_text(limits if kind == "noise" else "", "utf-8")
        return _run(world) if kind == "noise" else ["gate", "reports/sound", "--approved", "sound"]

    return Case(kind, f"{name}: {what}", make, must_be_refused=False)


def _history(world: World, kind: str, random: Random) -> Case:
    (what, spoil), _ = _of_file(random, random.randbytes(4096))

    def make(place: Path) -> list[str]:
        _copied(world.run, place / "reports" / "sound")
        spoil(place / "reports" / "history.sqlite")
        return ["history"]

    return Case(kind, what, make, must_be_refused=False)


def _copied(source: Path, target: Path, without: tuple[str, ...] = ()) -> None:
    """A folder with hard links to its large files, some left out."""
    for path in sorted(source.rglob("*")):
        name = str(path.relative_to(source))
        if path.is_file() and name not in without:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / name)
    for name in without:
        (target / name).parent.mkdir(parents=True, exist_ok=True)


KINDS: dict[str, Callable[[World, str, Random], Case]] = {
    "audio": _audio, "manifest": _manifest, "checkpoint": _checkpoint, "torchscript": _artifact, "tflite": _artifact,
    "npy": _artifact, "lineage": _lineage, "result": _result, "trace": _trace, "report": _record, "options": _record,
    "row": _record, "toml": _toml, "noise": _approved, "approved": _approved, "history": _history,
}  # fmt: skip
"""What each kind of input is spoiled by."""
