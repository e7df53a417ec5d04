from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import streamkit
from streamkit import Record, StorageError
from streamkit.cli.main import main
from streamkit.cli.putting import IntoStream, Line
from streamkit.cli.reading import lines
from streamkit.service import Stop
from tests.cli.calling import Called, call, running

ORDERS = """\
{"customer": "ada", "total": 1.10}
{"customer": "bob", "total": 123456789012345678901234567890}

{"customer": 7, "total": 3}
"""


def records(directory: Path, name: str = "orders") -> Sequence[Record[bytes]]:
    async def read() -> Sequence[Record[bytes]]:
        async with streamkit.open(f"{directory}?mode=ro") as kit:
            return await kit.stream(name, type=bytes).head(10_000)

    return asyncio.run(read())


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    (tmp_path / "orders.jsonl").write_text(ORDERS)
    return tmp_path / "orders.jsonl"


def put(directory: Path, *arguments: object) -> Called:
    return call("put", directory, "orders", *arguments)


def test_lines_are_stored_as_they_stand(tmp_path: Path, orders: Path) -> None:
    done = put(tmp_path / "data", "--create", "--shards", 2, "--key-field", "customer", orders)
    assert (done.code, done.err) == (0, "")
    (result,) = done.lines
    assert result.pop("seconds") >= 0
    assert result == {
        "stream": "orders",
        "put": 3,
        "already": 0,
        "bytes": len(ORDERS.replace("\n", "")),
        "last_line": 4,
        "rejected": [],
    }
    assert sorted((record.partition_key, record.data.decode()) for record in records(tmp_path / "data")) == [
        ("7", '{"customer": 7, "total": 3}'),
        ("ada", '{"customer": "ada", "total": 1.10}'),
        ("bob", '{"customer": "bob", "total": 123456789012345678901234567890}'),
    ]


def test_keys(tmp_path: Path, orders: Path) -> None:
    assert put(tmp_path / "data", orders, "--create").code == 0
    assert put(tmp_path / "data", orders, "--key", "one").code == 0
    assert [record.partition_key for record in records(tmp_path / "data")] == ["1", "2", "4", "one", "one", "one"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{'customer': 1}", "line 2 was not put: it is not JSON: "),
        ('{"customer": null}', "line 2 was not put: its field 'customer' is no text and no number"),
        ('{"total": 1}', "line 2 was not put: it has no field 'customer' to take the key from"),
        ('{"customer": ""}', "line 2 was not put: its field 'customer' has 0 characters, and a key has 1 to 256"),
        ("[1]", "line 2 was not put: it is not an object, and so has no field 'customer'"),
    ],
)
def test_a_bad_line_ends_it_and_names_its_number(tmp_path: Path, bad: str, says: str) -> None:
    lines = tmp_path / "lines"
    lines.write_text(f'{{"customer": "ada"}}\n{bad}\n{{"customer": "eve"}}\n')
    done = put(tmp_path / "data", "--create", "--key-field", "customer", lines)
    assert done.code == 1
    assert says in done.err
    (result,) = done.lines
    assert (result["put"], result["last_line"]) == (1, 2)
    assert [each["line"] for each in result["rejected"]] == [2]
    assert [record.partition_key for record in records(tmp_path / "data")] == ["ada"]


def test_nothing_is_put_behind_a_bad_line_however_many_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.cli.put._AT_ONCE", 1)
    lines = tmp_path / "lines"
    lines.write_text("1\nnot json\n3\n4\n")
    (result,) = put(tmp_path / "data", "--create", lines).lines
    assert (result["put"], result["last_line"]) == (1, 2)
    assert [record.data for record in records(tmp_path / "data")] == [b"1"]


def test_bad_lines_are_set_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    lines, rejects = tmp_path / "lines", tmp_path / "rejects"
    lines.write_bytes(b'{"n": 1}\nnot json\n{"n": 2}\n"\xff"\n{"n": 3}')
    done = put(tmp_path / "data", "--create", "--rejects", rejects, lines, "--text")
    assert done.code == 1
    assert "3 lines put into stream orders" in done.out
    assert f"2 lines were not put and are in {rejects}" in done.out
    assert rejects.read_bytes() == b'not json\n"\xff"\n'
    assert sorted(record.data for record in records(tmp_path / "data")) == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']


def test_under_an_id_a_line_is_stored_once(tmp_path: Path, orders: Path) -> None:
    assert put(tmp_path / "data", "--create", "--id", "import", orders).lines[0]["already"] == 0
    with orders.open("a") as file:
        file.write('{"customer": "eve"}\n')
    (result,) = put(tmp_path / "data", "--id", "import", orders).lines
    assert (result["put"], result["already"]) == (4, 3)
    assert len(records(tmp_path / "data")) == 4


def test_raw_lines_are_bytes(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b" a \n\xff\x00\n")
    assert put(tmp_path / "data", "--create", "--raw", lines).code == 0
    assert [record.data for record in records(tmp_path / "data")] == [b" a ", b"\xff\x00"]


def test_into_queues(tmp_path: Path, orders: Path) -> None:
    data = tmp_path / "data"
    assert call("put", data, "jobs", orders, "--queue", "--create").lines[0]["queue"] == "jobs"
    assert call("put", data, "jobs", orders).lines[0]["put"] == 3
    fifo = call("put", data, "jobs.fifo", orders, "--queue", "--create", "--key-field", "customer")
    assert fifo.lines[0]["put"] == 3
    assert len(call("peek", data, "jobs").lines) == 6
    groups = [each["group_id"] for each in call("peek", data, "jobs.fifo").lines]
    assert groups == ["ada", "bob", "7"]


