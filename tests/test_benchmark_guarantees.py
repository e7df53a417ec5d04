"""Each kind of violation is found, said in a sentence, and leaves the program without a number."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import streamkit
from benchmarks.__main__ import main
from benchmarks.guarantees import counters, killing, queues, scenes, streams
from benchmarks.guarantees.child import Place
from benchmarks.guarantees.counts import Count, compare, count_of
from benchmarks.guarantees.diary import Diary, events
from benchmarks.guarantees.findings import Findings
from benchmarks.guarantees.messages import GroupOrder, Visibility
from benchmarks.guarantees.order import Acknowledged, KeyOrder, Lineage, OneAtATime, ProducerOrder, ShardOrder
from benchmarks.guarantees.resuming import Resuming
from benchmarks.guarantees.watching import GroupWatch, StreamWatch, runs
from benchmarks.measure import ON_DISK, SYNCED, Lane, Setting, WrongResultError
from benchmarks.workloads.ordering import ORDERING
from streamkit import Batch, Consumer, Queue, Record, Send, Update, each
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.store import ShardDescription

ROOT = Path(__file__).parent.parent


def shard(name: str, start: int, latest: int, *parents: str) -> ShardDescription:
    return ShardDescription(name, HashKeyRange(0, 1), start, None, parents, latest)


def lost(items: list[Any]) -> list[Any]:
    return items[:2] + items[3:]


def lost_at_the_end(items: list[Any]) -> list[Any]:
    return items[:-1]


def doubled(items: list[Any]) -> list[Any]:
    return items[:3] + items[2:]


def swapped(items: list[Any]) -> list[Any]:
    return [items[0], items[2], items[1], *items[3:]]


def begun_late(items: list[Any]) -> list[Any]:
    return items[1:]


def nothing(items: list[Any]) -> list[Any]:
    return []


Spoil = Callable[[list[Any]], list[Any]]
SPOILED = [lost, lost_at_the_end, doubled, swapped, begun_late, nothing]


def spoilt(*spoils: Spoil) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spoil", spoils or SPOILED, ids=lambda spoil: str(spoil.__name__))


# ---- order


def shard_order(numbers: list[int]) -> Findings:
    findings = Findings()
    order = ShardOrder(findings, "a reader")
    for number in numbers:
        order.see("s-0", number)
    order.end([shard("s-0", 100, 105), shard("s-1", 200, 200)])
    return findings


def key_order(places: list[int]) -> Findings:
    findings = Findings()
    order = KeyOrder(findings, "a reader")
    for place in places:
        order.see("ada", place)
    order.end({"ada": 5})
    return findings


def producer_order(places: list[int]) -> Findings:
    findings = Findings()
    order = ProducerOrder(findings, "a reader", {"p": 5})
    for place in places:
        order.see("s-0", "p", place)
    order.end()
    return findings


def acknowledged(places: list[int]) -> Findings:
    findings = Findings()
    known = Acknowledged(findings)
    for place in range(6):
        known.asked("ada", place)
        if place < 5:  # The last was put, and its process died.
            known.acked("ada", place, "s-0", place + 1)
    for place in places:
        known.see("s-0", place + 1, "ada", place)
    known.end()
    return findings


@pytest.mark.parametrize(
    ("check", "right"),
    [
        (shard_order, list(range(101, 106))),
        (key_order, list(range(5))),
        (producer_order, list(range(5))),
        (acknowledged, list(range(5))),
    ],
)
@spoilt()
def test_what_is_lost_doubled_or_swapped_is_found(
    check: Callable[[list[int]], Findings], right: list[int], spoil: Spoil
) -> None:
    found = check(right)
    assert (found.events, found.violations, found.first) == (5, 0, "")
    spoiled = check(spoil(right))
    assert spoiled.violations >= 1
    assert re.search(r"\d", spoiled.first), "it names what came"


def test_the_first_violation_says_what_came_and_what_should_have() -> None:
    first = shard_order([101, 102, 104, 105]).first
    assert first == "a reader was handed number 104 of s-0, and 103 was to come next"
    assert shard_order([101, 102]).violations == 3
    assert shard_order([101, 102]).first == "a reader was handed s-0 up to number 102, and it has records up to 105"
    assert key_order([0, 1, 1, 2, 3, 4]).first == "a reader was handed record 1 of ada, and 2 was to come next"
    assert "record 1 of p behind 2 in s-0" in producer_order([0, 2, 1, 3, 4]).first
    assert producer_order([0, 1, 2, 3, 4, 5]).first == "a reader was handed record 5 of p, which nobody put"
    assert key_order([0, 1]).first == "a reader was handed 2 records of ada, of which 5 were acknowledged"


def test_a_producers_order_is_within_a_shard() -> None:
    findings = Findings()
    order = ProducerOrder(findings, "a reader", {"p": 3})
    for shard_id, place in (("s-0", 0), ("s-1", 2), ("s-0", 1)):
        order.see(shard_id, "p", place)
    order.end()
    assert findings.violations == 0


def test_what_was_put_and_not_acknowledged_is_there_once_or_not_at_all() -> None:
    assert acknowledged([0, 1, 2, 3, 4, 5]).violations == 0
    twice = Findings()
    known = Acknowledged(twice)
    known.asked("ada", 0)
    known.see("s-0", 1, "ada", 0)
    known.see("s-1", 1, "ada", 0)
    assert twice.first == "record 0 of ada is number 1 of s-1 and also 1 of s-0, and was to be there once"
    assert acknowledged([0, 1, 2, 3, 4, 6]).first == "number 7 of s-0 is record 6 of ada, which nobody put"
    assert acknowledged([1, 2, 3, 4]).first == "record 0 of ada is lost: it was acknowledged as number 1 of s-0"


def test_a_record_under_another_number_than_acknowledged_is_found() -> None:
    findings = Findings()
    known = Acknowledged(findings)
    known.asked("ada", 0)
    known.acked("ada", 0, "s-0", 7)
    known.see("s-0", 8, "ada", 0)
    assert findings.first == "record 0 of ada is number 8 of s-0, and was acknowledged as 7 of s-0"


# ---- shards and their children


FAMILY = [shard("s-0", 0, 5), shard("s-1", 10, 10, "s-0"), shard("s-2", 20, 25, "s-1"), shard("s-3", 30, 35, "s-1")]
"""s-0 became s-1, which took no record and became s-2 and s-3."""


def lineage(*told: tuple[str, int | None]) -> Findings:
    findings = Findings()
    checked = Lineage(findings, "the consumer")
    for shard_id, done in told:
        if done is None:
            checked.read(shard_id)
        else:
            checked.done(shard_id, done)
    checked.end(FAMILY)
    return findings


def test_a_child_is_read_after_all_above_it() -> None:
    right = lineage(("s-0", None), ("s-0", 3), ("s-0", 5), ("s-2", None), ("s-3", None), ("s-0", 4))
    assert (right.events, right.violations) == (2, 0)
    early = lineage(("s-0", None), ("s-0", 3), ("s-2", None), ("s-0", 5), ("s-3", None))
    assert early.violations == 1
    assert early.first == (
        "the consumer was handed s-2 when s-0 above it was done up to number 3, and was to finish that first, up to 5"
    )
    assert lineage(("s-2", None)).violations == 1


def test_two_calls_with_a_key_in_common_are_found() -> None:
    findings = Findings()
    calls = OneAtATime(findings)
    calls.begin({"ada", "bob"})
    calls.begin({"carol"})
    calls.end({"ada", "bob"})
    calls.begin({"ada"})
    assert findings.violations == 0
    calls.begin({"dan", "carol"})
    assert "records of carol at once" in findings.first


# ---- checkpoints


class Story:
    """A consumer's, in short."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.resuming = Resuming(self.findings)

    def read(self, holder: str, first: int, last: int) -> Story:
        self.resuming.read(holder, "s", first, last)
        return self

    def asked(self, holder: str, number: int) -> Story:
        self.resuming.asked(holder, "s", number)
        return self

    def kept(self, holder: str, number: int) -> Story:
        self.resuming.asked(holder, "s", number)
        self.resuming.kept(holder, "s", number)
        return self

    def refused(self, holder: str, number: int) -> Story:
        self.resuming.asked(holder, "s", number)
        self.resuming.refused(holder, "s", number)
        return self

    def end(self, latest: int) -> Findings:
        self.resuming.end([shard("s", 0, latest)])
        return self.findings


