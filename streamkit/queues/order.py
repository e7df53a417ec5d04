"""Which of a queue's messages are next: what every order answers, and that of standard queues. Pure and hot.

Follows "Standard queues" and "Fair queues" (Amazon SQS Developer Guide). HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from streamkit.queues.stored import StoredMessage

_FEW_STALE = 64


class Order(Protocol):
    """Which of a queue's messages are next.

    ``message.place`` always names the new place, but for ``remove``. A delayed message was never received.
    """

    @property
    def groups_in_flight(self) -> int:
        """FIFO: how many message groups have messages in flight. 0 on standard queues."""
        ...

    @property
    def noisy_groups(self) -> int:
        """Standard: how many tenants hold so much in flight that others come first. 0 on FIFO queues."""
        ...

    @property
    def noisy_ready(self) -> int:
        """How many ready messages these have."""
        ...

    @property
    def noisy_in_flight(self) -> int:
        """How many messages of theirs are in flight."""
        ...

    @property
    def noisy_delayed(self) -> int:
        """How many messages of theirs are delayed."""
        ...

    def add(self, message: StoredMessage) -> None:
        """A message is there, in the place that it names. The numbers of the messages that are added rise."""
        ...

    def hide(self, message: StoredMessage) -> None:
        """It was ready, and is in flight now."""
        ...

    def show(self, message: StoredMessage, *, first: bool = False) -> None:
        """It was delayed or in flight, and is ready now.

        ``first``: its receive reached nobody, so it goes back to the front. Of several, the last one is shown first.
        """
        ...

    def remove(self, message: StoredMessage) -> None:
        """It is gone; ``message.place`` still says from where."""
        ...

    def choose(self) -> Iterator[StoredMessage]:
        """For one receive: the ready messages in the order in which it may hand them out, lazily.

        The caller hides or removes what it takes when it has stopped iterating; until then nothing else happens to
        the queue. Choosing again without that gives the same.
        """
        ...

    def is_receivable(self, message: StoredMessage) -> bool:
        """Whether a receive of enough messages would get this one, which is ready."""
        ...

    def is_blocked(self, group_id: str | None) -> bool:
        """FIFO: whether a message of this group that came now would have to wait for an earlier one to be deleted."""
        ...

    def lacks(self, message: StoredMessage, few: int) -> bool:
        """Standard: whether so few of its tenant's messages are ready here that others should not keep it waiting."""
        ...

    def is_noisy(self, message: StoredMessage) -> bool:
        """Standard: whether its tenant was noisy when ``noisy_groups`` was last asked for."""
        ...


class _Tenant(msgspec.Struct, gc=False):
    """A message group of a standard queue that has messages ready or in flight."""

    ready: int = 0
    in_flight: int = 0
    noisy: bool = False
    aside: deque[StoredMessage] | None = None
    """Entries that stood at the front of the line while it was noisy: they are older than what is in the line."""