def test_a_message_that_the_queue_refuses_is_a_bad_line(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"group": "a b"}\n{"group": "ok"}\n')
    done = call("put", tmp_path / "data", "q.fifo", "--queue", "--create", "--key-field", "group", lines)
    assert done.code == 1
    assert "line 1 was not put: " in done.err
    assert done.lines[0]["put"] == 1


def test_what_cannot_be_put_is_one_line_and_makes_nothing(tmp_path: Path, orders: Path) -> None:
    data = tmp_path / "data"
    assert "holds no streamkit data" in put(data, orders).err
    assert not data.exists()
    put(data, "--create", "/dev/null")
    for arguments, says in (
        (("put", data, "misspelt", orders), "no stream and no queue 'misspelt': there are orders"),
        (("put", data, "orders", orders, "--queue"), "there is no queue 'orders'"),
        (("put", data, "orders", tmp_path / "gone"), "No such file"),
        (("put", data, "orders", "--raw", "--key-field", "a", orders), "leave --raw out"),
        (("put", data, "orders", "--shards", 2, orders), "--shards is of the stream that --create makes"),
        (("put", data, "orders", "--key", "k" * 257, orders), "a key has 1 to 256"),
    ):
        done = call(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert says in done.err
    assert len(records(data)) == 0


async def test_beside_an_owner_it_says_who_that_is(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data") as kit:
        await kit.create_stream("orders")
        done = await asyncio.to_thread(put, tmp_path / "data", "/dev/null")
    assert done.code == 2
    assert "is in use by this process" in done.err


def test_what_trickles_in_is_put_at_once_and_an_interrupt_says_which(tmp_path: Path) -> None:
    with running("put", tmp_path / "data", "log", "--raw", "--create", stdin=subprocess.PIPE) as process:
        assert process.process.stdin is not None
        process.process.stdin.write(b"one\ntwo\nthr")
        process.process.stdin.flush()
        while True:  # Durable while its pipe is open.
            try:
                if len(records(tmp_path / "data", "log")) == 2:
                    break
            except (StorageError, streamkit.NotFoundError):
                assert process.process.poll() is None, process.ends_with()
        process.process.send_signal(signal.SIGINT)
        assert process.ends_with() == 130
    assert "lines 1 to 2 were put" in process.out.decode()
    assert [record.data for record in records(tmp_path / "data", "log")] == [b"one", b"two"]


def test_under_an_id_a_file_that_was_mended_is_put_again_with_all_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('"a"\n"b\n"c"\n')
    put_it = ("put", tmp_path / "data", "orders", "--create", "--text", "--id", "monday")
    ended = call(*put_it, file)
    assert ended.code == 1
    assert "tail -n" not in ended.out  # Of which each line would have the number of another one, that is stored.
    assert "run the same command again, with all lines" in ended.out
    file.write_text('"a"\n"b"\n"c"\n')
    assert call(*put_it, file).code == 0
    assert [record.data for record in records(tmp_path / "data")] == [b'"a"', b'"b"', b'"c"']


def test_an_interrupt_does_not_wait_for_what_cannot_be_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: IntoStream, lines: Sequence[Line]) -> list[tuple[int, str]]:
        if lines[0].number == 1:
            return []
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()  # As on a full disk, until there is room.
        raise AssertionError

    monkeypatch.setattr(IntoStream, "put", never)
    monkeypatch.setattr("streamkit.cli.put._GRACE_SECONDS", 0.01)
    monkeypatch.setattr("streamkit.cli.put._AT_ONCE", 2)
    (tmp_path / "lines").write_text("1\n2\n3\n4\n")
    ended = put(tmp_path / "data", "--create", "--id", "monday", tmp_path / "lines")
    assert ended.code == 130
    assert "interrupted: lines 1 to 2 were put; of those after them some may have been; the same command" in ended.err


def test_what_fails_when_something_was_put_is_not_as_if_nothing_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(self: IntoStream, lines: Sequence[Line]) -> list[tuple[int, str]]:
        if lines[0].number == 1:
            return []
        raise StorageError("the disk is gone")

    monkeypatch.setattr(IntoStream, "put", once)
    monkeypatch.setattr("streamkit.cli.put._AT_ONCE", 2)
    (tmp_path / "lines").write_text("1\n2\n3\n4\n")
    ended = put(tmp_path / "data", "--create", tmp_path / "lines")
    assert ended.code == 1
    assert "lines 1 to 2 were put; of those after them some may have been" in ended.err
    assert "streamkit: the disk is gone" in ended.err


def test_rejects_are_in_their_file_before_they_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("streamkit.cli.put.say", gone)
    (tmp_path / "lines").write_text('"a"\n"b\n"c\n')
    with (tmp_path / "out").open("w") as out, contextlib.redirect_stdout(out):
        monkeypatch.setattr("streamkit.cli.main._reader_gone", lambda: 141)
        code = main(
            [
                *("put", str(tmp_path / "data"), "orders", "--create"),
                *("--rejects", str(tmp_path / "rejects"), str(tmp_path / "lines")),
            ]
        )
    assert code == 141
    assert (tmp_path / "rejects").read_bytes() == b'"b\n"c\n'


async def test_a_line_that_comes_in_pieces_is_whole() -> None:
    ours, theirs = os.pipe()
    try:
        os.write(theirs, b"a" * 1000)
        found = lines(ours, Stop())
        following = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0)
        os.write(theirs, b"b\nc\nd")
        assert await following == [b"a" * 1000 + b"b", b"c"]
        os.close(theirs)
        theirs = -1
        assert [each async for each in found] == [[b"d"]]
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
