"""What can be said of a table beside its key: indexes, time to live, change feed, capacity. Pure.

Follows "CreateTable", "UpdateTable" and "UpdateTimeToLive" (Amazon DynamoDB API Reference).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypedDict

import msgspec

from streamkit.errors import AlreadyExistsError, NotFoundError, ValidationError
from streamkit.tables.index import MOST_GLOBAL, MOST_LOCAL, TTL_INDEX, Index, check_index
from streamkit.tables.item import TableSchema

StreamView = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
_VIEWS = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
_STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Capacity(msgspec.Struct, frozen=True):
    """That what a table consumes is counted, and, of a PROVISIONED one, how much that may be.

    PAY_PER_REQUEST counts only. PROVISIONED refuses what is over ``read`` or ``write`` units per second, once what was
    not used in the last 300 seconds is used up.
    """

    mode: Literal["PAY_PER_REQUEST", "PROVISIONED"] = "PAY_PER_REQUEST"
    read: int = 0
    write: int = 0


class TableAttributes(msgspec.Struct, frozen=True):
    """What a table has beside its key and its items."""

    indexes: tuple[Index, ...] = ()
    ttl: str | None = None
    """The attribute that says when an item expires, in Unix seconds."""
    stream_view: StreamView | None = None
    """What the change feed's records hold; None: there is no feed."""
    stream: str = ""
    """The stream that the records are put into."""
    capacity: Capacity | None = None
    """None: nothing is counted."""

    def all_indexes(self) -> tuple[Index, ...]:
        """Those that the user knows, and the hidden one of the time to live."""
        return self.indexes if self.ttl is None else (*self.indexes, Index(TTL_INDEX, self.ttl, projection="KEYS_ONLY"))


NOTHING_MORE = TableAttributes()


class TableOptions(TypedDict, total=False):
    """What can be changed about a table; what is left out stays as it is."""

    ttl: str | None
    """A top-level attribute with Unix seconds: the item goes after that. None: items stay."""
    stream: StreamView | None
    """Put every change into a stream, with the item as it was, as it is, both, or neither. None: no feed."""
    stream_name: str
    """Of the feed; ``TABLE.stream`` unless said. One that is not there is made, with one shard."""
    capacity: Capacity | None
    """Count capacity units, and refuse what is over them. None: neither."""


class NewTableOptions(TableOptions, total=False):
    """What ``Kit.create_table`` takes."""

    indexes: Sequence[Index]
    """At most 5 local and 20 global ones."""


class TableChanges(TableOptions, total=False):
    """What ``Kit.update_table`` takes."""

    add_indexes: Sequence[Index]
    """Global ones; their items are filled in while the table is used, and then they can be queried."""
    remove_indexes: Sequence[str]
    """Names of global ones."""


def attributes_of(schema: TableSchema, options: NewTableOptions) -> TableAttributes:
    """The attributes of a new table.

    Raises:
        ValidationError: an option is unknown or not valid.
    """
    _refuse_unknown(options.keys() - NewTableOptions.__annotations__.keys() - TableOptions.__annotations__.keys())
    indexes = _all_of("indexes", options.get("indexes", ()))
    return with_options(schema, msgspec.structs.replace(TableAttributes(), indexes=indexes), options)


def changed_attributes(schema: TableSchema, old: TableAttributes, changes: TableChanges) -> TableAttributes:
    """The attributes after an update.

    Raises:
        AlreadyExistsError: an index that is added is there.
        NotFoundError: an index that is removed is not.
        ValidationError: a change is unknown or not valid.
    """
    _refuse_unknown(changes.keys() - TableChanges.__annotations__.keys() - TableOptions.__annotations__.keys())
    removed = changes.get("remove_indexes", ())
    if isinstance(removed, str):
        raise ValidationError(f"remove_indexes takes several names: pass [{removed!r:.80}]")
    names = {index.name for index in old.indexes}
    for name in removed:
        if name not in names:
            raise NotFoundError("index", f"{schema.name}/{name}")
    added = _all_of("add_indexes", changes.get("add_indexes", ()))
    for index in added:
        if index.name in names:
            raise AlreadyExistsError("index", f"{schema.name}/{index.name}", "definition: remove it first")
    indexes = (*(index for index in old.indexes if index.name not in set(removed)), *added)
    return with_options(schema, msgspec.structs.replace(old, indexes=indexes), changes)


