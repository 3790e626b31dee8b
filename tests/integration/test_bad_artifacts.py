"""Artifacts of the user's that are corrupt, foreign or of another model: a row that says so, and never a crash."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

from tests.support import sound
from tests.support.refusals import Bomb, files_of, line_of, require_line, require_no_traceback, rows_of
from whisper_parity.backends.split import modules
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import dims
from whisper_parity.run.report import Row

N_STATE = 64
ROLES = {
    "torchscript": ("encoder_{}_3000.pt", "decoder_{}_448.pt"),
    "tflite": ("encoder_{}_80x3000.tflite", "decoder_{}_448.tflite"),
}


@dataclass(frozen=True)
class Folder:
    """A folder of artifacts that a user gives, without lineage records."""

    path: Path
    name: str
    """Of the checkpoint, as it stands in the file names."""
    run: Callable[..., Result] = field(repr=False)
    reports: Path
    capfd: pytest.CaptureFixture[str] = field(repr=False)

    def file(self, stage: str, role: str) -> Path:
        return self.path / ROLES[stage][role == "decoder"].format(self.name)

    @property
    def token_embedding(self) -> Path:
        return self.path / "token_embedding.npy"

    def judged(self, stage: str, exit_code: int = 2) -> Row:
        """The stage's row of a run on these files; the root's row and trace stay as they were."""
        before = files_of(self.reports / "one" / "traces")
        words = ("--artifacts", self.path, "--stages", stage, "--clips", self.reports.parent / "good.wav")
        self.capfd.readouterr()
        result = self.run("run", "--language", "en", "--run-id", "one", *words)
        require_no_traceback(result, exit_code)
        assert self.capfd.readouterr() == ("", "")  # nothing that a native runtime printed by itself
        rows = rows_of(self.reports / "one")
        assert rows["good", "pytorch"].verdict.outcome is Outcome.REFERENCE
        assert before.items() <= files_of(self.reports / "one" / "traces").items()
        if exit_code:
            require_line(result, rows["good", stage])
        return rows["good", stage]

    def refused(self, stage: str) -> str:
        """The reason with which the stage's files are refused: no number is compared."""
        row = self.judged(stage)
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert (row.vs_parent, row.vs_root) == (None, None)
        return row.verdict.reason


@pytest.fixture(scope="module")
def built(parity_in, scripted_checkpoint, tmp_path_factory) -> Path:
    """Good torchscript and tflite files of the tiny checkpoint in one folder, and a root's run on a clip beside it."""
    folder = tmp_path_factory.mktemp("built")
    parity = parity_in(folder)
    require_no_traceback(parity("build", "--stages", "torchscript,tflite", "--out", folder / "artifacts"), 0)
    good = sound.write_wav(folder / "good.wav", sound.warble(1.0))
    parity("run", "--language", "en", "--stages", "pytorch", "--clips", good, "--run-id", "one")
    return folder


@pytest.fixture
def given(parity, built, scripted_checkpoint, tmp_path, capfd) -> Folder:
    """A copy of them to spoil: every file a link that is replaced, never written through."""
    for name in ("artifacts", "reports"):
        shutil.copytree(built / name, tmp_path / name, copy_function=os.link)
    os.link(built / "good.wav", tmp_path / "good.wav")
    for record in (tmp_path / "artifacts").glob("*.lineage.json"):
        record.unlink()
    return Folder(tmp_path / "artifacts", scripted_checkpoint.stem, parity, tmp_path / "reports", capfd)


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def save(module: Any, path: Path) -> None:
    path.unlink()
    module.save(str(path))


def dump(table: Any, path: Path) -> None:
    path.unlink()
    np.save(path, table)


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "cut at its end": lambda content: content[:-100],
    "random bytes": lambda content: np.random.default_rng(0).bytes(5000),
    "text": lambda content: b"model\n" * 100,
    "zeros": lambda content: bytes(5000),
}


