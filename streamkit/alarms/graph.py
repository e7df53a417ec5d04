"""Which alarms refer to which. Pure.

Follows ``PutCompositeAlarm`` and ``DeleteAlarms`` of the Amazon CloudWatch API Reference. Other than there, alarms that
refer to each other in a circle are refused when they are made, where CloudWatch makes them and evaluates them no more.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from graphlib import TopologicalSorter

from streamkit.errors import ValidationError

MAX_PARENTS = 150
"""So many rules may refer to one alarm."""
_MOST_NAMED = 5


class AlarmGraph:
    """The alarms there are, those whose rules refer to them (their parents), and those whose actions they suppress."""

    def __init__(self) -> None:
        self._children: dict[str, tuple[str, ...]] = {}
        self._parents: dict[str, dict[str, None]] = {}
        self._suppressors: dict[str, str] = {}
        """By the alarm whose actions are suppressed."""
        self._suppressed: dict[str, dict[str, None]] = {}
        """By the suppressor."""

    def __contains__(self, name: str) -> bool:
        return name in self._children

    def children(self, name: str) -> Sequence[str]:
        """Those its rule refers to."""
        return self._children[name]

    def parents(self, name: str) -> Sequence[str]:
        """Those whose rules refer to it."""
        return tuple(self._parents[name])

    def suppressed(self, name: str) -> Sequence[str]:
        """Those whose actions it suppresses."""
        return tuple(self._suppressed[name])

    def put(self, name: str, children: Sequence[str] = (), suppressor: str | None = None) -> None:
        """Add an alarm, or have it refer to others than before.

        Args:
            name: The alarm.
            children: Those its rule refers to, each once; a metric alarm has none.
            suppressor: The alarm that suppresses its actions.

        Raises:
            ValidationError: One it refers to does not exist, or has too many parents, or refers to it in turn. Nothing
                has changed then.
        """
        self.check(name, children, suppressor)
        self._unlink(name)
        self._children[name] = tuple(children)
        self._parents.setdefault(name, {})
        self._suppressed.setdefault(name, {})
        for child in children:
            self._parents[child][name] = None
        if suppressor is not None:
            self._suppressors[name] = suppressor
            self._suppressed[suppressor][name] = None

    def check(self, name: str, children: Sequence[str] = (), suppressor: str | None = None) -> None:
        """Raise what ``put`` would raise."""
        for child in children:
            # Nothing leads to one that nobody refers to.
            circle = self._path(child, name) if child == name or self._parents.get(name) else []
            if circle:
                raise ValidationError(
                    f"alarm {name!r}: its rule refers to itself: {' -> '.join((name, *circle))}: take one of these "
                    "references out of its rule"
                )
            self._check_exists(name, child, "its rule refers to")
            parents = self._parents[child]
            if name not in parents and len(parents) >= MAX_PARENTS:
                raise ValidationError(
                    f"alarm {name!r}: its rule refers to {child!r}, to which {MAX_PARENTS} other composite alarms "
                    "refer already: have it refer to one of those instead"
                )
        if suppressor is not None:
            self._check_exists(name, suppressor, "its actions_suppressor is")

    def remove(self, *names: str) -> None:
        """Forget alarms.

        Raises:
            ValidationError: Others than these refer to one of them; it says which. Nothing has changed then.
        """
        for name in names:
            self._check_unused(name, names)
        for name in names:
            self._unlink(name)
        for name in names:
            for links in (self._children, self._parents, self._suppressed):
                links.pop(name, None)

    def _check_unused(self, name: str, leaving: Sequence[str]) -> None:
        uses = {"the rule of": self._parents, "actions_suppressor of": self._suppressed}
        users = {where: set(links.get(name, ())).difference(leaving) for where, links in uses.items()}
        found = [f"{where} {_named(names)}" for where, names in users.items() if names]
        if found:
            raise ValidationError(
                f"alarm {name!r} cannot be stopped or deleted: it is in {' and in '.join(found)}: "
                "stop those first, or update them not to refer to it"
            )

    def ancestors(
        self, names: Iterable[str], also: Iterable[str] = (), without: Container[str] = frozenset()
    ) -> list[str]:
        """All that refer to these, directly or through others: each once, and after those it refers to itself.

        Args:
            names: To whom they refer; themselves only if they refer to each other.
            also: These are among them, with those that refer to them.
            without: These are not, unless they are in ``also``, and what only they lead to is not either.
        """
        affected: set[str] = set()
        new = [*also, *(parent for name in names for parent in self._parents.get(name, ()) if parent not in without)]
        while new:
            name = new.pop()
            if name not in affected:
                affected.add(name)
                new.extend(parent for parent in self._parents[name] if parent not in without)
        if len(affected) < 2:
            return list(affected)
        sorter = TopologicalSorter({name: affected.intersection(self._children[name]) for name in sorted(affected)})
        return list(sorter.static_order())

    def _path(self, start: str, end: str) -> list[str]:
        """From one alarm to another along references, with both; empty if there is no way."""
        came_from: dict[str, str | None] = {start: None}
        new = [start]
        while new:
            name = new.pop()
            if name == end:
                path: list[str] = []
                at: str | None = name
                while at is not None:
                    path.append(at)
                    at = came_from[at]
                return path[::-1]
            for child in self._children.get(name, ()):
                if child not in came_from:
                    came_from[child] = name
                    new.append(child)
        return []

    def _check_exists(self, name: str, other: str, what: str) -> None:
        if other not in self._children:
            raise ValidationError(f"alarm {name!r}: {what} {other!r}, which does not exist: start that one first")

    def _unlink(self, name: str) -> None:
        for child in self._children.get(name, ()):
            del self._parents[child][name]
        suppressor = self._suppressors.pop(name, None)
        if suppressor is not None:
            del self._suppressed[suppressor][name]


def _named(names: Iterable[str]) -> str:
    found = sorted(names)
    more = len(found) - _MOST_NAMED
    return ", ".join(repr(name) for name in found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
