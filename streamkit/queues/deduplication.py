"""What a FIFO queue remembers of what was sent to it, so that a repeat is not stored again. Pure.

Follows "Exactly-once processing in Amazon SQS" (Amazon SQS Developer Guide). A repeat does not lengthen the window, and
the window outlasts the message: what was received and deleted is remembered all the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

WINDOW_MS = 300_000
"""Five minutes from when the original was sent."""
_FEW_IDS = 1000
"""Fewer are not worth a file."""

Key = str | tuple[str, str]
"""A deduplication id, or message group and id, by the queue's scope."""


class Original(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The message that the repeats of a key stand for. The field order is a storage format: append, never reorder."""

    key: Key
    message_id: str
    number: int
    sent_ms: int


class FiledIds(msgspec.Struct, eq=False):
    """Ids on their way to a file, in the order in which they were sent; there is at least one."""

    serial: int
    originals: deque[Original]


class Deduplication:
    """The ids of the last five minutes.

    Ids are forgotten in the order in which they came, so each costs O(1). A clock that was set back between two runs by
    less than the window lengthens it by as much; one that was set back further ends it: to swallow messages for as long
    as a clock was wrong would be worse than to store a repeat.

    What is settled to disk is written once: the newest ids, in a file that is of no use once they are old.
    """

    def __init__(self) -> None:
        self._originals: OrderedDict[Key, Original] = OrderedDict()
        # The newest of these, in no file. There may be 100,000 of them when they are taken aside, at once.
        self._unfiled: deque[Original] = deque()
        self.files: dict[int, int] = {}
        """Those that hold ids, by serial, and when the newest of a file's messages was sent."""
        self.filing: FiledIds | None = None
        """What is on its way to a file."""

    def __len__(self) -> int:
        """How many are kept, also those whose window has passed since something was last sent."""
        return len(self._originals)

    def find(self, key: Key, now_ms: int) -> Original | None:
        """The message that was sent under this id within the window."""
        original = self._originals.get(key)
        return original if original is not None and _is_current(original, now_ms) else None

    def add(self, original: Original) -> None:
        """A message was sent under a key that was not known."""
        originals = self._originals
        while originals and not _is_current(next(iter(originals.values())), original.sent_ms):
            originals.popitem(last=False)
        originals.pop(original.key, None)
        originals[original.key] = original
        self._unfiled.append(original)
        if len(self._unfiled) > len(originals):
            self._unfiled.popleft()  # Nobody settles them, and they are not worth it any more.

    def clear(self) -> None:
        """The queue was purged, or its scope changed: then nothing that was sent before is compared any more."""
        self._originals.clear()
        self._unfiled.clear()
        self.files.clear()
        self.filing = None

    # ---- to disk and back

    def take_aside(self, next_serial: Callable[[], int], now_ms: int) -> FiledIds | None:
        """What is worth a file now. ``adopt`` or ``put_back`` follows before the next call."""
        for serial in [serial for serial, newest_ms in self.files.items() if now_ms - newest_ms >= WINDOW_MS]:
            del self.files[serial]
        if len(self._unfiled) < _FEW_IDS:
            return None
        self.filing = FiledIds(next_serial(), self._unfiled)
        self._unfiled = deque()
        return self.filing

    def adopt(self, filed: FiledIds) -> None:
        """It is written."""
        if self.filing is filed:
            self.filing = None
            self.files[filed.serial] = filed.originals[-1].sent_ms

    def put_back(self, filed: FiledIds) -> None:
        """It was not written."""
        if self.filing is filed:
            self.filing = None
            self._unfiled.extendleft(reversed(filed.originals))

    def unfiled(self, now_ms: int) -> list[Original]:
        """What no file holds or will hold, in order: for a snapshot."""
        return [original for original in self._unfiled if _is_current(original, now_ms)]

    def restore(self, files: dict[int, list[Original]], unfiled: Sequence[Original]) -> None:
        """Take what was settled, before anything else happens."""
        for serial in sorted(files):
            self._originals.update((original.key, original) for original in files[serial])
            self.files[serial] = files[serial][-1].sent_ms
        self._originals.update((original.key, original) for original in unfiled)
        self._unfiled.extend(unfiled)


def _is_current(original: Original, now_ms: int) -> bool:
    return -WINDOW_MS < now_ms - original.sent_ms < WINDOW_MS


def content_based_id(body: bytes) -> str:
    """The deduplication id of a message that has none: the SHA-256 of its body, in hex. Attributes do not count."""
    return hashlib.sha256(body).hexdigest()
