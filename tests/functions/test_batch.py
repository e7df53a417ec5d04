"""What becomes of a batch: the retry plan, one write per item, the on-failure document."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Check, Delete, Put, Update, attribute
from streamkit.errors import FunctionError, ValidationError
from streamkit.functions.batch import Discarded, RetryPlan, coalesce, on_failure_document
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Write, updated
from tests.functions.invoking import NOW_MS, batch_of

# ---- the plan


def work(plan: RetryPlan, poison: set[int], *, partial: bool) -> tuple[list[int], list[int], list[range]]:
    """Which records were done and which discarded, in the order in which they were settled, and every invocation."""
    done: list[int] = []
    discarded: list[int] = []
    tried: list[range] = []
    while (attempt := plan.next) is not None:
        records = range(attempt.start, attempt.end)
        tried.append(records)
        assert len(tried) < 2_000, "it never ends"
        bad = [at for at in records if at in poison]
        good = (bad[0] - attempt.start if partial else 0) if bad else len(records)
        if good:
            done.extend(records[:good])
            plan.settle(good)
        if bad:
            count = len(records) - good
            if plan.fail(count, split=good > 0):
                assert plan.next is not None
                first = plan.next.start
                discarded.extend(range(first, first + count))
                plan.settle(count)
    return done, discarded, tried


@given(
    count=st.integers(0, 40),
    poison=st.sets(st.integers(0, 39), max_size=6),
    attempts=st.integers(0, 4),
    bisect=st.booleans(),
    partial=st.booleans(),
)
def test_each_record_is_settled_exactly_once_and_in_order(
    count: int, poison: set[int], attempts: int, bisect: bool, partial: bool
) -> None:
    plan = RetryPlan(count, maximum_retry_attempts=attempts, bisect=bisect)
    done, discarded, tried = work(plan, poison, partial=partial)
    assert done == sorted(done)
    assert discarded == sorted(discarded)
    assert sorted([*done, *discarded]) == list(range(count))
    assert not poison & set(done)
    if bisect:
        assert set(discarded) == {at for at in poison if at < count}
        # Alone, a record is tried once more than it may be tried again.
        alone = Counter(records.start for records in tried if len(records) == 1)
        assert all(alone[at] == attempts + 1 for at in discarded)
    # Nothing that was settled is tried again.
    assert [records.start for records in tried] == sorted(records.start for records in tried)


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_batch_is_tried_once_more_than_it_may_be_tried_again(attempts: int) -> None:
    plan = RetryPlan(5, maximum_retry_attempts=attempts, bisect=False)
    assert work(plan, {2}, partial=False) == ([], [0, 1, 2, 3, 4], [range(5)] * (attempts + 1))


def test_without_a_limit_it_is_tried_for_ever() -> None:
    plan = RetryPlan(2, maximum_retry_attempts=-1, bisect=False)
    for failures in range(1, 500):
        assert plan.fail(2) is False
        assert plan.next is not None
        assert plan.next.failures == failures


def test_halving_goes_down_to_one_record_and_counts_as_no_retry() -> None:
    plan = RetryPlan(4, maximum_retry_attempts=0, bisect=True)
    done, discarded, tried = work(plan, {2}, partial=False)
    assert (done, discarded) == ([0, 1, 3], [2])
    assert tried == [range(4), range(2), range(2, 4), range(2, 3), range(3, 4)]


def test_progress_starts_the_count_afresh() -> None:
    plan = RetryPlan(4, maximum_retry_attempts=1, bisect=False)
    assert plan.fail(4) is False
    plan.settle(1)
    assert plan.fail(3) is False
    assert plan.fail(3) is True


def test_an_empty_batch_has_nothing_to_try() -> None:
    assert RetryPlan(0, maximum_retry_attempts=0, bisect=True).next is None


# ---- one write per item

SCHEMA = TableSchema("items", "key")
NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-5, 5)
KEYS = st.sampled_from([1, 2])


@st.composite
def updates(draw: st.DrawFn) -> Update:
    does = draw(st.dictionaries(NAMES, st.tuples(st.sampled_from(["set", "add", "remove"]), NUMBERS), max_size=3))
    return Update(
        key={"key": draw(KEYS)},
        set={name: number for name, (what, number) in does.items() if what == "set"},
        add={name: number for name, (what, number) in does.items() if what == "add"},
        remove=tuple(name for name, (what, _) in does.items() if what == "remove"),
        table="items",
    )


PUTS = st.builds(
    lambda key, rest: Put({**rest, "key": key}, table="items"), KEYS, st.dictionaries(NAMES, NUMBERS, max_size=3)
)
DELETES = st.builds(lambda key: Delete({"key": key}, table="items"), KEYS)


def apply(items: dict[int, Any], write: Write) -> None:
    if isinstance(write, Put):
        items[write.item["key"]] = dict(write.item)
    elif isinstance(write, Delete):
        items.pop(write.key["key"], None)
    elif isinstance(write, Update):
        items[write.key["key"]] = updated(SCHEMA, items.get(write.key["key"]), write)


@given(
    before=st.dictionaries(KEYS, st.dictionaries(NAMES, NUMBERS, max_size=3)),
    writes=st.lists(st.one_of(updates(), PUTS, DELETES), max_size=10),
)
def test_one_write_per_item_does_what_all_of_them_do(before: dict[int, Any], writes: list[Write]) -> None:
    one_by_one = {key: {**item, "key": key} for key, item in before.items()}
    at_once = {key: dict(item) for key, item in one_by_one.items()}
    for write in writes:
        apply(one_by_one, write)
    merged = coalesce(writes, lambda name: SCHEMA)
    for write in merged:
        apply(at_once, write)
    assert at_once == one_by_one
    keys = [write.item["key"] if isinstance(write, Put) else write.key["key"] for write in merged]
    assert len(keys) == len(set(keys))
    first = [write.item["key"] if isinstance(write, Put) else write.key["key"] for write in writes]
    assert keys == list(dict.fromkeys(first))


@pytest.mark.parametrize("conditional", ["first", "second"])
def test_two_writes_of_an_item_are_none_when_one_has_a_condition(conditional: str) -> None:
    plain = Update(key={"key": 1}, add={"a": 1}, table="items")
    other = Update(key={"key": 1}, add={"a": 1}, table="items", condition=attribute("a") == 1)
    writes = [other, plain] if conditional == "first" else [plain, other]
    with pytest.raises(FunctionError, match="more than once, and one of the writes has a condition"):
        coalesce(writes, lambda name: SCHEMA)
    assert coalesce([other], lambda name: SCHEMA) == [other]


def test_a_check_stands_alone() -> None:
    check = Check({"key": 1}, attribute("a") == 1, table="items")
    assert coalesce([check], lambda name: SCHEMA) == [check]
    with pytest.raises(FunctionError, match="has a condition"):
        coalesce([check, Delete({"key": 1}, table="items")], lambda name: SCHEMA)


def test_adding_to_what_was_set_needs_a_number() -> None:
    writes = [
        Update(key={"key": 1}, set={"a": "x"}, table="items"),
        Update(key={"key": 1}, add={"a": 1}, table="items"),
    ]
    (merged,) = coalesce(writes, lambda name: SCHEMA)
    with pytest.raises(ValidationError, match="add needs a number"):
        apply({}, merged)
    with pytest.raises(ValidationError, match="add needs a number"):
        coalesce([Put({"key": 1, "a": "x"}, table="items"), writes[1]], lambda name: SCHEMA)


def test_items_of_two_tables_are_two() -> None:
    writes = [Put({"key": 1}, table="items"), Put({"key": 1}, table="others")]
    assert coalesce(writes, lambda name: TableSchema(name, "key")) == writes


# ---- the document


def discarded(**options: Any) -> Discarded:
    given: dict[str, Any] = {
        "function": "handle",
        "stream": "numbers",
        "request_id": "r-1",
        "reason": "RetryAttemptsExhausted",
        "invocations": 3,
        "error": ValueError("bad"),
    }
    return Discarded(**{**given, **options})


def test_the_on_failure_document_field_by_field() -> None:
    records = batch_of("x", "y").records
    assert on_failure_document(discarded(), records, NOW_MS) == {
        "version": "1.0",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "requestContext": {
            "requestId": "r-1",
            "functionArn": "handle",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": "1",
            "endSequenceNumber": "2",
            "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.001Z",
            "approximateArrivalOfLastRecord": "2023-11-14T22:13:20.002Z",
            "batchSize": 2,
            "streamArn": "numbers",
        },
        "payload": {
            "Records": [
                {
                    "partitionKey": f"k{number}",
                    "sequenceNumber": str(number),
                    "approximateArrivalTimestamp": (NOW_MS + number) / 1000,
                    "data": base64.b64encode(data).decode(),
                }
                for number, data in ((1, b'"x"'), (2, b'"y"'))
            ]
        },
        "error": {"type": "ValueError", "message": "bad"},
    }


def test_of_what_was_too_old_there_is_no_response_and_maybe_no_error() -> None:
    document = on_failure_document(discarded(reason="RecordAgeExceeded", error=None), batch_of(1).records, NOW_MS)
    assert document.keys() == {"version", "timestamp", "requestContext", "KinesisBatchInfo", "payload"}
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"


def test_a_reported_failure_is_no_function_error_and_the_runtimes_words_are_kept() -> None:
    error = FunctionError("Task timed out", "Sandbox.Timedout")
    document = on_failure_document(discarded(reported=True, error=error), batch_of(1).records, NOW_MS)
    assert document["responseContext"]["functionError"] is None
    assert document["error"] == {"type": "Sandbox.Timedout", "message": "Task timed out"}
