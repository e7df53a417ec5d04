"""Lanes of streams under load: order per shard, per key, across reshards and lease steals."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.figures import Checked
from benchmarks.guarantees.findings import Findings
from benchmarks.guarantees.order import Acknowledged, KeyOrder, Lineage, OneAtATime, ProducerOrder, ShardOrder
from benchmarks.guarantees.scenes import (
    beside,
    consume,
    crew,
    everything,
    finish,
    patiently,
    payload,
    place_of,
    put_at_once,
    put_batches,
    put_singly,
    reshard,
    together,
)
from benchmarks.guarantees.watching import StreamWatch
from benchmarks.measure import Setting
from benchmarks.store import open_store
from benchmarks.stream import NAME, SHARDS
from streamkit import Batch, Stream

PRODUCERS = 8
CONSUMERS = 4
_BATCH = 100


def seed() -> int:
    """Of this round: another one each time, or the one that a violation told."""
    asked = os.environ.get("ORDERING_SEED")
    return int(asked) if asked else int.from_bytes(os.urandom(4), "big")


# ---- shards


async def per_shard(setting: Setting) -> Mapping[str, Checked]:
    """Producers that put batches at once, and consumers that each read all of it."""
    drawn = seed()
    each = setting.sized(50, 2) * _BATCH
    findings = Findings()
    counts = {f"producer {at}": each for at in range(PRODUCERS)}

    async def produce(stream: Stream[bytes], producer: int) -> None:
        rng = Random(f"{drawn}-{producer}")
        for first in range(0, each, _BATCH):
            places = range(first, first + _BATCH)
            # The key chooses the shard, and says whose it is: the order of a producer holds beyond the key.
            batch = [(f"producer {producer}/{rng.randrange(100)}", payload(place)) for place in places]
            await stream.put_batch(batch)

    async def read(stream: Stream[bytes], name: str) -> None:
        numbers, producers = ShardOrder(findings, name), ProducerOrder(findings, name, counts)

        def see(batch: Batch[bytes]) -> None:
            for record in batch:
                numbers.see(record.shard_id, record.sequence_number)
                producers.see(record.shard_id, record.partition_key.partition("/")[0], place_of(record.data))

        async with stream.consumer(name) as consumer:
            await consume(consumer, see, lambda: producers.seen >= each * PRODUCERS)
        numbers.end((await stream.describe()).shards)
        producers.end()

    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes)
        await together(
            *(produce(stream, at) for at in range(PRODUCERS)),
            *(read(stream, f"consumer-{at}") for at in range(CONSUMERS)),
        )
    under = f"load: {PRODUCERS} producers, {CONSUMERS} consumers"
    return {"shards": findings.checked("order per shard", under, drawn)}


# ---- keys


async def uniform_keys(setting: Setting) -> Mapping[str, Checked]:
    """All keys have as many records."""
    return await _per_key(setting, "load, uniform keys", hot=False)


async def hot_key(setting: Setting) -> Mapping[str, Checked]:
    """Of what is put in batches, every other record is one key's, and one key is put to in bursts."""
    return await _per_key(setting, "load, hot keys", hot=True)


@dataclass
class _KeyReaders:
    """A consumer that takes one record after the other, and one whose handler has eight calls at once."""

    total: int
    """Records that come."""
    counts: Mapping[str, int]
    """Acknowledged records by key; filled meanwhile."""
    findings: Findings
    alone: Findings
    drawn: int

    async def one_by_one(self, stream: Stream[bytes]) -> None:
        order = KeyOrder(self.findings, "a consumer")

        def see(batch: Batch[bytes]) -> None:
            for record in batch:
                order.see(record.partition_key, place_of(record.data))

        async with stream.consumer("one-by-one") as consumer:
            await consume(consumer, see, lambda: order.seen >= self.total)
        order.end(self.counts)

    async def in_parallel(self, stream: Stream[bytes]) -> None:
        order, calls = KeyOrder(self.findings, "a parallel handler"), OneAtATime(self.alone)
        came, rng = asyncio.Event(), Random(f"{self.drawn}-handler")

        async def handle(batch: Batch[bytes]) -> None:
            keys = {record.partition_key for record in batch}
            calls.begin(keys)
            for record in batch:
                order.see(record.partition_key, place_of(record.data))
            await asyncio.sleep(rng.choice((0, 0, 0.001)))
            calls.end(keys)
            came.set()

        async with stream.consumer("in-parallel") as consumer, beside(consumer.run(handle, concurrency=8)):
            while order.seen < self.total:
                came.clear()
                if await patiently(came.wait()) is None:
                    break
        order.end(self.counts)


