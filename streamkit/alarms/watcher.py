"""An alarm at work: samples, evaluates, and tells when its state changes."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from datetime import datetime

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.evaluate import Evaluation, decided_early, evaluate, has_low_sample_count
from streamkit.alarms.transition import Action, AlarmTransition
from streamkit.clock import Clock, to_datetime
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.service import Stop

logger = logging.getLogger("streamkit.alarms")

ACTIONS_FAILED = Metric.of("streamkit", "ActionsFailed")
"""How many actions of alarms raised."""
HISTORY_LENGTH = 1000
"""Transitions a watcher remembers."""
SAMPLE_EVERY_MS = 1000
"""How often a gauge is read at least: a tenth of the shortest period, so that its Maximum sees what comes and goes."""


class AlarmWatcher:
    """Watches one alarm: ``run()`` is its service, ``evaluate_now()`` one step of it.

    The state is INSUFFICIENT_DATA until the first evaluation, as in CloudWatch. Actions are called when the state
    changes to theirs and only then, after ``state`` and ``history`` show it. One that raises is logged and counted
    in the metric ``streamkit`` ``ActionsFailed``; it is not tried again and stops nothing. An asynchronous one is
    awaited before this alarm (and no other) is evaluated again, so give a slow one a timeout of its own.
    """

    def __init__(
        self,
        alarm: Alarm,
        metrics: Metrics,
        clock: Clock,
        on_alarm: Action | None = None,
        on_ok: Action | None = None,
        on_insufficient_data: Action | None = None,
    ) -> None:
        self.alarm = alarm
        self.state: AlarmState = "INSUFFICIENT_DATA"
        """What the last evaluation said."""
        self.changed_ms = clock.now_ms()
        """Since when it says so, in milliseconds since the epoch; at first, when the watcher was made."""
        self._statistic = alarm.compiled
        self._metrics = metrics
        self._clock = clock
        self._actions: dict[AlarmState, Action | None] = {
            "ALARM": on_alarm,
            "OK": on_ok,
            "INSUFFICIENT_DATA": on_insufficient_data,
        }
        self._history: deque[AlarmTransition] = deque(maxlen=HISTORY_LENGTH)
        self._waiting: list[tuple[AlarmState, asyncio.Future[AlarmTransition]]] = []

    @property
    def name(self) -> str:
        """The alarm's name."""
        return self.alarm.name

    @property
    def changed_at(self) -> datetime:
        """Since when it is in its state, in UTC."""
        return to_datetime(self.changed_ms)

    @property
    def history(self) -> list[AlarmTransition]:
        """The last 1,000 changes, oldest first."""
        return list(self._history)

    async def run(self, stop: Stop | None = None) -> None:
        """Evaluate at each edge of a period, and at least once a second in between, until a stop is requested.

        Stop: an action that is running is finished. Cancellation: at any time; an action that is running is cancelled
        with it. ``run`` may be called again.
        """
        stop = stop or Stop()
        period_ms = self.alarm.period * 1000
        while not stop.requested:
            await self.evaluate_now()
            # From now each time: after a jump of the clock, or a slow action, there is nothing to catch up with.
            now_ms = self._clock.now_ms()
            next_edge_ms = (now_ms // period_ms + 1) * period_ms
            with stop.interruptible():
                await self._clock.sleep_until(min(next_edge_ms, now_ms + SAMPLE_EVERY_MS))

    async def evaluate_now(self) -> AlarmState:
        """Read the metric's gauge if it has one, evaluate the alarm, and if its state changed await the action.

        Cancellation: a change stays a change, and its action is not called again.
        """
        now_ms = self._clock.now_ms()
        await self._metrics.sample(now_ms, self.alarm.metric)
        evaluation = self._evaluate(now_ms)
        if evaluation is None or evaluation.state == self.state:
            return self.state
        transition = AlarmTransition(
            alarm=self.name, previous=self.state, state=evaluation.state, reason=evaluation.reason, at_ms=now_ms
        )
        # ATOMIC: the state, the history and whoever waits agree before an action can look at them.
        self.state = transition.state
        self.changed_ms = now_ms
        self._history.append(transition)
        for state, waiter in self._waiting:
            if state == transition.state and not waiter.done():
                waiter.set_result(transition)
        # (until here)
        await self._act(transition)
        return transition.state

    async def wait_for(self, state: AlarmState) -> AlarmTransition | None:
        """Wait until the alarm is in ``state``, and return the change that brought it there.

        Returns at once if it is there already; None if it is in its first state and never changed. A state that lasts
        only a moment ends the wait too, so the alarm may be in another by the time the caller runs. The action
        may still be running.

        Cancellation: safe, so ``asyncio.timeout`` bounds the wait.
        """
        if self.state == state:
            return self._history[-1] if self._history else None
        waiter: asyncio.Future[AlarmTransition] = asyncio.get_running_loop().create_future()
        entry = (state, waiter)
        self._waiting.append(entry)
        try:
            return await waiter
        finally:
            self._waiting.remove(entry)

    def _evaluate(self, now_ms: int) -> Evaluation | None:
        """None: the newest datapoint has too few samples, and the alarm asks to be left as it is then."""
        alarm = self.alarm
        period_ms = alarm.period * 1000
        filling_ms = now_ms // period_ms * period_ms
        span = (alarm.metric, filling_ms - alarm.range_periods * period_ms, filling_ms + period_ms, period_ms)
        values: dict[int, float | None] = {}
        counts: dict[int, int] = {}
        if self._statistic.extended:
            for start, samples in self._metrics.samples(*span):
                values[start], counts[start] = samples.value(self._statistic), samples.count
        else:
            values = {start: self._statistic.value(found, None) for start, found in self._metrics.statistics(*span)}
        newest_ms = filling_ms if decided_early(alarm, values.get(filling_ms)) else filling_ms - period_ms
        if newest_ms in counts and has_low_sample_count(alarm, counts[newest_ms]):
            return None
        oldest_ms = newest_ms - (alarm.range_periods - 1) * period_ms
        datapoints = [values.get(start) for start in range(oldest_ms, newest_ms + 1, period_ms)]
        return evaluate(alarm, datapoints, self.state, newest_ms)

    async def _act(self, transition: AlarmTransition) -> None:
        action = self._actions[transition.state]
        if action is None:
            return
        try:
            answer = action(transition)
            if inspect.isawaitable(answer):
                await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: the action awaited something that was cancelled, which is its own failure.
            self._count_failure(transition)
        except Exception:
            self._count_failure(transition)

    def _count_failure(self, transition: AlarmTransition) -> None:
        logger.exception("the action of alarm %r for %s failed", transition.alarm, transition.state)
        self._metrics.put(ACTIONS_FAILED, 1.0, self._clock.now_ms())
