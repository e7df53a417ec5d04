from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Sequence
from email.message import Message as SomebodyElses
from typing import TYPE_CHECKING, Any

import pytest

from streamkit.codecs import Codec
from streamkit.errors import DecodeError, FunctionError
from streamkit.queues import message as module
from streamkit.queues.handling import Handler, Handling, takes_message, takes_messages
from streamkit.queues.message import Message, ReceivedMessage

if TYPE_CHECKING:
    from collections.abc import Sized as OnlyForTypeCheckers

    from streamkit.queues.message import Message as Elsewhere  # noqa: F401 - so that the name is known to mypy


def received(body: bytes = b"1", type_: Any = None) -> Message[Any]:
    return Message(ReceivedMessage("id", body, "handle", 1, 0, 0), Codec(type_))


async def takes_value(value: int) -> None: ...
async def takes_anything(value) -> None: ...  # type: ignore[no-untyped-def]
async def takes_nothing() -> None: ...
async def takes_a_message(message: Message[int]) -> None: ...
async def takes_any_message(message: Message) -> None: ...  # type: ignore[type-arg]
async def takes_a_dotted_message(message: module.Message[int]) -> None: ...
async def takes_another_message(value: SomebodyElses) -> None: ...
async def takes_a_message_second(value: int, message: Message[int] | None = None) -> None: ...
async def with_an_unknown_name_elsewhere(message: Message[int], more: OnlyForTypeCheckers | None = None) -> None: ...
async def takes_only_for_type_checkers(value: OnlyForTypeCheckers) -> None: ...
async def after_a_first_one(first: int, message: Message[int]) -> None: ...


@functools.wraps(takes_a_message)
async def wrapped(*args: Any) -> None: ...


class Callable_:  # noqa: N801 - there is a Callable already
    async def __call__(self, message: Message[int]) -> None: ...

    async def method(self, message: Message[int]) -> None: ...


def imported_for_type_checkers_only() -> Handler:
    """A function whose module has no ``Message`` while it runs."""
    namespace: dict[str, Any] = {}
    source = "from __future__ import annotations\nasync def handler(message: Message[int]) -> None: ..."
    exec(source, namespace)
    handler: Handler = namespace["handler"]
    return handler


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (takes_value, False),
        (takes_anything, False),
        (takes_nothing, False),
        (takes_a_message, True),
        (takes_any_message, True),
        (takes_a_dotted_message, True),
        (takes_another_message, False),
        (takes_a_message_second, False),
        (with_an_unknown_name_elsewhere, True),
        (takes_only_for_type_checkers, False),
        (functools.partial(after_a_first_one, 1), True),
        (functools.partial(functools.partial(after_a_first_one), 1), True),
        (wrapped, True),
        (Callable_(), True),
        (Callable_().method, True),
        (imported_for_type_checkers_only(), True),
        (lambda value: None, False),
        (print, False),
        (int, False),
    ],
)
def test_who_takes_the_message(handler: Handler, expected: bool) -> None:
    assert takes_message(handler) is expected


async def takes_a_list(messages: list[Message[int]]) -> None: ...
async def takes_a_sequence(messages: Sequence[Message]) -> None: ...  # type: ignore[type-arg]
async def takes_a_tuple(messages: tuple[Message[int], ...]) -> None: ...
async def takes_dotted_messages(messages: Sequence[module.Message[int]]) -> None: ...
async def takes_values(values: list[int]) -> None: ...
async def takes_a_bare_list(values: list) -> None: ...  # type: ignore[type-arg]
async def takes_messages_of_others(values: list[SomebodyElses]) -> None: ...
async def takes_a_list_only_for_type_checkers(values: list[OnlyForTypeCheckers]) -> None: ...
async def takes_a_message_of_lists(message: Message[list[int]]) -> None: ...
async def takes_a_message_of_messages(message: Message[Message[int]]) -> None: ...


def written_for_type_checkers_only(annotation: str) -> Handler:
    """A function whose module has none of the names of its annotations while it runs."""
    namespace: dict[str, Any] = {}
    source = f"from __future__ import annotations\nasync def handler(messages: {annotation}) -> None: ..."
    exec(source, namespace)
    handler: Handler = namespace["handler"]
    return handler


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (takes_a_list, True),
        (takes_a_sequence, True),
        (takes_a_tuple, True),
        (takes_dotted_messages, True),
        (takes_values, False),
        (takes_a_bare_list, False),
        (takes_messages_of_others, False),
        (takes_a_list_only_for_type_checkers, False),
        (takes_a_message_of_lists, False),
        (takes_a_message_of_messages, False),
        (takes_a_message, False),
        (takes_nothing, False),
        (written_for_type_checkers_only("Sequence[Message[int]]"), True),
        (written_for_type_checkers_only("Sequence[Message]"), True),
        (written_for_type_checkers_only("list[messages.Message[Order]]"), True),
        (written_for_type_checkers_only("tuple[Message[Order], ...]"), True),
        (written_for_type_checkers_only("Sequence[Order]"), False),
        (written_for_type_checkers_only("Message[Order]"), False),
        (lambda values: None, False),
        (print, False),
    ],
)
def test_who_takes_messages(handler: Handler, expected: bool) -> None:
    assert takes_messages(handler) is expected
    assert not (takes_messages(handler) and takes_message(handler))


async def test_the_value_or_the_message() -> None:
    seen: list[object] = []

    async def by_value(value: int) -> None:
        seen.append(value)

    async def by_message(message: Message[int]) -> None:
        seen.append(message)

    message = received(b"7")
    assert await Handling[int](by_value, 1).call(message) is None
    assert await Handling[int](by_message, 1).call(message) is None
    assert seen == [7, message]


async def test_what_is_asynchronous_runs_on_the_loop_s_thread_and_the_rest_does_not() -> None:
    seen: dict[str, bool] = {}

    async def asynchronous(value: int) -> None:
        seen["asynchronous"] = threading.current_thread() is threading.main_thread()

    class Object:
        async def __call__(self, value: int) -> None:
            seen["object"] = threading.current_thread() is threading.main_thread()

    def plain(value: int) -> None:
        seen["plain"] = threading.current_thread() is threading.main_thread()

    def returns_an_awaitable(value: int) -> Any:
        return asynchronous(value)

    for handler in (asynchronous, functools.partial(asynchronous), Object(), plain, returns_an_awaitable):
        assert await Handling[int](handler, 1).call(received()) is None
    assert seen == {"asynchronous": True, "object": True, "plain": False}


async def test_what_it_raises_is_the_answer() -> None:
    error = ArithmeticError()

    async def raises(value: int) -> None:
        raise error

    def raises_in_a_thread(value: int) -> None:
        raise error

    assert await Handling[int](raises, 1).call(received()) is error
    assert await Handling[int](raises_in_a_thread, 1).call(received()) is error
    assert isinstance(await Handling[int](raises, 1).call(received(b"x", int)), DecodeError)


async def test_a_cancellation_from_within_is_the_handler_s_failure_and_one_from_outside_is_not() -> None:
    async def awaits_something_cancelled(value: int) -> None:
        raise asyncio.CancelledError

    answer = await Handling[int](awaits_something_cancelled, 1).call(received())
    assert isinstance(answer, FunctionError)
    assert str(answer) == "the handler awaited something that was cancelled"

    async def waits(value: int) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(Handling[int](waits, 1).call(received()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