def test_a_consumer_goes_on_behind_its_checkpoint_and_repeats_the_rest() -> None:
    story = Story().read("a", 1, 4).kept("a", 2).read("a", 5, 6).read("b", 3, 8).kept("b", 8)
    assert (story.end(8).violations, story.resuming.repeats) == (0, 4)


def test_a_checkpoint_of_which_nobody_heard_holds_or_does_not() -> None:
    assert Story().read("a", 1, 4).kept("a", 2).asked("a", 4).read("b", 3, 6).kept("b", 6).end(6).violations == 0
    assert Story().read("a", 1, 4).kept("a", 2).asked("a", 4).read("b", 5, 6).kept("b", 6).end(6).violations == 0
    # It may be answered late, and it may have been the last.
    late = Story().read("a", 1, 4).asked("a", 4).read("b", 5, 6)
    late.resuming.kept("a", "s", 4)
    assert late.kept("b", 6).end(6).violations == 0
    assert Story().read("a", 1, 4).asked("a", 4).end(4).violations == 0


def test_a_worker_that_lost_a_shard_and_has_it_again_begins_anew() -> None:
    story = Story().read("a", 1, 4).refused("a", 4).read("b", 1, 2).kept("b", 2).read("a", 3, 4).kept("a", 4)
    assert story.end(4).violations == 0
    back = Story().read("a", 1, 4).kept("a", 2).read("b", 3, 4).kept("b", 4).read("a", 5, 6).kept("a", 6)
    assert back.end(6).violations == 0


