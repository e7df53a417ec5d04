"""What is written down about an alarm. Pure.

Follows ``DescribeAlarmHistory`` and ``AlarmHistoryItem`` of the CloudWatch API reference.
"""

from __future__ import annotations

from typing import Literal

import msgspec

AlarmType = Literal["MetricAlarm", "CompositeAlarm"]
HistoryItemType = Literal["ConfigurationUpdate", "StateUpdate", "Action"]
"""What happened: its configuration changed, its state, or an action was tried."""


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
