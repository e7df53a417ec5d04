"""Dead letters that say what went wrong, of which some go back to be handled again."""

import asyncio
import logging

import streamkit
from streamkit import Pattern, RedrivePolicy


async def main() -> None:
    logging.getLogger("streamkit").setLevel(logging.ERROR)  # Thirty orders fail on purpose; workers log why, each time.
    async with streamkit.open("memory:") as kit:
        dead = await kit.create_queue("orders-dead", exist_ok=True)
        policy = RedrivePolicy(dead_letter_queue="orders-dead", max_receive_count=1, eager=True)
        orders = await kit.create_queue("orders", exist_ok=True, redrive_policy=policy)
        await orders.send_batch([{"id": number, "currency": "EUR" if number % 3 else "XTS"} for number in range(30)])

        known = {"USD"}

        def handle(order: dict[str, object]) -> None:
            if order["currency"] not in known:
                raise LookupError(f"no rate for {order['currency']}")

        at_once = streamkit.Retry(first=0, longest=0)
        worker = kit.start(orders.worker(handle, concurrency=4, retry=at_once))
        await worker.wait_drained()
        letters = await dead.peek(100)
        print(f"{len(letters)} dead letters, of {await dead.dead_letter_sources()}; the first: {letters[0].last_error}")

        # The rate has come. Those orders go back, 100 a second, and the others stay where they are.
        known.add("EUR")
        task = kit.start(dead.move_task(where=Pattern({"body": {"currency": ["EUR"]}}), rate=100))
        await task.wait_ended()
        await worker.wait_drained()
        left = await dead.peek(100)
        print(f"{task.moved} of {task.looked_at} went back; {worker.handled} are handled, {len(left)} letters are left")


if __name__ == "__main__":
    asyncio.run(main())
