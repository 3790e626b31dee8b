"""Compiling: what counts as a success, and what a failure says. The tool is a stand-in, or a shell script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whisper_parity.backends.dla import compiler, settings
from whisper_parity.backends.dla.compiler import Compiler
from whisper_parity.backends.dla.simulator import container
from whisper_parity.errors import BuildError, UnavailableError
from whisper_parity.system import landlock


@pytest.fixture(scope="module")
def source(parity_in, scripted_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real TFLite decoder."""
    folder = tmp_path_factory.mktemp("source")
    found = parity_in(folder)("build", "--stages", "tflite", "--out", folder)
    assert found.exit_code == 0, found.output
    return next(folder.glob("encoder_*.tflite"))


@pytest.fixture
def stand_in() -> Compiler:
    """The simulator's compiler."""
    return compiler.find(settings.read({}), simulated=True)


def script(folder: Path, text: str) -> Path:
    """A tool of our own making."""
    path = folder / "ncc-tflite"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("foreign", [False, True])
def test_the_stand_in_halves_the_weights_and_says_what_it_is(
    stand_in: Compiler, source: Path, tmp_path: Path, foreign: bool
):
    """A container with the metadata of a real file; its name says that nothing was compiled."""
    out, site = tmp_path / "encoder.dla", settings.read({})
    done = compiler.compile_file(stand_in, source, out, site.compile_flags("encoder"), site, foreign=foreign)
    header, model = container.read(out.read_bytes())
    assert "stand-in" in stand_in.version
    assert (done.targets, header.targets, header.arch) == (("MDLA_5_3",), ("MDLA_5_3",), "mdla5.3,edma3.6")
    assert [tensor.shape for tensor in header.inputs] == [(1, 80, 3000)]
    assert len(model) < 0.9 * source.stat().st_size
    assert done.command.endswith(f"-o {out.name}")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fail", r"exit code 1 and wrote no file: OP\[12\]: GELU unsupported operation \| ERROR: NEURON_UNMAPPABLE"),
        ("no_output", r"exit code 0 and wrote no file"),
        ("cpu_target", r"not all of it runs on the MDLA: CPU"),
        ("crash", r"exit code -11"),
    ],
)
def test_each_way_of_failing_is_a_build_error(
    stand_in: Compiler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
):
    """With the tool's own last lines; a file that lay there before counts for nothing."""
    monkeypatch.setenv("PARITY_SIM_NCC_FAULT", fault)
    out = tmp_path / "encoder.dla"
    out.write_bytes(b"of yesterday")
    with pytest.raises(BuildError, match=message):
        compiler.compile_file(stand_in, source, out, ("--arch=mdla5.3",), settings.read({}))
    if fault != "cpu_target":
        assert not out.exists()


