"""Instants as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from streamkit.clock import to_datetime
from streamkit.errors import ValidationError

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def start_of(text: str, now_ms: int) -> datetime | Literal["TRIM_HORIZON"]:
    """TRIM_HORIZON, a time (in UTC unless it says otherwise), or how long ago.

    Raises:
        ValidationError: it is none of these.
    """
    if text.upper() == "TRIM_HORIZON":
        return "TRIM_HORIZON"
    if ago := _AGO.fullmatch(text):
        before_ms = now_ms - round(float(ago[1]) * _SECONDS[ago[2]] * 1000)
        return to_datetime(max(0, before_ms))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(
            f"{text!r} is no time: give TRIM_HORIZON, a time such as 2026-11-27T08:00:00Z, or how long ago, such as 15m"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
