"""A handler as it was written for AWS Lambda, unmodified: Kinesis events, a partial batch response, a time limit."""

import asyncio
import base64
import json

import streamkit
from streamkit import EventSourceMapping, Retry
from streamkit.functions.function import Function
from streamkit.functions.lambda_handler import lambda_handler

# ---- what is deployed to AWS, and knows nothing of streamkit

totals: dict[str, int] = {}
not_yet = {7, 8}


def handle(event, context):  # type: ignore[no-untyped-def]
    for record in event["Records"]:
        kinesis = record["kinesis"]
        order = json.loads(base64.b64decode(kinesis["data"]))
        if order["id"] in not_yet or context.get_remaining_time_in_millis() < 1_000:
            not_yet.discard(order["id"])  # The next attempt begins with this one, and works.
            return {"batchItemFailures": [{"itemIdentifier": kinesis["sequenceNumber"]}]}
        totals[order["customer"]] = totals.get(order["customer"], 0) + order["total"]
    return {"batchItemFailures": []}


# ---- how it runs here


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        mapping = kit.start(
            EventSourceMapping(
                "order-totals",
                source=orders,
                function=Function(lambda_handler(handle, function_name="order-totals"), timeout=30),
                batch_size=20,
                retry=Retry(first=0.01),
            )
        )
        for number in range(60):
            customer = ["ada", "bob", "eve"][number % 3]
            await orders.put({"id": number, "customer": customer, "total": number}, partition_key=customer)
        await mapping.wait_caught_up()
        print(f"{totals}, and {mapping.counts.errors} batches were done in two parts")


if __name__ == "__main__":
    asyncio.run(main())
