"""The metrics over real sockets of the loopback device."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

import streamkit
from streamkit import Kit, Stop
from streamkit.errors import ClosedError, ServiceFailedError, ValidationError
from streamkit.metrics.exposition import OPENMETRICS, TEXT, Bounds
from streamkit.metrics.metric import Metric
from streamkit.monitoring import http
from streamkit.monitoring.http import MetricsServer
from streamkit.monitoring.probes import probe
from streamkit.monitoring.scrape import Answer
from streamkit.testing.clock import ManualClock

SENT = Metric.of("shop", "Sent", Queue="orders")


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        kit.metrics.put(SENT, 3, unit="Count")
        yield kit


@pytest.fixture
async def server(kit: Kit) -> MetricsServer:
    return await kit.metrics.start_http(0)


async def connect(server: MetricsServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(server.host, server.port)


async def ask(server: MetricsServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await connect(server)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return int(status.split(" ")[1]), headers, body


async def get(server: MetricsServer, target: str = "/metrics", **headers: str) -> tuple[int, dict[str, str], bytes]:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return await ask(server, f"GET {target} HTTP/1.1\r\nHost: here\r\n{fields}\r\n".encode())


def openmetrics(text: bytes) -> Any:
    return openmetrics_families(text.decode())  # type: ignore[no-untyped-call]


async def until(condition: Callable[[], bool]) -> None:
    # What happens in sockets sets no event.
    for _ in range(200_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")


class Failing:
    name = "mailer"

    async def run(self, stop: Stop) -> None:
        raise ValueError("4111-1111")


async def test_probes_say_whether_it_lives_and_whether_requests_should_come(kit: Kit, server: MetricsServer) -> None:
    status, headers, body = await get(server, "/health")
    assert (status, headers["Content-Type"], body) == (200, "application/json", b'{"alive":true}\n')
    status, headers, body = await get(server, "/ready")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert msgspec.json.decode(body) == {"ready": True, "services": {server.name: "running"}}
    status, _, body = await ask(server, b"HEAD /ready HTTP/1.1\r\n\r\n")
    assert (status, body) == (200, b"")
    status, _, _ = await ask(server, b"POST /ready HTTP/1.1\r\n\r\n")
    assert status == 405


async def test_who_has_a_failed_service_lives_and_is_not_ready(clock: ManualClock) -> None:
    kit = await streamkit.open("memory:", clock=clock)
    server = await kit.metrics.start_http(0)
    kit.start(Failing())
    await until(lambda: bool(kit.health().errors))
    status, _, body = await get(server, "/ready")
    assert status == 503
    assert msgspec.json.decode(body) == {"ready": False, "services": {server.name: "running", "mailer": "failed"}}
    assert (await get(server, "/health"))[0] == 200
    with pytest.raises(ServiceFailedError):
        await kit.close()


async def test_a_kit_that_closes_is_not_ready(clock: ManualClock) -> None:
    kit = await streamkit.open("memory:", clock=clock)
    assert kit.health().ready
    closing = asyncio.create_task(kit.close())
    await asyncio.sleep(0)
    assert probe("GET", "/ready", kit.health).status == 503  # type: ignore[union-attr]
    await closing


def sample(families: Any, name: str) -> float:
    (value,) = [sample.value for family in families for sample in family.samples if sample.name == name]
    return float(value)


@pytest.mark.parametrize("target", ["/metrics", "/metrics?name=x", "http://here/metrics"])
async def test_a_scrape_is_answered(server: MetricsServer, target: str) -> None:
    status, headers, body = await get(server, target)
    assert (status, headers["Content-Type"]) == (200, TEXT)
    assert int(headers["Content-Length"]) == len(body)
    assert sample(text_string_to_metric_families(body.decode()), "shop_sent_total") == 3


async def test_openmetrics_and_gzip_are_answered_where_they_are_asked_for(server: MetricsServer) -> None:
    status, headers, body = await get(
        server, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Accept_Encoding="br, gzip"
    )
    assert (status, headers["Content-Type"], headers["Content-Encoding"]) == (200, OPENMETRICS, "gzip")
    assert sample(openmetrics(gzip.decompress(body)), "shop_sent_total") == 3
    _, headers, _ = await get(server, Accept_Encoding="gzip;q=0")
    assert "Content-Encoding" not in headers


async def test_gauges_are_read_for_each_scrape(kit: Kit, server: MetricsServer) -> None:
    queue = await kit.create_queue("orders")
    name = "aws_sqs_approximate_number_of_messages_visible"
    for count in range(1, 4):
        await queue.send(count)
        _, _, body = await get(server)
        assert sample(text_string_to_metric_families(body.decode()), name) == count


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/x HTTP/1.1\r\n\r\n", 404),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nname : value\r\n\r\n", 400),
    ],
)
async def test_other_requests_are_told_what_is_wrong(server: MetricsServer, request_: bytes, status: int) -> None:
    # A refused client has nothing more to say.
    reader, writer = await connect(server)
    writer.write(request_)
    writer.write_eof()
    answer = await reader.read()
    assert int(answer.split(b" ")[1]) == status
    body = answer.partition(b"\r\n\r\n")[2]
    assert bool(body) is not request_.startswith(b"HEAD")
    writer.close()
    assert (await get(server))[0] == 200


async def test_a_huge_request_is_refused_and_the_client_hears_of_it(server: MetricsServer) -> None:
    reader, writer = await connect(server)
    writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 200_000)
    writer.write_eof()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_client_that_sends_for_ever_is_cut_off(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_IGNORED", 100_000)
    reader, writer = await connect(server)

    async def send_for_ever() -> None:
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await send_for_ever()
    writer.close()
    reader.feed_eof()
    assert (await get(server))[0] == 200


async def test_a_client_that_sends_nothing_is_cut_off_and_nobody_waits_for_it(
    server: MetricsServer, clock: ManualClock
) -> None:
    reader, writer = await connect(server)
    writer.write(b"GET /metr")
    assert (await get(server))[0] == 200
    await clock.advance(http.HEAD_MS / 1000)
    with pytest.raises(ConnectionError):
        raise ConnectionError if await reader.read() == b"" else AssertionError
    writer.close()
    assert server._answering == set()


async def test_a_client_that_does_not_read_is_cut_off_and_nobody_waits_for_it(
    server: MetricsServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def huge(method: str, headers: object) -> Answer:
        return Answer(200, (), bytes(64_000_000))  # More than the system keeps for a client.

    with monkeypatch.context() as patch:
        patch.setattr(server._scraper, "answer", huge)
        reader, writer = await connect(server)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await until(lambda: not server._reading and bool(server._answering))
    assert (await get(server))[0] == 200
    assert len(server._answering) == 1
    await clock.advance(http.ANSWER_MS / 1000)
    await until(lambda: not server._answering)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    with suppress(ConnectionError):
        assert len(await reader.read()) < 64_000_000
    writer.close()


async def test_too_many_at_once_are_told_to_come_later(
    kit: Kit, server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    going = asyncio.Event()

    async def slow() -> float:
        await going.wait()
        return 1.0

    kit.metrics.register_gauge(Metric.of("shop", "Slow"), slow)
    scrapes = [asyncio.create_task(get(server)) for _ in range(3)]
    done, _ = await asyncio.wait(scrapes, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in done] == [503]
    going.set()
    assert sorted([(await task)[0] for task in scrapes]) == [200, 200, 503]


async def test_a_port_that_is_taken_is_told(kit: Kit, server: MetricsServer) -> None:
    with pytest.raises(ValidationError, match=f"127.0.0.1:{server.port} .*choose another port"):
        await kit.metrics.start_http(server.port)
    with pytest.raises(ValidationError, match="choose another port"):
        await kit.metrics.start_http(70_000)
    other = await kit.metrics.start_http(0)
    assert (await get(other))[0] == 200


async def test_it_stops_with_the_kit_and_answers_first_whom_it_is_answering(clock: ManualClock) -> None:
    going = asyncio.Event()

    async def slow() -> float:
        await going.wait()
        return 7.0

    async with streamkit.open("memory:", clock=clock) as kit:
        kit.metrics.register_gauge(Metric.of("shop", "Slow"), slow)
        server = await kit.metrics.start_http(0)
        idle, writer = await connect(server)
        scrape = asyncio.create_task(get(server))
        await until(lambda: len(server._answering) > len(server._reading))
        closing = asyncio.create_task(kit.close())
        assert await idle.read() == b""
        writer.close()
        assert not closing.done()
        going.set()
        status, _, body = await scrape
        assert (status, sample(text_string_to_metric_families(body.decode()), "shop_slow")) == (200, 7.0)
        await closing
        with pytest.raises(ConnectionRefusedError):
            await connect(server)
        with pytest.raises(ClosedError):
            await kit.metrics.start_http(server.port)
        # The port was given back.
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((server.host, server.port))


async def test_it_is_a_service_that_can_be_stopped(kit: Kit, server: MetricsServer) -> None:
    assert kit.health().services[server.name] == "running"
    await kit.stop(server)
    with pytest.raises(ConnectionRefusedError):
        await connect(server)
    assert kit.health().healthy


async def test_a_failing_scrape_closes_the_connection_and_nothing_else(
    kit: Kit, server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(now_ms: int) -> None:
        raise RuntimeError("planned")

    with monkeypatch.context() as patch:
        patch.setattr(kit.metrics.raw, "sample", broken)
        reader, writer = await connect(server)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    assert (await get(server))[0] == 200


async def test_bounds_can_be_given(kit: Kit) -> None:
    for at in range(5):
        kit.metrics.put(Metric.of("shop", "Sent", Queue=f"q{at}"), 1, unit="Count")
    server = await kit.metrics.start_http(0, bounds=Bounds(label_values=2))
    _, _, body = await get(server)
    assert b'shop_sent_total{queue="other"} 4.0\n' in body


async def test_others_have_turns_while_a_large_answer_is_made(kit: Kit) -> None:
    for at in range(5_000):
        kit.metrics.raw.put(Metric.of("shop", "Sent", Queue=f"q{at}"), 1, 0, 1, "Count")
    server = await kit.metrics.start_http(0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    status, _, body = await get(server, Accept_Encoding="gzip")
    counting.cancel()
    assert status == 200
    assert gzip.decompress(body).count(b"\n") > 5_000
    assert turns > 2 * 5_000 / 500


# ---- ASGI


async def call(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_the_application_answers_wherever_it_is_mounted(kit: Kit) -> None:
    scope = {"type": "http", "method": "GET", "path": "/anything", "headers": [(b"Accept-Encoding", b"gzip")]}
    start, body = await call(kit.metrics.asgi_app(), scope)
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-encoding"] == b"gzip"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    text = gzip.decompress(body["body"]).decode()
    assert sample(text_string_to_metric_families(text), "shop_sent_total") == 3


async def test_the_application_answers_head_and_refuses_others(kit: Kit) -> None:
    app = kit.metrics.asgi_app()
    start, body = await call(app, {"type": "http", "method": "HEAD", "headers": []})
    assert (start["status"], body["body"]) == (200, b"")
    start, body = await call(app, {"type": "http", "method": "PUT", "headers": []})
    assert (start["status"], dict(start["headers"])[b"allow"]) == (405, b"GET, HEAD")
    with pytest.raises(NotImplementedError):
        await call(app, {"type": "websocket", "headers": []})


async def test_the_application_lives_through_its_servers_life(kit: Kit) -> None:
    sent = await call(
        kit.metrics.asgi_app(), {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    )
    assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