def check_attributes(schema: TableSchema, attributes: TableAttributes) -> None:
    """Refuse what a table cannot have.

    Raises:
        ValidationError: says what, and what is allowed.
    """
    for index in attributes.indexes:
        check_index(schema, index)
    names = [index.name for index in attributes.indexes]
    if len(names) != len(set(names)):
        raise ValidationError(f"two indexes of table {schema.name!r} have one name: {sorted(names)}")
    for kind, most in (("LOCAL", MOST_LOCAL), ("GLOBAL", MOST_GLOBAL)):
        count = sum(index.kind == kind for index in attributes.indexes)
        if count > most:
            raise ValidationError(f"a table has at most {most} {kind.lower()} indexes, not {count}")
    ttl = attributes.ttl
    if ttl is not None and (not isinstance(ttl, str) or not 1 <= len(ttl.encode()) <= 255 or ttl in schema.key_names):
        raise ValidationError(f"ttl= is the name of an attribute that is no key of the table, not {ttl!r:.80}")
    if attributes.stream_view is not None:
        if attributes.stream_view not in _VIEWS:
            raise ValidationError(f"stream= is one of {', '.join(_VIEWS)} or None, not {attributes.stream_view!r:.80}")
        if not isinstance(attributes.stream, str) or not _STREAM_NAME.fullmatch(attributes.stream):
            raise ValidationError(
                f"the feed of table {schema.name!r} needs a stream name of 1 to 128 letters, digits, '_', '.' or '-', "
                f"not {attributes.stream!r:.200}: pass stream_name="
            )
    _check_capacity(attributes.capacity)


def check_change(schema: TableSchema, old: TableAttributes, new: TableAttributes) -> None:
    """Refuse a change that a table cannot make.

    Raises:
        ValidationError: a local index would come or go, or an index become another under its name.
    """
    check_attributes(schema, new)
    known = {index.name: index for index in old.indexes}
    for index in new.indexes:
        if known.get(index.name, index) != index:
            raise ValidationError(f"index {index.name!r} cannot be changed: remove it, then add the other one")
    local = [[index for index in each.indexes if index.kind == "LOCAL"] for each in (old, new)]
    if local[0] != local[1]:
        raise ValidationError(f"local indexes of table {schema.name!r} come with the table and stay: use a global one")


def with_options(schema: TableSchema, base: TableAttributes, options: TableOptions) -> TableAttributes:
    """The attributes with those of ``base`` where the options say nothing; indexes are not among them.

    Raises:
        ValidationError: an option is not valid.
    """
    stream = options.get("stream_name", base.stream)
    view = options.get("stream", base.stream_view)
    attributes = msgspec.structs.replace(
        base,
        ttl=options.get("ttl", base.ttl),
        stream_view=view,
        stream=(stream or f"{schema.name}.stream") if view is not None else "",
        capacity=options.get("capacity", base.capacity),
    )
    check_attributes(schema, attributes)
    return attributes


def _check_capacity(capacity: Capacity | None) -> None:
    if capacity is None:
        return
    if not isinstance(capacity, Capacity) or capacity.mode not in ("PAY_PER_REQUEST", "PROVISIONED"):
        raise ValidationError(f"capacity= is a Capacity of mode PAY_PER_REQUEST or PROVISIONED, not {capacity!r:.80}")
    units = (capacity.read, capacity.write)
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in units)
    if capacity.mode == "PROVISIONED" and (not whole or min(units) < 1):
        raise ValidationError(f"a PROVISIONED table has read and write units of 1 or more, not {units}")
    if capacity.mode == "PAY_PER_REQUEST" and units != (0, 0):
        raise ValidationError("read and write units are for a PROVISIONED table: pass mode='PROVISIONED'")


def _all_of(option: str, indexes: Sequence[Index]) -> tuple[Index, ...]:
    if isinstance(indexes, Index) or not all(isinstance(index, Index) for index in indexes):
        raise ValidationError(f"{option}= takes a list of Index(...), not {indexes!r:.80}")
    return tuple(indexes)


def _refuse_unknown(names: set[str]) -> None:
    if names:
        raise ValidationError(f"a table has no option {sorted(names)[0]!r}")
