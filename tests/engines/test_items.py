"""Reads of a table's items, over memory and SQLite, equal those of a sorted dict, whatever was written in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.layer import Layer, bounds_of, place, place_of
from streamkit.engines.embedded.recent import Recent
from streamkit.engines.embedded.table_reads import _MOST_LOOKED_AT, query_page, scan_page, segment_of
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import ValidationError
from streamkit.limits import MIB
from streamkit.tables.item import Item, Key, TableSchema, decode_item
from streamkit.tables.store import Segment, SortKeyRange

SCHEMA = TableSchema("table", "pk", "sk")
PARTITIONS: list[Any] = ["a", "b", "aa", "é", b"a", b"\xff", 0, -1, 7, "7"]
SORTS: list[Any] = [
    *range(-3, 12),
    *(2**63 - 1, -(2**63)),
    *("a", "a\x00", "ab", "abc", "b", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\U0010ffff\U0010ffff", "é"),
    *(b"\x00", b"a", b"ab", b"b", b"\xff", b"\xff\x01", b"\xff\xff"),
]


def item_of(key: Key, value: int) -> bytes:
    return msgspec.msgpack.encode({"pk": key[0], "sk": key[1], "n": value})


def in_order(model: dict[Key, int]) -> list[Key]:
    return sorted(model, key=place_of)


def exactly(items: list[Item]) -> list[tuple[Any, ...]]:
    return [(type(item["pk"]), item["pk"], type(item["sk"]), item["sk"], item["n"]) for item in items]


def wanted(model: dict[Key, int], keys: list[Key]) -> list[tuple[Any, ...]]:
    return [(type(key[0]), key[0], type(key[1]), key[1], model[key]) for key in keys]


def is_within(sort: Any, sort_keys: SortKeyRange | None) -> bool:
    if sort_keys is None:
        return True
    if sort_keys.prefix is not None:
        prefix: Any = sort_keys.prefix
        return type(sort) is type(prefix) and bool(sort.startswith(prefix))
    low, high = sort_keys.at_least, sort_keys.at_most
    return (low is None or place(low) <= place(sort)) and (high is None or place(sort) <= place(high))


def some_range(random: Random) -> SortKeyRange | None:
    kind = random.randrange(5)
    if kind == 0:
        return None
    if kind == 1:
        texts = [sort for sort in SORTS if not isinstance(sort, int)]
        return SortKeyRange(prefix=random.choice([*texts, "", b"", "x"]))
    ends = [*SORTS, None, 2**70, -(2**70)]
    return SortKeyRange(at_least=random.choice(ends), at_most=random.choice(ends))


def query(items: Items, partition: Any, sort_keys: SortKeyRange | None, forward: bool, limit: int) -> list[Item]:
    found: list[Item] = []
    after = None
    while True:
        page = query_page(items, partition, sort_keys, forward=forward, limit=limit, after=after)
        again = query_page(items, partition, sort_keys, forward=forward, limit=limit, after=after, key_of=SCHEMA.key_of)
        assert (exactly(again.items), again.last_key) == (exactly(page.items), page.last_key)
        assert len(page.items) <= limit
        found += page.items
        after = page.last_key
        if after is None:
            return found
        assert len(page.items) == limit or (page.items and "text" in page.items[-1])


def scan(items: Items, limit: int, segment: Segment | None = None) -> list[Item]:
    found: list[Item] = []
    after = None
    while True:
        page = scan_page(items, limit=limit, after=after, segment=segment)
        assert len(page.items) <= limit
        found += page.items
        after = page.last_key
        if after is None:
            return found


def settle(items: Items, path: str) -> None:
    """What a settling does, in one step."""
    base = items.base if isinstance(items.base, SqliteItems) else SqliteItems(path, SCHEMA)
    assert items.moving is not None
    base.apply(items.moving.entries_in_order(), afresh=items.base is None)
    items.base, items.moving = base, None


@pytest.fixture(params=["memory", "file"])
def with_base(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "file")


@pytest.fixture
def items() -> Iterator[Items]:
    made = Items()
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(12))
def test_reads_equal_those_of_a_sorted_dict(tmp_path: Path, items: Items, with_base: bool, seed: int) -> None:
    """Gets, ranges in both directions, prefixes, pages of any size, scans and segments, in any state of settling."""
    random = Random(seed)
    partitions = random.sample(PARTITIONS, random.randint(1, len(PARTITIONS)))
    sorts = SORTS if seed % 2 else list(range(60))
    model: dict[Key, int] = {}
    for step in range(60):
        for _ in range(random.choice([1, 1, 3, 40])):
            key = (random.choice(partitions), random.choice(sorts))
            if random.random() < 0.3:
                model.pop(key, None)
                items.set(key, None)
            else:
                model[key] = random.randrange(1000)
                items.set(key, item_of(key, model[key]))
        if with_base and random.random() < 0.2:
            if items.moving is None:
                items.moving, items.newest = items.newest, Layer()
            else:
                settle(items, str(tmp_path / "1.sqlite"))
        if step % 3:
            continue
        for _ in range(4):
            key = (random.choice(partitions), random.choice(sorts))
            data = items.get(key)
            assert (None if data is None else decode_item(data)["n"]) == model.get(key)
            partition, sort_keys = key[0], some_range(random)
            keys = [k for k in in_order(model) if place(k[0]) == place(partition) and is_within(k[1], sort_keys)]
            limit = random.choice([1, 2, 5, 1000])
            assert exactly(query(items, partition, sort_keys, True, limit)) == wanted(model, keys)
            assert exactly(query(items, partition, sort_keys, False, limit)) == wanted(model, keys[::-1])
        whole = wanted(model, in_order(model))
        assert exactly(scan(items, random.choice([1, 3, 1000]))) == whole
        of = random.choice([2, 3, 7])
        parts = [exactly(scan(items, random.choice([1, 50]), Segment(n, of))) for n in range(of)]
        assert sorted(repr(entry) for part in parts for entry in part) == sorted(map(repr, whole))
        for n, part in enumerate(parts):
            assert all(segment_of(entry[1], of) == n for entry in part)
        known = [place(partition) for partition in items.partitions()]
        assert known == sorted(set(known)), "in order, each once; one whose items are all gone may be among them"
        assert {place(key[0]) for key in model} <= set(known)
        assert {place(partition) for partition in items.unordered()} == set(known)
        start = random.choice(PARTITIONS)
        assert [place(p) for p in items.partitions(start)] == [p for p in known if p >= place(start)]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("count", [0, 1, 127, 1024, 20_000])
def test_all_entries_come_in_order(count: int, mixed: bool) -> None:
    """As SQLite orders them: it writes them several times as fast so."""
    random = Random(count)
    layer = Layer()
    for number in range(count):
        key: Key = (random.choice(PARTITIONS), random.choice(SORTS)) if mixed else (f"{random.random()}", number % 7)
        layer.set(key, None if number % 5 == 0 else b"%d" % number)
    found = list(layer.entries_in_order())
    assert found == sorted(layer.entries(), key=lambda entry: place_of(entry[0]))
    assert [type(key[0]) for key, _ in found] == [type(key[0]) for key in sorted(dict(layer.entries()), key=place_of)]


@pytest.mark.parametrize("count", [1, 600, 5000])
def test_keys_that_come_between_reads_are_put_in_order(count: int) -> None:
    """A few into their chunk, which is split when it is full; many at once; and dropped ones leave no trace."""
    random = Random(count)
    layer = Layer()
    keys: set[int] = set()
    for step in range(200):
        for _ in range(random.choice([1, 10, count])):
            at = random.randrange(20_000)
            keys.add(at)
            layer.set(("a", at), b"%d" % at)
        for at in random.sample(sorted(keys), min(len(keys), 5)):
            keys.discard(at)
            layer.drop(("a", at))
        layer.drop(("a", -1))
        low = random.randrange(20_000)
        bounds = bounds_of(SortKeyRange(at_least=low, at_most=low + 500), forward=True, after=None)
        if step % 2:
            found = [key[1] for key, _ in layer.range("a", bounds, forward=True)]
            assert found == sorted(at for at in keys if low <= at <= low + 500)
    assert [key[1] for key, _ in layer.entries_from(None)] == sorted(keys)
    assert len(layer) == len(keys)


def test_a_page_reads_no_more_than_itself(tmp_path: Path, items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 partitions of one item, and of a partition of 20,000: a few SELECTs of a few rows."""
    for at in range(20_000):
        for key in ((at, 0), ("large", at)):
            items.set(key, item_of(key, at))
    items.moving, items.newest = items.newest, Layer()
    settle(items, str(tmp_path / "1.sqlite"))
    rows: list[int] = []
    select = SqliteItems._select

    def counted(base: SqliteItems, statement: str, values: tuple[object, ...]) -> list[Any]:
        found = select(base, statement, values)
        rows.append(len(found))
        return found

    monkeypatch.setattr(SqliteItems, "_select", counted)
    assert len(scan_page(items, limit=100, after=(9_999, 0)).items) == 100
    assert [
        item["sk"]
        for item in query_page(
            items, "large", SortKeyRange(at_least=50), forward=False, limit=10, after=("large", 12_000)
        ).items
    ] == list(range(11_999, 11_989, -1))
    assert sum(rows) < 300, rows


