"""Every quota as a value: what AWS allows, and what an embedded engine has no reason to refuse."""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, counts in pieces. ``Limits.relaxed()`` is what ``streamkit.open`` uses unless told otherwise."""

    record_bytes: int
    """Data plus UTF-8 partition key of one record."""
    put_records: int
    """Entries of one ``put_records`` call."""
    put_bytes: int
    """Bytes of one ``put_records`` call, partition keys included."""
    get_records: int
    """Records of one ``get_records`` call."""
    get_bytes: int
    """Bytes of one ``get_records`` answer; a single larger record is still returned."""
    message_bytes: int
    """Body of one message."""
    send_messages: int
    """Entries of one batch of sends, deletes or visibility changes."""
    receive_messages: int
    """Messages of one receive."""
    delay_seconds: float
    """The longest delay of a message."""
    item_bytes: int
    """One table item, encoded."""
    write_actions: int
    """Writes of one atomic call."""

    @classmethod
    def aws(cls) -> Limits:
        """The quotas of the services themselves (Kinesis, SQS and DynamoDB developer guides, 2025)."""
        return cls(
            record_bytes=MIB,
            put_records=500,
            put_bytes=10 * MIB,
            get_records=10_000,
            get_bytes=10 * MIB,
            message_bytes=MIB,
            send_messages=10,
            receive_messages=10,
            delay_seconds=900,
            item_bytes=400 * KIB,
            write_actions=100,
        )

    @classmethod
    def relaxed(cls) -> Limits:
        """Bounds that only keep one call from taking the process's memory."""
        return cls(
            record_bytes=64 * MIB,
            put_records=100_000,
            put_bytes=256 * MIB,
            get_records=100_000,
            get_bytes=64 * MIB,
            message_bytes=64 * MIB,
            send_messages=100_000,
            receive_messages=10_000,
            delay_seconds=365 * 86_400,
            item_bytes=16 * MIB,
            write_actions=100_000,
        )
