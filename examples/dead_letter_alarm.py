"""An alarm on a dead-letter queue, and its action."""

import asyncio

import streamkit
from streamkit import Alarm


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        dead = await kit.create_queue("emails-dead", exist_ok=True)
        fired = asyncio.Event()

        def page_someone(change: object) -> None:
            print(f"paging someone: {change}")
            fired.set()

        alarm = kit.start(
            Alarm(
                "emails-are-dying",
                metric=dead.metric("ApproximateNumberOfMessagesVisible"),
                statistic="Maximum",
                period=60,
                threshold=2,
                comparison="GreaterThanThreshold",
                treat_missing_data="notBreaching",
            ),
            on_alarm=page_someone,
        )
        await dead.send_batch(["one", "two", "three"])
        await alarm.evaluate_now()  # It looks by itself every second; an example should not wait.
        await fired.wait()
        print(f"{alarm.name} is in {alarm.state}")


if __name__ == "__main__":
    asyncio.run(main())
