"""Peers of the benchmarks keep what they are given; one more is one file; what each promises is on the page."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.__main__ import main
from benchmarks.order import Records, verify_once
from benchmarks.peers import (
    BatchQueue,
    Log,
    Peer,
    Table,
    WorkQueue,
    batch_queues,
    known,
    logs,
    promises,
    queues,
    tables,
)
from benchmarks.peers.lanes import Opened
from benchmarks.peers.peer import pack, unpack
from benchmarks.peers.servers import find_program, free_port, listens, server
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent.parent
BODIES = [Records(100, 1).payload(place) for place in range(20)]


def here(peer: Peer[Any]) -> None:
    if why := peer.lacks():
        pytest.skip(f"{why}; {peer.install}")


def name_of(peer: Peer[Any]) -> str:
    return peer.name


# ---- each keeps what it was given


@pytest.mark.parametrize("peer", logs(), ids=name_of)
async def test_log_keeps_what_it_was_given(peer: Peer[Log], tmp_path: Path) -> None:
    here(peer)
    records = Records(100, keys=20)
    async with Opened() as opened:
        log = await opened.first(peer, tmp_path)
        await log.append(records.batch(range(100)))
        for place in range(100, 110):
            await log.put(records.key(place), records.payload(place))
        await asyncio.gather(*(log.put(records.key(place), records.payload(place)) for place in range(110, 120)))
        log = await opened.again(peer, tmp_path, log)
        records.verify(log.pairs(await log.read()), 120)


@pytest.mark.parametrize("peer", queues(), ids=name_of)
async def test_queue_gives_each_message_once(peer: Peer[WorkQueue], tmp_path: Path) -> None:
    here(peer)
    async with Opened() as opened:
        queue = await opened.first(peer, tmp_path)
        for body in BODIES[:10]:
            await queue.send(body)
        found = [delivery for _ in range(10) for delivery in await queue.receive(1)]
        assert [body for _, body in found] == BODIES[:10]
        assert await queue.left() == 10, "what was received and not deleted is still there"
        for handle, _ in found:
            await queue.delete([handle])
        assert await queue.left() == 0
        await queue.send(BODIES[10])
        queue = await opened.again(peer, tmp_path, queue)
        assert await queue.left() == 1
        ((handle, body),) = await queue.receive(1)
        assert body == BODIES[10]
        await queue.delete([handle])
        assert await queue.left() == 0


@pytest.mark.parametrize("peer", batch_queues(), ids=name_of)
async def test_queue_takes_batches(peer: Peer[BatchQueue], tmp_path: Path) -> None:
    here(peer)
    async with peer.open(tmp_path) as queue:
        await queue.send_batch(BODIES[:10])
        await queue.send_batch(BODIES[10:])
        found = [*await queue.receive(10), *await queue.receive(10)]
        verify_once(Records(100, 1), [body for _, body in found], 20)
        await queue.delete([handle for handle, _ in found[:10]])
        await queue.delete([handle for handle, _ in found[10:]])
        assert await queue.left() == 0


@pytest.mark.parametrize("peer", tables(), ids=name_of)
async def test_table_keeps_what_it_was_given(peer: Peer[Table], tmp_path: Path) -> None:
    here(peer)
    items = [{"pk": f"p{at % 3}", "sk": at, "value": at * 7} for at in range(30)]
    async with Opened() as opened:
        table = await opened.first(peer, tmp_path)
        table.put_batch(items)
        table = await opened.again(peer, tmp_path, table)
        assert table.scan() == sorted(items, key=lambda item: (item["pk"], item["sk"]))
        assert table.get("p1", 4) == {"pk": "p1", "sk": 4, "value": 28}
        assert table.get("p1", 5) is None
        assert [item["sk"] for item in table.query("p0", 3, 9)] == [3, 6, 9]


def test_a_packed_record_is_unpacked() -> None:
    assert unpack(pack("key-é", b"\0data")) == ("key-é", b"\0data")


# ---- one more is one file

GHOST = """
from contextlib import asynccontextmanager

from benchmarks.peers.peer import Peer

KEPT = {}


class Ghost:
    def __init__(self, kept):
        self.kept = kept

    async def append(self, batch):
        self.kept += batch

    async def put(self, key, data):
        self.kept.append((key, data))

    async def read(self):
        return self.kept

    def pairs(self, raw):
        return raw


@asynccontextmanager
async def opened(directory):
    yield Ghost(KEPT.setdefault(directory, []))


GHOST = Peer("ghost", "log", "in a list", "nothing: it is a list.", "boo", opened)
"""
PROGRAM = """
import sys

from benchmarks import peers

peers.__path__.append(sys.argv[1])
from benchmarks import __main__ as program

