"""The composite alarms of a kit: evaluates those whose children changed, and holds and lets go of actions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from streamkit.alarms.composite import Child, CompositeAlarm
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.graph import AlarmGraph
from streamkit.alarms.started import StartedAlarm

_AT_A_TIME = 64
"""New alarms that are evaluated in one go: a few milliseconds."""


class Composites:
    """Knows which alarms refer to which, and what is to be done when one changes.

    Changes are noted, and dealt with when all that change together have: an alarm for "a and not b" must not go to
    ALARM and back because a was evaluated before b.
    """

    def __init__(self, watchers: Mapping[str, StartedAlarm]) -> None:
        """``watchers`` are all alarms by name, also those on metrics, as they come and go."""
        self.graph = AlarmGraph()
        self.wake: Callable[[], None] = lambda: None
        """Called when something is to be settled that was not due: by whoever calls ``settle``."""
        self.must_wait: Callable[[], bool] = lambda: False
        """Whether alarms on metrics are still to be evaluated for the first time: composite alarms are after them."""
        self._watchers = watchers
        self._changed: set[str] = set()
        """Alarms whose changes others have not heard of."""
        self._new: dict[str, None] = {}
        """Composite alarms to be evaluated whoever changed, those they refer to before them."""
        self._until: dict[str, int] = {}
        """When the actions of composite alarms are let go, unless something changes before."""
        self._settled_ms = 0

    def add(self, watcher: StartedAlarm) -> None:
        """Evaluate this one soon, and from then on when its children change; it is in ``graph`` already."""
        watcher.on_change = self._note
        if isinstance(watcher, CompositeWatcher):
            self._new.pop(watcher.name, None)
            self._new[watcher.name] = None
            self.wake()

    def remove(self, *names: str, now_ms: int) -> None:
        """Forget alarms; those of which one has changed just now have their actions called or held for that first.

        Raises:
            ValidationError: Others refer to one of them; it says which. Nothing has changed then.
        """
        self.graph.remove(*names)
        for name in names:
            # INVARIANT: test_a_change_just_before_it_is_stopped_has_its_actions
            if name in self._changed:
                self._suppress(name, now_ms)
            self._changed.discard(name)
            self._new.pop(name, None)
            self._until.pop(name, None)

    def link(self, alarm: CompositeAlarm | str) -> None:
        """Note what an alarm refers to, before it is added or replaced; one on metrics, of which the name is enough,
        refers to nothing.

        Raises:
            ValidationError: It refers to one that does not exist, or to itself; or one it refers to has too many that
                do. Nothing has changed then.
        """
        if isinstance(alarm, str):
            self.graph.put(alarm)
        else:
            self.graph.put(alarm.name, alarm.parsed.alarms, alarm.suppressor)

    def is_due(self, now_ms: int) -> bool:
        """Whether to ``settle`` now."""
        if self._changed or (self._new and not self.must_wait()):
            return True
        # A clock that was set back changes when periods end.
        return bool(self._until) and (min(self._until.values()) <= now_ms or now_ms < self._settled_ms)

    def next_ms(self) -> int | None:
        """When to ``settle`` if nothing changes before; None: not at all."""
        return min(self._until.values(), default=None)

    def settle(self, now_ms: int) -> None:
        """Evaluate what is to be, each alarm once and after its children, and hold or let go of actions.

        Of many that are new some are left for another time, so that others on the loop have turns: see ``is_due``.
        """
        was_set_back, self._settled_ms = now_ms < self._settled_ms, now_ms
        if not (self._changed or self._new or self._until):
            return
        # INVARIANT: test_a_new_one_is_evaluated_after_new_alarms_it_refers_to
        new = set() if self.must_wait() else set(itertools.islice(self._new, _AT_A_TIME))
        for name in self.graph.ancestors(self._changed, also=new, without=self._new):
            if name in new or not self._changed.isdisjoint(self.graph.children(name)):
                self._evaluate(name, now_ms)
        # Only now, when the states are what they are: also a suppressor may have changed just now.
        ending = {name for name, until_ms in self._until.items() if was_set_back or until_ms <= now_ms}
        suppressed = {other for name in self._changed for other in self.graph.suppressed(name)}
        for name in sorted(ending | suppressed | self._changed | new):
            self._suppress(name, now_ms)
        self._changed.clear()
        for name in new:
            del self._new[name]

    def _evaluate(self, name: str, now_ms: int) -> None:
        watcher = self._watchers[name]
        if isinstance(watcher, CompositeWatcher):
            found = {child: self._watchers[child] for child in self.graph.children(name)}
            watcher.evaluate({child: Child(each.state, each.changed_ms) for child, each in found.items()}, now_ms)

    def _suppress(self, name: str, now_ms: int) -> None:
        watcher = self._watchers[name]
        if not isinstance(watcher, CompositeWatcher):
            return
        suppressor = watcher.alarm.suppressor
        watcher.suppress(suppressor is not None and self._watchers[suppressor].state == "ALARM", now_ms)
        until_ms = watcher.suppressed_until_ms
        if until_ms is None:
            self._until.pop(name, None)
        else:
            self._until[name] = until_ms

    def _note(self, name: str) -> None:
        is_composite = isinstance(self._watchers[name], CompositeWatcher)
        if is_composite or self.graph.parents(name) or self.graph.suppressed(name):
            self._changed.add(name)
            self.wake()
