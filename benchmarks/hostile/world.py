"""A world of sound files, made once: a tiny checkpoint, clips, artifacts, a finished run, what was approved.

python -m benchmarks.hostile.world FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from safetensors.torch import save_file

from tests.support import checkpoints, sound
from whisper_parity.cli import main as parity
from whisper_parity.fixtures import scripted

STAGES = "pytorch,torchscript,tflite"
OF_THE_CALLER = ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "WHISPER_PARITY_TRUST")
"""What decides how commands behave and must not come from whoever measures: in CI nothing is approved."""
CODECS = {"wav": ("pcm_s16le", "s16"), "flac": ("flac", "s16"), "mp3": ("libmp3lame", "s16p"),
          "opus": ("libopus", "flt"),
          "m4a": ("aac", "fltp")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """The sound files, by what they are."""

    folder: Path

    @property
    def cache(self) -> Path:
        """What is built is built once."""
        return self.folder / "cache"

    @property
    def checkpoint(self) -> Path:
        """A Whisper of 64 channels and one block a side."""
        return self.folder / "tiny.pt"

    @property
    def clip(self) -> Path:
        """Two seconds, as WAV."""
        return self.folder / "clips" / "warble.wav"

    @property
    def artifacts(self) -> Path:
        """TorchScript and TFLite files with their lineage."""
        return self.folder / "artifacts"

    @property
    def run(self) -> Path:
        """A finished run of one clip."""
        return self.folder / "reports" / "sound"

    @property
    def checkpoints(self) -> tuple[Path, Path, Path]:
        """The same in the formats that are read."""
        return self.checkpoint, self.checkpoint.with_suffix(".safetensors"), self.checkpoint.with_suffix(".bin")

    @property
    def approved(self) -> Path:
        """What was approved of it."""
        return self.folder / "fixtures" / "approved"


def make(folder: Path) -> World:
    """Make what is not there yet; the working folder becomes the project."""
    at_a_desk()
    world = World(folder)
    if not (folder / "complete-2").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "clips").mkdir(parents=True)
        os.chdir(folder)
        _checkpoints(world)
        for suffix, (codec, form) in CODECS.items():
            sound.write(world.clip.with_suffix(f".{suffix}"), sound.warble(2.0), 16_000, codec, form)
        _record(world)
        (folder / "complete-2").touch()
    return world


def at_a_desk() -> None:
    """Have this process, and those that it starts, behave as at an engineer's terminal."""
    for name in OF_THE_CALLER:
        os.environ.pop(name, None)


def _checkpoints(world: World) -> None:
    """The same weights as openai-whisper, Hugging Face and CTranslate2 save them."""
    model = scripted.model(scripted.dimensions(), steps=12)
    scripted.save(model, world.checkpoint)
    named = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _, tensors, spec = world.checkpoints
    save_file(checkpoints.hugging_face(named), tensors)
    spec.write_bytes(checkpoints.ctranslate2(named))


def _record(world: World) -> None:
    shared = ["--checkpoint", str(world.checkpoint), "--cache", str(world.cache), "--threads", "1"]
    run = ["--clips", str(world.clip), "--language", "en", "--report-dir", str(world.run.parent), "--run-id", "sound"]
    _parity("build", "--stages", STAGES, "--out", str(world.artifacts), *shared)
    _parity("run", "--stages", STAGES, *run, *shared)
    _parity("approve", str(world.run), "--name", "sound")
    _parity(
        "noise", "--clips", str(world.clip), "--language", "en", "--out", str(world.approved / "noise.json"), *shared
    )
    text = json.loads((world.run / "report.json").read_text("utf-8"))["rows"][0]["text"]
    (world.folder / "result.json").write_text(json.dumps({"text": text, "segments": [], "language": "en"}), "utf-8")


def _parity(*words: str) -> None:
    result = CliRunner().invoke(parity, list(words))
    if result.exit_code:
        raise SystemExit(f"the sound world cannot be made: parity {' '.join(words)}: {result.output}")


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
