"""Calls the actions of alarms in the background, again if they fail, and writes down what came of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar

import anyio

from streamkit.alarms.actions import attempts_of
from streamkit.alarms.history_items import action_result
from streamkit.alarms.left import Pending
from streamkit.alarms.ports import AlarmHistory
from streamkit.alarms.transition import Action, AlarmTransition, label_of, names_of
from streamkit.clock import Clock, wait_until, wake
from streamkit.errors import ActionError, StreamKitError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics

logger = logging.getLogger("streamkit.alarms")

ACTIONS_SUCCEEDED = Metric.of("streamkit", "ActionsSucceeded")
"""How many actions of alarms were done."""
ACTIONS_FAILED = Metric.of("streamkit", "ActionsFailed")
"""How many actions of alarms were given up."""
ACTION_RETRIES = Metric.of("streamkit", "ActionRetries")
"""How often an action that had failed was tried again."""
MOST_PENDING = 100
"""Changes of one alarm that wait for the actions of an earlier one. Of more the oldest are given up."""
_AGAIN = "It is called once this alarm is started again"
CLOSING_SECONDS = 4.0
"""How long ``close`` lets actions go on: less than what a kit gives its services to finish."""


_acting: ContextVar[_Lane | None] = ContextVar("streamkit_acting", default=None)
"""Whose action this is called by."""


class _Change:
    """A change, and its actions that have not come to their end."""

    def __init__(self, transition: AlarmTransition, actions: Sequence[Action]) -> None:
        self.transition = transition
        self.actions = actions
        self.left = dict(enumerate(names_of(actions)))


class _Lane:
    """What waits of one alarm, and who does it."""

    def __init__(self, alarm: str) -> None:
        self.alarm = alarm
        self.waiting: deque[_Change] = deque()
        self.task: asyncio.Task[None] | None = None


class RetryingRunner:
    """An ``ActionRunner``: the actions of one change run side by side, those of the next one after them.

    Alarms do not wait for one another. An attempt that raises or takes too long is made again, after a wait, as often
    as the action's ``Attempts`` say: five times, 30 s each, unless it has others. A ``ValidationError``, or an
    ``ActionError`` that is not ``retryable``, would fail again and is final. How each action ended is an item of the
    history, a line of the log and a sample of the metric ``ActionsSucceeded`` or ``ActionsFailed``.

    A plain function runs on the event loop, like everything of the application there: let it be short, or hand its
    work to a thread (``asyncio.to_thread``). No timeout ends it.
    """

    def __init__(self, metrics: Metrics, clock: Clock, history: AlarmHistory) -> None:
        self._metrics = metrics
        self._clock = clock
        self._history = history
        self._lanes: dict[str, _Lane] = {}
        self._unfinished: dict[str, list[_Change]] = {}
        """By alarm, oldest first: also what nobody does any more, which is left to the next process."""
        self._end_ms: int | None = None
        """When everything is to be at an end; None: nobody closes this."""
        self._sleeping: set[asyncio.Future[bool]] = set()

    def dispatch(self, transition: AlarmTransition, actions: Sequence[Action]) -> None:
        """See ActionRunner."""
        lane = self._lanes.get(transition.alarm)
        if lane is None:
            lane = self._lanes[transition.alarm] = _Lane(transition.alarm)
        if len(lane.waiting) >= MOST_PENDING:
            # The newest is the one that people want to hear of.
            oldest = lane.waiting.popleft()
            self._give_up(oldest, f"more than {MOST_PENDING} later changes wait for actions")
            self._finish(oldest)
        change = _Change(transition, actions)
        lane.waiting.append(change)
        self._unfinished.setdefault(lane.alarm, []).append(change)
        self._remember(lane.alarm)
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(lane), name=f"actions of {transition.alarm}")
            lane.task.add_done_callback(lambda _: self._ended(lane))

    def forget(self, alarm: str) -> None:
        """See ActionRunner."""
        self._unfinished.pop(alarm, None)

    def _finish(self, change: _Change) -> None:
        """All of its actions have come to their end."""
        unfinished = self._unfinished.get(change.transition.alarm, [])
        if change in unfinished:
            unfinished.remove(change)
        if not unfinished:
            self._unfinished.pop(change.transition.alarm, None)

    def _remember(self, alarm: str) -> None:
        pending = [Pending(each.transition, tuple(each.left.values())) for each in self._unfinished.get(alarm, ())]
        self._history.remember_pending(alarm, pending)

    async def drain(self, alarm: str | None = None) -> None:
        """See ActionRunner. Cancellation: safe."""
        mine = _acting.get()
        while left := [
            lane.task for name, lane in self._lanes.items() if alarm in (None, name) and lane.task and lane is not mine
        ]:
            await asyncio.wait(left)

    def cancel(self) -> None:
        """See ActionRunner. What is not done is written down, for the next process to do."""
        for lane in self._lanes.values():
            if lane.task is not None:
                lane.task.cancel()

    async def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Let what was dispatched go on for so long at most, and cancel the rest.

        What would be tried again later than that is left to the next process. Cancellation: everything is cancelled.
        """
        self._end_ms = self._clock.now_ms() + round(seconds * 1000)
        for waiter in list(self._sleeping):
            wake(waiter)
        timer = self._clock.call_at(self._end_ms, self.cancel)
        try:
            await self.drain()
        finally:
            timer.cancel()
            self.cancel()
            self._end_ms = None

    # ---- one alarm

    async def _work(self, lane: _Lane) -> None:
        _acting.set(lane)
        try:
            while lane.waiting:
                await self._do_all(lane.waiting.popleft())
        finally:
            # Before anybody else runs: what is dispatched from now on needs a lane that somebody works on.
            # INVARIANT: test_what_is_dispatched_as_a_lane_ends_is_done
            self._lanes.pop(lane.alarm, None)

    def _ended(self, lane: _Lane) -> None:
        # One that is cancelled before its first turn has not even begun to work.
        if self._lanes.get(lane.alarm) is lane:
            del self._lanes[lane.alarm]
        for left in lane.waiting:
            self._give_up(left, f"it was not begun before the alarms were stopped. {_AGAIN}")

    async def _do_all(self, change: _Change) -> None:
        if len(change.actions) == 1:
            await self._do(change, 0)
            return
        async with anyio.create_task_group() as tasks:
            for at in range(len(change.actions)):
                tasks.start_soon(self._do, change, at)

    async def _do(self, change: _Change, at: int) -> None:
        transition, action = change.transition, change.actions[at]
        attempts = attempts_of(action)
        tried = 0
        try:
            while True:
                tried += 1
                error = await self._attempt(transition, action, attempts.timeout)
                if error is None:
                    self._succeeded(transition, action, tried)
                    break
                if tried == attempts.most or not _may_succeed(error):
                    self._failed(transition, action, _words(error), tried, error)
                    break
                asked = (error.retry_after if isinstance(error, StreamKitError) else None) or 0.0
                wait_ms = round(max(attempts.retry.delay(tried), asked) * 1000)
                logger.warning(
                    "action %s of alarm %r for %s failed and is tried again in %.1f s, attempt %d of %d: %s",
                    label_of(action), transition.alarm, transition.state, wait_ms / 1000, tried, attempts.most,
                    _words(error),
                )  # fmt: skip
                if not await self._sleep(wait_ms):
                    self._failed(transition, action, f"{_words(error)}. {_AGAIN}", tried, error)
                    return
                self._count(ACTION_RETRIES)
        except asyncio.CancelledError:
            self._failed(transition, action, f"it was not done before the alarms were stopped. {_AGAIN}", tried)
            raise
        # INVARIANT: test_what_was_not_done_is_done_by_the_next_process
        del change.left[at]
        if change in self._unfinished.get(transition.alarm, ()):
            if not change.left:
                self._finish(change)
            self._remember(transition.alarm)

    async def _attempt(self, transition: AlarmTransition, action: Action, seconds: float) -> BaseException | None:
        """What it failed with; None: it is done."""
        with anyio.CancelScope() as scope:
            timer = self._clock.call_at(self._clock.now_ms() + round(seconds * 1000), scope.cancel)
            try:
                answer = action(transition)
                if inspect.isawaitable(answer):
                    await answer
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if scope.cancel_called or (task is not None and task.cancelling()):
                    raise
                # Nobody cancelled us: the action awaited something that was cancelled, which is its own failure.
                return error
            except Exception as error:
                return error
            finally:
                timer.cancel()
            return None
        return TimeoutError(f"it took longer than {seconds:g} s")

    async def _sleep(self, wait_ms: int) -> bool:
        """Wait; False: not for so long, as everything ends before."""
        until_ms = self._clock.now_ms() + wait_ms
        while self._clock.now_ms() < until_ms:
            if self._end_ms is not None and until_ms > self._end_ms:
                return False
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._sleeping.add(waiter)
            try:
                await wait_until(self._clock, waiter, until_ms)
            finally:
                self._sleeping.discard(waiter)
        return True

    # ---- what came of it

    def _succeeded(self, transition: AlarmTransition, action: Action, attempts: int) -> None:
        label = label_of(action)
        logger.info("action %s of alarm %r for %s was done", label, transition.alarm, transition.state)
        self._count(ACTIONS_SUCCEEDED)
        now_ms = self._clock.now_ms()
        self._history.record(action_result(transition, label, attempts=attempts, error=None, now_ms=now_ms))

    def _give_up(self, change: _Change, reason: str) -> None:
        for action in change.actions:
            self._failed(change.transition, action, reason, 0)

    def _failed(
        self,
        transition: AlarmTransition,
        action: Action,
        reason: str,
        attempts: int,
        cause: BaseException | None = None,
    ) -> None:
        label = label_of(action)
        logger.error(
            "action %s of alarm %r for %s was not done, attempts: %d: %s",
            label, transition.alarm, transition.state, attempts, reason,
            # An error on purpose says all there is to say; any other one is a fault that somebody has to find.
            exc_info=None if isinstance(cause, StreamKitError | TimeoutError) else cause,
        )  # fmt: skip
        self._count(ACTIONS_FAILED)
        now_ms = self._clock.now_ms()
        self._history.record(action_result(transition, label, attempts=attempts, error=reason, now_ms=now_ms))

    def _count(self, metric: Metric) -> None:
        self._metrics.put(metric, 1.0, self._clock.now_ms())


def _may_succeed(error: BaseException) -> bool:
    return error.retryable if isinstance(error, ActionError) else not isinstance(error, ValidationError)


def _words(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, StreamKitError | TimeoutError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
