"""How large DynamoDB says an item is. Pure.

Follows "DynamoDB item sizes and formats" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def item_size(item: Mapping[str, Any]) -> int:
    """Bytes: attribute names as UTF-8, and values by their types."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: Any) -> int:
    """Bytes of one value, without its name."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, (int, float, Decimal)):
        return _number_size(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return 3 + sum(1 + len(name.encode()) + value_size(member) for name, member in value.items())
    if isinstance(value, (set, frozenset)):
        return sum(map(value_size, value))
    return 3 + sum(1 + value_size(member) for member in value)


def _number_size(value: int | float | Decimal) -> int:
    """One byte, and one for every two significant digits; one more if it is negative; 21 at most."""
    if isinstance(value, int):
        digits = str(abs(int(value))).rstrip("0")
    else:
        exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
        digits = "".join(map(str, exact.as_tuple().digits)).strip("0")
    return min(21, 1 + (len(digits) + 1) // 2 + (value < 0))
