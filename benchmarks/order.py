"""Records that know their place, so that whoever gets them back can tell whether all came, once and in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from benchmarks.measure import WrongResultError, verify

_PLACE = 20
"""Digits at the beginning of a payload."""

Pair = tuple[str, bytes]
"""A partition key and a payload."""


class Records:
    """Records 0, 1, 2, ... that say in their payload which one they are, and whose keys are known from that.

    Args:
        size: bytes of a payload.
        keys: how many there are.
        turns: whose the records are, as places in ``keys``: record n has that of ``turns[n % len(turns)]``. A
            distribution is drawn once (see ``benchmarks.keys``); without one the keys take turns.
    """

    def __init__(self, size: int, keys: int = 1000, turns: Sequence[int] | None = None) -> None:
        self.size = size
        self.keys = [f"key-{at}" for at in range(keys)]
        self.filler = b"x" * (size - _PLACE)
        if turns is None:
            self._turns = self.keys
            self.first, self.steps = {key: at for at, key in enumerate(self.keys)}, [keys]
        else:
            self._turns = [self.keys[at] for at in turns]
            self.first, self.steps = _cycle(self._turns)

    def key(self, place: int) -> str:
        """Whose record it is."""
        return self._turns[place % len(self._turns)]

    def payload(self, place: int) -> bytes:
        """Its bytes."""
        return b"%020d" % place + self.filler

    def batch(self, places: Iterable[int]) -> list[Pair]:
        """Records as a put takes them."""
        return [(self.key(place), self.payload(place)) for place in places]

    def verify(self, found: Iterable[Pair], count: int) -> None:
        """Refuse what is not records 0 to ``count`` - 1, each once, those of a key in their order.

        Raises:
            WrongResultError: one is lost, doubled, swapped, changed, or under another key.
        """
        check = Check(self)
        for key, data in found:
            check.see(key, data)
        check.end(count)


def _cycle(turns: Sequence[str]) -> tuple[dict[str, int], list[int]]:
    """By key the first of its records, and how far it is from each record to the next of its key."""
    first: dict[str, int] = {}
    following: dict[str, int] = {}
    steps = [0] * len(turns)
    for place in range(2 * len(turns) - 1, -1, -1):
        key = turns[place % len(turns)]
        if place < len(turns):
            steps[place] = following[key] - place
            first[key] = place
        following[key] = place
    return first, steps


class Check:
    """Looks at records one by one, as they come, and keeps none of them."""

    def __init__(self, records: Records) -> None:
        self.seen = 0
        self._filler = records.filler
        self._following = dict(records.first)
        self._steps = records.steps

    def see(self, key: str, data: bytes) -> None:
        """The next record.

        Raises:
            WrongResultError: it is not the next of its key.
        """
        self.seen += 1
        expected = self._following.get(key)
        if expected is None:
            raise WrongResultError(f"a record under {key!r}, which nobody put")
        if data != b"%020d" % expected + self._filler:
            raise WrongResultError(f"record {expected} of {key} was to come next, and {data[:_PLACE]!r} came")
        self._following[key] = expected + self._steps[expected % len(self._steps)]

    def end(self, count: int) -> None:
        """That was all.

        Raises:
            WrongResultError: some are missing, or there are too many.
        """
        verify(self.seen == count, f"{count:,} records were acknowledged and {self.seen:,} are there")
        for key, expected in self._following.items():
            # One that nobody acknowledged may make up for the number, not for the record.
            verify(expected >= count, f"record {expected} of {key} was acknowledged and is not there")


class Once:
    """Looks at messages as they come, in whatever order: each is to come once, and as it was sent."""

    def __init__(self, records: Records, count: int) -> None:
        self._records = records
        self._missing = bytearray(b"\1") * count

    def see(self, data: bytes) -> None:
        """The next message.

        Raises:
            WrongResultError: it came before, or nobody sent it like that.
        """
        digits = data[:_PLACE]
        place = int(digits) if digits.isdigit() else -1
        if not 0 <= place < len(self._missing) or data != self._records.payload(place):
            raise WrongResultError(f"a message came that nobody sent like that: {digits!r}, {len(data)} bytes")
        verify(bool(self._missing[place]), f"message {place} came twice")
        self._missing[place] = 0

    def end(self) -> None:
        """That was all.

        Raises:
            WrongResultError: some did not come.
        """
        verify(not any(self._missing), f"{sum(self._missing):,} of {len(self._missing):,} messages never came")


def verify_once(records: Records, found: Iterable[bytes], count: int) -> None:
    """Refuse what is not messages 0 to ``count`` - 1, each once, in whatever order.

    Raises:
        WrongResultError: one is lost, doubled or changed.
    """
    once = Once(records, count)
    for data in found:
        once.see(data)
    once.end()


@contextlib.contextmanager
def tasks_verify() -> Iterator[None]:
    """What is wrong in one of several tasks is wrong, whatever else failed because of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        wrong: BaseException | None = group.subgroup(WrongResultError)
        while isinstance(wrong, BaseExceptionGroup):
            wrong = wrong.exceptions[0]
        if wrong is None:
            raise
        raise wrong from group


def shard_of(key: str, shards: int = 4) -> int:
    """Where a peer's log puts a record of this key."""
    found = _SHARDS.get((key, shards))
    if found is None:
        found = _SHARDS[key, shards] = crc32(key.encode()) % shards
    return found


_SHARDS: dict[tuple[str, int], int] = {}
