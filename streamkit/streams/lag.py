"""How far a consumer is behind."""

from __future__ import annotations

import msgspec

from streamkit.clock import Clock
from streamkit.errors import NotFoundError
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.reader import ShardReader
from streamkit.streams.store import StreamStore

_MOST_LINES = 10


class ShardLag(msgspec.Struct, frozen=True):
    """What of one shard a consumer has not done, counted from its checkpoint."""

    shard_id: str
    records: int
    """Exact, because a shard's numbers have no gap. An aggregate counts as one, as its shard counts it."""
    millis_behind: int
    """The age of the oldest of them; 0 without any."""
    trimmed: int = 0
    """Further records that the stream's retention took before they were done."""


class Lag(msgspec.Struct, frozen=True):
    """What of a stream a consumer has not done. Its ``repr`` is a small table."""

    stream: str
    consumer: str
    shards: tuple[ShardLag, ...]
    """In the order of their ids, closed ones too."""

    @property
    def records(self) -> int:
        """Of all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def millis_behind(self) -> int:
        """Of the shard that is most behind."""
        return max((shard.millis_behind for shard in self.shards), default=0)

    @property
    def trimmed(self) -> int:
        """Of all shards."""
        return sum(shard.trimmed for shard in self.shards)

    def _repr_html_(self) -> str:
        from streamkit.showing.html import badge, card, table
        from streamkit.showing.words import age, count

        state = (
            badge("caught up", "good") if not self.records else badge(f"{count(self.records, 'record')} behind", "warn")
        )
        facts = {
            "stream": self.stream,
            "": state,
            "oldest of them": age(self.millis_behind) if self.records else None,
            "trimmed before they were read": self.trimmed or None,
        }
        rows = [
            (each.shard_id, each.records, age(each.millis_behind) if each.records else None, each.trimmed)
            for each in self.shards
        ]
        return card("Lag of consumer", self.consumer, facts, table(["shard", "records", "behind", "trimmed"], rows))

    def __repr__(self) -> str:
        behind = sorted((shard for shard in self.shards if shard.records), key=lambda shard: -shard.records)
        lost = sorted((shard for shard in self.shards if shard.trimmed and not shard.records), key=lambda s: -s.trimmed)
        shown = [*behind, *lost][:_MOST_LINES]
        rows = [
            (f"consumer {self.consumer!r} of stream {self.stream!r}", self.records, self.millis_behind, self.trimmed),
            *((f"  {each.shard_id}", each.records, each.millis_behind, each.trimmed) for each in shown),
        ]
        cells = [(name, _records(count), _age(millis), _trimmed(gone)) for name, count, millis, gone in rows]
        names, counts, ages = (max(map(len, column)) for column in list(zip(*cells, strict=True))[:3])
        lines = [
            f"{name:<{names}}  {count:>{counts}}  {age:>{ages}}{gone}".rstrip() for name, count, age, gone in cells
        ]
        more = len(behind) + len(lost) - len(shown)
        if more:
            lines.append(f"  and {more} more shards")
        return "\n".join(lines)


def _records(count: int) -> str:
    return f"{count:,} record" + "s"[: count != 1]


def _age(millis: int) -> str:
    if millis == 0:
        return ""
    if millis < 120_000:
        return f"{millis / 1000:,.1f} s behind"
    minutes = millis / 60_000
    return f"{minutes:,.1f} min behind" if minutes < 120 else f"{minutes / 60:,.1f} h behind"


def _trimmed(count: int) -> str:
    return f"  {count:,} trimmed before" if count else ""


async def lag_of(consumer: str, stream: str, store: StreamStore, leases: LeaseTable, clock: Clock) -> Lag:
    """How far a consumer is behind, by its checkpoints as they are stored. It need not run.

    One read of one record for each shard that is behind; these take nothing from what a shard's polling readers share.

    Raises:
        NotFoundError: there is no such stream, or no consumer of this name has ever entered.
    """
    description = await store.describe_stream(stream)
    places = await leases.peek(consumer, description)
    if all(place is None for place in places.values()):
        raise NotFoundError("consumer", consumer, f"none of this name has read stream {stream!r} yet")
    shards: list[ShardLag] = []
    for shard in description.shards:
        place = places[shard.shard_id]
        # A shard that a reshard made is read from its beginning.
        done_to = shard.starting_sequence_number if place is None else place
        after = max(done_to, shard.trim_horizon)
        records = max(0, shard.latest_sequence_number - after)
        millis = 0
        if records:
            reader = ShardReader(store, stream, shard.shard_id, "AFTER_SEQUENCE_NUMBER", sequence_number=after)
            millis = await _age_of_next(reader, clock)
        shards.append(ShardLag(shard.shard_id, records, millis, after - done_to))
    return Lag(stream, consumer, tuple(shards))


async def _age_of_next(reader: ShardReader, clock: Clock) -> int:
    try:
        # There are records, so this does not wait; as a read that may, it is one of enhanced fan-out.
        batch = await reader.read(1, 1)
    except NotFoundError as error:
        if error.kind != "shard":
            raise
        return 0  # It expired just now, with all that was in it.
    return max(0, clock.now_ms() - batch.records[0].arrival_ms) if batch.records else 0
