"""Patterns of terms and regular expressions, and what is common to all patterns."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError, ValidationError
from streamkit.metrics.filter_pattern import (
    MAX_PATTERN_CHARACTERS,
    FilterMatch,
    FilterPattern,
    RegexFilter,
    test_metric_filter,
)
from streamkit.metrics.filter_tokens import MAX_REGEX_CHARACTERS

BAD, UNAUTHORIZED = "[ERROR 400] BAD REQUEST", "[ERROR 401] UNAUTHORIZED REQUEST"
MISSING, INVALID = "[ERROR 419] MISSING ARGUMENTS", "[ERROR 420] INVALID ARGUMENTS"
INTERNAL, AUTHORIZED = "[ERROR 500] INTERNAL SERVER ERROR", "[SUCCESS 200] AUTHORIZED REQUEST"
INFO, WARN = "[INFO] REQUEST FAILED", "[WARN] UNAUTHORIZED REQUEST"
LINES = (BAD, UNAUTHORIZED, MISSING, INVALID, INTERNAL, AUTHORIZED, INFO, WARN)

TERMS: dict[str, tuple[str, ...]] = {
    # The documentation's own.
    "%AUTHORIZED%": (UNAUTHORIZED, AUTHORIZED, WARN),
    "ERROR": (BAD, UNAUTHORIZED, MISSING, INVALID, INTERNAL),
    "ERROR ARGUMENTS": (MISSING, INVALID),
    "?ERROR ?ARGUMENTS": (BAD, UNAUTHORIZED, MISSING, INVALID, INTERNAL),
    "?ERROR ?ARGUMENTS REQUEST": (BAD, UNAUTHORIZED, AUTHORIZED, INFO, WARN),
    '"INTERNAL SERVER ERROR"': (INTERNAL,),
    "ERROR -ARGUMENTS": (BAD, UNAUTHORIZED, INTERNAL),
    '" "': LINES,
    # What follows from them.
    "": LINES,
    "  \t": LINES,
    '""': LINES,
    "error": (),
    "-ERROR": (AUTHORIZED, INFO, WARN),
    "-ERROR -WARN": (AUTHORIZED, INFO),
    "?INFO ?WARN": (INFO, WARN),
    "?INFO -ERROR": (AUTHORIZED, INFO, WARN),
    '-"ERROR 40"': (MISSING, INVALID, INTERNAL, AUTHORIZED, INFO, WARN),
    '?"ERROR 400" ?"ERROR 401"': (BAD, UNAUTHORIZED),
    "%40[01]% -UNAUTHORIZED": (BAD,),
    "?%INFO|WARN% ?SUCCESS": (AUTHORIZED, INFO, WARN),
    "-%4[0-9]{2}%": (INTERNAL, AUTHORIZED, INFO, WARN),
    '"ARGUMENTS ERROR"': (),
    "ARGUMENTS ERROR": (MISSING, INVALID),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("pattern", TERMS)
def test_terms_match_as_documented(pattern: str, line: str) -> None:
    match = FilterPattern(pattern).match(line)
    assert (match is not None) == (line in TERMS[pattern])
    assert match is None or match.values == {}


REGEXES: dict[str, tuple[list[str], list[str]]] = {
    "%^[hc]at%": (["hat", "cat and"], ["a hat", "rat", "\ncat"]),
    "%[hc]at$%": (["hat", "a cat"], ["hats", "cat \n", "cat\n"]),
    "%colou?r%": (["color", "colour"], ["colouur"]),
    "%[abc]%": (["a", "b", "c"], ["d", "A"]),
    "%^[a-z]$%": (["a", "q", "z"], ["A", "1"]),
    "%[abcx-z]%": (["a", "b", "c", "x", "y", "z"], ["d", "w", "-"]),
    "%^a{3,5}$%": (["aaa", "aaaa", "aaaaa"], ["aa", "aaaaaa"]),
    "%^a{3, 5}$%": (["aaa", "aaaaa"], ["aa", "aaaaaa"]),
    "%^a{3,}$%": (["aaa", "aaaaaaaa"], ["aa"]),
    "%^a{,2}$%": (["", "a", "aa"], ["aaa"]),
    "%^a{2}$%": (["aa"], ["a", "aaa"]),
    "%gra|ey%": (["gray", "grey"], ["gr"]),
    "%^starting|^initializing|^shutting down%": (
        ["starting up", "initializing x", "shutting down now"],
        ["skipping initializing x"],
    ),
    "%abcc|ab[^c]$%": (["abcc x", "aba"], ["aac"]),
    r"%\[.\]%": (["[a]", "[b]", "[7]", "[@]", "[]]", "[ ]"], ["[]", "a]"]),
    r"%10\.10\.0\.1%": (["10.10.0.1"], ["10010,051"]),
    "%10.10.0.1%": (["10.10.0.1", "10010,051"], ["10.10.0"]),
    "%ab*c%": (["ac", "abc", "abbbc"], ["ab"]),
    "%ab[0-9]*%": (["ab", "ab0", "ab129"], ["a1"]),
    "%ab+c%": (["abc", "abbc", "abbbc"], ["ac"]),
    "%.at%": (["hat", "cat", "bat", "4at", "#at", " at"], ["at"]),
    r"%\d%": (["7"], ["x", "٣"]),
    r"%\D%": (["x"], ["7"]),
    r"%a\sb%": (["a b", "a\tb", "a\nb"], ["ab"]),
    r"%^\S+$%": (["ab"], ["a b"]),
    r"%^\w+$%": (["aZ_9"], ["a-b", "é"]),
    r"%\W%": (["-"], ["a_9"]),
    r"%\x3A%": ([":"], [";"]),
    r"%\x28%": (["("], [")"]),
    r"%[\x28-\x29]%": (["(", ")"], ["*"]),
    r"%[^\d]%": (["x"], ["1"]),
    r"%[\w-]%": (["-", "a"], ["+"]),
    r"%[\]\\]%": (["]", "\\"], ["["]),
    "%[-a]%": (["-", "a"], ["b"]),
    "%a:b_c#d=e@f/g;h,i-j%": (["a:b_c#d=e@f/g;h,i-j"], ["a:b"]),
}


@pytest.mark.parametrize(
    ("pattern", "line", "matches"),
    [
        (pattern, line, matches)
        for pattern, (good, bad) in REGEXES.items()
        for lines, matches in ((good, True), (bad, False))
        for line in lines
    ],
)
def test_regular_expressions_match_as_documented(pattern: str, line: str, matches: bool) -> None:
    assert (FilterPattern(pattern).match(line) is not None) == matches


@pytest.mark.parametrize(
    ("pattern", "position", "reason"),
    [
        ("ERROR [400]", 6, "put terms with such characters in quotes"),
        ("time-out", 4, "put the whole term in quotes"),
        ("a:b", 1, "put the whole term in quotes"),
        ('a "b', 2, "this quote has no end"),
        ('a"b"', 1, "a blank must follow"),
        ("a - b", 3, "a term must be here"),
        ("ERROR ?", 7, "a term must be here, found the end of the pattern"),
        ("--a", 1, "a term must be here"),
        ("%abc", 0, "this regular expression has no end"),
        ("%%", 0, "is empty"),
        ("%a% %b% %c%", 8, "at most 2 regular expressions"),
        ("%something!%", 10, "'!' is not supported in a regular expression: write \\x21"),
        ("%[a&]%", 3, "'&' is not supported"),
        ("%[~]%", 2, "'~' is not supported"),
        ("%a(b)%", 2, "parentheses are not supported"),
        ("%a)%", 2, "parentheses are not supported"),
        ("%(?=a)%", 1, "parentheses are not supported"),
        ("%é%", 1, "multi-byte characters"),
        ("%a%b%", 3, "a blank must follow"),
        ("%*a%", 1, "nothing here that * could repeat"),
        ("%a|+%", 3, "nothing here that + could repeat"),
        ("%a*?%", 3, "nothing here that ? could repeat"),
        ("%a{1}{2}%", 5, "nothing here that { could repeat"),
        ("%a{x}%", 2, "write {m}"),
        ("%a{}%", 2, "write {m}"),
        ("%a{,}%", 2, "write {m}"),
        ("%a{3,2}%", 2, "m up to n"),
        ("%a{1001}%", 2, "n up to 1,000"),
        ("%a{2,1001}%", 2, "n up to 1,000"),
        ("%[abc%", 1, "this [ has no end"),
        ("%a]%", 2, "closes nothing"),
        ("%a}%", 2, "closes nothing"),
        ("%[]%", 1, "these brackets are empty"),
        ("%[^]%", 1, "these brackets are empty"),
        ("%[z-a]%", 2, "a range goes from"),
        (r"%[\d-z]%", 2, "a range goes from"),
        (r"%\b%", 1, "an escape is"),
        (r"%\1%", 1, "an escape is"),
        (r"%\x4%", 1, "two hexadecimal digits"),
        (r"%\xFF%", 1, "two hexadecimal digits"),
        ("%a\\%", 2, "an escape is"),
    ],
)
def test_a_malformed_pattern_names_the_position(pattern: str, position: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        FilterPattern(pattern)
    assert caught.value.position == position
    assert reason in caught.value.reason


def test_a_phrase_of_blanks_matches_everything() -> None:
    assert FilterPattern('"   "').match("x") is not None
    assert FilterPattern('" " ERROR').match("x") is None


def test_a_phrase_may_hold_quotes() -> None:
    pattern = FilterPattern(r'"say \"no\" \\"')
    assert pattern.match('I say "no" \\') is not None
    assert pattern.match("I say no") is None


def test_a_pattern_has_at_most_1024_characters() -> None:
    assert FilterPattern("a" * MAX_PATTERN_CHARACTERS).match("a") is None
    with pytest.raises(ValidationError, match="1,025 characters: use at most 1,024"):
        FilterPattern("a" * (MAX_PATTERN_CHARACTERS + 1))
    with pytest.raises(ValidationError, match="must be a string"):
        FilterPattern(None)  # type: ignore[arg-type]


def test_the_kind_is_told() -> None:
    patterns = ["", "a", " { $.a = 1 } ", " [a, b] "]
    assert [FilterPattern(pattern).kind for pattern in patterns] == ["all", "terms", "json", "fields"]
    assert repr(FilterPattern("a")) == "FilterPattern('a')"


def test_a_regular_expression_leaves_longer_texts_alone() -> None:
    pattern = FilterPattern("%x%")
    assert pattern.match("x" * MAX_REGEX_CHARACTERS) is not None
    assert pattern.match("x" * (MAX_REGEX_CHARACTERS + 1)) is None


class Order(msgspec.Struct):
    id: int
    state: str


def test_terms_look_at_decoded_records_as_json() -> None:
    pattern = FilterPattern('"\\"state\\":\\"failed\\""')
    assert pattern.match(Order(1, "failed")) is not None
    assert pattern.match({"state": "failed"}) is not None
    assert pattern.match(b'{"state":"failed"} \xff') is not None
    assert pattern.match(Order(1, "done")) is None


@pytest.mark.parametrize("record", [{"n": 10**5000}, {"s": "\ud800"}])
def test_a_record_without_a_json_form_is_an_empty_line(record: dict[str, Any]) -> None:
    assert FilterPattern("n").match(record) is None
    assert FilterPattern("-n").match(record) is not None
    assert FilterPattern("[n]").match(record) is None


WORDS = st.sampled_from(["a", "ab", "b", "ERROR", "x_1", "é"])
LINE = st.lists(st.one_of(WORDS, st.text("ab xERO_1é", max_size=5)), max_size=6).map(" ".join)


@given(st.lists(st.tuples(st.sampled_from(["", "-", "?"]), WORDS, st.booleans()), max_size=4), LINE)
def test_terms_equal_a_naive_check(terms: list[tuple[str, str, bool]], line: str) -> None:
    pattern = "  ".join(f'{sign}"{word}"' if quoted else sign + word for sign, word, quoted in terms)
    needed = [word in line for sign, word, _ in terms if sign == ""]
    excluded = [word in line for sign, word, _ in terms if sign == "-"]
    optional = [word in line for sign, word, _ in terms if sign == "?"]
    expected = any(optional) if optional and not needed + excluded else all(needed) and not any(excluded)
    assert (FilterPattern(pattern).match(line) is not None) == expected


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\.", "-", "1", "[0-9a]"])
PIECES = st.tuples(ATOMS, st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{2,}"])).map("".join)
BRANCHES = st.tuples(st.sampled_from(["", "^"]), st.lists(PIECES, min_size=1, max_size=4).map("".join)).map("".join)


@given(st.lists(BRANCHES, min_size=1, max_size=3).map("|".join), st.text("ab1.- ", max_size=12))
def test_the_subset_means_what_python_means(regex: str, line: str) -> None:
    assert (FilterPattern(f"%{regex}%").match(line) is not None) == (re.search(regex, line, re.ASCII) is not None)


SYNTAX = st.sampled_from([*"{}[]()$.*%\"'&|=!<>,-?\\ 1a", "&&", "||", "$.a", "IS NULL", "NOT EXISTS", "...", "{ $.a"])


@given(
    st.lists(SYNTAX, max_size=25).map("".join),
    st.one_of(st.text(max_size=20), st.just('{"a":[1,"x",null]}'), st.dictionaries(st.text(), st.integers())),
)
def test_any_text_is_a_pattern_or_an_error_with_a_position(text: str, event: Any) -> None:
    position = 0
    try:
        FilterPattern(text).match(event)
    except ExpressionError as error:
        position = error.position
    assert 0 <= position <= len(text)


# ---- RegexFilter


@pytest.mark.parametrize(
    ("pattern", "line", "values"),
    [
        (r"took (?P<ms>\d+) ms", "it took 12 ms", {"$ms": "12"}),
        (r"took (?P<ms>\d+) ms", "it took long", None),
        (r"(?P<level>WARN|ERROR)(?: (?P<code>\d+))?", "ERROR", {"$level": "ERROR"}),
        (r"(?P<level>WARN|ERROR)(?: (?P<code>\d+))?", "ERROR 7", {"$level": "ERROR", "$code": "7"}),
        (r"(?i)error", "an Error", {}),
        (r"(?<!un)known", "unknown", None),
    ],
)
def test_a_regex_filter_extracts_its_named_groups(pattern: str, line: str, values: dict[str, str] | None) -> None:
    match = RegexFilter(pattern).match(line)
    assert (None if match is None else match.values) == values


def test_a_regex_filter_leaves_long_lines_alone() -> None:
    assert RegexFilter("x").match("x" * 8193) is None
    assert RegexFilter("x").match("x" * 8192) is not None
    assert RegexFilter("x", max_characters=3).match("xxxx") is None


def test_a_regex_filter_looks_at_records_as_json() -> None:
    match = RegexFilter(r'"id":(?P<id>\d+)').match(Order(7, "done"))
    assert match is not None
    assert match.values == {"$id": "7"}


def test_a_wrong_regular_expression_names_the_position() -> None:
    with pytest.raises(ExpressionError, match="no regular expression") as caught:
        RegexFilter("ab(c")
    assert caught.value.position == 2
    for wrong in ("", "a" * 1025):
        with pytest.raises(ValidationError, match="1 to 1,024"):
            RegexFilter(wrong)
    with pytest.raises(ValidationError, match="use at least 1"):
        RegexFilter("a", max_characters=0)
    assert repr(RegexFilter("a")) == "RegexFilter('a')"


# ---- test_metric_filter


def test_trying_a_pattern_tells_which_messages_match() -> None:
    assert test_metric_filter("[level=E*, code]", ["ERROR 1", "INFO 2", "EVENT 3"]) == [
        FilterMatch(1, "ERROR 1", {"$level": "ERROR", "$code": "1"}),
        FilterMatch(3, "EVENT 3", {"$level": "EVENT", "$code": "3"}),
    ]
    assert test_metric_filter(RegexFilter("(?P<n>[0-9])"), ["a", "b 2"]) == [FilterMatch(2, "b 2", {"$n": "2"})]
    assert test_metric_filter(FilterPattern("x"), ["y"]) == []


@pytest.mark.parametrize("count", [0, 51])
def test_1_to_50_messages_are_tried(count: int) -> None:
    assert len(test_metric_filter("", ["a"] * 50)) == 50
    with pytest.raises(ValidationError, match=f"{count} messages: give 1 to 50"):
        test_metric_filter("", ["a"] * count)
