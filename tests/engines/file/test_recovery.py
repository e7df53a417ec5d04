"""What after a crash? All that was there is there again, what was torn is cut, and damage is an error that says so."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.frame import SEGMENT_HEADER_SIZE, checksum, frame_at
from streamkit.errors import CorruptLogError, StorageError, UnknownFormatError, ValidationError
from streamkit.queues.message import MessageAttribute, QueueAttributes
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.contract.streams import everything
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.random_work import RandomWork
from tests.engines.file.terms import START_MS, Script, all_of_it, close_broken, message_ids, open_file, opened

SEGMENT = "journal/000000000001.log"


def picture(path: Path) -> dict[str, str]:
    """Every file and its digest, but the lock's."""
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "streamkit.lock"]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


async def crashed_store(path: Path) -> list[dict[str, Any]]:
    """A store of five puts in its journal, as a crash leaves it; what is in it after each."""
    before = []
    async with opened(path / "live") as engine:
        await engine.streams.create_stream("s", 1)
        for number in range(5):
            before.append(await contents(engine))
            await engine.streams.put_records("s", [PutEntry("k", b"record %d" % number)])
        before.append(await contents(engine))
        shutil.copytree(path / "live", path / "data")
    return before


def frames_of(segment: Path, store_id: int) -> list[tuple[int, int]]:
    """Where each frame begins and ends."""
    data = segment.read_bytes()
    places = []
    offset = SEGMENT_HEADER_SIZE
    while (found := frame_at(data, offset, int(segment.stem), store_id)) is not None:
        places.append((offset, found.end))
        offset = found.end
    return places


def flip(file: Path, at: int, mask: int = 0xFF) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= mask
    file.write_bytes(data)


def store_id_of(path: Path) -> int:
    return int(json.loads((path / "MANIFEST").read_bytes().partition(b"\n")[0])["store_id"])


# ---- replay


async def test_replay_equals_live(tmp_path: Path) -> None:
    """A crash at any moment of random work, of which some was settled and some was not."""
    done: Counter[str] = Counter()
    for seed in range(10):
        clock = ManualClock(START_MS)
        async with opened(tmp_path / f"{seed}", clock) as engine:
            work = RandomWork(engine, clock, Random(seed))
            for number in range(5):
                for _ in range(40):
                    await work.step()
                live = await contents(engine)
                copy = tmp_path / f"{seed}-{number}"
                shutil.copytree(tmp_path / f"{seed}", copy, ignore=shutil.ignore_patterns("*.new"))
                then = ManualClock(clock.now_ms())
                async with opened(copy, then) as again:
                    assert await contents(again) == live, f"seed {seed}, {number}"
                async with opened(copy, then) as again:
                    assert await contents(again) == live, f"seed {seed}, {number}"
                    replayed = await all_of_it(again, then)
            assert await all_of_it(engine, clock) == replayed
        done += work.done
    assert done.keys() == {name for name in dir(RandomWork) if name.startswith("do_")}
    assert min(done.values()) > 1


async def test_recovery_twice_is_recovery_once(tmp_path: Path) -> None:
    before = await crashed_store(tmp_path)
    file = tmp_path / "data" / SEGMENT
    flip(file, frames_of(file, store_id_of(tmp_path / "data"))[-1][0])
    pictures = []
    for _ in range(3):
        files = FaultyFiles()
        engine = await open_file(tmp_path / "data", files=files)
        assert await contents(engine) == before[4]
        pictures.append(picture(tmp_path / "data"))
        shutil.copytree(tmp_path / "data", tmp_path / "crashed")
        await engine.aclose()
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "crashed").rename(tmp_path / "data")
    assert pictures[0] == pictures[1] == pictures[2]


# ---- damage


