from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codecs import Codec, plain
from streamkit.errors import DecodeError, EncodeError


class Order(msgspec.Struct):
    customer: str
    total: int = 0


@dataclass
class Email:
    to: str


class Flight(TypedDict):
    carrier: str


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (None, {"a": [1, 2.5, None, True, "é"]}, '{"a":[1,2.5,null,true,"é"]}'.encode()),
        (Order, Order("ada", 3), b'{"customer":"ada","total":3}'),
        (Email, Email("ada"), b'{"to":"ada"}'),
        (Flight, {"carrier": "UA"}, b'{"carrier":"UA"}'),
        (list[int], [1, 2], b"[1,2]"),
        (int, 7, b"7"),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (str, "é", "é".encode()),
    ],
)
def test_values_and_their_bytes(type_: Any, value: Any, data: bytes) -> None:
    codec: Codec[Any] = Codec(type_)
    assert codec.encode(value) == data
    assert codec.decode(data) == value


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        (bytes, "text", "has type=bytes and cannot take a str: pass bytes"),
        (str, b"raw", "has type=str and cannot take a bytes"),
        (str, "\ud800", "the text has no UTF-8 form"),
        (None, b"raw", "make the handle with type=bytes"),
        (None, object(), "a object cannot be encoded as JSON"),
        (None, {"a": "\ud800"}, "cannot be encoded as JSON"),
    ],
)
def test_what_does_not_encode(type_: Any, value: Any, says: str) -> None:
    with pytest.raises(EncodeError, match=says):
        Codec(type_).encode(value)


@pytest.mark.parametrize(
    ("type_", "data", "says"),
    [
        (Order, b'{"total":1}', "11 stored bytes are not a Order: Object missing required field `customer`"),
        (Order, b"not json", "are not a Order"),
        (None, b"not json", "are not a JSON value"),
        (str, b"\xff", "are not a str"),
        (None, b"[" * 100_000, "are not a JSON value"),
    ],
)
def test_what_does_not_decode(type_: Any, data: bytes, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        Codec(type_).decode(data)


def test_a_type_that_is_no_json_is_refused_at_once() -> None:
    with pytest.raises(EncodeError, match="cannot be stored as JSON"):
        Codec(dict[bytes, object] | list[int] | set[str])


def test_plain_is_the_json_value() -> None:
    assert plain(b'{"a":1}') == {"a": 1}
    with pytest.raises(DecodeError, match="are not JSON"):
        plain(b"{")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_any_json_value_comes_back(value: Any) -> None:
    try:
        data = Codec[Any]().encode(value)
    except EncodeError:
        return  # A lone surrogate.
    assert Codec[Any]().decode(data) == value
