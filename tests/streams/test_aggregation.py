from __future__ import annotations

from hashlib import md5
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from streamkit.streams.aggregation import (
    MAGIC,
    Outgoing,
    aggregate,
    aggregated_size,
    any_aggregated,
    is_aggregated,
    pack,
    user_records,
)
from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, even_ranges, hash_key, shard_id_of
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutEntry, ShardDescription

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
entries = st.lists(
    st.builds(PutEntry, keys, st.binary(max_size=200), st.none() | st.integers(0, KEY_SPACE - 1)),
    min_size=2,
    max_size=20,
)


def official() -> Any:
    """AggregatedRecord as the protobuf library makes it from the published definition."""
    file = descriptor_pb2.FileDescriptorProto(name="kpl.proto", package="kpl", syntax="proto2")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> None:
        added = file.message_type.add(name=name)
        for field_name, number, label, kind, type_name in fields:
            added.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name or None)

    optional, required, repeated = field.LABEL_OPTIONAL, field.LABEL_REQUIRED, field.LABEL_REPEATED
    message("Tag", ("key", 1, required, field.TYPE_STRING, ""), ("value", 2, optional, field.TYPE_STRING, ""))
    message(
        "Record",
        ("partition_key_index", 1, required, field.TYPE_UINT64, ""),
        ("explicit_hash_key_index", 2, optional, field.TYPE_UINT64, ""),
        ("data", 3, required, field.TYPE_BYTES, ""),
        ("tags", 4, repeated, field.TYPE_MESSAGE, ".kpl.Tag"),
    )
    message(
        "AggregatedRecord",
        ("partition_key_table", 1, repeated, field.TYPE_STRING, ""),
        ("explicit_hash_key_table", 2, repeated, field.TYPE_STRING, ""),
        ("records", 3, repeated, field.TYPE_MESSAGE, ".kpl.Record"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kpl.AggregatedRecord"))


AggregatedRecord = official()


def stored(data: bytes, key: str = "a") -> StoredRecord:
    return StoredRecord(7, 1_000, key, data)


def sealed(message: bytes) -> bytes:
    return MAGIC + message + md5(message, usedforsecurity=False).digest()


@given(entries)
def test_what_is_aggregated_comes_back(entries: list[PutEntry]) -> None:
    packed = aggregate(entries)
    found = user_records(stored(packed.data))
    assert found == [StoredRecord(7, 1_000, entry.partition_key, entry.data) for entry in entries]
    assert packed.partition_key == "a"
    assert is_aggregated(packed.data)
    assert len(packed.data) <= 20 + sum(map(aggregated_size, entries))
    first = entries[0]
    wanted = hash_key(first.partition_key) if first.explicit_hash_key is None else first.explicit_hash_key
    assert packed.explicit_hash_key == wanted


@given(entries)
def test_the_official_library_reads_what_is_written(entries: list[PutEntry]) -> None:
    message = AggregatedRecord.FromString(aggregate(entries).data[4:-16])
    assert [
        (
            message.partition_key_table[record.partition_key_index],
            record.data,
            int(message.explicit_hash_key_table[record.explicit_hash_key_index])
            if record.HasField("explicit_hash_key_index")
            else None,
        )
        for record in message.records
    ] == [(entry.partition_key, entry.data, entry.explicit_hash_key) for entry in entries]


@given(entries, st.booleans())
def test_what_the_official_library_writes_is_read(entries: list[PutEntry], tags: bool) -> None:
    message = AggregatedRecord()
    for index, entry in enumerate(entries):
        message.partition_key_table.append(entry.partition_key)
        record = message.records.add(partition_key_index=index, data=entry.data)
        if entry.explicit_hash_key is not None:
            record.explicit_hash_key_index = len(message.explicit_hash_key_table)
            message.explicit_hash_key_table.append(str(entry.explicit_hash_key))
        if tags:
            record.tags.add(key="unused", value="by us")
    found = user_records(stored(sealed(message.SerializeToString())))
    assert found is not None
    assert [(each.partition_key, each.data) for each in found] == [(e.partition_key, e.data) for e in entries]


def test_a_single_one_stays_as_it_is() -> None:
    entry = PutEntry("k", b"x", 5)
    assert aggregate([entry]) is entry


@given(st.binary(max_size=300))
def test_whatever_is_no_aggregate_is_a_plain_record(data: bytes) -> None:
    for each in (data, MAGIC + data, sealed(data)):
        found = user_records(stored(each))
        if found is not None:
            AggregatedRecord.FromString(each[4:-16])
    assert user_records(stored(data)) is None or data.startswith(MAGIC)


@given(entries, st.data())
def test_a_flipped_byte_makes_it_a_plain_record(entries: list[PutEntry], data: st.DataObject) -> None:
    damaged = bytearray(aggregate(entries).data)
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    assert user_records(stored(bytes(damaged))) is None


@pytest.mark.parametrize(
    "message",
    [
        b"\x1a\x02\x08\x00",  # no data
        b"\x1a\x02\x1a\x00",  # no partition key
        b"\x1a\x04\x08\x05\x1a\x00",  # a key that is not in the table
        b"\x0a\x01k\x12\x03abc\x1a\x06\x08\x00\x10\x00\x1a\x00",  # a hash key that is no number
        b"\x0a\x01\xff\x1a\x04\x08\x00\x1a\x00",  # a key that is no UTF-8
        b"\x0a\x7f",  # longer than the message
        b"\x08" + b"\xff" * 11,  # a number of more than 64 bits
        b"\x0b",  # a group
        b"\x02\x00",  # field 0
    ],
)
def test_malformed_messages_are_plain_records(message: bytes) -> None:
    assert user_records(stored(sealed(message))) is None


def test_only_those_of_a_shard() -> None:
    """From the first that belongs elsewhere on, none does."""
    lower, upper = even_ranges(2)
    packed = aggregate([PutEntry("k", b"1", 0), PutEntry("k", b"2", 1), PutEntry("k", b"3", KEY_SPACE - 1)])
    found = user_records(stored(packed.data), lower)
    assert found is not None
    assert [each.data for each in found] == [b"1", b"2"]
    assert user_records(stored(packed.data), upper) == []
    assert user_records(stored(packed.data), HashKeyRange(0, KEY_SPACE - 1)) == user_records(stored(packed.data))


def test_a_look_at_many() -> None:
    plain = stored(b"plain")
    assert not any_aggregated([plain, plain])
    assert any_aggregated([plain, stored(aggregate([PutEntry("k", b"1"), PutEntry("k", b"2")]).data)])


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 300)), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(50, 2_000),
    st.booleans(),
)
def test_packing_keeps_every_record_its_shard_and_its_order(
    asked: list[tuple[str, int]], shard_count: int, max_bytes: int, in_order: bool
) -> None:
    shards = [ShardDescription(shard_id_of(at), keys, 0) for at, keys in enumerate(even_ranges(shard_count))]
    put = [PutEntry(key, b"%d" % at + b"x" * size) for at, (key, size) in enumerate(asked)]
    outgoing = pack([(entry, 0, at) for at, entry in enumerate(put)], shards, max_bytes, in_order=in_order)
    records: list[PutEntry] = []
    for each in outgoing:
        held = each.packed or [each.entry]
        assert each.packed is None or len(each.packed) > 1
        assert len(each.entry.data) <= max_bytes or len(held) == 1
        assert each.sequence == put.index(held[-1])
        for entry in held:
            (shard,) = [shard for shard in shards if hash_key(entry.partition_key) in shard.hash_key_range]
            assert shard.shard_id == each.shard_id
        records += held
        _check_outer_key(each, shards)
    if in_order:
        assert records == put
    for key in {entry.partition_key for entry in put}:
        assert [e for e in records if e.partition_key == key] == [e for e in put if e.partition_key == key]


def _check_outer_key(each: Outgoing, shards: list[ShardDescription]) -> None:
    entry = each.entry
    key = hash_key(entry.partition_key) if entry.explicit_hash_key is None else entry.explicit_hash_key
    (shard,) = [shard for shard in shards if key in shard.hash_key_range]
    assert shard.shard_id == each.shard_id
