"""What common gates say of two traces: equal texts, `torch.testing.assert_close`'s criterion, a PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from whisper_parity.backend.contract import Float32
from whisper_parity.run.plan import Plan
from whisper_parity.run.traces import Traces
from whisper_parity.trace.trace import Trace

GATES = ("texts equal", "assert_close 1e-5", "assert_close 1e-3", "PSNR above 35 dB")
PSNR_DB = 35.0


def alarms(plan: Plan, traces: Traces, spec: str) -> tuple[bool, ...]:
    """Whether each of GATES raises an alarm at a stage, on any clip of a run."""
    pairs = [(traces.get(plan.root, clip), traces.get(spec, clip)) for clip in plan.clips]
    return tuple(any(gate(r, c) for r, c in pairs) for gate in (_texts, _close(1e-5), _close(1e-3), _psnr))


def _texts(reference: Trace, candidate: Trace) -> bool:
    return reference.header.text != candidate.header.text


def _close(tolerance: float):
    def alarm(reference: Trace, candidate: Trace) -> bool:
        pairs = _tensors(reference, candidate)
        return not all(np.allclose(c, r, rtol=tolerance, atol=tolerance) for r, c in pairs)

    return alarm


def _psnr(reference: Trace, candidate: Trace) -> bool:
    """20 log10(largest magnitude of the reference / rmse), not above 35 dB."""
    for r, c in _tensors(reference, candidate):
        rmse = float(np.sqrt(np.mean((r.astype(np.float64) - c) ** 2)))
        if not math.isfinite(rmse) or (rmse and 20 * math.log10(float(np.abs(r).max()) / rmse) <= PSNR_DB):
            return True
    return False


def _tensors(reference: Trace, candidate: Trace) -> Iterator[tuple[Float32, Float32]]:
    for r, c in zip(reference.windows, candidate.windows):
        yield r.encoder_output, c.encoder_output
        yield r.teacher_forced.logits, c.teacher_forced.logits
