"""Event patterns: which events match. Pure and hot.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Event patterns").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streamkit.codecs import plain
from streamkit.errors import DecodeError, InvalidPatternError
from streamkit.functions.pattern_compile import compile_alternatives
from streamkit.functions.pattern_direct import compile_direct
from streamkit.functions.pattern_leaf import ANYWHERE, Elements, Leaf, Place, walk

MAX_PATTERN_CHARACTERS = 4096
"""As JSON without blanks."""


class LeafExplanation(msgspec.Struct, frozen=True):
    """What one leaf of a pattern said of an event."""

    path: str
    matched: bool
    """By itself; whether it does so in the same array element as the others is not told here."""
    found: list[Any]
    """The values at its path; empty: the event has no such field."""


class Explanation(msgspec.Struct, frozen=True):
    """Why an event matches a pattern or does not."""

    matched: bool
    path: str
    """Of the leaf that decided: the first that failed, or the last that had to hold. Empty: the event is no object."""
    reason: str
    """A sentence about it."""
    leaves: list[LeafExplanation]
    """All that were asked, in the pattern's order."""
    alternative: int | None = None
    """Which of the alternatives that ``$or`` multiplies out to, from 0: the one that matched, or came nearest. None:
    there is one only."""


class Pattern:
    """A compiled event pattern."""

    def __init__(self, pattern: Mapping[str, Any] | str) -> None:
        """Compile a pattern, given as a dict or as JSON text.

        Whole numbers beyond 64 bits keep their digits in a dict; in JSON text they become doubles, as in an event.

        Raises:
            InvalidPatternError: with the path to the fault.
        """
        if isinstance(pattern, str):
            try:
                pattern = plain(pattern.encode())
            except (DecodeError, UnicodeEncodeError) as error:
                raise InvalidPatternError("", str(error)) from None
        if not isinstance(pattern, Mapping):
            raise InvalidPatternError("", "a pattern is an object")
        # Each alternative is a conjunction of leaves; `$or` multiplies them.
        self.alternatives: list[list[Leaf]] = [list(leaves.values()) for leaves in compile_alternatives(pattern)]
        if _characters(pattern) > MAX_PATTERN_CHARACTERS:
            raise InvalidPatternError("", f"a pattern has at most {MAX_PATTERN_CHARACTERS:,} characters")
        # With several alternatives, what all of them ask for is asked once.
        first, *others = self.alternatives
        self._common = dict.fromkeys(first) if others else {}
        for leaves in others:
            held = set(leaves)
            self._common = {leaf: None for leaf in self._common if leaf in held}
        self._first = [leaf.check for leaf in self._common]
        self._checks = [[(leaf.check, leaf) for leaf in leaves] for leaves in self.alternatives]
        self._count = 0 if others else len(first)
        self._direct: Callable[[Any], int] | None = None
        """Of the only alternative; made when it is needed, since a mapping may have a thousand patterns."""

    def matches(self, event: Any) -> bool:
        """Whether a decoded JSON value matches; anything but an object never does. HOT."""
        if not isinstance(event, dict):
            return False
        if self._count:
            if self._direct is None:
                self._direct = compile_direct(self.alternatives[0])
            certain = self._direct(event)
            if certain == self._count:
                return True
            return certain >= 0 and self._holds(self._checks[0], event, certain)
        for check in self._first:
            if check(event) is False:
                return False
        return any(self._holds(checks, event, 0) for checks in self._checks)

    @staticmethod
    def _holds(checks: Sequence[tuple[Callable[[Any], bool | None], Leaf]], event: Any, certain: int) -> bool:
        """Whether an alternative holds of whose leaves the first ones do for certain."""
        walked: list[Leaf] = []
        for check, leaf in checks[certain:] if certain else checks:
            held = check(event)
            if held is False:
                return False
            if held is None:
                walked.append(leaf)
        return not walked or _hold_together(walked, event)

    def explain(self, event: Any) -> Explanation:
        """Which leaf decided, in a sentence, and what each leaf says. Of several alternatives the nearest counts."""
        if not isinstance(event, dict):
            return Explanation(False, "", "the event is not an object", [])
        nearest: tuple[int, int, list[LeafExplanation]] = (-1, 0, [])
        for index, leaves in enumerate(self.alternatives):
            said = [_said(leaf, event) for leaf in leaves]
            held = sum(one.matched for one in said)
            if held == len(leaves) and _hold_together(leaves, event):
                decided = next((leaf for leaf in reversed(leaves) if leaf not in self._common), leaves[-1])
                return Explanation(True, decided.text, _why(decided, event, len(leaves)), said, self._number(index))
            if held > nearest[0]:
                nearest = held, index, said
        held, index, said = nearest
        leaves = self.alternatives[index]
        if held < len(leaves):
            failed = next(leaf for leaf, one in zip(leaves, said, strict=True) if not one.matched)
            reason = _why_not(failed, event)
        else:
            failed = _apart(leaves, event)
            reason = _APART.format(failed.text)
        if len(self.alternatives) > 1:
            reason += f" (of {len(self.alternatives)} alternatives this one came nearest)"
        return Explanation(False, failed.text, reason, said, self._number(index))

    def _number(self, index: int) -> int | None:
        return index if len(self.alternatives) > 1 else None


