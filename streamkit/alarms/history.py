"""What is written down about an alarm, and how it lies in a table. Pure.

Follows ``DescribeAlarmHistory`` and ``AlarmHistoryItem`` of the CloudWatch API reference.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal, get_args

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.item import Item, TableSchema

AlarmType = Literal["MetricAlarm", "CompositeAlarm"]
HistoryItemType = Literal["ConfigurationUpdate", "StateUpdate", "Action"]
"""What happened: its configuration changed, its state, or an action was tried."""

RETENTION_SECONDS = 30 * 86_400
"""How long history is kept, also that of an alarm that was deleted. AWS: 30 days."""
MOST_PER_PAGE = 100

HISTORY = TableSchema("streamkit-alarms", "alarm", "entry")
"""The table of all alarms: an item for how each is, and one for each thing that happened."""
BY_KIND = "by-kind"
"""Its index, in which all states are by name, and all history is by time."""
TTL = "expires"
STATE = "state"
"""The ``entry`` and ``kind`` of how an alarm is."""
HAPPENED = "history"
"""The ``kind`` of what happened, and what its ``entry`` begins with."""

# Digits enough for the year 5138, for 10^9 openings of a store and 10^9 items of each.
_TIME_DIGITS = 14
_MOST_MS = 10**_TIME_DIGITS - 1
_END = "~"
"""After every digit."""
_MOMENT = re.compile(rf"\d{{{_TIME_DIGITS}}}-\d{{9}}-\d{{9}}", re.ASCII)


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an alarm."""

    alarm: str
    """Its name."""
    alarm_type: AlarmType = "MetricAlarm"
    timestamp_ms: int
    item_type: HistoryItemType
    summary: str
    """A sentence."""
    data: str
    """The same for programs, as JSON."""


class HistoryPage(msgspec.Struct, frozen=True):
    """Some of what happened."""

    items: list[HistoryItem]
    next_token: str | None
    """Pass it to get the next page, with the same question; None: there is none."""


class HistoryQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which of what happened. Mirrors the parameters of DescribeAlarmHistory.

    Raises:
        ValidationError: a part is not valid; the message says what is.
    """

    name: str | None = None
    """Of this alarm; None: of all."""
    item_type: HistoryItemType | None = None
    """Of this type; None: of all."""
    alarm_types: tuple[AlarmType, ...] = ("MetricAlarm", "CompositeAlarm")
    """Of alarms of these types. AWS: of metric alarms alone unless said otherwise."""
    start_ms: int | None = None
    """Not what happened before this instant."""
    end_ms: int | None = None
    """Not what happened after it."""
    newest_first: bool = True

    def __post_init__(self) -> None:
        if self.item_type is not None and self.item_type not in get_args(HistoryItemType):
            raise ValidationError(
                f"item_type is {self.item_type!r:.80}: choose one of {', '.join(get_args(HistoryItemType))}"
            )
        if any(each not in get_args(AlarmType) for each in self.alarm_types):
            raise ValidationError(
                f"alarm_types is {self.alarm_types!r:.80}: give some of {', '.join(get_args(AlarmType))}"
            )

    def takes(self, item: HistoryItem) -> bool:
        """Whether it is one of them; their times and their alarm are asked of the table."""
        return self.item_type in (None, item.item_type) and item.alarm_type in self.alarm_types

    def moments(self, oldest_ms: int, after: str | None) -> tuple[str, str] | None:
        """Between which moments they lie, both included; None: there cannot be any.

        ``oldest_ms`` is when the retention period began, ``after`` the moment of the last page's last item.
        """
        least = _digits(max(oldest_ms, self.start_ms or 0))
        most = _digits(_MOST_MS if self.end_ms is None else self.end_ms) + _END
        if after is not None:
            least, most = (least, min(most, after)) if self.newest_first else (max(least, after), most)
        return None if least > most else (least, most)


# ---- in the table


def moment(timestamp_ms: int, opening: int, sequence: int) -> str:
    """By this things are in the order in which they happened, also those of one instant and of several processes."""
    return f"{_digits(timestamp_ms)}-{opening:09d}-{sequence:09d}"


def as_item(happened: HistoryItem, when: str) -> Item:
    """As it is stored."""
    return {
        "alarm": happened.alarm,
        "entry": f"{HAPPENED}#{when}",
        "kind": HAPPENED,
        "moment": when,
        "type": happened.alarm_type,
        "at": happened.timestamp_ms,
        "item_type": happened.item_type,
        "summary": happened.summary,
        "data": happened.data,
        TTL: happened.timestamp_ms // 1000 + RETENTION_SECONDS,
    }


def of_item(item: Item) -> HistoryItem:
    """As it was."""
    return HistoryItem(
        alarm=item["alarm"],
        alarm_type=item["type"],
        timestamp_ms=item["at"],
        item_type=item["item_type"],
        summary=item["summary"],
        data=item["data"],
    )


def _digits(instant_ms: int) -> str:
    return f"{min(max(instant_ms, 0), _MOST_MS):0{_TIME_DIGITS}d}"


# ---- pages


def token_of(when: str) -> str:
    """The moment of a page's last item as text that nobody reads."""
    return base64.urlsafe_b64encode(when.encode()).decode()


def moment_of(token: str) -> str:
    """The moment in a token.

    Raises:
        ValidationError: it is no token.
    """
    try:
        when = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError, AttributeError):
        when = ""
    if not _MOMENT.fullmatch(when):
        raise ValidationError(f"next_token {token!r:.80} is none: pass that of the last page, as it is")
    return when
