"""What was read lately from a colder base, in bounded memory. HOT: `python -m benchmarks --only table_get`."""

from __future__ import annotations

from streamkit.limits import MIB
from streamkit.tables.item import Key

MOST_BYTES = 16 * MIB
_ENTRY_BYTES = 200
"""Of a key, an item's object and two entries of a dict."""


class Recent:
    """Items by key, and keys that have none. What was not read for a while goes: the older of two generations."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes // 2
        self._young: dict[Key, bytes | None] = {}
        self._old: dict[Key, bytes | None] = {}
        self._bytes = 0
        """Of the young ones; those that were forgotten still count until these are old."""

    def __bool__(self) -> bool:
        return bool(self._young or self._old)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def find(self, key: Key) -> tuple[bool, bytes | None]:
        """Whether the key was read lately, and its item."""
        young = self._young
        item = young.get(key)
        if item is not None or key in young:
            return True, item
        if key not in self._old:
            return False, None
        item = self._old.pop(key)
        self.keep(key, item)
        return True, item

    def keep(self, key: Key, item: bytes | None) -> None:
        """It was read just now."""
        self._bytes += _ENTRY_BYTES + (0 if item is None else len(item))
        if self._bytes > self._most:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = item

    def forget(self, key: Key) -> None:
        """It is written just now."""
        self._young.pop(key, None)
        self._old.pop(key, None)
