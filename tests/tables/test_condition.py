from __future__ import annotations

from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne

import pytest

from streamkit.errors import ValidationError
from streamkit.tables.condition import Attribute, Condition, attribute
from streamkit.tables.item import Item
from streamkit.tables.path import Path

ITEM: Item = {
    "s": "paid",
    "n": 5,
    "f": 5.0,
    "b": b"xyz",
    "t": True,
    "none": None,
    "m": {"deep": 1, "k.d": 2},
    "x.y": 3,
    "l": [1],
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (attribute("s") == "paid", True),
        (attribute("s") == "open", False),
        (attribute("s") != "open", True),
        (attribute("gone") == "paid", False),
        (attribute("gone") != "paid", False),  # AWS: a comparison with a missing attribute is false, also this one
        (attribute("n") == 5.0, True),
        (attribute("n") == "5", False),
        (attribute("n") != "5", True),
        (attribute("t") == 1, False),
        (attribute("n") < 6, True),
        (attribute("n") < 5, False),
        (attribute("n") <= 5, True),
        (attribute("n") > 4.5, True),
        (attribute("n") >= 6, False),
        (attribute("n") < "6", False),
        (attribute("s") > "open", True),
        (attribute("b") >= b"xyz", True),
        (attribute("t") < True, False),
        (attribute("none").exists(), True),
        (attribute("none") == None, True),  # noqa: E711 - makes a condition
        (attribute("gone").exists(), False),
        (attribute("gone").absent(), True),
        (attribute("m.deep") == 1, True),
        (attribute("m.gone").absent(), True),
        (Attribute(Path(("x.y",))) == 3, True),
        (attribute("l") == [1], True),
        (attribute("l") == [1.0], True),
        (attribute("l") == [True], False),  # A bool is no number, at any depth.
        (attribute("l") != [True], True),
        (attribute("l") == [1, 1], False),
        (attribute("m") == {"deep": 1, "k.d": 2}, True),
        (attribute("m") == {"deep": True, "k.d": 2}, False),
        (attribute("m") == {"deep": 1}, False),
        (attribute("m") == {"deep": 1, "k.d": (2,)}, False),
        (attribute("l") < [2], False),
        (attribute("none") <= None, False),
        (attribute("s.deep").exists(), False),
        (attribute("s").begins_with("pa"), True),
        (attribute("b").begins_with(b"xy"), True),
        (attribute("b").begins_with("xy"), False),
        (attribute("n").begins_with("5"), False),
        ((attribute("n") == 5) & (attribute("s") == "paid"), True),
        ((attribute("n") == 5) & (attribute("s") == "open"), False),
        ((attribute("n") == 4) | (attribute("s") == "paid"), True),
        (~(attribute("n") == 5), False),
    ],
    ids=repr,
)
def test_condition(condition: Condition, expected: bool) -> None:
    assert condition.holds(ITEM) is expected


def test_an_absent_item_is_an_empty_one() -> None:
    assert attribute("id").absent().holds(None)
    assert not (attribute("id") == 1).holds(None)


def test_and_or_not_say_what_to_use_instead() -> None:
    with pytest.raises(ValidationError, match="a condition has no truth value of its own"):
        bool(attribute("a") == 1)
    for path in ("", 5, None):
        with pytest.raises(ValidationError, match="needs a name, a str, not"):
            attribute(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [{1, "a"}, set(), (1,), 1j, attribute("other").exists],
    ids=["a mixed set", "no set", "a tuple", "complex", "a method"],
)
@pytest.mark.parametrize("operator", [eq, ne, lt, le, gt, ge])
def test_an_attribute_is_compared_with_what_an_item_can_hold(
    operator: Callable[[object, object], object], value: object
) -> None:
    with pytest.raises(ValidationError, match="an attribute is compared with str, int, float"):
        operator(attribute("a"), value)


def test_what_is_no_condition_cannot_be_combined() -> None:
    condition = attribute("a") == 1
    for wrong in (True, None, attribute("b").exists):
        with pytest.raises(ValidationError, match=r"& and \| combine conditions, not"):
            _ = condition & wrong  # type: ignore[operator]
        with pytest.raises(ValidationError, match="put each comparison in parentheses"):
            _ = condition | wrong  # type: ignore[operator]
    with pytest.raises(ValidationError, match="begins_with takes str or bytes, not 5"):
        attribute("a").begins_with(5)  # type: ignore[arg-type]


def test_an_attribute_is_compared_with_another() -> None:
    assert (attribute("n") == attribute("f")).holds(ITEM)
    assert not (attribute("n") < attribute("m.deep")).holds(ITEM)
    assert not (attribute("n") == attribute("gone")).holds(ITEM)
