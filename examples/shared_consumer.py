"""Two workers of one consumer share a stream that splits while they work; each key stays in order."""

import asyncio
from collections import defaultdict

import streamkit
from streamkit import Batch, Leasing


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        clicks = await kit.create_stream("clicks", shards=2, type=int, retention=7 * 86_400)
        seen: dict[str, list[int]] = defaultdict(list)
        done = asyncio.Event()

        async def handle(batch: Batch[int]) -> None:
            for record in batch:
                seen[record.partition_key].append(record.value)
            if sum(map(len, seen.values())) >= 2000:
                done.set()

        async def work() -> None:
            # As many as you like, in as many tasks; they renew, hand over and take over by themselves.
            async with clicks.consumer("counter", leasing=Leasing(failover=3.0)) as consumer:
                await consumer.run(handle, concurrency=4)

        workers = [asyncio.create_task(work()) for _ in range(2)]
        # A producer with an id is idempotent: run this again after a crash, and what was stored is not stored twice.
        async with clicks.producer(id="importer") as producer:
            for number in range(2000):
                await producer.put(number, partition_key=f"visitor-{number % 20}", sequence=number)
                if number == 1000:
                    await clicks.update_shard_count(4)
        await done.wait()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

        assert all(values == sorted(values) for values in seen.values())
        shards = (await clicks.describe()).shards
        print(f"2,000 clicks of {len(seen)} visitors, each in order, through {len(shards)} shards")
        print("the last three:", [record.value for record in await clicks.tail(3)])
        print(await clicks.lag("counter"))


if __name__ == "__main__":
    asyncio.run(main())
