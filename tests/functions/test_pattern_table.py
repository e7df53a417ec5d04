"""The grammar as a table: matchers, values that they match and values that they do not; and whole patterns."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit import Pattern
from streamkit.errors import InvalidPatternError

SHARP, BIG = "\u00df", 12345678901234567890
"""A letter whose capital is two, and an id of 20 digits (a decoder keeps 64 bits)."""

VALUES: list[tuple[Any, list[Any], list[Any]]] = [
    # exact
    ("x", ["x", ["x"], ["y", "x"], [["x"]]], ["X", "xx", "", " x", "x ", None, True, 1, [], ["y"], {"x": "x"}]),
    ("", ["", ["", "a"]], [" ", "a", None, 0, False, [], {}]),
    ("300", ["300"], [300, 300.0, "300.0", "0300", None]),
    ("\u00e9", ["\u00e9"], ["e\u0301", "e", "\u00c9"]),
    (300, [300, 300.0, 3.0e2, [1, 300]], [301, "300", 300.5, -300, None, True, [], {"n": 300}]),
    (0, [0, 0.0, -0.0], [False, "", None, "0", 1, []]),
    (1, [1, 1.0], [True, "1", 1.0000001, 2]),
    (-1.5, [-1.5], [1.5, "-1.5", -1, -2]),
    (BIG, [BIG, float(BIG)], [BIG + 1, BIG - 1, str(BIG), 1]),
    (float(BIG), [float(BIG), BIG, BIG + 1], [2 * BIG, 0]),
    (2**53 + 1, [2**53 + 1], [2**53, 2**53 + 2]),
    (True, [True, [False, True]], [False, 1, "true", 1.0, None, []]),
    (False, [False], [True, 0, "false", 0.0, None, [], ""]),
    (None, [None, [1, None]], ["null", "", 0, False, [], {}, "None"]),
    # addresses in exact strings
    ("10.0.0.1", ["10.0.0.1", "010.000.000.001", "::ffff:10.0.0.1"], ["10.0.0.2", "10.0.0.1 ", "10.0.0", 10, None]),
    ("::1", ["::1", "0:0:0:0:0:0:0:1", "0000::0001"], ["::2", "1", ":1", "::1%lo", None]),
    ("2001:DB8::a", ["2001:db8::A", "2001:db8:0:0::a"], ["2001:db8::b", "2001:db8"]),
    ("1.2.3", ["1.2.3"], ["1.2.3.0", "1.2.0.3", "01.2.3"]),
    # exactly
    ({"exactly": "x"}, ["x", ["y", "x"]], ["X", "", None, 1, True, [], {"x": 1}]),
    ({"exactly": ""}, [""], ["x", None, 0, []]),
    # prefix, suffix
    ({"prefix": "ab"}, ["ab", "abc", "ab ", ["x", "abz"]], ["a", "ABc", "xab", "", None, 1, True, [], {"ab": 1}]),
    ({"prefix": ""}, ["", "x", ["x"]], [None, 1, True, [], {}]),
    ({"prefix": "1"}, ["1", "12"], [1, 12, 1.5, "21"]),
    ({"suffix": "bc"}, ["bc", "abc", " bc", ["x", "zbc"]], ["c", "aBC", "bcx", "", None, 1, True, [], {"bc": 1}]),
    ({"suffix": ""}, ["", "x"], [None, 1, False, []]),
    ({"suffix": ".png"}, [".png", "a.png"], ["a.PNG", "png", "a.png/"]),
    ({"prefix": {"equals-ignore-case": "Ab"}}, ["ab", "ABC", "aBx", "Ab"], ["a", "xab", "", None, 1, []]),
    ({"suffix": {"equals-ignore-case": "Bc"}}, ["bc", "aBC", "xbC"], ["c", "bcx", "", None, 1, []]),
    ({"suffix": {"equals-ignore-case": ""}}, ["", "x"], [None, 1]),
    ({"prefix": {"equals-ignore-case": ""}}, ["", "x"], [None, 1]),
    # equals-ignore-case
    ({"equals-ignore-case": "AbC"}, ["abc", "ABC", "aBc", ["x", "ABc"]], ["ab", "abcd", "", None, 1, True, [], {}]),
    ({"equals-ignore-case": ""}, [""], ["x", " ", None, 0, []]),
    ({"equals-ignore-case": "k1"}, ["K1", "k1"], ["\u212a1", "k", "k11"]),
    ({"equals-ignore-case": SHARP}, [SHARP], ["ss", "SS", "s", ""]),
    ({"equals-ignore-case": "\u00c9a"}, ["\u00e9A", "\u00c9a", "\u00e9a"], ["ea", "\u00e9", "\u00e9aa"]),
    # wildcard
    ({"wildcard": "*"}, ["", "x", "a*b", ["y"]], [None, 1, True, [], {}]),
    ({"wildcard": ""}, [""], ["x", " ", None]),
    ({"wildcard": "a"}, ["a"], ["ab", "ba", "", "A"]),
    ({"wildcard": "a*"}, ["a", "ab", "a*"], ["ba", "", "A", None, 1]),
    ({"wildcard": "*a"}, ["a", "ba", "aa"], ["ab", "", None]),
    ({"wildcard": "a*a"}, ["aa", "aba", "aaa"], ["a", "ab", "ba", ""]),
    ({"wildcard": "*a*"}, ["a", "bab", "aaa"], ["", "b", "A"]),
    ({"wildcard": "a*b*c"}, ["abc", "axbxc", "abbc", "abcbc"], ["ac", "acb", "ab", "bc", "abcx"]),
    ({"wildcard": "*ab*ab*"}, ["abab", "xabyabz"], ["ab", "aab", "aba"]),
    ({"wildcard": r"a\*b"}, ["a*b"], ["ab", "axb", r"a\*b"]),
    ({"wildcard": r"a\\b"}, [r"a\b"], ["ab", r"a\\b"]),
    ({"wildcard": r"\**"}, ["*", "*x", "**"], ["", "x", "x*"]),
    (
        {"wildcard": "dir/*/f.t*t"},
        ["dir/a/f.txt", "dir/a/b/f.tt", "dir//f.tt"],
        ["dir/f.txt", "dir/a/f.t", "x/a/f.txt"],
    ),
    # anything-but
    ({"anything-but": "x"}, ["y", "", "X", 1, True, None, ["x", "y"]], ["x", ["x"], [], {}, {"x": 1}]),
    ({"anything-but": ["x", "y"]}, ["z", "xy", 0, None, False, ["x", "z"]], ["x", "y", ["x", "y"], []]),
    ({"anything-but": ""}, ["x", None, 0], ["", []]),
    ({"anything-but": 1}, [2, 1.5, "1", True, None, [1, 2]], [1, 1.0, [1], []]),
    ({"anything-but": [1, 2.5]}, [2, "2.5", False, None], [1, 2.5, 1.0, [2.5, 1]]),
    ({"anything-but": BIG}, [BIG + 1, str(BIG), 1], [BIG, float(BIG)]),
    (
        {"anything-but": {"prefix": "ab"}},
        ["a", "ba", "", "AB", 12, None, True, ["ab", "c"]],
        ["ab", "abc", ["abx"], []],
    ),
    ({"anything-but": {"prefix": ["a", "b"]}}, ["c", "", 1, None], ["a", "bz", ["a", "b"]]),
    ({"anything-but": {"suffix": "bc"}}, ["bcd", "c", "", 12, None, False], ["bc", "abc", []]),
    ({"anything-but": {"suffix": [".a", ".b"]}}, ["x.c", "", 1], ["x.a", "x.b"]),
    ({"anything-but": {"equals-ignore-case": "Ab"}}, ["abc", "a", "", 1, None], ["ab", "AB", "aB", []]),
    ({"anything-but": {"equals-ignore-case": ["A", "B"]}}, ["c", "ab", None], ["a", "B", "b"]),
    ({"anything-but": {"wildcard": "*x*"}}, ["a", "", 5, None, True], ["x", "axb", ["x"], []]),
    ({"anything-but": {"wildcard": ["a*", "*b"]}}, ["c", "ba", 1], ["a", "b", "ax", "xb"]),
    ({"anything-but": {"wildcard": ""}}, ["x", None], [""]),
    # numeric
    ({"numeric": ["=", 5]}, [5, 5.0, [1, 5]], [4, 5.1, "5", None, True, [], {}]),
    ({"numeric": [">", 5]}, [6, 5.0000001, 1e300, [1, 9]], [5, 5.0, 4, -6, "6", None, True, []]),
    ({"numeric": [">=", 5]}, [5, 5.0, 6], [4.999999, 4, "5", None]),
    ({"numeric": ["<", 5]}, [4, 4.999999, -1e300, 0], [5, 5.0, 6, "4", None, False, True]),
    ({"numeric": ["<=", 5]}, [5, 5.0, -5], [5.000001, 6, "5", None, False]),
    ({"numeric": [">", 0, "<", 10]}, [1, 9.99, 5e-324, [11, 3]], [0, 10, -1, 11, "5", None, True, [-1, 11]]),
    ({"numeric": [">=", 0, "<=", 10]}, [0, 10, -0.0, 10.0], [-0.0001, 10.0001, None]),
    ({"numeric": [">", 0, "<=", 10]}, [10, 1], [0, 11]),
    ({"numeric": [">=", -5.5, "<", -1]}, [-5.5, -2], [-1, -5.6, 0, 2]),
    ({"numeric": [">=", 2**53]}, [2**53, 2**53 + 2, 2.0**60], [2**53 + 1, 2**53 - 1]),
    ({"numeric": ["=", 2**53 + 1]}, [], [2**53, 2**53 + 1, 2**53 + 2]),
    # exists
    ({"exists": True}, ["", "x", 0, None, False, [1], [None], [[1]]], [[], {}, {"x": 1}, [[]], [{}]]),
    ({"exists": False}, [[], {}, {"x": 1}, [[]]], ["", 0, None, False, [1], [None], ["a", {}]]),
    # cidr
    (
        {"cidr": "10.0.0.0/24"},
        ["10.0.0.0", "10.0.0.255", "010.0.0.7", "::ffff:10.0.0.7", ["x", "10.0.0.9"]],
        ["10.0.1.0", "9.255.255.255", "10.0.0", "10.0.0.0/24", "10.0.0.256", "", "x", 123, None, True, []],
    ),
    ({"cidr": "10.0.0.77/24"}, ["10.0.0.1"], ["10.0.1.77"]),
    ({"cidr": "0.0.0.0/0"}, ["1.2.3.4", "255.255.255.255"], ["::1", "x"]),
    ({"cidr": "10.0.0.0/31"}, ["10.0.0.0", "10.0.0.1"], ["10.0.0.2"]),
    ({"cidr": "2001:db8::/32"}, ["2001:db8::1", "2001:DB8:ffff::"], ["2001:db9::1", "10.0.0.1", "2001:db8", None]),
    ({"cidr": "::ffff:0:0/96"}, ["::ffff:1.2.3.4"], ["::1"]),
]

MISSING: list[tuple[list[Any], bool]] = [
    ([None], False),
    ([""], False),
    ([0], False),
    ([False], False),
    ([{"anything-but": "x"}], False),
    ([{"anything-but": [1]}], False),
    ([{"anything-but": {"prefix": "x"}}], False),
    ([{"prefix": ""}], False),
    ([{"suffix": ""}], False),
    ([{"wildcard": "*"}], False),
    ([{"numeric": ["<", 5]}], False),
    ([{"exists": True}], False),
    ([{"exists": False}], True),
    ([{"exists": False}, "x"], True),
    (["x", {"exists": False}], True),
    ([{"exists": False}, {"anything-but": ["x"]}], True),
    ([{"cidr": "0.0.0.0/0"}], False),
    ([{"exists": True}, {"exists": False}], True),
]
"""What a field that is not there matches."""

PATTERNS: list[tuple[Any, list[Any], list[Any]]] = [
    ({"a": ["x", 1, None, {"prefix": "p"}]}, [{"a": "x"}, {"a": 1.0}, {"a": None}, {"a": "pq"}], [{"a": "q"}, {}]),
    ({"a": ["x"], "b": [1]}, [{"a": "x", "b": 1, "c": 2}], [{"a": "x"}, {"b": 1}, {"a": "x", "b": 2}]),
    (
        {"a": {"b": {"c": [1]}}},
        [
            {"a": {"b": {"c": 1}}},
            {"a.b.c": 1},
            {"a.b": {"c": 1}},
            {"a": {"b.c": 1}},
            {"a": [{"b": [{"c": [0, 1]}]}]},
            {"a": {"b": {"c": 2}}, "a.b.c": 1},
            {"a": {"b": {"c": 2}}, "a.b": {"c": 1}},
        ],
        [
            {"a": {"b": 1}},
            {"a": {"c": 1}},
            {"a": None},
            {"a": "b"},
            {"a": {"b.c": {"c": 1}}},
            {"a": {"b": "c"}},
            {"a": []},
        ],
    ),
    ({"a.b": [1]}, [{"a": {"b": 1}}, {"a.b": 1}], [{"a": 1}, {"b": 1}]),
    (
        {"a": {"b": [{"exists": False}]}},
        [{}, {"a": None}, {"a": 1}, {"a": {}}, {"a": {"b": {}}}, {"a": {"b": []}}, {"a": []}, {"a": [{"c": 1}]}],
        [{"a": {"b": None}}, {"a.b": 1}, {"a": [{"c": 1}, {"b": 1}]}],
    ),
    (
        {"a": {"b": [{"exists": False}], "c": [1]}},
        [{"a": {"c": 1}}, {"a": [{"c": 1}, {"d": 1}]}],
        [{"a": [{"c": 1}, {"b": 1}]}, {}],
    ),
    (
        {"e": {"f": ["A"], "l": ["J"]}},
        [
            {"e": {"f": "A", "l": "J"}},
            {"e": [{"f": "A", "l": "J"}]},
            {"e": [{"f": "B"}, {"f": ["A"], "l": ["x", "J"]}]},
            {"e": [[{"f": "A", "l": "J"}]]},
        ],
        [
            {"e": [{"f": "A"}, {"l": "J"}]},
            {"e": [{"f": "A", "l": "S"}, {"f": "B", "l": "J"}]},
            {"e": [[{"f": "A"}], [{"l": "J"}]]},
        ],
    ),
    (
        {"e": {"i": {"x": [1]}, "y": [2]}},
        [{"e": [{"i": [{"x": 0}, {"x": 1}], "y": 2}]}, {"e": {"i": {"x": 1}, "y": 2}}],
        [{"e": [{"i": [{"x": 1}], "y": 0}, {"i": [{"x": 0}], "y": 2}]}],
    ),
    (
        {"e": {"x": [1]}, "f": {"x": [1]}},
        [{"e": [{"x": 0}, {"x": 1}], "f": [{"x": 1}]}],
        [{"e": [{"x": 1}], "f": [{"x": 0}]}],
    ),
    (
        {"$or": [{"a": [1]}, {"b": [2]}]},
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 2}, {"a": 0, "b": 2}],
        [{}, {"a": 2, "b": 1}],
    ),
    ({"c": [9], "$or": [{"a": [1]}, {"b": [2]}]}, [{"a": 1, "c": 9}, {"b": 2, "c": 9}], [{"a": 1}, {"c": 9}]),
    (
        {"d": {"$or": [{"a": [1]}, {"b": [2]}], "c": [9]}},
        [{"d": {"a": 1, "c": 9}}, {"d": {"b": 2, "c": 9}}],
        [{"a": 1, "d": {"c": 9}}, {"d": {"a": 1}}],
    ),
    (
        {"$or": [{"a": [1], "b": [1]}, {"$or": [{"c": [1]}, {"d": [1]}]}]},
        [{"a": 1, "b": 1}, {"c": 1}, {"d": 1}],
        [{"a": 1}, {"b": 1}],
    ),
    (
        {"e": {"$or": [{"a": [1]}, {"b": [1]}], "c": [1]}},
        [{"e": [{"b": 1, "c": 1}]}, {"e": [{"a": 1}, {"a": 1, "c": 1}]}],
        [{"e": [{"a": 1}, {"c": 1}]}],
    ),
    # `$or` that does not qualify is a field
    ({"$or": ["x"]}, [{"$or": "x"}], [{"x": 1}, {}]),
    ({"$or": [{"prefix": "a"}, {"suffix": "z"}]}, [{"$or": "ab"}, {"$or": "z"}], [{"$or": "m"}, {"prefix": "a"}]),
    ({"$or": {"a": [1]}}, [{"$or": {"a": 1}}], [{"a": 1}]),
    ({"$or": [{"exists": True}]}, [{"$or": 1}], [{}]),
    # of two leaves with one path the later counts
    ({"a": {"b": [1]}, "a.b": [2]}, [{"a": {"b": 2}}], [{"a": {"b": 1}}]),
    ('{"a":[1],"a":[2]}', [{"a": 2}], [{"a": 1}]),
    ({"d": {"k": [1]}}, [{"d": {"k": 1}}], [{"d": '{"k":1}'}]),
    ({"": ["x"]}, [{"": "x"}], [{"x": ""}]),
    ({"A": [1]}, [{"A": 1}], [{"a": 1}]),
    ({"a": [1]}, [], [[{"a": 1}], "a", 1, None, True, [1]]),
]

REFUSED: list[tuple[Any, str, str]] = [
    ({}, "", "empty object"),
    ([], "", "is an object"),
    (None, "", "is an object"),
    (7, "", "is an object"),
    ("{", "", "not JSON"),
    ('"x"', "", "is an object"),
    ("[]", "", "is an object"),
    ({1: ["x"]}, "", "names are strings"),
    ({"k": "v"}, "k", "object or an array"),
    ({"k": 4}, "k", "object or an array"),
    ({"k": None}, "k", "object or an array"),
    ({"k": True}, "k", "object or an array"),
    ({"k": []}, "k", "empty array"),
    ({"k": {}}, "k", "empty object"),
    ({"a": {"b": {}}}, "a.b", "empty object"),
    ({"a": {"b": []}}, "a.b", "empty array"),
    ({"k": [["x"]]}, "k", "no matcher"),
    ({"k": [{}]}, "k", "exactly one operator, not 0"),
    ({"k": [{"prefix": "a", "suffix": "b"}]}, "k", "not 2"),
    ({"k": [{"PREFIX": "a"}]}, "k.PREFIX", "unrecognized"),
    ({"k": [{"Exists": True}]}, "k.Exists", "unrecognized"),
    ({"k": [{"regex": "a"}]}, "k.regex", "unrecognized"),
    ({"k": [float("nan")]}, "k", "no JSON number"),
    ({"k": [{"exactly": 1}]}, "k.exactly", "a string"),
    ({"k": [{"exactly": ["a"]}]}, "k.exactly", "a string"),
    ({"k": [{"prefix": None}]}, "k.prefix", "a string"),
    ({"k": [{"prefix": ["a"]}]}, "k.prefix", "a string"),
    ({"k": [{"suffix": 1}]}, "k.suffix", "a string"),
    ({"k": [{"prefix": {"wildcard": "a"}}]}, "k.prefix", "a string or"),
    ({"k": [{"prefix": {"equals-ignore-case": 1}}]}, "k.prefix.equals-ignore-case", "a string"),
    ({"k": [{"suffix": {"equals-ignore-case": ["a"]}}]}, "k.suffix.equals-ignore-case", "a string"),
    ({"k": [{"equals-ignore-case": {"a": "b"}}]}, "k.equals-ignore-case", "a string"),
    ({"k": [{"wildcard": 1}]}, "k.wildcard", "a string"),
    ({"k": [{"wildcard": ["a"]}]}, "k.wildcard", "a string"),
    ({"k": [{"wildcard": "**"}]}, "k.wildcard", "two stars"),
    ({"k": [{"wildcard": "a\\"}]}, "k.wildcard", "escapes"),
    ({"k": [{"wildcard": "\\a"}]}, "k.wildcard", "escapes"),
    ({"k": [{"exists": 1}]}, "k.exists", "true or false"),
    ({"k": [{"exists": None}]}, "k.exists", "true or false"),
    ({"k": [{"exists": [True]}]}, "k.exists", "true or false"),
    ({"k": [{"numeric": []}]}, "k.numeric", "takes [operator"),
    ({"k": [{"numeric": "x"}]}, "k.numeric", "takes [operator"),
    ({"k": [{"numeric": [">", 1, "<"]}]}, "k.numeric", "takes [operator"),
    ({"k": [{"numeric": ["!=", 1]}]}, "k.numeric", "none of"),
    ({"k": [{"numeric": [1, ">"]}]}, "k.numeric", "none of"),
    ({"k": [{"numeric": [">", True]}]}, "k.numeric", "not a number"),
    ({"k": [{"numeric": [">", None]}]}, "k.numeric", "not a number"),
    ({"k": [{"numeric": ["<", 1, ">", 0]}]}, "k.numeric", "a range"),
    ({"k": [{"numeric": [">", 1, "=", 2]}]}, "k.numeric", "a range"),
    ({"k": [{"numeric": [">=", 2, "<=", 2]}]}, "k.numeric", "exceed"),
    ({"k": [{"numeric": [">", 1, "<", 3, "<", 4]}]}, "k.numeric", "takes [operator"),
    ({"k": [{"anything-but": True}]}, "k.anything-but", "one kind"),
    ({"k": [{"anything-but": [None]}]}, "k.anything-but", "one kind"),
    ({"k": [{"anything-but": ["a", 1]}]}, "k.anything-but", "one kind"),
    ({"k": [{"anything-but": [["a"]]}]}, "k.anything-but", "one kind"),
    ({"k": [{"anything-but": {}}]}, "k.anything-but", "one of"),
    ({"k": [{"anything-but": {"cidr": "::/8"}}]}, "k.anything-but", "one of"),
    ({"k": [{"anything-but": {"prefix": []}}]}, "k.anything-but.prefix", "empty list"),
    ({"k": [{"anything-but": {"suffix": ["a", ""]}}]}, "k.anything-but.suffix", "empty string"),
    ({"k": [{"anything-but": {"prefix": 1}}]}, "k.anything-but.prefix", "a string"),
    ({"k": [{"anything-but": {"prefix": {"equals-ignore-case": "a"}}}]}, "k.anything-but.prefix", "a string"),
    ({"k": [{"anything-but": {"wildcard": "**"}}]}, "k.anything-but.wildcard", "two stars"),
    ({"k": [{"anything-but": {"anything-but": "a"}}]}, "k.anything-but", "one of"),
    ({"k": [{"cidr": 1}]}, "k.cidr", "a string"),
    ({"k": [{"cidr": "10.0.0.0/"}]}, "k.cidr", "an address and"),
    ({"k": [{"cidr": "10.0.0.0/-1"}]}, "k.cidr", "an address and"),
    ({"k": [{"cidr": "10.0.0.0/a"}]}, "k.cidr", "an address and"),
    ({"k": [{"cidr": "10.0.0.0/8/8"}]}, "k.cidr", "an address and"),
    ({"k": [{"cidr": "10.0.0.0/33"}]}, "k.cidr", ""),
    ({"k": [{"cidr": "10.0.0.0/32"}]}, "k.cidr", "at most 31"),
    ({"k": [{"cidr": "::/128"}]}, "k.cidr", "at most 127"),
    ({"k": [{"cidr": "x/8"}]}, "k.cidr", "no IPv4 or IPv6"),
    ({"k": [{"cidr": "10.0.0.256/8"}]}, "k.cidr", "no IPv4 or IPv6"),
    ({"$or": [{"a": [1]}]}, "$or.a", "unrecognized"),
    ({"$or": [{"a": [1]}, {}]}, "$or.a", "unrecognized"),
    ({"$or": []}, "$or", "empty array"),
    ({"$or": "x"}, "$or", "object or an array"),
    ({"$or": [{"a": [1]}, {"b": "x"}]}, "$or[1].b", "object or an array"),
    ({"d": {"$or": [{"a": [{"prefix": 1}]}, {"b": [1]}]}}, "d.$or[0].a.prefix", "a string"),
    ({"$or": [{"a": [1]}, {"date-after": [1]}]}, "$or.a", "unrecognized"),
    ({"k": ["x" * 4096]}, "", "at most 4,096"),
    ({f"k{at}": {"$or": [{"a": [1]}, {"b": [1]}]} for at in range(10)}, "k9", "more than 1,000"),
]

CASES = [
    *[(matcher, value, True) for matcher, matching, _ in VALUES for value in matching],
    *[(matcher, value, False) for matcher, _, others in VALUES for value in others],
]
WHOLE = [
    *[(pattern, event, True) for pattern, matching, _ in PATTERNS for event in matching],
    *[(pattern, event, False) for pattern, _, others in PATTERNS for event in others],
]


def test_there_are_five_hundred_cases() -> None:
    written = [*map(repr, CASES), *map(repr, WHOLE), *map(repr, MISSING), *(repr(case[0]) for case in REFUSED)]
    assert len(set(written)) >= 500


def _agrees(pattern: Any, event: Any, expected: bool) -> None:
    compiled = Pattern(pattern)
    assert compiled.matches(event) is expected
    explained = compiled.explain(event)
    assert explained.matched is expected
    assert explained.reason


@pytest.mark.parametrize(("matcher", "value", "expected"), CASES, ids=str)
def test_a_matcher_and_a_value(matcher: Any, value: Any, expected: bool) -> None:
    for pattern, event in (
        ({"k": [matcher]}, {"k": value}),
        ({"o": {"k": [matcher]}}, {"o": {"k": value}}),
        ({"o": {"p": {"k": [matcher]}}}, {"o": {"p": {"k": value}}}),
        ({"o": {"k": [matcher]}}, {"o": [{"k": value}]}),
    ):
        _agrees(pattern, event, expected)


@pytest.mark.parametrize(("matchers", "expected"), MISSING, ids=str)
def test_a_field_that_is_not_there(matchers: list[Any], expected: bool) -> None:
    events: list[Any] = [{}, {"K": 1}, {"o": 1}, {"o": {}}, {"o": []}]
    for event in events:
        _agrees({"k": matchers}, event, expected)
        _agrees({"o": {"k": matchers}}, event, expected)


@pytest.mark.parametrize(("pattern", "event", "expected"), WHOLE, ids=str)
def test_a_pattern_and_an_event(pattern: Any, event: Any, expected: bool) -> None:
    _agrees(pattern, event, expected)


@pytest.mark.parametrize(("pattern", "path", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused_with_the_path_to_the_fault(pattern: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidPatternError) as refused:
        Pattern(pattern)
    if path == "k9":
        assert refused.value.path.startswith("k9")
    else:
        assert refused.value.path == path
    assert reason in refused.value.reason


def test_a_pattern_is_not_nested_without_bound() -> None:
    deep: Any = {"k": [1]}
    for _ in range(101):
        deep = {"a": deep}
    with pytest.raises(InvalidPatternError, match="deeper than 100"):
        Pattern(deep)
    event: Any = 1
    for _ in range(20_000):
        event = [event]
    assert Pattern({"k": [1]}).matches({"k": event})
