"""Stand-ins of the tests for programs that we do not have: scripts that print and write what the real ones do.

The lines of the MTK_model_zoo programs are those of their documented output; whisper-cli's are its JSON's.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from whisper_parity.clips import features

TOKENS = (2221, 13, 2326, 388, 391)
"""Of " Mr. Quilter"."""
TEXT = " Mr. Quilter"
PROMPT = (50258, 50259, 50359, 50363)
EOT = 50257
MODEL = {"type": "base", "vocab": 51865}
RULE = "=" * 40
LIMIT = "[WARN] Reached max cache length (448)"


def kv_output(text: str = TEXT, tokens: tuple[int, ...] = (*TOKENS, EOT), *, end: str = "eot") -> str:
    """stdout of the KV-cache program with WHISPER_DEBUG=1."""
    ended = f"[INFO] EOT token detected after {len(tokens) - 1} tokens" if end == "eot" else LIMIT
    steps = [f"[DEBUG] Iteration {i}: next_token={token}, logit_value=17.1234" for i, token in enumerate(tokens)]
    return "\n".join(
        [
            RULE, "  Whisper KV Cache Test", RULE,
            "[CONFIG] Model dir: .", "=== Initialization ===", "[INFO] DLA file size: 40.1 MB",
            "[INFO]   Added input 0: shape [1,80,3000], size=960000 bytes", "=== Inference ===",
            "[INFO] Running inference on: sound.wav", "[INFO] Loaded audio: 93680 samples (5.855s)",
            "[INFO] Computed mel spectrogram: [80 x 3000]", "[DEBUG] Mel spec first 10 values: 0.1 0.2",
            "[INFO] Running encoder...", "[INFO] Encoder output shape: [1, 1500, 512]",
            "[INFO] Language: en (token=50259)", f"[INFO] Initial tokens: [{', '.join(map(str, PROMPT))}]",
            "[INFO] Phase 1: ...", "[INFO] Phase 2: ... (max 444)", *steps, ended,
            f"[INFO] Decoder generated {len(tokens) - 1} tokens in {len(tokens) + 3} total iterations",
            "[PERF] Decoder breakdown: total 900 ms", RULE,
            "  Recognition Result", RULE, text,
            RULE, "[INFO] Inference completed in 988 ms (RTF: 0.168x)",
            "[INFO] Done!", "[INFO] Whisper Inference released", "",
        ]
    )  # fmt: skip


def fixed_output(text: str = TEXT) -> str:
    """stdout of the program with a decoder of fixed shape: no token ids."""
    return (
        f"[INFO] Language: en (token=50259)\n[INFO] Initial tokens: [50258, 50259, 50359, 50363]\n"
        f'[INFO] Result: "{text}"\n=== Result ===\nRecognized text: "{text}"\n'
    )


def whisper_cli_json(text: str = TEXT, tokens: tuple[int, ...] = TOKENS) -> str:
    """The file that `whisper-cli -ojf` writes."""
    items = [{"text": "[_BEG_]", "id": 50364, "p": 0.9}, *({"text": "x", "id": token, "p": 0.9} for token in tokens)]
    segment = {"timestamps": {"from": "00:00:00,000", "to": "00:00:02,000"}, "offsets": {"from": 0, "to": 2000},
               "text": text, "tokens": items}  # fmt: skip
    return json.dumps({"model": MODEL, "result": {"language": "en"}, "transcription": [segment]})


def script(
    path: Path, stdout: str | bytes, *, stderr: str = "", code: int = 0, files: dict[str, bytes] | None = None,
    before: str = "",
) -> Path:  # fmt: skip
    """A program that prints bytes, writes files into its working folder, and ends; it refuses to run without a WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.parent / f"{path.name}-data"
    data.mkdir()
    contents = {"stdout": stdout.encode() if isinstance(stdout, str) else stdout, "stderr": stderr.encode()}
    for name, content in {**contents, **(files or {})}.items():
        (data / name).write_bytes(content)
    copies = "".join(f'cat "{data / name}" > {name}\n' for name in files or {})
    path.write_text(
        f'#!/bin/sh\n# A stand-in of the tests: it recognises nothing.\n[ -s sound.wav ] || exit 66\n{before}\n'
        f'cat "{data / "stdout"}"\ncat "{data / "stderr"}" >&2\n{copies}exit {code}\n'
    )  # fmt: skip
    path.chmod(0o755)
    return path


def padded_spectrogram(sound: Path, n_mels: int = 80) -> np.ndarray:
    """Whisper's log-mel with zeros where the audio has ended: what the front end of these programs makes."""
    window = features.compute(sound, n_mels).windows[0].input_features[0].copy()
    n_samples = len(features_audio(sound))
    window[:, n_samples // 160 :] = 0.0
    return window


def features_audio(sound: Path) -> np.ndarray:
    """Samples of a sound."""
    from whisper_parity.clips import audio

    return audio.read(sound).pcm


def path_of(path: Path, body: str) -> Path:
    """A script of its own."""
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)
    return path


if __name__ == "__main__":  # for docs/app.md: a folder of outputs that somebody sent, and the sound that they are of
    import sys

    from tests.support import sound

    sent, clip = map(Path, sys.argv[1:])
    (sent / clip.stem).mkdir(parents=True)
    (sent / clip.stem / "stdout").write_text(kv_output())
    clip.parent.mkdir(exist_ok=True)
    sound.write_wav(clip, sound.warble(1.0))
