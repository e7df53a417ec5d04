"""What all alarms that were started have in common: a state, why, since when, what was before, and who waits for it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.history_items import actions_switched, state_update, type_of
from streamkit.alarms.left import Pending
from streamkit.alarms.ports import ActionRunner, AlarmHistory, StoredState
from streamkit.alarms.transition import AlarmTransition, StateActions, names_of
from streamkit.clock import Clock, to_datetime
from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics

logger = logging.getLogger("streamkit.alarms")

EVALUATIONS_FAILED = Metric.of("streamkit", "AlarmEvaluationsFailed")
"""How many evaluations of alarms raised."""
HISTORY_LENGTH = 1000
"""Transitions a watcher remembers."""
INITIAL_REASON = "Unchecked: Initial alarm creation"
MAX_REASON_LENGTH = 1023
MAX_REASON_DATA_LENGTH = 4000


class StartedAlarm(ABC):
    """An alarm that was started, and what became of it. ``kit.start`` and ``kit.alarms`` hand it out.

    The state is INSUFFICIENT_DATA until the first evaluation, as in CloudWatch. Actions are called when the state
    changes to theirs and only then, after ``state`` and ``history`` show it; in the background, so that a slow one, or
    one that fails, delays no evaluation.
    """

    alarm: Alarm | CompositeAlarm

    def __init__(
        self,
        alarm: Alarm | CompositeAlarm,
        metrics: Metrics,
        clock: Clock,
        actions: StateActions,
        runner: ActionRunner,
        history: AlarmHistory,
    ) -> None:
        now_ms = clock.now_ms()
        self.alarm = alarm
        self.actions = actions
        self.actions_enabled = alarm.actions_enabled
        """Whether a change calls actions: see ``enable_actions``."""
        self.state: AlarmState = "INSUFFICIENT_DATA"
        """What the last evaluation said, or who set it by hand since."""
        self.reason = INITIAL_REASON
        """Why, in CloudWatch's words, as it was when the state last changed."""
        self.reason_data: str | None = None
        """The same for programs: StateReasonData, as JSON."""
        self.changed_ms = now_ms
        """Since when it says so (StateTransitionedTimestamp); at first, when the watcher was made."""
        self.updated_ms = now_ms
        """When state, reason or ``evaluation_state`` were last set, also to what they were (StateUpdatedTimestamp)."""
        self.configured_ms = now_ms
        """When it was created or updated (AlarmConfigurationUpdatedTimestamp)."""
        self.evaluation_state: Literal["EVALUATION_ERROR"] | None = None
        """Whether the last evaluation failed, so that the state stayed as it was."""
        self.stopped = False
        """Whether nobody evaluates it any more."""
        self.on_change: Callable[[str], None] | None = None
        """Who wants to hear the alarm's name when its state has changed."""
        self._metrics = metrics
        self._clock = clock
        self._runner = runner
        self._records = history
        self._by_hand = False
        self._is_switched = False
        """Whether somebody enabled or disabled actions by hand in this process."""
        self._history: list[AlarmTransition] = []
        self._waiting: list[tuple[AlarmState, asyncio.Future[AlarmTransition | None]]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.state})"

    def _repr_html_(self) -> str:
        from streamkit.alarms.happened import TONES, bands
        from streamkit.showing.html import badge, card, quiet
        from streamkit.showing.svg import states
        from streamkit.showing.words import instant

        changes = self._history
        ends = [*(change.at_ms for change in changes[1:]), self._clock.now_ms()]
        known = [(each.state, each.at_ms, end, each.reason) for each, end in zip(changes, ends, strict=True)]
        if changes and changes[0].previous_at_ms:
            first = changes[0]
            known.insert(0, (first.previous, first.previous_at_ms, first.at_ms, first.previous_reason))
        facts = {
            "": badge(self.state, TONES[self.state]),
            "since": f"{instant(self.changed_ms)} UTC",
            "actions": None if self.actions_enabled else "disabled",
            "evaluation": self.evaluation_state,
        }
        parts = (quiet(self.explain()), self._picture(), states([("", bands(known))]))
        return card("Composite alarm" if isinstance(self.alarm, CompositeAlarm) else "Alarm", self.name, facts, *parts)

    def _picture(self) -> str:
        """A plot of what it watches, if that is one metric."""
        return ""

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
        """The last 1,000 changes since it was started, oldest first; ``kit.alarms.history`` has those of before."""
        return list(self._history)

    @abstractmethod
    def explain(self) -> str:
        """Why it is in its state, in sentences. It is about the last evaluation."""

    # ---- by hand

    def set_state(self, state: AlarmState, reason: str, reason_data: str | None = None) -> None:
        """Say what the state is, until the next evaluation says otherwise; a change calls its actions. Never awaits.

        Mirrors SetAlarmState (Amazon CloudWatch API Reference).

        Args:
            state: Which.
            reason: Why, in up to 1,023 characters.
            reason_data: The same for programs: JSON of up to 4,000 characters.

        Raises:
            ValidationError: An argument is not valid; the message says what is.
            NotFoundError: It was stopped, or its kit is closed.
        """
        self._check_running()
        if state not in get_args(AlarmState):
            raise ValidationError(f"state is {state!r}: choose one of {', '.join(get_args(AlarmState))}")
        if not isinstance(reason, str) or len(reason) > MAX_REASON_LENGTH:
            raise ValidationError(f"reason: use up to {MAX_REASON_LENGTH:,} characters")
        if reason_data is not None:
            _check_reason_data(reason_data)
        now_ms = self._clock.now_ms()
        self._by_hand = True
        if state != self.state:
            self._change(state, reason, reason_data, now_ms)
        else:
            self.reason, self.reason_data, self.updated_ms = reason, reason_data, now_ms

    def enable_actions(self) -> None:
        """Have actions called from the next change on; not for the state it is in.

        It stays so, also for the next process, until it is switched again or started with another configuration.

        Raises:
            NotFoundError: It was stopped, or its kit is closed.
        """
        self._switch_actions(True)

    def disable_actions(self) -> None:
        """Have no actions called, while the state goes on to change. What was begun is finished.

        It stays so, also for the next process, until it is switched again or started with another configuration.

        Raises:
            NotFoundError: It was stopped, or its kit is closed.
        """
        self._switch_actions(False)

    def _switch_actions(self, enabled: bool) -> None:
        self._check_running()
        if self.actions_enabled != enabled:
            self.actions_enabled = enabled
            self.record_switch()

    def record_switch(self) -> None:
        """Write down whether actions were enabled or disabled by hand."""
        self._is_switched = True
        self._records.record(actions_switched(self.alarm, self.actions_enabled, self._clock.now_ms()))

    def restore(self, stored: StoredState) -> None:
        """Begin in the state of before; nothing is called for that, but what was to be called then and was not.

        What somebody set by hand since it was started stays.
        """
        # INVARIANT: test_a_state_that_is_set_before_the_stored_one_is_known_stays
        if not self._history:
            self.state = stored.state
            self.reason, self.reason_data = stored.reason, stored.reason_data
            self.changed_ms = self.updated_ms = stored.changed_ms
        is_same = stored.configuration == self._configuration()
        if stored.actions_enabled is not None and is_same and not self._is_switched:
            self.actions_enabled = stored.actions_enabled
        self._tell(None)
        # INVARIANT: test_what_was_not_done_is_done_by_the_next_process
        resumed = [self._resume(left) for left in stored.pending]
        if resumed and not any(resumed):
            self._records.remember_pending(self.name, ())

    def stored(self) -> StoredState:
        """What ``restore`` takes."""
        return StoredState(
            state=self.state,
            reason=self.reason,
            changed_ms=self.changed_ms,
            configuration=self._configuration(),
            reason_data=self.reason_data,
            actions_enabled=None if self.actions_enabled == self.alarm.actions_enabled else self.actions_enabled,
        )

    async def wait_for(self, state: AlarmState) -> AlarmTransition | None:
        """Wait until the alarm is in ``state``, and return the change that brought it there.

        Returns at once if it is there already; None if it never changed since it was started. A state that lasts
        only a moment ends the wait too, so the alarm may be in another by the time the caller runs. The actions
        may still be running.

        Cancellation: safe, so ``asyncio.timeout`` bounds the wait.
        """
        if self.state == state:
            return self._history[-1] if self._history else None
        waiter: asyncio.Future[AlarmTransition | None] = asyncio.get_running_loop().create_future()
        entry = (state, waiter)
        self._waiting.append(entry)
        try:
            return await waiter
        finally:
            self._waiting.remove(entry)

    # ---- for those that evaluate

    def _tell(self, transition: AlarmTransition | None) -> None:
        for awaited, waiter in self._waiting:
            if awaited == self.state and not waiter.done():
                waiter.set_result(transition)

    def _change(self, state: AlarmState, reason: str, reason_data: str | None, now_ms: int) -> None:
        transition = AlarmTransition(
            alarm=self.name,
            previous=self.state,
            state=state,
            reason=reason,
            at_ms=now_ms,
            reason_data=reason_data,
            previous_reason=self.reason,
            previous_reason_data=self.reason_data,
            previous_at_ms=self.changed_ms,
            configuration=self.alarm,
            actions=self.actions,
        )
        # ATOMIC: the state, the history and whoever waits agree before an action can look at them.
        self.state, self.reason, self.reason_data = state, reason, reason_data
        self.changed_ms = self.updated_ms = now_ms
        self._history.append(transition)
        if len(self._history) > HISTORY_LENGTH:
            del self._history[0]
        self._tell(transition)
        # (until here)
        self._records.record(state_update(transition, type_of(self.alarm)))
        self._act(transition)
        if self.on_change is not None:
            self.on_change(self.name)

    def _act(self, transition: AlarmTransition) -> None:
        """Have the actions for a change called."""
        actions = self.actions.of_state(transition.state)
        if actions and self.actions_enabled:
            if transition.configuration is None:
                # What was held by a process before this one is known by its history alone.
                transition = replace(transition, configuration=self.alarm, actions=self.actions)
            self._runner.dispatch(transition, actions)

    def _resume(self, left: Pending) -> bool:
        """Have what the process before this one could not call called now; whether there is something to call."""
        transition = left.transition
        if not self.actions_enabled:
            return False
        all_actions = self.actions.of_state(transition.state)
        named = dict(zip(names_of(all_actions), all_actions, strict=True))
        actions = [action for name, action in named.items() if name in left.labels]
        if gone := set(left.labels).difference(named):
            logger.warning(
                "alarm %r went to %s at %s, and what was still to be called for it is no action of it any more: %s",
                self.name, transition.state, transition.at, ", ".join(sorted(gone)),
            )  # fmt: skip
        if actions:
            self._runner.dispatch(replace(transition, configuration=self.alarm, actions=self.actions), actions)
        return bool(actions)

    def _check_running(self) -> None:
        if self.stopped:
            raise NotFoundError("alarm", self.name, "it was stopped, or its kit closed: start it again with kit.start")

    def _failed(self, error: Exception, now_ms: int) -> None:
        if self.evaluation_state is None:
            self.evaluation_state = "EVALUATION_ERROR"
            self.updated_ms = now_ms
            logger.error(
                "alarm %r cannot be evaluated and stays %s until it can: %s",
                self.name,
                self.state,
                error,
                exc_info=error,
            )
        self._metrics.put(EVALUATIONS_FAILED, 1.0, now_ms)

    def _configuration(self) -> str:
        return msgspec.json.encode(self.alarm).decode()

    @property
    def is_switched(self) -> bool:
        """Whether its actions are not as its configuration says, by hand in this process."""
        return self._is_switched and self.actions_enabled != self.alarm.actions_enabled

    def _configure(self, alarm: Alarm | CompositeAlarm, actions: StateActions) -> None:
        """Be another alarm of this name, in the same state: see ``kit.alarms.update``."""
        self.alarm, self.actions = alarm, actions
        self.actions_enabled, self._is_switched = alarm.actions_enabled, False
        self.configured_ms = self._clock.now_ms()

    def _standing(self) -> str:
        """The sentences that ``explain`` begins with."""
        standing = f"Alarm {self.name!r} is in {self.state} since {self.changed_at:%Y-%m-%d %H:%M:%S} UTC."
        if self.evaluation_state is not None:
            standing += " It cannot be evaluated, which the log tells more of, and stays as it is until it can."
        if self._by_hand:
            standing += f" It was set by hand, until the next evaluation: {self.reason}"
        return standing


def _check_reason_data(reason_data: str) -> None:
    if not isinstance(reason_data, str) or len(reason_data) > MAX_REASON_DATA_LENGTH:
        raise ValidationError(f"reason_data: give JSON in up to {MAX_REASON_DATA_LENGTH:,} characters")
    try:
        msgspec.json.decode(reason_data)
    except msgspec.DecodeError as error:
        raise ValidationError(f"reason_data is no JSON: {error}") from None
