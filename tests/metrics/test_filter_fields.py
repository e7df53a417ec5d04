"""Patterns on space-delimited lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError
from streamkit.metrics.filter_pattern import FilterPattern

LOG = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'
GET = "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200"
POST = "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310"
WARNING = "WARNING 09/25/2014 12:00:02 Invalid user request"
ERROR = "ERROR 09/25/2014 12:00:02 Failed to process request"
LINES = (LOG, GET, POST, WARNING, ERROR)

FIELDS: dict[str, tuple[str, ...]] = {
    r"[ip=%127\.0\.0\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]": (LOG,),
    r"[ip=%127\.0\.1\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]": (),
    "[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]": (LOG,),
    "[..., request =*.html*, status_code = 4*, bytes]": (LOG,),
    "[..., request =*.php*, status_code = 4*, bytes]": (),
    "[ip, user, username, timestamp, request =*.html*, status_code = 404 || status_code = 410, bytes]": (LOG,),
    "[ip, user, username, timestamp, request =*.html*, status_code = 400 || status_code = 410, bytes]": (),
    "[w1=ERROR, w2]": (ERROR,),
    "[w1=ERROR || w1=WARNING, w2]": (WARNING, ERROR),
    "[(w1=ERROR || w1=WARNING), w2]": (WARNING, ERROR),
    "[w1!=ERROR && w1!=WARNING, w2]": (LOG, GET, POST),
    "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]": (GET,),
    "[logLevel, date, time, method, url=%/service/resource/[0-9]+/part/[0-9]+$%, response_time]": (POST,),
    "[]": LINES,
    "[...]": LINES,
    "[all]": LINES,
    "[a, ...]": LINES,
    "[w1=ERROR]": (),
    "[w1=ERROR, ...]": (ERROR,),
    "[..., bytes>1300]": (LOG, POST),
    "[..., bytes>=1310]": (LOG, POST),
    "[..., bytes<1310]": (GET,),
    "[..., bytes<=1310 && bytes>1200]": (POST,),
    "[..., last=1.2e3]": (GET,),
    "[..., last!=1200 && last!=request]": (LOG, POST),
    "[a, b, c, d, e, f, g]": (LOG, ERROR),
    '[..., request="GET /index.html HTTP/1.0", a, b]': (LOG,),
    '[..., request="GET *", a, b]': (LOG,),
    "[level=INFO, ..., method=POST, url, took]": (POST,),
    "[level=INFO, ..., method=get, url, took]": (),
    "[a=1, b=2, c=3]": (),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("pattern", FIELDS)
def test_fields_match_as_documented(pattern: str, line: str) -> None:
    assert (FilterPattern(pattern).match(line) is not None) == (line in FIELDS[pattern])


TIME, REQUEST = "10/Oct/2000:13:25:15 -0700", "GET /index.html HTTP/1.0"


@pytest.mark.parametrize(
    ("pattern", "line", "values"),
    [
        (
            "[ip, user, username, timestamp, request, status_code, bytes]",
            LOG,
            {
                "$ip": "127.0.0.1",
                "$user": "Prod",
                "$username": "frank",
                "$timestamp": TIME,
                "$request": REQUEST,
                "$status_code": "404",
                "$bytes": "1534",
            },
        ),
        (
            "[]",
            LOG,
            {
                "$1": "127.0.0.1",
                "$2": "Prod",
                "$3": "frank",
                "$4": TIME,
                "$5": REQUEST,
                "$6": "404",
                "$7": "1534",
            },
        ),
        ("[ip, ..., bytes]", "a b c d", {"$ip": "a", "$2": "b", "$3": "c", "$bytes": "d"}),
        ("[ip, ...]", "a b c", {"$ip": "a", "$2": "b", "$3": "c"}),
        ("[..., bytes]", "a", {"$bytes": "a"}),
        ("[a, ..., b]", "a", None),
        ("[a, b]", "a", None),
        ("[a]", "", None),
        ("[]", "", {}),
        ("[level, rest]", 'ERROR  it is "not there" [x] ', {"$level": "ERROR", "$rest": 'it is "not there" [x]'}),
        ("[level, rest]", 'ERROR "not there" ', {"$level": "ERROR", "$rest": "not there"}),
        ("[a, b, c]", 'x "open end', {"$a": "x", "$b": '"open', "$c": "end"}),
        ("[a, b]", 'x="1 2" y', {"$a": 'x="1', "$b": '2" y'}),
        ("[a, b]", '"" []', {"$a": "", "$b": ""}),
        ("[a, b]", "\t x \t y \n", {"$a": "x", "$b": "y"}),
    ],
)
def test_fields_are_extracted(pattern: str, line: str, values: dict[str, str] | None) -> None:
    match = FilterPattern(pattern).match(line)
    assert (None if match is None else match.values) == values


def test_the_names_of_a_pattern_are_told() -> None:
    assert FilterPattern("[ip, ..., status=4*, bytes]").names == ("ip", "status", "bytes")


@pytest.mark.parametrize(
    ("pattern", "position", "reason"),
    [
        ("[", 1, "a field's name or ... must be here, found the end of the pattern"),
        ("[a", 2, "a comma or the closing ]"),
        ("[a,", 3, "a field's name or ..."),
        ("[a,]", 3, "a field's name or ..."),
        ("[,a]", 1, "a field's name or ..."),
        ("[a b]", 3, "an operator must follow"),
        ("[a=]", 3, "a value must follow"),
        ("[a=1 b]", 5, "a comma or the closing ]"),
        ("[a=1 && b=2]", 8, "conditions of one field are all on 'a'"),
        ("[a, a]", 4, "field 'a' is named twice"),
        ("[..., a, ...]", 9, "at most one ellipsis"),
        ("[a>x]", 3, "> takes a number"),
        ("[a=1] b", 6, "nothing may follow"),
        ("[(a=1]", 5, "must be closed by )"),
        ("[(a)]", 3, "an operator must follow"),
        ('[a="x]', 3, "this quote has no end"),
        ("[a=%x!%]", 5, "'!' is not supported"),
        ("[a=%1%, b=%2%, c=%3%]", 17, "at most 2 regular expressions"),
    ],
)
def test_a_malformed_pattern_names_the_position(pattern: str, position: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        FilterPattern(pattern)
    assert caught.value.position == position
    assert reason in caught.value.reason


WORDS = st.lists(st.text("abc01", min_size=1, max_size=4), max_size=6)


@given(WORDS, st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_fields_equal_a_naive_split(words: list[str], head: int, tail: int, quoted: bool) -> None:
    names = [f"h{i}" for i in range(head)] + ["..."] + [f"t{i}" for i in range(tail)]
    line = "  ".join(f'"{word}"' if quoted else word for word in words)
    match = FilterPattern(f"[{', '.join(names)}]").match(line)
    if len(words) < head + tail:
        assert match is None
        return
    end = len(words) - tail
    expected = {f"$h{i}": words[i] for i in range(head)}
    expected |= {f"${i + 1}": words[i] for i in range(head, end)}
    expected |= {f"$t{i}": words[end + i] for i in range(tail)}
    assert match is not None
    assert match.values == expected
