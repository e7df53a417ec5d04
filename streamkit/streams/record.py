"""What a stream holds, and what its users hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from streamkit.clock import to_datetime
from streamkit.codecs import Codec
from streamkit.streams.record_attributes import Attributes

T = TypeVar("T")

_MOST_SHOWN = 100
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as an engine keeps it: bytes, not yet decoded."""

    sequence_number: int
    """Strictly increasing within its shard, unique within its stream. Differences mean nothing."""
    arrival_ms: int
    partition_key: str
    data: bytes
    attributes: Attributes | None = None
    """Named text beside the data; None: it has none."""


class Record(msgspec.Struct, Generic[T], eq=False, gc=False, weakref=False):
    """A record as a consumer sees it.

    ``value`` decodes when it is first asked for, so that one record that does not decode fails alone, and a consumer
    that only wants keys pays for nothing. HOT: `python -m benchmarks --only read`.
    """

    stored: StoredRecord
    shard_id: str
    codec: Codec[T]
    subsequence_number: int | None = None
    """The place among the user records that an aggregated record packs, from 0; None: it is not of one."""
    _value: T | msgspec.UnsetType = msgspec.UNSET

    @property
    def value(self) -> T:
        """The decoded value, as the stream's ``type=`` says.

        Raises:
            DecodeError: the bytes are not of that type; ``data`` still has them.
        """
        if self._value is msgspec.UNSET:
            self._value = self.codec.decode(self.stored.data)
        return self._value

    @property
    def data(self) -> bytes:
        """The stored bytes."""
        return self.stored.data

    @property
    def attributes(self) -> Mapping[str, str]:
        """Named text that was put beside the data, such as a trace context; mostly none. Kinesis has no such thing."""
        # Its neighbours, and the shard itself, have the same dict.
        # INVARIANT: test_nobody_changes_attributes_that_are_stored
        attributes = self.stored.attributes
        return MappingProxyType(attributes) if attributes else _NO_ATTRIBUTES

    @property
    def partition_key(self) -> str:
        """What chose the shard; records of one key keep their order."""
        return self.stored.partition_key

    @property
    def sequence_number(self) -> int:
        """Strictly increasing within the shard."""
        return self.stored.sequence_number

    @property
    def arrival_ms(self) -> int:
        """When the stream took it, milliseconds since the epoch."""
        return self.stored.arrival_ms

    @property
    def arrival(self) -> datetime:
        """When the stream took it (UTC)."""
        return to_datetime(self.stored.arrival_ms)

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card, escaped, table
        from streamkit.streams.record_columns import record_columns

        columns = {name: values[0] for name, values in record_columns([self]).items()}
        facts = {
            "shard": columns.pop("shard_id"),
            "sequence number": str(columns.pop("sequence_number")),
            "arrival": to_datetime(columns.pop("arrival")),
            "bytes": len(self.data),
        }
        key = columns.pop("partition_key")
        rows = [(escaped(name), value) for name, value in columns.items()]
        return card("Record", key, facts, table(["field", "value"], rows, separators=False))

    def __repr__(self) -> str:
        number = f"{self.sequence_number}"
        if self.subsequence_number is not None:
            number += f", subsequence_number={self.subsequence_number}"
        return (
            f"Record({self.shard_id}, sequence_number={number}, "
            f"partition_key={self.partition_key!r}, {len(self.data)} bytes)"
        )


class Batch(Generic[T], Sequence[Record[T]]):
    """Records of one shard, in order. Never empty."""

    __slots__ = ("millis_behind_latest", "records", "shard_id", "trimmed")

    def __init__(
        self, shard_id: str, records: Sequence[Record[T]], millis_behind_latest: int = 0, trimmed: int = 0
    ) -> None:
        self.shard_id = shard_id
        self.records = records
        self.millis_behind_latest = millis_behind_latest
        self.trimmed = trimmed
        """How many records just before these were trimmed by the stream's retention before they were read."""

    @property
    def last_sequence_number(self) -> int:
        """What a checkpoint of this batch stores."""
        return self.records[-1].sequence_number

    @property
    def values(self) -> list[T]:
        """Every record's value, decoded.

        Raises:
            DecodeError: some record's bytes are not of the stream's type.
        """
        return [record.value for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record[T]]:
        return iter(self.records)

    def __getitem__(self, index: Any) -> Any:
        return self.records[index]

    def _repr_html_(self) -> str:
        from streamkit.showing.listing import listed_html
        from streamkit.streams.record_columns import TYPES, record_columns

        facts = {
            "records": len(self),
            "millis behind latest": self.millis_behind_latest,
            "trimmed": self.trimmed or None,
        }
        return listed_html("Batch", self.shard_id, facts, record_columns(self.records[:_MOST_SHOWN]), TYPES, len(self))

    def __repr__(self) -> str:
        first, last = self.records[0].sequence_number, self.last_sequence_number
        return f"Batch({self.shard_id}, {len(self.records)} records, sequence numbers {first} to {last})"
