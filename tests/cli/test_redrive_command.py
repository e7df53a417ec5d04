from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

import streamkit
from streamkit import RedrivePolicy
from tests.cli.calling import DEADLINE_SECONDS, call, on_a_terminal, running

LETTERS = 5


@pytest.fixture
def data(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            dead = await kit.create_queue("emails-dead")
            policy = RedrivePolicy(dead_letter_queue="emails-dead", max_receive_count=1)
            emails = await kit.create_queue("emails", visibility_timeout=0, redrive_policy=policy)
            await kit.create_queue("other")
            for number in range(LETTERS):
                await emails.send({"n": number})
            assert len(await emails.receive(LETTERS)) == LETTERS
            assert await emails.receive(LETTERS) == []
            assert (await dead.describe()).visible == LETTERS

    asyncio.run(fill())
    return tmp_path / "data"


def depths(directory: Path) -> dict[str, int]:
    (found,) = call("inspect", directory).lines
    return {queue["name"]: queue["visible"] for queue in found["queues"]}


def ids(directory: Path, queue: str = "emails-dead") -> list[str]:
    return [each["message_id"] for each in call("peek", directory, queue).lines]


def test_all_go_back_to_where_they_came_from(data: Path) -> None:
    looked = call("redrive", data, "emails-dead", "--dry-run")
    assert looked.lines == [{"queue": "emails-dead", "would_move": {"emails": LETTERS}, "without_source": 0}]
    assert depths(data) == {"emails": 0, "emails-dead": LETTERS, "other": 0}
    done = call("redrive", data, "emails-dead")
    assert (done.code, done.err) == (0, "")
    assert done.lines == [
        {"queue": "emails-dead", "status": "COMPLETED", "moved": LETTERS, "of": LETTERS, "reason": None}
    ]
    assert depths(data) == {"emails": LETTERS, "emails-dead": 0, "other": 0}
    assert all(each["receive_count"] == 0 for each in call("peek", data, "emails").lines)


def test_chosen_ones_to_another_queue(data: Path) -> None:
    first, second, *_ = ids(data)
    dry = call("redrive", data, "emails-dead", "--dry-run", "--text", "--to", "other", "--ids", first, second)
    assert (dry.code, dry.out) == (0, "2 messages would go to other\n")
    done = call("redrive", data, "emails-dead", "--text", "--to", "other", "--ids", first, second)
    assert (done.code, done.out) == (0, f"2 of {LETTERS} messages of emails-dead were moved\n")
    assert ids(data, "other") == [first, second]
    assert depths(data) == {"emails": 0, "emails-dead": LETTERS - 2, "other": 2}


def test_an_id_that_is_not_there_is_said(data: Path) -> None:
    first, *_ = ids(data)
    for dry_run in (["--dry-run"], []):
        done = call("redrive", data, "emails-dead", *dry_run, "--ids", first, "gone")
        assert done.code == 1
        assert "1 of the 2 ids are of no visible message of emails-dead" in done.err
    assert depths(data)["emails"] == 1


def test_what_was_sent_to_it_itself_needs_to(data: Path) -> None:
    lines = data.parent / "line"
    lines.write_text("1\n")
    call("put", data, "emails-dead", lines)
    dry = call("redrive", data, "emails-dead", "--dry-run", "--text")
    assert dry.code == 1
    assert "1 were sent to emails-dead itself and go nowhere: --to says where" in dry.out
    done = call("redrive", data, "emails-dead")
    assert done.code == 2  # Those of one batch are looked at before one is moved.
    assert "has no queue to go back to" in done.err
    assert depths(data)["emails-dead"] == LETTERS + 1
    assert call("redrive", data, "emails-dead", "--to", "other").code == 0


def test_what_cannot_be_moved_is_one_line(data: Path, tmp_path: Path) -> None:
    for arguments, says in (
        ((data, "gone"), "there is no queue 'gone'"),
        ((data, "emails-dead", "--to", "gone"), "there is no queue 'gone'"),
        ((data, "emails-dead", "--rate", "0"), "a rate of 1 to 500 messages per second"),
        ((tmp_path / "gone", "emails-dead"), "holds no streamkit data"),
        ((data, "emails-dead", "--dry-run", "--to", "gone"), "queue 'gone' does not exist: there are emails,"),
    ):
        done = call("redrive", *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert says in done.err
    done = call("redrive", data, "other")
    assert done.code == 2
    assert "queue 'other' is no queue's dead-letter queue" in done.err


async def test_beside_an_owner_it_says_who_that_is_and_what_to_do(data: Path) -> None:
    async with streamkit.open(data):
        done = await asyncio.to_thread(call, "redrive", data, "emails-dead")
        looked = await asyncio.to_thread(call, "redrive", data, "emails-dead", "--dry-run")
    assert done.code == 2
    assert "is in use by this process" in done.err
    assert "redrive in it: kit.start(kit.queue('emails-dead').move_task()); --dry-run only looks" in done.err
    assert looked.lines[0]["would_move"] == {"emails": LETTERS}


def test_a_signal_ends_it_and_what_was_moved_stays_moved(data: Path) -> None:
    with running("redrive", data, "emails-dead", "--rate", 1) as process:
        while depths(data)["emails"] == 0:
            assert process.process.poll() is None
        process.process.terminate()
        assert process.ends_with() == 130
    after = depths(data)
    assert 1 <= after["emails"] < LETTERS
    assert after["emails"] + after["emails-dead"] == LETTERS
    assert f'"status":"CANCELLED","moved":{after["emails"]},"of":{LETTERS}' in process.out.decode()


def test_a_terminal_sees_how_far_it_is(data: Path) -> None:
    with on_a_terminal("redrive", data, "emails-dead", "--rate", 1) as (process, screen):
        screen.wait_for(f"\r\033[K1 of {LETTERS} moved")
        screen.press(b"\x03")
        screen.wait_for(f" of {LETTERS} messages of emails-dead were moved")
        assert process.wait(DEADLINE_SECONDS) == 130


def test_it_leaves_the_logs_of_the_program_as_they_are(tmp_path: Path) -> None:
    before = logging.getLogger("streamkit.queues").level
    call("redrive", tmp_path, "emails-dead")
    assert logging.getLogger("streamkit.queues").level == before
