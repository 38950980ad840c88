"""The container stage of one partition, without a broker: payloads of hub.containers in, records of the outputs out.

A batch is folded into the containers at once; what their children must hear is written in portions, so that no
transaction is larger than its limit and no container waits for another one's fan-out. What is left stands in the
position (`FanOut`), and goes on with the next batch, or without one.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from streams.domain.containers import Container, Event, Full
from streams.domain.happenings import InTwo
from streams.domain.in_two import Claims
from streams.domain.reasons import Reason
from streams.errors import StreamsError
from streams.pipeline.container_codecs import container_events, container_states, memberships
from streams.pipeline.container_outputs import outputs_of
from streams.pipeline.fan_outs import PORTION, FanOuts
from streams.pipeline.plain_decoder import Undecodable
from streams.pipeline.position import LeftToDo, Position
from streams.pipeline.record_block import RecordBlock
from streams.pipeline.stage import Made, Output
from streams.pipeline.ticks import tick_value
from streams.pipeline.topics import CONTAINER_STATE, SCANS, partition_of

# Records of a transaction at most. The children that one event names, or one container ever had, may be more.
LARGEST_TRANSACTION: Final = 20_000
# And while so few records wait: what others append to hub.scans behind an open transaction is visible when it ends.
_PROMPT_TRANSACTION: Final = 5_000
_FEW: Final = 256
_RETIRES_MS: Final = 30 * 24 * 3_600_000
_RETIRES_AT_A_TIME: Final = 200


@dataclass(slots=True)
class Figures:
    """The figures of one batch of one partition."""

    # (site, kind) -> distinct events that somebody really made.
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Distinct events inferred from a container around.
    inferred_events: int = 0
    duplicates: int = 0
    # kind -> scans and events written for children.
    told: Counter[str] = field(default_factory=Counter)
    # Fan-outs that are not written to their end.
    pending: int = 0
    containers: int = 0
    retired: int = 0
    # Containers found to be in two at once.
    in_two: list[InTwo] = field(default_factory=list)


class ContainerStage:
    """The containers of one partition, and what a batch of their records makes of them.

    >>> stage = ContainerStage(partition=0, partitions=1)
    >>> stage.run([b"rubbish"]).refused
    [(0, <Reason.BAD_FRAMING: 2>)]
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.partitions = partitions
        self.hub_time: int | None = None
        # Those that were touched last are at the end.
        self.containers: dict[str, Container] = {}
        self._left = FanOuts()
        self._claims = Claims()
        # Partitions of hub.scans that got something since the last Tick.
        self._unticked = set[int]()
        self._step = 0
        # While restoring: container -> child -> is it a container, and identities of the events that name it.
        self._members: dict[bytes, dict[bytes, tuple[bool, bytes]]] = {}

    @property
    def pending(self) -> bool:
        """Is there something to write, whether or not records come?"""
        return bool(self._left)

    def position(self, next_offset: int) -> Position:
        """The position after the last batch."""
        left = tuple(LeftToDo.of(name, step) for name, step in self._left)
        return Position(next_offset, self.hub_time, step=self._step, left=left)

    def run(self, payloads: Sequence[bytes | None], *, outputs: bool = True) -> Made:
        """Fold as much of a batch as a transaction has room for, in the order given, and encode what follows.

        Args:
            payloads: values of hub.containers of this partition; None for a record without a value.
            outputs: False folds only, and encodes nothing.
        """
        started = time.perf_counter()
        figures = Figures()
        refused: list[tuple[int, Reason]] = []
        self._step += 1
        taken = 0
        touched: dict[str, list[Event]] = {}
        retired = list[Container]()
        room = _PROMPT_TRANSACTION if len(payloads) < _FEW else LARGEST_TRANSACTION
        for place, read in enumerate(container_events().read(payloads)):
            if room <= self._left.claimed:
                break
            taken += 1
            room -= 1
            if read.hub_time is not None:
                retired += self._on_tick(read.hub_time, touched)
            elif read.event is None:
                refused.append((place, read.reason))
            elif (reason := self._take(read.container_id, read.event, touched, figures)) != Reason.OK:
                refused.append((place, reason))
            else:
                room -= read.event.named
        for name in touched:
            self._left.add(name, self.containers[name].settle())
            self._claims.note(self.containers[name])
        if self.hub_time is not None:
            figures.in_two = self._claims.told(self.containers, self.hub_time)
            for claim in figures.in_two:
                touched.setdefault(claim.container_id, [])
        folded = time.perf_counter()
        inferred = list(self._left.portions(self.containers, max(room, PORTION)))
        for name in {*touched, *(each.container_id for each in inferred)}:
            if name not in self._left:
                self.containers[name].rest()
        blocks: list[Output] = []
        if outputs:
            states = self._states(touched, retired)
            blocks = [(CONTAINER_STATE, self.partition, block) for block in states if len(block)]
            blocks += outputs_of(inferred, self.partitions)
            blocks += self._ticks(blocks)
        for _, portion in inferred:
            figures.told["VOID" if portion.void_time is not None else portion.event.kind] += len(portion.children)
        figures.pending, figures.containers, figures.retired = len(self._left), len(self.containers), len(retired)
        seconds = {"fold": folded - started, "encode": time.perf_counter() - folded}
        return Made(taken, blocks, refused, seconds, figures)

    def _ticks(self, blocks: Sequence[Output]) -> list[Output]:
        """After what was inferred a Tick of the time: what follows from it is told, even if no other Tick comes."""
        self._unticked.update(partition for topic, partition, _ in blocks if topic == SCANS)
        if self.hub_time is None or self._left:
            return []
        block = RecordBlock.of([(b"", tick_value(self.hub_time, "container-stage"))])
        partitions, self._unticked = sorted(self._unticked), set()
        return [(SCANS, partition, block) for partition in partitions]

    # Folding

    def _take(self, name: str, event: Event, touched: dict[str, list[Event]], figures: Figures) -> Reason:
        if partition_of(name.encode(), self.partitions) != self.partition:
            return Reason.WRONG_PARTITION
        container = self.containers.get(name) or Container(name)
        if container.knows(event.identity):
            figures.duplicates += event.inferred_from is None
            return Reason.OK
        try:
            steps = container.take(event)
        except Full:
            return Reason.CONTAINER_FULL
        container.touched = event.event_time if self.hub_time is None else self.hub_time
        self.containers.pop(name, None)
        self.containers[name] = container
        touched.setdefault(name, []).append(event)
        self._left.add(name, steps)
        if event.inferred_from is None:
            figures.events[event.site, event.kind] += 1
        else:
            figures.inferred_events += 1
        return Reason.OK

    def _on_tick(self, hub_time: int, touched: Collection[str]) -> list[Container]:
        """Take over the time; returns the containers that retire."""
        if self.hub_time is not None and hub_time <= self.hub_time:
            return []
        self.hub_time = hub_time
        due = list[Container]()
        for name, container in self.containers.items():
            if container.touched + _RETIRES_MS > hub_time or len(due) >= _RETIRES_AT_A_TIME:
                break
            if name not in self._left and name not in touched:
                due.append(container)
        for container in due:
            del self.containers[container.container_id]
        return due

    # Encoding

    def _states(self, touched: dict[str, list[Event]], retired: list[Container]) -> Iterator[RecordBlock]:
        # One that retired and came back within the batch: the tombstones first.
        yield RecordBlock.of([(key, b"") for container in retired for key in _keys(container)])
        for name, events in touched.items():
            container = self.containers.get(name)
            if container is not None and any(event.lists for event in events):
                yield memberships().encoded(name.encode(), _memberships(container, events))
        states = container_states()
        known = (self.containers[name] for name in touched if name in self.containers)
        yield RecordBlock.of([(container.container_id.encode(), states.encoded(container)) for container in known])

    # Restoring

    def restore(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take the newest records of some keys of container.state, in the order of the topic.

        Raises:
            StreamsError: one of them cannot be read; nobody but the worker writes there, so nothing is guessed.
        """
        children = list[bytes]()
        for key, value in records.items():
            name, between, child = key.partition(b"\0")
            if between:
                if value is None:
                    self._members.get(name, {}).pop(child, None)
                else:
                    children.append(value)
            elif value is None:
                self.containers.pop(name.decode(), None)
            else:
                try:
                    self.containers[name.decode()] = container_states().decoded(value)
                except Undecodable as error:
                    raise self._unreadable(str(error)) from error
        for container, child, which, marks in memberships().decoded(children, self._unreadable):
            self._members.setdefault(container, {})[child] = (which, marks)

    def restored(self, position: Position | None) -> None:
        """All records were taken: put them together, and take over what the position tells."""
        for name, members in self._members.items():
            container = self.containers.get(name.decode())
            if container is not None:
                _name_children(container, members)
        self._members = {}
        self.containers = dict(sorted(self.containers.items(), key=lambda item: item[1].touched))
        for container in self.containers.values():
            self._claims.note(container)
        if position is not None:
            self.hub_time, self._step = position.hub_time, position.step
            for left in position.left:
                self._left.add(left.container_id, [left.step(self.containers[left.container_id])])
            if position.left:
                self._unticked.update(range(self.partitions))

    def _unreadable(self, why: str) -> StreamsError:
        return StreamsError(f"container.state [{self.partition}] holds records that cannot be read ({why})")


def _keys(container: Container) -> Iterator[bytes]:
    own = container.container_id.encode()
    for among in container.members():
        for child in among:
            yield own + b"\0" + child
    yield own


def _memberships(container: Container, events: list[Event]) -> list[tuple[bytes, bool, bytes]]:
    """Of the children that these events name: the identities of all events that name them."""
    rows = []
    for which in (True, False):
        named = set[bytes]().union(*(event.children(containers=which) for event in events))
        marks = dict.fromkeys(sorted(named), b"")
        for event in container.listings():
            for child in marks.keys() & set(event.children(containers=which)):
                marks[child] += event.identity
        rows += [(child, which, each) for child, each in marks.items()]
    return rows


def _name_children(container: Container, members: Mapping[bytes, tuple[bool, bytes]]) -> None:
    named: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for child, (which, marks) in members.items():
        for at in range(0, len(marks), 16):
            named.setdefault(marks[at : at + 16], ([], []))[0 if which else 1].append(child)
    for identity, (containers, parcels) in named.items():
        if container.knows(identity):
            container.name(identity, containers, parcels)
