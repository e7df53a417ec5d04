"""An event source mapping: filter a stream by an event pattern, transform, and write to a table, each record once."""

import asyncio

import msgspec

import streamkit
from streamkit import EventSourceMapping, Item, Record, each


class Order(msgspec.Struct):
    id: str
    status: str
    total: int


@each  # a failing record fails alone
async def total_by_order(record: Record[Order]) -> Item | None:
    order = record.value
    if order.total > 1_000_000:
        raise ValueError(f"order {order.id} is too good to be true")
    return {"id": order.id, "total": order.total}


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders", shards=4, type=Order)
        table = await kit.create_table("big_orders", partition_key="id")
        await kit.create_queue("big-orders-failed")

        mapping = kit.start(
            EventSourceMapping(
                "big-orders",
                source=orders,
                function=total_by_order,
                sink=table,
                filters=[{"data": {"status": ["paid"], "total": [{"numeric": [">=", 1000]}]}}],
                batch_size=100,
                bisect_on_function_error=True,
                maximum_retry_attempts=0,
                on_failure=kit.queue("big-orders-failed"),
            )
        )
        for number in range(100):
            order = Order(id=f"o-{number}", status="paid" if number % 2 else "open", total=number * 50)
            await orders.put(order, partition_key=order.id)
        await orders.put(Order("o-fraud", "paid", 9_999_999), partition_key="o-fraud")
        await mapping.wait_caught_up()

        big = [item async for item in table.scan()]
        failed = await kit.queue("big-orders-failed").describe()
        print(f"{len(big)} big orders of {mapping.counts.polled} records; {failed.visible} could not be handled")


if __name__ == "__main__":
    asyncio.run(main())