async def _per_key(setting: Setting, under: str, *, hot: bool) -> Mapping[str, Checked]:
    """Keys with a task each, and tasks that put batches of keys of their own; one by one and in a parallel handler."""
    drawn = seed()
    findings, alone = Findings(), Findings()
    acknowledged = Acknowledged(findings)
    each, batches = setting.sized(100, 4), setting.sized(40, 2)
    counts: dict[str, int] = {}

    def tell(word: str, keys: Sequence[str], places: Sequence[int], *where: Sequence[object]) -> None:
        if word == "acked":
            for key, place, shard_id, number in zip(keys, places, *where, strict=True):
                acknowledged.acked(key, place, str(shard_id), int(str(number)))
                counts[key] = counts.get(key, 0) + 1
        else:
            for key, place in zip(keys, places, strict=True):
                acknowledged.asked(key, place)

    total = 64 * each + 8 * 50 * batches + (30 * each if hot else 0)

    readers = _KeyReaders(total, counts, findings, alone, drawn)
    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes)
        puts = [put_singly(stream, tell, f"key-{at}", range(each)) for at in range(64)]
        for task in range(8):
            keys = [f"task-{task}/{at}" for at in range(16)]
            chosen = keys + keys[:1] * 15 if hot else keys
            puts.append(put_batches(stream, tell, chosen, Random(f"{drawn}-{task}"), {}, batches))
        if hot:
            puts.append(put_at_once(stream, tell, "the hot key", range(30 * each)))
        await together(*puts, readers.one_by_one(stream), readers.in_parallel(stream))
        _, there = await everything(stream)
    for record in there:
        acknowledged.see(*record)
    acknowledged.end()
    return {
        "keys": findings.checked("order per key", under, drawn),
        "handlers": alone.checked("no key in two calls at once", under, drawn),
    }


# ---- shards that come and go


async def across_reshards(setting: Setting) -> Mapping[str, Checked]:
    """Splits and merges while producers put and two consumers, one of two workers, read; and a third, afterwards."""
    drawn = seed()
    findings = Findings()
    batches = setting.sized(50, 6)
    counts: dict[str, int] = {}
    total = 12 * 50 * batches

    def tell(word: str, keys: Sequence[str], *_: object) -> None:
        if word == "acked":
            for key in keys:
                counts[key] = counts.get(key, 0) + 1

    async def read(stream: Stream[bytes], name: str, workers: int) -> None:
        order, lineage = KeyOrder(findings, name), Lineage(findings, name)
        ended = asyncio.Event()

        def see(batch: Batch[bytes]) -> None:
            lineage.read(batch.shard_id)
            for record in batch:
                order.see(record.partition_key, place_of(record.data))
            lineage.done(batch.shard_id, batch.last_sequence_number)
            if order.seen >= total:
                ended.set()

        async def one() -> None:
            async with stream.consumer(name) as consumer:
                await consume(consumer, see, ended.is_set)
            ended.set()

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one()) for _ in range(workers)]
            await ended.wait()
            # Who waits for more is not told that there is none; who was handed the last checkpoints it first.
            await asyncio.sleep(0.05)
            for task in running:
                task.cancel()
        order.end(counts)
        lineage.end((await stream.describe()).shards)

    async def produce(stream: Stream[bytes]) -> None:
        gate = asyncio.Event()
        gate.set()
        async with beside(reshard(stream, Random(f"{drawn}-reshard"), 0.02, gate)):
            await together(
                *(
                    put_batches(
                        stream, tell, [f"{task}/{at}" for at in range(2)], Random(f"{drawn}-{task}"), {}, batches, gate
                    )
                    for task in range(12)
                )
            )

    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes)
        await together(produce(stream), read(stream, "one-worker", 1), read(stream, "two-workers", 2))
        await read(stream, "who-comes-late", 2)
    return {"reshards": findings.checked("order per key across reshards", "load", drawn)}


async def across_steals(setting: Setting) -> Mapping[str, Checked]:
    """Workers of one consumer come, go, and take each other's shards, while the stream is put to."""
    drawn = seed()
    watch = StreamWatch(drawn, "load, shards taken by force", "lease steals")
    batches = setting.sized(60, 3)
    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=16, type=bytes)
        async with beside(crew(stream, watch.tell, Random(f"{drawn}-crew"), 0, size=4)):
            await together(
                *(
                    put_batches(
                        stream, watch.tell, [f"{task}/{at}" for at in range(8)], Random(f"{drawn}-{task}"), {}, batches
                    )
                    for task in range(12)
                )
            )
            await asyncio.sleep(0.1 if setting.small else 0.6)
        await finish(stream, watch.tell)
        watch.end(*await everything(stream))
    return watch.rows()
