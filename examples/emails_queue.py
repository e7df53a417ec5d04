"""A queue with a worker: what fails comes back, and after three receives it is a dead letter."""

import asyncio
import logging
from dataclasses import dataclass

import streamkit
from streamkit import RedrivePolicy, Retry


@dataclass
class Email:
    to: str
    text: str


sent: list[str] = []


async def send_email(email: Email) -> None:
    if "@" not in email.to:
        raise ValueError(f"{email.to!r} is not an address")
    sent.append(email.to)


async def main() -> None:
    logging.getLogger("streamkit").setLevel(logging.ERROR)  # One address fails on purpose; workers log why, each time.
    async with streamkit.open("memory:") as kit:
        dead = await kit.create_queue("emails-dead", type=Email, exist_ok=True)
        emails = await kit.create_queue(
            "emails",
            type=Email,
            visibility_timeout=30,
            redrive_policy=RedrivePolicy(dead_letter_queue="emails-dead", max_receive_count=3),
            exist_ok=True,
        )
        await emails.send_batch(
            [Email("ada@example.org", "hello"), Email("nobody", "hello"), Email("bob@example.org", "hi")]
        )

        # In a service: `await emails.work(send_email, concurrency=8)`, which runs until it is cancelled.
        worker = kit.start(emails.worker(send_email, concurrency=8, retry=Retry(first=0.01, longest=0.05)))
        await worker.wait_drained()

        print(f"sent to {sorted(sent)}")
        for letter in await dead.peek():
            print(
                f"dead letter from {letter.dead_letter_source}: {letter.value.to!r} after {letter.receive_count} tries"
            )


if __name__ == "__main__":
    asyncio.run(main())
