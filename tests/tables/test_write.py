from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ConditionFailedError, TransactionCanceledError, ValidationError
from streamkit.limits import Limits
from streamkit.tables.condition import attribute
from streamkit.tables.expression import Expression
from streamkit.tables.item import Item, Key, TableSchema, decode_item, encode_item, encode_items
from streamkit.tables.transaction import decide, plain_puts
from streamkit.tables.write import Check, Delete, Put, Update, Write, updated

SCHEMA = TableSchema("items", "id")


def decided(*writes: Write, items: dict[Key, Item] | None = None, limits: Limits | None = None) -> dict[Key, Any]:
    outcomes = decide(
        writes, lambda name: SCHEMA, lambda table, key: (items or {}).get(key), limits or Limits.relaxed()
    )
    return {outcome.key: None if outcome.item is None else decode_item(outcome.item) for outcome in outcomes}


def test_updates_read_the_item_as_it_was() -> None:
    before: Item = {"id": 1, "a": 1, "b": 2}
    after = updated(SCHEMA, before, Update(key={"id": 1}, set={"b": 9}, add={"a": 1, "new": 5}, remove=("gone",)))
    assert after == {"id": 1, "a": 2, "b": 9, "new": 5}
    assert before == {"id": 1, "a": 1, "b": 2}
    assert updated(SCHEMA, None, Update(key={"id": 1, "x": 1}, add={"n": 1})) == {"id": 1, "n": 1}


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (Update(key={"id": 1}, set={"a": 1}, add={"a": 1}), "names an attribute twice"),
        (Update(key={"id": 1}, set={"id": 2}), "'id' is a key attribute"),
        (Update(key={"id": 1}, remove=("id",)), "'id' is a key attribute"),
        (Update(key={"id": 1}, add={"text": 1}), "add needs a number in 'text', found 'x'"),
        (Update(key={"id": 1}, add={"n": "1"}), "add needs a number or a set for 'n'"),  # type: ignore[dict-item]
        (Update(key={"id": 1}, add={"n": True}), "add needs a number or a set for 'n'"),
        (Update(key={"id": 1}, add={"yes": 1}), "add needs a number in 'yes', found True"),
        (Update(key={"id": 1}, add={"f": 10**400}), "the sum is out of range"),
        (Update(key={"id": 1}, set=[("a", 1)]), "of an update are dicts"),  # type: ignore[arg-type]
        (Update(key={"id": 1}, add="n"), "of an update are dicts"),  # type: ignore[arg-type]
        (Update(key={"id": 1}, remove="text"), "remove= of an update is several"),  # type: ignore[arg-type]
        (Update(key={"id": 1}, remove=(3,)), "names the attribute 3: use str names"),  # type: ignore[arg-type]
        (Update(key={"id": 1}, set={1: 1}, remove=("a",)), "the attribute 1: use str"),  # type: ignore[dict-item]
    ],
)
def test_updates_that_make_no_sense(update: Update, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        updated(SCHEMA, {"id": 1, "text": "x", "f": 1.5, "yes": True}, update)


def test_all_conditions_are_of_the_items_before() -> None:
    items: dict[Key, Item] = {(1, None): {"id": 1, "n": 1}}
    found = decided(
        Update(key={"id": 1}, add={"n": 1}, table="items", condition=attribute("n") == 1),
        Put({"id": 2}, table="items", condition=attribute("id").absent()),
        Delete({"id": 3}, table="items"),
        Check({"id": 4}, attribute("id").absent(), table="items"),
        items=items,
    )
    assert found == {(1, None): {"id": 1, "n": 2}, (2, None): {"id": 2}, (3, None): None}


def test_one_false_condition_cancels_all() -> None:
    with pytest.raises(TransactionCanceledError) as canceled:
        decided(
            Put({"id": 1}, table="items"),
            Check({"id": 2}, attribute("id").exists(), table="items"),
        )
    assert canceled.value.reasons == ["None", "ConditionalCheckFailed"]
    with pytest.raises(ConditionFailedError) as failed:
        decided(Put({"id": 1}, table="items", condition=attribute("id").exists()))
    assert failed.value.key == (1, None)


@pytest.mark.parametrize(
    ("writes", "says"),
    [
        ([], "a write has 1 to 100,000 actions, not 0"),
        ([Put({"id": 1})], "a Put names no table: pass table="),
        ([Put({"id": 1}, table="items"), Delete({"id": 1}, table="items")], "is written twice in a call"),
        ([{"id": 1}], "is not a write: use Put, Update, Delete or Check"),
        ([Put({"id": 1}, table="items", condition=True)], "True is not a condition"),  # type: ignore[arg-type]
        ([Delete({"id": 1}, "items", attribute("a").exists)], "is not a condition"),  # type: ignore[arg-type]
    ],
)
def test_calls_that_make_no_sense(writes: list[Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        decided(*writes)


def test_aws_allows_a_hundred_actions() -> None:
    writes = [Put({"id": n}, table="items") for n in range(101)]
    with pytest.raises(ValidationError, match="1 to 100 actions, not 101"):
        decided(*writes, limits=Limits.aws())


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(NAMES, st.integers(-3, 3) | st.just("x"), max_size=4),
    st.dictionaries(NAMES, st.integers(-3, 3) | st.text(max_size=2), max_size=2),
    st.dictionaries(NAMES, st.integers(-3, 3), max_size=2),
    st.lists(NAMES, max_size=2),
)
def test_an_update_by_names_is_the_same_as_an_expression(
    item: dict[str, Any], sets: dict[str, Any], adds: dict[str, Any], removes: list[str]
) -> None:
    values: dict[str, Any] = {}

    def placeholder(value: Any) -> str:
        values[f":v{len(values)}"] = value
        return f":v{len(values) - 1}"

    sections = [
        ("SET", [f"{name} = {placeholder(value)}" for name, value in sets.items()]),
        ("ADD", [f"{name} {placeholder(value)}" for name, value in adds.items()]),
        ("REMOVE", removes),
    ]
    text = " ".join(f"{section} {', '.join(parts)}" for section, parts in sections if parts)
    by_names = Update(key={"id": 1}, set=sets, add=adds, remove=tuple(removes))
    before = {"id": 1, **item}

    def outcome(update: Update) -> Any:
        try:
            return updated(SCHEMA, before, update)
        except ValidationError:
            return "refused"

    if text:
        assert outcome(by_names) == outcome(Update(key={"id": 1}, expression=Expression(text, values)))


def test_updates_that_follow_read_what_the_one_before_left() -> None:
    first = Update(key={"id": 1}, add={"n": 1}, then=(Update(key={"id": 1}, expression="SET m = n"),))
    assert updated(SCHEMA, None, first) == {"id": 1, "n": 1, "m": 1}


SOME_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18, -(10**18)]),
    st.floats(),
    st.decimals(),
    st.text(st.characters(exclude_categories=()), max_size=3),
    st.binary(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
    st.sets(st.integers(0, 3), max_size=2),
    st.sampled_from([object(), "x" * 3000]),
)
SOME_ITEMS = st.dictionaries(
    st.one_of(st.sampled_from(["id", "at", "a", "b"]), st.integers(0, 1)), SOME_VALUES, max_size=4
)
SOME_PUTS = st.builds(
    Put,
    SOME_ITEMS,
    st.sampled_from(["items", "items", "items", "others"]),
    st.sampled_from([None, None, None, attribute("a").absent()]),
    st.sampled_from(["NONE", "NONE", "NONE", "ALL_OLD"]),
)
GOOD_PUTS = st.builds(
    lambda key, at, rest: Put(rest | {"id": key, "at": at}, "items"),
    st.one_of(st.text(max_size=2), st.integers(), st.binary(max_size=2)),
    st.integers(),
    st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=2))),
)


