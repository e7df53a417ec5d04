"""What is shown of bytes."""

from __future__ import annotations

import pytest

from streamkit.dashboard.payload import Payload, payload_of


def test_text_is_shown_as_it_is() -> None:
    assert payload_of("é <b>".encode()) == Payload("é <b>", 6, True, True)
    assert payload_of(b"") == Payload("", 0, True, True)


@pytest.mark.parametrize("character", ["x", "é", "€", "𝄞"])
@pytest.mark.parametrize("before", range(4))
def test_of_long_text_its_beginning(character: str, before: int) -> None:
    """Wherever the cut is, also within a character."""
    text = "x" * before + character * 500
    shown = payload_of(text.encode(), most=10)
    assert shown == Payload(text[:10], len(text.encode()), True, False)
    assert payload_of(text[:10].encode(), most=10) == Payload(text[:10], len(text[:10].encode()), True, True)


def test_a_cut_within_a_character_makes_no_bytes_of_a_text() -> None:
    text = "xxx" + "€" * 500  # 40 bytes end within one.
    assert payload_of(text.encode(), most=10).is_text


@pytest.mark.parametrize("data", [b"\xff", b"x" * 50 + b"\xe2\x82", b"ok\xe2\x82", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_digits(data: bytes) -> None:
    shown = payload_of(data, most=300)
    assert (shown.text, shown.is_text, shown.is_whole) == (data.hex(" "), False, True)
    assert payload_of(b"\xff" * 500, most=30) == Payload("ff " * 9 + "ff", 500, False, False)
