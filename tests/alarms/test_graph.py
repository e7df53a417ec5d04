"""Which alarms refer to which, and what is evaluated when one changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.graph import MAX_PARENTS, AlarmGraph
from streamkit.errors import ValidationError


def graph(**children: str) -> AlarmGraph:
    """``a="b c"``: a refers to b and c; those come first."""
    made = AlarmGraph()
    for name, refers_to in children.items():
        made.put(name, refers_to.split())
    return made


def test_knows_parents_and_children() -> None:
    made = graph(cpu="", disk="", host="cpu disk", site="host cpu")
    assert made.children("site") == ("host", "cpu")
    assert made.parents("cpu") == ("host", "site")
    assert made.parents("site") == ()
    assert "cpu" in made
    assert "memory" not in made


def test_an_unknown_child_is_refused() -> None:
    made = graph(cpu="")
    with pytest.raises(ValidationError, match=r"'site': its rule refers to 'disk', which does not exist: start that"):
        made.put("site", ["cpu", "disk"])
    assert "site" not in made
    assert made.parents("cpu") == ()


def test_an_unknown_suppressor_is_refused() -> None:
    made = graph(cpu="")
    with pytest.raises(ValidationError, match="actions_suppressor is 'maintenance', which does not exist"):
        made.put("site", ["cpu"], "maintenance")
    assert made.parents("cpu") == ()


def test_a_circle_is_refused_and_its_path_shown() -> None:
    made = graph(cpu="", a="cpu", b="a", c="b cpu")
    with pytest.raises(ValidationError, match="'a': its rule refers to itself: a -> c -> b -> a: take one"):
        made.put("a", ["cpu", "c"])
    assert made.children("a") == ("cpu",)
    with pytest.raises(ValidationError, match="refers to itself: new -> new"):
        made.put("new", ["new"])


def test_a_suppressor_may_refer_to_what_it_suppresses() -> None:
    made = graph(cpu="", a="cpu", b="a")
    made.put("a", ["cpu"], "b")
    assert made.suppressed("b") == ("a",)
    assert made.ancestors(["cpu"]) == ["a", "b"]


def test_what_others_refer_to_cannot_be_removed() -> None:
    made = graph(cpu="", maintenance="", host="cpu", site="cpu")
    made.put("site", ["cpu", "host"], "maintenance")
    with pytest.raises(
        ValidationError, match="'cpu' cannot be stopped or deleted: it is in the rule of 'host', 'site': stop"
    ):
        made.remove("cpu")
    with pytest.raises(
        ValidationError, match="'maintenance' cannot be stopped or deleted: it is in actions_suppressor of 'site'"
    ):
        made.remove("maintenance")
    made.remove("site")
    made.remove("maintenance")
    made.remove("host")
    made.remove("cpu")
    assert "cpu" not in made


def test_those_that_refer_to_each_other_can_be_removed_together() -> None:
    made = graph(cpu="", a="cpu", b="a")
    made.put("a", ["cpu"], "b")
    with pytest.raises(ValidationError, match="'a' cannot be"):
        made.remove("cpu", "a")
    assert "cpu" in made
    made.remove("a", "b")
    assert made.ancestors(["cpu"]) == []


def test_some_can_be_asked_for_beside_the_ancestors() -> None:
    made = graph(cpu="", disk="", a="cpu", b="disk", c="b")
    assert sorted(made.ancestors(["cpu"], also=["b"])) == ["a", "b", "c"]


def test_some_can_be_left_out_with_what_only_they_lead_to() -> None:
    made = graph(cpu="", a="cpu", b="cpu", c="a", d="b", e="a b")
    assert sorted(made.ancestors(["cpu"], without={"a"})) == ["b", "d", "e"]
    assert sorted(made.ancestors(["cpu"], also=["a"], without={"a"})) == ["a", "b", "c", "d", "e"]


def test_many_that_refer_are_counted() -> None:
    made = graph(cpu="")
    for number in range(7):
        made.put(f"site{number}", ["cpu"])
    with pytest.raises(ValidationError, match="'site0', 'site1', 'site2', 'site3', 'site4' and 2 more"):
        made.remove("cpu")


def test_what_no_rule_refers_to_any_more_can_be_removed() -> None:
    made = graph(cpu="", disk="", site="cpu")
    made.put("site", ["disk"])
    made.remove("cpu")
    made.put("site", ["disk"], "disk")
    made.put("site", [], None)
    made.remove("disk")


def test_at_most_150_rules_refer_to_one_alarm() -> None:
    made = graph(cpu="")
    for number in range(MAX_PARENTS):
        made.put(f"site{number}", ["cpu"])
    with pytest.raises(ValidationError, match="to which 150 other composite alarms refer already"):
        made.put("one more", ["cpu"])
    made.put("site0", ["cpu"])


def test_only_ancestors_are_evaluated_children_first() -> None:
    made = graph(cpu="", disk="", a="cpu", b="a", c="a cpu", d="c b", other="disk")
    assert made.ancestors(["disk"]) == ["other"]
    assert made.ancestors(["d"]) == []
    found = made.ancestors(["cpu"])
    assert sorted(found) == ["a", "b", "c", "d"]
    assert found[0] == "a"
    assert found[-1] == "d"


def test_a_chain_may_be_longer_than_python_recurses() -> None:
    made = graph(a0="")
    for number in range(1, 3_000):
        made.put(f"a{number}", [f"a{number - 1}"])
    assert made.ancestors(["a0"]) == [f"a{number}" for number in range(1, 3_000)]
    with pytest.raises(ValidationError, match="refers to itself: a1 -> a2999"):
        made.put("a1", ["a0", "a2999"])


def test_many_ways_to_one_ancestor_are_gone_once() -> None:
    made = graph(left0="", right0="")
    for number in range(1, 60):
        for side in ("left", "right"):
            made.put(f"{side}{number}", [f"left{number - 1}", f"right{number - 1}"])
    assert len(made.ancestors(["left0"])) == 2 * 59


@given(st.lists(st.sets(st.integers(0, 30), max_size=4), max_size=30), st.sets(st.integers(0, 30), min_size=1))
def test_ancestors_are_all_of_them_once_and_in_order(links: list[set[int]], changed: set[int]) -> None:
    made = AlarmGraph()
    made.put("0")
    for number, below in enumerate(links, 1):
        made.put(str(number), [str(each) for each in sorted(below) if each < number])
    reach = {str(each) for each in changed if each <= len(links)}
    expected: set[str] = set()
    for number in range(1, len(links) + 1):
        if any(child in reach | expected for child in made.children(str(number))):
            expected.add(str(number))
    found = made.ancestors(reach)
    assert len(found) == len(set(found))
    assert set(found) == expected
    for at, name in enumerate(found):
        assert not expected.intersection(made.children(name)) - set(found[:at])