async def test_torn_tail_is_cut_damage_elsewhere_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = await crashed_store(tmp_path)
    places = frames_of(tmp_path / "data" / SEGMENT, store_id_of(tmp_path / "data"))
    assert len(places) == 6
    for index, (start, end) in enumerate(places):
        path = tmp_path / f"{index}"
        shutil.copytree(tmp_path / "data", path)
        flip(path / SEGMENT, end - 12)
        damaged = picture(path)
        if index < len(places) - 1:
            with pytest.raises(CorruptLogError) as caught:
                await open_file(path)
            assert (caught.value.path, caught.value.offset) == (str(path / SEGMENT), start)
            assert str(path / SEGMENT) in str(caught.value)
            assert f"at byte {start}:" in str(caught.value)
            assert picture(path) == damaged
        else:
            torn = (path / SEGMENT).read_bytes()[start:end]
            async with opened(path) as engine:
                assert await contents(engine) == before[-2]
                await engine.streams.put_records("s", [PutEntry("k", b"goes on")])
                kept = path / "journal" / f"torn-000000000001-{start}"
                assert kept.read_bytes().ljust(end - start, b"\0") == torn
                assert str(kept) in caplog.text
            async with opened(path) as engine:
                records = (await everything(engine.streams, "s"))["shardId-000000000000"]
                assert [record.data for record in records][-2:] == [b"record 3", b"goes on"]


async def test_any_damage_of_any_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Flipped bytes, files cut, extended, emptied, removed or exchanged: an error, or nothing that can be seen.

    Only the last commit of the journal may vanish, because it cannot be told from one that was torn. SQLite has no
    checksums; of its files only that they are there, and whose they are, is noticed.
    """
    clock = ManualClock(START_MS)
    with message_ids():
        engine = await open_file(tmp_path / "live", clock)
        for step in Script(engine, clock).steps()[:-3]:
            await step()
        await engine.settle()
        for name in ("first", "second"):
            await engine.tables.create_table(TableSchema(name, "id"))
            await engine.tables.write([Put({"id": name}, name)])
        await engine.queues.send_messages("dead", [SendEntry(b"settled")])
        await engine.settle()
        for number in range(4):
            before = await all_of_it(engine, clock)
            await engine.streams.put_records("s", [PutEntry("k", b"in the journal %d" % number)])
        after = await all_of_it(engine, clock)
        shutil.copytree(tmp_path / "live", tmp_path / "data", ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        await engine.aclose()
    now_ms = clock.now_ms()
    random = Random(7)
    noticed = harmless = 0
    for name, damage in _damages(tmp_path / "data", random):
        path = tmp_path / "damaged"
        shutil.copytree(tmp_path / "data", path)
        damage(path)
        try:
            then = ManualClock(now_ms)
            async with opened(path, then) as engine:
                found = await all_of_it(engine, then)
        except StorageError:
            noticed += 1
        else:
            harmless += 1
            assert found in ([before, after] if ".log" in name else [after]), name
        shutil.rmtree(path)
    assert noticed > 100
    assert harmless > 15


def _damages(data: Path, random: Random) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What is damaged, and how; the function gets the store's directory."""
    files = [file.relative_to(data) for file in sorted(data.rglob("*")) if file.is_file()]
    for name in files:
        if name.suffix not in ("", ".log", ".blk", ".snap", ".sqlite"):
            continue
        yield f"removed {name}", partial(_replace, name, None)
        for other in files:
            if other > name and (other.suffix, other.parts[0]) == (name.suffix, name.parts[0]):
                yield f"exchanged {name} and {other}", partial(_exchange, name, other)
        if name.suffix == ".sqlite":
            continue
        there = (data / name).read_bytes()
        yield f"emptied {name}", partial(_replace, name, b"")
        yield f"extended {name}", partial(_replace, name, there + b"garbage")
        for at in random.sample(range(len(there)), 3):
            yield f"cut {name} at {at}", partial(_replace, name, there[:at])
        used = len(there.rstrip(b"\0"))
        for at in random.sample(range(used), min(25, used)):
            flipped = there[:at] + bytes([there[at] ^ random.randint(1, 255)]) + there[at + 1 :]
            yield f"flipped {name} at {at}", partial(_replace, name, flipped)


def _replace(name: Path, data: bytes | None, root: Path) -> None:
    if data is None:
        (root / name).unlink()
    else:
        (root / name).write_bytes(data)


def _exchange(one: Path, other: Path, root: Path) -> None:
    mine, theirs = (root / one).read_bytes(), (root / other).read_bytes()
    (root / one).write_bytes(theirs)
    (root / other).write_bytes(mine)


