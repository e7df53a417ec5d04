from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from streamkit.codecs import Codec
from streamkit.errors import DecodeError
from streamkit.streams.record import Batch, Record, StoredRecord


class Order(msgspec.Struct):
    total: int


class CountingCodec(Codec[Order]):
    def __init__(self) -> None:
        super().__init__(Order)
        self.decoded = 0

    def decode(self, data: bytes) -> Order:
        self.decoded += 1
        return super().decode(data)


def record(number: int, data: bytes = b'{"total":1}', codec: Codec[Order] | None = None) -> Record[Order]:
    stored = StoredRecord(number, 1_700_000_000_123, f"key-{number}", data)
    return Record(stored, "shardId-000000000000", codec or Codec(Order))


def test_a_record_shows_what_was_stored() -> None:
    found = record(7)
    assert found.value == Order(1)
    assert found.data == b'{"total":1}'
    assert found.partition_key == "key-7"
    assert found.sequence_number == 7
    assert found.shard_id == "shardId-000000000000"
    assert found.arrival_ms == 1_700_000_000_123
    assert found.arrival == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def test_a_value_is_decoded_when_it_is_first_asked_for_and_once() -> None:
    codec = CountingCodec()
    found = record(7, codec=codec)
    assert codec.decoded == 0
    assert found.value is found.value
    assert codec.decoded == 1


def test_a_record_that_does_not_decode_fails_alone_and_keeps_its_data() -> None:
    batch = Batch("shardId-000000000000", [record(1), record(2, b"{}"), record(3)])
    assert [batch[0].value, batch[2].value] == [Order(1), Order(1)]
    for _ in range(2):
        with pytest.raises(DecodeError, match="total"):
            _ = batch[1].value
    assert batch[1].data == b"{}"
    with pytest.raises(DecodeError):
        _ = batch.values


def test_a_batch_is_a_sequence_of_records() -> None:
    records = [record(number) for number in (3, 5, 9)]
    batch = Batch("shardId-000000000000", records, 250)
    assert len(batch) == 3
    assert list(batch) == records
    assert batch[1] is records[1]
    assert batch[-1] is records[-1]
    assert list(batch[1:]) == records[1:]
    assert records[2] in batch
    assert batch.values == [Order(1)] * 3
    assert batch.last_sequence_number == 9
    assert batch.millis_behind_latest == 250


def test_reprs_name_the_place_and_not_the_content() -> None:
    secret = record(3, b'{"total":42}')
    assert repr(secret) == "Record(shardId-000000000000, sequence_number=3, partition_key='key-3', 12 bytes)"
    batch = Batch("shardId-000000000000", [secret, record(5)])
    assert repr(batch) == "Batch(shardId-000000000000, 2 records, sequence numbers 3 to 5)"
