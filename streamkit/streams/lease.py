"""Leases and checkpoints: who reads a shard, and how far. Pure; items of a table, as in the Kinesis Client Library.

Every change of owner raises a lease's counter, and every checkpoint is conditional on owner and counter, so an owner
that lost its lease is refused and cannot move the checkpoint any more (fencing). The heartbeat is a number of its own:
an owner's renewals and its checkpoints do not get into each other's way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from streamkit.streams.record import Batch, Record
from streamkit.streams.store import ShardDescription, StreamDescription
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.write import Delete, Put, Update

LEASES = TableSchema(name="streamkit-leases", partition_key="consumer", sort_key="shard")

Start = Literal["TRIM_HORIZON", "LATEST"]
"""Where a consumer begins that was never there before: with the oldest record, or after the newest."""

Position = tuple[int, int]
"""A sequence number, and which of the user records of an aggregated record; compares as they are read."""

WHOLE = 2**62
"""In a position: after all of the record, whether it is aggregated or not."""


def position_of(done: Batch[Any] | Record[Any]) -> Position:
    """After this record, or after the last one of this batch."""
    last = done.records[-1] if isinstance(done, Batch) else done
    return last.sequence_number, WHOLE if last.subsequence_number is None else last.subsequence_number


class Lease(msgspec.Struct, frozen=True):
    """The right of one owner to read one shard for one consumer, as of ``counter``."""

    consumer: str
    stream: str
    stream_id: int
    shard_id: str
    owner: str | None
    """None: nobody has it."""
    counter: int
    checkpoint: int | None = None
    """Sequence number of the last record done; None: nothing was done yet, start where the consumer starts."""
    finished: bool = False
    """The shard is closed and everything in it was done (SHARD_END)."""
    subsequence: int | None = None
    """Of the aggregated record ``checkpoint``, only the user records up to this one are done; None: it is done."""
    heartbeat: int = 0
    """Raised by each renewal."""
    parents: tuple[str, ...] = ()
    """The shards that must be finished before this one is read."""
    wanted_by: str | None = None
    """The worker that the owner is asked to hand it over to."""

    @classmethod
    def of_item(cls, consumer: str, stream: StreamDescription, item: Item) -> Lease:
        """As it is stored."""
        return cls(
            consumer,
            stream.name,
            stream.stream_id,
            item["shard"],
            item.get("owner"),
            item["counter"],
            item.get("checkpoint"),
            item["finished"],
            item.get("subsequence"),
            item.get("heartbeat", 0),
            tuple(item.get("parents", ())),
            item.get("wanted_by"),
        )

    @property
    def key(self) -> dict[str, str]:
        """The item's key. It holds the stream's id: a later stream of the same name starts anew."""
        return {"consumer": partition_of(self.consumer, self.stream, self.stream_id), "shard": self.shard_id}

    @property
    def position(self) -> Position:
        """Everything up to here is done."""
        return self.checkpoint or 0, WHOLE if self.subsequence is None else self.subsequence

    @property
    def done_to(self) -> int:
        """Every record up to this number is done wholly, with all the user records in it; 0: none is."""
        return (self.checkpoint or 0) - (self.subsequence is not None)

    def held(self) -> Condition:
        """True for the stored lease as long as nobody else took it."""
        return (attribute("owner") == self.owner) & (attribute("counter") == self.counter)

    def unchanged(self) -> Condition:
        """True for the stored lease as long as its owner is the same and has not renewed it."""
        return (attribute("counter") == self.counter) & (attribute("heartbeat") == self.heartbeat)

    # ---- what may be written

    def checkpoint_write(
        self, sequence_number: int, subsequence: int | None = None, *, finished: bool = False
    ) -> Update:
        """The write that moves the checkpoint, to be committed together with what was done up to it."""
        stored: dict[str, int | bool] = {"checkpoint": sequence_number, "finished": finished}
        if subsequence is None:
            return self._update(self.held(), stored, remove=("subsequence",))
        return self._update(self.held(), {**stored, "subsequence": subsequence})

    def creation(self) -> Put:
        """The write that stores it, if there is no such lease yet."""
        stored: dict[str, object] = {
            **self.key,
            "counter": self.counter,
            "heartbeat": self.heartbeat,
            "finished": self.finished,
            "parents": list(self.parents),
        }
        optional = {"owner": self.owner, "checkpoint": self.checkpoint, "subsequence": self.subsequence}
        stored.update((name, value) for name, value in optional.items() if value is not None)
        return Put(stored, table=LEASES.name, condition=attribute("counter").absent())

    def renewal(self) -> Update:
        """Its owner lives."""
        return Update(key=self.key, add={"heartbeat": 1}, table=LEASES.name, condition=self.held())

    def taking(self, owner: str, *, by_force: bool = False) -> Update:
        """Another owner, unless somebody took it, or, except ``by_force``, renewed it meanwhile."""
        condition = attribute("counter") == self.counter if by_force else self.unchanged()
        return self._update(
            condition & (attribute("finished") == False),  # noqa: E712
            {"owner": owner, "counter": self.counter + 1},
            remove=("wanted_by",),
        )

    def wish(self, worker: str) -> Update:
        """Ask the owner to hand it over, unless another worker did meanwhile. That fences nobody."""
        wanted_by = attribute("wanted_by")
        unchanged = wanted_by.absent() if self.wanted_by is None else wanted_by == self.wanted_by
        return self._update(self.held() & unchanged, {"wanted_by": worker})

    def unwish(self) -> Update:
        """Nobody wants it any more."""
        condition = (attribute("counter") == self.counter) & (attribute("wanted_by") == self.wanted_by)
        return self._update(condition, {}, remove=("wanted_by",))

    def release(self) -> Update:
        """The owner lets it go: to the worker that wants it, if it still does, or to anybody."""
        condition = self.held() & (attribute("finished") == False)  # noqa: E712
        free = {"counter": self.counter + 1}
        if self.wanted_by is None:
            # Who asks for it between our look and our write asks again.
            return self._update(condition, free, remove=("owner", "wanted_by"))
        # INVARIANT: test_cancelling_a_worker_anywhere_leaves_every_shard_to_somebody
        condition &= attribute("wanted_by") == self.wanted_by
        return self._update(condition, {**free, "owner": self.wanted_by}, remove=("wanted_by",))

    def deletion(self) -> Delete:
        """The shard has expired."""
        return Delete(key=self.key, table=LEASES.name, condition=attribute("counter") == self.counter)

    def _update(self, condition: Condition, set_: Mapping[str, Any], *, remove: tuple[str, ...] = ()) -> Update:
        return Update(key=self.key, set=set_, remove=remove, table=LEASES.name, condition=condition)


def partition_of(consumer: str, stream: str, stream_id: int) -> str:
    """The partition key of all leases of a consumer."""
    return f"{stream}#{stream_id}#{consumer}"


def parts_of(partition: str) -> tuple[str, int, str]:
    """The stream, its id and the consumer of a partition key. A stream's name has no ``#``; a consumer's may."""
    stream, stream_id, consumer = partition.split("#", 2)
    return stream, int(stream_id), consumer


def fresh_leases(
    consumer: str, stream: StreamDescription, start: Start | Mapping[str, int] | None, known: Collection[str]
) -> dict[str, Lease]:
    """A lease that nobody has for each shard that the stream has, given the shards that the consumer knows.

    Who is new begins with the oldest record there is, or after the newest, or after a number of each shard. For who is
    not, a shard that has parents was made later than the leases that are known, so it begins where the shard does: what
    was trimmed of it is missed, and told.
    """
    fresh: dict[str, Lease] = {}
    for shard in stream.shards:
        number: int | None = None
        if start is not None:
            oldest = max(shard.starting_sequence_number, shard.trim_horizon)
            if isinstance(start, Mapping):
                number = max(oldest, start[shard.shard_id])
            else:
                number = shard.latest_sequence_number if start == "LATEST" else oldest
            if known and shard.parent_shard_ids:
                number = shard.starting_sequence_number
        fresh[shard.shard_id] = Lease(
            consumer,
            stream.name,
            stream.stream_id,
            shard.shard_id,
            None,
            1,
            number,
            finished=number is not None and shard.ending_sequence_number == number,
            parents=shard.parent_shard_ids,
        )
    return fresh


def records_behind(shard: ShardDescription, lease: Lease | None) -> int:
    """How many records of a shard are not done; exact, because a shard's numbers have no gap.

    Aggregated records count as one; what retention took is not behind, it is gone.
    """
    done_to = 0 if lease is None else lease.done_to
    return max(0, shard.latest_sequence_number - max(done_to, shard.trim_horizon, shard.starting_sequence_number))
