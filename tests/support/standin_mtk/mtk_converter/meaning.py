"""How the stand-in reads MTKEXT ops: as this project assumes, or as MTK_STANDIN_READS (JSON) says."""

from __future__ import annotations

import json
import os

from whisper_parity.backends.tflite.mtkext.ops import Assumptions


def reading() -> Assumptions:
    """What its files mean."""
    return Assumptions(**json.loads(os.environ.get("MTK_STANDIN_READS", "{}")))
