"""Loads that are not the simplest one: whose the records are, what is verified of them, and when they are due."""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.figures import Latencies, WrongResultError
from benchmarks.keys import Distribution, hot, uniform, zipf
from benchmarks.measure import Checked, Figure, Lane, Setting, Timeline, Workload, chunks
from benchmarks.mix import BATCH, PRODUCERS, Found, Mix, expected_tables, records, verify_tables
from benchmarks.order import Check, Pair, Records, tasks_verify
from benchmarks.pace import OpenLoop, Tally, arrivals, closed_loop, real_time, watched
from benchmarks.samples import Sample, costs, memory, peak, samples_of
from benchmarks.workloads.consumers import CONSUMERS
from benchmarks.workloads.keys import KEYS
from benchmarks.workloads.mixed import MIXED, rates
from benchmarks.workloads.open_loop import OPEN_LOOP
from benchmarks.workloads.sizes import SIZED, calls, cells
from streamkit.limits import MIB, Limits
from streamkit.testing.clock import ManualClock

DISTRIBUTIONS = [uniform(50), zipf(50), hot(50, 0.9), hot(50, 1.0)]


# ---- keys


def frequencies(distribution: Distribution, count: int) -> list[float]:
    """Shares of all, by key."""
    found = Counter(distribution.turns(count))
    return [found[at] / count for at in range(len(distribution.weights))]


def test_uniform_keys_are_as_frequent_as_each_other() -> None:
    assert frequencies(uniform(10), 50_000) == pytest.approx([0.1] * 10, rel=0.1)
    assert uniform(10).hottest == pytest.approx(10.0)


def test_by_zipf_the_nth_key_has_an_nth_of_the_first() -> None:
    found = frequencies(zipf(1000, 1.0), 200_000)
    for at in (2, 3, 5, 10):
        assert found[0] / found[at - 1] == pytest.approx(at, rel=0.1)
    # The weight of the first of 1,000 keys is 1 over the 1,000th harmonic number.
    assert zipf(1000, 1.0).hottest == pytest.approx(100 / 7.4855, rel=1e-4)


def test_a_hot_key_has_its_share_and_the_others_the_rest() -> None:
    found = frequencies(hot(11, 0.9), 50_000)
    assert found[0] == pytest.approx(0.9, rel=0.02)
    assert found[1:] == pytest.approx([0.01] * 10, rel=0.2)
    assert frequencies(hot(11, 1.0), 100) == [1.0, *[0.0] * 10]
    assert hot(1, 1.0).turns(3) == [0, 0, 0]


def test_keys_are_drawn_the_same_in_every_run() -> None:
    assert zipf(100).turns(1000) == zipf(100).turns(1000)


# ---- verification, whosever the records are


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_records_have_the_keys_that_were_drawn(distribution: Distribution) -> None:
    turns = distribution.turns(60)
    records = distribution.records(100, 60)
    # What comes after those that were drawn has their keys once more.
    assert [key for key, _ in records.batch(range(150))] == [records.keys[turns[at % 60]] for at in range(150)]


def by_key(records: Records, count: int) -> list[Pair]:
    """What a right run gives back: those of a key in their order, keys in any."""
    return sorted(records.batch(range(count)), key=lambda pair: (pair[0], pair[1]))


@pytest.mark.parametrize("count", [0, 1, 59, 60, 61, 150])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_verification_accepts_a_right_run(distribution: Distribution, count: int) -> None:
    records = distribution.records(100, 60)
    records.verify(by_key(records, count), count)
    records.verify(records.batch(range(count)), count)


def lost(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[51:]


def doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:]


def lost_and_doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:50] + pairs[51:]


def swapped(pairs: list[Pair]) -> list[Pair]:
    """Two neighbours of one key."""
    key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    first, second = [place for place, pair in enumerate(pairs) if pair[0] == key][:2]
    changed = list(pairs)
    changed[first], changed[second] = pairs[second], pairs[first]
    return changed


def under_a_key_that_nobody_drew(pairs: list[Pair]) -> list[Pair]:
    return [*pairs[:50], ("key-50", pairs[50][1]), *pairs[51:]]


