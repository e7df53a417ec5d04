from __future__ import annotations

import pytest

from streamkit.errors import ValidationError
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.item import Item

ITEM: Item = {"s": "paid", "n": 5, "f": 5.0, "b": b"xyz", "t": True, "none": None, "m": {"deep": 1, "k.d": 2}, "x.y": 3}


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
        (attribute("x.y") == 3, True),
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
    with pytest.raises(ValidationError, match="needs a name"):
        attribute("")
