"""Workers on the machines of a Ray cluster that exists already: each is an actor that holds its models.

A cell is a call of an actor: results come back one by one, and a machine that fails costs the cell that it worked on.
Ray places actors, moves bytes and notices what dies; this process alone decides who does what (`board`), and writes the
run's folder. A stage that needs a device runs on machines that offer it as a resource of Ray.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import Artifact
from whisper_parity.errors import MachineError, ParityError, UnavailableError, first_line
from whisper_parity.run import cell as cells
from whisper_parity.run import conditions
from whisper_parity.run.bench import Bench
from whisper_parity.run.board import Worker, needs
from whisper_parity.run.cell import Cell
from whisper_parity.run.crew import Event, Finished, Lost
from whisper_parity.run.freight import Freight
from whisper_parity.run.journal import Journal
from whisper_parity.run.outpost import Made, Orders, Outpost
from whisper_parity.run.tasks import Judged, Task
from whisper_parity.system.files import replacing

TRACES_AT_HAND = 64
"""Traces that lie in the object store for who needs them next; further ones are read from the run's folder again."""
CONNECT_S = 10.0
"""For a cluster's address to answer at all."""
POLL_S = 5.0
"""How often it is looked whether the cluster still has room for workers that have not started."""
STILLBORN = 5
"""Workers in a row that end before they could begin: then nobody is started any more."""


@dataclass(eq=False)
class _Seat:
    """A worker, as this process sees it."""

    worker: Worker
    actor: Any
    node: str
    """Id of its machine; "" until it has started."""
    ready: bool = False
    calls: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    """By reference to a result: what it is of."""
    busy: bool = False


