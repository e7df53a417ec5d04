"""A queue's attributes as its users give them, and which values they may have. Pure.

Follows "CreateQueue" and "SetQueueAttributes" (Amazon SQS API Reference).
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypedDict

from msgspec.structs import replace

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, RedriveAllowPolicy, RedrivePolicy

MAX_VISIBILITY_MS = 43_200_000
DEFAULT_RETENTION_SECONDS = 4 * 86_400.0
_LONGEST_SECONDS = 1e9
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,80}")
_FIFO_NAME = re.compile(r"[a-zA-Z0-9_-]{1,75}\.fifo")
_OF_FIFO_QUEUES = ("content_based_deduplication", "deduplication_scope", "fifo_throughput_limit")
_SECONDS = {
    "visibility_timeout": "visibility_timeout_ms",
    "delay": "delay_ms",
    "receive_wait": "receive_wait_ms",
    "retention": "retention_ms",
}


class QueueOptions(TypedDict, total=False):
    """What ``Queue.update`` takes; what is left out stays as it is. Durations in seconds."""

    visibility_timeout: float
    """How long a received message stays hidden: 0 to 43,200; 30 unless said."""
    delay: float
    """How long a message waits before it is first visible; 0 unless said."""
    receive_wait: float
    """How long a receive waits when it does not say; 0 unless said."""
    retention: float | None
    """How long a message stays if nobody deletes it; None: for ever. Four days unless said."""
    maximum_message_bytes: int | None
    """Body and attributes of a message; None: what the engine's limits allow."""
    redrive_policy: RedrivePolicy | None
    """When a message becomes a dead letter, and where it goes."""
    redrive_allow_policy: RedriveAllowPolicy
    """Which queues may use this one as their dead-letter queue; all unless said."""
    content_based_deduplication: bool
    """FIFO: a message without deduplication id gets the SHA-256 of its body."""
    deduplication_scope: Literal["queue", "messageGroup"]
    """FIFO: where a deduplication id is unique."""
    fifo_throughput_limit: Literal["perQueue", "perMessageGroupId"]
    """FIFO: kept and shown; ours has no such limit."""


class NewQueueOptions(QueueOptions, total=False):
    """What ``Kit.create_queue`` takes."""

    fifo: bool
    """Order per message group, and deduplication; the name must end in ``.fifo``. Fixed."""


def attributes_of(options: QueueOptions | NewQueueOptions, base: QueueAttributes) -> QueueAttributes:
    """The attributes, with those of ``base`` where the options say nothing.

    Raises:
        ValidationError: a duration is no number of seconds.
    """
    changed: dict[str, Any] = dict(options)
    for option, field in _SECONDS.items():
        if option in changed:
            seconds = changed.pop(option)
            changed[field] = None if seconds is None and option == "retention" else milliseconds(option, seconds)
    unknown = sorted(changed.keys() - set(QueueAttributes.__struct_fields__))
    if unknown:
        raise ValidationError(f"a queue has no attribute {unknown[0]!r}: it has {', '.join(sorted(_names()))}")
    return replace(base, **changed)


def _names() -> set[str]:
    return {*NewQueueOptions.__annotations__, *QueueOptions.__annotations__}


def check_attributes(attributes: QueueAttributes, limits: Limits) -> None:
    """Refuse what is out of range.

    Raises:
        ValidationError: says what, and what the range is.
    """
    check_timeout(attributes.visibility_timeout_ms)
    check_delay(attributes.delay_ms, limits)
    check_wait(attributes.receive_wait_ms, limits)
    _check_retention(attributes.retention_ms, limits)
    most = attributes.maximum_message_bytes
    if most is not None and (not _is_whole(most) or not 1024 <= most <= limits.message_bytes):
        raise ValidationError(f"maximum_message_bytes is 1,024 to {limits.message_bytes:,}, not {most!r}")
    policy, allowed = attributes.redrive_policy, attributes.redrive_allow_policy
    if policy is not None and not isinstance(policy, RedrivePolicy):
        raise ValidationError(f"redrive_policy is a RedrivePolicy or None, not {policy!r:.80}")
    if not isinstance(allowed, RedriveAllowPolicy):
        raise ValidationError(f"redrive_allow_policy is a RedriveAllowPolicy, not {allowed!r:.80}")
    if attributes.deduplication_scope not in ("queue", "messageGroup"):
        raise ValidationError(
            f"deduplication_scope is 'queue' or 'messageGroup', not {attributes.deduplication_scope!r}"
        )
    if attributes.fifo_throughput_limit not in ("perQueue", "perMessageGroupId"):
        raise ValidationError(
            f"fifo_throughput_limit is 'perQueue' or 'perMessageGroupId', not {attributes.fifo_throughput_limit!r}"
        )
    if (attributes.fifo_throughput_limit, attributes.deduplication_scope) == ("perMessageGroupId", "queue"):
        raise ValidationError("fifo_throughput_limit='perMessageGroupId' needs deduplication_scope='messageGroup'")
    if not attributes.fifo:
        for field in _OF_FIFO_QUEUES:
            if getattr(attributes, field) != getattr(QueueAttributes(), field):
                raise ValidationError(f"{field} is for FIFO queues: make the queue with fifo=True")