@pytest.mark.parametrize(
    ("story", "latest", "sentence"),
    [
        (Story().read("a", 1, 2).read("a", 4, 5).kept("a", 5), 5, r"a began s with number 4, and was to begin with 1,"),
        (Story().read("a", 1, 4).kept("a", 4).read("b", 6, 7).kept("b", 7), 7, "b began s with number 6, and was.* 5,"),
        (Story().read("a", 1, 4).kept("a", 4).read("b", 3, 7).kept("b", 7), 7, "b began s with number 3, and was.* 5,"),
        (
            Story().read("a", 1, 4).refused("a", 4).read("a", 5, 6).kept("a", 6),
            6,
            "a began s with number 5, and was.* 1,",
        ),
        (Story().read("a", 1, 4).read("a", 3, 5).kept("a", 5), 5, "a began s with number 3"),
        (Story().read("a", 1, 4).read("b", 1, 6).kept("b", 6).kept("a", 4), 6, "a could checkpoint s at 4.* refused"),
        (Story().read("a", 1, 4).read("b", 1, 6).kept("a", 4).kept("b", 6), 6, "b could checkpoint s at 6.* refused"),
        (Story().read("a", 1, 4).kept("a", 4), 6, "s was done up to number 4, and has records up to 6"),
        (Story().read("a", 1, 4).kept("a", 2), 4, "s was done up to number 2, and has records up to 4"),
        (Story().read("a", 2, 4).kept("a", 4), 4, "first number of s that came was 2, and 1 was to come"),
    ],
    ids=[
        "a gap",
        "a gap behind the checkpoint",
        "a repeat from before the checkpoint",
        "more of a shard that was lost",
        "a repeat for the same worker",
        "a checkpoint goes back",
        "two checkpoint the same",
        "lost at the end",
        "not checkpointed at the end",
        "the first are lost",
    ],
)
def test_what_is_wrong_about_a_checkpoint_is_found(story: Story, latest: int, sentence: str) -> None:
    findings = story.end(latest)
    assert findings.violations >= 1
    assert re.search(sentence, findings.first), findings.first


