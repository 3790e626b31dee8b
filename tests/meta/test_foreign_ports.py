"""Files of others: sound ones in other forms raise no alarm; a part that is left out of a graph is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import detection, foreign
from benchmarks.detection import Detection, Trial
from whisper_parity.backends.torchscript import TorchScriptBackend
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run.options import RunOptions
from whisper_parity.weights.looking import Looking
from whisper_parity.weights.result import LookUp


@pytest.fixture(scope="module")
def micro() -> Checkpoint:
    """The micro checkpoint."""
    return checkpoints.resolve(RunOptions().checkpoint)


@pytest.fixture
def detected(micro: Checkpoint, cache_dir: Path) -> Callable[[str, str], Detection | None]:
    """Judges and explains files of a kind with a fault, or of a sound variant, by name."""
    options = RunOptions(clips=detection.CLIPS[:1], cache=cache_dir)
    return lambda name, kind: detection.tried(Trial(name, kind), micro, options, lambda _: None)


@pytest.fixture
def looked_up(micro: Checkpoint, tmp_path: Path) -> Callable[[str], LookUp]:
    """What TorchScript files with a fault, or of a sound variant, hold of the checkpoint."""

    def look(name: str) -> LookUp:
        trial = Trial(name, "torchscript")
        foreign.write(trial.port(micro), tmp_path, micro, trial.kind, trial.variant)
        files = {"encoder": next(tmp_path.glob("encoder*.pt")), "decoder": next(tmp_path.glob("decoder*.pt"))}
        return Looking(micro, tmp_path).of_files(TorchScriptBackend(), files)

    return look


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("heads", "tflite"),
        ("norm-folded", "torchscript"),
        ("channels-first", "torchscript"),
        ("conv-as-matmul", "torchscript"),
    ],
)
def test_a_sound_port_in_another_form_raises_no_alarm(detected, name, kind):
    """Neither by its weights nor by its numbers; all thirty forms are in `benchmarks/detection.py --sound`."""
    found = detected(name, kind)
    assert (found.caught, found.finding) == (False, "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("graph-last-norm", "torchscript"),
        ("graph-mlp-norm", "torchscript"),
        ("graph-decoder-norm", "tflite"),
        ("graph-twice-positions", "torchscript"),
    ],
)
def test_a_graph_with_another_structure_is_taken_apart(detected, name, kind):
    """Caught; edge, part and unit exactly: where norms are not as many as expected, residual sums tell units apart."""
    found = detected(name, kind)
    assert found.right == (True, True, True, True), found.finding


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("heads", "104 of 104 tensors of micro.pt, exact"),
        ("neurons", "104 of 104 tensors of micro.pt, exact"),
        ("norm-folded", "104 of 104 tensors of micro.pt: 61 exact, 17 equal to float32 arithmetic, 26 folded into "),
        ("graph-moved-values", "encoder_micro_3000.pt: encoder.blocks.2.attn.value.weight has its rows in another or"),
    ],
)
def test_an_order_that_the_network_does_not_feel_is_no_difference(looked_up, name, line):
    """Heads and neurons in another order throughout; without its partner it is one."""
    assert looked_up(name).sentences[0].startswith(line)
