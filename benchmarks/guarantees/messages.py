"""Deliveries of a queue's messages: order of a group, one at a time, and none that comes back. Pure.

A message is known by its group and its place in it, or by its place alone. Instants are milliseconds of one clock.
"""

from __future__ import annotations

from benchmarks.guarantees.findings import Findings

_TOLERANCE_MS = 5.0
"""A queue counts in whole milliseconds, by another clock."""


class GroupOrder:
    """The deliveries of a FIFO queue: 0, 1, 2, ... of each group; one at a time, and again only until it is handled.

    A message is hidden for ``timeout_ms``, whatever becomes of its handler's process, unless its handler fails.
    """

    def __init__(self, findings: Findings, timeout_ms: float) -> None:
        self.repeats = 0
        """Deliveries of a message that had failed, or whose handler died."""
        self._findings = findings
        self._timeout_ms = timeout_ms
        self._acked: dict[str, int] = {}
        self._following: dict[str, int] = {}
        self._unhandled: dict[str, int] = {}
        self._hidden_to: dict[str, float] = {}

    def acked(self, group: str, place: int) -> None:
        """It was sent."""
        self._acked[group] = place + 1

    def begin(self, group: str, place: int, received_ms: float, now_ms: float) -> None:
        """A handler is called with it. ``received_ms``: when it was received; 0: nobody knows."""
        self._findings.events += 1
        following = self._following.get(group, 0)
        early_ms = self._hidden_to.get(group, 0.0) - now_ms
        unhandled = self._unhandled.get(group, place)
        if unhandled != place:
            self._findings.wrong(
                f"message {place} of {group} came while {unhandled} was in flight, and was to wait for its deletion"
            )
        elif place == following - 1:
            self.repeats += 1
            if early_ms > _TOLERANCE_MS:
                self._findings.wrong(
                    f"message {place} of {group} came again {early_ms:.0f} ms before its visibility timeout had run "
                    "out, which it was to wait for"
                )
        elif place < following:
            self._findings.wrong(
                f"message {place} of {group} came back after it was deleted, and {following} was to come next"
            )
        elif place > following:
            self._findings.wrong(f"message {place} of {group} came, and {following} was to come next")
        self._following[group] = max(following, place + 1)
        self._unhandled[group] = place
        self._hidden_to[group] = received_ms + self._timeout_ms

    def handled(self, group: str, place: int) -> None:
        """The handler returned, and the message is about to be deleted."""
        if self._unhandled.get(group) == place:
            del self._unhandled[group]

    def failed(self, group: str) -> None:
        """The handler raised, and the message is about to be shown again."""
        self._hidden_to[group] = 0.0

    def end(self, left: int) -> None:
        """That was all; so many messages are left in the queue."""
        _empty(self._findings, left)
        for group, count in self._acked.items():
            if (there := self._following.get(group, 0)) < count:
                self._findings.wrong(f"message {there} of {group} never came: {count} were acknowledged", count - there)


class Visibility:
    """The deliveries of a standard queue: none within another's visibility timeout, none after a deletion."""

    def __init__(self, findings: Findings) -> None:
        self.repeats = 0
        """Deliveries of a message whose timeout had run out."""
        self._findings = findings
        self._asked: set[int] = set()
        self._acked: set[int] = set()
        self._hidden_to: dict[int, float] = {}
        self._deleting: set[int] = set()
        self._deleted: set[int] = set()

    def asked(self, place: int) -> None:
        """A send is about to begin."""
        self._asked.add(place)

    def acked(self, place: int) -> None:
        """It was answered."""
        self._acked.add(place)

    def received(self, place: int, asked_ms: float, now_ms: float, timeout_ms: float) -> None:
        """It came, in an answer to a receive that was called at ``asked_ms``, and is hidden from others for so long."""
        self._findings.events += 1
        hidden_to = self._hidden_to.get(place)
        if place not in self._asked:
            self._findings.wrong(f"message {place} came, and nobody sent it")
        elif place in self._deleted:
            self._findings.wrong(f"message {place} came back after its deletion was acknowledged, and was to be gone")
        elif hidden_to is not None:
            self.repeats += 1
            if now_ms < hidden_to - _TOLERANCE_MS:
                self._findings.wrong(
                    f"message {place} came to two receivers: the second {hidden_to - now_ms:.0f} ms before the "
                    "first's visibility timeout had run out, which it was to wait for"
                )
        # The timeout began when the receive was answered; what is known is when it was called.
        self._hidden_to[place] = asked_ms + timeout_ms

    def deleting(self, place: int) -> None:
        """Its deletion is about to begin."""
        self._deleting.add(place)

    def deleted(self, place: int) -> None:
        """Its deletion was answered."""
        self._findings.events += 1
        self._deleted.add(place)

    def end(self, left: int) -> None:
        """That was all; so many messages are left in the queue."""
        _empty(self._findings, left)
        lost = self._acked - self._hidden_to.keys()
        if lost:
            self._findings.wrong(f"message {min(lost)} never came, though its send was acknowledged", len(lost))
        if undeleted := self._acked - lost - self._deleting:
            self._findings.wrong(
                f"message {min(undeleted)} is gone, and was to come back: nobody deleted it", len(undeleted)
            )


def _empty(findings: Findings, left: int) -> None:
    if left:
        findings.wrong(f"{left} messages are left in the queue, and it was to be empty: each was deleted", left)
