"""The flow from a clip to a verdict; it knows no representation (see docs/concepts.md)."""

from whisper_parity.system import heap as _heap  # noqa: F401 - before the first tensor
from whisper_parity.system import waiting as _waiting  # noqa: F401 - before any runtime starts threads
