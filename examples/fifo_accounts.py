"""A FIFO queue: each account in order, whatever fails; dead letters say why, and go back when it is cured."""

import asyncio
import logging
from collections import defaultdict

import streamkit
from streamkit import Message, RedrivePolicy, Retry, Send

balances: dict[str, int] = defaultdict(int)
books_are_open = False


async def book(message: Message[int]) -> None:
    account = message.group_id or ""
    if account == "carol" and not books_are_open:
        raise RuntimeError("carol's books are closed")
    assert balances[account] + message.value >= 0, "bookings of an account are never out of order"
    balances[account] += message.value


async def main() -> None:
    global books_are_open
    logging.getLogger("streamkit").setLevel(logging.ERROR)  # One account fails on purpose; workers log why, each time.
    async with streamkit.open("memory:") as kit:
        dead = await kit.create_queue("bookings-dead.fifo", type=int, fifo=True)
        bookings = await kit.create_queue(
            "bookings.fifo",
            type=int,
            fifo=True,
            redrive_policy=RedrivePolicy(dead_letter_queue=dead.name, max_receive_count=2),
        )
        await bookings.send_batch(
            Send(value=amount, group_id=account, deduplication_id=f"{account}-{number}")
            for number, amount in enumerate([100, -30, -70, 50])
            for account in ("ada", "bob", "carol")
        )
        # A client that got no answer sends again, and nothing is booked twice.
        await bookings.send(100, group_id="ada", deduplication_id="ada-0")

        worker = kit.start(bookings.worker(book, concurrency=8, retry=Retry(first=0.01, longest=0.01)))
        await worker.wait_drained()
        print(f"{dict(balances)}; {(await dead.peek())[0].last_error}")

        books_are_open = True
        task = kit.start(dead.move_task())
        await task.wait_ended()
        await worker.wait_drained()
        print(f"{task.moved} went back: {dict(balances)}")


if __name__ == "__main__":
    asyncio.run(main())
