"""What a FIFO queue remembers of what was sent to it, so that a repeat is not stored again. Pure.

Follows "Exactly-once processing in Amazon SQS" (Amazon SQS Developer Guide). A repeat does not lengthen the window, and
the window outlasts the message: what was received and deleted is remembered all the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

WINDOW_MS = 300_000
"""Five minutes from when the original was sent."""
_FEW_IDS = 1000
"""Fewer are not worth a file."""

Key = str | tuple[str, str]
"""A deduplication id, or message group and id, by the queue's scope."""


class Original(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The message that the repeats of an id stand for. The field order is a storage format: append, never reorder."""

    message_id: str
    number: int
    sent_ms: int


class FiledIds(msgspec.Struct, eq=False):
    """Ids on their way to a file, in the order in which they were sent."""

    serial: int
    entries: list[tuple[Key, Original]]


class Deduplication:
    """The ids of the last five minutes.

    Ids are forgotten in the order in which they came, so each costs O(1). A clock that was set back between two runs by
    less than the window lengthens it by as much; one that was set back further ends it: to swallow messages for as long
    as a clock was wrong would be worse than to store a repeat.

    What is settled to disk is written once: the newest ids, in a file that is of no use once they are old.
    """

    def __init__(self) -> None:
        self._originals: OrderedDict[Key, Original] = OrderedDict()
        self.files: dict[int, int] = {}
        """Those that hold ids, by serial, and when the newest of a file's messages was sent."""
        self.filing: FiledIds | None = None
        """What is on its way to a file."""
        self._unfiled = 0
        """So many of the newest ids are in no file."""

    def __len__(self) -> int:
        """How many are kept, also those whose window has passed since something was last sent."""
        return len(self._originals)

    def find(self, key: Key, now_ms: int) -> Original | None:
        """The message that was sent under this id within the window."""
        original = self._originals.get(key)
        return original if original is not None and _is_current(original, now_ms) else None

    def add(self, key: Key, original: Original) -> None:
        """A message was sent under this id, which was not known."""
        originals = self._originals
        while originals and not _is_current(next(iter(originals.values())), original.sent_ms):
            originals.popitem(last=False)
        if originals.pop(key, None) is not None:
            self._unfiled = len(originals)  # Nobody knows where it stood.
        originals[key] = original
        self._unfiled += 1

    def clear(self) -> None:
        """The queue was purged, or its scope changed: then nothing that was sent before is compared any more."""
        self._originals.clear()
        self.files.clear()
        self.filing = None
        self._unfiled = 0

    # ---- to disk and back

    def take_aside(self, next_serial: Callable[[], int], now_ms: int) -> FiledIds | None:
        """What is worth a file now. ``adopt`` or ``put_back`` follows before the next call."""
        for serial in [serial for serial, newest_ms in self.files.items() if now_ms - newest_ms >= WINDOW_MS]:
            del self.files[serial]
        entries = self.unfiled(now_ms)
        if len(entries) < _FEW_IDS:
            return None
        self.filing = FiledIds(next_serial(), entries)
        self._unfiled = 0
        return self.filing

    def adopt(self, filed: FiledIds) -> None:
        """It is written."""
        if self.filing is filed:
            self.filing = None
            self.files[filed.serial] = max(original.sent_ms for _, original in filed.entries)

    def put_back(self, filed: FiledIds) -> None:
        """It was not written."""
        if self.filing is filed:
            self.filing = None
            self._unfiled += len(filed.entries)

    def unfiled(self, now_ms: int) -> list[tuple[Key, Original]]:
        """What no file holds or will hold, in order: for a snapshot."""
        newest = islice(reversed(self._originals.items()), self._unfiled)
        return [entry for entry in newest if _is_current(entry[1], now_ms)][::-1]

    def restore(self, files: dict[int, list[tuple[Key, Original]]], unfiled: Iterable[tuple[Key, Original]]) -> None:
        """Take what was settled, before anything else happens."""
        for serial in sorted(files):
            self._originals.update(files[serial])
            self.files[serial] = max((original.sent_ms for _, original in files[serial]), default=0)
        for key, original in unfiled:
            self._originals[key] = original
            self._unfiled += 1


def _is_current(original: Original, now_ms: int) -> bool:
    return -WINDOW_MS < now_ms - original.sent_ms < WINDOW_MS


def content_based_id(body: bytes) -> str:
    """The deduplication id of a message that has none: the SHA-256 of its body, in hex. Attributes do not count."""
    return hashlib.sha256(body).hexdigest()
