"""Metric filters on streams and queues of a kit: from what is put to the samples, through stops and restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Kit
from streamkit.clock import to_datetime
from streamkit.errors import DiskFullError, ValidationError
from streamkit.functions.metric_filters import FLUSH_MS, MetricsSink, metric_filters
from streamkit.functions.pattern import Pattern
from streamkit.functions.sink import BufferingSink
from streamkit.metrics.filter_pattern import FilterPattern, RegexFilter
from streamkit.metrics.filtering import Filtering
from streamkit.metrics.metric import Metric
from streamkit.metrics.metric_filter import MetricFilter, MetricTransformation
from streamkit.metrics.window import Metrics
from streamkit.monitoring.flusher import Flusher
from streamkit.testing.clock import ManualClock

ERRORS = Metric.of("app", "Errors")
MINUTE = timedelta(minutes=1)


def filter_of(pattern: Any, value: str | float = 1, name: str = "Errors", **options: Any) -> MetricFilter:
    options = {"unit": "Count", **options}
    transformation = MetricTransformation(metric_namespace="app", metric_name=name, metric_value=value, **options)
    return MetricFilter(name, FilterPattern(pattern) if isinstance(pattern, str) else pattern, transformation)


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def settle(clock: ManualClock, seconds: float = 8) -> None:
    for _ in range(round(seconds)):
        await clock.advance(1)


def total(kit: Kit, metric: Metric = ERRORS) -> tuple[int, float] | None:
    found = kit.metrics.total(metric)
    return None if found is None else (found.sample_count, found.sum)


@pytest.mark.parametrize("kind", ["stream", "queue", "queue.fifo"])
async def test_every_kind_of_pattern_makes_samples(kit: Kit, clock: ManualClock, kind: str) -> None:
    values = [
        "ERROR disk full",
        "took 120 ms",
        "INFO fine",
        {"level": "ERROR", "latency": 70.5, "user": "ada"},
        {"level": "INFO", "latency": 2, "user": "bob"},
        "10.0.0.1 GET 500",
    ]
    filters = [
        filter_of("ERROR"),
        filter_of("{ $.latency > 50 }", "$.latency", name="Latency", unit="Milliseconds"),
        filter_of(RegexFilter(r"took (?P<ms>\d+) ms"), "$ms", name="Took", unit="Milliseconds"),
        filter_of(Pattern({"level": ["INFO"]}), "$.latency", name="Info", dimensions={"User": "$.user"}),
        filter_of("[ip, method, status=5*]", "$status", name="Status"),
    ]
    if kind == "stream":
        stream = await kit.create_stream("logs")
        kit.start(metric_filters("filters", stream, filters))
        await settle(clock, 1)
        await stream.put_batch([("k", value) for value in values])
    else:
        queue = await kit.create_queue(kind, fifo=kind.endswith("fifo"))
        kit.start(metric_filters("filters", queue, filters))
        for at, value in enumerate(values):
            if kind == "queue":
                await queue.send(value)
            else:
                await queue.send(value, group_id="g", deduplication_id=str(at))
    await settle(clock)
    assert total(kit) == (2, 2)  # Terms look at JSON as text.
    assert total(kit, Metric.of("app", "Latency")) == (1, 70.5)
    assert total(kit, Metric.of("app", "Took")) == (1, 120)
    assert total(kit, Metric.of("app", "Info", User="bob")) == (1, 2)
    assert total(kit, Metric.of("app", "Status")) == (1, 500)
    assert kit.metrics.raw.units(Metric.of("app", "Took")) == ["Milliseconds"]
    if kind != "stream":
        assert (await queue.describe()).visible == 0


async def test_lines_are_text_with_whatever_bytes(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs", type=bytes)
    kit.start(metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
    lines = [b"ERROR \xff\x00", b'"ERROR', b'"ERROR in quotes"', b"", b"{ERROR", b"fine"]
    await logs.put_batch([("k", line) for line in lines])
    await settle(clock)
    assert total(kit) == (4, 4)


async def test_samples_are_at_the_instant_of_their_record(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs")
    began = to_datetime(clock.now_ms()).replace(second=0, microsecond=0)
    await logs.put("ERROR one", partition_key="k")
    await clock.advance(3600)
    await logs.put("ERROR two", partition_key="k")
    await logs.put("ERROR three", partition_key="k")
    await clock.advance(3600)
    kit.start(metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
    await settle(clock)
    points = await kit.metrics.datapoints(ERRORS, ["Sum"], began, began + timedelta(hours=3), 60)
    assert [(point.start - began, point.values["Sum"]) for point in points] == [
        (timedelta(0), 1),
        (timedelta(hours=1), 2),
    ]


async def test_filters_see_what_comes_after_them(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs")
    await logs.put("ERROR before", partition_key="k")
    kit.start(metric_filters("filters", logs, [filter_of("ERROR")]))
    await settle(clock)
    assert total(kit) is None
    await logs.put("ERROR after", partition_key="k")
    await settle(clock)
    assert total(kit) == (1, 1)


async def test_a_minute_without_a_match_has_the_default_value(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs")
    kit.start(metric_filters("filters", logs, [filter_of("ERROR", default_value=0)], starting_position="TRIM_HORIZON"))
    # Of one minute, in several reads: what matches in one of them is a match of the minute.
    await clock.advance(60 - clock.now_ms() / 1000 % 60)
    for line in ("fine", "ERROR", "fine"):
        await logs.put(line, partition_key="k")
        await clock.advance(1)
    await settle(clock)
    assert total(kit) == (1, 1)
    await clock.advance(60)
    await logs.put("fine", partition_key="k")
    await settle(clock)
    assert total(kit) == (2, 1)


# ---- at least once


async def test_the_checkpoint_waits_for_the_samples(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs")
    live = kit.start(metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
    await logs.put("ERROR", partition_key="k")
    await clock.advance(FLUSH_MS / 1000 - 1)
    assert total(kit) is None
    assert (await live.lag()).records == 1
    await settle(clock, 2)
    assert total(kit) == (1, 1)
    assert (await live.lag()).records == 0
    assert live.counts.written == 1


async def test_a_stop_leaves_nothing_behind_and_a_start_goes_on(kit: Kit, clock: ManualClock) -> None:
    logs = await kit.create_stream("logs")
    mapping = metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON")
    sent = 0
    for _ in range(3):
        live = kit.start(mapping)
        for _ in range(5):
            await logs.put("ERROR", partition_key="k")
            sent += 1
            await clock.advance(0.5)
        await kit.stop(live)
        await logs.put("ERROR while it was stopped", partition_key="k")
        sent += 1
    kit.start(mapping)
    await settle(clock)
    assert total(kit) == (sent, sent)


async def test_samples_outlive_the_kit_and_are_counted_once(tmp_path: Path, clock: ManualClock) -> None:
    began = to_datetime(clock.now_ms()) - MINUTE
    for round_ in range(3):
        async with streamkit.open(tmp_path, clock=clock) as kit:
            logs = await kit.create_stream("logs", exist_ok=True)
            jobs = await kit.create_queue("jobs", exist_ok=True)
            kit.start(metric_filters("of-logs", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
            kit.start(metric_filters("of-jobs", jobs, [filter_of("ERROR", name="Jobs")]))
            await logs.put_batch([("k", "ERROR"), ("k", "fine")])
            await jobs.send("ERROR")
            await settle(clock)
            points = await kit.metrics.statistics(ERRORS, began, to_datetime(clock.now_ms()) + MINUTE, 60)
            assert sum(found.sum for _, found in points) == round_ + 1
            points = await kit.metrics.statistics(
                Metric.of("app", "Jobs"), began, to_datetime(clock.now_ms()) + MINUTE, 60
            )
            assert sum(found.sum for _, found in points) == round_ + 1


async def test_a_checkpoint_that_moved_has_its_samples_on_disk(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crashed(self: Flusher) -> None:
        """What the close would have stored is lost."""

    began = to_datetime(clock.now_ms()) - MINUTE
    with monkeypatch.context() as patch:
        patch.setattr(Flusher, "close", crashed)
        async with streamkit.open(tmp_path, clock=clock) as kit:
            logs = await kit.create_stream("logs")
            live = kit.start(metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
            await logs.put("ERROR", partition_key="k")
            kit.metrics.put(Metric.of("app", "Other"), 1)
            await settle(clock)
            assert live.counts.written == 1
            # From here on nothing is stored any more, not by the mapping's stop either.
            kit.metrics.raw.flush = Metrics().flush
            kit.metrics.put(Metric.of("app", "Later"), 1)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        names = {metric.name for metric in await kit.metrics.list_metrics("app")}
        assert names == {"Errors", "Other"}
        kit.start(metric_filters("filters", kit.stream("logs"), [filter_of("ERROR")]))
        await settle(clock)
        points = await kit.metrics.statistics(ERRORS, began, to_datetime(clock.now_ms()) + MINUTE, 60)
        assert sum(found.sum for _, found in points) == 1


async def test_a_crash_between_put_and_store_takes_no_samples_away(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = to_datetime(clock.now_ms()) - MINUTE
    full = True

    async def write(writes: Sequence[Any], token: str | None = None) -> Any:
        if full and any(each.table.startswith("streamkit-metrics") for each in writes):
            raise DiskFullError(str(tmp_path))
        return await real(writes, token)

    async with streamkit.open(tmp_path, clock=clock) as kit:
        logs = await kit.create_stream("logs")
        await kit.metrics.flush()
        real = kit.engine.tables.write
        with monkeypatch.context() as patch:
            patch.setattr(kit.engine.tables, "write", write)
            live = kit.start(metric_filters("filters", logs, [filter_of("ERROR")], starting_position="TRIM_HORIZON"))
            await logs.put("ERROR", partition_key="k")
            await settle(clock, 30)
            assert total(kit) == (1, 1)  # Tried again and again, it is not put twice.
            assert (await live.lag()).records == 1
            full = False
            await settle(clock, 90)
            assert (await live.lag()).records == 0
    async with streamkit.open(tmp_path, clock=clock) as kit:
        points = await kit.metrics.statistics(ERRORS, began, to_datetime(clock.now_ms()) + MINUTE, 60)
        assert sum(found.sum for _, found in points) == 1


# ---- rules


def test_it_is_a_buffering_sink(clock: ManualClock) -> None:
    assert isinstance(MetricsSink([filter_of("x")], Metrics(), clock), BufferingSink)


async def test_filters_are_checked(kit: Kit) -> None:
    logs = await kit.create_stream("logs")
    wrong: Any = ["ERROR"]
    for filters, message in (
        ([], "give 1 to 100"),
        ([filter_of("x")] * 2, "have the name 'Errors'"),
        ([filter_of("x", name=f"f{at}") for at in range(101)], "give 1 to 100"),
        (wrong, "is no MetricFilter"),
    ):
        with pytest.raises(ValidationError, match=message):
            metric_filters("filters", logs, filters)


def test_what_is_out_of_time_is_counted() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    now_ms = round(now.timestamp() * 1000)
    metrics = Metrics()
    filtering = Filtering([filter_of("ERROR")], metrics)
    fortnight_ms = 14 * 86_400_000
    events = [(now_ms - fortnight_ms, "ERROR"), (now_ms - fortnight_ms - 1, "ERROR"), (now_ms + 7_200_001, "ERROR")]
    filtering.put(events, now_ms)
    assert (filtering.counts.published, filtering.counts.out_of_time) == (1, 2)
    assert filtering.counts.matched == 3


def test_many_values_and_metrics_are_put_in_legal_calls() -> None:
    metrics = Metrics()
    filtering = Filtering([filter_of("{ $.v >= 0 }", "$.v", dimensions={"Key": "$.k"})], metrics)
    filtering.put([(0, {"v": at, "k": f"k{at % 900}"}) for at in range(9_000)], 0)
    filtering.put([(0, {"v": at, "k": "k0"}) for at in range(1_000)], 0)
    assert len(metrics.list_metrics()) == 900
    totals = [total for each in metrics.list_metrics() if (total := metrics.total(each)) is not None]
    assert sum(total.sample_count for total in totals) == 10_000
    assert metrics.latest(Metric.of("app", "Errors", Key="k0")) == 999


def test_too_many_dimensions_are_dropped_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    filtering = Filtering([filter_of("{ $.v = 1 }", dimensions={"Key": "$.k"})], Metrics())
    for start in range(0, 2_000, 500):
        filtering.put([(0, {"v": 1, "k": f"k{at}"}) for at in range(start, start + 500)], 0)
    assert (filtering.counts.published, filtering.counts.dropped) == (1_000, 1_000)
    assert len([record for record in caplog.records if "drops matches" in record.message]) == 1
