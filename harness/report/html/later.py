"""What the page shows on demand: the clips that pass, packed, so that a thousand of them delay no first paint."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

TOGETHER = 24
"""Clips in a pack: they share most of their words, and opening one unpacks no more than these."""
RAW = -15
"""zlib's window bits for a stream without header, which browsers call "deflate-raw"."""


def packed(bodies: Mapping[str, str]) -> dict[str, Any]:
    """Markup by anchor, as the page's script reads it: {"at": anchor -> number of its pack, "packs": base64 of each}.

    Args:
        bodies: by the anchor of their clip; every text in them is escaped.
    """
    entries = iter(bodies.items())
    packs = [dict(pack) for pack in iter(lambda: list(islice(entries, TOGETHER)), [])]
    return {
        "at": {anchor: number for number, pack in enumerate(packs) for anchor in pack},
        "packs": [_packed(pack) for pack in packs],
        "sounds": {},
    }


def _packed(pack: Mapping[str, str]) -> str:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, RAW)
    squeezed = squeezer.compress(json.dumps(pack, ensure_ascii=False).encode()) + squeezer.flush()
    return base64.b64encode(squeezed).decode()
