"""Time to live: which items have expired. Pure.

Follows "Using time to live (TTL) in DynamoDB" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from decimal import Decimal

from streamkit.tables.item import Item
from streamkit.tables.store import SortKeyRange

FIVE_YEARS_SECONDS = 5 * 366 * 86_400
"""What is longer over is taken for a mistake. AWS says five years and not how long a year is."""


def is_expired(item: Item, attribute: str, now_ms: int) -> bool:
    """Whether the attribute has a number of Unix seconds that is over, and not for more than five years."""
    at = item.get(attribute)
    if isinstance(at, bool) or not isinstance(at, (int, float, Decimal)):
        return False
    return now_ms - FIVE_YEARS_SECONDS * 1000 <= at * 1000 < now_ms


def expired_range(now_ms: int) -> SortKeyRange:
    """Where the hidden index has what has expired; its sort keys are the attribute's numbers."""
    # Whole seconds, on the careful side of both bounds: everything in this range has expired.
    return SortKeyRange(at_least=-(-now_ms // 1000) - FIVE_YEARS_SECONDS, at_most=(now_ms - 1) // 1000)
