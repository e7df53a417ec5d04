"""What users give a queue: messages, themselves or by their handles, and whole numbers. Pure."""

from __future__ import annotations

from typing import TypeVar

from streamkit.errors import ValidationError
from streamkit.queues.message import Message

T = TypeVar("T")


def check_whole(what: str, number: int) -> None:
    """Refuse what is no whole number, 1 or more.

    Raises:
        ValidationError: it is none.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValidationError(f"{what} is a whole number, 1 or more, not {number!r:.40}")


def check_several(messages: object) -> None:
    """Refuse one message where several are expected.

    Raises:
        ValidationError: it is one.
    """
    # A str is iterable too, letter by letter.
    if isinstance(messages, (str, Message)):
        raise ValidationError(f"one message where several are expected: pass a list, [{messages!r:.80}]")


def handle_of(message: Message[T] | str) -> str:
    """The receipt handle of a message, given itself or by that.

    Raises:
        ValidationError: it is neither.
    """
    if isinstance(message, str):
        return message
    if isinstance(message, Message):
        return message.receipt_handle
    raise ValidationError(f"{message!r:.80} is neither a received message nor a receipt handle")


def letter_of(message: Message[T]) -> tuple[str, str | None]:
    """The id of a message, and the queue that it is a dead letter of.

    Raises:
        ValidationError: it is no message.
    """
    if not isinstance(message, Message):
        raise ValidationError(f"{message!r:.80} is neither a message nor a message id")
    return message.message_id, message.dead_letter_source
