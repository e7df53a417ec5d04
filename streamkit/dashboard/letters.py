"""Dead letters: a page of them with what went wrong, and the way back of one, some, or all."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.dashboard.payload import Payload, payload_of
from streamkit.errors import NotFoundError, ReadOnlyError, ValidationError
from streamkit.kit import Kit
from streamkit.overview.overview import Overview
from streamkit.queues.message import ReceivedMessage
from streamkit.queues.move_task import MoveStatus, MoveTask

PAGE = 10
"""Letters of one answer."""
MOST_AT_ONCE = 100
"""Chosen letters of one redrive; all of them are a move."""


class Letter(msgspec.Struct, frozen=True):
    """One message of a queue, as it waits."""

    message_id: str
    number: str
    """Its place in the queue, after which to go on. As text: a number of JavaScript may be too short for it."""
    body: Payload
    attributes: dict[str, str]
    source: str | None
    """The queue it came from; None: it was sent here."""
    reason: str | None
    """What its last handling failed with, if a worker of ours knew it."""
    receive_count: int
    """How often it was received here."""
    sent_ms: int
    group_id: str | None


class LetterPage(msgspec.Struct, frozen=True):
    """Some letters, in the order in which they came."""

    letters: list[Letter]
    after: str | None
    """Where the next page begins; None: there is none."""


class Chosen(msgspec.Struct, frozen=True):
    """A letter that somebody saw on a page."""

    message_id: str
    number: str


class Redrive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send these back to where they came from."""

    queue: str
    letters: list[Chosen]


class Redriven(msgspec.Struct, frozen=True):
    """What became of it."""

    moved: int
    gone: int
    """Letters that are not visible there any more: received meanwhile, moved, or deleted."""


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send all back, so many per second (None: as fast as it goes)."""

    queue: str
    rate: int | None = None


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Move nothing more of this queue."""

    queue: str


class Moving(msgspec.Struct, frozen=True):
    """How far a move is."""

    queue: str
    status: MoveStatus
    moved: int
    to_move: int | None
    failure_reason: str | None


class Letters:
    """The dead letters of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def page(self, queue: str, after: int) -> LetterPage:
        """The next letters after a number; neither hidden nor counted."""
        self._kit.queue(queue)  # Or the kit is closed.
        found = await self._kit.engine.queues.peek_messages(queue, PAGE + 1, after)
        shown = found[:PAGE]
        more = str(shown[-1].number) if len(found) > PAGE else None
        return LetterPage([_letter(message) for message in shown], more)

    async def redrive(self, asked: Redrive) -> Redriven:
        """Move chosen letters back, to be received afresh.

        Raises:
            ReadOnlyError: this kit only looks on.
            ValidationError: there are too many, or one has no source.
            NotFoundError: the queue, or one to move to, does not exist.
        """
        self._check_owner("redrive dead letters")
        if not 1 <= len(asked.letters) <= MOST_AT_ONCE:
            raise ValidationError(f"choose 1 to {MOST_AT_ONCE} letters, or move all of them")
        found = [letter for each in asked.letters if (letter := await self._seen(asked.queue, each)) is not None]
        by_source: dict[str, list[ReceivedMessage]] = {}
        for letter in found:
            if letter.dead_letter_source is None:
                raise ValidationError(
                    f"message {letter.message_id} was sent to {asked.queue!r} itself and has no queue to go back to: "
                    "queue.redrive(messages, to=...) moves it"
                )
            by_source.setdefault(letter.dead_letter_source, []).append(letter)
        store, moved = self._kit.engine.queues, 0
        if by_source:
            await store.describe_queues(list(by_source))  # One that is missing is found before anything moves.
        for source, letters in by_source.items():
            before = min(letter.number for letter in letters) - 1
            moved += await store.move_messages(asked.queue, [each.message_id for each in letters], source, before)
        return Redriven(moved, len(asked.letters) - moved)

    async def move(self, asked: Move) -> Moving:
        """Begin to move all that are visible now.

        Raises:
            ReadOnlyError: this kit only looks on.
            ValidationError: the rate is out of range, or a move of this queue is running.
            NotFoundError: there is no such queue.
        """
        self._check_owner("redrive dead letters")
        queue = self._kit.queue(asked.queue)
        await queue.describe()
        return _moving(self._kit.start(queue.move_task(rate=asked.rate)))

    def cancel(self, asked: Cancel) -> Moving:
        """Move nothing more; what was moved stays moved.

        Raises:
            NotFoundError: nothing of this queue was moved by this kit.
        """
        tasks = self._kit.list_move_tasks(asked.queue)
        if not tasks:
            raise NotFoundError("move task", asked.queue, "nothing of this queue is being moved")
        tasks[0].cancel()
        return _moving(tasks[0])

    def moves(self, overview: Overview) -> Mapping[str, Moving]:
        """The last move of each dead-letter queue, by name."""
        tasks = {each.name: self._kit.list_move_tasks(each.name) for each in overview.queues if each.dead_letters_of}
        return {name: _moving(found[0]) for name, found in tasks.items() if found}

    def _check_owner(self, action: str) -> None:
        if self._kit.engine.tables.session is None:
            raise ReadOnlyError(self._kit.url, action)

    async def _seen(self, queue: str, chosen: Chosen) -> ReceivedMessage | None:
        """The letter, if it is still where it was seen."""
        text = chosen.number
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ValidationError("the number of a letter is not one: look at the page again")
        found = await self._kit.engine.queues.peek_messages(queue, 1, int(text) - 1)
        return next((each for each in found if each.message_id == chosen.message_id), None)


def _letter(message: ReceivedMessage) -> Letter:
    return Letter(
        message.message_id,
        str(message.number),
        payload_of(message.body),
        {
            name: f"{payload_of(value.binary_value).text!s:.200}"
            if value.binary_value is not None
            else f"{value.string_value:.200}"
            for name, value in message.attributes.items()
        },
        message.dead_letter_source,
        message.last_error,
        message.receive_count,
        message.sent_ms,
        message.group_id,
    )


def _moving(task: MoveTask) -> Moving:
    return Moving(task.source, task.status, task.moved, task.to_move, task.failure_reason)
