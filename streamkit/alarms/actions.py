"""What an alarm can do beside calling a function: send to a queue, put to a stream; and how often any of it is tried.

See ``streamkit.alarms.webhook`` for HTTP, ``runner`` for who calls them.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import string
from typing import Any, Protocol

import msgspec

from streamkit.alarms.notification import Document, sns_message
from streamkit.alarms.transition import Action, AlarmTransition, label_of
from streamkit.backoff import Retry
from streamkit.errors import ValidationError

ATTEMPTS = 5
TIMEOUT_SECONDS = 30.0
_MOST_ID_CHARACTERS = 128
_ID = frozenset(string.ascii_letters + string.digits + string.punctuation)


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """How often an action is tried, and how long it may take each time.

    Raises:
        ValidationError: a number is out of its range.
    """

    most: int = ATTEMPTS
    """1: it is not tried again."""
    timeout: float = TIMEOUT_SECONDS
    """Seconds that one attempt may take; then it is cancelled, and has failed."""
    retry: Retry = Retry(first=1.0, longest=60.0)
    """The waits in between."""

    def __post_init__(self) -> None:
        if not isinstance(self.most, int) or isinstance(self.most, bool) or self.most < 1:
            raise ValidationError(f"an action is tried {self.most!r} times: use a whole number, 1 or more")
        check_timeout(self.timeout)
        if not isinstance(self.retry, Retry):
            raise ValidationError(f"retry is {self.retry!r:.80}: use streamkit.Retry(...)")


def check_timeout(timeout: float) -> None:
    """Refuse what cannot be one.

    Raises:
        ValidationError: it is no finite number above 0.
    """
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not math.isfinite(timeout) or timeout <= 0:
        raise ValidationError(f"timeout of an action is {timeout!r}: use seconds above 0")


def attempts_of(action: Action) -> Attempts:
    """As the action has it, or five attempts of 30 seconds."""
    found = getattr(action, "attempts", None)
    return found if isinstance(found, Attempts) else _DEFAULT


_DEFAULT = Attempts()


class Trying:
    """A function that is tried more or less often than five times, or that may take longer.

    ::

        kit.start(alarm, on_alarm=Trying(restart, Attempts(most=1, timeout=300)))
    """

    def __init__(self, action: Action, attempts: Attempts) -> None:
        if not callable(action):
            raise ValidationError(f"{action!r:.80} cannot be called: give a function of a transition")
        self.action = action
        self.attempts = attempts
        self.label = label_of(action)

    def __repr__(self) -> str:
        return f"Trying({self.label}, {self.attempts})"

    async def __call__(self, transition: AlarmTransition) -> object:
        """Call it."""
        answer = self.action(transition)
        return await answer if inspect.isawaitable(answer) else answer


class SendsMessages(Protocol):
    """Of a queue's handle, what an action needs."""

    name: str

    async def send(self, value: Any, /, *, group_id: str | None = None, deduplication_id: str | None = None) -> object:
        """Send one message."""


class PutsRecords(Protocol):
    """Of a stream's handle, what an action needs."""

    name: str

    async def put(self, value: Any, /, *, partition_key: str) -> object:
        """Store one record."""


class SendToQueue:
    """Sends a message about each change to a queue, in the form of an SNS message unless ``document`` makes another.

    To a FIFO queue each alarm is a message group, and a change that is sent again because the answer was lost is stored
    once.

    ::

        kit.start(alarm, on_alarm=SendToQueue(kit.queue("pages")), on_ok=SendToQueue(kit.queue("pages")))

    Args:
        queue: a handle of any type that ``document`` makes values of; for JSON that is one made without ``type=``.
        document: of the transition.
        attempts: how often it is tried.
    """

    def __init__(
        self, queue: SendsMessages, *, document: Document = sns_message, attempts: Attempts = _DEFAULT
    ) -> None:
        if not hasattr(queue, "send") or not hasattr(queue, "name"):
            raise ValidationError(f"{queue!r:.80} is no queue: give a handle, such as kit.queue('pages')")
        self.queue = queue
        self.document = document
        self.attempts = attempts
        self.label = f"queue {queue.name}"

    def __repr__(self) -> str:
        return f"SendToQueue({self.queue!r})"

    async def __call__(self, transition: AlarmTransition) -> None:
        """Send it."""
        value = self.document(transition)
        if not self.queue.name.endswith(".fifo"):
            await self.queue.send(value)
            return
        await self.queue.send(
            value, group_id=group_id_of(transition.alarm), deduplication_id=deduplication_id_of(transition)
        )


class PutToStream:
    """Puts a record about each change to a stream, in the form of an SNS message unless ``document`` makes another.

    The partition key is the alarm's name, so that the changes of one keep their order. A record may be there twice if
    the answer to a put was lost.

    Args:
        stream: a handle of any type that ``document`` makes values of; for JSON that is one made without ``type=``.
        partition_key: one for all instead of the alarm's name.
        document: of the transition.
        attempts: how often it is tried.
    """

    def __init__(
        self,
        stream: PutsRecords,
        *,
        partition_key: str | None = None,
        document: Document = sns_message,
        attempts: Attempts = _DEFAULT,
    ) -> None:
        if not hasattr(stream, "put") or not hasattr(stream, "consumer"):
            raise ValidationError(f"{stream!r:.80} is no stream: give a handle, such as kit.stream('changes')")
        self.stream = stream
        self.partition_key = partition_key
        self.document = document
        self.attempts = attempts
        self.label = f"stream {stream.name}"

    def __repr__(self) -> str:
        return f"PutToStream({self.stream!r})"

    async def __call__(self, transition: AlarmTransition) -> None:
        """Put it."""
        key = transition.alarm if self.partition_key is None else self.partition_key
        await self.stream.put(self.document(transition), partition_key=key)


def group_id_of(alarm: str) -> str:
    """The message group of an alarm: its name, or, where that cannot be one, a digest of it."""
    if len(alarm) <= _MOST_ID_CHARACTERS and _ID.issuperset(alarm):
        return alarm
    return hashlib.sha256(alarm.encode("utf-8", "surrogatepass")).hexdigest()


def deduplication_id_of(transition: AlarmTransition) -> str:
    """The same for each attempt at one change, and another for any other change."""
    what = f"{transition.at_ms} {transition.previous} {transition.state} {transition.alarm}"
    return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()