@pytest.mark.parametrize("stage", ROLES)
def test_whole_files_without_lineage_pass_as_external(given: Folder, stage: str):
    """What the other tests spoil is good before: the files of a user are first-class."""
    assert given.judged(stage, 0).verdict.outcome is Outcome.PASS


@pytest.mark.parametrize("corrupt", CORRUPT)
@pytest.mark.parametrize(
    ("stage", "role", "said"),
    [
        ("torchscript", "encoder", ": not a TorchScript file ("),
        ("torchscript", "decoder", ": not a TorchScript file ("),
        ("tflite", "encoder", ": cannot be loaded as TFLite (The model is not a valid Flatbuffer buffer)"),
        ("tflite", "decoder", ": cannot be loaded as TFLite (The model is not a valid Flatbuffer buffer)"),
    ],
)
def test_a_corrupt_file_is_refused(given: Folder, stage: str, role: str, said: str, corrupt: str):
    """By its path, with what is wrong and what to do."""
    path = given.file(stage, role)
    replace(path, CORRUPT[corrupt](path.read_bytes()))
    reason = given.refused(stage)
    assert reason.startswith(f"{path}{said}")
    assert reason.endswith(("Build or copy it again", "MTKEXT ops need MediaTek's interpreter"))


@pytest.mark.parametrize("corrupt", CORRUPT)
def test_a_corrupt_token_embedding_is_refused(given: Folder, corrupt: str):
    """A table that is cut short, too."""
    replace(given.token_embedding, CORRUPT[corrupt](given.token_embedding.read_bytes()))
    reason = given.refused("torchscript")
    assert reason.startswith(f"{given.token_embedding}: not a .npy table (")
    assert reason.endswith("Build or copy it again")


