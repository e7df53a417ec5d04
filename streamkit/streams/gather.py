"""Single puts of many tasks as few calls: what is put in one turn of the event loop goes to the store together.

HOT: `python -m benchmarks --only puts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streamkit.errors import ValidationError
from streamkit.limits import MIB
from streamkit.streams.record_attributes import Attributes, owned
from streamkit.streams.store import PutColumns, PutEntry, PutResult

_MOST_ENTRIES = 500
_MOST_BYTES = 4 * MIB
"""A call of AWS takes 500 entries and 10 MiB with their keys; so this is a legal one everywhere."""


class _Call:
    """One call of the store."""

    __slots__ = ("after", "begun", "entries", "waiters")

    def __init__(self, entries: Sequence[PutEntry], waiters: Sequence[asyncio.Future[PutResult]], after: int) -> None:
        self.entries = entries
        self.waiters = waiters
        self.after = after
        """How many entries must be in the store's hands before."""
        self.begun = False


class Gathering:
    """Puts of one stream that are on their way. Nothing lingers: a turn of the loop is all that a put waits for.

    Ordering: puts go to the store in the order in which they were made, also when one of them is malformed.
    Cancellation: a put whose task is cancelled is stored or not, and takes nothing with it.
    """

    def __init__(self, put: Callable[[Sequence[PutEntry]], Awaitable[Sequence[PutResult]]]) -> None:
        self._put = put
        self._keys: list[str] = []
        self._data: list[bytes] = []
        self._explicit: list[int | None] = []
        self._attributes: dict[int, Attributes] = {}
        self._waiters: list[asyncio.Future[PutResult]] = []
        self._bytes = 0
        self._sending: set[asyncio.Task[None]] = set()
        # How many entries have left the gathering, and how many of them are in the store's hands.
        self._left = 0
        self._handed = 0

    def put(
        self, partition_key: str, data: bytes, explicit_hash_key: int | None, attributes: Attributes | None = None
    ) -> asyncio.Future[PutResult]:
        """The future gets the entry's result, or the error that refused it."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[PutResult] = loop.create_future()
        if not self._waiters:
            loop.call_soon(self._send)
        elif len(self._waiters) >= _MOST_ENTRIES or self._bytes + len(data) > _MOST_BYTES:
            self._send()
            loop.call_soon(self._send)
        if attributes:
            # INVARIANT: test_a_dict_that_is_used_again_changes_no_record
            self._attributes[len(self._waiters)] = owned(attributes)
        self._keys.append(partition_key)
        self._data.append(data)
        self._explicit.append(explicit_hash_key)
        self._waiters.append(waiter)
        self._bytes += len(data)
        return waiter

    @property
    def is_holding(self) -> bool:
        """Whether something that was put is not in the store's hands yet."""
        return bool(self._waiters) or self._handed < self._left

    async def handed_over(self) -> None:
        """Return when all that was put before is in the store's hands: for a call of another kind that is to follow.

        Whoever goes on without another ``await`` is next, and before those who wait for it after him.
        """
        self._send()
        await self._handed_to(self._left)

    async def _handed_to(self, target: int) -> None:
        while self._handed < target:  # noqa: ASYNC110 - turns of the loop are what it waits for
            await asyncio.sleep(0)

    def _send(self) -> None:
        if not self._waiters:
            return
        given = self._attributes
        entries: Sequence[PutEntry] = PutColumns(self._keys, self._data, given)
        if self._explicit.count(None) < len(self._explicit):
            attributes = [given.get(place) for place in range(len(self._keys))]
            entries = list(map(PutEntry, self._keys, self._data, self._explicit, attributes))
        self._start(_Call(entries, self._waiters, self._left))
        self._left += len(self._waiters)
        self._keys, self._data, self._explicit, self._waiters, self._bytes = [], [], [], [], 0
        if given:
            self._attributes = {}

    def _start(self, call: _Call) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._sending.discard(task)
            if task.cancelled():
                self._handed += 0 if call.begun else len(call.waiters)
                for waiter in call.waiters:
                    waiter.cancel()

        task = asyncio.get_running_loop().create_task(self._store(call), name="streamkit put")
        self._sending.add(task)
        task.add_done_callback(ended)

    async def _store(self, call: _Call) -> None:
        entries, waiters = call.entries, call.waiters
        if self._handed < call.after:
            await self._handed_to(call.after)
        call.begun = True
        self._handed += len(waiters)
        try:
            results = await self._put(entries)
        except ValidationError as error:
            if len(waiters) == 1:
                _fail(waiters, error)
                return
            # One entry refuses its whole call, and must not refuse what others put. All go at once, so that they are
            # durable together, and what was put later waits until they have gone.
            # INVARIANT: test_a_malformed_put_lets_nothing_overtake
            self._handed -= len(waiters)
            for place, waiter in enumerate(waiters):
                self._start(_Call([entries[place]], [waiter], 0))
        except Exception as error:
            _fail(waiters, error)
        else:
            for waiter, result in zip(waiters, results, strict=True):
                if waiter.done():
                    continue
                if result.error is None:
                    waiter.set_result(result)
                else:
                    waiter.set_exception(result.error)


def _fail(waiters: Sequence[asyncio.Future[PutResult]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)
