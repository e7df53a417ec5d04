"""A composite alarm at work: evaluates, tells when its state changes, and holds its actions."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.alarms import composite as words
from streamkit.alarms.composite import Child, CompositeAlarm, decide
from streamkit.alarms.history_items import suppression_update
from streamkit.alarms.ports import ActionRunner, AlarmHistory, StoredState
from streamkit.alarms.rule import Decision
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.suppression import SuppressedBy, Suppression, step
from streamkit.alarms.transition import AlarmTransition, StateActions
from streamkit.clock import Clock
from streamkit.metrics.window import Metrics


class CompositeWatcher(StartedAlarm):
    """A composite alarm that was started, and what became of it."""

    alarm: CompositeAlarm

    def __init__(
        self,
        alarm: CompositeAlarm,
        metrics: Metrics,
        clock: Clock,
        actions: StateActions,
        runner: ActionRunner,
        history: AlarmHistory,
    ) -> None:
        super().__init__(alarm, metrics, clock, actions, runner, history)
        self.suppression = Suppression()
        """What is held of its actions."""
        self._rule = alarm.parsed
        self._periods = alarm.periods
        self._transition: AlarmTransition | None = None
        """A change that ``suppress`` is to be asked about."""
        self._decided: tuple[Decision, Mapping[str, Child]] | None = None

    @property
    def suppressed_by(self) -> SuppressedBy | None:
        """Why its actions are held; None: they are not (ActionsSuppressedBy)."""
        return self.suppression.by

    @property
    def suppressed_reason(self) -> str:
        """The same in words, empty if they are not held (ActionsSuppressedReason)."""
        return f"Actions suppressed by {self.suppression.by}" if self.suppression.by else ""

    @property
    def suppressed_until_ms(self) -> int | None:
        """When a WaitPeriod or an ExtensionPeriod ends."""
        return self.suppression.until_ms(self._periods)

    def evaluate(self, children: Mapping[str, Child], now_ms: int) -> None:
        """Decide anew. One that fails is logged and counted, and leaves the state as it is."""
        try:
            state, decision = decide(self._rule, children)
        except Exception as error:
            self._failed(error, now_ms)
            return
        self.evaluation_state, self._by_hand = None, False
        self._decided = (decision, children)
        if state != self.state:
            self._change(state, words.reason(decision, children), words.reason_data(decision, children), now_ms)

    def suppress(self, is_suppressor_in_alarm: bool, now_ms: int) -> None:
        """Hold actions or let them go: after a change of this alarm or its suppressor, and when a period ends."""
        transition, self._transition = self._transition, None
        before = self.suppression
        self.suppression, let_go = step(before, self._periods, now_ms, is_suppressor_in_alarm, transition)
        if (self.suppression.held, self.suppression.by) != (before.held, before.by):
            self._write_down(self.suppression.held, self.suppression.by, now_ms)
        if let_go is not None:
            if let_go is before.held:
                self._write_down(let_go, None, now_ms)
            super()._act(let_go)
        # After that, so that what is let go is never held and called by nobody, whenever this process ends.
        if self.suppression != before or transition is not None:
            self._records.remember_suppression(self.name, self.suppression)

    def _act(self, transition: AlarmTransition) -> None:
        # Not now: what holds actions is only known once all alarms have changed that change at this instant.
        if self.actions_enabled:
            self._transition = transition
            held = msgspec.structs.replace(self.suppression, held=transition)
            self._records.remember_suppression(self.name, held)

    def disable_actions(self) -> None:
        """Have no actions called, nor those that are held: see ``StartedAlarm``."""
        super().disable_actions()
        self._forget()

    def restore(self, stored: StoredState) -> None:
        """Begin in the state of before, with what was held then."""
        super().restore(stored)
        if stored.suppression is None or self._transition is not None:
            return
        if self.actions_enabled:
            self.suppression = stored.suppression
        else:
            self._records.remember_suppression(self.name, self.suppression)

    def stored(self) -> StoredState:
        """What ``restore`` takes."""
        suppression = msgspec.structs.replace(self.suppression, held=self._transition or self.suppression.held)
        return msgspec.structs.replace(super().stored(), suppression=suppression)

    def replace(self, alarm: CompositeAlarm, actions: StateActions) -> None:
        """Be another alarm of this name, in the same state: see ``kit.alarms.update``."""
        if alarm.suppressor != self.alarm.suppressor:
            self.suppression = self.suppression.with_other_suppressor()
        self._configure(alarm, actions)
        self._rule, self._periods, self._decided = alarm.parsed, alarm.periods, None
        if not alarm.actions_enabled:
            self._forget()

    def explain(self) -> str:
        """Why it is in its state: its rule, which alarms decided, how the others are, and what holds its actions."""
        standing = self._standing()
        if self._decided is None and not self._by_hand:
            standing += f" It was not evaluated yet: {self.reason}"
        elif self._decided is not None and not self._by_hand:
            standing += f" {words.explain(self.alarm, *self._decided)}"
        return f"{standing} {words.explain_suppression(self.alarm, self.suppression)}".rstrip()

    def _forget(self) -> None:
        self._write_down(self.suppression.held, None, self._clock.now_ms())
        self._transition = None
        self.suppression = msgspec.structs.replace(self.suppression, held=None)
        self._records.remember_suppression(self.name, self.suppression)

    def _write_down(self, held: AlarmTransition | None, by: SuppressedBy | None, now_ms: int) -> None:
        if held is not None and self.actions.of_state(held.state):
            self._records.record(suppression_update(held, by, now_ms))
