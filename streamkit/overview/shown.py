"""What is shown of a kit, as values: counts and ages as they were at one instant, ready for JSON. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.engines.base import Durability
from streamkit.functions.counts import Counts, MappingState
from streamkit.streams.lag import Lag
from streamkit.streams.store import StreamMode
from streamkit.supervisor import ServiceState

INTERNAL_PREFIX = "streamkit-"
"""How the names of the tables begin that streamkit keeps leases, metrics and histories in."""


class ShardShown(msgspec.Struct, frozen=True):
    """One shard."""

    shard_id: str
    is_open: bool
    records: int
    """That retention has not taken; an aggregate counts as one."""
    hash_keys: float
    """Its part of the key space, 0 to 1: how much of the load it gets if keys are spread evenly."""


class ConsumerShown(msgspec.Struct, frozen=True):
    """Who reads a stream, and how far it is behind. A mapping is one, named ``mapping:`` and its name."""

    name: str
    workers: tuple[str, ...]
    """Who holds its shards, by the leases as they are stored; they may be gone without having said so."""
    lag: Lag

    @property
    def records(self) -> int:
        """How many are not done."""
        return self.lag.records


class StreamShown(msgspec.Struct, frozen=True):
    """One stream."""

    name: str
    mode: StreamMode
    retention_ms: int | None
    """None: for ever."""
    shards: tuple[ShardShown, ...]
    """A parent before its children."""
    consumers: tuple[ConsumerShown, ...]
    """By name."""
    records_per_second: float
    """Put in the last ten seconds that are over; of a kit that looks on, in the last minute that its owner stored."""
    bytes_per_second: float

    @property
    def records(self) -> int:
        """Of all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def open_shards(self) -> int:
        """How many take records."""
        return sum(shard.is_open for shard in self.shards)

    @property
    def shard_counts(self) -> str:
        """Such as ``4 + 2 closed``."""
        closed = len(self.shards) - self.open_shards
        return f"{self.open_shards}" + (f" + {closed} closed" if closed else "")


class QueueShown(msgspec.Struct, frozen=True):
    """One queue; its counts are exact."""

    name: str
    fifo: bool
    visible: int
    in_flight: int
    delayed: int
    oldest_age_ms: int | None
    """None: it is empty."""
    dead_letter_queue: str | None
    maximum_receives: int | None
    """After how many fruitless receives a message goes there."""
    dead_letters_of: tuple[str, ...]
    """The queues whose dead letters come here."""

    @property
    def messages(self) -> int:
        """All of them."""
        return self.visible + self.in_flight + self.delayed

    @property
    def role(self) -> str:
        """What it is beside a queue of messages, or "" if it is nothing."""
        if self.dead_letters_of:
            return f"dead letters of {', '.join(self.dead_letters_of)}"
        if self.dead_letter_queue is not None:
            return f"after {self.maximum_receives} receives to {self.dead_letter_queue}"
        return "FIFO" if self.fifo else ""


class TableShown(msgspec.Struct, frozen=True):
    """One table."""

    name: str
    partition_key: str
    sort_key: str | None
    indexes: tuple[str, ...]
    building: tuple[str, ...]
    """Indexes that are still being filled."""
    ttl: str | None
    """The attribute that says when an item expires."""

    @property
    def is_internal(self) -> bool:
        """Whether streamkit keeps its own things there."""
        return self.name.startswith(INTERNAL_PREFIX)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Its name, its keys, its indexes, and by what its items expire."""
        keys = self.partition_key if self.sort_key is None else f"{self.partition_key}, {self.sort_key}"
        indexes = (f"{name} (building)" if name in self.building else name for name in self.indexes)
        return self.name, keys, ", ".join(indexes), self.ttl or ""


class MappingShown(msgspec.Struct, frozen=True):
    """An event source mapping that runs in this kit. Of another, its consumer's lag tells how far it came."""

    name: str
    source: str
    state: MappingState
    last_processing_result: str
    counts: Counts


class AlarmShown(msgspec.Struct, frozen=True):
    """One alarm."""

    name: str
    state: AlarmState
    reason: str
    changed_ms: int
    """Since when it is in that state."""


class ServiceShown(msgspec.Struct, frozen=True):
    """One service of this kit."""

    name: str
    state: ServiceState
    error: str | None = None


class Shown(msgspec.Struct, frozen=True):
    """How everything in a kit is. Each part is as of the moment at which it was looked at, one after the other."""

    url: str
    durability: Durability
    owner: Literal["this process", "looking on"]
    """Whether this kit may change what it shows."""
    now_ms: int
    streams: tuple[StreamShown, ...]
    queues: tuple[QueueShown, ...]
    tables: tuple[TableShown, ...]
    mappings: tuple[MappingShown, ...]
    alarms: tuple[AlarmShown, ...]
    """Those that were started here; of a kit that looks on, all that are stored, as their owner wrote them down."""
    services: tuple[ServiceShown, ...]

    @property
    def dead_letters(self) -> int:
        """In all dead-letter queues."""
        return sum(queue.messages for queue in self.queues if queue.dead_letters_of)

    @property
    def in_alarm(self) -> int:
        """How many alarms are in ALARM."""
        return sum(each.state == "ALARM" for each in self.alarms)

    @property
    def alarms_by_need(self) -> list[AlarmShown]:
        """Those in ALARM first."""
        return sorted(self.alarms, key=lambda each: (each.state != "ALARM", each.name))

    @property
    def user_tables(self) -> list[TableShown]:
        """Without those of streamkit itself."""
        return [each for each in self.tables if not each.is_internal]

    @property
    def failed(self) -> list[ServiceShown]:
        """The services that failed."""
        return [each for each in self.services if each.state == "failed"]
