"""A stream, a batching producer, and two consumers that each keep their own place."""

import asyncio

import msgspec

import streamkit
from streamkit import Batch


class Order(msgspec.Struct):
    customer: str
    total: int


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders", shards=4, type=Order, exist_ok=True)

        put = await orders.put(Order("ada", 120), partition_key="ada")
        print(f"one order, durable: {put.shard_id}, sequence number {put.sequence_number}")

        async with orders.producer() as producer:
            for number in range(1000):
                order = Order(customer=f"customer-{number % 50}", total=number)
                await producer.put(order, partition_key=order.customer)

        for name in ("billing", "shipping"):
            seen = 0
            async with orders.consumer(name, start="TRIM_HORIZON") as consumer:
                async for batch in consumer.batches(max_records=500):
                    seen += await charge(batch)
                    await consumer.checkpoint(batch)
                    if seen == 1001:
                        break
            print(f"{name} saw {seen} orders")


async def charge(batch: Batch[Order]) -> int:
    assert all(order.total >= 0 for order in batch.values)
    return len(batch)


if __name__ == "__main__":
    asyncio.run(main())
