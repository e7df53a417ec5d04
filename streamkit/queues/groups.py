"""Which messages of a FIFO queue are next: order within message groups, turns between them. Pure and hot.

Follows "FIFO queue delivery logic" (Amazon SQS Developer Guide). A group is its messages by number, and all of its
rules come down to one: a receive gets the messages before the first one that is not ready. So a group is blocked by
what is in flight, whatever is sent meanwhile; it unblocks when that is deleted or moved, or when the oldest is visible
again; visible ones before a hidden one are receivable, and those behind it are not.

# AWS: a delayed message does not block earlier ones. Later ones wait for it here, also if they are ready before it: the
# delay of a FIFO queue is the same for all of its messages, so overtaking would only come from a change of it.
# AWS: looks at the first 120,000 messages for available groups. Here all count, so no deep group starves the others.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import chain

import msgspec

from streamkit.queues.stored import StoredMessage

_NEAR = 12
_FEW_STALE = 64


class _Group(msgspec.Struct, gc=False):
    """The messages of one group: the oldest, and those behind it by number, a removed one's number in its place."""

    first: StoredMessage
    later: list[StoredMessage | int] | None = None
    start: int = 0
    """Where the messages begin in ``later``; before it is what was there."""
    removed: int = 0
    """How many numbers there are behind ``start``."""
    in_flight: int = 0
    waits: bool = False
    """It has an entry among the turns that counts, the last one of its entries: its first message is ready."""
    stale: int = 0
    """Its entries among the turns that do not count."""


class FifoOrder:
    """Messages of a group come by number, and groups take turns: one that was served goes to the back.

    A receive drains a group as far as it goes before it turns to the next. Every step is O(1) amortised, O(log n) for
    a message deep in a group of n. A waiting message costs 9 bytes, a group 110 bytes, 200 if
    it has several, and nothing once it is empty.
    """

    noisy_groups = noisy_ready = noisy_in_flight = noisy_delayed = 0

    def __init__(self) -> None:
        self._groups: dict[str | None, _Group] = {}
        # Entries that are out of date stay until they are at the front or there are too many.
        self._turns: deque[_Group] = deque()
        self._stale = 0
        self._groups_in_flight = 0
        self._delayed = 0

    # ---- questions

    @property
    def groups_in_flight(self) -> int:
        """ApproximateNumberOfGroupsWithInflightMessages; ours is exact."""
        return self._groups_in_flight

    def choose(self) -> Iterator[StoredMessage]:
        """See Order."""
        return chain.from_iterable(map(_receivable, self._available() if self._stale else self._turns))

    def is_receivable(self, message: StoredMessage) -> bool:
        """See Order."""
        group = self._groups[message.group_id]
        if group.first.place != "ready":
            return False
        # A look at each message of a deep group would cost the square of its depth.
        return (not group.in_flight and not self._delayed) or any(found is message for found in _receivable(group))

    def is_blocked(self, group_id: str | None) -> bool:
        """See Order."""
        group = self._groups.get(group_id)
        return group is not None and (group.first.place != "ready" or group.in_flight > 0)

    def lacks(self, message: StoredMessage, few: int) -> bool:
        """See Order."""
        return False

    def is_noisy(self, message: StoredMessage) -> bool:
        """See Order."""
        return False

    def _available(self) -> Iterator[_Group]:
        """The groups that have something to receive, in the order of their turns."""
        passed: dict[int, int] = {}
        for group in self._turns:
            if group.stale:
                seen = passed.get(id(group), 0)
                if seen < group.stale:
                    passed[id(group)] = seen + 1
                    continue
            yield group

    # ---- what happens

    def add(self, message: StoredMessage) -> None:
        """See Order."""
        group = self._groups.get(message.group_id)
        if group is None:
            group = self._groups[message.group_id] = _Group(message)
            if message.place == "ready":
                group.waits = True
                self._turns.append(group)
        elif group.later is None:
            group.later = [message]
        else:
            group.later.append(message)
        if message.place == "in flight":
            self._goes_in_flight(group)
        elif message.place == "delayed":
            self._delayed += 1

    def hide(self, message: StoredMessage) -> None:
        """See Order."""
        group = self._groups[message.group_id]
        self._goes_in_flight(group)
        if group.first is message:
            self._step_out(group)

    def show(self, message: StoredMessage, *, first: bool = False) -> None:
        """See Order."""
        group = self._groups[message.group_id]
        if first or message.receive_count:
            self._leaves_flight(group)
        else:
            self._delayed -= 1
        if group.first is message:
            self._queue_up(group, first)

    def remove(self, message: StoredMessage) -> None:
        """See Order."""
        group = self._groups[message.group_id]
        if message.place == "in flight":
            self._leaves_flight(group)
        elif message.place == "delayed":
            self._delayed -= 1
        if group.first is not message:
            _cut(group, message)
        elif not _advance(group):
            if group.waits:
                self._step_out(group)
            del self._groups[message.group_id]
        elif group.first.place == "ready":
            # One that had its turn keeps it: what was before was not received but moved, or too old.
            if not group.waits:
                self._queue_up(group, first=False)
        elif group.waits:
            self._step_out(group)

    def _goes_in_flight(self, group: _Group) -> None:
        if not group.in_flight:
            self._groups_in_flight += 1
        group.in_flight += 1

    def _leaves_flight(self, group: _Group) -> None:
        group.in_flight -= 1
        if not group.in_flight:
            self._groups_in_flight -= 1

    # ---- turns

    def _queue_up(self, group: _Group, first: bool) -> None:
        group.waits = True
        if not first:
            self._turns.append(group)
            return
        if group.stale:
            # In front of an entry that does not count it would be taken for that one.
            self._rebuild()
        self._turns.appendleft(group)

    def _step_out(self, group: _Group) -> None:
        group.waits = False
        group.stale += 1
        self._stale += 1
        turns = self._turns
        while turns and turns[0].stale:
            turns.popleft().stale -= 1
            self._stale -= 1
        if self._stale > _FEW_STALE and self._stale * 2 > len(turns):
            self._rebuild()

    def _rebuild(self) -> None:
        # INVARIANT: test_groups_that_come_and_go_leave_nothing_behind
        turns = deque(group for group in self._available() if group.waits)
        for group in self._turns:
            group.stale = 0
        self._turns = turns
        self._stale = 0


