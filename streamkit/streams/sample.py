"""Records that somebody looks at: what ``stream.head``, ``stream.tail`` and a batch show, as a sequence and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from streamkit.showing.listing import Listing
from streamkit.streams.record import Record
from streamkit.streams.record_columns import TYPES, record_columns

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType

T = TypeVar("T")


class Sample(Listing[Record[T]]):
    """Some records of a stream, oldest first.

    As a table its columns are ``arrival`` (UTC), ``shard_id``, ``sequence_number`` and ``partition_key``; then, if all
    values are objects, each field of theirs, and one that is called like another column as ``value.NAME``; else
    ``value``. Where some records are of an aggregate there is ``subsequence_number``, where some have attributes
    ``attributes`` (JSON text), and where some do not decode ``error``.
    """

    kind = "Records"
    noun = "record"

    @property
    def values(self) -> list[T]:
        """Every record's value, decoded.

        Raises:
            DecodeError: some record's bytes are not of the stream's type.
        """
        return [record.value for record in self]

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name; an arrival is in milliseconds since the epoch."""
        return record_columns(list(self))

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of those columns that every stream has."""
        return TYPES
