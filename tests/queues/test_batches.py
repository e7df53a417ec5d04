from __future__ import annotations

from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.errors import DecodeError, FunctionError
from streamkit.queues.batches import BatchHandling, failures_of, held_back
from streamkit.queues.handling import Handler
from streamkit.queues.message import Message, ReceivedMessage


def message(name: str, body: bytes = b"1", group_id: str | None = None) -> Message[Any]:
    return Message(ReceivedMessage(name, body, "handle", 1, 0, 0, group_id=group_id), Codec(int))


A, B, C = batch = [message("a"), message("b"), message("c")]
ERROR = ArithmeticError("no")


def lambdas(*ids: object) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in ids]}


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (None, []),
        ([], []),
        ({}, []),
        ((), []),
        ({"batchItemFailures": None}, []),
        (lambdas(), []),
        ([B], [B]),
        ((C, A), [A, C]),
        ({A, B}, [A, B]),
        ([message("b")], [B]),
        ({B: ERROR}, [B]),
        (lambdas("a", "c", "a"), [A, C]),
    ],
)
def test_what_an_answer_means(answer: object, failed: list[Message[Any]]) -> None:
    failures = failures_of(answer, batch)
    assert sorted(failures, key=batch.index) == failed


def test_what_it_failed_with_is_what_the_answer_says() -> None:
    assert failures_of({B: ERROR}, batch) == {B: ERROR}
    assert str(failures_of([B], batch)[B]) == "the handler reported it as failed"


@pytest.mark.parametrize(
    "answer",
    [
        True,
        "a",
        B,
        ["b"],
        [None],
        [message("stranger")],
        {B: "no"},
        {"b": ERROR},
        {message("stranger"): ERROR},
        {"batchItemFailures": [], "more": 1},
        {"batchItemFailures": "a"},
        {"batchItemFailures": 1},
        {"batchItemFailures": [{"itemidentifier": "a"}]},
        {"batchItemFailures": [None]},
        lambdas("a", "stranger"),
        lambdas(""),
        lambdas(None),
        lambdas(["a"]),
    ],
)
async def test_an_answer_that_is_not_understood_fails_the_whole_batch(answer: object) -> None:
    async def handler(messages: list[Message[int]]) -> object:
        return answer

    failures = await BatchHandling[int](handler, 1).call(batch)
    assert list(failures) == batch
    (error,) = set(failures.values())
    assert isinstance(error, FunctionError)
    assert "so that all of its batch counts as failed: return None, the messages" in str(error)


async def test_values_or_messages() -> None:
    seen: list[object] = []

    async def by_value(values: list[int]) -> None:
        seen.append(values)

    def by_message(messages: list[Message[int]]) -> None:
        seen.append(messages)

    handlers: tuple[Handler, ...] = (by_value, by_message, lambda values: seen.append(values))
    for handler in handlers:
        assert await BatchHandling[int](handler, 1).call(batch) == {}
    assert seen == [[1, 1, 1], batch, [1, 1, 1]]


async def test_what_it_raises_all_failed_with() -> None:
    async def handler(values: list[int]) -> None:
        raise ERROR

    assert await BatchHandling[int](handler, 1).call(batch) == dict.fromkeys(batch, ERROR)


async def test_what_does_not_decode_fails_alone() -> None:
    odd = message("odd", b'"not an int"')
    seen: list[list[int]] = []

    async def handler(values: list[int]) -> None:
        seen.append(values)
        if len(values) == 2:
            raise ERROR

    handling = BatchHandling[int](handler, 1)
    assert isinstance((await handling.call([A, odd]))[odd], DecodeError)
    failures = await handling.call([A, odd, B])
    assert (failures.pop(A), failures.pop(B)) == (ERROR, ERROR)
    assert isinstance(failures.pop(odd), DecodeError)
    assert list(await handling.call([odd])) == [odd]
    assert seen == [[1], [1, 1]]


def test_what_is_held_back() -> None:
    a1, b1, a2, b2, a3 = (message(name, group_id=name[0]) for name in ("a1", "b1", "a2", "b2", "a3"))
    messages = [a1, b1, a2, b2, a3]
    assert held_back(messages, {}) == {}
    assert held_back(messages, {a2: ERROR}) == {a3: a2}
    assert held_back(messages, {a1: ERROR, a3: ERROR}) == {a2: a1, a3: a1}
    assert held_back(messages, {b1: ERROR, a1: ERROR}) == {a2: a1, b2: b1, a3: a1}
    assert held_back(messages, {a3: ERROR, b2: ERROR}) == {}
