"""A Python of its own with the stand-in for mtk_converter, as MediaTek's would be beside ours."""

from __future__ import annotations

import hashlib
import sysconfig
import venv
from pathlib import Path

from tests.support.checkout import CHECKOUT

STAND_IN = CHECKOUT / "tests" / "support" / "standin_mtk"


def make(folder: Path, *, package: bool = True) -> Path:
    """Make a virtual environment, and return its interpreter.

    Args:
        folder: of the environment; must not exist.
        package: whether mtk_converter is in it.
    """
    venv.create(folder, with_pip=False)
    own = next(folder.glob("lib/python*/site-packages"))
    shared = f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})"  # with the editable install in it
    lines = [*([str(STAND_IN)] if package else []), shared, str(CHECKOUT)]
    (own / "stand-in.pth").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "bin" / "python"


def cache(folder: Path) -> Path:
    """Where artifacts of the stand-in are kept: its version never changes, so another stand-in gets another folder."""
    code = b"".join(path.read_bytes() for path in sorted(STAND_IN.rglob("*.py")))
    return folder / f"stand-in-{hashlib.sha256(code).hexdigest()[:8]}"
