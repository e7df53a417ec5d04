"""Items as any SQLite tool can read them: each as a JSON document, and a view with a column for each attribute. Pure.

What JSON, or SQLite's reading of it, cannot hold exactly becomes text: a ``Decimal`` of more than 15 digits, an int of
more than 64 bits. With up to 15 digits a double gives back the very decimal it was read from. Sets become arrays,
bytes base64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec

from streamkit.tables.item import EXTENDED_DECIMAL, EXTENDED_INT, EXTENDED_SET, TableSchema

MOST_COLUMNS = 200
"""Attributes with a column of their own, beside the key; all are in the document."""
_LONGEST_NAME = 255
"""Bytes in the name of an attribute that has a column; the text of the view has a limit."""
_EXACT_DIGITS = 15
_FITS = 2**63
_LARGE_INT = re.compile(rb"\xcf[\x80-\xff]", re.DOTALL).search
"""How msgpack begins an int of 2**63 or more; other values may have these bytes, too."""
_NEEDS_ESCAPES = re.compile(r'["\\\x00-\x1f]').search

PlainItem = dict[str, Any]


def _of_extension(code: int, data: memoryview) -> Any:
    if code == EXTENDED_DECIMAL:
        text = bytes(data).decode()
        return msgspec.Raw(text) if _is_exact(text) else text
    if code == EXTENDED_INT:
        return bytes(data).decode()
    if code == EXTENDED_SET:
        return _decode_members(data)
    raise msgspec.DecodeError(f"an extension type {code}, which this version does not know")


_decode_members = msgspec.msgpack.Decoder(list[Any], ext_hook=_of_extension).decode
_decode_all = msgspec.msgpack.Decoder(list[PlainItem], ext_hook=_of_extension).decode
_encode_lines = msgspec.json.Encoder().encode_lines


def _is_exact(text: str) -> bool:
    """Whether the number that is written so is what SQLite makes of it."""
    if len(text) <= _EXACT_DIGITS:
        return True
    if text.lstrip("-").isdigit():
        return -_FITS <= int(text) < _FITS or len(text.strip("-0")) <= _EXACT_DIGITS
    return len("".join(map(str, Decimal(text).as_tuple().digits)).strip("0")) <= _EXACT_DIGITS


def plain_items(stored: Sequence[bytes]) -> list[PlainItem | None]:
    """Stored items with nothing but what JSON has; None for one that does not decode.

    HOT: run it for a few hundred items at a time. It is one call into C, which holds the GIL.
    """
    data = b"".join(stored)
    try:
        items: list[PlainItem | None] = list(_decode_all(b"\xdd" + len(stored).to_bytes(4, "big") + data))
    except (msgspec.MsgspecError, ValueError, ArithmeticError):
        # One of them is damaged, or of a later version: no reason not to show the others, nor not to settle.
        if len(stored) == 1:
            return [None]
        return [item for each in stored for item in plain_items([each])]
    if _LARGE_INT(data):
        for at, each in enumerate(stored):
            item = items[at]
            if item is not None and _LARGE_INT(each):
                items[at] = {
                    name: str(value) if value.__class__ is int and value >= _FITS else value
                    for name, value in item.items()
                }
    return items


def documents(items: Sequence[PlainItem | None]) -> list[str | None]:
    """Their JSON; None where there is no item."""
    # JSON has no line break within a document, whatever the texts in it have.
    lines: list[str | None] = list(_encode_lines(items).decode().split("\n"))
    lines.pop()
    if None in items:
        return [None if item is None else line for item, line in zip(items, lines, strict=True)]
    return lines


class Columns:
    """The columns of a table's view: the key's, then those of the attributes in the order in which they were seen.

    SQLite's names are equal whatever their case, and an attribute may be called as the document is; who comes later
    gets a number behind its name, and keeps it.
    """

    def __init__(self, schema: TableSchema, known: Iterable[tuple[str, str]] = ()) -> None:
        # A view's column of such a name gets another from SQLite.
        self._taken = {b"true", b"false"}
        self._keys = [
            self._name(name if _can_be_column(name) else column)
            for name, column in zip(schema.key_names, ("pk", "sk"), strict=False)
        ]
        self._document = self._name("document")
        self._no_columns = frozenset(schema.key_names)
        self.names = dict(known)
        """What the column of each attribute is called."""
        self._taken |= {_folded(name) for name in self.names.values()}

    def see(self, items: Iterable[PlainItem | None]) -> bool:
        """Give columns to attributes that have none; whether there were such."""
        if len(self.names) >= MOST_COLUMNS:
            return False
        seen: Iterable[str] = chain.from_iterable(filter(None, items))
        # HOT: nearly always nothing is new.
        unknown = [name for name in dict.fromkeys(seen) if name not in self.names and name not in self._no_columns]
        before = len(self.names)
        for attribute in filter(_can_be_column, unknown):
            if len(self.names) == MOST_COLUMNS:
                break
            self.names[attribute] = self._name(attribute)
        return len(self.names) > before

    def view(self, name: str, table: str) -> str:
        """The statement that makes the view ``name`` of ``table(pk, sk, document)``."""
        columns = [f"{column} AS {_quoted(key)}" for column, key in zip(("pk", "sk"), self._keys, strict=False)]
        columns += [f"{_value_of(attribute)} AS {_quoted(column)}" for attribute, column in self.names.items()]
        columns.append(f"document AS {_quoted(self._document)}")
        return f"CREATE VIEW {name} AS SELECT {', '.join(columns)} FROM {table}"

    def _name(self, wanted: str) -> str:
        name, number = wanted or "_", 1
        while _folded(name) in self._taken:
            number += 1
            name = f"{wanted or '_'}_{number}"
        self._taken.add(_folded(name))
        return name


def _folded(name: str) -> bytes:
    # As SQLite does: of ASCII letters alone.
    return name.encode().lower()


def _can_be_column(name: str) -> bool:
    return len(name.encode()) <= _LONGEST_NAME and "\x00" not in name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _value_of(attribute: str) -> str:
    """The attribute's value as an expression of SQL."""
    text = attribute.replace("'", "''")
    if _NEEDS_ESCAPES(attribute):
        # How such names are escaped in a path depends on SQLite's version. Of names that begin so and go on with a NUL,
        # where SQLite stops reading, it may show the value.
        return f"(SELECT value FROM json_each(document) WHERE key = '{text}')"
    return f"json_extract(document, '$.\"{text}\"')"
