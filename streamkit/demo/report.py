"""What went in and came out, and whether it adds up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

Carrier = dict[str, int]
"""``flights``, ``cancelled``, ``late`` and ``delay_minutes`` of one carrier."""


@dataclass(frozen=True)
class Report:
    """The end of a run."""

    directory: str
    temporary: bool
    durability: str
    seconds: float
    rows_put_now: int
    rows: int
    """Non-empty lines of the data file after the header."""
    records: int
    """Seen by a consumer that reads the stream from its beginning."""
    malformed: int
    malformed_delivered: int
    carriers: dict[str, Carrier]
    late: int
    rebooked: int
    dead_lettered: int
    redriven: int
    """Deliveries that a kill cut short too often; they were dead letters by mistake and were sent back."""
    alarm_state: str
    alarm_changed: datetime | None
    alarm_reason: str
    order_violations: int
    first_violation: str = ""
    wrong: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        def check(holds: bool, otherwise: str) -> None:
            if not holds:
                self.wrong.append(otherwise)

        flights, cancelled, late = self.total("flights"), self.total("cancelled"), self.total("late")
        check(self.records == self.rows, f"{self.rows:,} rows went in and {self.records:,} records are in the stream")
        check(
            flights + self.malformed == self.rows,
            f"{self.rows:,} rows, but {flights:,} flights counted and {self.malformed:,} malformed rows",
        )
        check(
            self.malformed_delivered == self.malformed,
            f"{self.malformed:,} malformed rows, but {self.malformed_delivered:,} in flights-malformed",
        )
        check(self.late == late, f"{late:,} late flights counted, but {self.late:,} items in late_flights")
        check(
            self.rebooked + self.dead_lettered == cancelled,
            f"{cancelled:,} cancellations, but {self.rebooked:,} rebooked and {self.dead_lettered:,} dead letters",
        )
        check(self.order_violations == 0, f"{self.order_violations:,} records out of order: {self.first_violation}")

    def total(self, what: str) -> int:
        """The sum over all carriers."""
        return sum(carrier[what] for carrier in self.carriers.values())

    def figures(self) -> dict[str, object]:
        """What can be compared with the truth, and from one run to the next."""
        return {
            "flights": self.total("flights"),
            "late": self.late,
            "cancelled": self.total("cancelled"),
            "rebooked": self.rebooked,
            "dead_lettered": self.dead_lettered,
            "alarm_state": self.alarm_state,
            "order_violations": self.order_violations,
            "carriers": self.carriers,
        }

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        path.write_text(json.dumps(self.figures(), indent=2) + "\n")

    def lines(self) -> list[str]:
        """The report as text."""
        flights, cancelled = self.total("flights"), self.total("cancelled")
        changed = f" since {self.alarm_changed:%H:%M:%S} UTC" if self.alarm_changed else ""
        where = "a temporary directory, removed now" if self.temporary else self.directory
        resumed = self.rows - self.rows_put_now
        before = f", {resumed:,} of them by an earlier run" if resumed else ""
        synced = (
            "every record synced to disk before it was acknowledged" if self.durability == "fsync" else "not synced"
        )
        redriven = f"; {self.redriven} deliveries cut short by a kill were sent back" if self.redriven else ""
        lines = [
            "",
            "what went in and came out",
            f"  stream   flights                 {self.rows:>7,} rows put{before}; {self.malformed:,} malformed",
            f"  mapping  late-departures         {self.late:>7,} items in table late_flights",
            f"  mapping  carrier-totals          {flights:>7,} flights counted in table carriers",
            f"  mapping  cancellations           {cancelled:>7,} messages sent to queue rebooking",
            f"  worker   rebooking               {self.rebooked:>7,} items in table rebooked",
            f"  queue    rebooking-dead          {self.dead_lettered:>7,} dead letters after 3 receives each{redriven}",
            *self._malformed_line(),
            f"  alarm    rebooking-dead-letters  {self.alarm_state:>7}{changed}",
            f"           {self.alarm_reason}",
            "",
            *self._carrier_table(),
            "",
            f"order      {self.records:,} records read back: "
            + ("every key's in the order in which they were put" if not self.order_violations else "OUT OF ORDER"),
            f"durability {self.durability}: {synced}; data in {where}",
            f"speed      {self.rows_put_now:,} records in {self.seconds:.1f} s, through every part: "
            f"{self.rows_put_now / max(self.seconds, 1e-9):,.0f} records/s",
        ]
        if self.wrong:
            lines += ["", "THIS DOES NOT ADD UP", *(f"  {line}" for line in self.wrong)]
        else:
            lines += ["", "everything adds up"]
        return lines

    def _malformed_line(self) -> list[str]:
        if not self.malformed:
            return []
        return [
            f"  queue    flights-malformed       {self.malformed_delivered:>7,} malformed rows, each with its reason"
        ]

    def _carrier_table(self) -> list[str]:
        lines = ["carriers by delay   flights  cancelled   late   delay minutes   minutes a departure"]
        ranked = sorted(self.carriers.items(), key=lambda entry: entry[1]["delay_minutes"], reverse=True)
        for name, carrier in ranked:
            departed = carrier["flights"] - carrier["cancelled"]
            average = f"{carrier['delay_minutes'] / departed:.1f}" if departed else "-"
            lines.append(
                f"  {name:<16}{carrier['flights']:>9,}{carrier['cancelled']:>11,}{carrier['late']:>7,}"
                f"{carrier['delay_minutes']:>16,}{average:>22}"
            )
        return lines