# ---- queues


def group_order(told: Sequence[tuple[Any, ...]], left: int = 0) -> Findings:
    """``told``: (place, at) a delivery at that ms, ("handled", place), ("failed",)."""
    findings = Findings()
    order = GroupOrder(findings, 1000)
    for place in range(3):
        order.acked("g", place)
    for event in told:
        if event[0] == "handled":
            order.handled("g", event[1])
        elif event[0] == "failed":
            order.failed("g")
        else:
            order.begin("g", event[0], event[1], event[1])
    order.end(left)
    return findings


def handled(*places: int) -> list[tuple[Any, ...]]:
    return [event for at, place in enumerate(places) for event in ((place, at * 10), ("handled", place))]


def test_a_group_in_order_is_right_also_after_failures_and_deaths() -> None:
    assert group_order(handled(0, 1, 2)).violations == 0
    failed = [(0, 0), ("failed",), (0, 1), ("handled", 0), *handled(1, 2)]
    assert group_order(failed).violations == 0
    # Its handler died; or its deletion did not hold before the process died.
    assert group_order([(0, 0), (0, 1000), ("handled", 0), *handled(1, 2)]).violations == 0
    assert group_order([(0, 0), ("handled", 0), (0, 1000), ("handled", 0), *handled(1, 2)]).violations == 0


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (handled(0, 2), "message 2 of g came, and 1 was to come next"),
        (handled(0, 1), "message 2 of g never came: 3 were acknowledged"),
        (handled(1, 0, 2), "message 1 of g came, and 0 was to come next"),
        (handled(0, 1, 0, 2), "message 0 of g came back after it was deleted, and 2 was to come next"),
        (handled(0, 0, 1, 2), "message 0 of g came again 990 ms before its visibility timeout had run out"),
        ([(0, 0), (1, 1), ("handled", 0), ("handled", 1), (2, 2)], "message 1 of g came while 0 was in flight"),
        ([(0, 0), ("failed",), *handled(1, 2)], "message 1 of g came while 0 was in flight"),
        ([(0, 0), (0, 500), ("handled", 0), *handled(1, 2)], "message 0 of g came again 500 ms before"),
    ],
    ids=["lost", "lost at the end", "swapped", "back", "doubled", "two in flight", "passed a failed one", "too early"],
)
def test_what_is_wrong_in_a_group_is_found(told: Sequence[tuple[Any, ...]], sentence: str) -> None:
    assert group_order(told).first.startswith(sentence)


def test_messages_that_are_left_are_found() -> None:
    assert group_order(handled(0, 1, 2), left=2).violations == 2
    assert group_order(handled(0, 1, 2), left=2).first.startswith("2 messages are left in the queue")


class Deliveries:
    """Of a standard queue, in short; each is hidden for 1000 ms."""

    def __init__(self, sent: int = 2, acked: int = 2) -> None:
        self.findings = Findings()
        self.visibility = Visibility(self.findings)
        for place in range(sent):
            self.visibility.asked(place)
        for place in range(acked):
            self.visibility.acked(place)

    def received(self, place: int, at: float) -> Deliveries:
        self.visibility.received(place, at, at, 1000)
        return self

    def deleting(self, place: int) -> Deliveries:
        self.visibility.deleting(place)
        return self

    def deleted(self, place: int) -> Deliveries:
        self.visibility.deleting(place)
        self.visibility.deleted(place)
        return self

    def end(self, left: int = 0) -> Findings:
        self.visibility.end(left)
        return self.findings


