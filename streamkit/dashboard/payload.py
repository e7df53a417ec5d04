"""What is shown of somebody's bytes: their beginning, as text. Pure."""

from __future__ import annotations

import msgspec

MOST_CHARACTERS = 4000
"""That are shown of a body."""


class Payload(msgspec.Struct, frozen=True):
    """Bytes as they are shown."""

    text: str
    """UTF-8 if they are; bytes that are not are shown as hexadecimal digits."""
    size: int
    """Bytes in all."""
    is_text: bool
    is_whole: bool
    """Whether ``text`` is all of it."""


def payload_of(data: bytes, most: int = MOST_CHARACTERS) -> Payload:
    """What is shown of ``data``."""
    head = data[: 4 * most]  # A character has four bytes at most.
    try:
        # A cut may be within a character, of which up to three bytes are then there.
        text = _decoded(head, cut=len(head) < len(data))
    except UnicodeDecodeError:
        return Payload(data[: most // 3].hex(" "), len(data), False, len(data) <= most // 3)
    return Payload(text[:most], len(data), True, len(head) == len(data) and len(text) <= most)


def _decoded(head: bytes, *, cut: bool) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        if cut and error.start >= len(head) - 3 and error.reason == "unexpected end of data":
            return head[: error.start].decode()
        raise
