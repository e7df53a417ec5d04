"""A table with an index, conditional and computed updates, and a mapping that listens to its changes."""

import asyncio
from decimal import Decimal
from typing import Any

import streamkit
from streamkit import EventSourceMapping, Record, Update, attribute, each
from streamkit.tables.expression import Expression
from streamkit.tables.index import Index


@each
async def count_states(record: Record[dict[str, Any]]) -> Update | None:
    image = record.value["dynamodb"].get("NewImage")
    return image and Update(key={"state": image["state"]["S"]}, add={"changes": 1})


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_table(
            "orders", partition_key="id", indexes=[Index("by-state", "state", "amount")], stream="NEW_IMAGE"
        )
        states = await kit.create_table("states", partition_key="state")
        counting = kit.start(
            EventSourceMapping("counting", source=kit.stream("orders.stream"), function=count_states, sink=states)
        )
        for at, amount in enumerate(("12.50", "99.90", "7.10")):
            await orders.put({"id": f"order-{at}", "state": "open", "amount": Decimal(amount)})

        # Pay an open order, and add the fee: one step, or an error that has the order as it is.
        pay = Expression(
            "SET #s = :paid, amount = amount + :fee", {":paid": "paid", ":fee": Decimal("0.40")}, {"#s": "state"}
        )
        paid = await orders.update("order-1", expression=pay, condition=attribute("state") == "open", returns="ALL_NEW")
        print("paid:", paid)
        try:
            await orders.update("order-1", expression=pay, condition=attribute("state") == "open")
        except streamkit.ConditionFailedError as error:
            print("not again:", error.item and error.item["state"])

        print("open, the dearest first:", end="")
        async for order in orders.query("open", index="by-state", forward=False):
            print(f" {order['id']} {order['amount']}", end="")
        print()

        await counting.wait_caught_up()
        async for state in states.scan():
            print(f"{state['state']}: {state['changes']} changes")


asyncio.run(main())