@given(st.lists(st.one_of(SOME_PUTS, GOOD_PUTS), max_size=4), st.booleans())
def test_plain_puts_are_what_deciding_makes_of_them(puts: list[Put], sorted_too: bool) -> None:
    schema = TableSchema("items", "id", "at" if sorted_too else None)
    limits = Limits.aws()
    outcomes = None
    try:
        outcomes = decide(puts, lambda name: schema, lambda table, key: None, limits)
    except (ValidationError, ConditionFailedError, TransactionCanceledError):
        assert plain_puts(puts, schema, limits) is None
    stored = plain_puts(puts, schema, limits)
    if stored is not None:
        assert outcomes is not None
        assert {key: decode_item(data) for key, data in stored.items()} == {
            outcome.key: decode_item(outcome.item) for outcome in outcomes if outcome.item is not None
        }
        assert list(stored) == [outcome.key for outcome in outcomes]


@given(st.lists(st.one_of(SOME_ITEMS, GOOD_PUTS.map(lambda put: put.item)), max_size=4), st.booleans())
def test_several_items_are_stored_as_each_by_itself(items: list[dict[str, object]], sorted_too: bool) -> None:
    schema = TableSchema("items", "id", "at" if sorted_too else None)

    def outcome(of: Callable[[], object]) -> object:
        try:
            return of()
        except ValidationError as error:
            return str(error)

    assert outcome(lambda: schema.keys_of(items)) == outcome(lambda: [schema.key_of(item) for item in items])
    assert outcome(lambda: encode_items(items, 2_000)) == outcome(lambda: [encode_item(item, 2_000) for item in items])


@pytest.mark.parametrize("wrong", ["", "k" * 2_049, "\ud800", True, 1.5, None, 2**63])
def test_one_wrong_key_among_many_is_found(wrong: object) -> None:
    schema = TableSchema("items", "id")
    items: list[Item] = [{"id": "good"}, {"id": wrong}, {"id": "better"}]
    with pytest.raises(ValidationError):
        schema.keys_of(items)
    with pytest.raises(ValidationError):
        schema.keys_of([{"id": 1}, {"id": wrong}])


def test_plain_puts_are_taken_and_others_are_not() -> None:
    def taken(*puts: Write) -> bool:
        return plain_puts(puts, SCHEMA, Limits.relaxed()) is not None

    assert taken(Put({"id": 1}, "items"), Put({"id": 2, "a": {1}}, "items"))
    assert not taken(Put({"id": 1}, "items"), Put({"id": 1}, "items"))
    assert not taken(Put({"id": 1}, "items"), Put({"id": 2}, "others"))
    assert not taken(Put({"id": 1}, "items", attribute("a").absent()))
    assert not taken(Put({"id": 1}, "items", None, "ALL_OLD"))
    assert not taken(Put({"id": 1}, "items"), Delete({"id": 2}, "items"))
    assert not taken()
