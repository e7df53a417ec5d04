"""Bytes to typed values and back: what a handle's ``type=`` means.

=====================  =============================================================================
``type=``              the value, and the bytes it is stored as
=====================  =============================================================================
not given, ``None``    any plain JSON value (dict, list, str, int, float, bool, None), as JSON
a Struct, dataclass,   that type, as JSON; decoding checks it (msgspec's rules)
TypedDict, list[X] …
``bytes``              the bytes themselves
``str``                text, as UTF-8
=====================  =============================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from streamkit.errors import DecodeError, EncodeError

T = TypeVar("T")

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_RAW = (bytes, bytearray, memoryview)


class Codec(Generic[T]):
    """Encodes and decodes values of one type. Stateless once made; share it freely."""

    def __init__(self, type_: Any = None) -> None:
        self.type: Any = Any if type_ is None else type_
        self._is_json = self.type not in (bytes, str)
        if self.type in (bytes, str, Any):
            self._decoder = None
        else:
            try:
                self._decoder = msgspec.json.Decoder(self.type)
            except TypeError as error:
                raise EncodeError(f"type={self.type!r} cannot be stored as JSON: {error}") from None

    def __repr__(self) -> str:
        return f"Codec({self.type!r})"

    def encode(self, value: T) -> bytes:
        """The bytes of ``value``.

        Raises:
            EncodeError: ``value`` is not of this codec's type, or holds something JSON cannot hold.
        """
        if self.type is bytes:
            if not isinstance(value, bytes):
                raise EncodeError(f"this handle has type=bytes and cannot take {_name(value)}: pass bytes")
            return value
        if self.type is str:
            if not isinstance(value, str):
                raise EncodeError(f"this handle has type=str and cannot take {_name(value)}: pass a str")
            return _utf8(value)
        if isinstance(value, _RAW):
            raise EncodeError(f"{_name(value)} is not a JSON value: make the handle with type=bytes to store raw bytes")
        try:
            return _encode_json(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # UnicodeEncodeError (a lone surrogate) is a ValueError.
            raise EncodeError(f"{_name(value)} cannot be encoded as JSON: {error}") from None

    def encode_all(self, values: Sequence[T]) -> list[bytes]:
        """The bytes of each value. HOT: `python -m benchmarks --only append`.

        Raises:
            EncodeError: as of ``encode``.
        """
        types = set(map(type, values))
        if self.type is bytes and types == {bytes}:
            return list(values)  # type: ignore[arg-type]
        if self._is_json and types.isdisjoint(_RAW):
            with contextlib.suppress(TypeError, ValueError, OverflowError, RecursionError):
                return list(map(_encode_json, values))
        return [self.encode(value) for value in values]

    def decode(self, data: bytes) -> T:
        """The value of ``data``.

        Raises:
            DecodeError: the bytes are not JSON, or not of this codec's type; the message says where.
        """
        if self.type is bytes:
            return data  # type: ignore[return-value]
        try:
            if self.type is str:
                return data.decode()  # type: ignore[return-value]
            if self._decoder is None:
                value: T = _decode_json(data)
                return value
            decoded: T = self._decoder.decode(data)
            return decoded
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"{len(data)} stored bytes are not a {_type_name(self.type)}: {error}") from None


def plain(data: bytes) -> Any:
    """The plain JSON value of ``data``, whatever a handle's type; for patterns and tools.

    Raises:
        DecodeError: the bytes are not JSON.
    """
    try:
        return _decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"{len(data)} stored bytes are not JSON: {error}") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"the text has no UTF-8 form: {error}") from None


def _name(value: object) -> str:
    return f"a {type(value).__name__}"


def _type_name(type_: Any) -> str:
    return "JSON value" if type_ is Any else getattr(type_, "__name__", repr(type_))