SPOILED = [lost, doubled, lost_and_doubled, swapped, under_a_key_that_nobody_drew]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: str(spoil.__name__))
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_verification_catches(distribution: Distribution, spoil: Callable[[list[Pair]], list[Pair]]) -> None:
    records = distribution.records(100, 60)
    with pytest.raises(WrongResultError):
        records.verify(spoil(records.batch(range(150))), 150)


def test_a_record_under_a_key_that_gets_none_is_caught() -> None:
    records = hot(50, 1.0).records(100, 60)
    with pytest.raises(WrongResultError, match="under 'key-3', which nobody put"):
        Check(records).see("key-3", records.payload(3))


def test_a_record_that_nobody_acknowledged_does_not_make_up_for_one_that_is_lost() -> None:
    records = Records(100, keys=16)
    with pytest.raises(WrongResultError, match="record 199 of key-7 was acknowledged and is not there"):
        records.verify([*records.batch(range(199)), *records.batch([200])], 200)


# ---- sizes


def test_a_call_has_no_more_than_kinesis_takes_and_a_cell_no_more_than_fits_into_seconds() -> None:
    limits, setting = Limits.aws(), Setting(Path(), Path())
    found = list(cells((1, 10, 100, 500)))
    assert len(found) == 11, "all but 500 of 100 KiB"
    for size, batch in found:
        assert size * batch <= limits.put_bytes
        total = calls(setting, size, batch, 500) * size * batch
        assert total <= max(32 * MIB, 3 * size * batch)
        assert calls(setting, size, batch, 500) >= 3


# ---- open loop


class ManualPace:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock(0)
        self.stood_still = 0.0
        """Seconds that passed while no timer could run."""

    def now(self) -> float:
        return self.clock.now_ms() / 1000 + self.stood_still

    async def until(self, moment: float) -> None:
        await asyncio.sleep(0)
        await self.clock.sleep_until(math.ceil((moment - self.stood_still) * 1000))


class Service:
    """Answers one request after another, each within a millisecond; but once it stands still for a second."""

    def __init__(self, pace: ManualPace, *, stalls_at: float) -> None:
        self._pace = pace
        self._free = 0.0
        self._stalls_at = stalls_at

    async def answer(self) -> None:
        begins = max(self._pace.now(), self._free)
        if self._stalls_at <= begins < self._stalls_at + 1:
            begins = self._stalls_at + 1
        self._free = begins + 0.001
        await self._pace.clock.sleep_until(round(self._free * 1000))


async def seen_by_an_open_loop(rate: float, count: int) -> Latencies:
    pace = ManualPace()
    service = Service(pace, stalls_at=1.0)
    loop = OpenLoop(pace, arrivals(rate, count, seed=3), first=100)

    async def request(place: int) -> None:
        await service.answer()
        loop.done(place)

    running = asyncio.create_task(loop.run(request))
    await pace.clock.advance(60)
    await running
    return Latencies(loop.latencies)


async def seen_by_a_closed_loop(rate: float, count: int) -> Latencies:
    """What everybody writes: ask, wait for the answer, write down how long that took, and ask again a while later."""
    pace = ManualPace()
    service = Service(pace, stalls_at=1.0)
    latencies: list[float] = []

    async def client() -> None:
        for _ in range(count):
            asked = pace.now()
            await service.answer()
            latencies.append(pace.now() - asked)
            await pace.until(asked + 1 / rate)

    running = asyncio.create_task(client())
    await pace.clock.advance(60)
    await running
    return Latencies(latencies)


async def test_an_open_loop_shows_a_stall_that_a_closed_one_hides() -> None:
    """Three seconds at a quarter of what the service can do, of which it stands still for one."""
    hidden = await seen_by_a_closed_loop(250, 750)
    shown = await seen_by_an_open_loop(250, 750)
    assert hidden.count == shown.count == 750
    assert hidden.largest == pytest.approx(1.0, abs=0.01)
    assert shown.largest == pytest.approx(1.0, abs=0.05)
    # The closed loop asked once during that second, of which its percentiles say nothing.
    assert hidden.quantile(0.99) == pytest.approx(0.001)
    # Of what was due then, each had to wait for the rest of it: from a second down to nothing.
    assert shown.quantile(0.25) < 0.01
    assert shown.quantile(0.9) > 0.5
    assert shown.quantile(0.99) > 0.9


