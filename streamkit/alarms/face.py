"""``kit.alarms``: the alarms of a kit, to look at and to work on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.composites import Composites
from streamkit.alarms.happened import TONES, History
from streamkit.alarms.history import HistoryItemType
from streamkit.alarms.history_items import configuration_update, stored_deleted
from streamkit.alarms.ports import ActionRunner, AlarmHistory, StoredState, Warm
from streamkit.alarms.scheduler import AlarmScheduler
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.transition import Actions, StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.clock import Clock
from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.service import Service

logger = logging.getLogger("streamkit.alarms")


class Alarms:
    """The alarms that were started in a kit, by name. Mirrors DescribeAlarms and its neighbours.

    ``kit.start(Alarm(...))`` and ``kit.start(CompositeAlarm(...))`` add one. All of them are evaluated by one service,
    which runs from the first on.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        start: Callable[[Service], None],
        runner: ActionRunner,
        history: AlarmHistory,
        warm: Warm | None = None,
    ) -> None:
        """``start`` runs a service, unless it is running."""
        self._metrics = metrics
        self._clock = clock
        self._start = start
        self._runner = runner
        self._history = history
        self._watchers: dict[str, StartedAlarm] = {}
        self._composites = Composites(self._watchers)
        self._stored: dict[str, StoredState] | None = None
        """How alarms were that are not started yet; None: not looked up yet."""
        self._is_blind = False
        """Whether that could not be read: what is created and what was there before, nobody knows."""
        self._scheduler = AlarmScheduler(metrics, clock, runner, history, self._load, self._composites, warm)

    def __repr__(self) -> str:
        return f"Alarms({len(self._watchers)})"

    def _repr_html_(self) -> str:
        from streamkit.showing.html import badge, card, table
        from streamkit.showing.words import instant

        rows = [
            (each.name, badge(each.state, TONES[each.state]), f"{instant(each.changed_ms)} UTC", each.reason)
            for each in self.list()
        ]
        return card("Alarms", "", {"started here": len(rows)}, table(["alarm", "state", "since", "reason"], rows))

    def __len__(self) -> int:
        return len(self._watchers)

    def __contains__(self, name: object) -> bool:
        return name in self._watchers

    # ---- looking

    def list(
        self,
        prefix: str = "",
        state: AlarmState | None = None,
        *,
        parents_of: str | None = None,
        children_of: str | None = None,
    ) -> list[StartedAlarm]:
        """Those to which all of this applies, by name. Mirrors DescribeAlarms.

        Args:
            prefix: What their names begin with.
            state: What they are in.
            parents_of: An alarm to which their rules refer.
            children_of: A composite alarm, to which they are referred by its rule.

        Raises:
            NotFoundError: The alarm they are parents or children of is not running.
        """
        names = set(self._watchers)
        if parents_of is not None:
            names.intersection_update(self._composites.graph.parents(self.get(parents_of).name))
        if children_of is not None:
            names.intersection_update(self._composites.graph.children(self.get(children_of).name))
        return [
            self._watchers[name]
            for name in sorted(names)
            if name.startswith(prefix) and state in (None, self._watchers[name].state)
        ]

    def get(self, name: str) -> StartedAlarm:
        """The alarm of this name.

        Raises:
            NotFoundError: None was started, or it was stopped.
        """
        watcher = self._watchers.get(name)
        if watcher is None:
            raise NotFoundError("alarm", name, "start it with kit.start(Alarm(...)); kit.alarms.list() has all")
        return watcher

    def states(self) -> dict[str, str]:
        """The state of each, by name."""
        return {name: watcher.state for name, watcher in self._watchers.items()}

    async def history(self, name: str | None = None, *, item_type: HistoryItemType | None = None) -> History:
        """What happened to an alarm or to all, the newest first; also to those that were stopped or deleted.

        A notebook shows the states over time; pandas, polars and DuckDB read it as a table. Mirrors
        DescribeAlarmHistory.
        """
        items = await self._history.items(name, item_type=item_type)
        return History(items, name or "all alarms", self._clock.now_ms())

    # ---- working on them

    def start(self, alarm: Alarm | CompositeAlarm, actions: StateActions) -> StartedAlarm:
        """Have an alarm evaluated. What ``kit.start`` does. Never awaits.

        Raises:
            ValidationError: One of this name is running; or an alarm that it refers to is not.
        """
        if alarm.name in self._watchers:
            raise ValidationError(
                f"an alarm named {alarm.name!r} is running already: stop it first, or replace it with kit.alarms.update"
            )
        self._composites.link(alarm if isinstance(alarm, CompositeAlarm) else alarm.name)
        self._start(self._scheduler)
        watcher = self._watcher(alarm, actions)
        self._watchers[alarm.name] = watcher
        if self._stored is not None:
            self._begin(watcher, self._stored.pop(alarm.name, None))
        self._add(watcher)
        return watcher

    def update(
        self,
        alarm: Alarm | CompositeAlarm,
        *,
        on_alarm: Actions = None,
        on_ok: Actions = None,
        on_insufficient_data: Actions = None,
    ) -> StartedAlarm:
        """Replace the whole configuration of the running alarm of this name; its state stays until it is evaluated.

        Actions that are not given again are gone. Mirrors PutMetricAlarm and PutCompositeAlarm for one that exists.

        Raises:
            NotFoundError: No alarm of this name is running.
            ValidationError: There are too many actions, or one cannot be called; or it is a composite alarm now and was
                none, or the other way round; or it refers to an alarm that is not running, or in a circle to itself.
                Nothing has changed then.
        """
        watcher = self.get(alarm.name)
        actions = StateActions.of(on_alarm, on_ok, on_insufficient_data)
        changed = watcher.alarm != alarm or watcher.actions_enabled != alarm.actions_enabled
        if isinstance(watcher, AlarmWatcher) and isinstance(alarm, Alarm):
            self._scheduler.remove(watcher, watcher.alarm.period_ms)
            watcher.replace(alarm, actions)
        elif isinstance(watcher, CompositeWatcher) and isinstance(alarm, CompositeAlarm):
            self._composites.link(alarm)
            watcher.replace(alarm, actions)
        else:
            raise ValidationError(
                f"alarm {alarm.name!r}: a composite alarm and one on metrics cannot replace each other: delete it first"
            )
        if changed and self._stored is not None:
            self._history.record(configuration_update("Update", alarm, self._clock.now_ms()))
        self._add(watcher)
        return watcher

    async def stop(self, alarm: StartedAlarm | str) -> None:
        """Evaluate it no more, and return once its actions have finished. Started again, it begins in its last state.

        Raises:
            NotFoundError: None of this name is running.
            ValidationError: It was started in another kit; or a composite alarm refers to it.
        """
        if not isinstance(alarm, str) and alarm.stopped:
            return await self._runner.drain(alarm.name)
        watcher = self.get(alarm if isinstance(alarm, str) else alarm.name)
        if watcher is not alarm and not isinstance(alarm, str):
            raise ValidationError(f"{alarm.name!r} is an alarm of another kit: stop it there")
        self._composites.remove(watcher.name, now_ms=self._clock.now_ms())
        self._remove(watcher)
        if self._stored is not None:
            self._stored[watcher.name] = watcher.stored()
        return await self._runner.drain(watcher.name)

    async def left_over(self) -> Sequence[str]:
        """The names of alarms of before that were not started again, or were stopped; see ``delete``."""
        await self._load()
        return sorted(self._stored or ())

    async def delete(self, *names: str) -> None:
        """Stop alarms and forget their states, also those that are left over; their history stays.

        Mirrors DeleteAlarms.

        Raises:
            NotFoundError: One of them does not exist. Those that do, are deleted.
            ValidationError: A composite alarm that is not among them refers to one of them. None was deleted.
        """
        await self._load()
        stored = self._stored or {}
        unknown = [name for name in names if name not in self._watchers and name not in stored]
        found = [self._watchers[name] for name in dict.fromkeys(names) if name in self._watchers]
        self._composites.remove(*(watcher.name for watcher in found), now_ms=self._clock.now_ms())
        # ATOMIC: none is left that refers to one that is gone.
        for watcher in found:
            self._remove(watcher)
            self._runner.forget(watcher.name)
            self._history.record(configuration_update("Delete", watcher.alarm, self._clock.now_ms()))
        for name in names:
            if (left := stored.pop(name, None)) is not None:
                self._history.record(stored_deleted(name, left.configuration, self._clock.now_ms()))
        # (until here)
        for watcher in found:
            await self._runner.drain(watcher.name)
        if unknown:
            hint = "kit.alarms.list() has those that run, await kit.alarms.left_over() those of before"
            raise NotFoundError("alarm", ", ".join(unknown), hint)

    def set_state(self, name: str, state: AlarmState, reason: str, reason_data: str | None = None) -> None:
        """Say what the state of an alarm is, until its next evaluation. Mirrors SetAlarmState.

        Raises:
            NotFoundError: No alarm of this name is running.
            ValidationError: An argument is not valid; see ``AlarmWatcher.set_state``.
        """
        self.get(name).set_state(state, reason, reason_data)

    def enable_actions(self, *names: str) -> None:
        """Have the actions of these alarms called from the next change on. Mirrors EnableAlarmActions.

        Raises:
            NotFoundError: One of them is not running; then none was changed.
        """
        for watcher in self._all(names):
            watcher.enable_actions()

    def disable_actions(self, *names: str) -> None:
        """Have no actions of these alarms called. Mirrors DisableAlarmActions.

        Raises:
            NotFoundError: One of them is not running; then none was changed.
        """
        for watcher in self._all(names):
            watcher.disable_actions()

    def _all(self, names: Sequence[str]) -> Sequence[StartedAlarm]:
        return [self.get(name) for name in names]

    def _watcher(self, alarm: Alarm | CompositeAlarm, actions: StateActions) -> StartedAlarm:
        if isinstance(alarm, CompositeAlarm):
            return CompositeWatcher(alarm, self._metrics, self._clock, actions, self._runner, self._history)
        watcher = AlarmWatcher(alarm, self._metrics, self._clock, actions, self._runner, self._history)
        watcher.ready = self._ready
        return watcher

    # INVARIANT: test_evaluated_out_of_turn_it_knows_its_state_and_data_of_before
    async def _ready(self, watcher: AlarmWatcher) -> None:
        await self._load()
        await self._scheduler.warm(watcher)

    def _add(self, watcher: StartedAlarm) -> None:
        if isinstance(watcher, AlarmWatcher):
            self._scheduler.add(watcher)
        self._composites.add(watcher)

    def _remove(self, watcher: StartedAlarm) -> None:
        del self._watchers[watcher.name]
        if isinstance(watcher, AlarmWatcher):
            self._scheduler.remove(watcher, watcher.alarm.period_ms)
        watcher.stopped, watcher.on_change = True, None

    # ---- from before

    async def _load(self) -> None:
        if self._stored is not None:
            return
        try:
            stored = dict(await self._history.states())
        except Exception:
            logger.exception("the states of alarms from before cannot be read: all begin with INSUFFICIENT_DATA")
            stored = {}
            self._is_blind = True
        if self._stored is None:  # Nobody else was faster.
            # ATOMIC: who is started from here on finds what is stored by itself.
            self._stored = stored
            for watcher in self._watchers.values():
                self._begin(watcher, stored.pop(watcher.name, None))
            # (until here)

    def _begin(self, watcher: StartedAlarm, stored: StoredState | None) -> None:
        """Go on in the state of before, or write down that there is one more."""
        if self._is_blind:
            return
        if stored is not None:
            watcher.restore(stored)
        configuration = msgspec.json.encode(watcher.alarm).decode()
        if stored is None or stored.configuration != configuration:
            change = configuration_update(
                "Update" if stored and stored.configuration else "Create", watcher.alarm, self._clock.now_ms()
            )
            self._history.record(change)
            if watcher.is_switched:
                watcher.record_switch()