BAD_TABLES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "another vocabulary": (lambda table: table[:-1], "expected float32 [51865, 64], found float32 [51864, 64]. Is it"),
    "another width": (lambda table: table[:, :32], "expected float32 [51865, 64], found float32 [51865, 32]. Is it"),
    "transposed": (lambda table: table.T, "expected float32 [51865, 64], found float32 [64, 51865]. Is it the token"),
    "whole numbers": (lambda table: table.astype(np.int64), "expected float32 [51865, 64], found int64 [51865, 64]."),
    "half precision": (
        lambda table: table.astype(np.float16),
        "expected float32 [51865, 64], found float16 [51865, 64]",
    ),
    "another byte order": (lambda table: table.astype(">f4"), "expected float32 [51865, 64], found >f4 [51865, 64]"),
    "one number": (lambda table: table[0, 0], "expected float32 [51865, 64], found float32 []. Is it the token"),
    "pickled objects": (
        lambda table: np.array([Bomb(Path("executed"))], dtype=object),
        "not a .npy table (Array can't be mem",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_token_embedding_that_does_not_fit_is_refused(given: Folder, case: str):
    """Expected and found, and nothing unpickled."""
    change, said = BAD_TABLES[case]
    dump(change(np.load(given.token_embedding)), given.token_embedding)
    assert given.refused("torchscript").startswith(f"{given.token_embedding}: {said}")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 64), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (51865, 64",
        b"{'descr': ',f4', 'fortran_order': False, 'shape': (51865, 64), }",
        b"__import__('os').mkdir('executed')",
    ],
)
def test_a_token_embedding_of_an_impossible_header_is_refused(given: Folder, header: bytes):
    """More elements than any memory holds, a header cut short, a type that is none, code instead of a header."""
    replace(given.token_embedding, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert given.refused("torchscript").startswith(f"{given.token_embedding}: not a .npy table (")
    assert not Path("executed").exists()


def test_an_archive_of_tables_is_no_token_embedding(given: Folder):
    """What `np.savez` writes, under the name of a single table."""
    given.token_embedding.unlink()
    with given.token_embedding.open("wb") as file:
        np.savez(file, table=np.zeros((2, 2), np.float32))
    assert given.refused("torchscript").startswith(f"{given.token_embedding}: not a .npy table (an archive of several)")


@pytest.mark.parametrize("stage", ROLES)
@pytest.mark.parametrize("role", ["encoder", "decoder", "token_embedding"])
def test_a_missing_file_is_named(given: Folder, stage: str, role: str):
    """Half a stage is an error; nothing is built in its place."""
    path = given.token_embedding if role == "token_embedding" else given.file(stage, role)
    path.unlink()
    assert given.refused(stage) == f"{path}: the {role} file is missing or empty. Build or copy it again"


@pytest.mark.parametrize("stage", ROLES)
def test_an_empty_file_is_named(given: Folder, stage: str):
    """0 bytes: a copy that broke off at once."""
    path = given.file(stage, "decoder")
    replace(path, b"")
    assert given.refused(stage) == f"{path}: the decoder file is missing or empty. Build or copy it again"


@pytest.mark.parametrize("stage", ROLES)
def test_files_under_another_checkpoints_name_are_not_passed_over(given: Folder, stage: str):
    """What was expected and what is there; nothing is built in their place."""
    expected = [given.file(stage, role) for role in ("encoder", "decoder")]
    found = [path.rename(path.with_name(path.name.replace(given.name, "base"))) for path in expected]
    names = f"expected {expected[0].name} and {expected[1].name}, found {found[1].name}, {found[0].name}. The middle"
    assert given.refused(stage).startswith(f"{given.path}: {names}")


def test_a_folder_that_is_not_there_is_named(given: Folder):
    """Nothing is built in its place."""
    shutil.rmtree(given.path)
    assert given.refused("torchscript") == f"{given.path}: no such folder. Give the folder that holds the artifacts"


# Foreign TorchScript


class Repeats(nn.Module):
    """Loops as often as a number says that it is fed, below a branch."""

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[0] > 0:
            for _ in range(int(features.sum().item()) + 3):
                features = features + 1
        return features


class RunsAtLoad(nn.Module):
    """Has a `__setstate__`, which TorchScript calls while it loads a file."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.loaded, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.loaded = state[0] + 1
        self.training = state[1]

    def forward(self, features: Tensor) -> Tensor:
        return features + self.loaded


class WithoutForward(nn.Module):
    """Nothing to call."""

    @torch.jit.export
    def other(self, features: Tensor) -> Tensor:
        return features


class Gives(nn.Module):
    """Gives one thing, whatever it is fed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, features: Tensor) -> Any:
        shape = (1, 1500, N_STATE)
        if self.kind == "a pair":
            return features, features
        if self.kind == "another shape":
            return torch.zeros(1, N_STATE, 1500)
        return torch.zeros(shape, dtype=torch.float64 if self.kind == "float64" else torch.bfloat16)


def traced(module: nn.Module, *inputs: Tensor) -> Any:
    with modules.explicit_attention():
        return torch.jit.trace(module, inputs, check_trace=False)


