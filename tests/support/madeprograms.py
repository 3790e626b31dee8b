"""Programs made of the reference: its own halves with one thing done otherwise, as a trace with an account."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from whisper_parity.backend.account import ENCODER_OUTPUT, FEATURES, Account, AccountWindow, tensor_name
from whisper_parity.clips.clip import Clip
from whisper_parity.decode.loop import decode
from whisper_parity.explain import feeds
from whisper_parity.explain.bench import Bench
from whisper_parity.run.plan import Plan
from whisper_parity.trace.trace import Trace

PROMPT, TOKENS = "prompt", "tokens"
ALL = (FEATURES, ENCODER_OUTPUT, PROMPT, TOKENS)
Change = Callable[[np.ndarray], np.ndarray]


def same(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True)
class Program:
    """What a program does otherwise, and what it shows of itself."""

    front_end: Change = same
    encoder: Change = same
    decoder: Change = same
    """What its decoder makes of the encoder output."""
    prompt: tuple[int, ...] | None = None
    """None for the run's."""
    said: Callable[[str], str] = same  # type: ignore[assignment]
    """What its detokeniser makes of the text."""
    ends: Callable[[tuple[int, ...]], tuple[int, ...]] = same  # type: ignore[assignment]
    """What its loop makes of the tokens."""
    shows: tuple[str, ...] = ALL

    def trace(self, bench: Bench, stage: str, clip: Clip) -> Trace:
        """Its trace, in place of a stage's."""
        root = bench.trace("pytorch", clip)
        fed = feeds.feeder(bench, root, Trace(replace(root.header, account=Account("", ())), ()))
        prompt = self.prompt or fed.plan.prompt
        plan = feeds.prompted(fed.plan, prompt, fed.n_vocab)
        windows, tensors, said = [], {}, []
        for index, window in enumerate(bench.features(clip, "pytorch").windows):
            features = self.front_end(window.input_features).astype(np.float32)
            output = self.encoder(fed.session.encode(features)).astype(np.float32)
            decoded = decode(fed.session, plan, self.decoder(output).astype(np.float32), ())
            tokens = self.ends((*decoded.tokens, fed.plan.eot))
            said.append(tokens)
            tensors |= {tensor_name(FEATURES, index): features, tensor_name(ENCODER_OUTPUT, index): output}
            names = {"prompt": prompt, "tokens": tokens}
            shown = {name: value for name, value in names.items() if name in self.shows}
            windows.append(AccountWindow(**shown, ended="eot" if tokens[-1] == fed.plan.eot else ""))
        text = self.said(feeds.text(tuple(said), fed.n_vocab))
        account = Account(text, tuple(windows))
        spoken = tuple(token for tokens in said for token in tokens if token < fed.plan.eot)
        known = spoken if account.names_tokens else ()
        words = {"text": text, "tokens": known, "timestamped_tokens": account.tokens}
        header = replace(root.header, stage=stage, windows=(), account=account, segments=(), **words)
        return Trace(header, (), {name: value for name, value in tensors.items() if name.split(".")[0] in self.shows})


class Benched(Bench):
    """A run in which a stage's trace is a program's."""

    def __init__(self, plan: Plan, stack: ExitStack, stage: str, program: Program) -> None:
        super().__init__(plan, stack)
        self._stage = stage
        self._program: Trace | None = None
        self._program = program.trace(self, stage, plan.clips[0])

    def trace(self, spec: str, clip: Clip) -> Trace:
        return self._program if spec == self._stage and self._program else super().trace(spec, clip)