async def test_a_missing_segment_is_an_error(tmp_path: Path) -> None:
    async with opened(tmp_path / "live") as engine:
        await engine.streams.create_stream("s", 1)
        for _ in range(40):
            await engine.streams.put_records("s", [PutEntry("k", bytes(2_000))])
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    segments = sorted((tmp_path / "data" / "journal").glob("*.log"))
    used = [file for file in segments if frames_of(file, store_id_of(tmp_path / "data"))]
    assert len(used) >= 3
    for file in used:
        path = tmp_path / file.stem
        shutil.copytree(tmp_path / "data", path)
        (path / "journal" / file.name).unlink()
        with pytest.raises(CorruptLogError, match="the segment is missing") as caught:
            await open_file(path)
        assert caught.value.path == str(path / "journal" / file.name)


async def test_a_segment_that_lost_its_seal_is_an_error(tmp_path: Path) -> None:
    """The frames of the next one show that it was not the last."""
    async with opened(tmp_path / "live") as engine:
        await engine.streams.create_stream("s", 1)
        for _ in range(12):
            await engine.streams.put_records("s", [PutEntry("k", bytes(2_000))])
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    first = tmp_path / "data" / SEGMENT
    seal, end = frames_of(first, store_id_of(tmp_path / "data"))[-1]
    assert frames_of(tmp_path / "data/journal/000000000002.log", store_id_of(tmp_path / "data"))
    data = first.read_bytes()
    first.write_bytes(data[:seal] + bytes(end - seal) + data[end:])
    damaged = picture(tmp_path / "data")
    with pytest.raises(CorruptLogError):
        await open_file(tmp_path / "data")
    assert picture(tmp_path / "data") == damaged


async def test_a_segment_of_another_store_is_an_error(tmp_path: Path) -> None:
    await crashed_store(tmp_path / "mine")
    await crashed_store(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "data" / SEGMENT, tmp_path / "mine" / "data" / SEGMENT)
    with pytest.raises(CorruptLogError, match="a file was misplaced"):
        await open_file(tmp_path / "mine" / "data")


async def test_files_of_other_names_are_nobodys_business(tmp_path: Path) -> None:
    """Notes, and what file managers leave, are neither read nor removed."""
    before = await crashed_store(tmp_path)
    strangers = ["notes.txt", "journal/notes.log", "journal/1.log", "streams/.DS_Store", "queues/x", "tables/x.db"]
    for name in strangers[:4]:
        (tmp_path / "data" / name).write_text("mine")
    async with opened(tmp_path / "data") as engine:
        assert await contents(engine) == before[-1]
        await engine.settle()
    for name in strangers[:4]:
        assert (tmp_path / "data" / name).read_text() == "mine"


# ---- the manifest


async def test_a_flipped_manifest_is_an_error(tmp_path: Path) -> None:
    await crashed_store(tmp_path)
    file = tmp_path / "data" / "MANIFEST"
    for at in range(0, file.stat().st_size - 1, 7):
        flip(file, at, 1)
        with pytest.raises(CorruptLogError, match="does not match its checksum"):
            await open_file(tmp_path / "data")
        flip(file, at, 1)
    async with opened(tmp_path / "data"):
        pass


async def test_a_lost_manifest_is_an_error_and_no_new_store(tmp_path: Path) -> None:
    before = await crashed_store(tmp_path)
    manifest_file = tmp_path / "data" / "MANIFEST"
    saved = manifest_file.read_bytes()
    manifest_file.unlink()
    damaged = picture(tmp_path / "data")
    with pytest.raises(CorruptLogError, match="the manifest is missing, but there is data in journal"):
        await open_file(tmp_path / "data")
    assert picture(tmp_path / "data") == damaged
    manifest_file.write_bytes(saved)
    async with opened(tmp_path / "data") as engine:
        assert await contents(engine) == before[-1]


async def test_unknown_format_is_refused_with_a_sentence(tmp_path: Path) -> None:
    await crashed_store(tmp_path)
    file = tmp_path / "data" / "MANIFEST"
    about = json.loads(file.read_bytes().partition(b"\n")[0])
    body = json.dumps({**about, "format": 2, "what": "later versions add"}).encode()
    file.write_bytes(b"%s\n%08x\n" % (body, checksum(body)))
    before = picture(tmp_path / "data")
    with pytest.raises(UnknownFormatError) as caught:
        await open_file(tmp_path / "data")
    assert str(caught.value) == (
        f"{tmp_path / 'data'} has storage format 2, and this streamkit reads 1: use the version that wrote it"
    )
    assert picture(tmp_path / "data") == before


