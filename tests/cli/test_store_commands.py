from __future__ import annotations

import json
from pathlib import Path

import streamkit
from tests.cli.calling import call_aside as run


async def make(directory: Path) -> None:
    async with streamkit.open(directory) as kit:
        stream = await kit.create_stream("orders", type=bytes, shards=2)
        await stream.put_batch([(f"key-{number}", b"x" * 100) for number in range(50)])
        queue = await kit.create_queue("emails")
        await queue.send("hello")
        table = await kit.create_table("totals", partition_key="id")
        await table.put({"id": 1})


async def test_a_sound_directory(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    done = run("verify", "--text", str(tmp_path / "data"))
    assert (done.code, done.err) == (0, "")
    assert "is sound" in done.out
    assert "50 records, 1 settled messages, " in done.out
    report = json.loads(run("verify", str(tmp_path / "data"), "--json").out)
    assert (report["sound"], report["records"], report["findings"]) == (True, 50, [])


async def test_a_damaged_one_is_told_by_file_and_position(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    file = next((tmp_path / "data" / "streams").rglob("*.blk"))
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(bytes(data))
    done = run("verify", "--text", str(tmp_path / "data"))
    assert done.code == 1
    where = file.relative_to(tmp_path / "data")
    assert f"{where}:0: damage: a block does not match its checksum" in done.out
    assert "DAMAGED in 1 places" in done.out
    assert run("verify", str(tmp_path / "data"), "--json").code == 1
    for arguments in (("backup", "data", "copy"), ("restore", "data", "restored")):
        done = run(arguments[0], str(tmp_path / arguments[1]), str(tmp_path / arguments[2]))
        assert done.code == 1
        assert "is damaged" in done.err or "so is" in done.err


async def test_backup_and_restore(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    done = run("backup", str(tmp_path / "data"), str(tmp_path / "copy"), "--text")
    assert done.code == 0, done.err
    assert "50 records; verified" in done.out
    done = run("restore", str(tmp_path / "copy"), str(tmp_path / "restored"), "--text")
    assert done.code == 0, done.err
    assert "stream orders: 50 records in 2 shards" in done.out
    assert "queue emails: 1 messages" in done.out
    assert "table totals" in done.out
    async with streamkit.open(tmp_path / "restored") as kit:
        assert len([record async for record in kit.stream("orders", type=bytes).records()]) == 50


async def test_what_cannot_be_done_is_one_line(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    for arguments, says in (
        (("verify", str(tmp_path / "nothing")), "is no directory"),
        (("backup", str(tmp_path / "nothing"), str(tmp_path / "copy")), "holds no streamkit data"),
        (("backup", str(tmp_path / "data"), str(tmp_path / "data")), "is not empty"),
        (("restore", str(tmp_path / "nothing"), str(tmp_path / "copy")), "is no directory"),
    ):
        done = run(*arguments)
        assert done.code == 2
        assert says in done.err
        assert done.err.count("\n") == 1
    async with streamkit.open(tmp_path / "data"):
        done = run("verify", "--text", str(tmp_path / "data"))
        assert done.code == 2
        assert "is in use by this process" in done.err


def test_help_has_examples() -> None:
    for command in ("verify", "backup", "restore"):
        done = run(command, "--help")
        assert done.code == 0
        assert f"example: streamkit {command} ./data" in done.out
