from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamkit.codecs import Codec
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.lease import LEASES, WHOLE, Lease, Start, fresh_leases, position_of, records_behind
from streamkit.streams.record import Batch, Record, StoredRecord
from streamkit.streams.store import ShardDescription, StreamDescription
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item
from streamkit.tables.write import Put, Update, updated

ROOT, LATE, CLOSED, CHILD = (f"shardId-{index:012d}" for index in range(4))
RANGE = HashKeyRange(0, 1)
STREAM = StreamDescription(
    "orders",
    7,
    0,
    (
        ShardDescription(ROOT, RANGE, 0, latest_sequence_number=9, trim_horizon=4),
        ShardDescription(LATE, RANGE, 100, latest_sequence_number=100, trim_horizon=100),
        ShardDescription(CLOSED, RANGE, 200, 205, (), 205, 200),
        ShardDescription(CHILD, RANGE, 300, None, (CLOSED,), 303, 301),
    ),
)
LEASE = Lease("billing", "orders", 7, ROOT, "one", 3, 5)


def stored(lease: Lease) -> Item:
    item = dict(lease.creation().item)
    if lease.wanted_by is not None:
        item["wanted_by"] = lease.wanted_by
    return item


def applied(lease: Lease, update: Update) -> Lease | None:
    """The lease after the write; None: its condition is false."""
    assert isinstance(update.condition, Condition)
    if not update.condition.holds(stored(lease)):
        return None
    return Lease.of_item("billing", STREAM, updated(LEASES, stored(lease), update))


def with_(**fields: Any) -> Lease:
    return msgspec.structs.replace(LEASE, **fields)


def test_a_lease_is_read_as_it_was_stored() -> None:
    for lease in (LEASE, with_(owner=None), with_(subsequence=3, heartbeat=2, parents=(CLOSED,), wanted_by="two")):
        assert Lease.of_item("billing", STREAM, stored(lease)) == lease
    creation = LEASE.creation()
    assert isinstance(creation, Put)
    assert isinstance(creation.condition, Condition)
    assert creation.condition.holds(None)
    assert not creation.condition.holds(stored(LEASE))


def test_items_of_before_there_were_wishes_and_heartbeats_are_read() -> None:
    item = {"consumer": "orders#7#billing", "shard": ROOT, "owner": "one", "counter": 3, "checkpoint": 5}
    assert Lease.of_item("billing", STREAM, {**item, "finished": False}) == LEASE


@pytest.mark.parametrize(
    ("change", "writes"),
    [
        ({}, {"checkpoint", "renewal", "taking", "by_force", "wish", "release"}),
        ({"heartbeat": 1}, {"checkpoint", "renewal", "by_force", "wish", "release"}),
        ({"checkpoint": 8}, {"checkpoint", "renewal", "taking", "by_force", "wish", "release"}),
        ({"wanted_by": "two"}, {"checkpoint", "renewal", "taking", "by_force", "release"}),
        ({"finished": True}, {"checkpoint", "renewal", "wish"}),
        ({"owner": "two", "counter": 4}, set()),
        ({"owner": None, "counter": 4}, set()),
        ({"owner": "one", "counter": 4}, set()),
    ],
)
def test_what_may_be_written_to_a_lease_that_has_changed(change: dict[str, Any], writes: set[str]) -> None:
    tried = {
        "checkpoint": LEASE.checkpoint_write(6),
        "renewal": LEASE.renewal(),
        "taking": LEASE.taking("three"),
        "by_force": LEASE.taking("three", by_force=True),
        "wish": LEASE.wish("three"),
        "release": LEASE.release(),
    }
    now = with_(**change)
    assert {name for name, write in tried.items() if applied(now, write)} == writes


def test_only_a_change_of_owner_raises_the_counter() -> None:
    wanted = with_(wanted_by="two")
    assert applied(LEASE, LEASE.checkpoint_write(6, 2)) == with_(checkpoint=6, subsequence=2)
    assert applied(with_(subsequence=2), LEASE.checkpoint_write(6, finished=True)) == with_(checkpoint=6, finished=True)
    assert applied(LEASE, LEASE.renewal()) == with_(heartbeat=1)
    assert applied(LEASE, LEASE.wish("two")) == wanted
    assert applied(wanted, wanted.unwish()) == LEASE
    assert applied(wanted, LEASE.taking("three")) == with_(owner="three", counter=4)
    assert applied(LEASE, LEASE.release()) == with_(owner=None, counter=4)
    assert applied(wanted, wanted.release()) == with_(owner="two", counter=4)


def test_it_is_not_handed_over_to_one_that_does_not_want_it_any_more() -> None:
    wanted = with_(wanted_by="two")
    assert applied(LEASE, wanted.release()) is None
    assert applied(with_(wanted_by="three"), wanted.release()) is None
    assert applied(with_(wanted_by="three"), wanted.unwish()) is None


@pytest.mark.parametrize(
    ("start", "known", "checkpoints", "finished"),
    [
        ("TRIM_HORIZON", [], [4, 100, 200, 301], []),
        ("LATEST", [], [9, 100, 205, 303], [CLOSED]),
        # Who was there before has seen nothing of a child, and is told of what was trimmed of it.
        ("TRIM_HORIZON", [CLOSED], [4, 100, 200, 300], []),
        ("LATEST", [CLOSED], [9, 100, 205, 300], [CLOSED]),
        # Also when all that it knew has expired.
        ("LATEST", ["shardId-older"], [9, 100, 205, 300], [CLOSED]),
        (None, [], [None, None, None, None], []),
    ],
)
def test_where_a_consumer_begins(start: Start | None, known: list[str], checkpoints: list[Any], finished: Any) -> None:
    fresh = fresh_leases("billing", STREAM, start, known)
    assert list(fresh) == [ROOT, LATE, CLOSED, CHILD]
    assert [lease.checkpoint for lease in fresh.values()] == checkpoints
    assert [shard_id for shard_id, lease in fresh.items() if lease.finished] == finished
    assert {(lease.owner, lease.counter) for lease in fresh.values()} == {(None, 1)}
    assert fresh[CHILD].parents == (CLOSED,)


def test_how_many_records_are_behind() -> None:
    root, late, closed, _ = STREAM.shards
    assert records_behind(root, None) == 5
    assert records_behind(root, with_(checkpoint=None)) == 5
    assert records_behind(root, with_(checkpoint=3)) == 5
    assert records_behind(root, with_(checkpoint=7)) == 2
    assert records_behind(root, with_(checkpoint=7, subsequence=1)) == 3
    assert records_behind(root, with_(checkpoint=9)) == 0
    assert records_behind(late, None) == 0
    assert records_behind(closed, None) == 5
    # The description may be older than the checkpoint.
    assert records_behind(root, with_(checkpoint=12)) == 0


def test_a_position_is_after_what_was_done() -> None:
    codec: Codec[Any] = Codec(None)
    plain = Record(StoredRecord(5, 0, "k", b""), ROOT, codec)
    first, second = (Record(StoredRecord(6, 0, "k", b""), ROOT, codec, sub) for sub in range(2))
    assert position_of(plain) == (5, WHOLE)
    assert position_of(Batch(ROOT, [plain, first])) == (6, 0)
    assert position_of(plain) < position_of(first) < position_of(second) < (6, WHOLE)
    assert LEASE.position == position_of(plain)
    assert with_(checkpoint=6, subsequence=1).position == position_of(second)
    assert with_(checkpoint=None).position == (0, WHOLE)
    assert (LEASE.done_to, with_(checkpoint=None).done_to) == (5, 0)
