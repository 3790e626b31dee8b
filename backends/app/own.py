"""Our own program, `parity-whisper`: the folder that it reads, its binary for a device, the rules of a policy."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backends.app.description import Description
from whisper_parity.backends.app.job import Job
from whisper_parity.backends.app.running import Rules
from whisper_parity.backends.dla import app_tables, native, steps
from whisper_parity.backends.dla.app_tables import Artifacts
from whisper_parity.backends.dla.link.device import Facts
from whisper_parity.backends.dla.sessions.resident import target_of
from whisper_parity.backends.dla.settings import Settings as Site
from whisper_parity.backends.split.embedding import link_or_copy
from whisper_parity.decode import policy
from whisper_parity.decode.policy import Policy
from whisper_parity.model.dims import Dims

TABLES = {"model": app_tables.MODEL, "mel_filters": app_tables.FILTERS, "vocabulary": app_tables.VOCABULARY}
"""Files that are written, by role."""
HALVES = ("encoder", "decoder", "token_embedding")
POSITIONS = "position_embedding"


def halves(roles: Collection[str]) -> tuple[str, ...]:
    """Roles of the stage's files that the program reads: a decoder with a KV cache has a table more."""
    return (*HALVES, POSITIONS) if POSITIONS in roles else HALVES


def write(parent: Artifact, out: Path, site: Site) -> None:
    """The files of the stage in front, and the tables that the program needs beside them.

    Args:
        parent: the files.
        out: folder to write into.
        site: settings of the devices, with layouts of decoders with a KV cache.

    Raises:
        OutputError: the folder cannot be written.
        ArtifactError: a decoder with a KV cache in no layout, or a record of one that is damaged.
    """
    for role in halves(parent.files):
        link_or_copy(parent.path(role), out / parent.files[role].name)
    write_tables(parent, out, site)


def write_tables(artifact: Artifact, out: Path, site: Site) -> None:
    """model.json, mel filters and vocabulary for an artifact's files.

    Raises:
        OutputError, ArtifactError: see `write`.
    """
    encoder, decoder, table = (artifact.files[role].name for role in HALVES)
    names = Artifacts(encoder, decoder, table)
    if POSITIONS in artifact.files:
        fitted = steps.of_files(artifact, site)
        names = replace(names, position_embedding=artifact.files[POSITIONS].name, fitted=fitted)
    app_tables.write(out, artifact.checkpoint.dims, names)


@contextmanager
def prepared(artifact: Artifact, job: Job, site: Site) -> Iterator[tuple[Job, Rules]]:
    """The program's job on an artifact: its own tables, else such that are written now; and its rules by policy."""
    with tempfile.TemporaryDirectory(prefix="parity-app-") as folder:
        files = {artifact.files[role].name: artifact.path(role) for role in halves(artifact.files)}
        place = artifact.folder
        if not set(TABLES) <= set(artifact.files):
            place = Path(folder)
            write_tables(artifact, place, site)
        files |= {name: place / name for name in TABLES.values()}
        yield replace(job, files={**files, **job.files}), _rules(Path(folder), artifact.checkpoint.dims)


def _rules(folder: Path, dims: Dims) -> Rules:
    def rules(options: Mapping[str, Any], language: str | None) -> Mapping[str, Path]:
        known = {key: value for key, value in options.items() if key != "task"}
        plan = policy.concrete(Policy("of the run", known), dims, language)
        path = folder / f"decode-{language or 'auto'}.json"
        app_tables.write_rules(path, app_tables.rules(plan, dims))
        return {app_tables.DECODE: path}

    return rules


def on_host(description: Description) -> Description:
    """The description for this machine: the stand-in runtime in place of a board's.

    Raises:
        UnavailableError, BuildError: it cannot be built here.
    """
    library = native.stand_in_runtime()
    own = {"LD_LIBRARY_PATH": str(library.parent), "PARITY_SIM_LITERT": str(native.litert_library())}
    return replace(description, environment={**own, **description.environment})


def with_library(description: Description, library: str | None) -> Description:
    """The description with the runtime of [backends.dla], where that names one."""
    if library is None:
        return description
    program, *words = description.argv
    return replace(description, argv=(program, "--library", library.replace("{", "{{").replace("}", "}}"), *words))


def binary(facts: Facts | None) -> Path:
    """The program for a device; for this machine where `facts` are None or a simulated one's.

    Raises:
        UnavailableError: none can be built for its processor here.
        BuildError: it does not compile.
    """
    if facts is None:
        return native.app()
    hint = "Build one, and set program under [backends.app]"
    return native.app(target_of(facts, "parity-whisper", hint=hint))
