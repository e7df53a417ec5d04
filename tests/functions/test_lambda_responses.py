"""What a function's answer means, as a table: AWS's rules for partial batch responses, and ours for results."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Invocation
from streamkit.functions.responses import as_json, failed_whole, of_batch_function, of_each, of_lambda_handler

IDS = ["11", "12", "13", "14"]
WHOLE = "whole"

SUCCESSES: list[Any] = [None, {}, [], "", {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}]
FAILURES: list[tuple[Any, set[str]]] = [
    ([{"itemIdentifier": "13"}], {"13"}),
    ([{"itemIdentifier": "14"}, {"itemIdentifier": "12"}], {"12", "14"}),
    ([{"itemIdentifier": "11"}, {"itemIdentifier": "11"}], {"11"}),
    ([{"itemIdentifier": one} for one in IDS], set(IDS)),
]
NONSENSE: list[Any] = [
    {},
    "",
    [{"itemIdentifier": None}],
    [{"itemIdentifier": ""}],
    [{"itemIdentifier": "12"}, {"itemIdentifier": ""}],
    [{}],
    [{"identifier": "12"}],
    [{"itemIdentifier": "99"}],
    [{"itemIdentifier": True}],
    [{"itemIdentifier": ["12"]}],
    ["12"],
    [None],
    "12",
    {"itemIdentifier": "12"},
    0,
    7,
]


def lambda_answer(answer: Any, *, queue: bool = False, windowed: bool = False, reports: bool = True) -> Invocation:
    return of_lambda_handler(4, lambda: IDS, answer, queue=queue, windowed=windowed, reports=reports)


def batch_answer(answer: Any, *, queue: bool = False, windowed: bool = False) -> Invocation:
    return of_batch_function(4, lambda: IDS, answer, queue=queue, windowed=windowed)


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("answer", SUCCESSES)
def test_a_lambda_answer_that_names_nothing_is_a_success(answer: Any, queue: bool) -> None:
    assert lambda_answer(answer, queue=queue) == Invocation([], 4)


@pytest.mark.parametrize("of", [lambda_answer, batch_answer])
@pytest.mark.parametrize(("failures", "failed"), FAILURES)
def test_of_a_stream_the_lowest_number_and_all_behind_it_failed(of: Any, failures: Any, failed: set[str]) -> None:
    invocation = of({"batchItemFailures": failures})
    first = min(map(IDS.index, failed))
    assert (invocation.done, invocation.failed, invocation.failures) == (first, 4 - first, ())
    assert invocation.reported
    assert f"record {IDS[first]}" in str(invocation.error)


@pytest.mark.parametrize("of", [lambda_answer, batch_answer])
@pytest.mark.parametrize(("failures", "failed"), FAILURES)
def test_of_a_queue_those_named_failed_and_no_others(of: Any, failures: Any, failed: set[str]) -> None:
    invocation = of({"batchItemFailures": failures}, queue=True)
    assert {IDS[at] for at in invocation.failures} == failed
    assert list(invocation.failures) == sorted(invocation.failures)
    assert (invocation.done, invocation.failed) == (4 - len(failed), len(failed))
    assert invocation.reported


def test_the_lowest_is_the_first_in_the_batch_whatever_its_number() -> None:
    ids = [str(number) for number in (99, 100, 7, 1000, 5, 6, 8, 9, 10)]
    failures = {"batchItemFailures": [{"itemIdentifier": each} for each in ("10", "100", "5")]}
    of_stream = of_batch_function(9, lambda: ids, failures, queue=False, windowed=False)
    assert (of_stream.done, of_stream.failed) == (1, 8)
    of_queue = of_batch_function(9, lambda: ids, failures, queue=True, windowed=False)
    assert of_queue.failures == (1, 4, 8)


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("of", [lambda_answer, batch_answer])
@pytest.mark.parametrize("failures", NONSENSE)
def test_what_names_no_record_of_the_batch_fails_it_whole(of: Any, failures: Any, queue: bool) -> None:
    with pytest.raises(FunctionError, match="names no record of its batch"):
        of({"batchItemFailures": failures}, queue=queue)


@pytest.mark.parametrize("answer", ["done", 42, True, [1], ["12"]])
def test_a_lambda_answer_of_another_shape_fails_the_batch_unless_answers_mean_nothing(answer: Any) -> None:
    with pytest.raises(FunctionError, match="function_response_types"):
        lambda_answer(answer)
    assert lambda_answer(answer, reports=False) == Invocation([], 4)


def test_without_reporting_named_failures_mean_nothing() -> None:
    assert lambda_answer({"batchItemFailures": [{"itemIdentifier": "12"}]}, reports=False) == Invocation([], 4)


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize(
    "answer", [None, {}, [], "", "done", {"state": None}, {"state": [1]}, {"batchItemFailures": []}]
)
def test_in_a_window_a_lambda_answer_without_state_is_a_failure(answer: Any, reports: bool) -> None:
    with pytest.raises(FunctionError):
        lambda_answer(answer, windowed=True, reports=reports)


def test_in_a_window_state_and_failures_come_together() -> None:
    invocation = lambda_answer({"state": {"n": 2}, "batchItemFailures": [{"itemIdentifier": "13"}]}, windowed=True)
    assert (invocation.state, invocation.done, invocation.failed) == ({"n": 2}, 2, 2)
    assert lambda_answer({"state": {}}, windowed=True) == Invocation([], 4, state={})
    ignored = lambda_answer(
        {"state": {}, "batchItemFailures": [{"itemIdentifier": "13"}]}, windowed=True, reports=False
    )
    assert ignored == Invocation([], 4, state={})


# ---- our own batch functions


@pytest.mark.parametrize(
    ("answer", "results"),
    [
        (None, []),
        ({}, []),
        ([], []),
        ({"results": None}, []),
        ({"batchItemFailures": ()}, []),
        (["a", None, "c", ["d"]], [(0, ["a"]), (2, ["c"]), (3, [["d"]])]),
        (["a", None], [(3, ["a"])]),
        ({"results": ["a"]}, [(3, ["a"])]),
        (
            {"results": ["a", "b", "c", "d"], "batchItemFailures": None},
            [(0, ["a"]), (1, ["b"]), (2, ["c"]), (3, ["d"])],
        ),
    ],
)
def test_results_belong_to_their_records_or_to_the_last(answer: Any, results: Any) -> None:
    together = answer in (["a", None], {"results": ["a"]})
    assert batch_answer(answer) == Invocation(results, 4, together=together)


def test_results_of_what_failed_do_not_count() -> None:
    failures = [{"itemIdentifier": 13}]
    of_stream = batch_answer({"results": ["a", "b", "c", "d"], "batchItemFailures": failures})
    assert of_stream.results == [(0, ["a"]), (1, ["b"])]
    of_queue = batch_answer({"results": ["a", "b", "c", "d"], "batchItemFailures": failures}, queue=True)
    assert of_queue.results == [(0, ["a"]), (1, ["b"]), (3, ["d"])]
    assert (of_queue.done, of_queue.failures) == (3, (2,))
    with pytest.raises(FunctionError, match="2 results for 4 records"):
        batch_answer({"results": ["a", "b"], "batchItemFailures": failures})


@pytest.mark.parametrize(
    "answer", [42, "text", ("a",), {"state": {}}, {"id": 1}, {"results": "abc"}, {"results": {}, "x": 1}]
)
def test_a_batch_function_may_return_nothing_else(answer: Any) -> None:
    with pytest.raises(FunctionError, match="the function returned"):
        batch_answer(answer)


def test_a_batch_function_returns_state_and_results_in_a_window() -> None:
    invocation = batch_answer({"state": {"sum": 3}, "results": ["total"]}, windowed=True)
    assert (invocation.state, invocation.results) == ({"sum": 3}, [(3, ["total"])])
    last = of_batch_function(0, list, {"state": {}, "results": ["total"]}, queue=False, windowed=True)
    assert (last.state, last.results, last.done) == ({}, [(0, ["total"])], 0)
    for answer in (None, ["a"], {"results": ["a"]}):
        with pytest.raises(FunctionError, match=r'return \{"state"'):
            batch_answer(answer, windowed=True)


# ---- one by one

BOOM, LATE = ValueError("boom"), TimeoutError("late")


def test_of_a_stream_the_first_failure_ends_the_batch() -> None:
    assert of_each(3, {0: None, 1: "a", 2: ["b", "c"]}, {}, LATE, queue=False) == Invocation(
        [(1, ["a"]), (2, ["b", "c"])], 3
    )
    assert of_each(3, {0: "a"}, {1: BOOM}, LATE, queue=False) == Invocation([(0, ["a"])], 1, 1, BOOM)
    assert of_each(3, {0: "a"}, {}, LATE, queue=False) == Invocation([(0, ["a"])], 1, 1, LATE)
    assert of_each(3, {}, {}, LATE, queue=False) == Invocation([], 0, 1, LATE)


def test_of_a_stream_nothing_behind_a_failure_counts() -> None:
    assert of_each(3, {0: "a", 2: "c"}, {1: BOOM}, LATE, queue=False) == Invocation([(0, ["a"])], 1, 1, BOOM)


def test_of_a_queue_each_message_stands_for_itself() -> None:
    assert of_each(3, {0: "a", 2: None}, {1: BOOM}, LATE, queue=True) == Invocation([(0, ["a"])], 2, 1, BOOM, (1,))
    assert of_each(3, {1: "b"}, {}, LATE, queue=True) == Invocation([(1, ["b"])], 1, 2, LATE, (0, 2))
    assert of_each(2, {0: None, 1: None}, {}, LATE, queue=True) == Invocation([], 2)


def test_a_whole_failure_of_each_source() -> None:
    assert failed_whole(3, BOOM, queue=False) == Invocation([], 0, 3, BOOM)
    assert failed_whole(3, BOOM, queue=True) == Invocation([], 0, 3, BOOM, (0, 1, 2))


def test_an_answer_is_read_through_json() -> None:
    assert as_json({"state": {1: (2, Decimal("1.5"))}}) == {"state": {"1": [2, 1.5]}}
    for answer in ({1, 2}, object(), {"state": b"bytes"}):
        with pytest.raises(FunctionError, match="Unable to marshal response: Object of type") as caught:
            as_json(answer)
        assert caught.value.error_type == "Runtime.MarshalError"
