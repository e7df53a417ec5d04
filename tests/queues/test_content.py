"""What a message may hold, and the digests that AWS gives for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.queues.content import (
    attributes_of,
    check_attributes,
    check_deduplication_id,
    check_group_id,
    check_text,
    check_trace_header,
    md5_of_attributes,
    md5_of_body,
    selected,
    size_of,
)
from streamkit.queues.message import MessageAttribute


def text(value: str) -> MessageAttribute:
    return MessageAttribute("String", value)


def test_digests_that_were_recorded() -> None:
    """Of the service itself."""
    assert md5_of_attributes({"Foo": text("Bar")}) == "ae7155c6026991b6d54b11589678bf9c"
    three = {"General": text("Kenobi"), "Hello": text("There"), "Help.Me": text("Me")}
    assert md5_of_attributes(three) == "4c360f3fdafd970e05fae2f149d997f5"
    assert md5_of_attributes(dict(reversed(three.items()))) == "4c360f3fdafd970e05fae2f149d997f5"
    assert md5_of_attributes({}) is None
    assert md5_of_body(b"hello") == "5d41402abc4b2a76b9719d911017c592"


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.binary(min_size=1), min_size=1))
def test_a_digest_tells_kinds_and_values_apart(values: dict[str, bytes]) -> None:
    attributes = {name: MessageAttribute("Binary", None, value) for name, value in values.items()}
    digest = md5_of_attributes(attributes)
    name = next(iter(attributes))
    for other in (
        MessageAttribute("Binary.x", None, values[name]),
        MessageAttribute("Binary", None, values[name] + b"!"),
    ):
        assert md5_of_attributes({**attributes, name: other}) != digest


def test_attributes_as_users_write_them() -> None:
    own = MessageAttribute("Number.float", "1.50")
    written: dict[str, Any] = {"s": "x", "i": 12, "f": 1.5, "d": Decimal("2.50"), "b": b"\0", "own": own}
    found = attributes_of(written)
    assert found["s"] == text("x")
    assert [found[name].string_value for name in "ifd"] == ["12", "1.5", "2.50"]
    assert {found[name].data_type for name in "ifd"} == {"Number"}
    assert found["b"] == MessageAttribute("Binary", None, b"\0")
    assert found["own"] is own
    check_attributes(found, most=10)
    for value in (None, True, ["x"]):
        with pytest.raises(ValidationError, match="attribute 'x' is a"):
            attributes_of({"x": value})  # type: ignore[dict-item]


GOOD = ["x", "A-b_9", "a.b.c", "aws", "awsome", "x" * 256]
BAD = ["", ".x", "x.", "a..b", "a b", "é", "AWS.x", "aws.x", "Amazon.x", "AMAZON.x", "x" * 257, "a\n"]


@pytest.mark.parametrize("name", GOOD)
def test_names(name: str) -> None:
    check_attributes({name: text("v")}, most=10)


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValidationError, match="attribute name"):
        check_attributes({name: text("v")}, most=10)


@pytest.mark.parametrize(
    "attribute",
    [
        MessageAttribute("Strings", "x"),
        MessageAttribute("", "x"),
        MessageAttribute("String.", "x"),
        MessageAttribute("string", "x"),
        MessageAttribute("String." + "x" * 250, "x"),
        MessageAttribute("String.\ud800", "x"),
        MessageAttribute("String", ""),
        MessageAttribute("String"),
        MessageAttribute("String", "x", b"x"),
        MessageAttribute("String", "\x00"),
        MessageAttribute("String", "\ud800"),
        MessageAttribute("Binary", None, b""),
        MessageAttribute("Binary", "x"),
        MessageAttribute("Number", "many"),
        MessageAttribute("Number", "NaN"),
        MessageAttribute("Number", "Infinity"),
        MessageAttribute("Number", "1" * 39),
        MessageAttribute("Number", "1e127"),
        MessageAttribute("Number", "-1e129"),
        MessageAttribute("Number", None, b"1"),
    ],
)
def test_values_that_are_none(attribute: MessageAttribute) -> None:
    with pytest.raises(ValidationError, match="attribute 'name'"):
        check_attributes({"name": attribute}, most=10)


@pytest.mark.parametrize("number", ["0", "-1", "1e126", "-1e128", "1" * 38, "0." + "1" * 38, "1" + "0" * 60])
def test_numbers(number: str) -> None:
    check_attributes({"name": MessageAttribute("Number.custom", number)}, most=10)


def test_how_many() -> None:
    many = {f"n{number}": text("v") for number in range(11)}
    check_attributes(many, most=11)
    with pytest.raises(ValidationError, match="at most 10 attributes, not 11"):
        check_attributes(many, most=10)


def test_sizes_count_names_types_and_values() -> None:
    attributes = {"näme": text("välue"), "b": MessageAttribute("Binary.x", None, b"123")}
    assert size_of(b"body", attributes) == 4 + (5 + 6 + 6) + (1 + 8 + 3)
    assert size_of(b"body", {}) == 4


def test_ids() -> None:
    for check in (check_group_id, check_deduplication_id):
        for good in ("a", "x" * 128, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"):
            check(good)
        for bad in ("", " ", "a b", "é", "x" * 129, "\n", None, 3):
            with pytest.raises(ValidationError, match="1 to 128"):
                check(bad)  # type: ignore[arg-type]


def test_text() -> None:
    check_text("\t\n\r ~\ud7ff\ue000\ufffd\U00010000\U0010ffff")
    for bad in ("\x00", "\x08", "\x0b", "\x1f", "\ud800", "\udfff", "\ufffe", "\uffff"):
        with pytest.raises(ValidationError, match=rf"U\+{ord(bad):04X} at 1"):
            check_text("x" + bad)
    check_trace_header(None)
    check_trace_header("Root=1-5759e988-bd862e3fe1be46a994272793")
    for header in ("", "\ud800", 3):
        with pytest.raises(ValidationError):
            check_trace_header(header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["a"], ["a"]),
        (["a", "missing", "A", ""], ["a"]),
        (["All"], ["a", "pre", "pre.x", "pre.x.y", "prefix"]),
        ([".*"], ["a", "pre", "pre.x", "pre.x.y", "prefix"]),
        (["*"], ["a", "pre", "pre.x", "pre.x.y", "prefix"]),
        (["pre.*"], ["pre.x", "pre.x.y"]),
        (["pre.x.*", "a"], ["a", "pre.x.y"]),
        (["pre*", "all"], []),
    ],
)
def test_what_a_receive_asks_for(names: list[str], found: list[str]) -> None:
    attributes = {name: text(name) for name in ("a", "pre", "pre.x", "pre.x.y", "prefix")}
    assert list(selected(attributes, names)) == found