every = program._lanes
program._lanes = lambda *asked: [lane for lane in every(*asked) if lane.peer in ("", "ghost")]
sys.exit(program.main(sys.argv[2:]))
"""


def test_a_peer_is_added_by_one_file(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "with_ghost.py").write_text(GHOST)
    file = tmp_path / "figures.json"
    options = ["--small", "--peers", "--only", "append", "--only", "puts", "--only", "read", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "peers"), *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text())
    rows = [(each["name"], row) for each in said["workloads"] for row in each["rows"] if row["peer"] == "ghost"]
    assert [name for name, _ in rows] == ["append", "append", "puts", "read", "read"]
    for _, row in rows:
        assert row["median"] > 0
        assert row["ratio"] > 0, "streamkit is compared with it"
        assert row["durability"] == "in a list"
    assert said["promises"]["ghost"] == "As a log: nothing: it is a list."


@pytest.fixture
def found_anew() -> Iterator[None]:
    """Peers are looked for once; here they are looked for again, and after the test once more."""
    known.cache_clear()
    yield
    known.cache_clear()


@pytest.mark.usefixtures("found_anew")
def test_two_peers_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_ghost.py").write_text(GHOST)
    (tmp_path / "with_twin.py").write_text(GHOST)
    monkeypatch.setattr(peers, "__path__", [*peers.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="two peers are a log named ghost; give one of them another name"):
        known()
    for name in ("ghost", "twin"):
        monkeypatch.delitem(sys.modules, f"benchmarks.peers.with_{name}")


# ---- one that is not there


def test_a_peer_that_is_not_there_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = logs()[0].open
    ghost = Peer("ghost", "log", "never", "nothing", "pip install ghost", opened, ["no_such_module"])
    daemon = Peer("daemon", "log", "never", "nothing", "apt-get install ghostd", opened, [], ["no-such-program"])
    monkeypatch.setattr("benchmarks.__main__.known", lambda: [ghost, daemon])
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", [])
    assert main(["--peers"]) == 0
    said = capsys.readouterr().out
    assert "peer ghost is left out: the module no_such_module is not installed; pip install ghost" in said
    assert "peer daemon is left out: the program no-such-program is not there; apt-get install ghostd" in said


# ---- servers


async def listens_on(port: int) -> None:
    while True:
        await listens(port)


async def test_a_server_is_ended_whatever_happens(tmp_path: Path) -> None:
    port = free_port()
    options = ("-m", "http.server", str(port), "--bind", "127.0.0.1")

    async def fail() -> None:
        async with server(sys.executable, *options, directory=tmp_path, ready=lambda: listens(port)):
            await listens(port)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with pytest.raises(ConnectionRefusedError):
        await listens(port)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path

from benchmarks.peers.servers import listens, server

async def main():
    port = int(sys.argv[2])
    options = ("-m", "http.server", str(port), "--bind", "127.0.0.1")
    async with server(sys.executable, *options, directory=Path(sys.argv[1]), ready=lambda: listens(port)):
        await listens(port)
        print("it listens", flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
async def test_a_server_does_not_outlive_a_run_that_was_killed(signal: str, tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), str(port), signal, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert said == b"it listens\n"
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        await asyncio.wait_for(listens_on(port), 30)


async def test_a_server_that_does_not_start_has_the_last_word(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(RuntimeError, match=r"did not start .*alas"):
        async with server(
            sys.executable, "-c", "raise SystemExit('alas')", directory=tmp_path, ready=lambda: listens(port)
        ):
            pytest.fail("it is not there")


def test_programs_of_node_are_found_where_npm_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.servers.NODE_PACKAGES", tmp_path)
    assert find_program("no-such-server") is None
    program = tmp_path / "node_modules" / ".bin" / "no-such-server"
    program.parent.mkdir(parents=True)
    shutil.copy(sys.executable, program)
    os.chmod(program, 0o755)
    assert find_program("no-such-server") == str(program)


# ---- limits


def test_limits_are_not_peers_and_say_what_they_are() -> None:
    limits = {
        (workload.name, lane.durability): lane
        for workload in WORKLOADS
        for lane in workload.lanes
        if lane.durability.startswith("a limit: ")
    }
    assert {name for name, _ in limits} == {"append", "puts", "cold", "cycle", "single"}
    assert not any(lane.peer for lane in limits.values())


# ---- what is promised


def test_the_page_says_what_each_peer_promises() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for peer in known():
        row = f"| `{peer.name}` | {peer.kind} | {peer.durability} | {peer.promises} |"
        assert row in page, f"docs/benchmarks.md says something else of {peer.name}; its row is\n{row}"


def test_what_is_promised_is_said_of_each_thing_that_a_peer_can_be() -> None:
    said = promises()
    assert set(said) == {peer.name for peer in known()}
    assert said["sqlite"].count("As a ") == len([peer for peer in known() if peer.name == "sqlite"]) == 3


def test_a_peer_that_does_not_sync_says_so() -> None:
    (litequeue,) = [peer for peer in queues() if peer.name == "litequeue"]
    assert "not synced" in litequeue.durability
    assert "a power loss takes" in litequeue.promises