def _receivable(group: _Group) -> Iterator[StoredMessage]:
    """Of a group whose first message is ready: that, and those behind it up to the first that is not."""
    yield group.first
    later = group.later
    if later is not None:
        for position in range(group.start, len(later)):
            message = later[position]
            if isinstance(message, int):
                continue
            if message.place != "ready":
                return
            yield message


def _advance(group: _Group) -> bool:
    """The first message is gone: the next one is first. Whether there is one."""
    later = group.later
    if later is None:
        return False
    start = group.start
    while start < len(later):
        message = later[start]
        start += 1
        if isinstance(message, int):
            group.removed -= 1
            continue
        group.first = message
        later[start - 1] = 0
        if start == len(later):
            group.later, start = None, 0
        elif start > _FEW_STALE and start * 2 > len(later):
            del later[:start]
            start = 0
        group.start = start
        return True
    return False


def _cut(group: _Group, message: StoredMessage) -> None:
    """A message behind the first is gone."""
    later = group.later
    assert later is not None
    start = group.start
    for position in range(start, min(start + _NEAR, len(later))):
        if later[position] is message:
            break
    else:
        position = bisect_left(later, message.number, start, key=_number)
    later[position] = message.number
    group.removed += 1
    if group.removed > _NEAR and group.removed * 2 > len(later) - start:
        group.later = [kept for kept in later[start:] if not isinstance(kept, int)] or None
        group.start = group.removed = 0


def _number(entry: StoredMessage | int) -> int:
    return entry if isinstance(entry, int) else entry.number