async def test_a_directory_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(StorageError, match=r"holds other files \(cat.jpg\) and no streamkit data"):
        await open_file(tmp_path / "photos")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(StorageError, match="cannot be opened"):
        await open_file(tmp_path / "photos" / "cat.jpg")


async def test_a_new_store_is_private(tmp_path: Path) -> None:
    async with opened(tmp_path / "deep" / "data") as engine:
        await engine.streams.create_stream("s", 1)
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.streams.put_records("s", [PutEntry("k", b"x")])
        await engine.tables.write([Put({"id": 1}, "table")])
        await engine.settle()
        await engine.tables.get("table", [{"id": 1}])
        for file in (tmp_path / "deep").rglob("*"):
            assert file.stat().st_mode & 0o777 == (0o700 if file.is_dir() else 0o600), file


# ---- opening


async def test_opening_fails_at_any_call_and_lets_go(tmp_path: Path) -> None:
    """A typed error; no descriptor, no lock is kept, and the next opening finds everything."""
    with message_ids():
        clock = ManualClock(START_MS)
        engine = await open_file(tmp_path / "live", clock)
        for step in Script(engine, clock).steps()[:22]:
            await step()
        live = await contents(engine)
        shutil.copytree(tmp_path / "live", tmp_path / "data")
        await engine.aclose()
    at = 0
    while True:
        files = FaultyFiles(fail={at: errno.EIO})
        try:
            engine = await open_file(tmp_path / "data", clock, files=files)
        except StorageError:
            assert files.open_paths() == []
        else:
            needed = len(files.calls)
            shutil.copytree(tmp_path / "data", tmp_path / "again")
            await close_broken(engine)
            shutil.rmtree(tmp_path / "data")
            (tmp_path / "again").rename(tmp_path / "data")
            if needed <= at:
                break
        at += 1
    assert at > 15
    async with opened(tmp_path / "data", clock) as engine:
        assert await contents(engine) == live


@pytest.mark.parametrize("there", [False, True])
async def test_opening_cancelled_anywhere_lets_go(there: bool, tmp_path: Path) -> None:
    """The threads that were at work are waited for; the directory is free for the next one."""
    path = tmp_path / "data"
    if there:
        await crashed_store(tmp_path)
    loop = asyncio.get_running_loop()

    def let_the_loop_turn(call: Call) -> None:
        if threading.current_thread() is threading.main_thread():
            return
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(30)

    files = FaultyFiles(before=let_the_loop_turn)
    engines: list[FileEngine] = []

    async def open_it() -> None:
        engines.append(await open_file(path, files=files))

    async def check() -> None:
        for engine in engines:
            await engine.aclose()
        engines.clear()
        async with opened(path):
            pass

    assert await cancel_at_every_step(open_it, check) == 2
    assert files.open_paths() == []


async def test_a_full_disk_opens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also after a crash in the middle of a commit, whose pieces there is no room to keep."""
    before = await crashed_store(tmp_path)
    file = tmp_path / "data" / SEGMENT
    flip(file, frames_of(file, store_id_of(tmp_path / "data"))[-1][0])
    sizes = {str(each): each.stat().st_size for each in (tmp_path / "data").rglob("*")}

    class FullFiles(FaultyFiles):
        def write(self, fd: int, data: bytes, offset: int) -> None:
            path = self._open[fd][0]
            if offset + len(data) > sizes.get(path, 0):
                raise OSError(errno.ENOSPC, "full")
            super().write(fd, data, offset)

    engine = await open_file(tmp_path / "data", files=FullFiles())
    assert await contents(engine) == before[4]
    assert "there was no room to keep them" in caplog.text
    await engine.streams.put_records("s", [PutEntry("k", b"there is room in the segment")])
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")
    await engine.aclose()
    async with opened(tmp_path / "crashed") as engine:
        assert len((await everything(engine.streams, "s"))["shardId-000000000000"]) == 5


# ---- clocks


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("shift", [-3_600, 86_400])
async def test_timers_keep_their_length_when_the_clock_was_set(shift: int, settled: bool, tmp_path: Path) -> None:
    """Between two runs: what was hidden for a time is hidden for no longer than that; nothing is lost or reordered."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "live", clock) as engine:
        await engine.queues.create_queue("q", QueueAttributes(visibility_timeout_ms=30_000))
        await engine.queues.send_messages("q", [SendEntry(b"received"), SendEntry(b"delayed", 20_000)])
        (received,) = await engine.queues.receive_messages("q", 1)
        await engine.queues.change_visibility("q", [VisibilityEntry(received.receipt_handle, 40_000)])
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"%d" % number) for number in range(5)])
        if settled:
            await engine.settle()
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    clock = ManualClock(START_MS + shift * 1000)
    async with opened(tmp_path / "data", clock) as engine:
        if shift < 0:
            for seconds, expected in ((0, 0), (19, 0), (1, 1), (19, 1), (1, 2)):
                await clock.advance(seconds)
                assert (await engine.queues.describe_queues(["q"]))[0].visible == expected
        assert {message.body for message in await engine.queues.receive_messages("q", 10)} == {b"received", b"delayed"}
        await engine.streams.put_records("s", [PutEntry("k", b"5")])
        records = (await everything(engine.streams, "s"))["shardId-000000000000"]
        assert [record.data for record in records] == [b"0", b"1", b"2", b"3", b"4", b"5"]