FOREIGN_TORCHSCRIPT: dict[str, tuple[Callable[[], Any], str]] = {
    "loops": (lambda: torch.jit.script(Repeats()), "{path}: holds prim::Loop, which a traced Whisper does not. Trace"),
    "code at load": (
        lambda: torch.jit.script(RunsAtLoad()),
        "{path}: runs code of its own when loaded (",
    ),
    "no forward": (lambda: torch.jit.script(WithoutForward()), "{path}: not a TorchScript file ("),
    "another size": (
        lambda: traced(modules.SplitEncoder(model(n_state=128).encoder.eval()), torch.zeros(1, 80, 3000)),
        "{path}: no weight of shape [64, 80, 3] (first convolution). Is it from the given checkpoint?",
    ),
    "another size, frozen": (
        lambda: torch.jit.freeze(
            traced(modules.SplitEncoder(model(n_state=128).encoder.eval()), torch.zeros(1, 80, 3000)).eval()
        ),
        "torchscript: encoder output: expected float32 [1, 1500, 64], found float32 [1, 1500, 128]. Is this",
    ),
    "two inputs": (
        lambda: torch.jit.trace(lambda a, b: a + b, (torch.zeros(1, 80, 3000), torch.zeros(1, 80, 3000))),
        "torchscript encoder: failed on inputs [1, 80, 3000] (",
    ),
    **{
        f"gives {kind}": (
            lambda kind=kind: torch.jit.trace(Gives(kind), torch.zeros(1, 80, 3000), check_trace=False),
            said,
        )
        for kind, said in {
            "a pair": "torchscript encoder: expected one float32 tensor as output, found tuple. Trace it again",
            "another shape": "torchscript: encoder output: expected float32 [1, 1500, 64], found float32 [1, 64, 1500]",
            "float64": "torchscript encoder: expected one float32 tensor as output, found torch.float64. Trace",
            "bfloat16": "torchscript encoder: expected one float32 tensor as output, found torch.bfloat16. Trace it",
        }.items()
    },
}


def model(n_state: int = N_STATE, n_vocab: int = 51865, seed: int = 1) -> Any:
    """Another tiny Whisper than that of the checkpoint."""
    return scripted.model(scripted.dimensions(n_vocab=n_vocab, n_state=n_state), seed=seed, steps=12)


@pytest.mark.parametrize("case", FOREIGN_TORCHSCRIPT)
def test_a_foreign_torchscript_encoder_is_refused(given: Folder, case: str):
    """Whatever it is, it is bad input and no failure of this machine."""
    make, said = FOREIGN_TORCHSCRIPT[case]
    path = given.file("torchscript", "encoder")
    save(make(), path)
    assert given.refused("torchscript").startswith(said.format(path=path))


def test_a_checkpoint_is_no_torchscript_file(given: Folder, scripted_checkpoint: Path):
    """Both are called .pt."""
    path = given.file("torchscript", "encoder")
    replace(path, scripted_checkpoint.read_bytes())
    assert given.refused("torchscript").startswith(f"{path}: not a TorchScript file (")


def test_encoder_and_decoder_in_each_others_place_are_refused(given: Folder):
    """The weights tell which is which."""
    encoder, decoder = given.file("torchscript", "encoder"), given.file("torchscript", "decoder")
    encoder.rename(given.path / "swap.pt")
    decoder.rename(encoder)
    (given.path / "swap.pt").rename(decoder)
    assert given.refused("torchscript").startswith(f"{encoder}: no weight of shape [64, 80, 3] (first convolution)")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_vocab": 51864}, "torchscript: logits: expected float32 [13, 51865], found float32 [13, 51864]. Is"),
        ({"n_state": 128}, "torchscript decoder: failed on inputs [1, 448, 64], [1, 1500, 64] ("),
    ],
    ids=["another vocabulary", "another size"],
)
def test_a_decoder_of_another_model_is_refused(given: Folder, changes: dict[str, int], said: str, frozen: bool):
    """By its weights, and where a frozen file shows none, by what it does."""
    path, other = given.file("torchscript", "decoder"), model(**changes)
    _, inputs = modules.example_inputs(dims.Dims(**vars(other.dims)))
    module = traced(modules.split(other)[1], *inputs).eval()
    save(torch.jit.freeze(module) if frozen else module, path)
    weights = f"{path}: no weight of shape [51865, 64] (output projection). Is it from the given checkpoint?"
    assert given.refused("torchscript").startswith(said if frozen else weights)


