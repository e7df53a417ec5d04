"""The words of a text, and texts with stars in them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError
from streamkit.words import Token, with_stars, words_of

WORDS = re.compile(r"(?P<space>\s+)|(?P<name>[a-z]+)|(?P<mark>[=<>])")


def test_words_have_sorts_and_places() -> None:
    assert list(words_of(" ab  =c", WORDS, {})) == [
        Token("name", "ab", 1),
        Token("mark", "=", 5),
        Token("name", "c", 6),
        Token("end", "the end", 7),
    ]


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [("", 0, "it is empty"), ("  ", 0, "it is empty"), ("a $", 2, "'\\$': use a"), ("a1", 1, "'1'")],
)
def test_what_is_no_word_is_told_with_its_place(text: str, position: int, said: str) -> None:
    with pytest.raises(ExpressionError, match=said) as error:
        list(words_of(text, WORDS, {"$": "use a"}))
    assert error.value.position == position


@given(st.lists(st.text("ab", max_size=3), min_size=2, max_size=5), st.text("ab", max_size=12))
def test_pieces_between_stars_equal_a_regular_expression(pieces: list[str], text: str) -> None:
    wanted = re.fullmatch(".*".join(map(re.escape, pieces)), text) is not None
    assert with_stars(pieces)(text) is wanted
