"""A KV cache kept wrongly on the device is caught there, and its cause is named; a sound one raises no alarm.

The files are those of the original project's layout, of the small reference of `test_cache_faults`; the runner is told
their layout as data, and keeps the cache wrongly where it is told wrongly.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.meta.test_cache_faults import reference
from tests.support.steppeddla import Slotted, Steps, files, stepping_on
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import stepform
from whisper_parity.backends.dla.sessions.stepwise import LayOut
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.tflite import ports
from whisper_parity.backends.tflite.litert import convert
from whisper_parity.errors import BuildError, UnavailableError
from whisper_parity.model.dims import Dims
from whisper_parity.run import cache_checks
from whisper_parity.run.report import CacheFault


@pytest.fixture(scope="module")
def runner_built() -> None:
    """The runner and its runtime, compiled before anything else is done."""
    try:
        native.runner()
        native.stand_in_runtime("both")
    except (BuildError, UnavailableError) as error:
        pytest.skip(f"no runner can be built here: {error}")


@pytest.fixture(scope="module")
def converted(runner_built: None, cache_dir: Path) -> tuple[dict[str, Path], Dims]:
    """TFLite of the reference's two halves, the decoder with a cache of 64 slots."""
    model = reference()._model
    weights = hashlib.sha256(b"".join(one.numpy().tobytes() for one in model.state_dict().values())).hexdigest()[:12]
    folder = cache_dir / f"small-cached-{weights}"
    source = folder / "small.pt"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, source)
    found = {role: folder / f"{role}.tflite" for role in ("encoder", "decoder")}
    if not all(path.is_file() for path in found.values()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            convert.convert("encoder", source, found["encoder"], float("-inf"))
            convert.convert_cached(source, found["decoder"], cached_cross=True)
    return found, Dims(**vars(model.dims))


@pytest.fixture(scope="module")
def steps(converted: tuple[dict[str, Path], Dims], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """One runner for all faults: it is told its layout anew for each."""
    paths, dims = converted
    fitted = ports.stepped(paths, layouts.shipped(), dims, Choices())
    assert isinstance(fitted, Fitted)
    folder = tmp_path_factory.mktemp("device-cache")
    models = files(folder, fitted, dims, models=[paths[role].read_bytes() for role in ("encoder", "decoder")])
    with stepping_on(models, env={}) as session:
        yield Steps(session, fitted)


def checked(steps: Steps, form: LayOut, *, is_whole: bool = False) -> tuple[CacheFault, ...]:
    """What the checks of a cache say of a runner that was told this."""
    decoder = reference()._model.decoder
    tables = {
        "token": decoder.token_embedding.weight.detach().numpy(),
        "position": decoder.positional_embedding.detach().numpy(),
    }
    if form.words[1] == stepform.POSITIONS.index("none"):
        del tables["position"]
    steps.tell(form)
    features = np.random.default_rng(1).standard_normal((1, 8, 48)).astype(np.float32)
    return cache_checks.faults(Slotted(steps, tables), reference(), features, is_whole=is_whole)


def of_role(form: LayOut, role: str, **changes: Any) -> LayOut:
    """A layout with one tensor of the decoder told otherwise."""
    number = stepform.ROLES.index(role)
    sides = tuple(tuple(replace(one, **changes) if one.role == number else one for one in side) for side in form.sides)
    return replace(form, sides=(*form.sides[:2], *sides[2:]))  # type: ignore[arg-type]


def swapped(form: LayOut) -> LayOut:
    """New keys go where values are kept, and new values where keys are."""
    keys, values = (next(one for one in form.sides[3] if one.role == number) for number in (11, 12))
    return of_role(of_role(form, "new_keys", handle=values.handle), "new_values", handle=keys.handle)


def heads_mixed(form: LayOut) -> LayOut:
    """The two layers' rows read as if heads came last."""
    return of_role(form, "new_keys", axes=((2, 32), (8, 1), (4, 8)))


FAULTS: dict[str, tuple[Callable[[LayOut], LayOut], str]] = {
    "keys for values": (swapped, "keys and values swapped"),
    "nothing closed": (lambda form: replace(form, mask_closed=0.0), "a mask that closes nothing"),
    "everything closed": (lambda form: replace(form, mask_open=-1e9, mask_closed=0.0), ""),
    "no position": (lambda form: replace(form, words=(0, 0, *form.words[2:])), "no position row"),
    "slots before layers": (lambda form: of_role(form, "past_keys", axes=((2, 32), (64, 64), (32, 1))), ""),
    "numbers of a row mixed": (heads_mixed, ""),
}
"""What the runner is told, and the cause that is named; "" where it is none of the known ones."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_cache_kept_wrongly_on_the_device_is_caught(steps: Steps, name: str):
    change, cause = FAULTS[name]
    first, *_ = checked(steps, change(stepform.of(steps.fitted)))
    assert first.fails, first.sentence
    assert (first.kind == cause) or not cause, first.sentence


def test_a_sound_cache_on_the_device_raises_no_alarm(steps: Steps):
    """In half precision at each border, up to the limit of context and one token behind it."""
    found = checked(steps, stepform.of(steps.fitted), is_whole=True)
    assert not any(fault.fails for fault in found), [fault.sentence for fault in found]
    assert [fault.kind for fault in found] == ["dead input", "dead input"]
