"""The whole job: load, watch, drain, check, report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

import streamkit
from streamkit import Kit, Record, Stop, Stream, Table, ValidationError
from streamkit.demo.flights import Row, fingerprint, partition_key, rows, shipped
from streamkit.demo.pipeline import RETRY, Pipeline
from streamkit.demo.progress import Counts, Progress
from streamkit.demo.report import Carrier, Report

_SHOW_EVERY_MS = 500
_MALFORMED_SHOWN = 20


async def run(data: Path | None, directory: Path | None, progress: Progress, *, durability: Any = "fsync") -> Report:
    """Run the demo, or finish one that was killed.

    Raises:
        ValidationError: the data file or the directory is not what it must be; one sentence that says what to do.
        StreamKitError: the directory cannot be used.
    """
    path = data or shipped()
    identity = fingerprint(path)
    if directory is not None:
        return await _run(path, identity, str(directory), False, progress, durability)
    with tempfile.TemporaryDirectory(prefix="streamkit-demo-") as temporary:
        return await _run(path, identity, temporary, True, progress, durability)


async def _run(
    path: Path, identity: str, directory: str, temporary: bool, progress: Progress, durability: Any
) -> Report:
    async with streamkit.open(directory, durability=durability) as kit:
        pipeline = await Pipeline.create(kit)
        job = _Job(kit, pipeline, path, progress)
        await job.check_directory(identity)
        put_before = await job.lines_put_before()
        with progress:
            return await job.run(put_before, directory, temporary)


class _Job:
    def __init__(self, kit: Kit, pipeline: Pipeline, path: Path, progress: Progress) -> None:
        self._kit = kit
        self._pipeline = pipeline
        self._path = path
        self._progress = progress
        self._rows = 0
        self._put_now = 0
        self._malformed = 0
        self._audit = _Audit(pipeline.flights)

    async def check_directory(self, identity: str) -> None:
        """One directory, one data file: the rest of a job cannot come from another file."""
        state = self._pipeline.state
        item = await state.get("data")
        if item is None:
            await state.put({"name": "data", "sha256": identity, "path": str(self._path)})
        elif item["sha256"] != identity:
            raise ValidationError(
                f"this directory was filled from {item['path']}: pass --data with that file, or another --dir"
            )

    async def lines_put_before(self) -> int:
        """The last line that an earlier run put. One producer puts in order, so every line before it is there too."""
        last = 0
        async for record in self._pipeline.flights.records():
            last = max(last, record.value["line"])
        return last

    async def run(self, put_before: int, directory: str, temporary: bool) -> Report:
        kit, pipeline = self._kit, self._pipeline
        started = time.perf_counter()
        late, totals, cancellations = (kit.start(mapping) for mapping in pipeline.mappings())
        worker = kit.start(pipeline.rebooking.worker(pipeline.rebook(), concurrency=8, retry=RETRY))
        alarm = kit.start(
            pipeline.alarm(),
            on_alarm=lambda change: self._progress.say(f"ALARM  {change.alarm}: {change.reason}"),
        )
        kit.start(self._audit)

        def counts() -> Counts:
            return {
                "put": self._put_now,
                "counted": totals.counts.written,
                "late": late.counts.written,
                "cancelled": cancellations.counts.written,
                "rebooked": worker.handled,
            }

        def give_up_on_failure() -> None:
            # A part that failed would be waited for in vain: give up, and closing the kit says why.
            if kit.health().errors:
                job.cancel()

        redriven = 0
        with anyio.CancelScope() as job:
            kit.start(_Display(kit.clock, self._progress, counts, started, give_up_on_failure))
            await self._load(put_before)
            for mapping in (late, totals, cancellations):
                await mapping.wait_caught_up()
            await worker.wait_drained()
            redriven = await self._redrive_cut_short()
            if redriven:
                await worker.wait_drained()
            await self._audit.wait(self._rows)
        await alarm.evaluate_now()
        seconds = time.perf_counter() - started
        dead = await pipeline.rebooking_dead.describe()
        malformed = await pipeline.malformed.describe()
        return Report(
            directory=directory,
            temporary=temporary,
            durability=kit.durability,
            seconds=seconds,
            rows_put_now=self._put_now,
            rows=self._rows,
            records=self._audit.records,
            malformed=self._malformed,
            malformed_delivered=malformed.visible,
            carriers={item["carrier"]: _carrier(item) async for item in pipeline.carriers.scan()},
            late=await _count(pipeline.late_flights),
            rebooked=await _count(pipeline.rebooked),
            dead_lettered=dead.visible,
            redriven=redriven,
            alarm_state=alarm.state,
            alarm_changed=alarm.changed_at,
            alarm_reason=alarm.history[-1].reason if alarm.history else "",
            order_violations=self._audit.violations,
            first_violation=self._audit.first_violation,
        )

    async def _load(self, put_before: int) -> None:
        async with self._pipeline.flights.producer() as producer:
            for row in rows(self._path):
                self._rows += 1
                if "malformed" in row:
                    self._report_malformed(row)
                if row["line"] > put_before:
                    await producer.put(row, partition_key=partition_key(row))
                    self._put_now += 1
        if self._rows == 0:
            self._progress.say(f"{self._path} has a header and no rows")

    def _report_malformed(self, row: dict[str, Any]) -> None:
        self._malformed += 1
        if self._malformed <= _MALFORMED_SHOWN:
            self._progress.say(f"{self._path.name} line {row['line']} is malformed and set aside: {row['malformed']}")
        elif self._malformed == _MALFORMED_SHOWN + 1:
            self._progress.say("more malformed lines are set aside in queue flights-malformed")

    async def _redrive_cut_short(self) -> int:
        """Send back the dead letters that never failed: their workers were killed in the middle, three times."""
        depth = (await self._pipeline.rebooking_dead.describe()).visible
        letters = await self._pipeline.rebooking_dead.peek(max(depth, 1))
        cut_short = [letter for letter in letters if letter.value["tailnum"] is not None]
        return await self._pipeline.rebooking_dead.redrive(cut_short) if cut_short else 0


class _Display:
    """A service that shows how far the job is."""

    name = "display"

    def __init__(
        self,
        clock: Any,
        progress: Progress,
        counts: Callable[[], Counts],
        started: float,
        check: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._progress = progress
        self._counts = counts
        self._started = started
        self._check = check

    async def run(self, stop: Stop) -> None:
        """Show the counts twice a second."""
        with stop.interruptible():
            while True:
                await self._clock.sleep_until(self._clock.now_ms() + _SHOW_EVERY_MS)
                self._check()
                self._progress.show(self._counts(), time.perf_counter() - self._started)


class _Audit:
    """A service that reads everything from the beginning: are every key's records in the order of their lines?"""

    name = "audit"

    def __init__(self, flights: Stream[Row]) -> None:
        self.records = 0
        self.violations = 0
        self.first_violation = ""
        self._flights = flights
        self._last: dict[str, int] = {}
        self._wanted: int | None = None
        self._seen = anyio.Event()

    async def run(self, stop: Stop) -> None:
        """Read with a consumer of its own, which never checkpoints and so starts over at each run."""
        with stop.interruptible():
            async with self._flights.consumer("audit") as consumer:
                async for batch in consumer.batches(max_records=1000):
                    for record in batch:
                        self._look_at(record)
                    self._check()

    async def wait(self, records: int) -> None:
        """Return once that many records were seen."""
        self._wanted = records
        self._check()
        await self._seen.wait()

    def _look_at(self, record: Record[Row]) -> None:
        self.records += 1
        line = record.value["line"]
        before = self._last.get(record.partition_key, 0)
        if line <= before:
            self.violations += 1
            found = f"line {line} of key {record.partition_key} came after line {before}"
            self.first_violation = self.first_violation or found
        self._last[record.partition_key] = line

    def _check(self) -> None:
        if self._wanted is not None and self.records >= self._wanted:
            self._seen.set()


def _carrier(item: dict[str, Any]) -> Carrier:
    return {name: item[name] for name in ("flights", "cancelled", "late", "delay_minutes")}


async def _count(table: Table) -> int:
    return sum([1 async for _ in table.scan()])