def test_a_page_ends_at_a_mebibyte_however_it_is_read(tmp_path: Path, items: Items) -> None:
    """Items of any size, more than one SELECT for some of them, and one that is larger than a page by itself."""
    sizes = [*[100] * 2000, *[30_000] * 100, 2 * MIB, *[400_000] * 5, *[100] * 500]
    for at, size in enumerate(sizes):
        items.set(("a", at), msgspec.msgpack.encode({"pk": "a", "sk": at, "n": at, "text": "x" * size}))
    items.moving, items.newest = items.newest, Layer()
    settle(items, str(tmp_path / "1.sqlite"))
    for forward in (True, False):
        assert len(query(items, "a", None, forward, 1000)) == len(sizes)
        assert len(query(items, "a", SortKeyRange(at_least=1990), forward, 70)) == len(sizes) - 1990
    page = query_page(
        items, "a", SortKeyRange(at_least=2000), forward=True, limit=1000, after=None, key_of=SCHEMA.key_of
    )
    assert sum(len(item["text"]) for item in page.items) <= MIB
    assert page.last_key == ("a", 2000 + len(page.items) - 1)


def test_a_segment_of_others_ends_its_page(items: Items) -> None:
    """A scan that finds nothing of its own still lets go of the event loop, and goes on from there."""
    segment = Segment(1 - segment_of("a", 2), 2)
    for at in range(3 * _MOST_LOOKED_AT):
        items.set(("a", at), item_of(("a", at), at))
    page = scan_page(items, limit=10, after=None, segment=segment)
    assert page.items == []
    assert page.last_key == ("a", _MOST_LOOKED_AT - 1)
    assert scan(items, 10, segment) == []
    wrong: Any = SortKeyRange(prefix=5)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        query(items, "a", wrong, True, 1)
    for number, of in ((-1, 2), (2, 2), (0, 0), (0, 1_000_001)):
        with pytest.raises(ValidationError):
            Segment(number, of)


