"""The dashboard with a server of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import streamkit
from streamkit import Stop, ValidationError
from streamkit.dashboard import Dashboard, serve, serving
from tests.dashboard.asking import MARK, dead_letters
from tests.dashboard.browsing import chromium


async def test_a_kit_serves_it_until_it_closes() -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with streamkit.open("memory:") as kit:
        board = kit.start(Dashboard(kit, port=0))
        while board.port == 0:  # noqa: ASYNC110 - it binds when it runs
            await asyncio.sleep(0)
        async with httpx.AsyncClient(base_url=board.url) as asking:
            assert "<title>streamkit</title>" in (await asking.get("/")).text
            answer = await asking.get("/api/overview")
            assert (answer.status_code, "server" in answer.headers) == (200, False)
            assert answer.json()["overview"]["services"] == [{"name": "dashboard:0", "state": "running", "error": None}]
        # The program's signals are its own.
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient().get(board.url)


async def test_it_is_stopped_and_started_again() -> None:
    async with streamkit.open("memory:") as kit:
        await (await kit.create_stream("s")).put(1, partition_key="k")
        board = Dashboard(kit, port=0)
        for _ in range(2):
            await board.bind()
            kit.start(board)
            async with (
                httpx.AsyncClient(base_url=board.url) as asking,
                asking.stream("GET", "/api/tail?stream=s") as answer,
            ):
                assert "event: records" in [line async for line in _until(answer.aiter_lines(), "event: records")]
            await kit.stop(board)


async def _until(lines: AsyncIterator[str], last: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line == last:
            return


async def test_closing_waits_for_no_tail() -> None:
    async with streamkit.open("memory:") as kit:
        await (await kit.create_stream("s")).put(1, partition_key="k")
        board = Dashboard(kit, port=0)
        await board.bind()
        kit.start(board)
        ended = asyncio.Event()

        async def follow() -> None:
            async with (
                httpx.AsyncClient(base_url=board.url) as asking,
                asking.stream("GET", "/api/tail?stream=s") as answer,
            ):
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        begun.set()
            ended.set()

        begun = asyncio.Event()
        task = asyncio.create_task(follow())
        await begun.wait()
        began = asyncio.get_running_loop().time()
        await kit.stop(board)
        assert asyncio.get_running_loop().time() - began < 2
        await ended.wait()
        await task
        assert kit.health().healthy


async def test_closing_does_not_wait_for_who_never_asks_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving.GRACE_SECONDS == 3
    monkeypatch.setattr(serving, "GRACE_SECONDS", 0.1)
    async with streamkit.open("memory:") as kit:
        board = Dashboard(kit, port=0)
        await board.bind()
        kit.start(board)
        reader, writer = await asyncio.open_connection("127.0.0.1", board.port)
        lines = ("POST /api/redrive HTTP/1.1", "Host: localhost", "X-Streamkit: 1", "Content-Type: application/json")
        writer.write("\r\n".join((*lines, "Expect: 100-continue", "Content-Length: 9", "", "{")).encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 "), "it waits for what is asked"
        async with asyncio.timeout(2.5):
            await kit.stop(board)
        assert kit.health().healthy
        writer.close()


async def test_a_port_that_is_taken() -> None:
    async with streamkit.open("memory:") as kit:
        first = Dashboard(kit, port=0)
        await first.bind()
        try:
            with pytest.raises(ValidationError, match=r"cannot be served at 127\.0\.0\.1:\d+ .*port=0"):
                await Dashboard(kit, port=first.port).bind()
            with pytest.raises(ValidationError, match="cannot be served"):
                await Dashboard(kit, host="nobody.invalid", port=0, token="x" * 16).bind()
            for port in (65_536, -1, True, "8787"):
                with pytest.raises(ValidationError, match="0 to 65,535"):
                    Dashboard(kit, port=port)  # type: ignore[arg-type]
        finally:
            first.close()


async def test_another_host_than_this_machine_has_a_token_always(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with streamkit.open("memory:") as kit:
        board = Dashboard(kit, host="0.0.0.0", port=0)
        await board.bind()
        kit.start(board)
        token = board.url.partition("?token=")[2]
        assert len(token) >= 32
        assert token not in repr(board)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{board.port}") as asking:
            assert (await asking.get("/api/overview")).status_code == 401
            assert (await asking.get(f"/?token={token}")).status_code == 303
            assert (await asking.get("/api/overview")).status_code == 200
        ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
        assert any("reachable from other machines" in line for line in ours)
        assert not any(token in line for line in ours)
        assert Dashboard(kit, host="0.0.0.0").url != Dashboard(kit, host="0.0.0.0").url
    assert Dashboard(kit).url == "http://127.0.0.1:8787/"
    assert Dashboard(kit, host="::1", token="t" * 16).url == f"http://[::1]:8787/?token={'t' * 16}"


async def test_a_log_at_its_finest_level_has_no_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    async with streamkit.open("memory:") as kit:
        board = Dashboard(kit, port=0, token="t" * 16)
        await board.bind()
        kit.start(board)
        async with httpx.AsyncClient() as asking:
            assert (await asking.get(board.url)).status_code == 303
    assert [record for record in caplog.records if record.name.startswith("uvicorn")]
    assert not [
        record for record in caplog.records if not record.name.startswith("http") and "t" * 16 in record.getMessage()
    ]


async def test_a_directory_beside_its_owner(tmp_path: Path) -> None:
    directory = tmp_path / "what?mode=ro"  # A name is a name.
    async with streamkit.open(directory) as owner:
        await dead_letters(owner, 1)
        opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(directory, port=0, opened=opened.set_result))
        async with httpx.AsyncClient(base_url=await opened) as asking:
            shown = (await asking.get("/api/overview")).json()["overview"]
            assert (shown["owner"], [queue["name"] for queue in shown["queues"]]) == ("looking on", ["dead", "jobs"])
            refused = await asking.post("/api/move", json={"queue": "dead"}, headers=MARK)
            assert refused.status_code == 409
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient().get(opened.result())
        assert (await owner.queue("dead").describe()).visible == 1


async def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(streamkit.StorageError):
        await serve(tmp_path / "nothing", port=0)
    assert not (tmp_path / "nothing").exists()


async def test_a_kit_that_is_stopped_before_it_began() -> None:
    async with streamkit.open("memory:") as kit:
        stop = Stop()
        stop.request()
        await Dashboard(kit, port=0).run(stop)


@pytest.mark.parametrize(("missing", "name"), [("starlette", "dashboard"), ("uvicorn", "serve")])
def test_without_the_extra_it_says_what_to_install(missing: str, name: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
import streamkit.dashboard
try:
    streamkit.dashboard.{name}
except streamkit.StreamKitError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "the dashboard needs an optional dependency: pip install 'streamkit[dashboard]'\n"


def test_there_is_nothing_else_in_it() -> None:
    import streamkit.dashboard as room

    assert sorted(room.__all__) == ["Dashboard", "dashboard", "serve"]
    assert set(room.__all__) <= set(dir(room))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        room.nothing  # noqa: B018


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_ci_fails(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install chromium"):
        chromium()
