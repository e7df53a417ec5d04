from __future__ import annotations

from hashlib import md5
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.streams.aggregation import (
    MAGIC,
    Packing,
    aggregate,
    any_aggregated,
    is_aggregated,
    pack,
    user_records,
)
from streamkit.streams.buffer import entry_bytes
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


varints = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)).map(lambda value: _varint(value))
payloads = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"k", b"7", b"\xff", b"340282366920938463463374607431768211456"])
)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


fields = st.one_of(
    st.tuples(st.integers(1, 6), st.one_of(payloads, st.integers(0, 3))).map(lambda each: _field(*each)),
    st.just(_field(1, b"k")),
    st.just(_field(3, _field(1, 0) + _field(3, b"data"))),
    st.lists(st.tuples(st.integers(1, 5), st.one_of(payloads, st.integers(0, 2))), max_size=4).map(
        lambda inner: _field(3, b"".join(_field(*each) for each in inner))
    ),
    st.just(_field(3, _field(1, 0) + _field(3, b"tagged") + _field(4, _field(1, b"key")))),
    st.binary(max_size=3),
)


@settings(max_examples=300)
@given(st.lists(fields, max_size=7).map(b"".join))
def test_hostile_messages_are_read_as_the_official_library_does_or_are_plain(message: bytes) -> None:
    """Never a crash, never a record more or less, and what is no aggregate keeps its bytes."""
    found = user_records(stored(sealed(message)))
    if found is None:
        return
    official = AggregatedRecord.FromString(message)
    table = official.partition_key_table
    assert [(each.partition_key, each.data) for each in found] == [
        (table[record.partition_key_index], record.data) for record in official.records
    ]
    assert found


@settings(max_examples=100)
@given(entries, st.data())
def test_a_damaged_message_with_a_right_digest_is_read_as_it_is_or_is_plain(
    entries: list[PutEntry], data: st.DataObject
) -> None:
    message = bytearray(aggregate(entries).data[4:-16])
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    found = user_records(stored(sealed(bytes(message))))
    if found is not None:
        official = AggregatedRecord.FromString(bytes(message))
        assert [each.data for each in found] == [record.data for record in official.records]


@pytest.mark.parametrize("tag", [b"", b"\x12\x01v", b"\x08\x01", b"\x0a\x05k"])
def test_a_tag_without_a_key_makes_it_a_plain_record(tag: bytes) -> None:
    record = _field(1, 0) + _field(3, b"data")
    assert user_records(stored(sealed(_field(1, b"k") + _field(3, record)))) is not None
    assert user_records(stored(sealed(_field(1, b"k") + _field(3, record + _field(4, tag))))) is None


@given(entries)
def test_an_aggregate_knows_its_size_to_the_byte(entries: list[PutEntry]) -> None:
    packing = Packing(entries[0])
    for count, entry in enumerate(entries[1:], 2):
        larger = Packing(entries[0])
        for each in entries[1:count]:
            larger.add(each)
        before = packing.size
        assert not packing.add(entry, max_bytes=larger.size - 1)
        assert packing.size == before
        assert packing.add(entry, max_bytes=larger.size)
    assert packing.size == entry_bytes(packing.sealed())
    assert packing.sealed() == aggregate(entries)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 90)), min_size=2, max_size=40), st.integers(120, 400))
def test_no_aggregate_ends_before_it_is_full(asked: list[tuple[str, int]], max_bytes: int) -> None:
    """The next record of its shard would not have fitted in."""
    shards = [ShardDescription(shard_id_of(0), HashKeyRange(0, KEY_SPACE - 1), 0)]
    put = [PutEntry(key, b"x" * size) for key, size in asked]
    outgoing = pack([(entry, 0, at) for at, entry in enumerate(put)], shards, max_bytes, in_order=False)
    for each, following in pairwise(outgoing):
        held = [entry for entry, _, _ in each.records]
        assert entry_bytes(aggregate([*held, following.records[0][0]])) > max_bytes


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.integers(-1, 30), st.integers(1, 3))
def test_what_was_stored_is_not_packed_with_what_was_not(asked: list[str], stored_to: int, shard_count: int) -> None:
    shards = [ShardDescription(shard_id_of(at), keys, 0) for at, keys in enumerate(even_ranges(shard_count))]
    accepted = [(PutEntry(key, b"x"), 0, at) for at, key in enumerate(asked)]
    outgoing = pack(accepted, shards, 51_200, in_order=True, stored_to=stored_to)
    assert [record for each in outgoing for record in each.records] == accepted
    for each in outgoing:
        assert len({sequence <= stored_to for _, _, sequence in each.records}) == 1


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
        held = [entry for entry, _, _ in each.records]
        assert each.packed is None or len(each.packed) > 1
        assert entry_bytes(each.entry) <= max_bytes or len(held) == 1
        assert each.sequence == put.index(held[-1])
        for entry in held:
            assert shard_of(entry, shards) == shard_of(each.entry, shards)
        records += held
    if in_order:
        assert records == put
    for key in {entry.partition_key for entry in put}:
        assert [e for e in records if e.partition_key == key] == [e for e in put if e.partition_key == key]


def shard_of(entry: PutEntry, shards: list[ShardDescription]) -> str:
    key = hash_key(entry.partition_key) if entry.explicit_hash_key is None else entry.explicit_hash_key
    (shard,) = [shard for shard in shards if key in shard.hash_key_range]
    return shard.shard_id
