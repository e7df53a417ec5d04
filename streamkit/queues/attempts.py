"""What a receive's attempt id got, so that a retry gets the very same. Pure.

Follows "ReceiveRequestAttemptId" of ReceiveMessage (Amazon SQS API Reference).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamkit.queues.stored import StoredMessage

WINDOW_MS = 300_000
"""How long an attempt id is good for: five minutes from its receive, whatever was retried since."""

MOST_ATTEMPTS = 100_000


class Attempt(msgspec.Struct, array_like=True, gc=False):
    """One receive. The field order is a storage format: append, never reorder."""

    attempt_id: str
    began_ms: int
    deliveries: list[tuple[int, int, int]]
    """Number, receive count and when visible again, of each message as it was handed out."""


class Attempts:
    """The receives of the last five minutes that named an attempt id.

    Whether a delivery still stands is read off the message itself, so deletes and changes need not be reported here: it
    is in flight, was received as often, and is hidden until the same instant. (A change of its visibility to exactly
    that instant changed nothing.) If one of them does not stand, or is visible again, the retry is an ordinary receive.

    At most ``most`` attempts are kept; over that the oldest is forgotten, and its retry is an ordinary receive: it
    finds what is left, and what the attempt got stays hidden for its timeout.
    """

    def __init__(self, most: int = MOST_ATTEMPTS) -> None:
        self._most = most
        # By when they began, but for what was adopted.
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept, also those whose five minutes have passed since the last receive."""
        return len(self._attempts)

    def add(self, attempt_id: str, received: Sequence[StoredMessage], now_ms: int) -> None:
        """These messages were handed out, or handed out again, and are hidden already. Of none, nothing is kept.

        Handing out the same deliveries again begins no new window.
        """
        self._forget(now_ms)
        deliveries = [(message.number, message.receive_count, message.visible_at_ms) for message in received]
        known = self._attempts.get(attempt_id)
        if known is not None:
            if _is_current(known, now_ms) and _names(known.deliveries) == _names(deliveries):
                known.deliveries = deliveries
                return
            del self._attempts[attempt_id]
        if not deliveries:
            return
        self._attempts[attempt_id] = Attempt(attempt_id, now_ms, deliveries)
        if len(self._attempts) > self._most:
            self._attempts.popitem(last=False)

    def again(self, attempt_id: str, messages: Mapping[int, StoredMessage], now_ms: int) -> list[StoredMessage] | None:
        """The messages that a retry may get once more under the same receipt handles; None: it is an ordinary receive.

        ``messages`` are the queue's by number; those whose timeout has passed must be visible already.
        """
        attempt = self._attempts.get(attempt_id)
        if attempt is None or not _is_current(attempt, now_ms):
            return None
        found = []
        for number, receive_count, visible_at_ms in attempt.deliveries:
            message = messages.get(number)
            if (
                message is None
                or message.place != "in flight"
                or message.receive_count != receive_count
                or message.visible_at_ms != visible_at_ms
            ):
                return None
            found.append(message)
        return found

    def forget(self, attempt_id: str) -> None:
        """Its receive reached nobody. The next one of the same message is told from it by nothing."""
        self._attempts.pop(attempt_id, None)

    def clear(self) -> None:
        """The queue was purged."""
        self._attempts.clear()

    def entries(self, now_ms: int) -> list[Attempt]:
        """What a snapshot keeps."""
        return [attempt for attempt in self._attempts.values() if _is_current(attempt, now_ms)]

    def adopt(self, attempts: Iterable[Attempt]) -> None:
        """Take what a snapshot kept, in its order, before anything else happens."""
        for attempt in attempts:
            self._attempts[attempt.attempt_id] = attempt

    def _forget(self, now_ms: int) -> None:
        while self._attempts and not _is_current(next(iter(self._attempts.values())), now_ms):
            self._attempts.popitem(last=False)


def _is_current(attempt: Attempt, now_ms: int) -> bool:
    # A wall clock that was set back between two runs would keep what began later for longer, so that ends at once.
    return attempt.began_ms <= now_ms < attempt.began_ms + WINDOW_MS


def _names(deliveries: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return [(number, receive_count) for number, receive_count, _ in deliveries]
