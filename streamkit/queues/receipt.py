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
_SIZE = _DELIVERY.size + 4
_pack = _DELIVERY.pack
_unpack_from = _DELIVERY.unpack_from


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a receipt handle names: the delivery of a message that was its ``receive_count``-th."""

    queue_id: int
    number: int
    receive_count: int


class Receipts:
    """The receipt handles of one store: 32 characters of base64."""

    def __init__(self, store_id: int) -> None:
        """``store_id`` tells stores apart; its lowest 32 bits count."""
        self._store = store_id & 0xFFFF_FFFF

    def make(self, queue_id: int, number: int, receive_count: int) -> str:
        """The handle of a delivery."""
        raw = _pack(queue_id, number, receive_count)
        return b2a_base64(raw + crc32(raw, self._store).to_bytes(4, "little"), newline=False).decode("ascii")

    def parse(self, handle: object) -> Receipt | None:
        """What a handle names; None: this store never made it.

        Up to four characters in a row that are wrong, or two that changed places, are always found, other damage but
        once in four thousand million times; so is the handle of another store. The queue is for the caller to compare.
        """
        if not isinstance(handle, str) or len(handle) != _CHARACTERS:
            return None
        try:
            raw = a2b_base64(handle)
        except ValueError:
            return None
        # What is no base64 is left out, which makes it shorter.
        if len(raw) != _SIZE or crc32(raw[:-4], self._store) != int.from_bytes(raw[-4:], "little"):
            return None
        return Receipt(*_unpack_from(raw))
