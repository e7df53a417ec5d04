"""A queue as a worker uses it: many messages at a time, in portions that its engine allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from streamkit.errors import StreamKitError, ValidationError
from streamkit.queues.message import Message
from streamkit.queues.store import QueueDescription

T = TypeVar("T")
E = TypeVar("E")

_MOST = 10_000
# AWS: all batches of a queue have ten entries at most.
_AWS_MOST = 10


Hiding = tuple[Message[T], float] | tuple[Message[T], float, str | None]
"""A message, for how many seconds to hide it, and what handling it failed with."""


class Source(Protocol[T]):
    """What a worker needs of its queue."""

    name: str

    async def receive(
        self, max_messages: int = 1, *, visibility_timeout: float | None = None, wait: float | None = None
    ) -> list[Message[T]]:
        """See Queue."""

    async def delete_batch(self, messages: Sequence[Message[T] | str]) -> list[StreamKitError | None]:
        """See Queue."""

    async def change_visibility_batch(self, messages: Iterable[Hiding[T]]) -> list[StreamKitError | None]:
        """See Queue."""

    async def describe(self) -> QueueDescription:
        """See Queue."""


class Portions(Generic[T]):
    """Calls with as many messages as the engine allows; it learns how many those are from what is refused."""

    def __init__(self, source: Source[T]) -> None:
        self.most = _MOST
        """Messages of one call."""
        self._source = source

    async def receive(self, max_messages: int, timeout: float, wait: float) -> list[Message[T]]:
        """Up to ``max_messages``, or ``most`` if that is less. Cancellation and errors: see ``Queue.receive``."""
        while True:
            portion = min(max_messages, self.most)
            try:
                return await self._source.receive(portion, visibility_timeout=timeout, wait=wait)
            except ValidationError as error:
                self._learn(portion, error)

    async def delete(self, messages: Sequence[Message[T]]) -> list[StreamKitError | None]:
        """Delete them all; one error or None per message, in order. It may be called again if it raised."""
        return await self._in_portions(messages, self._source.delete_batch)

    async def hide(self, hidings: Sequence[Hiding[T]]) -> list[StreamKitError | None]:
        """Hide messages for so many seconds from now each; one error or None per message, in order."""
        return await self._in_portions(hidings, self._source.change_visibility_batch)

    async def _in_portions(
        self, entries: Sequence[E], call: Callable[[Sequence[E]], Awaitable[list[StreamKitError | None]]]
    ) -> list[StreamKitError | None]:
        if len(entries) == 1:
            return await call(entries)
        answers: list[StreamKitError | None] = []
        while len(answers) < len(entries):
            portion = entries[len(answers) : len(answers) + self.most]
            try:
                answers += await call(portion)
            except ValidationError as error:
                self._learn(len(portion), error)
        return answers

    def _learn(self, portion: int, error: ValidationError) -> None:
        if portion == 1:
            raise error
        self.most = min(self.most, _AWS_MOST if portion > _AWS_MOST else portion // 2)
