"""What somebody put, for people and for programs: JSON as it is, other text as text, anything else as base64."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from streamkit.cli.printing import escaped


def fields(data: bytes) -> dict[str, Any]:
    """One field: ``value`` with the JSON as it was put, digit by digit, or ``text``, or ``base64``."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return {"text": text}
    return {"value": msgspec.Raw(_on_one_line(data))}


def text(data: bytes) -> str:
    """The same on one line that a terminal can show."""
    found = fields(data)
    if (value := found.get("value")) is not None:
        return escaped(bytes(value).decode())
    return escaped(found["text"]) if "text" in found else f"base64 {found['base64']}"


def _on_one_line(data: bytes) -> bytes:
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data
