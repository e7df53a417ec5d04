"""Handling several messages at a time: what a batch handler takes, what its answer means, and what order asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from streamkit.errors import DecodeError, FunctionError
from streamkit.queues.handling import Calling, Handler, takes_messages
from streamkit.queues.message import Message

T = TypeVar("T")


class BatchHandling(Generic[T]):
    """A handler of lists: of ``Message`` if its first parameter is annotated so, of their values otherwise.

    A message whose body does not decode fails alone, and the values of the others are handled; a handler of messages
    finds out for itself.
    """

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self._takes_messages = takes_messages(handler)
        self._calling = Calling(handler, concurrency)

    async def call(self, messages: Sequence[Message[T]]) -> dict[Message[T], Exception]:
        """Call the handler. The answer is what failed, and with what; what the handler raises, all failed with.

        Cancellation: see ``Calling.answer``.
        """
        failures: dict[Message[T], Exception] = {}
        argument: list[Any] = list(messages)
        if not self._takes_messages:
            argument = []
            for message in messages:
                try:
                    argument.append(message.value)
                except DecodeError as error:
                    failures[message] = error
        if argument:
            handed = [message for message in messages if message not in failures]
            try:
                failures.update(failures_of(await self._calling.answer(argument), handed))
            except Exception as error:
                failures.update(dict.fromkeys(handed, error))
        return failures


def failures_of(answer: object, messages: Sequence[Message[T]]) -> dict[Message[T], Exception]:
    """What a batch handler's answer says about its messages: those that failed, and with what. Pure.

    The messages that failed, or a dict of them with what each failed with; or as Lambda's functions answer,
    ``{"batchItemFailures": [{"itemIdentifier": message_id}]}``. None and whatever is empty: all are handled.

    Raises:
        FunctionError: it is none of these, or names what is not in the batch. As in Lambda all of the batch failed.
    """
    if answer is None:
        return {}
    by_id = {message.message_id: message for message in messages}
    try:
        return {by_id[message_id]: error for message_id, error in _named(answer).items()}
    except (TypeError, KeyError, AttributeError):
        raise FunctionError(
            f"the handler returned a value of type {type(answer).__qualname__}, so that all of its batch counts as "
            "failed: return None, the messages of the batch that failed (a list, or a dict of message and exception), "
            'or {"batchItemFailures": [{"itemIdentifier": message_id}]}'
        ) from None


def _named(answer: Any) -> dict[str, Exception]:
    """Message ids and errors, or any of TypeError, KeyError and AttributeError for what is not understood."""
    if isinstance(answer, Mapping):
        if set(answer) == {"batchItemFailures"}:
            # AWS: null is no failures; an id that is missing, null or not of the batch fails the whole batch.
            return {failure["itemIdentifier"]: _reported() for failure in answer["batchItemFailures"] or ()}
        if not all(isinstance(error, Exception) for error in answer.values()):
            raise TypeError
        return {message.message_id: error for message, error in answer.items()}
    if not isinstance(answer, (list, tuple, set, frozenset)):
        raise TypeError
    return {message.message_id: _reported() for message in answer}


def _reported() -> FunctionError:
    return FunctionError("the handler reported it as failed")


def held_back(messages: Sequence[Message[T]], failures: Mapping[Message[T], Exception]) -> dict[Message[T], Message[T]]:
    """Of a FIFO queue's batch: the messages behind a failed one of their group, each with the first that failed. Pure.

    They must come again after that one, whatever became of them.
    """
    first: dict[str | None, Message[T]] = {}
    behind: dict[Message[T], Message[T]] = {}
    for message in messages:
        if message.group_id in first:
            behind[message] = first[message.group_id]
        elif message in failures:
            first[message.group_id] = message
    return behind
