"""Why an event matches or does not: the leaf that decided, a sentence about it, and what each leaf said."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit import Pattern
from streamkit.functions.pattern import LeafExplanation


@pytest.mark.parametrize(
    ("pattern", "event", "path", "alternative", "says"),
    [
        ({"a": [1], "b": ["x"]}, {"a": 1, "b": "x"}, "b", None, "b is 'x', which matches 'x'; so do the other 1"),
        ({"a": [1], "b": ["x"]}, {"a": 1, "b": "y"}, "b", None, """b is 'y', which does not match ["x"]"""),
        ({"a": [1], "b": ["x"]}, {"a": 2, "b": "x"}, "a", None, "a is 2, which does not match [1]"),
        ({"a": [1], "b": ["x"]}, {"a": 2, "b": "y"}, "a", None, "a is 2, which does not match [1]"),
        ({"a": [1], "b": ["x"]}, {"b": "x"}, "a", None, "the event has no field a with a value; [1] is asked for"),
        ({"a": [{"exists": False}]}, {}, "a", None, "the event has no field a, as is asked for"),
        ({"a": {"b": [1]}}, {"a": 1}, "a.b", None, "the event has no field a.b"),
        ({"a": [1]}, {"a": [2, 3]}, "a", None, "a is [2, 3], none of which matches [1]"),
        ({"a": [1]}, "text", "", None, "not an object"),
        ({"$or": [{"a": [1]}, {"b": [2]}], "c": [3]}, {"b": 2, "c": 3}, "b", 1, "b is 2, which matches 2"),
        ({"c": [3], "$or": [{"a": [1]}, {"b": [2], "d": [1]}]}, {"b": 2, "c": 3}, "d", 1, "of 2 alternatives"),
        # the one that most leaves hold of, not the one whose first leaves hold
        (
            {"$or": [{"a": [1], "b": [1], "c": [1]}, {"d": [1], "e": [1], "f": [1]}]},
            {"a": 1, "e": 1, "f": 1},
            "d",
            1,
            "the event has no field d",
        ),
        ({"e": {"f": [1], "l": [2]}}, {"e": [{"f": 1}, {"l": 2}]}, "e.l", None, "within the array element"),
    ],
)
def test_an_explanation(pattern: Any, event: Any, path: str, alternative: int | None, says: str) -> None:
    compiled = Pattern(pattern)
    explained = compiled.explain(event)
    assert explained.matched is compiled.matches(event)
    assert (explained.path, explained.alternative) == (path, alternative)
    assert says in explained.reason


def test_an_explanation_has_what_each_leaf_of_its_alternative_said() -> None:
    pattern = Pattern({"$or": [{"a": ["x"], "b": ["y"]}, {"a": ["q"], "c": ["r"]}], "d": [1]})
    said = pattern.explain({"a": "q", "c": "wrong", "d": [2, 1]})
    assert said.leaves == [
        LeafExplanation("a", True, ["q"]),
        LeafExplanation("c", False, ["wrong"]),
        LeafExplanation("d", True, [2, 1]),
    ]
    said = pattern.explain({"a": "x", "b": "y", "d": 1})
    assert said.leaves == [
        LeafExplanation("a", True, ["x"]),
        LeafExplanation("b", True, ["y"]),
        LeafExplanation("d", True, [1]),
    ]
    assert pattern.explain({}).leaves == [LeafExplanation(path, False, []) for path in "abd"]
    assert pattern.explain("text").leaves == []


def test_leaves_that_hold_in_different_elements_hold_each_by_itself() -> None:
    said = Pattern({"e": {"f": ["Anna"], "l": ["Jones"]}}).explain({"e": [{"f": "Anna"}, {"l": "Jones"}]})
    assert (said.matched, said.path) == (False, "e.l")
    assert all(leaf.matched for leaf in said.leaves)
