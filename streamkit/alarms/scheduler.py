"""One service that evaluates all alarms of a kit, each at the edges of its periods."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from streamkit.alarms.composites import Composites
from streamkit.alarms.ports import ActionRunner, AlarmHistory, Warm
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.clock import Clock, wait_until, wake
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.service import Stop

logger = logging.getLogger("streamkit.alarms")

NAME = "alarms"
"""What ``kit.health()`` calls the service."""
LOOKS_MS = (1000, 2000, 3000, 6000)
"""How often gauges are read and early decisions made. All of them divide the periods that they are meant for."""
LOOKS_A_SECOND = 1000
"""So many alarms are looked at each second; more of one period are looked at less often, but ten times a period."""
_PATIENCE_MS = 500
"""How long a gauge is awaited before it may be left to itself."""
_AT_A_TIME = 64
"""Alarms between two turns that others on the loop get: under a millisecond."""


class _Look:
    """Some alarms that are due: whether their period has ended, and the instant that this is about."""

    __slots__ = ("edge", "first", "left", "now_ms")

    def __init__(self, watchers: Iterable[AlarmWatcher], edge: bool, now_ms: int, *, first: bool = False) -> None:
        self.left = iter(tuple(watchers))
        self.edge = edge
        self.now_ms = now_ms
        self.first = first
        """Whether it is the first look at them."""


class _Periods:
    """The alarms of one period."""

    def __init__(self, period_ms: int, now_ms: int) -> None:
        self.period_ms = period_ms
        self.edge_ms = now_ms - now_ms % period_ms
        """The last edge that was evaluated: where the period that fills begins."""
        self.watchers: dict[AlarmWatcher, None] = {}

    def next_ms(self, now_ms: int) -> int:
        """When to look again, which is at each edge and in between."""
        # INVARIANT: test_many_alarms_are_looked_at_less_often_and_ten_times_a_period_still
        often = next((ms for ms in LOOKS_MS if len(self.watchers) * 1000 <= LOOKS_A_SECOND * ms), LOOKS_MS[-1])
        while often * 10 > self.period_ms:
            often = LOOKS_MS[LOOKS_MS.index(often) - 1]
        return (now_ms // often + 1) * often

    def passed_edge(self, now_ms: int) -> bool:
        """Whether a period ended since the last look. Of several one counts: there is nothing to catch up with."""
        filling_ms = now_ms - now_ms % self.period_ms
        # INVARIANT: test_a_clock_set_back_evaluates_nothing_twice
        if filling_ms > self.edge_ms:
            self.edge_ms = filling_ms
            return True
        if self.edge_ms - filling_ms > self.period_ms:
            # Set back by more than a moment: what was evaluated then is of another time, which now comes again.
            self.edge_ms = filling_ms
        return False


class AlarmScheduler:
    """A ``Service``: sleeps until the next edge of a period or look at gauges, whichever comes first.

    Evaluation is a matter of microseconds and happens here; gauges that are async are awaited one after the other, and
    one that does not answer until the next look is left to itself, while the alarms on it are evaluated without.
    Composite alarms come when those on metrics have been evaluated, and when their actions are to be let go.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        runner: ActionRunner,
        history: AlarmHistory,
        load: Callable[[], Awaitable[None]] | None = None,
        composites: Composites | None = None,
        warm: Warm | None = None,
    ) -> None:
        """``load`` is awaited before the first evaluation, ``warm`` before the first of each alarm."""
        self._metrics = metrics
        self._clock = clock
        self._runner = runner
        self._history = history
        self._load = load
        self._composites = composites or Composites({})
        self._composites.wake = self._wake
        self._composites.must_wait = self._has_new
        self._warm = warm
        self._cold: list[AlarmWatcher] = []
        """Whose metrics may have to be brought back to memory first."""
        self._warming: asyncio.Task[None] | None = None
        self._periods: dict[int, _Periods] = {}
        self._due: list[tuple[int, int]] = []
        """A heap of (when to look, whose period)."""
        self._new: list[AlarmWatcher] = []
        self._last_ms = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._todo: deque[_Look] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._reading: tuple[Metric, _Look, int] | None = None
        """What is awaited, for whom (to look at without it, if it takes too long), and since when."""
        self._slow: dict[Metric, asyncio.Task[None]] = {}

    @property
    def name(self) -> str:
        """See Service."""
        return NAME

    def add(self, watcher: AlarmWatcher) -> None:
        """Evaluate it soon, and from then on at each edge. Also after its alarm was replaced."""
        (self._new if self._warm is None else self._cold).append(watcher)
        self._wake()

    def remove(self, watcher: AlarmWatcher, period_ms: int) -> None:
        """Do not evaluate it any more; ``period_ms`` is what it had."""
        for waiting in (self._new, self._cold):
            if watcher in waiting:
                waiting.remove(watcher)
        if period_ms in self._periods:
            self._periods[period_ms].watchers.pop(watcher, None)

    async def run(self, stop: Stop) -> None:
        """See Service. Stop: actions that were begun are finished, if they are within 4 s. Cancellation: at any time.

        May be called again.
        """
        if self._load is not None:
            await self._load()
        try:
            while not stop.requested:
                next_ms = self._tick(self._clock.now_ms())
                self._waiter = asyncio.get_running_loop().create_future()
                with stop.interruptible():
                    await wait_until(self._clock, self._waiter, next_ms)
                self._waiter = None
            await self._end()
            # What changed just before the stop has its actions too.
            self._composites.settle(self._clock.now_ms())
            await self._runner.close()
            await self._history.drain()
        finally:
            self._waiter = None
            self._runner.cancel()
            self._history.cancel()
            await self._end()

    def _tick(self, now_ms: int) -> int | None:
        """Begin what is due, and answer when there is more to do; None: there are no alarms."""
        if now_ms < self._last_ms:
            self._due = [(self._periods[period].next_ms(now_ms), period) for _, period in self._due]
            heapq.heapify(self._due)
        self._last_ms = now_ms
        if self._cold and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm_up(), name="streamkit alarms' metrics")
        busy = self._is_busy()
        while self._due and self._due[0][0] <= now_ms:
            period_ms = self._due[0][1]
            periods = self._periods[period_ms]
            if not periods.watchers:
                heapq.heappop(self._due)
                del self._periods[period_ms]
                continue
            heapq.heapreplace(self._due, (periods.next_ms(now_ms), period_ms))
            edge = periods.passed_edge(now_ms)
            if edge or not busy:
                self._todo.append(_Look(periods.watchers, edge, now_ms))
        if self._new:
            for watcher in self._new:
                self._place(watcher, now_ms)
            self._todo.append(_Look(self._new, True, now_ms, first=True))
            self._new.clear()
        # What is still to do ends with the composite alarms anyway.
        if not self._todo and self._composites.is_due(now_ms):
            self._todo.append(_Look((), False, now_ms))
        next_ms = self._due[0][0] if self._due else None
        if self._todo:
            self._go_on(now_ms)
            # Who does it tells when it has changed what composite alarms wait for.
            return next_ms
        later_ms = self._composites.next_ms()
        return later_ms if next_ms is None or (later_ms is not None and later_ms < next_ms) else next_ms

    def _place(self, watcher: AlarmWatcher, now_ms: int) -> None:
        period_ms = watcher.alarm.period_ms
        for metric in watcher.datapoints.metrics:
            self._metrics.want(metric, watcher.datapoints.span_ms)
        periods = self._periods.get(period_ms)
        if periods is None:
            periods = self._periods[period_ms] = _Periods(period_ms, now_ms)
            periods.watchers[watcher] = None
            heapq.heappush(self._due, (periods.next_ms(now_ms), period_ms))
        periods.watchers[watcher] = None

    # INVARIANT: test_metrics_of_before_are_in_memory_when_an_alarm_is_first_evaluated
    async def _warm_up(self) -> None:
        while self._cold and self._warm is not None:
            cold, self._cold = self._cold, []
            await self.warm(*cold)
            self._new += [watcher for watcher in cold if not watcher.stopped]
            self._wake()

    async def warm(self, *watchers: AlarmWatcher) -> None:
        """Have the metrics of these in memory, those of before too. Cancellation: safe."""
        cold = [watcher for watcher in watchers if not watcher.is_warm]
        if self._warm is None or not cold:
            return
        spans: dict[int, dict[Metric, None]] = {}
        for watcher in cold:
            spans.setdefault(watcher.datapoints.span_ms, {}).update(dict.fromkeys(watcher.datapoints.metrics))
        now_ms = self._clock.now_ms()
        try:
            for span_ms, metrics in spans.items():
                await self._warm.warm(metrics, now_ms - span_ms)
        except Exception:
            logger.exception("metrics that were stored cannot be read: alarms begin with what there is in memory")
        for watcher in cold:
            watcher.datapoints.read_anew()
            watcher.is_warm = True

    def _has_new(self) -> bool:
        """Whether there are alarms that nobody has evaluated yet."""
        if self._cold or self._new or (self._warming is not None and not self._warming.done()):
            return True
        return any(look.first for look in self._todo)

    # ---- the work of one look

    def _is_busy(self) -> bool:
        """Whether the last look is still going on, and not just waiting for a gauge."""
        worker = self._worker
        if worker is None:
            return False
        if worker.done():
            self._worker = self._reading = None
            return False
        return self._reading is None

    def _go_on(self, now_ms: int) -> None:
        if self._worker is not None:
            if self._reading is None or 0 <= now_ms - self._reading[2] < _PATIENCE_MS:
                return
            # INVARIANT: test_a_gauge_that_hangs_delays_alarms_by_one_look
            metric, look, _ = self._reading
            self._slow[metric] = self._worker
            self._reading = None
            self._todo.appendleft(look)
        self._worker = asyncio.create_task(self._work(), name="streamkit alarms")
        self._worker.add_done_callback(self._worked)

    def _worked(self, worker: asyncio.Task[None]) -> None:
        # INVARIANT: test_a_look_that_fails_is_logged_and_the_next_one_comes
        for metric in [metric for metric, slow in self._slow.items() if slow is worker]:
            del self._slow[metric]
        if not worker.cancelled() and (error := worker.exception()) is not None:
            logger.error("a look at alarms failed, and what is left of it waits for the next", exc_info=error)

    # HOT: every alarm at every look.
    async def _work(self) -> None:
        me = asyncio.current_task()
        read_gauge, clock = self._metrics.read_gauge, self._clock.now_ms
        done = 0
        sampled: set[Metric] = set()
        sampled_ms = -1
        while self._todo:
            look = self._todo[0]
            edge, now_ms = look.edge, look.now_ms
            if now_ms != sampled_ms:
                sampled, sampled_ms = set(), now_ms
            for watcher in look.left:
                datapoints = watcher.datapoints
                for metric in datapoints.metrics:
                    if metric in sampled or metric in self._slow:
                        continue
                    sampled.add(metric)
                    # Shorter periods come first, so one that is less than a minute has its seconds.
                    later = read_gauge(metric, now_ms, clock, datapoints.storage_resolution_ms)
                    if later is not None:
                        self._reading = (metric, _Look([watcher], edge, now_ms, first=look.first), clock())
                        await later
                        if self._worker is not me:
                            # Too late: another goes on with the rest.
                            self._slow.pop(metric, None)
                            return
                        self._reading = None
                if not watcher.stopped:
                    if edge:
                        watcher.evaluate(now_ms)
                    else:
                        watcher.look(now_ms)
                done += 1
                if done % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
            self._todo.popleft()
            # INVARIANT: test_alarms_of_other_periods_that_change_together_change_it_once
            if not self._todo or self._todo[0].now_ms != now_ms:
                self._composites.settle(clock())
        if self._composites.next_ms() is not None or self._composites.is_due(clock()):
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            wake(self._waiter)

    async def _end(self) -> None:
        tasks = (self._worker, self._warming, *self._slow.values())
        left = [task for task in tasks if task is not None and not task.done()]
        self._worker, self._warming, self._reading = None, None, None
        self._slow.clear()
        self._todo.clear()
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
