"""The process's own log as a metric, an alarm on it, why it is one, and what it sends."""

import asyncio
import logging

import streamkit
from streamkit import Alarm, Message, Metric
from streamkit.alarms.actions import SendToQueue
from streamkit.metrics.filter_pattern import FilterPattern
from streamkit.metrics.metric_filter import MetricFilter, MetricTransformation
from streamkit.monitoring.log_filters import LogFilters

ERRORS = Metric.of("shop", "Errors")
FILTER = MetricFilter(
    "errors",
    FilterPattern("ERROR"),
    MetricTransformation(metric_namespace="shop", metric_name="Errors", metric_value=1, unit="Count", default_value=0),
)


async def main() -> None:
    log = logging.getLogger("shop")
    log.propagate = False
    async with streamkit.open("memory:") as kit:
        kit.start(LogFilters(kit.metrics, [FILTER], logger="shop"))
        pages = await kit.create_queue("pages")
        alarm = kit.start(
            Alarm(
                "errors-in-the-log",
                metric=ERRORS,
                statistic="Maximum",  # An alarm on what only rises does not wait for the end of the minute.
                period=60,
                threshold=1,
                comparison="GreaterThanOrEqualToThreshold",
                treat_missing_data="notBreaching",
            ),
            on_alarm=SendToQueue(pages),
        )

        async def charge(order: Message[str]) -> None:
            log.error("the card of order %s was not charged", order.value)

        orders = await kit.create_queue("orders", type=str)
        kit.start(orders.worker(charge))
        await orders.send("o-17")

        await alarm.wait_for("ALARM")
        print(alarm.explain())
        (page,) = await pages.receive(wait=20)
        print(page.value["AlarmName"], page.value["NewStateValue"], page.value["NewStateReason"], sep=": ")
        for event in await kit.alarms.history("errors-in-the-log"):
            print(event.summary)


if __name__ == "__main__":
    asyncio.run(main())
