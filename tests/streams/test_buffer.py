from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.streams.buffer import Batching, Buffer, entry_bytes
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import PutEntry


def entry(data: bytes = b"", key: str = "k", explicit_hash_key: int | None = None) -> PutEntry:
    return PutEntry(key, data, explicit_hash_key)


def add(buffer: Buffer, added: PutEntry, now_ms: int = 0) -> None:
    buffer.add(added, entry_bytes(added), now_ms)


def test_an_entry_counts_its_data_and_its_keys_utf8_bytes() -> None:
    assert entry_bytes(entry(b"123", "k")) == 4
    assert entry_bytes(entry(b"123", "é")) == 5
    assert entry_bytes(entry(b"", "k" * 256, KEY_SPACE - 1)) == 256


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        (entry(key=""), "1 to 256"),
        (entry(key="k" * 257), "1 to 256"),
        (entry(key=None), "1 to 256"),  # type: ignore[arg-type]
        (entry(key=b"k"), "1 to 256"),  # type: ignore[arg-type]
        (entry(key="\ud800"), "UTF-8"),
        (entry(explicit_hash_key=-1), "explicit_hash_key"),
        (entry(explicit_hash_key=KEY_SPACE), "explicit_hash_key"),
        (entry(explicit_hash_key="1"), "explicit_hash_key"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_key_is_refused(malformed: PutEntry, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        entry_bytes(malformed)


@pytest.mark.parametrize(
    "wrong", [{"max_records": 0}, {"max_bytes": 0}, {"buffer_records": 0}, {"buffer_bytes": -1}, {"linger": -0.1}]
)
def test_a_batching_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Batching(**wrong)
    with pytest.raises(ValidationError, match="linger"):
        Batching(linger=float("nan"))


def test_a_batch_ends_at_its_records_or_its_bytes() -> None:
    buffer = Buffer(Batching(max_records=2, max_bytes=10))
    for data in (b"1", b"2", b"345678", b"9", b"x" * 50, b"0"):
        add(buffer, entry(data))
    batches = [[entry.data for entry, _, _ in buffer.take()] for _ in range(4)]
    assert batches == [[b"1", b"2"], [b"345678", b"9"], [b"x" * 50], [b"0"]]
    assert buffer.take() == []


def test_it_is_due_when_its_oldest_has_lingered() -> None:
    buffer = Buffer(Batching(linger=0.25, max_records=3))
    assert buffer.due_ms() is None
    add(buffer, entry(), now_ms=1000)
    add(buffer, entry(), now_ms=1100)
    assert buffer.due_ms() == 1250
    assert not buffer.is_full()
    add(buffer, entry(), now_ms=1200)
    assert buffer.is_full()
    buffer.take()
    assert buffer.due_ms() is None
    assert not buffer.is_full()
    add(buffer, entry(), now_ms=1300)
    assert buffer.due_ms() == 1550


def test_an_entry_larger_than_the_buffer_has_room_when_nothing_else_is_held() -> None:
    buffer = Buffer(Batching(buffer_bytes=10))
    assert buffer.has_room(100)
    add(buffer, entry(b"x" * 99))
    assert not buffer.has_room(1)
    buffer.take()
    assert not buffer.has_room(1)
    buffer.settle()
    assert buffer.has_room(100)


def test_what_is_abandoned_is_all_that_is_not_settled() -> None:
    buffer = Buffer(Batching(max_records=2, buffer_records=4))
    for data in (b"1", b"2", b"3", b"4"):
        add(buffer, entry(data))
    buffer.take()
    buffer.settle()
    buffer.take()
    add(buffer, entry(b"5"))
    assert [entry.data for entry, _, _ in buffer.abandon()] == [b"3", b"4", b"5"]
    assert buffer.settled == buffer.accepted == 5
    assert buffer.has_room(10**9)
    assert buffer.due_ms() is None


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(["take", "settle"])), max_size=80),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 60),
)
def test_it_holds_no_more_than_its_bounds_and_loses_nothing(
    steps: list[bytes | str], max_records: int, max_bytes: int, buffer_records: int, buffer_bytes: int
) -> None:
    buffer = Buffer(
        Batching(max_records=max_records, max_bytes=max_bytes, buffer_records=buffer_records, buffer_bytes=buffer_bytes)
    )
    accepted: list[PutEntry] = []
    settled: list[PutEntry] = []
    for step in steps:
        if isinstance(step, bytes):
            if buffer.has_room(len(step) + 1):
                accepted.append(entry(step))
                add(buffer, accepted[-1])
        elif step == "take" and not buffer.in_flight:
            taken = buffer.take()
            assert len(taken) <= max_records
            assert len(taken) <= 1 or sum(entry_bytes(each) for each, _, _ in taken) <= max_bytes
        elif step == "settle":
            settled.extend(each for each, _, _ in buffer.in_flight)
            buffer.settle()
        held = accepted[len(settled) :]
        assert (buffer.accepted, buffer.settled) == (len(accepted), len(settled))
        assert len(held) <= buffer_records
        assert len(held) <= 1 or sum(map(entry_bytes, held)) <= buffer_bytes
    assert settled + [each for each, _, _ in buffer.abandon()] == accepted
