from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamkit.showing import words


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0"),
        (250, "250"),
        (999.4, "999"),
        (999.6, "1k"),
        (1234, "1.23k"),
        (27_004, "27k"),
        (3.4e6, "3.4M"),
        (2e9, "2G"),
        (-1500, "-1.5k"),
        (0.004, "0.004"),
    ],
)
def test_short(number: float, told: str) -> None:
    assert words.short(number) == told


@pytest.mark.parametrize(
    ("millis", "told"),
    [
        (-5, "0.0 s"),
        (400, "0.4 s"),
        (12_000, "12 s"),
        (119_000, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2.0 h"),
        (12_600_000, "3.5 h"),
        (12 * 86_400_000, "12 d"),
    ],
)
def test_age(millis: int, told: str) -> None:
    assert words.age(millis) == told


def test_how_long_something_is_kept() -> None:
    assert words.kept(None) == "for ever"
    assert words.kept(86_400_000) == "24 h"
    assert words.kept(12_600_000) == "3.5 h"


def test_counts_and_sizes() -> None:
    assert words.count(27_004) == "27,004"
    assert words.count(1, "record") == "1 record"
    assert words.count(27_004, "record") == "27,004 records"
    assert words.count(2, "reply", "replies") == "2 replies"
    assert [words.size(each) for each in (812, 1434, 3 << 20, 5 << 30)] == ["812 B", "1.4 KiB", "3.0 MiB", "5.0 GiB"]


def test_instants_are_in_utc_and_have_milliseconds_if_they_have_some() -> None:
    assert words.instant(1_767_225_600_000) == "2026-01-01 00:00:00"
    assert words.instant(1_767_225_600_007) == "2026-01-01 00:00:00.007"
    assert words.value(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00:00"


def test_anybodys_text_neither_breaks_a_line_nor_tells_the_terminal_anything() -> None:
    told = words.one_line("a\nb\x1b[31m\r\x07c\u202e")
    assert told.isprintable()
    assert told == "a b [31m  c "
    assert words.one_line("abcdef", 4) == "abc…"
    assert words.one_line("abcd", 4) == "abcd"
    assert words.value({"a": "\n"}) == "{'a': '\\n'}"


def test_types_have_the_names_of_people() -> None:
    assert words.type_name(Any) == "JSON"
    assert words.type_name(bytes) == "bytes"
    assert words.type_name(list[int]) == "list"
    assert words.type_name(int | None) == "int | None"


def test_a_table_for_a_terminal() -> None:
    lines = words.aligned(("NAME", "N"), [("a", "1"), ("b\nb", "1,000")], numbers=(1,))
    assert lines == ["NAME      N", "a         1", "b b   1,000"]
