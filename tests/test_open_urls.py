"""Which URLs open what, read-only, and which are refused with a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Alarm, NotFoundError, ValidationError
from streamkit.errors import ReadOnlyError, StorageError


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory:?mode=ro", "'memory:' takes none: what is in memory can be seen by the kit that made it alone"),
        ("memory:?", "'memory:' takes none"),
        ("./data?", "unknown parameters '': there is '\\?mode=ro'"),
        ("./data?mode", "unknown parameters 'mode': there is '\\?mode=ro'"),
        ("./data?mode=rw", "unknown parameters 'mode=rw': there is '\\?mode=ro'"),
        ("./data?mode=RO", "unknown parameters 'mode=RO'"),
        ("./data?readonly=1", "unknown parameters 'readonly=1'"),
        ("./data?mode=ro&mode=ro", "unknown parameters 'mode=ro&mode=ro'"),
        ("./data?mode=ro&cache=1", "unknown parameters"),
        ("./what?/data", "a directory with a question mark in its name is passed as a pathlib.Path"),
        ("?mode=ro", "names no directory"),
        ("file:?mode=ro", "names no directory"),
        ("file://host/data?mode=ro", "names a host"),
        ("redis:?mode=ro", "is of an unknown kind"),
    ],
)
async def test_a_misspelt_parameter_opens_nothing(
    url: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above all it opens nothing for writing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match=says):
        await streamkit.open(url)
    assert os.listdir() == []


async def test_a_path_object_may_have_a_question_mark(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data?mode=ro") as kit:
        assert kit.url == f"{tmp_path}/data?mode=ro"
        await kit.create_stream("orders")
    assert os.listdir(tmp_path) == ["data?mode=ro"]
    with pytest.raises(ValidationError, match=r"pathlib\.Path"):
        await streamkit.open(f"{tmp_path}/data?mode=ro?mode=ro")


@pytest.mark.parametrize("url", ["data?mode=ro", "./data?mode=ro", "file:data?mode=ro", "file://{}/data?mode=ro"])
async def test_a_directory_is_opened_read_only(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with streamkit.open("data") as owner:
        await owner.create_stream("orders")
        async with streamkit.open(url.format(tmp_path), durability="interval") as kit:
            assert kit.url == f"{tmp_path}/data?mode=ro"
            assert repr(kit) == f"Kit('{tmp_path}/data?mode=ro', durability='fsync')"
            assert await kit.streams() == ["orders"]


async def test_a_colon_after_the_question_mark_is_no_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match="unknown parameters 'a:b'"):
        await streamkit.open("data?a:b")
    with pytest.raises(StorageError, match="holds no streamkit data"):
        await streamkit.open("./12:30?mode=ro")


async def test_a_kit_beside_the_one_that_works(tmp_path: Path) -> None:
    """What a notebook does: look at everything, follow it, change nothing."""
    async with streamkit.open(tmp_path / "data") as owner, streamkit.open(f"{tmp_path}/data?mode=ro") as kit:
        orders = await owner.create_stream("orders", shards=2)
        await orders.put({"total": 1}, partition_key="ann")
        jobs = await owner.create_queue("jobs")
        await jobs.send("job")
        with pytest.raises(NotFoundError):
            kit.table("totals")
        totals = await owner.create_table("totals", partition_key="customer")
        await totals.put({"customer": "ann", "total": 1})

        assert [record.value async for record in kit.stream("orders").records()] == [{"total": 1}]
        assert (await kit.stream("orders").describe()).name == "orders"
        assert [message.value for message in await kit.queue("jobs").peek(10)] == ["job"]
        # Any call brings the tables that were created since.
        assert await kit.table("totals").get("ann") == {"customer": "ann", "total": 1}
        assert [item async for item in kit.table("totals").scan()] == [{"customer": "ann", "total": 1}]
        await owner.delete_table("totals")
        assert await kit.tables() == []
        with pytest.raises(NotFoundError):
            kit.table("totals")

        with pytest.raises(ReadOnlyError, match="cannot create stream 'orders'"):
            await kit.create_stream("orders", exist_ok=True)
        with pytest.raises(ReadOnlyError, match="cannot create queue 'jobs'"):
            await kit.create_queue("jobs", exist_ok=True)
        with pytest.raises(ReadOnlyError, match="cannot create table 'totals'"):
            await kit.create_table("totals", partition_key="customer", exist_ok=True)
        with pytest.raises(ReadOnlyError, match="cannot put records"):
            await kit.stream("orders").put({}, partition_key="k")
        with pytest.raises(ReadOnlyError, match="cannot receive"):
            await kit.queue("jobs").receive()
        with pytest.raises(ReadOnlyError, match="cannot enter consumer 'billing'"):
            async with kit.stream("orders").consumer("billing"):
                pass
        async with orders.consumer("billing"):
            pass
        with pytest.raises(ReadOnlyError, match="cannot enter consumer 'billing'"):
            async with kit.stream("orders").consumer("billing"):
                pass

        # What runs on what the kit itself counts may run.
        metric = kit.stream("orders").metric("IncomingRecords")
        watcher = kit.start(
            Alarm(
                "quiet",
                metric=metric,
                statistic="Sum",
                period=60,
                evaluation_periods=1,
                threshold=1,
                comparison="LessThanThreshold",
            )
        )
        await kit.stop(watcher)
        assert kit.health().healthy
