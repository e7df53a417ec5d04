"""A trial kit crashes as a process does, and its disk fails on demand."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from pathlib import Path

import pytest

import streamkit.testing
from streamkit import Batch, EventSourceMapping, Metric, Retry, Stop, StorageError
from streamkit.engines.base import Durability
from streamkit.errors import ClosedError, DirectoryInUseError, DiskFullError, JournalFailedError, ValidationError
from streamkit.testing import ManualClock, TrialKit
from streamkit.testing.trial import OPEN


async def test_it_is_a_kit_in_a_directory_of_its_own() -> None:
    async with streamkit.testing.open() as kit:
        assert isinstance(kit, TrialKit)
        assert isinstance(kit, streamkit.Kit)
        assert kit.directory is not None
        assert OPEN[kit].startswith(__file__)
        directory = os.path.dirname(kit.directory)
        assert directory.rpartition(os.sep)[2].startswith("streamkit-trial-")
        before = kit.clock.now_ms()
        await kit.clock.advance(30)
        assert kit.clock.now_ms() - before == 30_000
    assert not os.path.exists(directory)  # noqa: ASYNC240
    assert kit not in OPEN


async def test_a_directory_that_is_given_stays_and_others_share_its_clock(tmp_path: Path) -> None:
    clock = ManualClock()
    async with streamkit.testing.open(tmp_path / "data", clock=clock) as kit:
        assert kit.clock is clock
        await (await kit.create_stream("s")).put(1, partition_key="k")
        with pytest.raises(DirectoryInUseError):
            await streamkit.testing.open(tmp_path / "data")
    async with streamkit.open(tmp_path / "data", clock=clock) as again:
        assert [one.value for one in await again.stream("s").tail()] == [1]
    with pytest.raises(ValidationError, match="needs no trial"):
        streamkit.testing.open(f"{tmp_path}/data?mode=ro")


@pytest.mark.parametrize("power_loss", [False, True])
async def test_what_was_acknowledged_survives_a_crash_and_nothing_else_happens(power_loss: bool) -> None:
    async with streamkit.testing.open() as kit:
        directory = kit.directory
        orders = await kit.create_stream("orders")
        jobs = await kit.create_queue("jobs")
        table = await kit.create_table("out", partition_key="id")
        await orders.put(1, partition_key="k")
        await jobs.send("job")
        await table.put({"id": 1})
        kit.metrics.put(Metric.of("mine", "Lost"), 1)
        started = asyncio.Event()
        ended: list[str] = []

        async def work(value: str) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        class Asked:
            name = "asked"

            async def run(self, stop: Stop) -> None:
                with stop.interruptible():
                    await asyncio.Event().wait()
                ended.append("asked to stop")

        kit.start(Asked())
        kit.start(jobs.worker(work))
        await started.wait()
        late = asyncio.create_task(orders.put(2, partition_key="k"))
        crashed, kit = kit, await kit.crash(power_loss=power_loss)
        with pytest.raises(StorageError):
            await late
        assert ended == ["cancelled"]
        assert crashed.directory == kit.directory == directory
        for call in (crashed.crash(), orders.put(3, partition_key="k"), jobs.send("no")):
            with pytest.raises(ClosedError):
                await call
        assert [one.value for one in await kit.stream("orders").tail()] == [1]
        assert await kit.table("out").get(1) == {"id": 1}
        assert "mine" not in {metric.namespace for metric in await kit.metrics.list_metrics()}
        # Nobody showed it again: it is hidden until its timeout, and has been received. (A power loss may take the
        # receives of the last 100 ms.)
        found = await kit.queue("jobs").describe()
        assert power_loss or (found.visible, found.not_visible) == (0, 1)
        await kit.clock.advance(30)
        (message,) = await kit.queue("jobs").receive()
        assert power_loss or message.receive_count == 2
    assert OPEN == {}


@pytest.mark.parametrize(("durability", "survives"), [("memory", False), ("fsync", True)])
async def test_a_power_loss_takes_what_was_not_synced(durability: Durability, survives: bool) -> None:
    async with streamkit.testing.open(durability=durability) as kit:
        orders = await kit.create_stream("orders")
        await orders.put_batch([("k", n) for n in range(5)])
        kit = await kit.crash()
        assert len(await kit.stream("orders").tail()) == 5, "the system writes it, whoever is killed"
        await kit.stream("orders").put_batch([("k", n) for n in range(5)])
        kit = await kit.crash(power_loss=True)
        assert len(await kit.stream("orders").tail()) == (10 if survives else 5), "an opening syncs what it found"


async def test_a_mapping_counts_each_record_once_through_crashes() -> None:
    async with streamkit.testing.open() as kit:
        await kit.create_stream("orders")
        await kit.create_table("totals", partition_key="id")
        for crash in range(4):
            orders = kit.stream("orders")
            await orders.put_batch([("k", 1) for _ in range(10)])

            async def add(batch: Batch[int]) -> list[streamkit.Update]:
                return [streamkit.Update(key={"id": "all"}, add={"count": 1}) for _ in batch]

            kit.start(EventSourceMapping("m", source=orders, sink=kit.table("totals"), function=add, batch_size=3))
            if crash < 3:
                await asyncio.sleep(0)
                kit = await kit.crash()
        await kit.drain()
        assert await kit.table("totals").get("all") == {"id": "all", "count": 40}


async def test_a_consumer_that_was_entered_can_be_left_after_the_crash() -> None:
    async with streamkit.testing.open() as kit:
        orders = await kit.create_stream("orders")
        await orders.put(1, partition_key="k")
        async with orders.consumer("c") as consumer:
            batches = consumer.batches()
            first = await anext(batches)
            kit = await kit.crash()
            with pytest.raises(ClosedError):
                await consumer.checkpoint(first)
            with pytest.raises(ClosedError):
                await anext(batches)
        async with kit.stream("orders").consumer("c") as consumer:
            assert (await anext(consumer.batches())).values == [1], "at once, though nobody released its lease"


async def test_a_handler_in_a_thread_is_waited_for_and_nothing_comes_of_it() -> None:
    go, began = threading.Event(), threading.Event()

    def work(value: int) -> None:
        began.set()
        assert go.wait(10)

    async with streamkit.testing.open() as kit:
        jobs = await kit.create_queue("jobs")
        await jobs.send(1)
        kit.start(jobs.worker(work))
        await asyncio.to_thread(began.wait, 10)
        asyncio.get_running_loop().call_later(0.02, go.set)
        kit = await kit.crash()
        assert go.is_set()
        assert (await kit.queue("jobs").describe()).not_visible == 1


async def test_on_memory_a_crash_loses_everything_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with streamkit.testing.open("memory:") as kit:
        await kit.create_stream("orders")
        with caplog.at_level(logging.WARNING, logger="streamkit.testing"):
            kit = await kit.crash()
        assert "a kit on memory crashed: everything is lost" in caplog.text
        assert await kit.streams() == []
        assert kit.directory is None
        with pytest.raises(ValidationError, match="has no disk that could fail"), kit.faults.full_disk():
            pass


async def test_a_full_disk_refuses_changes_while_it_is_full_and_is_read_on() -> None:
    async with streamkit.testing.open() as kit:
        orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
        table = await kit.create_table("tab", partition_key="id")
        await orders.put(1, partition_key="k")
        await jobs.send("before")
        worked: list[str] = []
        with kit.faults.full_disk():
            assert "full" in repr(kit.faults)
            for change in (
                orders.put(2, partition_key="k"),
                jobs.send("no"),
                table.put({"id": 1}),
                kit.create_stream("no"),
            ):
                with pytest.raises(DiskFullError):
                    await change
            assert [one.value for one in await orders.tail()] == [1]
            kit.start(jobs.worker(worked.append, retry=Retry(jitter=False)))
            await kit.clock.advance(10)
            assert worked == []
            kit = await kit.crash()
            with pytest.raises(DiskFullError):
                await kit.stream("orders").put(2, partition_key="k")
        await kit.stream("orders").put(2, partition_key="k")
        kit.start(kit.queue("jobs").worker(worked.append))
        await kit.drain()
        assert worked == ["before"]


async def test_a_sync_that_fails_stops_the_journal_until_it_is_opened_again() -> None:
    async with streamkit.testing.open() as kit:
        orders = await kit.create_stream("orders")
        await orders.put(1, partition_key="k")
        with kit.faults.failing("sync", errno.EIO, path="elsewhere"):
            await orders.put(2, partition_key="k")
        with kit.faults.failing("sync", errno.EIO, path="journal"), pytest.raises(JournalFailedError, match="Errno 5"):
            await orders.put(3, partition_key="k")
        with pytest.raises(JournalFailedError):
            await orders.put(4, partition_key="k")
        kit = await kit.crash(power_loss=True)
        assert [one.value for one in await kit.stream("orders").tail()] == [1, 2]
        assert kit.faults.files.counts()["sync"] >= 1


def there(directory: str) -> bool:
    return os.path.exists(directory)


async def test_a_crash_is_of_the_same_directory_wherever_the_test_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for url in ("data", "file:link"):
        async with streamkit.testing.open(url) as kit:
            await (await kit.create_stream("s")).put(1, partition_key="k")
            monkeypatch.chdir(tmp_path / "elsewhere")
            kit = await kit.crash()
            assert [one.value for one in await kit.stream("s").tail()] == [1]
        monkeypatch.chdir(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["data", "elsewhere", "link", "real"]
    assert os.listdir(tmp_path / "elsewhere") == []
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("turns", [0, 1, 2, 10, 100])
async def test_a_cancelled_crash_is_one_and_leaves_nothing_behind(turns: int) -> None:
    async with streamkit.testing.open() as kit:
        directory = str(kit.directory)
        await kit.create_stream("s")
        crash = asyncio.create_task(kit.crash())
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        crash.cancel()
        with pytest.raises(asyncio.CancelledError):
            await crash
        assert there(directory)
        with pytest.raises(ClosedError):
            await kit.streams()
    assert not there(os.path.dirname(directory))
    assert OPEN == {}


async def test_what_cannot_be_opened_again_says_so_once_and_leaves_nothing_behind() -> None:
    async with streamkit.testing.open() as kit:
        directory = str(kit.directory)
        with kit.faults.failing("open"), pytest.raises(StorageError):
            await kit.crash()
    assert not there(os.path.dirname(directory))
    assert OPEN == {}


async def test_what_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "strange").write_text("x")
    with pytest.raises(StorageError, match="choose an empty directory"):
        await streamkit.testing.open(tmp_path)
    assert OPEN == {}