class StandardOrder:
    """Messages come in the order in which they became ready; with tenants, those of noisy ones come last.

    A group id names a tenant; a message without one belongs to none and is never held back. A tenant becomes noisy
    when it has at least two messages in flight, at least 10 % of what all tenants have there, and more than twice as
    many as the other tenants with messages ready or in flight have on average. It is quiet again when it has no more
    than that average, or less than 5 %. A tenant is looked at whenever one of its own messages goes in flight or
    leaves, a noisy one at every receive too. Noisy tenants take turns when nothing else waits.

    Every step is O(1) amortised. A waiting message costs 9 bytes, also of a noisy tenant; a tenant 80 bytes.
    """

    groups_in_flight = 0

    def __init__(self) -> None:
        # An entry that is out of date stays until it is at the front or there are too many. It is told by how many of
        # its message's entries are: the first ones, where what a tenant has aside comes before the line.
        # Not by the message, which may have moved on to a dead-letter queue and stand ready there.
        self._line: deque[StoredMessage] = deque()
        self._gone: dict[int, int] = {}
        self._stale = 0
        self._tenants: dict[str, _Tenant] = {}
        self._delayed: dict[str, int] = {}
        """How many messages of a tenant are delayed: they make nobody a tenant yet."""
        self._in_flight = 0
        # INVARIANT: test_standard_order_is_that_of_the_model; all noisy tenants, and those quiet again with an aside.
        self._noisy: OrderedDict[str, _Tenant] = OrderedDict()
        self._back: OrderedDict[str, _Tenant] = OrderedDict()

    # ---- questions

    @property
    def noisy_groups(self) -> int:
        """ApproximateNumberOfNoisyGroups; ours is exact."""
        self._calm()
        return len(self._noisy)

    @property
    def noisy_ready(self) -> int:
        """See Order."""
        self._calm()
        return sum(tenant.ready for tenant in self._noisy.values())

    @property
    def noisy_in_flight(self) -> int:
        """See Order."""
        self._calm()
        return sum(tenant.in_flight for tenant in self._noisy.values())

    @property
    def noisy_delayed(self) -> int:
        """See Order."""
        self._calm()
        return sum(self._delayed.get(group_id, 0) for group_id in self._noisy)

    def choose(self) -> Iterator[StoredMessage]:
        """See Order."""
        if self._noisy:
            self._calm()
        if self._gone or self._noisy or self._back:
            self._tidy()
        if self._noisy or self._back:
            return self._fairly()
        return self._live(self._line, {}) if self._gone else iter(self._line)

    def is_receivable(self, message: StoredMessage) -> bool:
        """See Order."""
        return True

    def is_blocked(self, group_id: str | None) -> bool:
        """See Order."""
        return False

    def lacks(self, message: StoredMessage, few: int) -> bool:
        """See Order."""
        if message.group_id is None:
            return False
        tenant = self._tenants.get(message.group_id)
        return tenant is None or tenant.ready < few

    def is_noisy(self, message: StoredMessage) -> bool:
        """See Order."""
        return message.group_id in self._noisy

    def _fairly(self) -> Iterator[StoredMessage]:
        met: dict[int, int] = {}
        for tenant in self._back.values():
            if tenant.aside is not None:
                yield from self._live(tenant.aside, met)
        noisy = self._noisy
        yield from self._live((m for m in self._line if m.group_id not in noisy), met)
        for tenant in noisy.values():
            if tenant.aside is not None:
                yield from self._live(tenant.aside, met)
        yield from self._live((m for m in self._line if m.group_id in noisy), met)

    # ---- what happens

    def add(self, message: StoredMessage) -> None:
        """See Order."""
        if message.place == "ready":
            self._line.append(message)
            if message.group_id is not None:
                self._tenant(message.group_id).ready += 1
        elif message.place == "in flight" and message.group_id is not None:
            tenant = self._tenant(message.group_id)
            tenant.in_flight += 1
            self._in_flight += 1
            self._judge(message.group_id, tenant)
        elif message.place == "delayed" and message.group_id is not None:
            self._delayed[message.group_id] = self._delayed.get(message.group_id, 0) + 1

    def hide(self, message: StoredMessage) -> None:
        """See Order."""
        group_id = message.group_id
        if group_id is None:
            line = self._line
            if line and line[0] is message and not self._gone:
                line.popleft()
            else:
                self._leave(message, None)
            return
        tenant = self._tenants[group_id]
        tenant.ready -= 1
        tenant.in_flight += 1
        self._in_flight += 1
        self._leave(message, tenant)
        if tenant.noisy:
            self._noisy.move_to_end(group_id)
        self._judge(group_id, tenant)

    def show(self, message: StoredMessage, *, first: bool = False) -> None:
        """See Order."""
        group_id = message.group_id
        tenant = None if group_id is None else self._tenant(group_id)
        if first:
            if id(message) in self._gone:
                # In front of an entry that is out of date it would be taken for that one.
                self._rebuild()
            aside = None if tenant is None else tenant.aside
            (self._line if aside is None else aside).appendleft(message)
        else:
            self._line.append(message)
        if group_id is not None and tenant is not None:
            tenant.ready += 1
            if first or message.receive_count:
                tenant.in_flight -= 1
                self._in_flight -= 1
                self._judge(group_id, tenant)
            else:
                self._undelay(group_id)

    def remove(self, message: StoredMessage) -> None:
        """See Order."""
        group_id = message.group_id
        if message.place == "ready":
            tenant = None
            if group_id is not None:
                tenant = self._tenants[group_id]
                tenant.ready -= 1
            self._leave(message, tenant)
        elif group_id is None:
            return
        elif message.place == "delayed":
            self._undelay(group_id)
            return
        else:
            tenant = self._tenants[group_id]
            tenant.in_flight -= 1
            self._in_flight -= 1
            self._judge(group_id, tenant)
        if group_id is not None and tenant is not None and not tenant.ready and not tenant.in_flight:
            self._judge(group_id, tenant)
            self._clear_aside(tenant)
            self._back.pop(group_id, None)
            del self._tenants[group_id]

    # ---- tenants

    def _undelay(self, group_id: str) -> None:
        self._delayed[group_id] -= 1
        if not self._delayed[group_id]:
            del self._delayed[group_id]

    def _tenant(self, group_id: str) -> _Tenant:
        tenant = self._tenants.get(group_id)
        if tenant is None:
            tenant = self._tenants[group_id] = _Tenant()
        return tenant

    def _judge(self, group_id: str, tenant: _Tenant) -> None:
        mine, others, count = tenant.in_flight, self._in_flight - tenant.in_flight, len(self._tenants) - 1
        if tenant.noisy:
            if mine * count <= others or mine * 20 < self._in_flight:
                tenant.noisy = False
                del self._noisy[group_id]
                if tenant.aside is not None:
                    self._back[group_id] = tenant
        elif mine >= 2 and mine * count > 2 * others and mine * 10 >= self._in_flight:
            tenant.noisy = True
            self._noisy[group_id] = tenant
            self._back.pop(group_id, None)

    def _calm(self) -> None:
        """Others have more by now: noisy ones that are none any more. There are few: each has 5 % after this."""
        for group_id, tenant in [*self._noisy.items()]:
            self._judge(group_id, tenant)

    # ---- entries

    def _live(self, entries: Iterable[StoredMessage], met: dict[int, int]) -> Iterator[StoredMessage]:
        """The entries that count; ``met`` says how many of a message's entries one has passed."""
        gone = self._gone
        for message in entries:
            key = id(message)
            if key in gone:
                passed = met.get(key, 0)
                if passed < gone[key]:
                    met[key] = passed + 1
                    continue
            yield message

    def _leave(self, message: StoredMessage, tenant: _Tenant | None) -> None:
        """The entry of a ready message is out of date."""
        key = id(message)
        line, gone = self._line, self._gone
        aside = None if tenant is None else tenant.aside
        if key in gone:
            gone[key] += 1
            self._stale += 1
        elif line and line[0] is message:
            line.popleft()
            if gone:
                self._tidy()
            if aside is None:
                return
        elif aside and aside[0] is message:
            aside.popleft()
        else:
            gone[key] = 1
            self._stale += 1
        if tenant is not None and aside is not None:
            while aside and id(aside[0]) in gone:
                self._drop(aside)
            if not aside or not tenant.ready:
                self._clear_aside(tenant)
                if message.group_id is not None:
                    self._back.pop(message.group_id, None)
        if self._stale > _FEW_STALE and self._stale * 2 > self._entries():
            self._rebuild()

    def _tidy(self) -> None:
        """The front of the line is a message that counts, of a tenant who has nothing aside and is not noisy."""
        line, gone = self._line, self._gone
        while line:
            message = line[0]
            tenant = None if message.group_id is None else self._tenants.get(message.group_id)
            if tenant is not None and (tenant.noisy or tenant.aside is not None):
                if tenant.aside is None:
                    tenant.aside = deque()
                tenant.aside.append(line.popleft())
            elif id(message) in gone:
                self._drop(line)
            else:
                break

    def _drop(self, entries: deque[StoredMessage]) -> None:
        key = id(entries.popleft())
        self._stale -= 1
        if self._gone[key] == 1:
            del self._gone[key]
        else:
            self._gone[key] -= 1

    def _clear_aside(self, tenant: _Tenant) -> None:
        """None of what it has aside counts."""
        if tenant.aside is not None:
            while tenant.aside:
                self._drop(tenant.aside)
            tenant.aside = None

    def _entries(self) -> int:
        aside = [t.aside for tenants in (self._noisy, self._back) for t in tenants.values() if t.aside is not None]
        return len(self._line) + sum(map(len, aside))

    def _rebuild(self) -> None:
        """No entry is out of date any more."""
        met: dict[int, int] = {}
        for group_id, tenant in (*self._noisy.items(), *self._back.items()):
            if tenant.aside is not None:
                tenant.aside = deque(self._live(tenant.aside, met)) or None
                if tenant.aside is None:
                    self._back.pop(group_id, None)
        self._line = deque(self._live(self._line, met))
        self._gone.clear()
        self._stale = 0
