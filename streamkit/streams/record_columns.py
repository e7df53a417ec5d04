"""Records as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from streamkit.errors import DecodeError
from streamkit.showing.flat import columns_of

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType

TYPES: Mapping[str, ColumnType] = {
    "arrival": "instant",
    "shard_id": "text",
    "sequence_number": "integer",
    "subsequence_number": "integer",
    "partition_key": "text",
    "attributes": "text",
    "error": "text",
}
"""Of those columns that every stream has."""


class _Record(Protocol):
    shard_id: str
    subsequence_number: int | None

    @property
    def value(self) -> Any: ...

    @property
    def arrival_ms(self) -> int: ...

    @property
    def sequence_number(self) -> int: ...

    @property
    def partition_key(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, str]: ...


def record_columns(records: Sequence[_Record]) -> dict[str, list[Any]]:
    """Each column's values, by its name; an arrival is in milliseconds since the epoch. See ``Sample``."""
    found: dict[str, list[Any]] = {
        "arrival": [record.arrival_ms for record in records],
        "shard_id": [record.shard_id for record in records],
        "sequence_number": [record.sequence_number for record in records],
    }
    if any(record.subsequence_number is not None for record in records):
        found["subsequence_number"] = [record.subsequence_number for record in records]
    found["partition_key"] = [record.partition_key for record in records]
    if any(record.attributes for record in records):
        found["attributes"] = [
            msgspec.json.encode(dict(record.attributes)).decode() if record.attributes else None for record in records
        ]
    values: list[Any] = []
    errors: list[str | None] = []
    for record in records:
        try:
            values.append(record.value)
            errors.append(None)
        except DecodeError as error:
            values.append(None)
            errors.append(str(error))
    if any(errors):
        found["error"] = errors
    return found | columns_of(values, TYPES)
