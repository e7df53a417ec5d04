"""The services among the examples, as processes: what they answer, what they log, and how they end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import streamkit
from streamkit.engines.file.verify import verify
from tests.serving import ROOT, Running, until

SECRET = "4111-1111"
SENTENCE = "a web server that owns it runs one worker process (--workers 1). See docs/services.md"
JOBS = str(ROOT / "examples" / "asyncio_service.py")
FASTAPI = """
import asyncio, socket, sys
from fastapi import Request
from examples import fastapi_service as service

async def deliver(mail):
    service.log.info("mailing")
    await asyncio.sleep(float(sys.argv[2]))
    service.log.info("mailed")

app = service.create_app(sys.argv[1], deliver)

@app.post("/break")
async def break_the_worker(request: Request):
    await request.state.kit.delete_queue("mails")

service.serve(app, socket.socket(fileno=int(sys.argv[3])))
"""
"""The example, with a mail server that takes its time and a way to make a service fail."""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


def fastapi(directory: Path, listening: socket.socket, mail_seconds: float = 0.0) -> Running:
    fd = listening.fileno()
    return Running(
        ["-W", "error", "-c", FASTAPI, str(directory / "data"), str(mail_seconds), str(fd)],
        cwd=directory,
        pass_fds=[fd],
    )


def client_of(listening: socket.socket) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", follow_redirects=True, timeout=30.0)


def held(data: Path) -> tuple[list[int], dict[str, Any], int]:
    """What a store has once its process has ended: sequence numbers, totals, and mails that wait."""

    async def look() -> tuple[list[int], dict[str, Any], int]:
        async with streamkit.open(data) as kit:
            numbers = [record.sequence_number async for record in kit.stream("orders").records()]
            totals = {item["customer"]: int(item["orders"]) async for item in kit.table("totals").scan()}
            mails = await kit.queue("mails").describe()
            return numbers, totals, mails.visible + mails.not_visible + mails.delayed

    return asyncio.run(look())


# ---- FastAPI


def test_fastapi_serves_logs_and_finishes_what_is_in_hand(tmp_path: Path, listening: socket.socket) -> None:
    with fastapi(tmp_path, listening, mail_seconds=0.5) as service, client_of(listening) as client:
        assert client.get("/health").json() == {"alive": True}
        taken = client.post("/orders", json={"customer": SECRET, "total": 120})
        assert (taken.status_code, taken.json()["sequence_number"]) == (201, "1")
        refused = client.post("/orders", json={"customer": SECRET})
        assert refused.status_code == 422
        until(lambda: client.get(f"/customers/{SECRET}").status_code == 200)
        assert client.get(f"/customers/{SECRET}").json() == {"orders": 1, "total": 120}
        service.until('"mailing"')
        service.terminate()
        assert service.end() == 0
        logged = service.logged
    messages = [line["message"] for line in logged]
    assert messages.index("Shutting down") < messages.index("mailed") < messages.index("drained")
    assert held(tmp_path / "data") == ([1], {SECRET: 1}, 0)
    # The log: who was served, what was in hand, and nothing of what it was.
    assert SECRET not in service.output
    (put,) = (line for line in logged if line["message"] == "taken")
    assert put["request_id"] in {line["request_id"] for line in logged if line.get("route") == "/orders"}
    assert (put["stream"], put["shard"], put["sequence_number"]) == ("orders", taken.json()["shard"], 1)
    (mailed,) = (line for line in logged if line["message"] == "mailed")
    assert (mailed["worker"], mailed["queue"], mailed["receive_count"]) == ("worker:mails", "mails", 1)
    assert mailed["message_id"]
    assert {line["status"] for line in logged if line.get("route") == "/orders"} == {201, 422}


def test_fastapi_loses_nothing_that_it_answered(tmp_path: Path, listening: socket.socket) -> None:
    answered: list[int] = []

    def post() -> None:
        with client_of(listening) as client:
            try:
                while True:
                    put = client.post("/orders", json={"customer": "ada", "total": 1})
                    answered.append(int(put.raise_for_status().json()["sequence_number"]))
            except httpx.TransportError:
                pass  # It has ended.

    with fastapi(tmp_path, listening) as service:
        clients = [threading.Thread(target=post) for _ in range(4)]
        for each in clients:
            each.start()
        until(lambda: len(answered) >= 40)
        service.terminate()
        assert service.end() == 0
        listening.close()  # So that those who wait to be served hear that nobody does.
        for each in clients:
            each.join()
    stored, totals, _ = held(tmp_path / "data")
    assert set(answered) <= set(stored)
    assert len(set(stored)) == len(stored)
    assert totals["ada"] <= len(stored)
    with (
        socket.create_server(("127.0.0.1", 0)) as again,
        fastapi(tmp_path, again) as service,
        client_of(again) as client,
    ):
        # What was not accounted for then is now, each once.
        until(lambda: client.get("/customers/ada").json()["orders"] >= len(stored))
        assert client.get("/customers/ada").json() == {"orders": len(stored), "total": len(stored)}
        service.terminate()
        assert service.end() == 0


def test_fastapi_is_ready_until_a_service_fails(tmp_path: Path, listening: socket.socket) -> None:
    with fastapi(tmp_path, listening) as service, client_of(listening) as client:
        client.post("/orders", json={"customer": SECRET, "total": 120})
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        assert ready.json()["services"]["worker:mails"] == "running"
        families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
        (incoming,) = families["aws_kinesis_incoming_records"].samples
        assert (incoming.labels, incoming.value) == ({"stream_name": "orders"}, 1)
        client.post("/break").raise_for_status()
        until(lambda: client.get("/ready").status_code == 503)
        broken = client.get("/ready").json()
        assert (broken["ready"], broken["services"]["worker:mails"]) == (False, "failed")
        assert client.get("/health").status_code == 200
        service.terminate()
        service.end()
    assert SECRET not in service.output


def test_uvicorns_command_line_drains_and_passes_the_signal_on(tmp_path: Path) -> None:
    arguments = ["-m", "uvicorn", "examples.fastapi_service:app", "--port", "0", "--app-dir", str(ROOT)]
    with Running(arguments, cwd=tmp_path, ORDERS_URL="./data") as service:
        line = service.until("Uvicorn running on")
        port = int(line.split("http://127.0.0.1:")[1].split(" ")[0].split('"')[0])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.post("/orders", json={"customer": "ada", "total": 120}).status_code == 201
        service.terminate()
        # By convention of the shell 143; systemd and Kubernetes take it for the end that they asked for.
        assert service.end() == -15
        assert '"drained"' in service.output
    assert held(tmp_path / "data")[0] == [1]


# ---- several processes


def test_several_worker_processes_are_told_what_to_do(tmp_path: Path) -> None:
    arguments = ["-m", "uvicorn", "examples.fastapi_service:app", "--port", "0", "--app-dir", str(ROOT)]
    with Running([*arguments, "--workers", "2"], cwd=tmp_path, ORDERS_URL="./data") as service:
        line = service.until(SENTENCE)
        assert "data is in use by process " in line
        service.terminate()  # uvicorn has ended by itself, or tries again and again to start the second one.
        service.end()
        assert "Traceback" in service.output  # Nobody swallowed it.
    assert verify(str(tmp_path / "data")).sound
    asyncio.run(opens(tmp_path / "data"))


async def opens(data: Path) -> None:
    async with streamkit.open(data) as kit:
        assert kit.health().ready


# ---- plain asyncio


def jobs(directory: Path, port: int = 0) -> Running:
    return Running(["-W", "error", JOBS, "data", "jobs.sock", str(port)], cwd=directory)


def job(seconds: float) -> bytes:
    return json.dumps({"name": SECRET, "seconds": seconds}).encode() + b"\n"


def done(data: Path) -> tuple[set[str], list[tuple[str, int]]]:
    """The jobs that are done, and those that wait, with how often they were received."""

    async def look() -> tuple[set[str], list[tuple[str, int]]]:
        async with streamkit.open(data) as kit:
            finished = {item["job"] async for item in kit.table("done").scan()}
            waiting = await kit.queue("jobs").receive(10) if (await kit.queue("jobs").describe()).visible else []
            return finished, [(message.message_id, message.receive_count) for message in waiting]

    return asyncio.run(look())


def test_asyncio_finishes_what_is_in_hand_and_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    answered: list[str] = []

    def send() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "jobs.sock"))
            lines = connection.makefile("rwb")
            try:
                lines.write(job(0.5))
                lines.flush()
                while line := lines.readline():
                    answered.append(json.loads(line)["message_id"])
                    lines.write(job(0.0))
                    lines.flush()
            except ConnectionError:
                pass  # It has ended.

    with jobs(tmp_path) as service:
        url = json.loads(service.until('"started"'))["url"]
        with urlopen(f"{url}/health") as health:
            assert health.status == 200
        with urlopen(f"{url}/ready") as ready:
            services = json.load(ready)["services"]
            assert (services["door"], services["worker:jobs"]) == ("running", "running")
        clients = [threading.Thread(target=send) for _ in range(3)]
        for each in clients:
            each.start()
        service.until('"begun"', 20)
        service.terminate()
        assert service.end() == 0
        for each in clients:
            each.join()
        logged = service.logged
    messages = [line["message"] for line in logged]
    assert messages[-1] == "drained"
    assert messages.count("begun") == messages.count("done")
    assert "done" in messages[messages.index("stopping") :]
    finished, waiting = done(tmp_path / "data")
    # Those of half a second were in hand, and are done; what had not begun comes after the restart.
    assert {line["message_id"] for line in logged if line["message"] == "done"} == finished
    assert set(answered) <= finished | {message_id for message_id, _ in waiting}
    assert SECRET not in service.output


def test_asyncio_gives_back_what_takes_longer_than_its_grace(tmp_path: Path) -> None:
    with jobs(tmp_path) as service:
        service.until('"started"')
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "jobs.sock"))
            connection.sendall(job(600.0))
            message_id = json.loads(connection.makefile("rb").readline())["message_id"]
        service.until('"begun"')
        began = time.monotonic()
        service.terminate()
        assert service.end() == 0
        assert time.monotonic() - began < 20
        assert "not finished 2 s after the stop, and cancelled: 1" in service.output
    # It is visible at once, and has been received once before.
    assert done(tmp_path / "data") == (set(), [(message_id, 2)])


def test_a_second_process_is_told_what_to_do(tmp_path: Path) -> None:
    with jobs(tmp_path) as service:
        service.until('"started"')
        with jobs(tmp_path) as second:
            assert second.end() == 1
            assert f"data is in use by process {service.pid} on " in second.output
            assert "look on with ?mode=ro and put through it" in second.output
            assert SENTENCE in second.output
            assert "Traceback" not in second.output
        service.terminate()
        assert service.end() == 0