def test_a_message_comes_again_when_its_timeout_has_run_out() -> None:
    right = Deliveries().received(0, 0).received(1, 5).deleted(1).received(0, 1000).deleted(0)
    assert (right.end().violations, right.visibility.repeats) == (0, 1)
    # A deletion of which nobody heard may hold; so may a send.
    assert Deliveries().received(0, 0).deleting(0).received(1, 0).deleted(1).end().violations == 0
    assert Deliveries(3).received(0, 0).deleted(0).received(1, 0).deleted(1).end().violations == 0
    assert Deliveries(1, 0).received(0, 0).deleted(0).end().violations == 0


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Deliveries().received(0, 0).deleted(0).end(), "message 1 never came, though its send was acknowledged"),
        (Deliveries(1, 1).received(0, 0).received(0, 900).end(), "message 0 came to two receivers: the second 100 ms"),
        (Deliveries(1, 1).received(0, 0).deleted(0).received(0, 2000).end(), "message 0 came back after its deletion"),
        (Deliveries(1, 1).received(1, 0).end(), "message 1 came, and nobody sent it"),
        (Deliveries(1, 1).received(0, 0).end(), "message 0 is gone, and was to come back: nobody deleted it"),
        (Deliveries(1, 1).received(0, 0).deleted(0).end(left=1), "1 messages are left in the queue"),
    ],
    ids=["lost", "doubled", "back", "phantom", "gone", "left"],
)
def test_what_is_wrong_with_a_delivery_is_found(found: Findings, sentence: str) -> None:
    assert found.violations >= 1
    assert found.first.startswith(sentence)


# ---- counters


@pytest.mark.parametrize(
    ("counter", "sentence"),
    [
        (count_of([0, 1, 2]), ""),
        (count_of([0, 1, 2, 2]), "the counter of ada says 4, and 3 records of it are in the stream"),
        (count_of([0, 1]), "the counter of ada says 2, and 3 records of it are in the stream"),
        (count_of([0, 1, 1]), "the counter of ada says 3, as it should, but of other records: .* 2, and to 3 in"),
        (Count(3, 3, 9), "of other records"),
        (Count(), "the counter of ada says 0, and 3"),
    ],
    ids=["right", "counted twice", "not counted", "one twice and one not", "others with the same sum", "no counter"],
)
def test_counters_are_held_against_the_records(counter: Count, sentence: str) -> None:
    findings = Findings()
    compare(findings, {"ada": counter}, {"ada": [2, 0, 1]})
    assert findings.events == 3
    assert bool(findings.violations) is bool(sentence)
    assert re.search(sentence, findings.first)


def test_a_counter_of_nothing_is_found() -> None:
    findings = Findings()
    compare(findings, {"ghost": count_of([0])}, {})
    assert findings.first == "the counter of ghost says 1, and 0 records of it are in the stream"


# ---- from what is told to rows


def test_a_stream_that_is_right_has_rows_without_violations_and_a_violation_is_in_its_row() -> None:
    def told(*, skip: int | None = None) -> dict[str, int]:
        watch = StreamWatch(7, "load", "reshards")
        watch.tell("asked", ["ada"] * 3, [0, 1, 2])
        watch.tell("acked", ["ada"] * 3, [0, 1, 2], ["s"] * 3, [1, 2, 3])
        for number in (1, 2, 3):
            if number != skip:
                watch.tell("read", "w", "s", [number], ["ada"], [number - 1])
                watch.tell("asks", "w", "s", number)
                watch.tell("kept", "w", "s", number)
        watch.tell("read", "v", "s", [3], ["ada"], [2])
        watch.tell("refused", "v", "s", 3)
        watch.end([shard("s", 0, 3)], [("s", number, "ada", number - 1) for number in (1, 2, 3)])
        return {name: row.violations for name, row in watch.rows().items()}

    right = told()
    assert right.pop("only what has no checkpoint comes again") == 1, "v was handed what w has checkpointed"
    assert set(right.values()) == {0}
    assert told(skip=2)["order per key across reshards"] >= 1
    assert list(runs([1, 2, 5, 6, 9])) == [(1, 2), (5, 6), (9, 9)]


