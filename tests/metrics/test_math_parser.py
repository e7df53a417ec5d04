"""How the text of metric math is read, and where its faults are."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError
from streamkit.metrics.expression import MathExpression
from streamkit.metrics.math_functions import FUNCTIONS, REFUSED
from streamkit.metrics.math_kinds import METRIC
from streamkit.metrics.math_parser import (
    MAX_DEPTH,
    Call,
    Chain,
    Id,
    Listing,
    Negative,
    Node,
    Number,
    Text,
    Word,
    parsed,
)
from streamkit.metrics.math_series import Series, TimeRange
from streamkit.metrics.math_tokens import MAX_CHARACTERS


def bracketed(node: Node) -> str:
    """The tree, with parentheses around every operation."""
    match node:
        case Number():
            return f"{node.value:g}"
        case Text():
            return f'"{node.value}"'
        case Id() | Word():
            return node.value
        case Listing():
            return f"[{', '.join(map(bracketed, node.items))}]"
        case Negative():
            return f"(-{bracketed(node.operand)})"
        case Call():
            return f"{node.name}({', '.join(map(bracketed, node.arguments))})"
        case Chain():
            text = bracketed(node.first)
            for step in node.steps:
                text = f"({text} {step.operator} {bracketed(step.operand)})"
            return text


TREES = {
    "m1": "m1",
    "a+b*c": "(a + (b * c))",
    "a*b+c": "((a * b) + c)",
    "a-b-c": "((a - b) - c)",
    "a/b*c": "((a / b) * c)",
    "a^b^c": "(a ^ (b ^ c))",
    "-a^b": "(-(a ^ b))",
    "a^-b": "(a ^ (-b))",
    "a^-b^c": "(a ^ (-(b ^ c)))",
    "-a*b": "((-a) * b)",
    "a*-b": "(a * (-b))",
    "a--b": "(a - (-b))",
    "---a": "(-(-(-a)))",
    "a<b+c": "(a < (b + c))",
    "a AND b OR c": "((a AND b) OR c)",
    "a OR b AND c": "(a OR (b AND c))",
    "a||b&&c": "(a OR (b AND c))",
    "a<1 AND b>=2 AND c!=3": "(((a < 1) AND (b >= 2)) AND (c != 3))",
    "(a<b)==(c<d)": "((a < b) == (c < d))",
    "(a+b)*c": "((a + b) * c)",
    "[a,b]/c": "([a, b] / c)",
    "AVG( a )": "AVG(a)",
    "METRICS()": "METRICS()",
    "METRICS('4xx')": 'METRICS("4xx")',
    'METRICS("it\'s")': 'METRICS("it\'s")',
    "SORT(METRICS(),AVG,DESC,10)": "SORT(METRICS(), AVG, DESC, 10)",
    "\ta\n+\r\nb ": "(a + b)",
    "1.5+.5+2.": "((1.5 + 0.5) + 2)",
    "aND+oR": "(aND + oR)",
    "m_1A": "m_1A",
}


@pytest.mark.parametrize("text", TREES)
def test_operators_bind_as_documented(text: str) -> None:
    assert bracketed(parsed(text)) == TREES[text]


FAULTS: dict[str, tuple[int, str]] = {
    # Characters and words.
    "": (0, "it is empty"),
    "   ": (0, "it is empty"),
    "a $ b": (2, "unexpected '$'"),
    "a = b": (2, "compare with =="),
    "a ! b": (2, "compare with !="),
    "a & b": (2, "write && or AND"),
    "a | b": (2, "write || or OR"),
    "a % b": (2, "unexpected '%'"),
    "_a": (0, "an id starts with a lower-case letter"),
    'METRICS("a)': (8, "this string has no end"),
    "METRICS('a)": (8, "this string has no end"),
    "METRICS(“a”)": (8, "straight quotes"),
    "2m1": (1, "a number ends here"),
    "1.2.3": (3, "a number ends here"),
    "a + 1e3": (5, "a number ends here"),
    "é": (0, "unexpected 'é'"),
    f"a + {'9' * 400}": (4, "this number is too large"),
    # Grammar.
    "a +": (3, "expected a number, an id, a function, '(' or '[', not the end"),
    "+ a": (0, "expected a number"),
    "a b": (2, "expected an operator or the end, not 'b'"),
    "a 5": (2, "expected an operator or the end, not '5'"),
    "(a": (2, "expected ')' to close the parenthesis, not the end"),
    "a)": (1, "expected an operator or the end, not ')'"),
    "()": (1, "expected a number"),
    "[a": (2, "expected ']' or ',', not the end"),
    "[a,": (3, "expected a number"),
    "[a,]": (3, "expected a number"),
    "[]": (1, "expected a number"),
    "SUM([a, b)": (9, "expected ']' or ',', not ')'"),
    "AVG(a": (5, "expected ')' or ',', not the end"),
    "AVG(a,)": (6, "expected a number"),
    "AVG(a b)": (6, "expected ')' or ','"),
    "a AND": (5, "expected a number"),
    "AND a": (0, "expected a number"),
    "OR": (0, "expected a number"),
    "a and b": (2, "write AND in capitals"),
    "a or b": (2, "write OR in capitals"),
    "a < b < c": (6, "compare two at a time"),
    "a == b > c": (7, "compare two at a time"),
    "a ** b": (3, "expected a number"),
    "a ^ ^ b": (4, "expected a number"),
    # Names.
    "avg(a)": (0, "functions are written in capitals: AVG"),
    "Avg(a)": (0, "functions are written in capitals, AVG"),
    "MEDIAN(a)": (0, "unknown function 'MEDIAN'"),
    "a + MEDIAN(a)": (4, "unknown function 'MEDIAN'"),
    "M1": (0, "unknown word 'M1': an id starts with a lower-case letter"),
    "ABS": (0, "ABS is a function"),
    "AVG": (0, "this is the word AVG"),
    "REPEAT": (0, "this is the word REPEAT"),
    "FILL(a, NEXT)": (8, "unknown word 'NEXT'"),
    # Arguments.
    "ABS()": (0, "ABS takes (TS) or (TS[]), not 0 arguments"),
    "ABS(a, b)": (0, "ABS takes (TS) or (TS[]), not 2 arguments"),
    "a + ABS(5)": (8, "ABS takes (TS) or (TS[]), and this is a scalar"),
    "ABS('a')": (4, "this is a string"),
    "ABS(REPEAT)": (4, "this is the word REPEAT"),
    "a + AVG(AVG([a]) + 1) + AVG(AVG(a + 1))": (28, "this is a scalar"),
    "FILL(a)": (0, "not 1 arguments"),
    "FILL(a, ASC)": (8, "this is the word ASC"),
    "FILL(a, [b])": (8, "this is an array of time series"),
    "FILL(5, 1)": (5, "this is a scalar, of which TIME_SERIES(...) makes one"),
    "IF(a)": (0, "not 1 arguments"),
    "IF([a], 1, 2)": (3, "this is an array of time series"),
    "IF(a, [a], 2)": (6, "this is an array of time series"),
    "IF(a, 1, [a])": (9, "this is an array of time series"),
    "IF(1, 2, 3)": (6, "of which TIME_SERIES(...) makes one"),
    "IF(1, a, 3)": (9, "of which TIME_SERIES(...) makes one"),
    "METRICS(a)": (8, "METRICS takes () or (text)"),
    "METRICS(5)": (8, "METRICS takes () or (text)"),
    "PERIOD(a + b) * a": (7, "PERIOD takes (metric)"),
    "PERIOD(METRICS()) * a": (7, "PERIOD takes (metric)"),
    "a / METRIC_COUNT(a + a)": (17, "METRIC_COUNT takes (TS[])"),
    "TIME_SERIES(a)": (12, "TIME_SERIES takes (S)"),
    "DAY([a])": (4, "DAY takes (TS)"),
    "SORT([a], STDDEV, ASC)": (10, "STDDEV is a function"),
    "SORT([a], REPEAT, ASC)": (10, "this is the word REPEAT"),
    "SORT([a], AVG)": (0, "not 2 arguments"),
    "SORT([a], AVG, UP)": (15, "unknown word 'UP'"),
    "SORT([a], AVG, MAX)": (15, "this is the word MAX"),
    "SORT([a], 5, ASC)": (10, "this is a scalar"),
    "SORT([a], AVG, ASC, [a])": (20, "this is an array of time series"),
    "SLICE(a + 1, 1)": (6, "SLICE takes (TS[], S)"),
    "SLICE([a], b)": (11, "SLICE takes"),
    "REMOVE_EMPTY(-a + 1)": (13, "REMOVE_EMPTY takes (TS[])"),
    "FIRST(a + 1)": (6, "FIRST takes (TS[])"),
    "[a, 5]": (4, "an array holds time series, and this is a scalar"),
    "['a']": (1, "an array holds time series, and this is a string"),
    "[REPEAT]": (1, "an array holds time series, and this is the word REPEAT"),
    # Operands.
    "[a] + [b]": (4, "+ does not work between an array of time series and an array of time series"),
    "METRICS() / METRICS()": (10, "make a time series of an array first"),
    "METRICS() > 5": (10, "> does not work between an array of time series and a scalar"),
    "a AND [b]": (2, "AND does not work"),
    "a + 'b'": (2, "+ does not work between"),
    "a * REPEAT": (2, "the word REPEAT"),
    "a + b + 'c'": (6, "a string"),
    "-'a'": (0, "- takes a number or time series, not a string"),
    # What is left.
    "5": (0, "the result must be a time series or an array of them, and this is a scalar"),
    "-5": (0, "this is a scalar"),
    "1 + 2": (0, "this is a scalar"),
    "'a'": (0, "this is a string"),
    "  METRIC_COUNT([a])": (2, "this is a scalar"),
    "PERIOD(a)": (0, "this is a scalar"),
}


@pytest.mark.parametrize("text", FAULTS, ids=lambda text: text[:40])
def test_a_fault_has_its_place(text: str) -> None:
    position, reason = FAULTS[text]
    with pytest.raises(ExpressionError) as raised:
        MathExpression(text).kinds(dict.fromkeys("abc", METRIC))
    assert reason in raised.value.reason
    assert raised.value.position == position
    assert raised.value.expression == text


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_says_so(name: str) -> None:
    for text in (f"{name}('{{AWS/SQS,QueueName}} Sent', 'Sum', 300)", f"a + {name}(a, 2)", f"{name}"):
        with pytest.raises(ExpressionError, match=f"{name} is not supported: ") as raised:
            MathExpression(text)
        assert raised.value.position == text.index(name)
    assert name not in FUNCTIONS


# ---- limits


def test_an_expression_has_a_longest_length() -> None:
    longest = "a" + "+1" * ((MAX_CHARACTERS - 1) // 2) + " "
    assert len(longest) == MAX_CHARACTERS
    found = MathExpression(longest).evaluate({"a": Series(1000, {0: 1.0})}, TimeRange(0, 1000))
    assert isinstance(found, Series)
    assert found.points == {0: 1024.0}
    with pytest.raises(ExpressionError, match="at most 2,048 characters, not 2,049"):
        MathExpression(longest + " ")


@pytest.mark.parametrize(
    ("opening", "closing"), [("(", ")"), ("-", ""), ("a^", ""), ("SUM([a,", "])"), ("ABS(", ")"), ("1+a*(", ")")]
)
def test_depth_has_an_end(opening: str, closing: str) -> None:
    levels = opening.count("(") + opening.count("[") or 1
    deepest = MAX_DEPTH // levels
    text = opening * deepest + "a" + closing * deepest
    MathExpression(text).evaluate({"a": Series(1000, {0: 1.0})}, TimeRange(0, 1000))
    with pytest.raises(ExpressionError, match="nested more than 40 deep"):
        MathExpression(opening * (deepest + 1) + "a" + closing * (deepest + 1))


def test_the_deepest_expression_of_all_operators_is_within_pythons_recursion() -> None:
    level = "a OR a AND a > a + a * -"
    # A sign and a parenthesis are two.
    depth = MAX_DEPTH // 2
    text = (level + "(") * depth + "a" + ")" * depth
    found = MathExpression(text).evaluate({"a": Series(1000, {0: 1.0})}, TimeRange(0, 1000))
    assert isinstance(found, Series)


# ---- what an expression needs


@pytest.mark.parametrize(
    ("text", "ids", "metrics"),
    [
        ("m1 + m2 * m1", ("m1", "m2"), ()),
        ("IF(b > -a, SUM([c, d]), e ^ f)", ("b", "a", "c", "d", "e", "f"), ()),
        ("TIME_SERIES(1)", (), ()),
        ("SUM(METRICS())", (), ("",)),
        ('SUM([METRICS("4xx"), METRICS("5xx"), METRICS("4xx")]) / all', ("all",), ("4xx", "5xx")),
        ("FILL(m1, REPEAT) + LAST(SORT([m2], AVG, ASC))", ("m1", "m2"), ()),
    ],
)
def test_an_expression_says_what_it_needs(text: str, ids: tuple[str, ...], metrics: tuple[str, ...]) -> None:
    expression = MathExpression(text)
    assert expression.ids == ids
    assert expression.metrics == metrics


def test_an_unknown_id_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ExpressionError, match="there is no 'm2' among the ids: there are m1, e1") as raised:
        MathExpression("m1 + m2").evaluate({"m1": Series(1000)}, TimeRange(0, 1000), {"e1": Series(1000)})
    assert raised.value.position == 5


def test_ids_are_used_as_what_they_are() -> None:
    """What is not known when an expression is made is looked at when it is evaluated."""
    array = (Series(1000, {0: 1.0}), Series(1000, {0: 2.0}))
    expression = MathExpression("AVG(x)")
    within = TimeRange(0, 1000)
    assert expression.evaluate({}, within, {"x": array}) == Series(1000, {0: 1.5})
    with pytest.raises(ExpressionError, match="this is a scalar"):
        expression.evaluate({"x": array[0]}, within)
    assert expression.kinds({"x": frozenset({"TS[]"})}) == {"TS"}
    period = MathExpression("x / PERIOD(x)")
    assert period.evaluate({"x": array[0]}, within) == Series(1000, {0: 1.0})
    with pytest.raises(ExpressionError, match=r"PERIOD takes \(metric\), and this is a time series"):
        period.evaluate({}, within, {"x": array[0]})


# ---- whatever is typed


_WORDS = st.sampled_from(
    [
        *("m1", "m2", "5", ".5", "(", ")", "[", "]", ",", "+", "-", "*", "/", "^", "<", "==", "AND", "||", '"x"', "'"),
        *("AVG", "ASC", "REPEAT", "FILL(", "IF(", "SORT(", "METRICS(", "SEARCH(", "PERIOD(", "é", "_", " "),
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_WORDS, max_size=25).map("".join), st.lists(_WORDS).map(" ".join)))
@example("((((((((")
@example("[[[[")
@example("IF(m1, m2")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    fault = fault_of(text)
    if fault is None:
        assert MathExpression(text).kinds({}) <= {"TS", "TS[]"}
    else:
        assert 0 <= fault.position <= len(text)
        assert fault.reason


def fault_of(text: str) -> ExpressionError | None:
    try:
        MathExpression(text)
    except ExpressionError as error:
        return error
    return None
