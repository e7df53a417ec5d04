"""What every table store does with conditions, and with several writes at once."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import ConditionFailedError, NotFoundError, TransactionCanceledError, ValidationError
from streamkit.tables.condition import attribute
from streamkit.tables.write import Check, Delete, Put, Update, Write
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.tables import create, put, total
from streamkit.testing.contract.terms import Contract, raises


class WriteContract(Contract):
    """Conditions, and writes that happen all or not at all."""

    async def test_a_condition_must_hold(self, engine: Engine, clock: ManualClock) -> None:
        """Of the item as it is at that moment; else ConditionFailedError names it and nothing is written."""
        tables = engine.tables
        await create(tables)
        before = {"customer": "a", "n": 1}
        await put(tables, before, table="totals")
        key = {"customer": "a"}
        false = attribute("n") == 2
        writes: list[Write] = [
            Put({"customer": "a", "n": 3}, table="totals", condition=false),
            Update(key=key, set={"n": 3}, table="totals", condition=false),
            Delete(key, table="totals", condition=false),
            Check(key, false, table="totals"),
        ]
        for write in writes:
            with raises(ConditionFailedError) as failed:
                await tables.write([write])
            assert failed.error.table == "totals"
            assert await total(tables, "a") == before
        true = (attribute("n") == 1) & ~attribute("m").exists()
        await tables.write([Check(key, true, table="totals")])
        assert await total(tables, "a") == before
        await tables.write([Update(key=key, add={"n": 1}, table="totals", condition=true)])
        await tables.write([Put({"customer": "a", "n": 5}, table="totals", condition=false)])
        assert await total(tables, "a") == {"customer": "a", "n": 5}
        await tables.write([Delete(key, table="totals", condition=attribute("n") >= 5)])
        assert await total(tables, "a") is None

    async def test_an_absent_item_is_an_empty_one(self, engine: Engine, clock: ManualClock) -> None:
        """Only that something is absent holds for it, not even that it differs."""
        tables = engine.tables
        await create(tables)
        key = {"customer": "a"}
        for false in (attribute("n") == 1, attribute("n") != 1, attribute("n").exists(), attribute("customer") == "a"):
            with raises(ConditionFailedError):
                await tables.write([Put(key, table="totals", condition=false)])
        await tables.write([Put(key, table="totals", condition=attribute("customer").absent())])
        with raises(ConditionFailedError):
            await tables.write([Put(key, table="totals", condition=attribute("customer").absent())])
        assert await total(tables, "a") == key

    async def test_several_writes_happen_or_none(self, engine: Engine, clock: ManualClock) -> None:
        """Over several tables; TransactionCanceledError says of each write why, in order."""
        tables = engine.tables
        await create(tables)
        await put(tables, {"customer": "a", "n": 1}, {"customer": "b", "n": 1}, table="totals")
        await put(tables, {"customer": "a", "order": 1})
        true, false = attribute("n") == 1, attribute("n") == 2

        def writes(*conditions: Any) -> list[Write]:
            first, second, third = conditions
            return [
                Put({"customer": "a", "order": 2}, table="orders"),
                Update(key={"customer": "a"}, add={"n": 1}, table="totals", condition=first),
                Delete({"customer": "a", "order": 1}, table="orders"),
                Check({"customer": "b"}, second, table="totals"),
                Put({"customer": "c"}, table="totals", condition=third),
            ]

        absent = attribute("customer").absent()
        reasons = ["None", "ConditionalCheckFailed"]
        for conditions, wrong in (
            ((false, true, absent), [0, 1, 0, 0, 0]),
            ((true, false, absent), [0, 0, 0, 1, 0]),
            ((true, true, true), [0, 0, 0, 0, 1]),
            ((false, false, true), [0, 1, 0, 1, 1]),
        ):
            with raises(TransactionCanceledError) as canceled:
                await tables.write(writes(*conditions))
            assert canceled.error.reasons == [reasons[index] for index in wrong]
            assert (await tables.scan("orders")).items == [{"customer": "a", "order": 1}]
            assert len((await tables.scan("totals")).items) == 2
            assert await total(tables, "a") == {"customer": "a", "n": 1}
        await tables.write(writes(true, true, absent))
        assert (await tables.scan("orders")).items == [{"customer": "a", "order": 2}]
        assert await total(tables, "a") == {"customer": "a", "n": 2}
        assert await total(tables, "b") == {"customer": "b", "n": 1}
        assert await total(tables, "c") == {"customer": "c"}

    async def test_a_malformed_write_refuses_the_whole_call(self, engine: Engine, clock: ManualClock) -> None:
        """Wherever in it the write stands, and also if its table does not exist."""
        tables = engine.tables
        await create(tables)
        good = Put({"customer": "a"}, table="totals")
        malformed: list[Any] = [
            Put({"customer": "b"}),
            Put({"order": 1}, table="totals"),
            Put({"customer": "b", "value": object()}, table="totals"),
            Update(key={"customer": "b"}, set={"customer": "c"}, table="totals"),
            Delete({}, table="totals"),
            Put(None, table="totals"),  # type: ignore[arg-type]
            Put(["customer"], table="totals"),  # type: ignore[arg-type]
            Delete("b", table="totals"),  # type: ignore[arg-type]
            {"customer": "b"},
            None,
        ]
        for wrong in malformed:
            for writes in ([wrong], [good, wrong], [wrong, good]):
                with raises(ValidationError):
                    await tables.write(writes)
        with raises(NotFoundError):
            await tables.write([good, Put({"customer": "b"}, table="nowhere")])
        for writes in ([], [good] * (self.limits.write_actions + 1)):
            with raises(ValidationError):
                await tables.write(writes)
        assert (await tables.scan("totals")).items == []

    async def test_a_call_writes_an_item_once(self, engine: Engine, clock: ManualClock) -> None:
        """A second write of the same item is refused, also a check; the same key in another table is another item."""
        tables = engine.tables
        await create(tables)
        key = {"customer": "a", "order": 1}
        first = Put({"customer": "a", "order": 1, "n": 1}, table="orders")
        seconds: list[Write] = [
            first,
            Update(key=key, add={"n": 1}, table="orders"),
            Delete(key, table="orders"),
            Check(key, attribute("n").absent(), table="orders"),
        ]
        for second in seconds:
            with raises(ValidationError):
                await tables.write([first, second])
        assert (await tables.scan("orders")).items == []
        others: list[Any] = ["1", b"1", 2]
        await tables.write(
            [
                first,
                Put(key, table="totals"),
                *(Put({"customer": "a", "order": other}, table="orders") for other in others),
            ]
        )
        assert len((await tables.scan("orders")).items) == 4
        assert await total(tables, "a") == key

    async def test_concurrent_writes_are_serialisable(self, engine: Engine, clock: ManualClock) -> None:
        """Counters add up, and of those who compare and swap the same item one wins."""
        tables = engine.tables
        await create(tables)

        async def add(times: int) -> None:
            for _ in range(times):
                await tables.write([Update(key={"customer": "a"}, add={"n": 1}, table="totals")])

        async def swap(number: int) -> int:
            try:
                await tables.write(
                    [Put({"customer": "b", "owner": number}, table="totals", condition=attribute("owner").absent())]
                )
            except ConditionFailedError:
                return 0
            return 1

        await asyncio.gather(*(add(10) for _ in range(10)))
        assert await total(tables, "a") == {"customer": "a", "n": 100}
        assert sum(await asyncio.gather(*(swap(number) for number in range(10)))) == 1

    async def test_reads_see_whole_writes(self, engine: Engine, clock: ManualClock) -> None:
        """Two items that are always written together are always read equal."""
        tables = engine.tables
        await create(tables)
        keys = [{"customer": "a", "order": 1}, {"customer": "a", "order": 2}]
        done = False

        async def write() -> None:
            nonlocal done
            for number in range(50):
                await tables.write([Put({**key, "n": number}, table="orders") for key in keys])
                await asyncio.sleep(0)
            done = True

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            while not done:
                got = await tables.get("orders", keys)
                queried = (await tables.query("orders", "a")).items
                scanned = (await tables.scan("orders")).items
                for pair in (got, queried, scanned):
                    assert len({None if item is None else item["n"] for item in pair}) <= 1
                await asyncio.sleep(0)
        assert await tables.get("orders", keys) == [{**key, "n": 49} for key in keys]
