"""The calls that a run and a build cannot do without, and nothing else: `python benchmarks/bare.py COMMAND ...`.

    forwards SPECIFICATION        each stage's model, loaded by its own library, on each clip
    build CHECKPOINT FOLDER       torch.jit.trace and LiteRT's converter on both halves
    pass CHECKPOINT THREADS       wall seconds of one encoder and decoder pass of openai-whisper's model

No file of this project is imported before torch, so that its threads wait as they do by default, unless the environment
says otherwise. The answer is one JSON line: {"imports": [wall, cpu], "loading": ..., "pytorch": ...}, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMES: dict[str, list[float]] = {}


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the wall and processor time of the block to what is known by a name."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    taken = TIMES.setdefault(name, [0.0, 0.0])
    taken[0] += time.perf_counter() - wall
    taken[1] += time.process_time() - cpu


def forwards(path: str) -> None:
    """Every stage of a specification, one after the other; what is fed is ready before the clock starts."""
    import numpy as np

    specification = json.loads(Path(path).read_text("utf-8"))
    clips = [np.load(name) for name in specification["clips"]]
    with timed("imports"):
        import torch
        import whisper
        from ai_edge_litert.interpreter import Interpreter
    threads = specification["threads"]
    torch.set_num_threads(threads)
    with torch.no_grad():
        _checkpoint(specification, clips, whisper, torch)
        _torchscript(specification["torchscript"], clips, torch)
    _tflite(specification["tflite"], clips, lambda file: Interpreter(model_path=file, num_threads=threads))


def _checkpoint(specification: dict[str, Any], clips: list[Any], whisper: Any, torch: Any) -> None:
    with timed("loading"):
        model = whisper.load_model(specification["checkpoint"], device="cpu").eval()
    for clip in clips:
        with timed("whisper"):
            torch.manual_seed(0)
            model.transcribe(clip["samples"], language=str(clip["language"]), fp16=False, verbose=None)
        with timed("pytorch"):
            for features, tokens in zip(clip["features"], clip["tokens"]):
                model.decoder(torch.from_numpy(tokens[None]), model.encoder(torch.from_numpy(features)))


def _torchscript(files: dict[str, str], clips: list[Any], torch: Any) -> None:
    with timed("loading"):
        encoder, decoder = (torch.jit.load(files[role]).eval() for role in ("encoder", "decoder"))
    for clip in clips:
        for features, embeddings in zip(clip["features"], clip["embeddings"]):
            with timed("torchscript"):
                decoder(torch.from_numpy(embeddings), encoder(torch.from_numpy(features)))


def _tflite(files: dict[str, str], clips: list[Any], load: Any) -> None:
    with timed("loading"):
        encoder, decoder = (load(files[role]) for role in ("encoder", "decoder"))
        encoder.allocate_tensors()
        decoder.allocate_tensors()
    for clip in clips:
        for features, embeddings in zip(clip["features"], clip["embeddings"]):
            with timed("tflite"):
                _invoke(encoder, [features])
                output = encoder.get_tensor(encoder.get_output_details()[0]["index"])
                _invoke(decoder, [embeddings, output])


def _invoke(interpreter: Any, arrays: list[Any]) -> None:
    for array in arrays:
        index = next(d["index"] for d in interpreter.get_input_details() if tuple(d["shape"]) == array.shape)
        interpreter.set_tensor(index, array)
    interpreter.invoke()


def build(checkpoint: str, folder: str) -> None:
    """Both halves by both converters, and the token embedding."""
    with timed("imports"):
        import litert_torch
        import numpy as np
        import torch

        from whisper_parity.backends.split import modules
        from whisper_parity.model.dims import Dims
    with timed("loading"):
        model = modules.load_model(Path(checkpoint))
    out, dims = Path(folder), Dims(**vars(model.dims))
    for role, module, inputs in zip(("encoder", "decoder"), modules.split(model), modules.example_inputs(dims)):
        with modules.explicit_attention():
            with timed("torchscript"):
                torch.jit.trace(module, inputs, check_trace=False).save(str(out / f"{role}.pt"))
            with timed("tflite"):
                litert_torch.convert(module, inputs).export(str(out / f"{role}.tflite"))
    with timed("embedding"):
        np.save(out / "token_embedding.npy", model.decoder.token_embedding.weight.detach().numpy())


def one_pass(checkpoint: str, threads: str) -> None:
    """The median of three passes, after one that is not counted."""
    import torch
    import whisper

    torch.set_num_threads(int(threads))
    model = whisper.load_model(checkpoint, device="cpu").eval()
    features, tokens = torch.zeros(1, model.dims.n_mels, 3000), torch.zeros(1, model.dims.n_text_ctx, dtype=torch.long)
    with torch.no_grad():
        for name in ("first", "a", "b", "c"):
            with timed(name):
                model.decoder(tokens, model.encoder(features))
    TIMES["pass"] = sorted(TIMES[name] for name in ("a", "b", "c"))[1]


if __name__ == "__main__":
    {"forwards": forwards, "build": build, "pass": one_pass}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(TIMES))
