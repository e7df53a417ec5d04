"""Queues are measured only if every message came once."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import streamkit
from benchmarks import backlog
from benchmarks.__main__ import main
from benchmarks.measure import Setting, WrongResultError
from benchmarks.order import Records, verify_once
from benchmarks.peers import Delivery, WorkQueue, queues
from benchmarks.queue import CountingFiles, open_queue, verify_empty
from benchmarks.workloads.queue_scale import woken
from benchmarks.workloads.queues import QUEUES

RECORDS = Records(100, 1)
BODIES = [RECORDS.payload(place) for place in range(20)]


# ---- verification


def test_verification_accepts_messages_in_any_order() -> None:
    verify_once(RECORDS, reversed(BODIES), 20)
    verify_once(RECORDS, [], 0)


SPOILED = {
    "lost": BODIES[:5] + BODIES[6:],
    "doubled": [*BODIES, BODIES[5]],
    "lost and doubled": [*BODIES[:5], BODIES[4], *BODIES[6:]],
    "a byte flipped": [*BODIES[:5], BODIES[5][:-1] + b"y", *BODIES[6:]],
    "cut short": [*BODIES[:5], BODIES[5][:-1], *BODIES[6:]],
    "a stranger": [*BODIES, b"who?"],
    "one too many": [*BODIES, RECORDS.payload(20)],
}


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_verification_of_messages_catches(spoiled: list[bytes]) -> None:
    with pytest.raises(WrongResultError):
        verify_once(RECORDS, spoiled, 20)


class SpoilingQueue:
    """A peer that keeps everything in a list, and spoils what is received, or deletes nothing."""

    def __init__(self, kept: list[bytes], spoil: Callable[[bytes], bytes], *, deletes: bool) -> None:
        self.kept = kept
        self._hidden: list[bytes] = []
        self._spoil = spoil
        self._deletes = deletes

    async def send(self, data: bytes) -> None:
        self.kept.append(data)

    async def receive(self, most: int) -> Sequence[Delivery]:
        body = self.kept.pop(0)
        self._hidden.append(body)
        return [(body, self._spoil(body))]

    async def delete(self, handles: Sequence[Any]) -> None:
        for body in handles:
            self._hidden.remove(body)
            if not self._deletes:
                self.kept.append(body)

    async def left(self) -> int:
        return len(self.kept)


def run_cycle(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes], *, deletes: bool) -> int:
    """Put a peer that spoils where sqlite is, and run only that."""
    kept: list[bytes] = []

    @asynccontextmanager
    async def opened(_: Path) -> AsyncIterator[WorkQueue]:
        yield SpoilingQueue(kept, spoil, deletes=deletes)

    sqlite = next(peer for peer in queues() if peer.name == "sqlite")
    monkeypatch.setitem(vars(sqlite), "open", opened)
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", QUEUES[:1])
    monkeypatch.setattr("benchmarks.__main__.known", lambda: [sqlite])
    monkeypatch.setattr(
        "benchmarks.__main__._lanes",
        lambda workload, missing, peers, engine: [lane for lane in workload.lanes if lane.peer == "sqlite"],
    )
    return main(["--small", "--peers"])


def as_it_is(body: bytes) -> bytes:
    return body


def always_the_first(body: bytes) -> bytes:
    return b"%020d" % 0 + body[20:]


def cut_short(body: bytes) -> bytes:
    return body[:-1]


@pytest.mark.parametrize("spoil", [always_the_first, cut_short], ids=lambda spoil: str(spoil.__name__))
def test_a_queue_that_spoils_gets_no_number(
    spoil: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cycle(monkeypatch, spoil, deletes=True) == 1
    said = capsys.readouterr()
    assert "WRONG, so there are no numbers: cycle: " in said.err
    assert "messages/s" not in said.out


def test_a_queue_that_does_not_delete_gets_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cycle(monkeypatch, as_it_is, deletes=False) == 1
    assert "WRONG, so there are no numbers: cycle: " in capsys.readouterr().err


def test_a_queue_that_is_right_gets_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cycle(monkeypatch, as_it_is, deletes=True) == 0
    assert re.search(r"sqlite +[\d,]+ messages/s", capsys.readouterr().out)


# ---- ours


async def test_our_queue_in_the_words_of_peers(tmp_path: Path) -> None:
    setting = Setting(tmp_path, tmp_path, small=True)
    async with open_queue(setting) as queue:
        await queue.send(BODIES[0])
        await queue.send_batch(BODIES[1:3])
        found = await queue.receive(10)
        assert [body for _, body in found] == BODIES[:3]
        assert await queue.left() == 3
        await queue.delete([handle for handle, _ in found[:2]])
        assert await queue.left() == 1
    with pytest.raises(WrongResultError, match="came back"):
        await verify_empty(setting)


def test_counting_files_count_every_sync(tmp_path: Path) -> None:
    files = CountingFiles()
    fd = files.open(str(tmp_path / "file"), create=True)
    try:
        files.write(fd, b"data", 0)
        assert files.syncs == 0
        files.sync(fd)
        files.sync_directory(str(tmp_path))
        assert files.syncs == 2
    finally:
        os.close(fd)


# ---- at scale


def test_what_waits_is_seen_to_wait_and_to_come_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "data")
    backlog.main("fill", directory, "100", "1", "fsync")
    said = json.loads(capsys.readouterr().out)
    assert said["full"]["send"] > 0
    assert said["empty"]["receive and delete"] > 0
    assert len(json.loads((tmp_path / "received").read_text())) == backlog.CLIENTS * backlog.EACH
    backlog.main("reopen", directory, "100", "1", "fsync")
    assert json.loads(capsys.readouterr().out)["opened"] > 0


def test_a_backlog_that_lost_a_message_has_no_number(tmp_path: Path) -> None:
    async def lose() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            queue = kit.queue("backlog", type=bytes)
            (message,) = await queue.receive()
            await queue.delete(message)

    backlog.main("fill", str(tmp_path / "data"), "100", "1", "fsync")
    asyncio.run(lose())
    with pytest.raises(SystemExit, match="100 messages were to wait, and 99 do"):
        backlog.main("reopen", str(tmp_path / "data"), "100", "1", "fsync")


def test_a_backlog_with_a_message_of_before_has_no_number(tmp_path: Path) -> None:
    async def replace() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            queue = kit.queue("backlog", type=bytes)
            (message,) = await queue.receive()
            await queue.delete(message)
            await queue.send(backlog.MESSAGES.payload(0))  # The first probe had that one.

    backlog.main("fill", str(tmp_path / "data"), "100", "1", "fsync")
    asyncio.run(replace())
    with pytest.raises(SystemExit, match="message 0 came twice"):
        backlog.main("reopen", str(tmp_path / "data"), "100", "1", "fsync")


async def test_receivers_that_did_not_wait_have_no_number() -> None:
    async with streamkit.open("memory:") as kit:
        queue = await kit.create_queue("jobs", type=bytes)
        await queue.send(b"early")
        with pytest.raises(WrongResultError, match="did not wait"):
            await woken(queue, 3, batch=False, idle=0.001)


@pytest.mark.parametrize("batch", [False, True])
async def test_every_receiver_is_woken_once(batch: bool) -> None:
    async with streamkit.open("memory:") as kit:
        queue = await kit.create_queue("jobs", type=bytes)
        _, took = await woken(queue, 20, batch=batch, idle=0.001)
        assert took.value > 0
        assert (await queue.describe()).not_visible == 0


def test_a_number_of_messages_is_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--messages", "0"])
    assert "--messages is at least 1, not 0" in capsys.readouterr().err
