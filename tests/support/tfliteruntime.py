"""A Python with tflite-runtime, numpy < 2 and nothing heavy: what a small machine beside a device has."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest

from whisper_parity.system.files import locked

PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "filelock", "click", "platformdirs")


def interpreter(cache_dir: Path) -> Path:
    """Its path; the environment is made once and kept between sessions."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14.0 has no wheel for Python 3.12")
    folder = cache_dir / "tflite-runtime-venv-5"
    with locked(cache_dir / f".{folder.name}.lock"):
        if not (folder / ".done").is_file():
            _make(folder)
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    venv.create(folder, with_pip=True, clear=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"tflite-runtime cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    _install_this_package(folder)
    (folder / ".done").touch()


def _install_this_package(folder: Path) -> None:
    """As it is installed here, without what it depends on."""
    target = next(folder.glob("lib/python*/site-packages"))
    (distribution,) = metadata.distributions(name="whisper-parity", path=[sysconfig.get_paths()["purelib"]])
    for file in distribution.files or ():
        source, copy = Path(str(file.locate())), target / file
        if source.is_file() and not str(file).startswith(".."):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