async def test_a_latency_counts_from_when_the_request_was_due_however_late_it_was_begun() -> None:
    """The event loop itself was busy for two seconds, so that nobody began what was due."""
    pace = ManualPace()
    loop = OpenLoop(pace, [0.5, 1.0, 1.5, 2.5])

    async def request(place: int) -> None:
        loop.done(place)

    running = asyncio.create_task(loop.run(request))
    await pace.clock.advance(0)
    pace.stood_still = 1.5
    await pace.clock.advance(3)
    await running
    assert loop.latencies == [1.5, 1.0, 0.5, 0.0]
    assert loop.late == loop.latencies


async def test_requests_that_are_not_done_have_no_latency_and_others_are_none_of_this_loop() -> None:
    pace = ManualPace()
    loop = OpenLoop(pace, [0.001, 0.002], first=10)

    async def request(place: int) -> None:
        if place == 11:
            loop.done(place)

    running = asyncio.create_task(loop.run(request))
    await pace.clock.advance(1)
    await running
    loop.done(9)
    assert loop.latencies == [0.0]


async def test_a_request_that_fails_is_not_passed_over() -> None:
    pace = ManualPace()

    async def request(place: int) -> None:
        raise ConnectionError(place)

    running = asyncio.create_task(OpenLoop(pace, [0.001]).run(request))
    await pace.clock.advance(1)
    with pytest.raises(ExceptionGroup):
        await running


def test_arrivals_are_those_of_a_poisson_process() -> None:
    found = arrivals(100.0, 20_000, seed=1)
    between = [later - earlier for earlier, later in pairwise([0.0, *found])]
    assert all(each >= 0 for each in between)
    assert statistics.mean(between) == pytest.approx(0.01, rel=0.03)
    # Exponential: the deviation is as large as the mean, and an e-th part takes longer than it.
    assert statistics.stdev(between) == pytest.approx(0.01, rel=0.03)
    assert sum(each > 0.01 for each in between) / len(between) == pytest.approx(0.3679, rel=0.03)
    assert found == arrivals(100.0, 20_000, seed=1) != arrivals(100.0, 20_000, seed=2)


async def test_clients_of_a_closed_loop_ask_everything_once_and_so_many_at_once() -> None:
    asked: list[int] = []
    at_once: list[int] = []
    waiting = 0

    async def request(place: int) -> None:
        nonlocal waiting
        asked.append(place)
        waiting += 1
        at_once.append(waiting)
        await asyncio.sleep(0)
        waiting -= 1

    await closed_loop(4, range(5, 25), request)
    assert sorted(asked) == list(range(5, 25))
    assert max(at_once) == 4


async def test_while_the_loop_stands_still_all_that_is_due_waits() -> None:
    pace = ManualPace()
    late: list[float] = []
    async with watched(pace, late, every=0.125):
        await pace.clock.advance(1.25)
        assert late == [0.0] * 10
        # Nobody has a turn for a second: what was due first has waited longest.
        pace.stood_still = 1.0
        await pace.clock.advance(0.125)
    assert late[10:] == [1.0 - 0.125 * at for at in range(9)]


