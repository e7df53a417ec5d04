from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Sequence

import pytest

from streamkit.alarms.notification import sns_message
from streamkit.alarms.runner import RetryingRunner
from streamkit.alarms.transition import AlarmTransition, label_of
from streamkit.alarms.webhook import Webhook
from streamkit.backoff import Retry
from streamkit.clock import SystemClock
from streamkit.errors import ActionError, ValidationError
from streamkit.metrics.window import Metrics
from tests.alarms.remembering import MemoryHistory

CHANGE = AlarmTransition(alarm="errors", previous="OK", state="ALARM", reason="it is", at_ms=1_700_000_000_000)
SECRETS = ("hunter2", "c2VjcmV0", "s3cret-path", "t0ken", "ada")
AT_ONCE = Retry(first=0.001, longest=0.001)


class Server:
    """Answers each request with the next status; without one it does not answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[bytes | int] = []
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["Content-Length"]))
            self.requests.append((head[0], headers, body))
            self.arrived.set()
            if not self.answers:
                await reader.read()  # Until the other side goes away.
                self.closed.set()
                return
            answer = self.answers.pop(0)
            if isinstance(answer, int):
                answer = f"HTTP/1.1 {answer} So\r\nContent-Length: 2\r\n\r\nok".encode()
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    def url(self, path: str = "/page") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    await listening.wait_closed()


async def test_a_change_is_posted_as_json(server: Server) -> None:
    server.answers = [204, 200]
    url = f"http://ada:hunter%32@127.0.0.1:{server.port}/page?token=x%20y"
    await Webhook(url, headers={"X-Team": "ops", "content-type": "application/x"})(CHANGE)
    line, headers, body = server.requests[0]
    assert line == "POST /page?token=x%20y HTTP/1.1"
    assert json.loads(body) == sns_message(CHANGE)
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert (headers["X-Team"], headers["content-type"]) == ("ops", "application/x")
    assert headers["Authorization"] == "Basic YWRhOmh1bnRlcjI="
    await Webhook(f"http://127.0.0.1:{server.port}", document=lambda change: [change.alarm])(CHANGE)
    line, headers, body = server.requests[1]
    assert (line, headers["Content-Type"], body) == ("POST / HTTP/1.1", "application/json", b'["errors"]')
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(301, False), (307, False), (400, False), (404, False), (429, True), (500, True), (503, True)],
)
async def test_which_answers_are_tried_again(server: Server, status: int, retryable: bool) -> None:
    server.answers = [status]
    with pytest.raises(ActionError, match=f"http://127.0.0.1:{server.port} answered {status}") as caught:
        await Webhook(server.url())(CHANGE)
    assert caught.value.retryable is retryable
    assert len(server.requests) == 1  # A redirection is not followed.


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7), ("99999", 300), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
async def test_retry_after(server: Server, text: str, seconds: float | None) -> None:
    server.answers = [f"HTTP/1.1 503 Busy\r\nRetry-After: {text}\r\n\r\n".encode()]
    with pytest.raises(ActionError) as caught:
        await Webhook(server.url())(CHANGE)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_an_answer_that_is_none_is_tried_again(server: Server, answer: bytes) -> None:
    server.answers = [answer]
    with pytest.raises(ActionError, match="no answer") as caught:
        await Webhook(server.url())(CHANGE)
    assert caught.value.retryable


async def test_nobody_listens(server: Server, unused_tcp_port: int) -> None:
    with pytest.raises(ActionError, match=r"no answer from http://127\.0\.0\.1:\d+: Connection refused") as caught:
        await Webhook(f"http://127.0.0.1:{unused_tcp_port}/")(CHANGE)
    assert caught.value.retryable


async def test_a_cancelled_request_closes_its_connection(server: Server) -> None:
    calling = asyncio.create_task(Webhook(server.url(), timeout=600)(CHANGE))
    await server.arrived.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.wait_for(server.closed.wait(), 20)


async def test_one_that_does_not_answer_in_time_is_tried_again(server: Server) -> None:
    metrics, history = Metrics(), MemoryHistory()
    runner = RetryingRunner(metrics, SystemClock(), history)
    runner.dispatch(CHANGE, [Webhook(server.url(), timeout=0.05, attempts=2, retry=AT_ONCE)])
    await runner.drain()
    assert len(server.requests) == 2
    (item,) = await history.items()
    assert item.summary.startswith(f"Failed to execute action http://127.0.0.1:{server.port}. Received error:")
    assert "took" in item.summary


async def test_it_is_done_once_the_other_side_can(server: Server) -> None:
    server.answers = [500, 429, b"", 200]
    metrics, history = Metrics(), MemoryHistory()
    runner = RetryingRunner(metrics, SystemClock(), history)
    runner.dispatch(CHANGE, [Webhook(server.url(), retry=AT_ONCE)])
    await runner.drain()
    (item,) = await history.items()
    assert item.summary == f"Successfully executed action http://127.0.0.1:{server.port}"
    assert json.loads(item.data)["attempts"] == 4
    assert len({body for _, _, body in server.requests}) == 1


@pytest.mark.parametrize("answers", [[404], [500, 500], [b"", b"x"], []])
async def test_nothing_that_is_secret_is_told(
    server: Server, answers: Sequence[bytes | int], caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = list(answers)
    webhook = Webhook(
        f"http://ada:hunter2@127.0.0.1:{server.port}/s3cret-path?key=t0ken",
        headers={"X-Key": "c2VjcmV0"},
        timeout=0.05 if not answers else 20,
        attempts=2,
        retry=AT_ONCE,
    )
    history = MemoryHistory()
    runner = RetryingRunner(Metrics(), SystemClock(), history)
    with caplog.at_level(logging.DEBUG):
        runner.dispatch(CHANGE, [webhook])
        await runner.drain()
    server.answers = list(answers) or [404]
    with pytest.raises(ActionError) as caught:
        await webhook(CHANGE)
    told = "\n".join(
        [
            repr(webhook),
            str(webhook),
            label_of(webhook),
            caplog.text,
            repr(await history.items()),
            # With all that caused it and whatever was handled meanwhile, but not the source of this file.
            "".join(traceback.TracebackException.from_exception(caught.value).format_exception_only()),
            repr(caught.value.__cause__),
        ]
    )
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for secret in SECRETS:
        assert secret not in told


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://h/", "http://"),
        ("file:///etc/passwd", "http://"),
        ("//h/t0ken", "http://"),
        ("http:///t0ken", "no host"),
        ("http://h:t0ken/", "port"),
        ("http://h:99999/t0ken", "port"),
        ("http://[::1/t0ken", "host and port"),
        ("http://h/t0ken\r\nX: y", "percent-encoded"),
        ("http://h/t0ken x", "percent-encoded"),
        ("http://wörks/t0ken", "percent-encoded"),
        (b"http://h/t0ken", "give text"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_told(url: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Webhook(url)
    assert "t0ken" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "headers", [{"X": "t0ken\r\nY: z"}, {"X": "t0kén"}, {"X Y": "1"}, {"": "1"}, {"X:": "1"}, {"X": 3}, {"É": "1"}]
)
def test_a_header_that_is_none_is_refused_and_not_told(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="header") as caught:
        Webhook("http://h", headers=headers)
    assert "t0k" not in str(caught.value)


def test_labels_show_scheme_and_host() -> None:
    assert label_of(Webhook("https://u:p@Hooks.example.com:8443/a/b?c")) == "https://hooks.example.com:8443"
    assert label_of(Webhook("http://[::1]/x")) == "http://[::1]"