def test_a_violation_says_its_seed_and_the_seed_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = GroupWatch(77, "load", 1.0)
    watch.tell("begin", "g", 1, 0.0, 0.0)
    (row,) = watch.rows().values()
    assert row.first.endswith("(ORDERING_SEED=77 makes this round again)")
    monkeypatch.setenv("ORDERING_SEED", "77")
    assert streams.seed() == 77
    monkeypatch.delenv("ORDERING_SEED")
    assert streams.seed() != streams.seed()


def test_a_diary_is_read_up_to_the_line_in_which_its_process_died(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    Diary(path).tell("stream", "asked", ["ada"], [0])
    with path.open("ab") as file:
        file.write(b'["stream","acked",["ad')
    ((event, offset),) = events(path)
    assert event == ["stream", "asked", ["ada"], [0]]
    assert path.read_bytes()[offset:].startswith(b'["stream","acked"')
    assert list(events(path, offset)) == []


# ---- processes


async def test_victims_are_killed_and_none_is_left(tmp_path: Path) -> None:
    setting = Setting(tmp_path, tmp_path, small=True)
    async with killing.Victims(setting, "streams", Random(1)) as victims:
        told = await victims.live(Place(0, 1), last=False)
        waiting = victims._next
        assert waiting is not None
        ended = [waiting.returncode]
    ended.append(waiting.returncode)
    assert ended == [None, -signal.SIGKILL]
    assert {word for _, word, *_ in told} >= {"asked", "acked"}
    async with streamkit.open(tmp_path / "data") as kit:  # Nobody else has it.
        acked = sum(len(words[0]) for _, word, *words in told if word == "acked")
        assert len((await scenes.everything(kit.stream("orders", type=bytes)))[1]) >= acked > 0


async def test_a_victim_that_ends_by_itself_is_a_wrong_result(tmp_path: Path) -> None:
    setting = Setting(tmp_path, tmp_path, small=True)
    async with killing.Victims(setting, "no such scene", Random(1)) as victims:
        with pytest.raises(WrongResultError, match=r"(?s)ended by itself with 1: .*KeyError: 'no such scene'"):
            await victims.live(Place(0, 1), last=True)


async def test_a_child_that_is_never_told_where_to_begin_ends(tmp_path: Path) -> None:
    words = ("-m", "benchmarks.guarantees.child", "streams", str(tmp_path / "data"), str(tmp_path / "diary"), "fsync")
    child = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(child.wait(), 60) == 0
    assert not (tmp_path / "data").exists()


# ---- from something broken to the end of the program


def run_broken(lane: Any, monkeypatch: pytest.MonkeyPatch, engine: str = "memory") -> int:
    workload = replace(ORDERING[0], lanes=[Lane(lane, SYNCED)])
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", [workload])
    monkeypatch.setattr(scenes, "PATIENCE", 0.3)
    monkeypatch.setattr(queues, "PATIENCE", 0.3)
    return main(["--small", "--engine", engine])


def says_no_number(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    said = capsys.readouterr()
    assert "WRONG, so there are no numbers: ordering: " in said.err
    assert re.search(sentence, said.err), said.err
    assert re.search(r"ORDERING_SEED=\d+", said.err)
    assert "events checked" not in said.out


def of_one_key(records: Sequence[Record[Any]], spoil: Spoil) -> list[Record[Any]]:
    """The same with those of one key spoiled; as they are if no key has three."""
    keys = [record.partition_key for record in records]
    key = max(keys, key=keys.count)
    if keys.count(key) < 3:
        return list(records)
    others = [record for record in records if record.partition_key != key]
    return others + spoil([record for record in records if record.partition_key == key])


def spoil_a_batch(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """Of all that consumers are handed, one batch."""
    hand_out = Consumer._next
    spoiled = False

    async def spoiling(self: Consumer[Any], max_records: int, busy: Any) -> Batch[Any] | None:
        nonlocal spoiled
        batch = await hand_out(self, max_records, busy)
        if batch is None or spoiled:
            return batch
        records = of_one_key(batch.records, spoil)
        spoiled = records != list(batch.records)
        return Batch(batch.shard_id, records) if spoiled else batch

    monkeypatch.setattr(Consumer, "_next", spoiling)


def test_what_is_not_broken_is_told_with_how_much_was_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_broken(streams.per_shard, monkeypatch) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"order per shard +load: 8 producers, 4 consumers +12,800 +0", line)


@spoilt(lost, doubled, swapped)
@pytest.mark.parametrize("lane", [streams.per_shard, streams.uniform_keys, streams.across_reshards])
def test_a_batch_that_is_spoiled_on_its_way_leaves_no_number(
    lane: Any, spoil: Spoil, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_a_batch(monkeypatch, spoil)
    assert run_broken(lane, monkeypatch) == 1
    says_no_number(capsys, r"was handed (number|record) \d+ of .*, and \d+ was to come next|was handed .* acknowledged")


def test_a_worker_that_is_handed_too_much_leaves_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_a_batch(monkeypatch, lost)
    assert run_broken(streams.across_steals, monkeypatch) == 1
    says_no_number(capsys, r"began shardId-\d+ with number \d+, and was to begin with|was to come next")


def test_a_queue_that_forgets_deletions_leaves_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def deleted(self: Queue[Any], messages: Sequence[Any]) -> list[None]:
        return [None] * len(messages)

    monkeypatch.setattr(Queue, "delete_batch", deleted)
    assert run_broken(queues.one_at_a_time, monkeypatch) == 1
    says_no_number(capsys, "under load: 8 senders, 16 receivers: 320 messages are left in the queue")


def test_a_message_that_is_shown_too_early_leaves_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receive = Queue.receive

    async def receiving(self: Queue[Any], most: int, *, visibility_timeout: float, wait: float) -> Any:
        return await receive(self, most, visibility_timeout=0, wait=wait)

    monkeypatch.setattr(Queue, "receive", receiving)
    assert run_broken(queues.one_at_a_time, monkeypatch) == 1
    says_no_number(capsys, r"message \d+ came to two receivers: the second \d+ ms before|came back after its deletion")


def test_a_group_that_is_swapped_on_its_way_leaves_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    send_batch = Queue.send_batch

    async def swapping(self: Queue[Any], values: Any) -> Any:
        first, second, *rest = values
        assert isinstance(first, Send)
        return await send_batch(self, [second, first, *rest])

    monkeypatch.setattr(Queue, "send_batch", swapping)
    assert run_broken(queues.groups, monkeypatch) == 1
    says_no_number(capsys, r"message 1 of group-\d+ came, and 0 was to come next")


def test_a_counter_that_counts_twice_leaves_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @each
    async def twice(record: Record[bytes]) -> Update:
        return Update(key={"key": record.partition_key}, add={"seen": 2, "places": 0, "squares": 0})

    monkeypatch.setattr(counters, "counted", twice)
    assert run_broken(counters.exactly_once, monkeypatch) == 1
    says_no_number(capsys, r"the counter of 0/0 says \d+, and \d+ records of it are in the stream")


@spoilt(lost, doubled, swapped)
def test_what_is_spoiled_across_a_kill_leaves_no_number(
    spoil: Spoil, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def spoiling(stream: Any) -> Any:
        shards, there = await scenes.everything(stream)
        key = there[0][2]
        of_key = [at for at, record in enumerate(there) if record[2] == key]
        spoiled = spoil([there[at] for at in of_key])
        others = [record for record in there if record[2] != key]
        return shards, spoiled + others

    monkeypatch.setattr("benchmarks.guarantees.killing.everything", spoiling)
    monkeypatch.setattr(killing, "kills", lambda setting: 1)
    assert run_broken(killing.streams, monkeypatch, "file") == 1
    says_no_number(capsys, r"under kill -9.*: (record|a reader was handed) .*\d")


def test_lanes_that_are_killed_are_of_an_engine_on_disk() -> None:
    killed = {killing.streams, killing.queues}
    for workload in ORDERING:
        for lane in workload.lanes:
            assert (tuple(lane.engines) == tuple(ON_DISK)) is (lane.run in killed)
