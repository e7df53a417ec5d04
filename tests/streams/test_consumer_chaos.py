"""Workers that come, go and die while shards split and merge: every record is handled, and each key in its order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.balance import Leasing
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import held, kill


class Slow:
    """A store that waits some turns of the loop before and after each call, never the same number twice running."""

    turns = 0

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self._some()):
                await asyncio.sleep(0)
            answer = await method(*args, **kwargs)
            for _ in range(self._some()):
                await asyncio.sleep(0)
            return answer

        return call

    def _some(self) -> int:
        self.turns += 1
        return self.turns * 7 % 4


class Step(msgspec.Struct, frozen=True):
    kind: str
    which: int
    seconds: float
    keys: str


steps = st.builds(
    Step,
    kind=st.sampled_from(["put", "put", "join", "join", "leave", "die", "restart", "split", "merge", "wait"]),
    which=st.integers(0, 3),
    seconds=st.sampled_from([0.0, 0.0, 0.3, 2.0, 7.0]),
    keys=st.text("abcdefgh", max_size=12),
)


class Workers:
    """Workers of one consumer, each running a handler that takes some time, and what they handled of each key."""

    def __init__(self, engine: MemoryEngine, clock: ManualClock, concurrency: int, tell: bool) -> None:
        self._engine = engine
        self._clock = clock
        self._concurrency = concurrency
        self._tell = tell
        self._tables = Slow(engine.tables)
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.running: dict[int, tuple[Consumer[int], asyncio.Task[None]]] = {}

    async def join(self, which: int) -> None:
        leases = LeaseTable(self._tables if self._tell else Slow(self._engine.tables))
        consumer: Consumer[int] = Consumer(
            "billing",
            "orders",
            Codec(int),
            Slow(self._engine.streams),
            leases,
            self._clock,
            Metrics(),
            leasing=Leasing(failover=3.0, handover=2.0),
        )
        await consumer.__aenter__()
        task = asyncio.create_task(consumer.run(self._handle, max_records=3, concurrency=self._concurrency))
        self.running[which] = consumer, task

    async def leave(self, which: int) -> None:
        consumer, task = self.running.pop(which)
        task.cancel()
        await asyncio.wait([task])
        await consumer.__aexit__(None, None, None)

    async def die(self, which: int) -> None:
        consumer, task = self.running.pop(which)
        task.cancel()
        await kill(consumer)
        await asyncio.wait([task])

    async def _handle(self, batch: Batch[int]) -> None:
        for record in batch:
            await asyncio.sleep(0)
            of_key = self.handled[record.partition_key]
            # At least once, and nothing before what comes before it: of a key, what is new is the next.
            assert record.value <= (max(of_key) if of_key else -1) + 1, (record, of_key)
            of_key.append(record.value)
        await self._clock.sleep_until(self._clock.now_ms() + 200)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25), st.integers(1, 3), st.sampled_from([1, 3]), st.booleans())
def test_through_joins_leaves_deaths_and_reshards_each_key_is_handled_whole_and_in_order(
    history: list[Step], shards: int, concurrency: int, tell: bool
) -> None:
    async def main() -> None:
        clock = ManualClock()
        engine = MemoryEngine(clock, Limits.relaxed())
        await engine.streams.create_stream("orders", shards)
        stream: Stream[int] = Stream("orders", Codec(int), engine.streams, engine.tables, clock, Metrics())
        workers = Workers(engine, clock, concurrency, tell)
        wanted: dict[str, int] = defaultdict(int)

        async def put(keys: str) -> None:
            for key in keys:
                await stream.put(wanted[key], partition_key=key)
                wanted[key] += 1

        for step in history:
            if step.kind == "put":
                await put(step.keys)
            elif step.kind == "join" and step.which not in workers.running:
                await workers.join(step.which)
            elif step.kind in ("leave", "die") and step.which in workers.running:
                await getattr(workers, step.kind)(step.which)
            elif step.kind == "restart":
                for which in list(workers.running):
                    await workers.die(which)
                engine.tables.session = f"session {len(wanted)} {clock.now_ms()}"
            elif step.kind in ("split", "merge"):
                found = sorted((await stream.describe()).open_shards, key=lambda shard: shard.hash_key_range.start)
                at = step.which % len(found)
                if step.kind == "split" and len(found) < 8:
                    await stream.split(found[at].shard_id)
                elif step.kind == "merge" and at + 1 < len(found):
                    await stream.merge(found[at].shard_id, found[at + 1].shard_id)
            await clock.advance(step.seconds)
        for which in range(2):
            if which not in workers.running:
                await workers.join(which)
        await put("abcdefgh")
        await clock.advance(60)
        for _, task in workers.running.values():
            if task.done():
                task.result()
        assert {key: sorted(set(values)) for key, values in workers.handled.items()} == {
            key: list(range(count)) for key, count in wanted.items()
        }
        shares = [held(consumer) for consumer, _ in workers.running.values()]
        opened = sorted(shard.shard_id for shard in (await stream.describe()).open_shards)
        assert sorted(shard_id for share in shares for shard_id in share) == opened
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        for consumer, _ in workers.running.values():
            assert (await consumer.lag()).records == 0
        for which in list(workers.running):
            await workers.leave(which)
        await engine.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
