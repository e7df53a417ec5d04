"""``bench``, ``doctor`` and ``completion``: what is said of this machine and to its shell."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import streamkit
from streamkit.cli import checks, disk, measuring
from streamkit.cli.disk import Mount
from streamkit.cli.measuring import Measured, Seen
from streamkit.codecs import Codec
from streamkit.streams.record import Record, StoredRecord
from tests.cli.calling import call, running

MIB = 1 << 20
NOW_MS = 1_795_000_000_000

# ---- bench


# However short it is, each of them does something.
def test_a_disk_is_measured_and_what_was_acknowledged_is_looked_for(tmp_path: Path) -> None:
    done = call("bench", "--dir", tmp_path, "--seconds", "0.001", "--durability", "interval")
    assert (done.code, done.err) == (0, "")
    assert [each["name"] for each in done.lines] == ["sync", "append", "puts", "delivery", "queue"]
    for each in done.lines:
        assert each["value"] > 0
        assert each["wrong"] == []
        assert (each["checked"] > 0) == (each["name"] != "sync")
        assert each["durability"] == "interval"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_leaves_nothing_behind(tmp_path: Path, by: signal.Signals) -> None:
    with running("bench", "--dir", tmp_path, "--seconds", "600") as process:
        process.wait_for('"name":"sync"')
        process.process.send_signal(by)
        assert process.ends_with() == 130
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_no_figure_to_be_proud_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lossy(*_: object) -> Measured:
        return Measured("append", "", 1.0, "records/s", 2, ("2 records were acknowledged and 1 are there",))

    async def right(*_: object) -> Measured:
        return Measured("other", "", 1.0, "records/s", 2)

    monkeypatch.setattr(measuring, "_append", lossy)
    for name in ("_puts", "_delivery", "_cycles"):
        monkeypatch.setattr(measuring, name, right)
    done = call("bench", "--dir", tmp_path, "--text")
    assert done.code == 1
    assert done.err == "WRONG: append: 2 records were acknowledged and 1 are there\n"
    assert "once and in order" not in done.out


def record(key: int, number: int) -> Record[bytes]:
    return Record(StoredRecord(1, 1, str(key), number.to_bytes(8, "big")), "shard", Codec(bytes))


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ([(0, 0), (1, 1), (0, 2), (1, 3)], ()),
        ([(1, 1), (1, 3), (0, 0), (0, 2)], ()),
        ([(0, 0), (1, 1), (0, 2)], ("4 records were acknowledged and 3 are there",)),
        ([(0, 2), (0, 0), (1, 1), (1, 3)], ("2 records are lost, doubled or out of order",)),
        ([(0, 0), (0, 0), (1, 1), (1, 3)], ("1 records are lost, doubled or out of order",)),
        ([(0, 0), (0, 2), (1, 1), (7, 3)], ("1 records are lost, doubled or out of order",)),
    ],
)
def test_loss_doubles_and_disorder_are_found(numbers: list[tuple[int, int]], wrong: tuple[str, ...]) -> None:
    seen = Seen(2)
    for key, number in numbers:
        seen.add(record(key, number))
    assert seen.wrong(4) == wrong


def test_lost_and_doubled_messages_are_found() -> None:
    assert measuring._mishandled({b"a", b"b"}, [b"a"], [b"b"]) == ()
    assert measuring._mishandled({b"a", b"b"}, [b"a"], []) == ("1 of 2 messages are missing, or were never sent",)
    assert measuring._mishandled({b"a"}, [b"a", b"a"], []) == ("1 messages came twice",)
    assert measuring._mishandled({b"a"}, [b"a"], [b"a"]) == ("1 messages came twice",)
    assert measuring._mishandled({b"a"}, [b"a", b"c"], []) == ("1 of 1 messages are missing, or were never sent",)


def test_the_suite_needs_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    assert call("bench", "--suite", "--", "--only", "append").code == 1
    assert ran == [[sys.executable, "-m", "benchmarks", "--only", "append"]]
    monkeypatch.chdir(tmp_path)
    done = call("bench", "--suite")
    assert done.code == 2
    assert "clone the repository" in done.err
    for arguments, says in (
        (("--dir", tmp_path / "gone"), "there is no directory"),
        (("--seconds", "0"), "--seconds is more than 0"),
        (("elsewhere",), "add --suite, or --dir elsewhere"),
    ):
        done = call("bench", *arguments)
        assert (done.code, done.out) == (2, "")
        assert says in done.err


# ---- doctor


def statuses(*arguments: object) -> dict[str, str]:
    return {each["name"]: each["status"] for each in call("doctor", *arguments).lines}


def test_the_doctor_of_a_directory(tmp_path: Path) -> None:
    async def fill() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_queue("emails")

    asyncio.run(fill())
    done = call("doctor", tmp_path / "data")
    assert (done.code, done.err) == (0, "")
    found = {each["name"]: each for each in done.lines}
    assert {"python", "packages", "checksums", "extras", "open files", "clock", "space", "sync"} <= set(found)
    assert found["owner"]["found"] == "nobody has it open"
    assert found["store"]["found"].startswith("opens, with 0 streams, 1 queue")
    assert "store" not in statuses()
    assert call("doctor", tmp_path / "new").lines[-1]["found"] == f"there is none in {tmp_path / 'new'} yet"
    assert not (tmp_path / "new").exists()


async def test_the_doctor_says_who_has_it(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path):
        done = await asyncio.to_thread(call, "doctor", tmp_path)
    found = {each["name"]: each["found"] for each in done.lines}
    assert found["owner"].startswith("open in this process (pid ")
    assert found["store"].startswith("opens")


def test_the_doctor_of_what_is_damaged_or_no_store(tmp_path: Path) -> None:
    async def fill() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_queue("emails")

    asyncio.run(fill())
    manifest = tmp_path / "data" / "MANIFEST"
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(bytes(data))
    done = call("doctor", tmp_path / "data", "--text")
    assert done.code == 1
    assert "fail  store" in done.out
    assert f"-> streamkit verify {tmp_path / 'data'} says where else; then streamkit restore a backup" in done.out
    assert "store failed" in done.out.splitlines()[-1]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear diary")
    assert statuses(tmp_path / "other")["store"] == "fail"
    assert statuses(tmp_path / "other" / "letter.txt")["store"] == "fail"


@pytest.mark.parametrize(
    ("check", "status", "says"),
    [
        (checks.python((3, 13, 1), "CPython"), "ok", "CPython 3.13.1"),
        (checks.python((3, 10, 9), "CPython"), "fail", "3.11 or later"),
        (checks.python((3, 11, 0), "PyPy"), "warn", "tested on CPython"),
        (checks.open_files(1024, 4096), "ok", "1,024 at once"),
        (checks.open_files(256, 4096), "warn", "ulimit -n 4096"),
        (checks.open_files(256, resource.RLIM_INFINITY), "warn", "ulimit -n 65536"),
        (checks.open_files(resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", "as many as one likes"),
        (checks.clock(NOW_MS, None), "ok", "2026-11-18T"),
        (checks.clock(NOW_MS, NOW_MS + 59_000), "ok", ""),
        (checks.clock(NOW_MS, NOW_MS + 61_000), "warn", "it was set back"),
        (checks.clock(0, None), "fail", "1970-01-01"),
        (checks.file_system(Mount("ext4", "/dev/sda", "/"), False), "ok", "ext4 on /dev/sda"),
        (checks.file_system(Mount("ext4", "/dev/sda", "/"), True), "ok", "a disk that turns"),
        (checks.file_system(Mount("nfs4", "host:/x", "/x"), None), "fail", "local disk"),
        (checks.file_system(Mount("tmpfs", "tmpfs", "/tmp"), None), "warn", "gone when the machine stops"),
        (checks.file_system(Mount("overlay", "overlay", "/"), None), "warn", "mount a volume"),
        (checks.file_system(None, None), "warn", "does not tell"),
        (checks.space(10_000 * MIB, 20_000 * MIB, 10_000), "ok", "9.8 GiB of 19.5 GiB free"),
        (checks.space(1000 * MIB, 20_000 * MIB, None), "warn", "shorten the retention"),
        (checks.space(100 * MIB, 20_000 * MIB, None), "fail", "refuses every write"),
        (checks.space(10_000 * MIB, 20_000 * MIB, 10), "warn", "10 more files fit"),
        (checks.sync([0.0001] * 99 + [0.5]), "ok", "100 us, 1 in 100 in more than 500,000 us"),
        (checks.sync([0.000001] * 64), "warn", "no disk is as fast"),
        (checks.sync([0.03] * 64), "warn", "put batches"),
    ],
)
def test_checks(check: checks.Check, status: str, says: str) -> None:
    assert check.status == status
    assert says in f"{check.found}; {check.advice}"
    assert (check.advice == "") == (status == "ok")


def test_extras_that_are_there_in_part() -> None:
    requires = ["anyio>=4", "rich>=13; extra == 'cli'", 'shtab>=1.7 ; extra == "cli"', "pyarrow; extra == 'parquet'"]
    wanted = checks.needed(requires)
    assert wanted == {"": ["anyio"], "cli": ["rich", "shtab"], "parquet": ["pyarrow"]}
    versions: dict[str, str | None] = {"rich": "13", "shtab": None, "pyarrow": None}
    extras, partly = checks.extras(wanted, versions)
    assert (extras.status, extras.found) == ("ok", "installed: none; not: parquet")
    assert (partly.status, partly.found, partly.advice) == ("warn", "lacks shtab", "pip install 'streamkit[cli]'")


def test_mounts(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} xfs rw 0 0\n"
        f"/dev/c {tmp_path}x nfs rw 0 0\n/dev/d {tmp_path} tmpfs rw 0 0\n"
    )
    assert disk.mount_of(tmp_path / "below", table) == Mount("tmpfs", "/dev/d", str(tmp_path))
    assert disk.mount_of(Path("/usr"), table) == Mount("ext4", "/dev/a", "/")
    assert disk.mount_of(tmp_path, tmp_path / "gone") is None


def test_the_sync_of_a_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    times = disk.sync_seconds(tmp_path, count=5)
    assert len(times) == 5
    assert times == sorted(times)
    assert list(tmp_path.iterdir()) == []


# ---- completion


def completed(script: Path, *words: str, cwd: Path) -> set[str]:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f". {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'; "
        "_shtab_streamkit; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=30, check=True, cwd=cwd)
    return set(done.stdout.split())


def test_a_shell_completes_commands_options_values_and_directories(tmp_path: Path) -> None:
    done = call("completion", "bash")
    assert (done.code, done.err) == (0, "")
    script = tmp_path / "streamkit.bash"
    script.write_text(done.out)
    (tmp_path / "data").mkdir()
    (tmp_path / "data.txt").touch()
    assert completed(script, "streamkit", "re", cwd=tmp_path) == {"redrive", "restore"}
    assert completed(script, "streamkit", "redrive", "--r", cwd=tmp_path) == {"--rate"}
    assert completed(script, "streamkit", "run", "--durability", "i", cwd=tmp_path) == {"interval"}
    assert completed(script, "streamkit", "inspect", "da", cwd=tmp_path) == {"data"}
    assert "data.txt" in completed(script, "streamkit", "run", "da", cwd=tmp_path)


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_know_every_command(shell: str) -> None:
    from streamkit.cli.main import COMMANDS

    script = call("completion", shell).out
    assert [name for name in COMMANDS if name not in script] == []


def test_completion_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = call("completion", "bash")
    assert done.code == 2
    assert "pip install 'streamkit[cli]'" in done.err
    assert call("completion", "fish").code == 2