@pytest.mark.parametrize("platform", [sys.platform, "another"])
async def test_real_time_is_never_early(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pace.sys", SimpleNamespace(platform=platform))
    with real_time() as pace:
        for moment in (pace.now() + 0.001, pace.now() - 1, pace.now()):
            await pace.until(moment)
            assert pace.now() >= moment


async def test_others_have_their_turn_while_everything_is_due() -> None:
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    spinning = asyncio.create_task(other())
    with real_time() as pace:
        for _ in range(3):
            await pace.until(pace.now() - 1)
    spinning.cancel()
    assert len(turns) >= 3


async def test_a_tally_is_waited_for_until_it_is_reached() -> None:
    tally = Tally()
    tally.add(2)
    await tally.reaches(2)
    waiting = asyncio.create_task(tally.reaches(5))
    await asyncio.sleep(0)
    tally.add(2)
    await asyncio.sleep(0)
    assert not waiting.done()
    tally.add(2)
    await waiting
    with pytest.raises(WrongResultError, match="7 were to come, and after 6 none did"):
        await tally.reaches(7, patience=0)


# ---- everything at once


def test_a_batch_has_the_keys_of_one_producer_and_a_key_has_one_producer() -> None:
    of_key: dict[str, set[int]] = {}
    for at, places in enumerate(chunks(BATCH * PRODUCERS * 30, BATCH)):
        for key, _ in records().batch(places):
            of_key.setdefault(key, set()).add(at % PRODUCERS)
    assert all(len(producers) == 1 for producers in of_key.values())
    assert {producer for producers in of_key.values() for producer in producers} == set(range(PRODUCERS))


def right_tables(count: int) -> Found:
    """What mappings leave behind that take each record in order."""
    counts: dict[str, int] = {}
    latest: dict[str, int] = {}
    for key, data in records().batch(range(count)):
        counts[key] = counts.get(key, 0) + 1
        latest[key] = int(data[:20])
    return {"counts": counts, "latest": latest}


def test_right_tables_are_accepted() -> None:
    assert right_tables(2000) == expected_tables(2000)
    verify_tables(right_tables(2000), 2000)


@pytest.mark.parametrize("table", ["counts", "latest"])
@pytest.mark.parametrize("by", [1, -1])
def test_a_record_that_counted_twice_or_never_or_came_late_is_caught(table: str, by: int) -> None:
    found = right_tables(2000)
    found[table]["key-0"] += by
    with pytest.raises(WrongResultError, match=f"table {table}: 1 of .* keys are wrong: key-0 has"):
        verify_tables(found, 2000)


@pytest.mark.parametrize("table", ["counts", "latest"])
def test_a_key_that_is_missing_or_that_nobody_put_is_caught(table: str) -> None:
    missing, strange = right_tables(2000), right_tables(2000)
    del missing[table]["key-0"]
    strange[table]["key-stranger"] = 1
    for found in (missing, strange):
        with pytest.raises(WrongResultError, match=f"table {table}: 1 of"):
            verify_tables(found, 2000)


async def a_batch_twice(self: Mix, at: int) -> None:
    await put_batch(self, at)
    if at == 3:
        await self._stream.put_batch(self._prepared[at])


async def a_record_less(self: Mix, at: int) -> None:
    if at == 3:
        # Of the key of which most are still to come, so that this shows at once, and not when none comes any more.
        keys = [key for key, _ in self._prepared[at]]
        del self._prepared[at][keys.index(max(keys, key=keys.count))]
    await put_batch(self, at)


async def two_records_swapped(self: Mix, at: int) -> None:
    if at == 3:
        pairs = self._prepared[at]
        first = next(place for place, pair in enumerate(pairs) if [key for key, _ in pairs].count(pair[0]) > 1)
        second = next(place for place, pair in enumerate(pairs) if pair[0] == pairs[first][0] and place > first)
        pairs[first], pairs[second] = pairs[second], pairs[first]
    await put_batch(self, at)


async def a_message_twice(self: Mix, at: int) -> None:
    await put_batch(self, at)
    if at == 3:
        await self._queue.send(self.handled[0] if self.handled else Records(100, 1).payload(at))


put_batch = Mix.put_batch


@pytest.mark.parametrize(
    "broken", [a_batch_twice, a_record_less, two_records_swapped, a_message_twice], ids=lambda each: str(each.__name__)
)
async def test_of_what_goes_wrong_while_everything_runs_there_are_no_numbers(
    broken: Callable[[Mix, int], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Mix, "put_batch", broken)
    with pytest.raises(WrongResultError):
        await run_small(MIXED[0].lanes[0], tmp_path)


async def test_what_is_wrong_in_one_of_several_tasks_is_the_run_s_wrong_result() -> None:
    async def wrong() -> None:
        raise WrongResultError("record 7 came twice")

    with pytest.raises(WrongResultError, match="record 7 came twice"), tasks_verify():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wrong())


async def test_what_else_fails_in_a_task_is_left_as_it_is() -> None:
    async def broken() -> None:
        raise ConnectionError

    with pytest.raises(ExceptionGroup), tasks_verify():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(broken())


def test_rates_are_what_was_added_between_two_looks() -> None:
    assert rates([(0.0, 0.0), (0.5, 100.0), (0.5, 100.0), (1.5, 150.0)]) == [(0.5, 200.0), (1.5, 50.0)]
    assert rates([(0.0, 5.0)]) == []


# ---- a process that is watched

LOOKS = [Sample(at, at * 10, size * MIB) for at, size in ((1, 10), (2, 30), (4, 20), (8, 5), (9, 6), (10, 7))]


def test_the_cost_of_a_history_is_told_by_quarters_of_what_was_done() -> None:
    """Of 100 pieces, 25, 50 and 75 were reached by the looks at 40, 80 and 80: too few looks to tell."""
    even = [Sample(float(done + (done > 50) * (done - 50)), done, MIB) for done in range(10, 101, 5)]
    assert costs(even) == pytest.approx([1.0, 1.0, 2.0, 2.0])
    with pytest.raises(WrongResultError, match="6 looks at 100 of them do not tell one quarter from another"):
        costs(LOOKS)


def test_the_peak_is_of_a_quarter_of_the_looks() -> None:
    many = [Sample(at, at, size) for at, size in enumerate([1, 9, 2, 3, 7, 4, 5, 6])]
    assert [peak(many, quarter) for quarter in range(1, 5)] == [9, 3, 7, 6]
    assert peak(many[:1], 1) == peak(many[:1], 4) == 1


def test_memory_is_told_over_time() -> None:
    assert memory(LOOKS) == Timeline("MiB", [(1, 10), (2, 30), (4, 20), (8, 5), (9, 6), (10, 7)])
    assert samples_of({"samples": [[1.5, 2, 3]]}) == [Sample(1.5, 2, 3)]


# ---- all of them, in memory


ALL = (*KEYS, *SIZED, *OPEN_LOOP, *CONSUMERS, *MIXED)


@pytest.mark.parametrize("workload", ALL, ids=lambda each: f"{each.name}: {each.title}")
async def test_it_runs_in_memory_and_has_every_row_that_it_shows(workload: Workload, tmp_path: Path) -> None:
    rows: set[str] = set()
    for at, lane in enumerate(workload.lanes):
        (tmp_path / str(at)).mkdir()
        found = await lane.run(Setting(tmp_path / str(at), tmp_path, small=True, engine="memory"))
        assert all(each.value > 0 for each in found.values() if isinstance(each, Figure))
        rows |= {name for name, each in found.items() if isinstance(each, Figure)}
    shown = {row for chart in workload.charts for line in chart.lines.values() for row in line.values()}
    assert shown | set(workload.compared) <= rows


async def run_small(lane: Lane, tmp_path: Path) -> dict[str, object]:
    return dict(await lane.run(Setting(tmp_path, tmp_path, small=True, engine="memory")))


async def test_an_open_loop_tells_the_whole_distribution(tmp_path: Path) -> None:
    found = await run_small(OPEN_LOOP[1].lanes[0], tmp_path)
    counts = {name: each.count for name, each in found.items() if isinstance(each, Latencies)}
    assert counts == {f"at {share} % of the capacity": share for share in (20, 50, 80)}


async def test_of_everything_at_once_memory_and_throughput_are_told_over_time(tmp_path: Path) -> None:
    found = await run_small(MIXED[0].lanes[0], tmp_path)
    timelines = {name: each for name, each in found.items() if isinstance(each, Timeline)}
    assert {each.unit for each in timelines.values()} == {"MiB", "records/s", "messages/s"}
    assert "resident memory, over time" in timelines
    for each in timelines.values():
        assert [at for at, _ in each.points] == sorted(at for at, _ in each.points)
        assert any(value > 0 for _, value in each.points)
    checked = [each for each in found.values() if isinstance(each, Checked)]
    assert [(each.events, each.violations) for each in checked] == [(4 * 600, 0), (600, 0), (24, 0)]
    gaps = found["event-loop gap, as each millisecond waited"]
    assert isinstance(gaps, Latencies)
    longest = found["longest the loop stood still"]
    assert isinstance(longest, Figure)
    assert longest.value == pytest.approx(gaps.largest * 1e3)
