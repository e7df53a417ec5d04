"""What a FIFO queue remembers of what was sent to it, so that a repeat is not stored again. Pure.

Follows "Exactly-once processing in Amazon SQS" (Amazon SQS Developer Guide). A repeat does not lengthen the window, and
the window outlasts the message: what was received and deleted is remembered all the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

WINDOW_MS = 300_000
"""Five minutes from when the original was sent."""

Key = str | tuple[str, str]
"""A deduplication id, or message group and id, by the queue's scope."""


class Original(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The message that the repeats of an id stand for. The field order is a storage format: append, never reorder."""

    message_id: str
    number: int
    sent_ms: int


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One id, for a snapshot. The field order is a storage format: append, never reorder."""

    group_id: str | None
    deduplication_id: str
    original: Original


class Deduplication:
    """The ids of the last five minutes.

    Ids are forgotten in the order in which they came, so each costs O(1). A clock that was set back between two runs by
    less than the window lengthens it by as much; one that was set back further ends it: to swallow messages for as long
    as a clock was wrong would be worse than to store a repeat.
    """

    def __init__(self) -> None:
        self._originals: OrderedDict[Key, Original] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept, also those whose window has passed since something was last sent."""
        return len(self._originals)

    def find(self, key: Key, now_ms: int) -> Original | None:
        """The message that was sent under this id within the window."""
        original = self._originals.get(key)
        return original if original is not None and _is_current(original, now_ms) else None

    def add(self, key: Key, original: Original) -> None:
        """A message was sent under this id, which was not known."""
        while self._originals and not _is_current(next(iter(self._originals.values())), original.sent_ms):
            self._originals.popitem(last=False)
        self._originals.pop(key, None)
        self._originals[key] = original

    def clear(self) -> None:
        """The queue was purged, or its scope changed: then nothing that was sent before is compared any more."""
        self._originals.clear()

    def entries(self, now_ms: int) -> list[Remembered]:
        """What a snapshot keeps."""
        return [
            Remembered(None, key, original) if isinstance(key, str) else Remembered(*key, original)
            for key, original in self._originals.items()
            if _is_current(original, now_ms)
        ]

    def adopt(self, entries: Iterable[Remembered]) -> None:
        """Take what a snapshot kept, in its order, before anything else happens."""
        for entry in entries:
            key = entry.deduplication_id if entry.group_id is None else (entry.group_id, entry.deduplication_id)
            self._originals[key] = entry.original


def _is_current(original: Original, now_ms: int) -> bool:
    return -WINDOW_MS < now_ms - original.sent_ms < WINDOW_MS


def content_based_id(body: bytes) -> str:
    """The deduplication id of a message that has none: the SHA-256 of its body, in hex. Attributes do not count."""
    return hashlib.sha256(body).hexdigest()