def test_what_was_read_lately_is_bounded_and_never_old(tmp_path: Path, items: Items) -> None:
    """Keys without an item too; a write is seen at once, and after it was settled."""
    for at in range(1000):
        items.set((at, None), b"%d" % at)
    items.moving, items.newest = items.newest, Layer()
    settle(items, str(tmp_path / "1.sqlite"))
    for _ in range(2):
        assert [items.get((at, None)) for at in range(1010)] == [b"%d" % at for at in range(1000)] + [None] * 10
    items.set((5, None), b"new")
    items.set((6, None), None)
    items.set((1005, None), b"there")
    for _ in range(2):
        assert [items.get((at, None)) for at in (4, 5, 6, 1005)] == [b"4", b"new", None, b"there"]
        if items.newest:
            items.moving, items.newest = items.newest, Layer()
            settle(items, str(tmp_path / "1.sqlite"))
    recent = Recent(100_000)
    for at in range(10_000):
        recent.keep((at, None), b"x" * 100)
        recent.find((0, None))
        assert len(recent) <= 100_000 // 300 + 1
    assert recent.find((0, None)) == (True, b"x" * 100), "what is read again and again stays"
    assert recent.find((1, None)) == (False, None)


@pytest.mark.parametrize("with_base", [False, True])
def test_a_bound_beyond_all_ints_is_the_same_at_either_end(tmp_path: Path, items: Items, with_base: bool) -> None:
    """Also where both ends are one and the same object, as those of a condition of equality are."""
    for sort in (-(2**63), 0, 2**63 - 1, "a", b"a"):
        items.set(("p", sort), item_of(("p", sort), 1))
    if with_base:
        items.moving, items.newest = items.newest, Layer()
        settle(items, str(tmp_path / "1.sqlite"))
    for beyond in (-(2**70), 2**70):
        sort_keys = SortKeyRange(at_least=beyond, at_most=beyond)
        assert query(items, "p", sort_keys, True, 10) == []
        assert query(items, "p", sort_keys, False, 10) == []