# ---- values


class Name(str):
    __slots__ = ()


class Blob(bytes):
    pass


async def test_subclasses_of_str_bytes_and_int_are_stored_as_what_they_are(tmp_path: Path) -> None:
    """A numpy.str_ as a partition key must not stop the journal for everybody."""

    class Number(int):
        pass

    async with opened(tmp_path / "live") as engine:
        await engine.streams.create_stream(Name("s"), Number(1))
        await engine.queues.create_queue(Name("q"), QueueAttributes(visibility_timeout_ms=Number(5)))
        await engine.tables.create_table(TableSchema(Name("table"), Name("id")))
        await engine.streams.put_records("s", [PutEntry(Name("k"), Blob(b"x"))])
        await engine.queues.send_messages("q", [SendEntry(Blob(b"y"), Number(0))])
        await engine.tables.write([Put({"id": "a"}, "table"), Delete({"id": Name("b")}, "table")])
        live = await contents(engine)
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    for path in (tmp_path / "data", tmp_path / "live"):
        async with opened(path) as engine:
            assert await contents(engine) == live


async def test_what_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    """A store that took it would never open again."""
    async with opened(tmp_path / "live") as engine:
        await engine.queues.create_queue("q", QueueAttributes())
        await engine.queues.send_messages("q", [SendEntry(b"x")])
        (message,) = await engine.queues.receive_messages("q", 1)
        live = await contents(engine)
        calls: list[Coroutine[Any, Any, object]] = [
            engine.streams.create_stream("s", True),
            engine.streams.create_stream("s", 1.0),  # type: ignore[arg-type]
            engine.queues.create_queue("r", QueueAttributes(visibility_timeout_ms=1.5)),  # type: ignore[arg-type]
            engine.queues.create_queue("r", QueueAttributes(delay_ms=True)),
            engine.queues.create_queue("r", QueueAttributes(receive_wait_ms=2**70)),
            engine.tables.create_table(TableSchema("table", 5)),  # type: ignore[arg-type]
            engine.tables.create_table(TableSchema("table", "\ud800")),
            engine.queues.receive_messages("q", 1, 1.5),  # type: ignore[arg-type]
            engine.queues.receive_messages("q", 1, "1"),  # type: ignore[arg-type]
        ]
        for call in calls:
            with pytest.raises(ValidationError):
                await call
        (error,) = await engine.queues.change_visibility(
            "q",
            [VisibilityEntry(message.receipt_handle, 1.5)],  # type: ignore[arg-type]
        )
        assert isinstance(error, ValidationError)
        wrong: list[Any] = [
            SendEntry(b"x", 1.5),  # type: ignore[arg-type]
            SendEntry(b"x", False),
            SendEntry(b"x", group_id="\ud800"),
            SendEntry(b"x", trace_header="\ud800"),
            SendEntry(b"x", attributes={"a": MessageAttribute("String", "\ud800")}),
            SendEntry(b"x", attributes={"a": MessageAttribute("String", 1)}),  # type: ignore[arg-type]
            SendEntry(b"x", attributes={"a": "b"}),  # type: ignore[dict-item]
        ]
        for result in await engine.queues.send_messages("q", wrong):
            assert isinstance(result.error, ValidationError)
        assert await contents(engine) == live
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    async with opened(tmp_path / "data") as engine:
        assert await contents(engine) == live
