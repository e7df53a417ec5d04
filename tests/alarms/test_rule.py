"""How rules of composite alarms are read, where their faults are, and what they say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.rule import AtLeast, Constant, InState, quoted
from streamkit.alarms.rule_parser import MAX_ALARMS, MAX_CHARACTERS, MAX_ELEMENTS, parse_rule
from streamkit.errors import ExpressionError

STATES: tuple[AlarmState, ...] = ("OK", "ALARM", "INSUFFICIENT_DATA")


def says(text: str, **states: AlarmState) -> bool:
    return parse_rule(text).decide(states).value


def deciders(text: str, **states: AlarmState) -> tuple[str, ...]:
    return parse_rule(text).decide(states).deciders


# ---- the examples of PutCompositeAlarm and of the user guide


def test_both_have_to_be_in_alarm() -> None:
    rule = "ALARM(CPUUtilizationTooHigh) AND ALARM(DiskReadOpsTooHigh)"
    assert says(rule, CPUUtilizationTooHigh="ALARM", DiskReadOpsTooHigh="ALARM")
    assert not says(rule, CPUUtilizationTooHigh="ALARM", DiskReadOpsTooHigh="OK")


def test_one_in_alarm_and_the_other_not() -> None:
    rule = "ALARM(CPUUtilizationTooHigh) AND NOT ALARM(DeploymentInProgress)"
    assert says(rule, CPUUtilizationTooHigh="ALARM", DeploymentInProgress="OK")
    assert says(rule, CPUUtilizationTooHigh="ALARM", DeploymentInProgress="INSUFFICIENT_DATA")
    assert not says(rule, CPUUtilizationTooHigh="ALARM", DeploymentInProgress="ALARM")


def test_parentheses_group() -> None:
    rule = '(ALARM("CPUUtilizationTooHigh") OR \nALARM("DiskReadOpsTooHigh")) AND \nOK("NetworkOutTooHigh")'
    assert says(rule, CPUUtilizationTooHigh="OK", DiskReadOpsTooHigh="ALARM", NetworkOutTooHigh="OK")
    assert not says(rule, CPUUtilizationTooHigh="ALARM", DiskReadOpsTooHigh="ALARM", NetworkOutTooHigh="ALARM")


def test_at_least_some_of_several() -> None:
    servers = [f"WebServer{number}CPU" for number in range(1, 5)]
    rule = parse_rule(f"AT_LEAST(2, ALARM, ({', '.join(servers)}))")
    assert rule.decide({**dict.fromkeys(servers, "OK"), "WebServer1CPU": "ALARM", "WebServer4CPU": "ALARM"}).value
    assert not rule.decide({**dict.fromkeys(servers, "OK"), "WebServer1CPU": "ALARM"}).value


def test_at_least_some_of_several_and_something_else() -> None:
    rule = "AT_LEAST(2, ALARM, (AZ1Health, AZ2Health, AZ3Health)) AND NOT ALARM(MaintenanceWindow)"
    assert says(rule, AZ1Health="ALARM", AZ2Health="OK", AZ3Health="ALARM", MaintenanceWindow="OK")
    assert not says(rule, AZ1Health="ALARM", AZ2Health="OK", AZ3Health="ALARM", MaintenanceWindow="ALARM")


# ---- the words


@pytest.mark.parametrize("state", STATES)
def test_an_alarm_is_in_one_state(state: AlarmState) -> None:
    assert [says(f"{asked}(a)", a=state) for asked in STATES] == [asked == state for asked in STATES]


def test_an_alarm_without_data_is_neither_in_alarm_nor_ok() -> None:
    assert not says("ALARM(a) OR OK(a)", a="INSUFFICIENT_DATA")


def test_keywords_have_any_case() -> None:
    assert parse_rule("alarm(a) And Not oK(b) oR at_least(1, not alarm, (c)) or true") == parse_rule(
        "ALARM(a) AND NOT OK(b) OR AT_LEAST(1, NOT ALARM, (c)) OR TRUE"
    )


def test_names_keep_their_case_and_may_be_keywords() -> None:
    assert parse_rule("ALARM(and) AND ALARM(And) AND ALARM(TRUE)").alarms == ("and", "And", "TRUE")


@pytest.mark.parametrize(
    ("reference", "name"),
    {
        "cpu": "cpu",
        "web/cpu-1.high:%": "web/cpu-1.high:%",
        'screen-13"': 'screen-13"',
        '"cpu is high (95%)"': "cpu is high (95%)",
        r'"the \"big\" one"': 'the "big" one',
        r'"C:\\"': "C:\\",
        r'"C:\temp"': r"C:\temp",
        "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:cpu": "cpu",
        '"arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:a: b"': "a: b",
        "arn:aws:sns:eu-west-1:123456789012:topic": "arn:aws:sns:eu-west-1:123456789012:topic",
    }.items(),
)
def test_a_reference_is_a_name_or_an_arn(reference: str, name: str) -> None:
    assert parse_rule(f"ALARM({reference})").alarms == (name,)
    assert parse_rule(f"AT_LEAST(1, OK, ( {reference} ))").alarms == (name,)


def test_not_binds_closest_and_or_last() -> None:
    assert str(parse_rule("ALARM(a) OR ALARM(b) AND NOT ALARM(c) OR TRUE")) == (
        "ALARM(a) OR ALARM(b) AND NOT ALARM(c) OR TRUE"
    )
    a, b, c = (InState("ALARM", name) for name in "abc")
    assert parse_rule("ALARM(a) OR ALARM(b) AND NOT ALARM(c)").steps == (a, b, c, "NOT", "AND", "OR")
    assert parse_rule("(ALARM(a) OR ALARM(b)) AND ALARM(c)").steps == (a, b, "OR", c, "AND")
    assert parse_rule("NOT (ALARM(a) AND ALARM(b))").steps == (a, b, "AND", "NOT")
    assert parse_rule("NOT ALARM(a) AND ALARM(b)").steps == (a, "NOT", b, "AND")


def test_str_has_the_parentheses_it_needs_and_no_others() -> None:
    assert str(parse_rule("((ALARM(a)) OR (ALARM(b) AND (ALARM(c))))")) == "ALARM(a) OR ALARM(b) AND ALARM(c)"
    assert str(parse_rule("ALARM(a) OR (ALARM(b) OR ALARM(c))")) == "ALARM(a) OR (ALARM(b) OR ALARM(c))"
    assert str(parse_rule("NOT (NOT TRUE)")) == "NOT (NOT TRUE)"


# ---- AT_LEAST


@pytest.mark.parametrize(
    ("threshold", "of", "needed"), [("2", 3, 2), ("50%", 3, 2), ("50%", 4, 2), ("1%", 4, 1), ("67%", 3, 3)]
)
def test_at_least_takes_a_count_or_a_percentage(threshold: str, of: int, needed: int) -> None:
    names = [f"a{number}" for number in range(of)]
    rule = parse_rule(f"AT_LEAST({threshold}, ALARM, ({', '.join(names)}))")
    for alarming in range(of + 1):
        states: dict[str, AlarmState] = {name: "ALARM" if at < alarming else "OK" for at, name in enumerate(names)}
        assert rule.decide(states).value == (alarming >= needed)


def test_at_least_may_count_those_not_in_a_state() -> None:
    rule = "AT_LEAST(2, NOT OK, (a, b, c))"
    assert says(rule, a="ALARM", b="INSUFFICIENT_DATA", c="OK")
    assert not says(rule, a="ALARM", b="OK", c="OK")
    assert parse_rule(rule).steps == (AtLeast(2, False, True, "OK", ("a", "b", "c")),)


# ---- who decided


def test_deciders_are_those_who_made_it_so() -> None:
    states: dict[str, AlarmState] = {"a": "ALARM", "b": "ALARM", "c": "OK"}
    assert deciders("ALARM(a) OR ALARM(c)", **states) == ("a",)
    assert deciders("ALARM(c) OR ALARM(b) OR ALARM(a)", **states) == ("b", "a")
    assert deciders("ALARM(a) AND ALARM(c)", **states) == ("c",)
    assert deciders("ALARM(a) AND ALARM(b)", **states) == ("a", "b")
    assert deciders("ALARM(a) AND NOT ALARM(c)", **states) == ("a", "c")
    assert deciders("NOT (ALARM(c) OR OK(a))", **states) == ("c", "a")
    assert deciders("AT_LEAST(2, ALARM, (c, b, a))", **states) == ("b", "a")
    assert deciders("AT_LEAST(3, ALARM, (c, b, a))", **states) == ("c",)
    assert deciders("ALARM(a) OR NOT OK(a)", **states) == ("a",)


def test_a_constant_that_is_enough_needs_no_alarm() -> None:
    assert deciders("TRUE OR ALARM(a)", a="ALARM") == ()
    assert deciders("ALARM(a) AND FALSE", a="OK") == ()
    assert deciders("TRUE AND ALARM(a)", a="ALARM") == ("a",)


# ---- faults

FAULTS = {
    "": (0, "empty"),
    "   ": (0, "empty"),
    "cpu": (0, "expected ALARM(...)"),
    '"ALARM"(a)': (0, "expected ALARM(...)"),
    "ALARM": (5, "expected '(' and the name of an alarm after ALARM, not the end"),
    "ALARM()": (6, "expected the name of an alarm, not ')'"),
    "ALARM(a": (7, "expected ')'"),
    "ALARM(a b)": (8, "double quotes"),
    'ALARM("")': (6, "1 to 255 characters"),
    'ALARM("a)': (6, "has no end"),
    "ALARM(a) ALARM(b)": (9, "expected AND, OR or the end, not 'ALARM'"),
    "(ALARM(a) ALARM(b))": (10, "expected AND, OR or ')', not 'ALARM'"),
    "ALARM(a) AND": (12, "expected ALARM(...)"),
    "ALARM(a) AND OR ALARM(b)": (13, "expected ALARM(...)"),
    "ALARM(a) && ALARM(b)": (9, "write AND"),
    "! ALARM(a)": (0, "write NOT"),
    "NOT NOT ALARM(a)": (4, "one NOT"),
    "(ALARM(a) OR (ALARM(b))": (0, "not closed"),
    "ALARM(a))": (8, "closes nothing"),
    "()": (1, "expected ALARM(...)"),
    "AT_LEAST(x, ALARM, (a))": (9, "a count of alarms"),
    "AT_LEAST(0, ALARM, (a))": (9, "choose 1 to 1"),
    "AT_LEAST(3, ALARM, (a, b))": (9, "of 2 alarm(s), choose 1 to 2, not 3"),
    "AT_LEAST(0%, ALARM, (a))": (9, "1% to 100%"),
    "AT_LEAST(101%, ALARM, (a))": (9, "1% to 100%"),
    "AT_LEAST(1.5, ALARM, (a))": (9, "a count of alarms"),
    "AT_LEAST(1 ALARM, (a))": (11, "expected ','"),
    "AT_LEAST(1, FALSE, (a))": (12, "ALARM, OK or INSUFFICIENT_DATA, or NOT"),
    "AT_LEAST(1, NOT, (a))": (15, "expected ALARM, OK or INSUFFICIENT_DATA, not ','"),
    "AT_LEAST(1, OK, a)": (16, "expected '('"),
    "AT_LEAST(1, OK, (a,))": (19, "expected the name"),
    "AT_LEAST(1, OK, (a, a))": (20, "twice"),
    "AT_LEAST(1, OK, (a)": (19, "to close AT_LEAST"),
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_says_where_it_is_and_what_was_expected(text: str) -> None:
    position, reason = FAULTS[text]
    with pytest.raises(ExpressionError, match=re.escape(reason)) as caught:
        parse_rule(text)
    assert caught.value.position == position


def test_a_rule_has_a_longest_text() -> None:
    text = "TRUE".ljust(MAX_CHARACTERS)
    assert parse_rule(text).steps == (Constant(True),)
    with pytest.raises(ExpressionError, match="10,240 characters") as caught:
        parse_rule(text + " ")
    assert caught.value.position == MAX_CHARACTERS


def test_a_rule_refers_to_at_most_a_hundred_alarms() -> None:
    text = " OR ".join(f"ALARM(a{number}) AND NOT OK(a{number})" for number in range(MAX_ALARMS))
    assert len(parse_rule(text).alarms) == MAX_ALARMS
    with pytest.raises(ExpressionError, match="at most 100 alarms") as caught:
        parse_rule(f"{text} OR ALARM(more)")
    assert caught.value.position == len(text) + len(" OR ALARM(")


def test_a_rule_has_at_most_500_elements() -> None:
    text = " OR ".join(["TRUE"] * MAX_ELEMENTS)
    assert parse_rule(text).decide({}).value
    with pytest.raises(ExpressionError, match="at most 500"):
        parse_rule(f"{text} OR TRUE")


@pytest.mark.parametrize("word", ["(", "NOT (", "(ALARM(a) AND NOT "])
def test_no_depth_is_too_deep_for_python(word: str) -> None:
    with pytest.raises(ExpressionError):
        parse_rule((word * MAX_CHARACTERS)[:MAX_CHARACTERS])


def test_the_deepest_rule_there_is_can_be_asked_and_shown() -> None:
    depth = MAX_ELEMENTS // 2 - 1
    text = "".join(["NOT (ALARM(a) AND "] * depth + ["TRUE"] + [")"] * depth)
    rule = parse_rule(text)
    expected = True
    for _ in range(depth):
        expected = not expected
    assert rule.decide({"a": "ALARM"}).value == expected
    assert parse_rule(str(rule)) == rule


# ---- against a naive reading

NAMES = ["a", "b", "the c", 'd"(\\', "not"]


@st.composite
def conditions(draw: st.DrawFn) -> tuple[Any, ...]:
    kind = draw(st.sampled_from(["constant", "state", "at least"]))
    if kind == "constant":
        return (kind, draw(st.booleans()))
    if kind == "state":
        return (kind, draw(st.sampled_from(STATES)), draw(st.sampled_from(NAMES)))
    alarms = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    is_percentage = draw(st.booleans())
    threshold = draw(st.integers(1, 100 if is_percentage else len(alarms)))
    return (kind, threshold, is_percentage, draw(st.booleans()), draw(st.sampled_from(STATES)), alarms)


TREES = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(st.just("NOT"), inner), st.tuples(st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2))
    ),
    max_leaves=12,
)


def written(tree: tuple[Any, ...]) -> str:
    """With parentheses around everything."""
    match tree:
        case ("constant", value):
            return str(value)
        case ("state", state, name):
            return f"{state}({quoted(name)})"
        case ("at least", threshold, is_percentage, negated, state, alarms):
            names = ",".join(map(quoted, alarms))
            return f"at_least({threshold}{'%' * is_percentage},{'not ' * negated}{state},({names}))"
        case ("NOT", operand):
            return f"NOT({written(operand)})"
        case (operator, operands):
            return "(" + f" {operator} ".join(f"({written(operand)})" for operand in operands) + ")"
    raise AssertionError(tree)


def naive(tree: tuple[Any, ...], states: dict[str, AlarmState]) -> bool:
    match tree:
        case ("constant", value):
            return bool(value)
        case ("state", state, name):
            return bool(states[name] == state)
        case ("at least", threshold, is_percentage, negated, state, alarms):
            found = [name for name in alarms if (states[name] != state if negated else states[name] == state)]
            share = len(found) * 100 / len(alarms) if is_percentage else len(found)
            return bool(share >= threshold)
        case ("NOT", operand):
            return not naive(operand, states)
        case ("AND", operands):
            return all(naive(operand, states) for operand in operands)
        case ("OR", operands):
            return any(naive(operand, states) for operand in operands)
    raise AssertionError(tree)


ALL_STATES = st.fixed_dictionaries({name: st.sampled_from(STATES) for name in NAMES})


@given(TREES, ALL_STATES)
def test_a_rule_says_what_its_tree_says(tree: tuple[Any, ...], states: dict[str, AlarmState]) -> None:
    assert parse_rule(written(tree)).decide(states).value == naive(tree, states)


@given(TREES)
def test_str_reads_back_as_the_same_rule(tree: tuple[Any, ...]) -> None:
    rule = parse_rule(written(tree))
    assert parse_rule(str(rule)) == rule


@given(TREES, ALL_STATES, ALL_STATES)
def test_the_deciders_alone_decide(
    tree: tuple[Any, ...], states: dict[str, AlarmState], others: dict[str, AlarmState]
) -> None:
    rule = parse_rule(written(tree))
    decision = rule.decide(states)
    kept = {name: states[name] for name in decision.deciders}
    assert rule.decide({**others, **kept}).value == decision.value


@given(st.text(min_size=1, max_size=255))
def test_every_name_can_be_referred_to(name: str) -> None:
    assert parse_rule(f"OK({quoted(name)})").alarms == (name,)


@given(st.text(alphabet='()"\\,% andortlALARMOKNT_2', max_size=60))
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ExpressionError as caught:
        position: int | None = caught.position
    else:
        position = None
        assert parse_rule(str(rule)) == rule
    assert position is None or 0 <= position <= len(text)
