"""Receipt handles: there and back, and what is not one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.queues.receipt import Receipt, Receipts

BASE64 = string.ascii_letters + string.digits + "+/="

receipts = st.builds(Receipt, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
stores = st.integers(0, 2**32 - 1)


def made(of: Receipt, store_id: int = 0) -> str:
    return Receipts(store_id).make(of.queue_id, of.number, of.receive_count)


@given(receipts, stores)
def test_there_and_back(of: Receipt, store_id: int) -> None:
    handle = made(of, store_id)
    assert Receipts(store_id).parse(handle) == of
    assert len(handle) == 32
    assert set(handle) <= set(BASE64)


@given(receipts, stores, stores)
def test_the_handle_of_another_store_is_none(of: Receipt, store_id: int, other: int) -> None:
    assert (Receipts(other).parse(made(of, store_id)) is None) == (store_id != other)


@given(receipts, receipts)
def test_every_delivery_has_its_own_handle(one: Receipt, other: Receipt) -> None:
    assert (made(one) == made(other)) == (one == other)


@given(receipts, st.integers(0, 31), st.text(BASE64, min_size=1, max_size=4))
def test_a_typo_is_found(of: Receipt, at: int, typed: str) -> None:
    handle = made(of)
    typo = (handle[:at] + typed + handle[at + len(typed) :])[:32]
    assert Receipts(0).parse(typo) == (of if typo == handle else None)


@given(receipts, st.integers(0, 30))
def test_characters_that_changed_places_are_found(of: Receipt, at: int) -> None:
    handle = made(of)
    typo = handle[:at] + handle[at + 1] + handle[at] + handle[at + 2 :]
    assert Receipts(0).parse(typo) == (of if typo == handle else None)


@given(st.text(max_size=40) | st.text(BASE64, min_size=32, max_size=32))
def test_any_text_is_none(text: str) -> None:
    assert Receipts(0).parse(text) is None


@pytest.mark.parametrize(
    "junk", ["", "é" * 32, "\ud800" * 32, "A" * 31 + "=", "A" * 30 + "==", "A" * 31 + "\n", "A" * 32, "A" * 10**6]
)
def test_junk_is_none(junk: str) -> None:
    assert Receipts(0).parse(junk) is None


@pytest.mark.parametrize("junk", [None, 7, b"A" * 32, ["x"] * 32])
def test_what_is_no_text_is_none(junk: object) -> None:
    assert Receipts(0).parse(junk) is None


def test_a_cut_or_extended_handle_is_none() -> None:
    handle = Receipts(0).make(3, 17, 1)
    assert Receipts(0).parse(handle[:-1]) is None
    assert Receipts(0).parse(handle + "A") is None
    assert Receipts(0).parse(" " + handle[:-1]) is None
