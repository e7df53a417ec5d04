"""Tokens of atomic writes: what makes two calls the same, and what is kept of one that was done. Pure.

Follows ``ClientRequestToken`` of TransactWriteItems (Amazon DynamoDB API Reference).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from streamkit.errors import IdempotentParameterMismatchError, ValidationError
from streamkit.tables import number
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.write import Delete, Put, Update, Write

VALID_SECONDS = 600
"""How long a token stands for the call that was done first."""
LONGEST_TOKEN = 36
TOKENS = TableSchema("streamkit-tokens", "token")
"""The table of the tokens whose calls were done, made with the first of them."""
TOKEN_ATTRIBUTES = TableAttributes(ttl="expires")

_encode = msgspec.msgpack.Encoder().encode


def check_token(token: object) -> None:
    """Refuse what cannot be one.

    Raises:
        ValidationError: it is no str of 1 to 36 characters.
    """
    if not isinstance(token, str) or not 1 <= len(token) <= LONGEST_TOKEN:
        raise ValidationError(
            f"a client request token is a str of 1 to {LONGEST_TOKEN} characters, such as str(uuid.uuid4()), "
            f"not {token!r:.80}"
        )
    try:
        token.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"a client request token needs a UTF-8 form, {token!r:.80} has none: {error}") from None


def check_repeatable(writes: Sequence[Write]) -> None:
    """Refuse writes that would have to answer: a repetition could not answer the same, as it writes nothing.

    Raises:
        ValidationError: a write has ``returns``.
    """
    for write in writes:
        if isinstance(write, (Put, Update, Delete)) and write.returns != "NONE":
            raise ValidationError(f"a call with a token answers with no items: leave returns={write.returns!r} out")


def token_put(token: str, fingerprint: bytes, at_ms: int) -> Put:
    """What is kept of a call that is done at this instant."""
    expires = Decimal(at_ms + VALID_SECONDS * 1000) / 1000
    return Put({"token": token, "fingerprint": fingerprint, "expires": expires}, TOKENS.name)


def is_valid(kept: Item, now_ms: int) -> bool:
    """Whether it is not too long ago; expired items are there until somebody deletes them."""
    return bool(kept["expires"] * 1000 > now_ms)


def check_same(kept: Item, writes: Sequence[Write]) -> None:
    """Refuse another call with the token of one that was done.

    Raises:
        IdempotentParameterMismatchError: it is another one.
    """
    if fingerprint_of(writes) != kept["fingerprint"]:
        raise IdempotentParameterMismatchError(kept["token"])


def fingerprint_of(writes: Sequence[Write]) -> bytes:
    """Equal for the same writes in the same order, in any process: numbers by value, dicts and sets in any order.

    Raises:
        ValidationError: there is something in them that no table can hold.
    """
    try:
        return hashlib.sha256(_encode([_canonical(write) for write in writes])).digest()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValidationError(f"the writes cannot be stored: {error}") from None


def _canonical(value: Any) -> Any:
    """The value as msgpack that is the same for everything equal; a list begins with what it stands for."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    if number.is_number(value):
        return ["number", _digits(value)]
    if isinstance(value, Mapping):
        return ["map", sorted(_encode([_canonical(name), _canonical(member)]) for name, member in value.items())]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(_encode(_canonical(member)) for member in value)]
    if isinstance(value, (list, tuple)):
        return ["list", *map(_canonical, value)]
    if isinstance(value, msgspec.Struct):
        fields = [_canonical(getattr(value, field)) for field in value.__struct_fields__]
        return ["struct", type(value).__name__, *fields]
    raise TypeError(f"a {type(value).__name__} is nothing that an item, a key or a condition has")


def _digits(value: number.Number) -> str:
    # A float means the number that it is written as.
    exact = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise ValueError(f"{value} is not finite")
    sign, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    significant = text.rstrip("0")
    if not significant:
        return "0"
    assert isinstance(exponent, int)
    return f"{'-' if sign else ''}{significant}E{exponent + len(text) - len(significant)}"
