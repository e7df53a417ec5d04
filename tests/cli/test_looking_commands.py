"""``tail``, ``peek``, ``inspect``: they look, beside an owner, and change nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import sys
import urllib.request
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Kit, Record, RedrivePolicy, ValidationError
from streamkit.cli import payload, tail
from streamkit.cli.printing import escaped
from streamkit.cli.times import start_of
from streamkit.cli.watching import drawn
from streamkit.codecs import Codec
from streamkit.metrics.window import Metrics
from streamkit.streams.look import Look
from tests.cli.calling import DEADLINE_SECONDS, call, on_a_terminal, running


def fill(directory: Path, what: Callable[[Kit], Awaitable[None]]) -> None:
    async def filled() -> None:
        async with streamkit.open(directory) as kit:
            await what(kit)

    asyncio.run(filled())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    async def some(kit: Kit) -> None:
        orders = await kit.create_stream("orders", type=bytes, shards=2)
        for number in range(4):
            await orders.put(b'{"n": %d}' % number, partition_key="ada")
        await orders.put(b"plain \x1b[31mtext\n", partition_key="b\x1b]0;owned\x07")
        await orders.put(b"\xff\x00", partition_key="ada")
        dead = await kit.create_queue("emails-dead")
        emails = await kit.create_queue(
            "emails", redrive_policy=RedrivePolicy(dead_letter_queue="emails-dead", max_receive_count=1)
        )
        await emails.send({"to": "ada"}, attributes={"kind": "welcome", "raw": b"\x00"})
        (letter,) = await emails.receive()
        await emails.change_visibility(letter, 0, last_error="SMTPError: 550\nno such user")
        assert await emails.receive() == []
        assert (await dead.describe()).visible == 1
        async with orders.consumer("billing") as consumer:
            async for batch in consumer.batches(max_records=1):
                await consumer.checkpoint(batch)
                break

    fill(tmp_path / "data", some)
    return tmp_path / "data"


# ---- tail


def test_tail_shows_the_newest_as_they_are(data: Path) -> None:
    done = call("tail", data, "orders", "-n", 3)
    assert (done.code, done.err) == (0, "")
    number, text, binary = done.lines
    assert number["value"] == {"n": 3}
    assert (number["partition_key"], number["shard_id"][:8]) == ("ada", "shardId-")
    assert datetime.fromisoformat(number["arrival"]).tzinfo == UTC
    assert text["text"] == "plain \x1b[31mtext\n"
    assert base64.b64decode(binary["base64"]) == b"\xff\x00"
    assert len(call("tail", data, "orders").lines) == 6
    assert call("tail", data, "orders", "-n", 0).out == ""


def test_tail_leaves_a_terminal_as_it_is(data: Path) -> None:
    done = call("tail", data, "orders", "--text")
    assert all(line.isprintable() for line in done.out.splitlines())
    assert r"b\u001b]0;owned\u0007  plain \u001b[31mtext\u000a" in done.out
    assert '  ada  {"n": 0}' in done.out
    assert f"  ada  base64 {base64.b64encode(bytes([255, 0])).decode()}" in done.out


def test_tail_from_a_place_on_and_of_one_key(data: Path) -> None:
    every = call("tail", data, "orders", "--start", "TRIM_HORIZON").lines
    assert len(every) == 6
    assert [each.get("value") for each in call("tail", data, "orders", "--start", "1h", "--key", "ada").lines] == [
        *({"n": number} for number in range(4)),
        None,
    ]
    last = max(each["arrival"] for each in every)
    assert call("tail", data, "orders", "--start", last).lines


def test_starts() -> None:
    now_ms = 1_000_000_000_000
    assert start_of("trim_horizon", now_ms) == "TRIM_HORIZON"
    assert start_of("90s", now_ms) == datetime.fromtimestamp(now_ms / 1000 - 90, UTC)
    assert start_of("1.5h", now_ms) == datetime.fromtimestamp(now_ms / 1000 - 5400, UTC)
    assert start_of("2001-09-09T01:46:40Z", now_ms) == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert start_of("2001-09-09", now_ms) == datetime(2001, 9, 9, tzinfo=UTC)
    with pytest.raises(ValidationError, match="'yesterday' is no time: give TRIM_HORIZON, a time such as"):
        start_of("yesterday", now_ms)


def test_tail_follows_beside_the_owner_and_shows_each_once(data: Path) -> None:
    async def followed() -> None:
        async with streamkit.open(data) as kit:
            orders = kit.stream("orders", type=bytes)
            for arguments in (("-n", "1"), ("--start", "TRIM_HORIZON")):
                with running("tail", data, "orders", "--follow", *arguments) as process:
                    await asyncio.to_thread(process.wait_for, "/wA=")  # The last one that was there.
                    for number in range(10, 13):
                        await orders.put(b'{"n": %d}' % number, partition_key="ada")
                    await orders.split((await orders.describe()).open_shards[0].shard_id)
                    await orders.put(b'{"n": 13}', partition_key="after the split")
                    await asyncio.to_thread(process.wait_for, '{"n": 13}')
                    process.process.send_signal(signal.SIGINT)
                    assert process.ends_with() == 130
                lines = process.out.decode().splitlines()
                assert lines.pop() == "interrupted"
                new = [line for number in range(10, 14) for line in lines if f'{{"n": {number}}}' in line]
                assert len(new) == 4 if arguments[0] == "-n" else len(set(lines)) == len(lines)

    asyncio.run(followed())


async def test_what_arrives_while_the_old_ones_are_shown_is_shown_once() -> None:
    class Meanwhile(Look[bytes]):
        async def records(self, start: Any = "TRIM_HORIZON") -> AsyncIterator[Record[bytes]]:
            await stream.put(b"meanwhile", partition_key="a")
            async for record in super().records(start):
                yield record
            await stream.put(b"afterwards", partition_key="a")

    async with streamkit.open("memory:") as kit:
        stream = await kit.create_stream("s", type=bytes)
        await stream.put(b"before", partition_key="a")
        look = Meanwhile("s", Codec(bytes), kit.engine.streams, kit.clock, Metrics())
        shown = []
        records = tail._records(look, Namespace(n=None, follow=True), "TRIM_HORIZON")
        async for record in records:
            shown.append(record.data)
            if record.data == b"afterwards":
                break
        await records.aclose()  # type: ignore[attr-defined]
    assert shown == [b"before", b"meanwhile", b"afterwards"]


def test_a_reader_that_goes_away_ends_it_quietly(data: Path) -> None:
    async def many(kit: Kit) -> None:
        stream = await kit.create_stream("many", type=bytes)
        await stream.put_batch([("k", b'"%s"' % bytes(b"x" * 1000)) for _ in range(2000)])

    fill(data, many)
    with running("tail", data, "many", "-n", 2000) as process:
        assert process.process.stdout is not None
        os.read(process.process.stdout.fileno(), 10)
        process.process.stdout.close()
        assert process.process.wait(60) == 141


def test_what_is_not_there(data: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (("tail", data, "order"), "stream 'order' does not exist: there are orders\n"),
        (("tail", data, "emails"), "it is the name of a queue: streamkit peek shows its messages"),
        (("peek", data, "email"), "queue 'email' does not exist: there are emails, emails-dead\n"),
        (("peek", data, "orders"), "it is the name of a stream: streamkit tail shows its records"),
        (("tail", tmp_path / "gone", "orders"), "gone"),
        (("tail", data, "orders", "-n", "-1"), "-n is a number of records, 0 or more"),
        (("peek", data, "emails", "-n", "0"), "-n is a number of messages, 1 or more"),
        (("inspect", tmp_path / "gone"), "gone"),
        (("inspect", data, "--interval", "0"), "--interval is 0.1 to 3,600 seconds"),
    ):
        done = call(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert says in done.err


# ---- peek


def test_peek_tells_of_dead_letters_and_receives_nothing(data: Path) -> None:
    for _ in range(2):
        (letter,) = call("peek", data, "emails-dead").lines
        assert (letter["receive_count"], letter["dead_letter_source"]) == (1, "emails")
        assert letter["last_error"] == "SMTPError: 550\nno such user"
        assert letter["value"] == {"to": "ada"}
        assert letter["attributes"] == {
            "kind": {"data_type": "String", "value": "welcome"},
            "raw": {"data_type": "Binary", "base64": "AA=="},
        }
    head, row, sum_ = call("peek", data, "emails-dead", "--text").out.splitlines()
    assert head.split() == ["SENT", "RECEIVED", "ID", "FROM", "LAST", "ERROR", "BODY"]
    assert r'emails  SMTPError: 550\u000ano such user  {"to":"ada"}' in row
    assert sum_ == "1 of 1 visible messages of emails-dead; 0 in flight, 0 delayed"
    assert call("peek", data, "emails", "--text").out == "0 of 0 visible messages of emails; 0 in flight, 0 delayed\n"


# ---- inspect


def test_inspect_at_a_glance(data: Path) -> None:
    (found,) = call("inspect", data).lines
    (stream,) = found["streams"]
    assert sum(shard["records"] for shard in stream["shards"]) == 6
    assert [each["name"] for each in stream["consumers"]] == ["billing"]
    assert {queue["name"]: queue["visible"] for queue in found["queues"]} == {"emails": 0, "emails-dead": 1}
    said = call("inspect", data, "--text").out
    assert "1 dead letter, no alarms" in said
    assert "dead letters of emails" in said


def test_inspect_names_the_extra_of_its_dashboard(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "streamkit.dashboard.serving", raising=False)
    done = call("inspect", data, "--web")
    assert done.code == 2
    assert "pip install 'streamkit[dashboard]'" in done.err


def test_inspect_serves_the_dashboard_until_it_is_asked_to_end(data: Path) -> None:
    with running("inspect", data, "--web", "--port", 0) as process:
        end = process.wait_for('"}\n')
        event = json.loads(process.out[:end])
        assert event["event"] == "serving"
        assert event["url"].startswith("http://127.0.0.1:")
        with urllib.request.urlopen(event["url"], timeout=DEADLINE_SECONDS) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read().lower()
        process.process.terminate()
        assert process.ends_with() == 130, process.out


def test_a_port_that_is_taken_is_said(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = call("inspect", data, "--web", "--port", taken.getsockname()[1])
    assert (done.code, done.out) == (2, "")
    assert "port" in done.err


def test_a_live_view_fits_the_screen() -> None:
    shown = drawn(["head", "", "queues", "  web  ALARM  5 s  ALARM all over", "x" * 30], 12, 4)
    assert shown.startswith("\033[H\033[1mhead\033[0m\033[K\n")
    assert shown.count("\n") == 3
    assert "... and 2 mo" in shown
    assert "\033[31mALARM\033[0m" in drawn(["  web  ALARM  5 s"], 80, 24)


@pytest.mark.parametrize(("key", "code"), [(b"q", 0), (b"\x03", 130)])
def test_a_live_view_shows_what_comes_and_leaves_the_terminal(data: Path, key: bytes, code: int) -> None:
    with on_a_terminal("inspect", data, "--watch", "--interval", "0.1") as (process, screen):
        screen.wait_for("queues (2)")
        assert b"\033[?1049h" in screen.seen

        async def more(kit: Kit) -> None:
            await kit.create_queue("a-new-one")

        fill(data, more)
        screen.wait_for("a-new-one")
        screen.press(key)
        screen.wait_for("\033[?1049l")
        assert process.wait(DEADLINE_SECONDS) == code


# ---- what anybody put


@pytest.mark.parametrize(
    ("data", "fields", "text"),
    [
        (b'{"a":\n 1.10}', b'{"value":{"a":1.10}}', '{"a":1.10}'),
        (b"NaN", b'{"text":"NaN"}', "NaN"),
        (b"1e999", b'{"text":"1e999"}', "1e999"),
        (b"", b'{"text":""}', ""),
        (b'"\xff"', b'{"base64":"Iv8i"}', "base64 Iv8i"),
        ('"\u202e\U000e0001"'.encode(), '{"value":"\u202e\U000e0001"}'.encode(), r'"\u202e\udb40\udc01"'),
        (b"[" * 5000, b'{"text":"' + b"[" * 5000 + b'"}', "[" * 5000),
    ],
)
def test_payloads(data: bytes, fields: bytes, text: str) -> None:
    import msgspec

    assert msgspec.json.encode(payload.fields(data)) == fields
    assert payload.text(data) == text


def test_escaped_json_is_the_same_json() -> None:
    value = {"a": "\x7f\x9b\u2028\U000e0001é"}
    assert json.loads(escaped(json.dumps(value, ensure_ascii=False))) == value
    assert escaped("é \N{SNOWMAN}") == "é \N{SNOWMAN}"


@pytest.mark.parametrize(("name", "value", "has"), [("NO_COLOR", "1", b"\033[H"), ("TERM", "dumb", b"")])
def test_a_terminal_that_wants_no_styles(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, has: bytes
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    with on_a_terminal("inspect", data, "--watch", "--interval", "0.1") as (process, screen):
        screen.wait_for("emails-dead")
        screen.press(b"\x03")
        assert process.wait(DEADLINE_SECONDS) == 130
        assert has in screen.seen
        for style in (b"\033[1m", b"\033[2m") if has else (b"\033",):
            assert style not in screen.seen
    with on_a_terminal("tail", data, "orders", "-n", "1", "--follow") as (process, screen):
        screen.wait_for("  ada  ")
        process.kill()
        assert b"\033[2m" not in screen.seen
