"""What every table store does with reads of several tables at once, and with writes that have a token."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from itertools import count
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import (
    ConditionFailedError,
    ExpressionError,
    IdempotentParameterMismatchError,
    NotFoundError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.tables.condition import attribute
from streamkit.tables.idempotency import TOKENS
from streamkit.tables.item import Item
from streamkit.tables.store import TableStore
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Check, Delete, Put, Update, Write
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.tables import TOTALS, create, put, total
from streamkit.testing.contract.terms import Contract, raises

TEN_MINUTES = 600


def adding(customer: str = "a", add: Any = 1) -> list[Write]:
    """Writes that show how often they were done."""
    return [
        Update(key={"customer": customer}, add={"n": add}, table="totals"),
        Update(key={"customer": customer, "order": 1}, add={"n": add}, table="orders"),
    ]


async def times(tables: TableStore, customer: str = "a") -> int:
    """How often ``adding`` was done, to both tables."""
    both = await tables.transact_get(
        [Get({"customer": customer}, "totals"), Get({"customer": customer, "order": 1}, "orders")]
    )
    first, second = (0 if item is None else item["n"] for item in both)
    assert first == second
    return int(first)


class TransactionContract(Contract):
    """One moment for all that is read, and one time for all that is written with a token."""

    # ---- reading

    async def test_an_atomic_read_answers_each_get(self, engine: Engine, clock: ManualClock) -> None:
        """In order, of any tables; None where there is none, and what a projection wants of the others."""
        tables = engine.tables
        await create(tables)
        await put(tables, {"customer": "a", "n": 1, "tags": {"x": [1, 2]}, "note": "."}, table="totals")
        await put(tables, {"customer": "a", "order": 1, "n": 2}, {"customer": "a", "order": 2})
        gets = [
            Get({"customer": "a", "order": 2}, "orders"),
            Get({"customer": "b"}, "totals"),
            Get({"customer": "a"}, "totals", projection="tags.x[1], n"),
            Get({"customer": "a", "order": 1}, "orders", projection="nowhere"),
            Get({"customer": "c"}, "totals", projection="n"),
        ]
        assert await tables.transact_get(gets) == [
            {"customer": "a", "order": 2},
            None,
            {"tags": {"x": [2]}, "n": 1},
            {},
            None,
        ]
        assert await tables.transact_get(gets[:1]) == [{"customer": "a", "order": 2}]

    async def test_an_atomic_read_must_be_well_formed(self, engine: Engine, clock: ManualClock) -> None:
        """One to a hundred gets, each of another item; what is wrong with one is said."""
        tables = engine.tables
        await create(tables)
        many = [Get({"customer": f"{number}"}, "totals") for number in range(101)]
        assert await tables.transact_get(many[:100]) == [None] * 100
        wrong: list[Any] = [
            [],
            many,
            [Get({"customer": "a"}, "totals"), Get({"customer": "a"}, "totals", projection="n")],
            [Get({"customer": "a"})],
            [Get({"customer": "a"}, ["totals"])],  # type: ignore[arg-type]
            [Get({"order": 1}, "totals")],
            [Put({"customer": "a"}, "totals")],
        ]
        for gets in wrong:
            with raises(ValidationError):
                await tables.transact_get(gets)
        with raises(ExpressionError):
            await tables.transact_get([Get({"customer": "a"}, "totals", projection="a..b")])
        with raises(NotFoundError) as unknown:
            await tables.transact_get([Get({"customer": "a"}, "totals"), Get({"id": 1}, "unknown")])
        assert unknown.error.name == "unknown"

    async def test_an_atomic_read_sees_each_write_whole(self, engine: Engine, clock: ManualClock) -> None:
        """Whatever is written meanwhile: of a write of several tables all or nothing."""
        tables = engine.tables
        await create(tables)
        seen: set[int] = set()
        writing = True

        async def write() -> None:
            nonlocal writing
            for number in range(40):
                await tables.write(adding())
                if number % 3 == 0:
                    await asyncio.sleep(0)
            writing = False

        async def read() -> None:
            while writing:
                seen.add(await times(tables))
                await asyncio.sleep(0)

        await asyncio.gather(write(), read(), read())
        assert len(seen) > 1
        assert await times(tables) == 40

    # ---- tokens

    async def test_a_write_with_a_token_is_done_once(self, engine: Engine, clock: ManualClock) -> None:
        """However often it is asked for; other tokens are other calls, and one without a token is always new."""
        tables = engine.tables
        await create(tables)
        for _ in range(3):
            assert await tables.write(adding(), "first") == [None, None]
        assert await times(tables) == 1
        await tables.write(adding(), "second")
        await tables.write(adding())
        await tables.write(adding())
        assert await times(tables) == 4
        await tables.write([Delete({"customer": "a"}, "totals"), Delete({"customer": "a", "order": 1}, "orders")], "x")
        await tables.write(adding(), "second")
        assert await times(tables) == 0

    async def test_a_token_is_of_the_same_writes_alone(self, engine: Engine, clock: ManualClock) -> None:
        """Anything else about them is a mismatch, and nothing is written; how values are spelled is nothing."""
        tables = engine.tables
        await create(tables)
        key = {"customer": "a"}
        condition = attribute("n").absent() | (attribute("n") < 10)

        def writes(**changed: Any) -> list[Write]:
            fields: dict[str, Any] = {
                "set": {"b": {"x", "y", "z"}, "a": 1},
                "add": {"n": 1},
                "condition": condition,
            } | changed
            return [
                Update(key=key, table="totals", **fields),
                Check({"customer": "b"}, attribute("n").absent(), "totals"),
            ]

        await tables.write(writes(), "token")
        await tables.write(writes(set={"a": Decimal("1.0"), "b": {"z", "y", "x"}}, add={"n": 1.0}), "token")
        others: list[list[Write]] = [
            writes(set={"a": 2, "b": {"x", "y", "z"}}),
            writes(set={"a": True, "b": {"x", "y", "z"}}),
            writes(set={"a": "1", "b": {"x", "y", "z"}}),
            writes(set={"a": 1, "b": {"x", "y"}}),
            writes(add={}),
            writes(remove=("c",)),
            writes(condition=None),
            writes(condition=attribute("n").absent() | (attribute("n") < 11)),
            writes()[:1],
            writes()[::-1],
            [*writes(), Put({"customer": "c"}, "totals")],
            adding(),
        ]
        for other in others:
            with raises(IdempotentParameterMismatchError) as mismatch:
                await tables.write(other, "token")
            assert mismatch.error.client_request_token == "token"
            assert "give each new one a token of its own" in str(mismatch.error)
        assert await total(tables, "a") == {"customer": "a", "n": 1, "a": 1, "b": {"x", "y", "z"}}
        assert (await tables.scan("orders")).items == []

    async def test_a_token_is_valid_for_ten_minutes(self, engine: Engine, clock: ManualClock) -> None:
        """After the first call; a repetition does not make it longer. Then it is free for any call."""
        tables = engine.tables
        await create(tables)
        await tables.write(adding(), "token")
        await clock.advance(TEN_MINUTES - 1)
        await tables.write(adding(), "token")
        with raises(IdempotentParameterMismatchError):
            await tables.write(adding("b"), "token")
        assert await times(tables) == 1
        await clock.advance(1)
        await tables.write(adding("b"), "token")
        assert await times(tables, "b") == 1
        with raises(IdempotentParameterMismatchError):
            await tables.write(adding(), "token")
        await clock.advance(TEN_MINUTES)
        await tables.write(adding(), "token")
        assert await times(tables) == 2

    async def test_tokens_that_are_over_can_be_deleted(self, engine: Engine, clock: ManualClock) -> None:
        """As expired items of their table, and none too early."""
        tables = engine.tables
        await create(tables)
        for number in range(5):
            await tables.write(adding(), f"{number}")
        await clock.advance(TEN_MINUTES)
        await tables.write(adding(), "late")
        assert await tables.expire_items(TOKENS.name) == 0
        await clock.advance(0.001)
        assert await tables.expire_items(TOKENS.name) == 5
        assert [item["token"] for item in (await tables.scan(TOKENS.name)).items] == ["late"]
        await tables.write(adding(), "late")
        assert await times(tables) == 6

    async def test_a_refused_write_leaves_no_token(self, engine: Engine, clock: ManualClock) -> None:
        """Neither one whose condition is false, nor one that is malformed: it is tried again with the same token."""
        tables = engine.tables
        await create(tables)
        refused: list[Write] = [*adding(), Check({"customer": "b"}, attribute("ready").exists(), "totals")]
        malformed: list[Write] = [*adding(), *adding()]
        for _ in range(2):
            with raises(TransactionCanceledError) as canceled:
                await tables.write(refused, "token")
            assert canceled.error.reasons == ["None", "None", "ConditionalCheckFailed"]
            with raises(ConditionFailedError):
                await tables.write(refused[2:], "token")
            with raises(ValidationError):
                await tables.write(malformed, "token")
        assert await times(tables) == 0
        await put(tables, {"customer": "b", "ready": 1}, table="totals")
        await tables.write(refused, "token")
        await tables.write([Delete({"customer": "b"}, "totals")])
        # Done is done: the condition was true once.
        await tables.write(refused, "token")
        assert await times(tables) == 1

    async def test_a_token_has_1_to_36_characters(self, engine: Engine, clock: ManualClock) -> None:
        """And a write with one answers nothing, because a repetition could not."""
        tables = engine.tables
        await create(tables)
        wrong: list[Any] = ["", "x" * 37, b"token", 7, "\ud800"]
        for token in wrong:
            with raises(ValidationError):
                await tables.write(adding(), token)
        for write in (
            Put({"customer": "a"}, "totals", returns="ALL_OLD"),
            Delete({"customer": "a"}, "totals", returns="ALL_OLD"),
            Update(key={"customer": "a"}, table="totals", returns="ALL_NEW"),
        ):
            with raises(ValidationError):
                await tables.write([write], "token")
        assert (await tables.scan("totals")).items == []
        await tables.write(adding(), "x" * 36)
        await tables.write(adding(), "\U0001f600" * 36)
        assert await times(tables) == 2

    async def test_two_calls_at_once_with_one_token_write_once(self, engine: Engine, clock: ManualClock) -> None:
        """All succeed; one with other writes does not, whoever comes first."""
        tables = engine.tables
        await create(tables)
        calls = [tables.write(adding(), "token") for _ in range(5)]
        calls.insert(2, tables.write(adding("b"), "token"))
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each).__name__ for each in done] == ["list"] * 2 + ["IdempotentParameterMismatchError"] + [
            "list"
        ] * 3
        assert await times(tables) == 1
        assert await times(tables, "b") == 0

    async def test_a_cancelled_write_is_repeated_with_its_token(self, engine: Engine, clock: ManualClock) -> None:
        """Wherever the first call was cancelled, the repetition sees to it that it is done once."""
        tables = engine.tables
        await create(tables)
        runs = count(1)
        run = 0

        def make() -> Coroutine[Any, Any, object]:
            nonlocal run
            run = next(runs)
            return tables.write(adding(), f"{run}")

        async def check() -> None:
            await tables.write(adding(), f"{run}")
            assert await times(tables) == run

        await cancel_at_every_step(make, check)

    async def test_what_a_token_was_of_may_be_gone(self, engine: Engine, clock: ManualClock) -> None:
        """A repetition touches no table; and whoever deletes the table of tokens deletes them."""
        tables = engine.tables
        await create(tables)
        await tables.write(adding(), "token")
        await tables.delete_table("totals")
        await tables.write(adding(), "token")
        await tables.create_table(TOTALS)
        await tables.delete_table(TOKENS.name)
        await tables.write(adding(), "token")
        items: list[Item] = (await tables.scan("totals")).items
        assert items == [{"customer": "a", "n": 1}]