@pytest.mark.parametrize("parts", [("decoder",), ("decoder", "token_embedding"), ("token_embedding",)])
def test_a_decoder_of_another_checkpoint_of_the_same_size_diverges(given: Folder, parts: tuple[str, ...]):
    """Nothing in the shapes tells them apart; the verdict does, and says where to look."""
    other = model()
    if "decoder" in parts:
        _, inputs = modules.example_inputs(dims.Dims(**vars(other.dims)))
        save(traced(modules.split(other)[1], *inputs), given.file("torchscript", "decoder"))
    if "token_embedding" in parts:
        dump(other.decoder.token_embedding.weight.detach().numpy(), given.token_embedding)
    row = given.judged("torchscript", 1)
    assert row.verdict.outcome is Outcome.DIVERGED
    assert row.verdict.reason.endswith(
        "; the encoder agrees: look at the decoder and the token embedding (of the same checkpoint?)"
    )


def test_an_encoder_of_another_checkpoint_of_the_same_size_diverges(given: Folder):
    """On the first rung: its output."""
    save(traced(modules.split(model())[0], torch.zeros(1, 80, 3000)), given.file("torchscript", "encoder"))
    row = given.judged("torchscript", 1)
    assert (row.verdict.outcome, row.verdict.rung) == (Outcome.DIVERGED, "tensor")
    assert row.verdict.reason.startswith("tensor: encoder_output SNR ")


def test_weights_that_are_not_finite_diverge(given: Folder):
    """Found, counted and located; the text that comes out of it is not compared."""
    table = np.load(given.token_embedding).copy()
    table[50258] = np.nan
    dump(table, given.token_embedding)
    row = given.judged("torchscript", 1)
    assert row.verdict.outcome is Outcome.DIVERGED
    assert "values of the candidate are NaN or infinite, first at [" in row.verdict.reason


# Foreign TFLite


def changed_graph(path: Path, change: Callable[[Any], None]) -> None:
    """Change a TFLite file by its schema, so that it stays a valid flatbuffer."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    change(graph)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(graph.Pack(builder), b"TFL3")
    replace(path, bytes(builder.Output()))


def drop_inputs(graph: Any) -> None:
    """Leave every addition without its first input: LiteRT 2.x follows a null pointer there and dies.

    Not so a RESHAPE: its kernel looks first, and whether what runs before it dies depends on the memory.
    """
    for operator in graph.subgraphs[0].operators:
        if graph.operatorCodes[operator.opcodeIndex].deprecatedBuiltinCode == 0:  # ADD
            operator.inputs = [-1, *operator.inputs[1:]]


def foreign_operator(graph: Any) -> None:
    """An operator of MediaTek's."""
    code = graph.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
    code.customCode = b"MTKEXT_LAYER_NORMALIZATION"


def half_inputs(graph: Any) -> None:
    """An input of half as many frames."""
    subgraph = graph.subgraphs[0]
    subgraph.tensors[subgraph.inputs[0]].shape = [1, 80, 1500]


def broken_name(graph: Any) -> None:
    """Names that are no UTF-8."""
    for tensor in graph.subgraphs[0].tensors:
        tensor.name = b"\xff\xfe"


