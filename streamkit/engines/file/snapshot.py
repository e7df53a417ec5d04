"""A queue as one file, as it stood at the manifest's position of the journal: its messages that no other file has, what
became of those that were filed, what deduplication remembers that no other file has, and receive attempts.

The checksum covers the file's name as well, so one queue's file is not taken for another's.
"""

from __future__ import annotations

import os

import msgspec

from streamkit.engines.embedded.changes import plain
from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.frame import checksum
from streamkit.errors import CorruptLogError
from streamkit.queues.attempts import Attempt
from streamkit.queues.backlog import Page, PageState
from streamkit.queues.deduplication import Original
from streamkit.queues.settled import restore, unfiled
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState

_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


class Snapshot(msgspec.Struct):
    """What a queue's file holds. A file that was written before there were FIFO queues holds the messages alone."""

    messages: list[StoredMessage]
    ids: list[Original] = []
    attempts: list[Attempt] = []
    pages: dict[int, list[PageState]] = {}
    """Of each file, by serial. A file that is not mentioned is as it was written."""

    def fill(self, queue: QueueState, files: dict[int, list[Page]], ids: dict[int, list[Original]]) -> None:
        """Put it, and what the queue's other files hold, into an empty queue."""
        restore(queue, self.messages, files)
        queue.deduplication.restore(ids, self.ids)
        queue.attempts.adopt(self.attempts)


_decode = msgspec.msgpack.Decoder(Snapshot).decode
_decode_messages = msgspec.msgpack.Decoder(list[StoredMessage]).decode


def is_empty(queue: QueueState) -> bool:
    """Whether there is nothing that a snapshot would hold."""
    return not (queue.messages or queue.deduplication or queue.attempts or queue.backlog.files)


def file_name(queue_id: int, serial: int) -> str:
    """The name of a queue's snapshot."""
    return f"{queue_id}-{serial:012d}.snap"


def encode(queue: QueueState, now_ms: int) -> bytes:
    """What a queue holds. Taken on the event loop, because it goes on changing."""
    return _encode(
        Snapshot(
            unfiled(queue),
            queue.deduplication.unfiled(now_ms),
            queue.attempts.entries(now_ms),
            queue.backlog.states(),
        )
    )


def save(files: Files, directory: str, queue_id: int, serial: int, body: bytes) -> None:
    """Write a snapshot, durably."""
    name = file_name(queue_id, serial)
    replace_file(files, os.path.join(directory, name), _checksum(name, body).to_bytes(4, "little") + body)


def load(files: Files, directory: str, queue_id: int, serial: int) -> Snapshot:
    """What a snapshot holds.

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
        # A map begins with 0x8N, 0xDE or 0xDF in msgpack, and an array does not.
        is_map = body[:1] in (b"\xde", b"\xdf") or body[0] >> 4 == 0x8
        return _decode(body) if is_map else Snapshot(_decode_messages(body))
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, 4, f"the snapshot does not decode: {error}") from None


def _checksum(name: str, body: bytes) -> int:
    return checksum(body, checksum(name.encode()))
