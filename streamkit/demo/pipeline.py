"""The pipeline, as a user of streamkit writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamkit import (
    Alarm,
    EventSourceMapping,
    Item,
    Kit,
    Queue,
    Record,
    RedrivePolicy,
    Retry,
    Stream,
    Table,
    Update,
    each,
)
from streamkit.demo.flights import Row

LATE_MINUTES = 60
DEAD_LETTERS_TO_ALARM = 100
# How long a delivery that a kill cut short stays hidden, and so how long a resumed run may have to wait.
VISIBILITY_TIMEOUT = 5.0


@dataclass(frozen=True)
class Pipeline:
    """Handles to every part."""

    flights: Stream[Row]
    malformed: Queue[Any]
    rebooking: Queue[Any]
    rebooking_dead: Queue[Any]
    late_flights: Table
    carriers: Table
    rebooked: Table
    state: Table
    """What this directory was filled from."""

    @classmethod
    async def create(cls, kit: Kit) -> Pipeline:
        """Create what is not there yet."""
        rebooking_dead = await kit.create_queue("rebooking-dead", exist_ok=True)
        return cls(
            flights=await kit.create_stream("flights", shards=4, exist_ok=True),
            malformed=await kit.create_queue("flights-malformed", exist_ok=True),
            rebooking=await kit.create_queue(
                "rebooking",
                visibility_timeout=VISIBILITY_TIMEOUT,
                redrive_policy=RedrivePolicy(dead_letter_queue="rebooking-dead", max_receive_count=3),
                exist_ok=True,
            ),
            rebooking_dead=rebooking_dead,
            late_flights=await kit.create_table(
                "late_flights", partition_key="carrier", sort_key="line", exist_ok=True
            ),
            carriers=await kit.create_table("carriers", partition_key="carrier", exist_ok=True),
            rebooked=await kit.create_table("rebooked", partition_key="line", exist_ok=True),
            state=await kit.create_table("demo-state", partition_key="name", exist_ok=True),
        )

    def mappings(self) -> tuple[EventSourceMapping, EventSourceMapping, EventSourceMapping]:
        """Late departures, carrier totals, cancellations."""
        return (
            EventSourceMapping(
                "late-departures",
                source=self.flights,
                filters=[{"data": {"dep_delay": [{"numeric": [">=", LATE_MINUTES]}]}}],
                function=late_flight,
                sink=self.late_flights,
                batch_size=500,
            ),
            EventSourceMapping(
                "carrier-totals",
                source=self.flights,
                function=carrier_total,
                sink=self.carriers,
                batch_size=500,
                # A malformed row fails however often it is tried: single it out at once, and let the rest go on.
                bisect_on_function_error=True,
                maximum_retry_attempts=0,
                on_failure=self.malformed,
            ),
            EventSourceMapping(
                "cancellations",
                source=self.flights,
                filters=[{"data": {"dep_time": [None]}}],
                function=cancellation,
                sink=self.rebooking,
                batch_size=500,
            ),
        )

    def rebook(self) -> Callable[[Row], Any]:
        """The worker's handler: a flight without an aircraft cannot be rebooked."""

        async def rebook(flight: Row) -> None:
            if flight["tailnum"] is None:
                raise LookupError(f"flight {flight['carrier']}{flight['flight']} has no aircraft to rebook onto")
            await self.rebooked.put(flight)

        return rebook

    def alarm(self) -> Alarm:
        """Too many dead letters."""
        return Alarm(
            "rebooking-dead-letters",
            metric=self.rebooking_dead.metric("ApproximateNumberOfMessagesVisible"),
            statistic="Maximum",
            period=10,
            threshold=DEAD_LETTERS_TO_ALARM,
            comparison="GreaterThanThreshold",
            treat_missing_data="notBreaching",
        )


RETRY = Retry(first=0.05, longest=0.2)
"""How long a failed rebooking waits before it comes back."""


class MalformedRowError(Exception):
    """A row of the data file that is no departure."""


@each
async def late_flight(record: Record[Row]) -> Item:
    """An item of ``late_flights``."""
    flight = record.value
    names = ("carrier", "line", "flight", "tailnum", "origin", "dest", "time_hour", "dep_delay")
    return {name: flight[name] for name in names}


@each
async def carrier_total(record: Record[Row]) -> Update:
    """What one departure adds to its carrier."""
    flight = record.value
    if "malformed" in flight:
        raise MalformedRowError(f"line {flight['line']}: {flight['malformed']}")
    delay = flight["dep_delay"]
    return Update(
        key={"carrier": flight["carrier"]},
        add={
            "flights": 1,
            "cancelled": int(flight["dep_time"] is None),
            "late": int(delay is not None and delay >= LATE_MINUTES),
            "delay_minutes": delay or 0,
        },
    )


@each
async def cancellation(record: Record[Row]) -> Row:
    """A message of ``rebooking``."""
    flight = record.value
    return {name: flight[name] for name in ("line", "carrier", "flight", "tailnum", "origin", "dest", "time_hour")}