BAD_GRAPHS: dict[str, tuple[Callable[[Any], None], str]] = {
    "kills the interpreter": (drop_inputs, "it kills the interpreter by signal 11). Is it complete"),
    "foreign operator": (foreign_operator, "Encountered unresolved custom op: MTKEXT_LAYER_NORMALIZATION"),
    "another window": (half_inputs, ""),
    "names that are no text": (broken_name, "'utf-8' codec can't decode"),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_a_foreign_tflite_encoder_is_refused(given: Folder, case: str):
    """A valid flatbuffer is no model yet; one that kills its interpreter does not kill the run."""
    change, said = BAD_GRAPHS[case]
    path = given.file("tflite", "encoder")
    changed_graph(path, change)
    assert given.refused("tflite").startswith(f"{path}: cannot be loaded as TFLite ({said}")


def test_tflite_encoder_and_decoder_in_each_others_place_are_refused(given: Folder):
    """Inputs and outputs are matched by name, shape and dtype: both sides are listed."""
    encoder, decoder = given.file("tflite", "encoder"), given.file("tflite", "decoder")
    encoder.unlink()
    os.link(decoder, encoder)
    reason = given.refused("tflite")
    assert reason.startswith(
        f"{encoder}: inputs do not fit: expected input_features float32 [1, 80, 3000]; the file has "
    )
    assert "float32 [1, 448, 64]" in reason
    assert reason.endswith("Convert it from this checkpoint, token lookup split out")


# Lineage


@pytest.fixture
def recorded(given: Folder, built: Path) -> Path:
    """The lineage record of the torchscript files, laid beside them again."""
    record = given.path / "torchscript.lineage.json"
    shutil.copy(built / "artifacts" / record.name, record)
    return record


def test_files_that_changed_since_they_were_built_are_refused(given: Folder, recorded: Path):
    """By their hash, whatever is in them."""
    path = given.file("torchscript", "decoder")
    replace(path, path.read_bytes() + b"\0")
    reason = given.refused("torchscript")
    assert reason.startswith(f"{path}: changed since it was built (sha256 ")
    assert reason.endswith("Build it again, or delete its lineage record to use it as an external file")


def test_files_of_another_checkpoint_are_refused_by_their_lineage(given: Folder, recorded: Path):
    """Before a number is compared; the checkpoint that they belong to is named."""
    record = json.loads(recorded.read_text("utf-8"))
    recorded.write_text(json.dumps({**record, "checkpoint": "medium", "checkpoint_sha256": "0" * 64}), "utf-8")
    reason = given.refused("torchscript")
    assert reason.startswith(f"{given.path}: the torchscript files were built from another checkpoint than ")
    assert reason.endswith("Give the checkpoint medium that they were built from, or build them again")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: "[" * 100_000,
        lambda record: json.dumps({**record, "files": []}),
        lambda record: json.dumps({**record, "files": {"encoder": {"name": "../encoder.pt"}}}),
        lambda record: json.dumps({**record, "files": {"encoder": {"name": 5}}}),
        lambda record: json.dumps({**record, "tools": 5}),
        lambda record: json.dumps({**record, "options": [1]}),
        lambda record: json.dumps({**record, "build_seconds": "long"}),
        lambda record: json.dumps({key: value for key, value in record.items() if key != "parent_sha256"}),
    ],
)
def test_a_lineage_record_that_is_none_is_refused(given: Folder, recorded: Path, spoil: Callable[[Any], str]):
    """Not JSON, not complete, of wrong types, or with a file outside the folder."""
    recorded.write_text(spoil(json.loads(recorded.read_text("utf-8"))), "utf-8")
    reason = given.refused("torchscript")
    assert reason.startswith(f"{recorded}: not a lineage record (")
    assert reason.endswith("Delete it, or build again")


def test_a_damaged_cache_is_named_and_can_be_deleted(parity, clip, tmp_path):
    """The folder that is built again once it is gone."""
    cache = tmp_path / "cache"
    words = ("run", "--language", "en", "--stages", "torchscript", "--clips", clip, "--cache", cache)
    require_no_traceback(parity("build", "--stages", "torchscript", "--cache", cache), 0)
    (decoder,) = cache.rglob("decoder_*.pt")
    replace(decoder, decoder.read_bytes()[:-1])
    require_no_traceback(parity(*words, "--run-id", "two"), 2)
    reason = rows_of(tmp_path / "reports" / "two")["warble", "torchscript"].verdict.reason
    assert reason.startswith(f"cache damaged: {decoder}: changed since it was built (sha256 ")
    assert reason.endswith(f"Delete {decoder.parent}: it is built again")
    shutil.rmtree(decoder.parent)
    require_no_traceback(parity(*words, "--run-id", "three"), 0)


def test_a_bad_artifact_is_refused_by_build_too(given: Folder):
    """`parity build --artifacts` lists what it found, or says why it cannot."""
    given.file("torchscript", "decoder").unlink()
    line = line_of(given.run("build", "--artifacts", given.path, "--stages", "torchscript"), 2)
    assert line.endswith("the decoder file is missing or empty. Build or copy it again")
