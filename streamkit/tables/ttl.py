"""Time to live: which items have expired. Pure.

Follows "Using time to live (TTL) in DynamoDB" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from decimal import Decimal

from streamkit.tables.item import Item

FIVE_YEARS_SECONDS = 5 * 366 * 86_400
"""What is longer over is taken for a mistake. AWS says five years and not how long a year is."""


def is_expired(item: Item, attribute: str, now_ms: int) -> bool:
    """Whether the attribute has a number of Unix seconds that is over, and not for more than five years."""
    at = item.get(attribute)
    if isinstance(at, bool) or not isinstance(at, (int, float, Decimal)):
        return False
    return now_ms - FIVE_YEARS_SECONDS * 1000 <= at * 1000 < now_ms


def expired_seconds(now_ms: int) -> tuple[int, int]:
    """The first and the last whole second in which an item may have expired by now."""
    return now_ms // 1000 - FIVE_YEARS_SECONDS, (now_ms - 1) // 1000
