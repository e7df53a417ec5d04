"""A queue as one file: all its messages as they stood at the manifest's position of the journal.

The checksum covers the file's name as well, so one queue's file is not taken for another's.
"""

from __future__ import annotations

import os

import msgspec

from streamkit.engines.embedded.changes import plain
from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.frame import checksum
from streamkit.errors import CorruptLogError
from streamkit.queues.visibility import QueueState, StoredMessage

_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode
_decode = msgspec.msgpack.Decoder(list[StoredMessage]).decode


def file_name(queue_id: int, serial: int) -> str:
    """The name of a queue's snapshot."""
    return f"{queue_id}-{serial:012d}.snap"


def encode(queue: QueueState) -> bytes:
    """The messages of a queue. Taken on the event loop, because they go on changing."""
    return _encode(list(queue.messages.values()))


def save(files: Files, directory: str, queue_id: int, serial: int, body: bytes) -> None:
    """Write a snapshot, durably."""
    name = file_name(queue_id, serial)
    replace_file(files, os.path.join(directory, name), _checksum(name, body).to_bytes(4, "little") + body)


def load(files: Files, directory: str, queue_id: int, serial: int) -> list[StoredMessage]:
    """The messages of a snapshot.

    Raises:
        CorruptLogError: it is missing or does not match its checksum.
    """
    name = file_name(queue_id, serial)
    path = os.path.join(directory, name)
    try:
        data = read_file(files, path)
    except FileNotFoundError:
        raise CorruptLogError(path, 0, "the snapshot is missing") from None
    body = data[4:]
    if len(data) < 4 or _checksum(name, body) != int.from_bytes(data[:4], "little"):
        raise CorruptLogError(path, 0, "the snapshot does not match its checksum")
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, 4, f"the snapshot does not decode: {error}") from None


def _checksum(name: str, body: bytes) -> int:
    return checksum(body, checksum(name.encode()))