def _said(leaf: Leaf, event: Any) -> LeafExplanation:
    return LeafExplanation(leaf.text, leaf.holds(event) is not None, [value for value, _ in walk(event, leaf.parts)])


_APART = "every field matches somewhere, but {} does not within the array element in which those before it do"


def _characters(pattern: Mapping[str, Any]) -> int:
    try:
        return len(msgspec.json.encode(pattern, enc_hook=dict).decode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPatternError("", f"a pattern is plain JSON: {error}") from None


def _why(leaf: Leaf, event: Any, count: int) -> str:
    others = f"; so do the other {count - 1} fields asked for" if count > 1 else ""
    for value, _ in walk(event, leaf.parts):
        for matcher, predicate in leaf.matchers:
            if predicate(value):
                return f"{leaf.text} is {value!r:.60}, which matches {matcher!r:.100}{others}"
    return f"the event has no field {leaf.text}, as is asked for{others}"


def _why_not(leaf: Leaf, event: Any) -> str:
    values = [value for value, _ in walk(event, leaf.parts)]
    if not values:
        return f"the event has no field {leaf.text} with a value; {leaf.asked()} is asked for"
    if len(values) == 1:
        return f"{leaf.text} is {values[0]!r:.100}, which does not match {leaf.asked()}"
    return f"{leaf.text} is {values!r:.100}, none of which matches {leaf.asked()}"


def _apart(leaves: Sequence[Leaf], event: Any) -> Leaf:
    """The first leaf that does not hold together with those before it."""
    return next(leaf for at, leaf in enumerate(leaves) if not _hold_together(leaves[: at + 1], event))


def _hold_together(leaves: Sequence[Leaf], event: Any) -> bool:
    """Whether leaves hold so that those that pass through one array do so through one element."""
    places: list[list[Elements]] = []
    # Neighbours in the tree of arrays come one after the other, which keeps what must be remembered small.
    for leaf in sorted(leaves, key=lambda leaf: leaf.parts) if len(leaves) > 1 else leaves:
        found = leaf.holds(event)
        if found is None:
            return False
        if found is not ANYWHERE:
            places.append(found)
    return len(places) < 2 or _consistent(places)


def _consistent(places: Sequence[Sequence[Elements]]) -> bool:
    """Whether one place can be chosen per leaf so that places in the same array are the same element.

    Goes leaf by leaf with all choices that are still open, as far as later leaves pass through the same arrays: so
    many as there are elements, and not as there are ways to combine them.
    """
    later: list[set[Place]] = [set()]
    for leaf in reversed(places[1:]):
        later.append(later[-1] | {array for elements in leaf for array, _ in elements})
    later.reverse()
    choices: set[frozenset[tuple[Place, int]]] = {frozenset()}
    for leaf, matter in zip(places, later, strict=True):
        following: set[frozenset[tuple[Place, int]]] = set()
        for chosen in choices:
            taken = dict(chosen)
            for elements in leaf:
                if all(taken.get(array, index) == index for array, index in elements):
                    both = {**taken, **dict(elements)}
                    following.add(frozenset(pair for pair in both.items() if pair[0] in matter))
        if not following:
            return False
        choices = following
    return True
