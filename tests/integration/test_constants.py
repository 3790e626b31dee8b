"""What TorchScript files hold is read from their records, and nothing in them runs."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from whisper_parity.backends.torchscript import constants, pickled
from whisper_parity.errors import ArtifactError


class Small(nn.Module):
    """A linear layer, a buffer that is a view, a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 2).half().float()])
        self.register_buffer("table", torch.arange(12.0).reshape(3, 4).T)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Both layers."""
        hidden = values @ self.table
        return self.layers[1](hidden + self.layers[0](values))


def saved(path: Path, *, frozen: bool = False) -> Small:
    module = Small().eval()
    traced = torch.jit.trace(module, torch.zeros(1, 4))
    (torch.jit.freeze(traced) if frozen else traced).save(str(path))
    return module


def test_parameters_and_buffers_are_those_of_torch(tmp_path):
    """By their paths, strides and all."""
    module = saved(tmp_path / "small.pt")
    held = {constant.key: constant for constant in constants.read(tmp_path / "small.pt")}
    for name, values in module.state_dict().items():
        assert np.array_equal(held[name].values(), values.numpy())
        assert held[name].names == (name,)


def test_constants_of_a_frozen_file_have_an_order(tmp_path):
    """They have no names; the code says in which order they are taken."""
    module = saved(tmp_path / "small.pt", frozen=True)
    held = [constant for constant in constants.read(tmp_path / "small.pt") if constant.stored.size > 1]
    wanted = [values.numpy() for values in module.state_dict().values()]
    assert all(any(np.array_equal(one.values().ravel(), w.ravel()) or np.array_equal(one.values(), w.T) for w in wanted)
               for one in held)  # fmt: skip
    assert sorted(constant.order for constant in held if constant.order is not None) == sorted(
        {constant.order for constant in held if constant.order is not None}
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_read(tmp_path, kind):
    """bfloat16 has no type in numpy."""
    module = nn.Linear(3, 2).to(kind)
    torch.jit.trace(module, torch.zeros(1, 3, dtype=kind)).save(str(tmp_path / "linear.pt"))
    (weight,) = [entry for entry in constants.read(tmp_path / "linear.pt") if entry.key == "weight"]
    assert np.array_equal(weight.values(), module.weight.detach().float().numpy())


class Runs:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.path,)


def with_state(path: Path, content: bytes) -> Path:
    """A file whose data.pkl is other bytes."""
    saved(path)
    with zipfile.ZipFile(path) as archive:
        records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else record)
    return path


def test_a_pickle_that_would_make_a_folder_makes_none(tmp_path):
    """Names are never looked up."""
    path = with_state(tmp_path / "small.pt", pickle.dumps({"a": Runs(tmp_path / "made")}, protocol=2))
    constants.read(path)
    assert not (tmp_path / "made").exists()


HOSTILE = {
    "no pickle": b"weights",
    "cut": pickle.dumps({"a": [1, 2, 3]}, protocol=2)[:-3],
    "takes more than it has": b"\x80\x02R.",
    "a mark that is not there": b"\x80\x02t.",
    "a name of an extension": b"\x80\x02\x82\x01.",
    "a tuple as a key": b"\x80\x02})K\x01s.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_state_is_refused(tmp_path, case):
    """One line, and no traceback."""
    with pytest.raises(ArtifactError, match="not a TorchScript file"):
        constants.read(with_state(tmp_path / "small.pt", HOSTILE[case]))


def test_a_tensor_that_leaves_its_record_is_refused(tmp_path):
    """Strides and sizes are held against the record's length."""
    saved(tmp_path / "small.pt")
    with zipfile.ZipFile(tmp_path / "small.pt") as archive:
        state = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    larger = state.replace(b"K\x04K\x03\x86", b"K\x40K\x03\x86").replace(b"(K\x03K\x04t", b"(K\x7fK\x04t")
    assert larger != state
    with pytest.raises(ArtifactError, match="leaves its record"):
        constants.read(with_state(tmp_path / "other.pt", larger))


def test_a_tensor_that_repeats_one_number_too_often_is_refused(tmp_path):
    """A stride of zero is a view; one of a thousand million numbers is none."""
    saved(tmp_path / "small.pt")
    with zipfile.ZipFile(tmp_path / "small.pt") as archive:
        state = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    size = b"J" + (10**9).to_bytes(4, "little")
    larger = state.replace(b"(K\x03K\x04t(K\x04K\x01t", b"(" + size + b"K\x04t(K\x00K\x01t")
    assert larger != state
    with pytest.raises(ArtifactError, match="more bytes than the file can hold"):
        constants.read(with_state(tmp_path / "other.pt", larger))


def test_shared_parts_are_walked_once():
    """Lists of lists of lists that are all the same ones are as large as they are written."""
    nested = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([n + 1]) + b"(" + (b"h" + bytes([n])) * 9 + b"e" for n in range(200)
    )
    assert list(constants._tensors(pickled.read(nested + b"."))) == []
