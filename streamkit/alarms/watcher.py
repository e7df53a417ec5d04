"""An alarm on metrics at work: evaluates, and tells when its state changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamkit.alarms import explain as words
from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.datapoints import Datapoints
from streamkit.alarms.evaluate import Reading, decide, evaluate
from streamkit.alarms.ports import ActionRunner, AlarmHistory, StoredState
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.transition import StateActions
from streamkit.clock import Clock
from streamkit.metrics.window import Metrics


class AlarmWatcher(StartedAlarm):
    """An alarm on metrics that was started, and what became of it."""

    alarm: Alarm

    def __init__(
        self,
        alarm: Alarm,
        metrics: Metrics,
        clock: Clock,
        actions: StateActions,
        runner: ActionRunner,
        history: AlarmHistory,
    ) -> None:
        super().__init__(alarm, metrics, clock, actions, runner, history)
        self.datapoints = Datapoints(alarm, metrics)
        self.is_warm = False
        """Whether its metrics of before are in memory."""
        self.ready: Callable[[AlarmWatcher], Awaitable[None]] | None = None
        """What to await before it is evaluated: how it was before has to be known."""
        self._reading: Reading | None = None
        self._before: AlarmState = self.state

    def _picture(self) -> str:
        from streamkit.metrics.picture import level

        alarm = self.alarm
        metric = alarm.metric
        if metric is None or alarm.statistic is None:
            return ""
        now_ms, unit = self._clock.now_ms(), "" if alarm.unit in (None, "None") else str(alarm.unit).lower()
        # What grows with the period can be compared with the threshold in the alarm's own periods alone.
        grows = alarm.statistic.upper().startswith(("SUM", "SAMPLECOUNT", "TC", "TS"))
        return level(
            self._metrics,
            now_ms,
            lambda: metric,
            alarm.statistic,
            unit,
            threshold=alarm.threshold,
            period_ms=alarm.period * 1000 if grows and alarm.period else None,
        )

    async def evaluate_now(self) -> AlarmState:
        """Read the gauges of its metrics if they have some, evaluate the alarm, and have its actions called.

        Cancellation: safe.

        Raises:
            NotFoundError: It was stopped, or its kit is closed.
        """
        self._check_running()
        if self.ready is not None:
            await self.ready(self)
        now_ms = self._clock.now_ms()
        for metric in self.datapoints.metrics:
            later = self._metrics.read_gauge(metric, now_ms, self._clock.now_ms, self.datapoints.storage_resolution_ms)
            if later is not None:
                await later
        self._check_running()
        self.evaluate(now_ms)
        return self.state

    # HOT: every period of every alarm.
    def evaluate(self, now_ms: int) -> None:
        """Decide anew. One that fails is logged and counted, and leaves the state as it is."""
        try:
            reading = self.datapoints.read(now_ms)
            self._evaluated(reading, now_ms)
        except Exception as error:
            self._failed(error, now_ms)

    def look(self, now_ms: int) -> None:
        """Decide if the period that fills counts already (see ``decided_early``), and else leave all as it is."""
        # A period that counts early breaches, and that can end no alarm: what leaves the range weighs as much at most.
        # INVARIANT: test_looks_find_what_evaluations_would
        if self.state == "ALARM" or not self.datapoints.may_be_early or not self.datapoints.has_early_news():
            return
        try:
            reading = self.datapoints.read(now_ms)
            if reading.newest_ms + self.alarm.period_ms > now_ms:
                self._evaluated(reading, now_ms)
        except Exception as error:
            self._failed(error, now_ms)

    def _evaluated(self, reading: Reading, now_ms: int) -> None:
        before, self._reading = self._reading, reading
        if self.evaluation_state is not None:
            self.evaluation_state = None
            self.updated_ms = now_ms
        # Deciding the same again finds the same, whatever the state was before: a constant, or that state.
        if before is not None and before.datapoints == reading.datapoints and not (self._by_hand or before.low):
            return
        self._by_hand = False
        self._before = self.state
        if reading.low or decide(self.alarm, reading.datapoints, self.state) == self.state:
            return
        found = evaluate(self.alarm, reading.datapoints, self.state, reading.newest_ms)
        reason_data = words.reason_data(self.alarm, self.datapoints.with_counts(reading), now_ms)
        self._change(found.state, found.reason, reason_data, now_ms)

    def restore(self, stored: StoredState) -> None:
        """See StartedAlarm."""
        self._reading = None
        super().restore(stored)

    def replace(self, alarm: Alarm, actions: StateActions) -> None:
        """Be another alarm of this name, in the same state: see ``kit.alarms.update``."""
        self._configure(alarm, actions)
        self.datapoints = Datapoints(alarm, self._metrics)
        self._reading, self.is_warm = None, False

    def explain(self) -> str:
        """Why it is in its state: the periods looked at, which datapoints breached, what missing ones counted as.

        It is about the last evaluation, which may have found what the one before found.
        """
        if self._by_hand:
            return self._standing()
        if self._reading is None:
            return f"{self._standing()} It was not evaluated yet: {self.reason}"
        return f"{self._standing()} {words.explain(self.alarm, self._reading, self._before)}"
