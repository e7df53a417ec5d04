"""The bytes of a file of a queue's messages: pure. Pages, then an index of them.

::

    page     magic "SKQP" · count · payload length · file serial · first number · last number
             header checksum · payload checksum · payload: messages (msgpack)
    index    magic "SKQI" · payload length · payload checksum · payload: where each page is and what it holds (msgpack)

A serial is of one file of the store alone, so a file in the place of another is noticed.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import msgspec

from streamkit.engines.embedded.changes import plain
from streamkit.engines.file.frame import checksum
from streamkit.errors import CorruptLogError
from streamkit.queues.backlog import Page
from streamkit.queues.stored import StoredMessage

_header = Struct("<4sIIQQQII")
HEADER_SIZE = _header.size
_index_header = Struct("<4sII")
_MAGIC = b"SKQP"
_INDEX_MAGIC = b"SKQI"
_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode
_decode = msgspec.msgpack.Decoder(list[StoredMessage]).decode


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    """A page, in the index. The field order is a storage format: append, never reorder."""

    offset: int
    size: int
    first_number: int
    last_number: int
    count: int
    oldest_sent_ms: int
    newest_sent_ms: int


_decode_index = msgspec.msgpack.Decoder(list[_Entry]).decode


def pack(messages: Sequence[StoredMessage], serial: int) -> bytes:
    """The bytes of a page."""
    payload = _encode(messages)
    first, last = messages[0].number, messages[-1].number
    checked = _header.pack(_MAGIC, len(messages), len(payload), serial, first, last, 0, 0)[:-8]
    return b"".join(
        (checked, checksum(checked).to_bytes(4, "little"), checksum(payload).to_bytes(4, "little"), payload)
    )


def unpack(data: bytes, page: Page, path: str) -> list[StoredMessage]:
    """The messages of a page.

    Raises:
        CorruptLogError: this is not that page, or it is damaged.
    """
    if len(data) < page.size:
        raise CorruptLogError(path, page.offset, "the file ends within a page")
    magic, count, length, serial, first, last, header_sum, payload_sum = _header.unpack_from(data)
    if magic != _MAGIC or checksum(data[: HEADER_SIZE - 8]) != header_sum:
        raise CorruptLogError(path, page.offset, "a page header does not match its checksum")
    if serial != page.serial:
        raise CorruptLogError(path, page.offset, f"this is file {serial} of this store: it was misplaced")
    payload = memoryview(data)[HEADER_SIZE:]
    if len(payload) != length or checksum(payload) != payload_sum:
        raise CorruptLogError(path, page.offset, "a page does not match its checksum")
    try:
        messages = _decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, page.offset, f"a page does not decode: {error}") from None
    said = (page.count, page.first_number, page.last_number)
    if (count, first, last) != said or (len(messages), messages[0].number, messages[-1].number) != said:
        raise CorruptLogError(path, page.offset, "a page does not hold the messages that the index says")
    return messages


def pack_index(pages: Sequence[Page]) -> bytes:
    """The bytes of the index, which follows the last page."""
    payload = _encode(
        [
            _Entry(
                page.offset,
                page.size,
                page.first_number,
                page.last_number,
                page.count,
                page.oldest_sent_ms,
                page.newest_sent_ms,
            )
            for page in pages
        ]
    )
    return _index_header.pack(_INDEX_MAGIC, len(payload), checksum(payload)) + payload


def unpack_index(data: bytes, serial: int, path: str, offset: int) -> list[Page]:
    """The pages of a file, as they were written, from the bytes at ``offset`` to its end.

    Raises:
        CorruptLogError: this is no index, or it is damaged.
    """
    payload = memoryview(data)[_index_header.size :]
    if len(data) < _index_header.size:
        raise CorruptLogError(path, offset, "the file is shorter than the manifest says")
    magic, length, payload_sum = _index_header.unpack_from(data)
    if magic != _INDEX_MAGIC or len(payload) != length or checksum(payload) != payload_sum:
        raise CorruptLogError(path, offset, "the index does not match its checksum")
    try:
        entries = _decode_index(payload)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, offset, f"the index does not decode: {error}") from None
    return [
        Page(
            serial,
            entry.offset,
            entry.size,
            entry.first_number,
            entry.last_number,
            entry.count,
            entry.oldest_sent_ms,
            entry.newest_sent_ms,
            entry.count,
            entry.count,
        )
        for entry in entries
    ]
