"""What a FIFO queue's deduplication remembers, on disk: files that are written once and removed when all of it is old.

The checksum covers the file's name as well, so one queue's file is not taken for another's.
"""

from __future__ import annotations

import os

import msgspec

from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.frame import checksum
from streamkit.errors import CorruptLogError
from streamkit.queues.deduplication import FiledIds, Original

_AT_ONCE = 4096
"""Encoding holds the GIL, for a millisecond or so."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Original]]).decode


def file_name(queue_id: int, serial: int) -> str:
    """The name of a file of a queue's ids."""
    return f"{queue_id}-{serial:012d}.ids"


def save(files: Files, directory: str, queue_id: int, ids: FiledIds) -> None:
    """Write a file of ids, durably."""
    name = file_name(queue_id, ids.serial)
    originals = list(ids.originals)
    parts = [_encode(originals[start : start + _AT_ONCE]) for start in range(0, len(originals), _AT_ONCE)]
    body = b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *parts))  # A msgpack array of arrays.
    replace_file(files, os.path.join(directory, name), _checksum(name, body).to_bytes(4, "little") + body)


def load(files: Files, directory: str, queue_id: int, serial: int) -> list[Original]:
    """What a file of ids holds, in the order in which they were sent.

    Raises:
        CorruptLogError: it is missing or damaged.
        OSError: it cannot be read.
    """
    name = file_name(queue_id, serial)
    path = os.path.join(directory, name)
    try:
        data = read_file(files, path)
    except FileNotFoundError:
        raise CorruptLogError(path, 0, "the file is missing") from None
    body = data[4:]
    if len(data) < 4 or _checksum(name, body) != int.from_bytes(data[:4], "little"):
        raise CorruptLogError(path, 0, "the file does not match its checksum")
    try:
        entries = [entry for part in _decode(body) for entry in part]
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, 4, f"the file does not decode: {error}") from None
    if not entries:
        raise CorruptLogError(path, 4, "the file holds nothing")
    return entries


def _checksum(name: str, body: bytes) -> int:
    return checksum(body, checksum(name.encode()))
