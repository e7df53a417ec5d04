"""What becomes of a worker's messages: deleted, shown again with what they failed with, kept hidden, let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

import anyio.lowlevel

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.errors import ClosedError, StreamKitError, ValidationError
from streamkit.logs import without_text
from streamkit.queues.message import Message
from streamkit.queues.portions import Hiding, Portions

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger("streamkit.queues")

# Between attempts at what failed with a retryable error, such as a full disk. No jitter: there is one worker, and a
# wait of nothing would never let go of the event loop.
_AGAIN = Retry(first=1.0, longest=30.0, jitter=False)
_ERROR_CHARACTERS = 1_000


class _Deletes(Generic[T]):
    """Deletes that go together."""

    def __init__(self) -> None:
        self.messages: list[Message[T]] = []
        self.errors: list[StreamKitError | None] = []
        self.failure: Exception | None = None
        self.ended = asyncio.Event()


class Settling(Generic[T]):
    """Settles messages of one worker, and says in the log what could not be."""

    def __init__(self, portions: Portions[T], clock: Clock, name: str) -> None:
        self._portions = portions
        self._clock = clock
        self._name = name
        self._gathering: _Deletes[T] | None = None

    async def delete(self, messages: Sequence[Message[T]], *, alone: bool = False) -> int:
        """Delete what was handled, however long the disk is full; how many were still ours to delete.

        What several ask for in one turn of the event loop goes together; with ``alone`` there are no others, and it
        goes at once. Cancellation: they may or may not be deleted.

        Raises:
            StreamKitError: the engine cannot delete, and trying again would not help.
        """
        deletes = self._gathering
        if deletes is not None:
            start = len(deletes.messages)
            deletes.messages += messages
            await deletes.ended.wait()
        else:
            start = 0
            deletes = self._gathering = _Deletes()
            deletes.messages += messages
            await self._delete(deletes, alone)
        if deletes.failure is not None:
            raise deletes.failure
        return self._deleted(messages, deletes.errors[start : start + len(messages)])

    async def _delete(self, deletes: _Deletes[T], alone: bool) -> None:
        try:
            try:
                if not alone:
                    await anyio.lowlevel.checkpoint()
            finally:
                self._gathering = None
            deletes.errors = await self.insist(lambda: self._portions.delete(deletes.messages))
        except Exception as error:
            deletes.failure = error
        except BaseException:
            # Whoever waits for it is cancelled as well; if not, it must not take it for done.
            deletes.failure = ClosedError(self._name)
            raise
        finally:
            deletes.ended.set()

    def _deleted(self, messages: Sequence[Message[T]], errors: Sequence[StreamKitError | None]) -> int:
        for message, error in zip(messages, errors, strict=True):
            if error is not None:
                logger.warning(
                    "message %s of %s was handled, but not in time: %s", message.message_id, self._name, error
                )
        return errors.count(None)

    async def show_again(
        self,
        messages: Sequence[Message[T]],
        failures: Mapping[Message[T], Exception],
        delays: Mapping[Message[T], float],
        behind: Mapping[Message[T], Message[T]],
    ) -> None:
        """Show the failed ones of a batch again after ``delays`` seconds, and at once those ``behind`` a failed one.

        Raises:
            StreamKitError: the engine cannot, and trying again would not help.
        """
        hidings: list[Hiding[T]] = []
        logged: Exception | None = None
        for message in messages:
            error = failures.get(message)
            if error is not None:
                hidings.append((message, delays[message], described(error)))
                logger.warning(
                    "message %s of %s failed at receive %d and is visible again in %.2f s",
                    message.message_id,
                    self._name,
                    message.receive_count,
                    delays[message],
                    # Once for all that failed with it.
                    exc_info=None if error is logged else without_text(error),
                )
                logged = error
            elif message in behind:
                reason = f"not handled: message {behind[message].message_id} before it in its message group failed"
                hidings.append((message, 0.0, reason))
        # INVARIANT: test_what_is_behind_a_failed_message_of_its_group_comes_after_it
        await self._hide(hidings)

    async def extend(self, messages: Sequence[Message[T]], timeout: float) -> float | None:
        """Keep messages hidden for ``timeout`` seconds from now, as far as that is possible.

        Answers after how many seconds to do so again; None: it would be of no use.

        Raises:
            StreamKitError: the engine cannot, and trying again would not help.
        """
        refusals = await self._hide([(message, timeout) for message in messages])
        if any(refusal is not None and refusal.retryable for refusal in refusals):
            # Often enough that a disk with room again is found before the timeout ends.
            return timeout / 8
        return timeout / 2 if None in refusals else None

    async def _hide(self, hidings: Sequence[Hiding[T]]) -> Sequence[StreamKitError | None]:
        """What could not be hidden or shown and is no failure, because the message's timeout shows it."""
        refusals: Sequence[StreamKitError | None]
        try:
            refusals = await self._portions.hide(hidings)
        except StreamKitError as error:
            refusals = [error] * len(hidings)
        for hiding, refusal in zip(hidings, refusals, strict=True):
            if refusal is None:
                continue
            # Refused as invalid: deleted, received by somebody else, or hidden for twelve hours already.
            if not isinstance(refusal, ValidationError) and not refusal.retryable:
                raise refusal
            logger.warning("message %s of %s: %s", hiding[0].message_id, self._name, refusal)
        return refusals

    async def let_go(self, handled: Sequence[Message[T]], rest: Sequence[Message[T]]) -> int:
        """Settle messages in the little time that a cancellation leaves, and let nothing get in its way.

        What was handled is deleted, so that it is not done again (deleting twice is fine), and the rest is visible
        again at once. Answers how many were deleted.
        """
        deleted = 0
        try:
            if handled:
                deleted = self._deleted(handled, await self._portions.delete(handled))
        except Exception as error:
            self._stays_hidden(handled, error)
        try:
            if rest:
                for message, refusal in zip(
                    rest, await self._portions.hide([(message, 0) for message in rest]), strict=True
                ):
                    if refusal is not None:
                        self._stays_hidden([message], refusal)
        except Exception as error:
            self._stays_hidden(rest, error)
        return deleted

    def _stays_hidden(self, messages: Sequence[Message[T]], error: Exception) -> None:
        for message in messages:
            logger.warning(
                "message %s of %s is visible again after its timeout: %s", message.message_id, self._name, error
            )

    async def insist(self, step: Callable[[], Awaitable[R]]) -> R:
        """Try again, after a wait, for as long as a step fails with a retryable error."""
        failures = 0
        while True:
            try:
                return await step()
            except StreamKitError as error:
                if not error.retryable:
                    raise
                failures += 1
                delay = _AGAIN.delay(failures) if error.retry_after is None else error.retry_after
                logger.warning("%s tries again in %.1f s: %s", self._name, delay, error)
                await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))


def described(error: Exception) -> str:
    """What a dead letter says it failed with: the error's type and the beginning of its text."""
    kind = type(error).__qualname__
    try:
        text = str(error)
    except Exception:
        text = "(its text raises an error itself)"
    return f"{kind}: {text[:_ERROR_CHARACTERS]}" if text else kind
