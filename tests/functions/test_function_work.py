"""The calls of one invocation, driven by hand."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.functions.work import Work, is_asynchronous


def work_of(function: Callable[..., Any], *items: Any, **options: Any) -> Work:
    return Work(function, [(item,) for item in items], asynchronous=False, **options)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_closed_work_still_does_is_not_seen(fails: bool) -> None:
    def function(item: int) -> int:
        if item == 2:
            work.close()  # The time limit, as the call is in its thread.
            seen.append((work.answers, work.errors))
            if fails:
                raise ValueError("late")
        return item * 10

    seen: list[Any] = []
    work = work_of(function, 1, 2, 3)
    work.in_thread()
    assert work.finished
    assert (work.answers, work.errors) == ({0: 10}, {})
    assert seen == [({0: 10}, {})]


def test_an_answer_to_be_awaited_is_not_if_the_work_is_closed_first() -> None:
    async def later() -> None: ...

    work = work_of(lambda item: later(), 1)
    work.in_thread()
    assert work.wants_loop
    work.close()
    gc.collect()  # "coroutine was never awaited" would fail the test.
    assert work.finished


def test_what_is_left_to_do_after_a_failure() -> None:
    called: list[int] = []

    def function(item: int) -> None:
        called.append(item)
        if item == 1:
            raise ValueError("one")

    for options, expected in (
        ({}, [0, 1]),
        ({"after": "go on"}, [0, 1, 2, 3]),
        ({"after": "skip group", "groups": ["a", "b", "b", "a"]}, [0, 1, 3]),
    ):
        called.clear()
        work = work_of(function, 0, 1, 2, 3, **options)
        work.in_thread()
        assert called == expected
        assert list(work.errors) == [1]


async def test_a_failure_that_the_call_cannot_tell_itself() -> None:
    work = work_of(lambda item: item, 1, 2)
    error = ValueError("from outside")
    work.fail(error)
    assert (work.errors, work.finished) == ({0: error}, True)


class Asynchronous:
    async def __call__(self, item: Any) -> None: ...

    async def method(self, item: Any) -> None: ...


def test_what_is_asynchronous() -> None:
    async def function(item: Any) -> None: ...

    assert is_asynchronous(function)
    assert is_asynchronous(Asynchronous())
    assert is_asynchronous(Asynchronous().method)
    assert not is_asynchronous(print)
    assert not is_asynchronous(lambda item: function(item))
