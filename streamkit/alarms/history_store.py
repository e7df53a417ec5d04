"""The history of alarms in a table of the engine: written in the background, there again when the store is opened."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence

from streamkit.alarms.history import (
    BY_KIND,
    HAPPENED,
    HISTORY,
    MOST_PER_PAGE,
    RETENTION_SECONDS,
    STATE,
    TTL,
    HistoryItem,
    HistoryItemType,
    HistoryPage,
    HistoryQuestion,
    as_item,
    moment,
    moment_of,
    of_item,
    token_of,
)
from streamkit.alarms.history_states import Changes, Left, stored_state
from streamkit.alarms.left import Pending, text_of_pending, text_of_suppression
from streamkit.alarms.ports import StoredState
from streamkit.alarms.suppression import Suppression
from streamkit.backoff import Retry
from streamkit.clock import Clock, wait_until, wake
from streamkit.errors import AlreadyExistsError, ClosedError, NotFoundError, ReadOnlyError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.index import Index
from streamkit.tables.item import Item, Key
from streamkit.tables.store import SortKeyRange, TableStore
from streamkit.tables.write import Put, Update, Write

logger = logging.getLogger("streamkit.alarms")

HISTORY_LOST = Metric.of("streamkit", "AlarmHistoryItemsLost")
"""How many items of the history could not be stored."""
MOST_WAITING = 10_000
"""Items that wait to be stored; of more the oldest are lost."""
_AT_ONCE = 50
"""Items of one commit, each of which may change a state as well. AWS: a TransactWriteItems call has 100 actions."""
_SWEEP_MS = 3_600_000
_ATTRIBUTES = TableAttributes(indexes=(Index(BY_KIND, "kind", "moment"),), ttl=TTL)
_Entry = HistoryItem | Left
_COUNTER = {"alarm": "streamkit", "entry": "openings"}
"""No alarm of that name is meant: its items have other entries."""


class StoredHistory:
    """An ``AlarmHistory`` in the table ``streamkit-alarms``, which is made with the first item.

    ``record`` and the others gather; a task that ends with the last item stores what has gathered, in one commit each
    time, with the states that follow from it. Items are kept for 30 days.
    """

    def __init__(self, tables: TableStore, clock: Clock, metrics: Metrics) -> None:
        self._tables = tables
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[_Entry] = deque()
        self._withheld: dict[tuple[str, str], Left] | None = {}
        """What is left to do as of this process, until what an earlier one left was read; None: it was."""
        self._writing: Sequence[_Entry] = ()
        self._task: asyncio.Task[None] | None = None
        self._pause: asyncio.Future[bool] | None = None
        self._draining = False
        self._recorded = 0
        self._settled = 0
        """How many of those are stored or lost."""
        self._readers: list[asyncio.Future[bool]] = []
        """Who waits to see what was recorded before."""
        self._lost = False
        self._opening: int | None = None
        """The how-manieth to write here; None: not asked for yet."""
        self._sequence = 0
        self._swept_ms = 0

    def record(self, item: HistoryItem) -> None:
        """See AlarmHistory."""
        self._add(item)

    def remember_pending(self, alarm: str, pending: Sequence[Pending]) -> None:
        """See AlarmHistory."""
        self._leave(Left(alarm, "pending", text_of_pending(pending)))

    def remember_suppression(self, alarm: str, suppression: Suppression) -> None:
        """See AlarmHistory."""
        self._leave(Left(alarm, "suppression", text_of_suppression(suppression)))

    def _leave(self, left: Left) -> None:
        # INVARIANT: test_what_was_left_is_not_overwritten_before_it_is_read
        if self._withheld is None:
            self._add(left)
        else:
            self._withheld[left.alarm, left.kind] = left

    def _add(self, item: _Entry) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._lose(1, f"more than {MOST_WAITING:,} wait to be stored")
        self._waiting.append(item)
        self._recorded += 1
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="history of alarms")
            self._task.add_done_callback(self._ended)

    async def drain(self) -> None:
        """See AlarmHistory. Cancellation: what is being stored may or may not be."""
        self._draining = True
        try:
            while self._task is not None:
                if self._pause is not None:
                    wake(self._pause)
                await asyncio.wait([self._task])
        finally:
            self._draining = False

    def cancel(self) -> None:
        """See AlarmHistory."""
        if self._task is not None:
            self._task.cancel()

    # ---- writing

    async def _work(self) -> None:
        retry = Retry(first=0.5, longest=60.0)
        failures = 0
        try:
            while self._waiting or self._writing:
                if not self._writing:
                    self._writing = self._next()
                try:
                    await self._write(self._writing)
                except Exception as error:
                    failures += 1
                    count = len(self._writing)
                    if isinstance(error, ValidationError) and count > 1:
                        # One of them cannot be stored; the others can.
                        self._waiting.extendleft(reversed(self._writing[count // 2 :]))
                        self._writing = self._writing[: count // 2]
                        continue
                    if isinstance(error, ClosedError | ReadOnlyError | ValidationError) or self._draining:
                        self._lose(count, str(error) or type(error).__name__)
                        self._sequence += count  # Some may be there nevertheless.
                        self._writing = ()
                        continue
                    if failures == 1:
                        logger.warning("the history of alarms cannot be stored, and is tried again: %s", error)
                    await self._wait(retry.delay(failures))
                else:
                    self._settled += len(self._writing)
                    self._writing = ()
                    self._wake_readers()
                    self._lost = False
                    failures = 0
        finally:
            self._wake_readers()
            # Before anybody else runs: what is recorded from now on needs another task.
            # INVARIANT: test_what_is_recorded_as_a_commit_ends_is_stored
            self._task = None

    def _next(self) -> list[_Entry]:
        found = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        # A change and what is to be done about it are one commit, and it has no more writes for that.
        while self._waiting and isinstance(self._waiting[0], Left) and self._waiting[0].alarm == found[-1].alarm:
            found.append(self._waiting.popleft())
        return found

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the history of alarms is not stored any more: %s", error, exc_info=error)
        if task.cancelled():
            if self._task is task:
                self._task = None  # It was cancelled before its first turn.
            left = len(self._waiting) + len(self._writing)
            self._waiting.clear()
            self._writing = ()
            if left:
                self._lose(left, "there was no time left")

    async def _write(self, items: Sequence[_Entry]) -> None:
        if self._opening is None:
            await self._open()
            # The same numbers if this is tried again, or what was stored without an answer would be there twice.
            # INVARIANT: test_a_commit_whose_answer_is_lost_is_stored_once
        first = self._sequence
        changes = Changes()
        writes: list[Write] = []
        for at, item in enumerate(items):
            if isinstance(item, Left):
                changes.leave(item)
                continue
            when = moment(item.timestamp_ms, self._opening or 0, first + at)
            writes.append(Put(as_item(item, when), table=HISTORY.name))
            changes.add(item)
        await self._tables.write([*writes, *changes.writes()])
        self._sequence = first + len(items)
        await self._sweep()

    async def _open(self) -> None:
        with contextlib.suppress(AlreadyExistsError):
            await self._tables.create_table(HISTORY, _ATTRIBUTES)
        counting = Update(key=_COUNTER, add={"count": 1}, table=HISTORY.name, returns="ALL_NEW")
        (counted,) = await self._tables.write([counting])
        self._opening = 0 if counted is None else counted["count"]

    async def _sweep(self) -> None:
        """Delete what has expired, now and then: the table's keeper begins only when the store is opened again."""
        now_ms = self._clock.now_ms()
        if now_ms - self._swept_ms < _SWEEP_MS:
            return
        self._swept_ms = now_ms
        try:
            while await self._tables.expire_items(HISTORY.name, 256) == 256:
                pass
        except Exception:
            logger.warning("old items of the history of alarms cannot be deleted", exc_info=True)

    async def _wait(self, seconds: float) -> None:
        self._pause = asyncio.get_running_loop().create_future()
        self._wake_readers()
        try:
            await wait_until(self._clock, self._pause, self._clock.now_ms() + round(seconds * 1000))
        finally:
            self._pause = None

    def _wake_readers(self) -> None:
        for reader in self._readers:
            wake(reader)
        self._readers.clear()

    def _lose(self, count: int, reason: str) -> None:
        self._settled += count
        self._metrics.put(HISTORY_LOST, float(count), self._clock.now_ms())
        if not self._lost:
            self._lost = True
            logger.error("the history of alarms has a gap, of %d items at first: %s", count, reason)

    # ---- reading

    async def _seen(self) -> None:
        """Return once what was recorded before is in the table, or cannot be stored at the moment."""
        recorded = self._recorded
        while self._settled < recorded and self._task is not None and self._pause is None:
            reader: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader

    async def states(self) -> dict[str, StoredState]:
        """See AlarmHistory."""
        await self._seen()
        found: dict[str, StoredState] = {}
        after: Key | None = None
        while True:
            try:
                page = await self._tables.query(HISTORY.name, STATE, after=after, index=BY_KIND)
            except NotFoundError:
                break  # Nobody has made the table yet, and a look does not.
            found.update((item["alarm"], stored_state(item)) for item in page.items)
            if (after := page.last_key) is None:
                break
        withheld, self._withheld = self._withheld or {}, None
        for left in withheld.values():
            self._add(left)
        return found

    async def items(self, name: str | None = None, *, item_type: HistoryItemType | None = None) -> list[HistoryItem]:
        """See AlarmHistory."""
        question = HistoryQuestion(name=name, item_type=item_type)
        found: list[HistoryItem] = []
        token: str | None = None
        while True:
            page = await self.page(question, next_token=token)
            found += page.items
            if (token := page.next_token) is None:
                return found

    async def page(
        self, question: HistoryQuestion, *, limit: int = MOST_PER_PAGE, next_token: str | None = None
    ) -> HistoryPage:
        """Up to ``limit``, 100 at most, of what the question asks for; what was recorded before is in it.

        Mirrors DescribeAlarmHistory (Amazon CloudWatch API Reference).

        Raises:
            ValidationError: the limit is not 1 to 100, or the token is none.
        """
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_PER_PAGE:
            raise ValidationError(f"limit is {limit!r}: use 1 to {MOST_PER_PAGE}")
        after = None if next_token is None else moment_of(next_token)
        await self._seen()
        found: list[Item] = []
        while True:
            # One more than there is room for tells whether there is another page.
            page = await self._look(question, after, limit + 2)
            found += [item for item in page if item["moment"] != after and question.takes(of_item(item))]
            if len(found) > limit:
                return HistoryPage([of_item(item) for item in found[:limit]], token_of(found[limit - 1]["moment"]))
            if not page or page[-1]["moment"] == after:
                return HistoryPage([of_item(item) for item in found], None)
            after = page[-1]["moment"]

    async def _look(self, question: HistoryQuestion, after: str | None, limit: int) -> list[Item]:
        moments = question.moments(self._clock.now_ms() - RETENTION_SECONDS * 1000, after)
        if moments is None:
            return []
        least, most = moments
        forward = not question.newest_first
        try:
            if question.name is None:
                sort_keys = SortKeyRange(at_least=least, at_most=most)
                found = await self._tables.query(
                    HISTORY.name, HAPPENED, sort_keys, forward=forward, limit=limit, index=BY_KIND
                )
            else:
                sort_keys = SortKeyRange(at_least=f"{HAPPENED}#{least}", at_most=f"{HAPPENED}#{most}")
                found = await self._tables.query(HISTORY.name, question.name, sort_keys, forward=forward, limit=limit)
        except NotFoundError:
            return []
        return found.items
