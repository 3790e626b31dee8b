"""A run against simulated devices, prepared once: artifacts as a user has them, and traces to compare with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.support import sound

CLIPS = ("first", "second", "third")


@dataclass(frozen=True)
class Prepared:
    """Compiled files in a folder, and a run that holds everything but the device."""

    artifacts: Path
    """encoder_..._MT8371.dla and the rest: as `dla` of a user."""
    clips: Path
    reports: Path
    """With a run called "run": pytorch and tflite on all clips."""
    cache: Path
    checkpoint: Path

    def run(self, folder: Path, serials: Sequence[str], clips: Path | None = None, **settings: Any) -> Found:
        """`parity run --stages pytorch,tflite,dla --set dla.serial=...` in a folder of its own."""
        from click.testing import CliRunner

        from whisper_parity.cli import main

        shutil.copytree(self.reports, folder / "reports", dirs_exist_ok=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"reconnect_s": 3.0, **settings}.items()]
        (folder / "parity.toml").write_text("[backends.dla]\n" + "\n".join(lines) + "\n")
        words = [
            "run",
            "--stages",
            "pytorch,tflite,dla",
            "--artifacts",
            self.artifacts,
            "--build-missing",
            "--checkpoint",
            self.checkpoint,
        ]
        words += ["--clips", clips or self.clips, "--language", "en", "--cache", self.cache, "--threads", 2]
        words += ["--report-dir", folder / "reports", "--run-id", "run" if clips is None else "other"]
        words += ["--set", f"dla.serial={','.join(serials)}"] if serials else []
        result = CliRunner().invoke(main, [str(word) for word in words])
        name = "run" if clips is None else "other"
        report = folder / "reports" / name / "report.json"
        return Found(result, json.loads(report.read_text()) if report.is_file() else {})


@dataclass(frozen=True)
class Found:
    """What a run left."""

    result: Result
    report: dict[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the device, in the order of the clips."""
        return [row for row in self.report["rows"] if row["stage"] == "dla"]

    @property
    def outcomes(self) -> list[str]:
        """Their outcomes."""
        return [row["verdict"]["outcome"] for row in self.rows]

    @property
    def reasons(self) -> list[str]:
        """Their reasons."""
        return [row["verdict"]["reason"] for row in self.rows]

    @property
    def notes(self) -> str:
        """All notes, joined."""
        return "\n".join(note for row in self.rows for note in row["notes"])


def prepare(
    folder: Path, parity_in: Callable[[Path], Callable[..., Result]], checkpoint: Path, cache: Path
) -> Prepared:
    """Build, export and record once."""
    clips = folder / "clips"
    clips.mkdir()
    for number, name in enumerate(CLIPS):
        sound.write_wav(clips / f"{name}.wav", sound.warble(1.5, seed=number))
    parity = parity_in(folder)
    built = parity("build", "--stages", "dla:simulated", "--out", folder / "built")
    assert built.exit_code == 0, built.output
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    for path in (folder / "built").glob("*"):
        if path.name.startswith(("encoder_", "decoder_", "token_")):
            shutil.copyfile(path, artifacts / path.name.replace("_simulated", ""))
    done = parity(
        "run", "--stages", "pytorch,tflite", "--clips", clips, "--language", "en", "--run-id", "run"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return Prepared(artifacts, clips, folder / "reports", cache, checkpoint)