def test_a_compiler_that_hangs_is_stopped(
    stand_in: Compiler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At the limit of the settings."""
    monkeypatch.setenv("PARITY_SIM_NCC_FAULT", "hang")
    with pytest.raises(BuildError, match=r"took more than 2 s\. Raise compile_limit_s"):
        compiler.compile_file(stand_in, source, tmp_path / "x.dla", (), settings.read({"compile_limit_s": 2}))


def test_a_tool_that_prints_no_plan_is_refused_unless_the_site_says_otherwise(source: Path, tmp_path: Path):
    """Nobody knows where such a file would run."""
    tool = script(tmp_path, 'case "$1" in --version) echo "Version: 8.2.31";; *) echo compiled; cp "$1" "$OUT";; esac')
    out = tmp_path / "encoder.dla"
    made = Compiler((str(tool),), {"OUT": str(out)}, "8.2.31")
    with pytest.raises(BuildError, match=r'no execution plan .compiled.\. Set exec_plan = "ignored"'):
        compiler.compile_file(made, source, out, (), settings.read({}))
    assert compiler.compile_file(made, source, out, (), settings.read({"exec_plan": "ignored"})).targets == ()


def test_a_configured_sdk_is_found_by_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """<sdk>/host/bin/ncc-tflite with <sdk>/host/lib, and no other variable changed."""
    (tmp_path / "host/bin").mkdir(parents=True)
    script(tmp_path / "host/bin", 'echo "Version: 8.2.31 $LD_LIBRARY_PATH"')
    monkeypatch.setenv("MTK_NEURON_SDK", str(tmp_path))
    found = compiler.find(settings.read({}), simulated=False)
    assert found.version == f"Version: 8.2.31 {tmp_path}/host/lib"


def test_no_sdk_and_a_broken_one_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each says what to set."""
    monkeypatch.delenv("MTK_NEURON_SDK", raising=False)
    with pytest.raises(UnavailableError, match="no Neuron SDK is configured"):
        compiler.find(settings.read({}), simulated=False)
    with pytest.raises(UnavailableError, match="no such compiler"):
        compiler.find(settings.read({"sdk": str(tmp_path)}), simulated=False)
    broken = tmp_path / "ncc-tflite"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    with pytest.raises(UnavailableError, match="cannot be run here"):
        compiler.find(settings.read({"ncc": str(broken)}), simulated=False)


def test_command_version_plan_and_time_are_in_the_lineage(parity, tmp_path: Path):
    """`parity build --stages dla:simulated` writes them beside the files, under the names that users have."""
    found = parity("build", "--stages", "dla:simulated", "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = next(name for name in names if name.startswith("encoder_")).removeprefix("encoder_").partition("_80x3000")[0]
    assert names == sorted(
        [
            f"encoder_{stem}_80x3000_MT8371_simulated.dla",
            f"decoder_{stem}_448_MT8371_simulated.dla",
            f"compilation_{stem}_MT8371_simulated.json",
            "dla-simulated.lineage.json",
            "token_embedding.npy",
        ]
    )
    record = json.loads((tmp_path / "out" / f"compilation_{stem}_MT8371_simulated.json").read_text())
    assert "stand-in" in record["compiler"]
    assert record["encoder"]["targets"] == ["MDLA_5_3"]
    assert "--relax-fp32" in record["decoder"]["command"]
    lineage = json.loads((tmp_path / "out/dla-simulated.lineage.json").read_text())
    assert lineage["tools"]["encoder flags"].startswith("--arch=mdla5.3,edma3.6")


def test_without_an_sdk_the_stage_is_a_visible_row_with_a_reason(parity, clip: Path):
    """Never a pass, never silent; the other stages are judged."""
    found = parity("run", "--stages", "pytorch,tflite,dla", "--clips", clip)
    assert found.exit_code == 3
    assert "no Neuron SDK is configured" in found.output
    assert "pass" in found.output


@pytest.mark.parametrize(
    "data",
    [b"", b"SIMDLA01", b"SIMDLA01\xff\xff\xff\xff", b"SIMDLA01\x02\0\0\0[]", b"SIMDLA01\x02\0\0\0{}", b"TFL3" * 100],
)
def test_other_bytes_are_no_container(data: bytes):
    """BAD_DATA, as the runtime says of a foreign file."""
    with pytest.raises(ValueError, match="BAD_DATA"):
        container.read(data)


def test_on_a_file_of_others_a_compiler_writes_beside_its_target_only(source: Path, tmp_path: Path):
    """Whatever the file made it do; what the SDK needs reaches it."""
    if landlock.version() == 0:
        pytest.skip("this kernel has no Landlock")
    out = tmp_path / "out" / "x.dla"
    out.parent.mkdir()
    command = script(tmp_path, f'echo "$SDK" > "$TMPDIR/said"; echo x > {tmp_path}/elsewhere; exit 3')
    made = Compiler((str(command),), {"SDK": "its libraries"}, "1")
    with pytest.raises(BuildError, match="exit code 3"):
        compiler.compile_file(made, source, out, (), settings.read({}), foreign=True)
    assert (out.parent / "said").read_text("utf-8") == "its libraries\n"
    assert not (tmp_path / "elsewhere").exists()