def check_redrive(name: str, attributes: QueueAttributes, target: QueueAttributes) -> None:
    """Refuse a dead-letter queue that this queue cannot have.

    Raises:
        ValidationError: says why, and what to change.
    """
    policy = attributes.redrive_policy
    assert policy is not None
    dead_letters = policy.dead_letter_queue
    if dead_letters == name:
        raise ValidationError(f"queue {name!r} cannot be its own dead-letter queue")
    if target.fifo != attributes.fifo:
        kind = "a FIFO queue" if attributes.fifo else "a standard queue"
        raise ValidationError(f"{name!r} is {kind}, and its dead-letter queue must be one too: {dead_letters!r} is not")
    allowed = target.redrive_allow_policy
    if allowed.redrive_permission == "denyAll" or (
        allowed.redrive_permission == "byQueue" and name not in allowed.source_queues
    ):
        raise ValidationError(
            f"queue {dead_letters!r} does not allow {name!r} to use it as dead-letter queue: "
            "change its redrive_allow_policy"
        )


def check_name(name: object, *, fifo: bool) -> None:
    """A queue's name.

    Raises:
        ValidationError: no queue of this kind may have it.
    """
    if not isinstance(name, str) or not (_FIFO_NAME if fifo else _NAME).fullmatch(name):
        rule = "and '.fifo' at the end, 80 in all" if fifo else "80 at most; '.fifo' is for fifo=True"
        raise ValidationError(f"queue name {name!r} is not valid: use letters, digits, '_' or '-', {rule}")


def check_timeout(timeout_ms: int) -> None:
    """A visibility timeout is 0 to 12 hours.

    Raises:
        ValidationError: this one is not.
    """
    if not _is_whole(timeout_ms):
        raise ValidationError(f"a visibility timeout is a whole number of milliseconds, not {timeout_ms!r}")
    if not 0 <= timeout_ms <= MAX_VISIBILITY_MS:
        raise ValidationError(f"a visibility timeout is 0 to 43,200 s, not {timeout_ms / 1000:,} s")


def check_delay(delay_ms: int, limits: Limits) -> None:
    """A delay is 0 or more, and not more than the limit.

    Raises:
        ValidationError: this one is not.
    """
    if not _is_whole(delay_ms):
        raise ValidationError(f"a delay is a whole number of milliseconds, not {delay_ms!r}")
    if not 0 <= delay_ms <= limits.delay_seconds * 1000:
        raise ValidationError(f"a delay is 0 to {limits.delay_seconds:g} s, not {delay_ms / 1000:,} s")


def check_wait(wait_ms: int, limits: Limits) -> None:
    """A receive waits 0 ms or more, and not longer than the limit.

    Raises:
        ValidationError: this one does not.
    """
    if not _is_whole(wait_ms):
        raise ValidationError(f"a receive waits a whole number of milliseconds, not {wait_ms!r}")
    if not 0 <= wait_ms <= limits.receive_wait_seconds * 1000:
        raise ValidationError(f"a receive waits 0 to {limits.receive_wait_seconds:g} s, not {wait_ms / 1000:,} s")


def _check_retention(retention_ms: int | None, limits: Limits) -> None:
    shortest, longest = limits.message_retention_seconds
    if retention_ms is not None and not _is_whole(retention_ms):
        raise ValidationError(f"a retention is a whole number of milliseconds, not {retention_ms!r}")
    if retention_ms is not None and not shortest <= retention_ms / 1000 <= longest:
        raise ValidationError(
            f"a queue keeps its messages for {shortest:,} to {longest:,} seconds, not {retention_ms / 1000:,}"
        )


def milliseconds(what: str, seconds: float) -> int:
    """A duration as the store takes it.

    Raises:
        ValidationError: it is negative, not a finite number, or more than 30 years.
    """
    # NaN fails every comparison, so this refuses it together with what is too large for milliseconds.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST_SECONDS:
        raise ValidationError(f"{what} is a number of seconds, 0 or more and at most 1e9, not {seconds!r:.40}")
    return round(seconds * 1000)


def _is_whole(number: object) -> bool:
    # What is logged must be read back as an int: 1.5 and True would be refused when the store is opened again.
    return isinstance(number, int) and not isinstance(number, bool)
