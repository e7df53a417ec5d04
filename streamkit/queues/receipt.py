"""Receipt handles: which delivery of which message, in a form that only streamkit reads. Pure and hot.

Follows "Queue and message identifiers" (Amazon SQS Developer Guide). HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import struct
from binascii import a2b_base64, b2a_base64
from zlib import crc32

import msgspec

_DELIVERY = struct.Struct(">QQI")
_CHARACTERS = 32
_pack = _DELIVERY.pack


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a receipt handle names: the delivery of a message that was its ``receive_count``-th."""

    queue_id: int
    number: int
    receive_count: int


def make(queue_id: int, number: int, receive_count: int, store_id: int = 0) -> str:
    """The handle of a delivery: 32 characters of base64. ``store_id`` tells stores apart; its lowest 32 bits count."""
    raw = _pack(queue_id, number, receive_count)
    return b2a_base64(raw + crc32(raw, store_id).to_bytes(4, "little"), newline=False).decode("ascii")


def parse(handle: object, store_id: int = 0) -> Receipt | None:
    """What a handle names; None: this store never made it.

    Up to four characters in a row that are wrong, or two that changed places, are always found, other damage but once
    in four thousand million times; so is the handle of another store. The queue is for the caller to compare.
    """
    if not isinstance(handle, str) or len(handle) != _CHARACTERS:
        return None
    try:
        raw = a2b_base64(handle)
    except ValueError:
        return None
    # What is no base64 is left out, which makes it shorter.
    if len(raw) != _DELIVERY.size + 4 or crc32(raw[:-4], store_id) != int.from_bytes(raw[-4:], "little"):
        return None
    return Receipt(*_DELIVERY.unpack_from(raw))
