"""tflite-runtime offers the same Interpreter and is accepted where it is installed: in a venv with numpy < 2."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.support import sites, tfliteruntime
from tests.support.checkout import CHECKOUT
from whisper_parity.backend import build
from whisper_parity.model import checkpoint

TOKENS, ROWS = [50258, 50259, 50359, 50363, 400], [3, 4]

CHILD = """
import json, sys
import numpy as np
from pathlib import Path
from whisper_parity.backend import artifact, registry
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims

task = json.load(sys.stdin)
found = Checkpoint(task["name"], Path("x.pt"), task["sha256"], Dims(**task["dims"]))
loaded = artifact.read_lineage(Path(task["folder"]), "tflite", found, "cached")
given = np.load(task["arrays"])
with registry.Backends().get("tflite").open(loaded, 2) as session:
    encoder_output = session.encode(given["input_features"])
    logits = session.decode(task["tokens"], given["encoder_output"], task["rows"])
worst = [float(np.abs(a - b).max()) for a, b in ((encoder_output, given["encoder_output"]), (logits, given["logits"]))]
torch = "torch" in sys.modules
print(json.dumps({"label": session.facts.label, "numpy": np.__version__, "torch": torch, "worst": worst}))
"""


@pytest.fixture(scope="module")
def interpreter(cache_dir: Path) -> Path:
    return tfliteruntime.interpreter(cache_dir)


def test_it_runs_the_same_files_to_the_same_numbers(interpreter, scripted_checkpoint, cache_dir, tmp_path):
    """Named truthfully, without torch, within float32 accuracy of LiteRT."""
    found = checkpoint.describe(scripted_checkpoint)
    artifact = build.obtain(sites.workshop(found, cache_dir), "tflite")
    input_features = np.random.default_rng(0).standard_normal((1, 80, 3000), dtype=np.float32)
    with sites.backends().get("tflite").open(artifact, 2) as session:
        assert session.facts.label.startswith("tflite (LiteRT ")
        encoder_output = session.encode(input_features)
        logits = session.decode(TOKENS, encoder_output, ROWS)
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, input_features=input_features, encoder_output=encoder_output, logits=logits)
    task = {
        "name": found.name,
        "sha256": found.sha256,
        "dims": asdict(found.dims),
        "folder": str(artifact.folder),
        "arrays": str(arrays),
        "tokens": TOKENS,
        "rows": ROWS,
    }
    ran = subprocess.run(
        [interpreter, "-c", CHILD], input=json.dumps(task), capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["label"] == "tflite (tflite-runtime 2.14.0)"
    assert (said["numpy"][0], said["torch"]) == ("1", False)
    assert said["worst"][0] < 1e-3
    assert said["worst"][1] < 1e-2


def test_doctor_says_what_is_missing_and_what_to_install(interpreter):
    """On a machine with tflite-runtime alone: one backend available, three not, each with its reason; exit code 3."""
    ran = subprocess.run(
        [interpreter, "-m", "whisper_parity.cli", "doctor"], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert ran.returncode == 3, ran.stderr
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in ran.stdout.splitlines()}
    assert lines["tflite"] == ["available", "tflite-runtime 2.14.0"]
    for name in ("whisper", "pytorch", "torchscript"):
        state, reason = lines[name]
        assert state == "unavailable"
        assert "is not installed: run `pip install " in reason
        assert "torch" in reason
