"""Moving the messages of a dead-letter queue back, at a rate: a service with an end."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from streamkit.clock import Clock
from streamkit.errors import NotFoundError, StreamKitError, ValidationError
from streamkit.queues.selection import Where, selects
from streamkit.queues.store import QueueStore
from streamkit.service import Stop

logger = logging.getLogger("streamkit.queues")

MoveStatus = Literal["CREATED", "RUNNING", "COMPLETED", "CANCELLING", "CANCELLED", "FAILED"]

_AT_ONCE = 500
_SECOND_MS = 1000


class MoveTask:
    """Moves what is visible in a dead-letter queue when it begins, oldest first, each message to where it came from.

    Mirrors StartMessageMoveTask, ListMessageMoveTasks and CancelMessageMoveTask (Amazon SQS API Reference). A moved
    message is received afresh: its receive count and its age begin again. What comes meanwhile stays, so messages that
    fail again at once do not go round and round. Each batch moves whole, both sides as one; a task that ends early, or
    with its process, leaves the rest where it was. A task lives as long as its kit, and is not taken up again.

    AWS moves all there is. Here ``where`` chooses: an event pattern (``streamkit.functions.pattern.Pattern``), which
    sees a message as a Lambda function would, so ``Pattern({"body": {"kind": ["order"]}})``, or a function of the
    stored message. What is not chosen stays as it is.

    Stop: after the batch in hand, as ``cancel``.
    """

    def __init__(
        self,
        source: str,
        store: QueueStore,
        clock: Clock,
        *,
        to: str | None = None,
        rate: int | None = None,
        where: Where | None = None,
    ) -> None:
        """``rate``: messages per second, 1 to 500; None: as fast as it goes. ``to``: None: each one's own source."""
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or not 1 <= rate <= 500):
            raise ValidationError(f"a move has a rate of 1 to 500 messages per second, or None, not {rate!r}")
        self.name = f"move:{source}"
        self.source = source
        self.to = to
        self.rate = rate
        self.status: MoveStatus = "CREATED"
        self.moved = 0
        """Messages moved so far."""
        self.looked_at = 0
        """Messages that were moved or not chosen."""
        self.to_move: int | None = None
        """How many there were to look at when it began."""
        self.began_ms: int | None = None
        """When it began; None: it has not."""
        self.failure_reason: str | None = None
        """Why it FAILED."""
        self._store = store
        self._clock = clock
        self._where = where
        self._after = 0
        self._cancelled = Stop()
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"MoveTask({self.source!r}, {self.status}, moved={self.moved} of {self.to_move})"

    def _repr_html_(self) -> str:
        from streamkit.showing.html import Tone, badge, card

        tones: dict[MoveStatus, Tone] = {"COMPLETED": "good", "FAILED": "bad", "CANCELLED": "warn"}
        facts = {
            "": badge(self.status, tones.get(self.status, "quiet")),
            "moved": f"{self.moved:,}" + ("" if self.to_move is None else f" of {self.to_move:,}"),
            "to": self.to or "where each came from",
            "a second": self.rate,
            "why": self.failure_reason,
        }
        return card("Move task from", self.source, facts)

    def cancel(self) -> int:
        """Move nothing more after the batch in hand; what was moved stays moved. How many that is so far."""
        if self.status in ("CREATED", "RUNNING"):
            self.status = "CANCELLING" if self.status == "RUNNING" else "CANCELLED"
            self._cancelled.request()
        if self.status == "CANCELLED":
            self._ended.set()
        return self.moved

    async def wait_ended(self) -> MoveStatus:
        """Return how it ended, once it has."""
        await self._ended.wait()
        return self.status

    async def run(self, stop: Stop) -> None:
        """Move, until there is nothing left of what there was.

        A failure of the move itself is its status and ``failure_reason``, and no failure of the kit.

        Raises:
            StorageError: the engine cannot move anything any more.
        """
        if self.status == "CANCELLED":
            return
        self.status = "RUNNING"
        try:
            await self._move(stop)
        except (NotFoundError, ValidationError) as error:
            self.status, self.failure_reason = "FAILED", str(error)
            logger.warning("moving the messages of %s failed after %d: %s", self.source, self.moved, error)
        except BaseException as error:
            self.status = "FAILED" if isinstance(error, StreamKitError) else "CANCELLED"
            self.failure_reason = str(error) or None
            raise
        finally:
            self._ended.set()

    async def _move(self, stop: Stop) -> None:
        await self._check()
        (source,) = await self._store.describe_queues([self.source])
        self.to_move = source.visible
        self.began_ms = began_ms = self._clock.now_ms()
        while self.looked_at < self.to_move:
            if stop.requested or self._cancelled.requested:
                self.status = "CANCELLED"
                return
            if self.rate is not None:
                # So many may have been moved by now; a second begins with its whole share.
                due = ((self._clock.now_ms() - began_ms) // _SECOND_MS + 1) * self.rate
                if self.moved >= due:
                    again_ms = began_ms + self.moved // self.rate * _SECOND_MS
                    with stop.interruptible(), self._cancelled.interruptible():
                        await self._clock.sleep_until(again_ms)
                    continue
                most = min(due - self.moved, _AT_ONCE)
            else:
                most = _AT_ONCE
            if not await self._move_some(min(most, self.to_move - self.looked_at)):
                break
        self.status = "COMPLETED"

    async def _check(self) -> None:
        queues = await self._store.describe_queues()
        policies = [queue.attributes.redrive_policy for queue in queues]
        if not any(policy is not None and policy.dead_letter_queue == self.source for policy in policies):
            raise ValidationError(
                f"queue {self.source!r} is no queue's dead-letter queue, and only of those messages are moved: "
                "to move chosen messages, queue.redrive(messages, to=...)"
            )
        if self.to is not None:
            await self._store.describe_queues([self.to])

    async def _move_some(self, most: int) -> bool:
        """Move the next ones, those of one destination in one step. Whether there were any."""
        by_destination: dict[str, list[str]] = {}
        messages = await self._store.peek_messages(self.source, most, self._after)
        for message in messages:
            if not selects(self._where, message):
                continue
            destination = self.to or message.dead_letter_source
            if destination is None:
                raise ValidationError(
                    f"message {message.message_id} was sent to {self.source!r} itself and has no queue to go back to: "
                    "move with to="
                )
            by_destination.setdefault(destination, []).append(message.message_id)
        for destination, ids in by_destination.items():
            self.moved += await self._store.move_messages(self.source, ids, destination, self._after)
        if messages:
            self._after = messages[-1].number
        self.looked_at += len(messages)
        return bool(messages)