class Cluster:
    """The workers of a cluster."""

    def __init__(
        self, bench: Bench, journal: Journal, address: str, count: int | None, resources: Sequence[str]
    ) -> None:
        """Join the cluster and start them.

        Args:
            bench: of this process: it knows the artifacts, and does what fails before it could travel.
            journal: of the run.
            address: as `ray` takes it: "auto", "HOST:6379", "ray://HOST:10001".
            count: most workers for stages that need no device; None for as many as the cluster has room for.
            resources: what stages need.

        Raises:
            UnavailableError: Ray is not installed, or there is no cluster at this address.
        """
        self._ray = _imported()
        self._bench, self._plan, self._journal = bench, bench.plan, journal
        self._count, self._resources = count, resources
        self._numbers = itertools.count(1)
        self._seats: dict[int, _Seat] = {}
        self._own: list[Event] = []
        self._stillborn = 0
        self._refusals: dict[str, str] = {}
        """By machine: why it is not used."""
        self._sent: dict[str, set[str]] = {}
        self._contents: dict[str, Any] = {}
        self._traces: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._connect(address)
        checkpoint = Freight.of(self._plan.checkpoint.path)
        self._checkpoint = checkpoint
        self._orders = self._ray.put((self._plan, conditions.recorded(self._plan.folder), checkpoint))
        self._hire()
        if not self._seats:
            self.close()
            raise UnavailableError(
                f"the cluster at {address} has no room for a worker of {self._plan.threads} threads",
                hint="Add a machine, or use fewer --threads",
            )

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Pool`."""
        return [seat.worker for seat in self._seats.values()]

    @property
    def free(self) -> Sequence[Worker]:
        """See `Pool`."""
        return [seat.worker for seat in self._seats.values() if seat.ready and not seat.busy]

    def give(self, worker: Worker, task: Task) -> None:
        """See `Pool`."""
        seat = self._seats[worker.number]
        try:
            orders = self._orders_of(task)
        except ParityError:  # the stage has no files: its rows say so, and nothing travels
            self._own += [(worker, result) for result in self._bench.results(task)] + [(worker, Finished())]
            seat.busy = True
            return
        seat.busy = True
        with suppress(*self._gone()):
            self._send(seat, orders, task)
            self._call(seat, None, seat.actor.begin.remote(task, orders))
            for cell in task.cells:
                self._call(seat, cell, seat.actor.cell.remote(cell.key))
            if not task.cells:
                self._call(seat, task.stage, seat.actor.checks.remote(task.stage))
            self._call(seat, Finished(), seat.actor.forget.remote([key for key, _ in self._references(task)]))
            return
        seat.calls.clear()
        self._ray.kill(seat.actor)  # also where only what it was to get is lost
        seat.calls[seat.actor.unlike.remote()] = None  # this fails, and `wait` says so

    def wait(self) -> Sequence[Event]:
        """See `Pool`."""
        if own := self._own:
            self._own = []
            for worker, event in own:
                self._seats[worker.number].busy &= not isinstance(event, Finished)
            return own
        calls = {next(iter(seat.calls)): seat for seat in self._seats.values() if seat.calls}
        ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=POLL_S) if calls else ([], [])
        if not ready:
            self._dismiss()
        return [event for reference in ready for event in self._heard(calls[reference], reference)]

    def lacking(self, resource: str) -> str:
        """See `Pool`."""
        refused = "".join(f"; {node} is not used: {why}" for node, why in self._refusals.items())
        if not resource:
            return f"no machine of the cluster works for this run any more{refused}"
        offer = f"ray start --address HOST:PORT --resources '{{\"{resource}\": 1}}'"
        return f"no machine of the cluster offers {resource}: start Ray where the device is, by `{offer}`{refused}"

    def close(self) -> None:
        """See `Pool`."""
        for seat in self._seats.values():
            with suppress(*self._gone()):
                self._ray.kill(seat.actor)
        self._seats.clear()
        self._ray.shutdown()

    def _connect(self, address: str) -> None:
        try:
            _require_answer(_written_address(self._ray) if address == "auto" else address)
            with _own_signals():
                self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # whatever a client of a network raises
            raise UnavailableError(
                f"--ray {address}: no cluster answers: {first_line(error)}", hint="Start one: `ray start --head`"
            ) from error

    def _hire(self) -> None:
        """Start workers where there is room and nobody works yet."""
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in self._refusals]
        room = sum(int(node["Resources"].get("CPU", 0)) // self._plan.threads for node in nodes)
        general = sum(not seat.worker.resource for seat in self._seats.values())
        for _ in range(min(room, self._count or room) - general):
            self._start("", {"num_cpus": self._plan.threads})
        for resource in self._resources:
            used = {seat.node for seat in self._seats.values() if seat.worker.resource == resource}
            for node in nodes:
                if (amount := node["Resources"].get(resource, 0)) and node["NodeID"] not in used:
                    self._start(resource, {"num_cpus": 0, "resources": {resource: amount}}, node["NodeID"])

    def _start(self, resource: str, options: dict[str, Any], node: str = "") -> None:
        if node:
            strategies = self._ray.util.scheduling_strategies
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        number = next(self._numbers)
        actor = self._ray.remote(_Seated).options(max_restarts=0, **options).remote(self._orders)
        seat = self._seats[number] = _Seat(Worker(number, resource), actor, node)
        seat.calls[actor.whereabouts.remote()] = None

    def _dismiss(self) -> None:
        """Of workers that have not started, keep as many as the cluster has room for."""
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        room = sum(int(node["Resources"].get("CPU", 0)) // self._plan.threads for node in nodes.values())
        general = [seat for seat in self._seats.values() if not seat.worker.resource]
        late = [seat for seat in general if not seat.ready]
        for seat in late[: max(0, len(general) - room)]:
            self._ray.kill(seat.actor)
            del self._seats[seat.worker.number]

    def _heard(self, seat: _Seat, reference: Any) -> list[Event]:
        what = seat.calls.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._ended(seat, error)
        if not seat.ready:
            return self._arrived(seat, *answer)
        if isinstance(what, Cell):
            return [self._judged(seat, what, *answer)]
        if isinstance(what, Finished):
            seat.busy = False
            return [(seat.worker, what)]
        return [] if what is None else [(seat.worker, self._noted(answer).result)]

    def _arrived(self, seat: _Seat, node: str, host: str, unlike: str) -> list[Event]:
        """A worker has started; one whose machine would give other numbers is sent home."""
        seat.node, self._stillborn = node, 0
        if unlike:
            self._refusals[node] = f"{host} differs from the run: {unlike}"
            self._ray.kill(seat.actor)
            del self._seats[seat.worker.number]
            return []
        seat.worker, seat.ready = replace(seat.worker, place=host), True
        return []

    def _judged(self, seat: _Seat, cell: Cell, made: Made, trace: bytes) -> Event:
        """A row, with its command as it is typed here, and its trace in the run's folder."""
        judged = self._noted(made).result
        assert isinstance(judged, Judged)  # noqa: S101 - of a cell
        if trace:
            with replacing(self._plan.folder.trace(*cell.key)) as partial:
                partial.write_bytes(trace)
        return seat.worker, replace(judged, row=replace(judged.row, reproduce=cells.reproduce(self._plan, cell)))

    def _noted(self, made: Made) -> Made:
        for record in made.records:
            if self._journal.find(record.kind, *record.key) != record:
                self._journal.append(record)
        return made

    def _ended(self, seat: _Seat, error: Exception) -> list[Event]:
        """A worker that is gone is replaced where there is room."""
        self._stillborn += not seat.ready
        with suppress(*self._gone()):
            self._ray.kill(seat.actor)
        del self._seats[seat.worker.number]
        self._sent.pop(seat.node, None)
        if self._stillborn >= STILLBORN:
            raise MachineError(f"{STILLBORN} workers of the cluster ended before they could begin: {first_line(error)}")
        self._hire()
        return [(seat.worker, Lost(f"ended ({type(error).__name__}: {first_line(error, 120)})"))]

    def _orders_of(self, task: Task) -> Orders:
        """What has to be on the machine of who does a task.

        Raises:
            ParityError: a stage without files.
        """
        wanted = dict.fromkeys((task.stage.spec, *needs(task.stage), self._plan.root))
        artifacts = {spec: self._bench.sessions.artifact(spec) for spec in wanted}
        files = {spec: _files(artifacts[spec]) for spec in dict.fromkeys((task.stage.spec, self._plan.root))}
        clips = [cell.clip for cell in task.cells] if task.cells else self._plan.batches[-1]
        sounds = {}
        for clip in clips:
            with suppress(OSError):  # it cannot be read, as the row will say
                sounds[clip.name] = Freight.of(clip.path)
        return Orders(artifacts, files, sounds)

    def _send(self, seat: _Seat, orders: Orders, task: Task) -> None:
        """Files that the machine lacks, and traces that cells are judged against."""
        wanted = [self._checkpoint, *itertools.chain(*orders.files.values()), *orders.clips.values()]
        there = self._sent.setdefault(seat.node, set())
        files = {file.sha256: file for file in wanted if file.sha256 not in there}
        lacking = self._ray.get(seat.actor.lacks.remote(list(files.values()))) if files else []
        for sha256 in lacking:
            self._ray.get(seat.actor.take.remote(files[sha256], self._content(files[sha256])))
        there.update(files)
        for key, reference in self._references(task):
            seat.actor.put_trace.remote(*key, reference)

    def _content(self, file: Freight) -> Any:
        """A file in the object store, where it lies once however many machines fetch it."""
        if file.sha256 not in self._contents:
            if len(self._contents) > TRACES_AT_HAND:
                self._contents.clear()
            self._contents[file.sha256] = self._ray.put(file.path.read_bytes())
        return self._contents[file.sha256]

    def _references(self, task: Task) -> Iterator[tuple[tuple[str, str], Any]]:
        """Traces that the cells of a task are judged against, in the object store."""
        clips = [cell.clip for cell in task.cells] if task.cells else self._plan.batches[-1]
        for clip in clips:
            for spec in dict.fromkeys(needs(task.stage)):
                key = clip.name, spec
                path = self._plan.folder.trace(*key)
                if key not in self._traces and path.is_file():
                    self._traces[key] = self._ray.put(path.read_bytes())
                if key in self._traces:
                    self._traces.move_to_end(key)
                    yield key, self._traces[key]
        while len(self._traces) > TRACES_AT_HAND:
            self._traces.popitem(last=False)

    def _call(self, seat: _Seat, what: Any, reference: Any) -> None:
        seat.calls[reference] = what

    def _gone(self) -> tuple[type[Exception], ...]:
        """Errors of Ray that mean that a worker is not there any more."""
        return (self._ray.exceptions.RayError,)


class _Seated(Outpost):
    """The actor: an outpost, and where it is."""

    def __init__(self, orders: tuple[Any, Any, Freight]) -> None:
        super().__init__(*orders)

    def whereabouts(self) -> tuple[str, str, str]:
        """Id of its machine, the machine's name, and what makes it give other numbers."""
        import ray

        return ray.get_runtime_context().get_node_id(), socket.gethostname(), self.unlike()


def _written_address(ray: Any) -> str:
    """Where `ray start` of this machine has written that its cluster is; "" where Ray does not say."""
    with suppress(AttributeError, OSError):
        return str(os.environ.get("RAY_ADDRESS") or ray._private.utils.read_ray_address() or "")
    return ""


def _require_answer(address: str) -> None:
    """Ray's own client would try for minutes, and a cluster that has ended leaves its address behind.

    Raises:
        OSError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if host and port.isascii() and port.isdigit():
        socket.create_connection((host.rpartition("/")[2], int(port)), CONNECT_S).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM; ours unwinds the command."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _files(artifact: Artifact) -> list[Freight]:
    return [Freight.of(Path(artifact.path(role))) for role in artifact.files]


def _imported() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UnavailableError(
            f"--ray needs Ray: {first_line(error)}", hint="Install it: pip install 'whisper-parity[ray]'"
        ) from error
    return ray
