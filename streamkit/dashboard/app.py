"""The dashboard of a kit as an ASGI application: the page, what it shows, and the few things that it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamkit.dashboard.access import Access, mounted_access
from streamkit.dashboard.guard import Application, Guard
from streamkit.dashboard.history import AlarmHistoryPages
from streamkit.dashboard.letters import Cancel, Letters, Move, Redrive
from streamkit.dashboard.tail import LIFE_MS, MOUNTED_LIFE_MS, Tail, TailAnswer, position_of
from streamkit.dashboard.throughput import throughput
from streamkit.errors import ClosedError, NotFoundError, ReadOnlyError, StreamKitError, ValidationError
from streamkit.kit import Kit
from streamkit.service import Stop

T = TypeVar("T")
Answering = Callable[[Request], Awaitable[Response]]

MAX_BODY_BYTES = 65_536
"""Of a request."""
MAX_TAILS = 16
"""Live tails at once: each reads a stream."""
_SCRIPTS = ("page.js", "asking.js", "parts.js", "sections.js", "letters.js", "tail.js")
_TYPES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8"),
}
# Small, and read when this is imported: no answer waits for a disk.
_FILES = {name: files("streamkit.dashboard").joinpath("page", name).read_bytes() for name in _TYPES}
_STATUSES: tuple[tuple[type[StreamKitError], int], ...] = (
    (NotFoundError, 404),
    (ReadOnlyError, 409),
    (ValidationError, 400),
    (ClosedError, 503),
)


def dashboard(kit: Kit, *, allowed_hosts: Iterable[str] = (), token: str | None = None) -> Application:
    """The dashboard as an ASGI application, to mount into one that runs on the kit's event loop.

    ``app.mount("/streamkit", dashboard(kit))`` in Starlette and FastAPI; behind whatever the application asks of those
    who come. Everything on the page is relative to where it is mounted.

    Args:
        kit: Whose; opened with ``?mode=ro`` it is looked at only.
        allowed_hosts: The names under which the application is served, beside ``localhost`` and its addresses: a
            request for another is refused with 421, because a name may be made to mean this machine by anybody.
        token: What every request must bring, of 16 characters or more, if the application asks for nothing.

    Raises:
        ValidationError: a host is none, or the token is too short.
    """
    return application(kit, mounted_access(allowed_hosts, token), Stop(), tail_ms=MOUNTED_LIFE_MS)


def application(kit: Kit, access: Access, stop: Stop, *, tail_ms: int = LIFE_MS) -> Application:
    """The same for those whom ``access`` lets in; live tails end when a stop is requested, or after their time."""
    return Guard(_Board(kit, stop, tail_ms).routed(), access)


class _Board:
    """What is answered, one method for each kind of request."""

    def __init__(self, kit: Kit, stop: Stop, tail_ms: int) -> None:
        self._kit = kit
        self._stop = stop
        self._tail_ms = tail_ms
        self._letters = Letters(kit)
        self._history = AlarmHistoryPages(kit)
        self._tails = 0

    def routed(self) -> Application:
        """All of it."""
        read, change = ["GET"], ["POST"]
        routes = [Route(f"/{'' if name == 'page.html' else name}", _file(name), methods=read) for name in _FILES]
        routes += [
            Route("/api/overview", _answering(self._overview), methods=read),
            Route("/api/letters", _answering(self._page_of_letters), methods=read),
            Route("/api/alarms", _answering(self._alarm_history), methods=read),
            Route("/api/tail", _answering(self._tail), methods=read),
            Route("/api/redrive", _answering(self._redrive), methods=change),
            Route("/api/move", _answering(self._move), methods=change),
            Route("/api/move/cancel", _answering(self._cancel), methods=change),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refused})

    async def _overview(self, request: Request) -> Response:
        overview = await self._kit.overview()
        return _json(
            {
                "overview": overview,
                "throughput": await throughput(self._kit, [stream.name for stream in overview.streams]),
                "moves": self._letters.moves(overview),
            }
        )

    async def _page_of_letters(self, request: Request) -> Response:
        return _json(await self._letters.page(_name(request, "queue"), _number(request, "after")))

    async def _alarm_history(self, request: Request) -> Response:
        query = request.query_params
        return _json(await self._history.page(query.get("name"), query.get("token")))

    async def _redrive(self, request: Request) -> Response:
        return _json(await self._letters.redrive(await _body(request, Redrive)))

    async def _move(self, request: Request) -> Response:
        return _json(await self._letters.move(await _body(request, Move)))

    async def _cancel(self, request: Request) -> Response:
        return _json(self._letters.cancel(await _body(request, Cancel)))

    async def _tail(self, request: Request) -> Response:
        stream = self._kit.stream(_name(request, "stream"))
        # Or it is not there, which is to be known before an answer has begun.
        latest = {each.shard_id: each.latest_sequence_number for each in (await stream.describe()).shards}
        if self._tails >= MAX_TAILS:
            raise HTTPException(503, f"{MAX_TAILS} live tails are open already: close one")
        # A position behind the end is one of another stream of that name.
        seen = position_of(request.headers.get("last-event-id", ""))
        after = {shard: number for shard, number in seen.items() if number <= latest.get(shard, -1)}
        contains = request.query_params.get("contains", "")
        tail = Tail(stream, self._kit.clock, self._stop, contains=contains, after=after, life_ms=self._tail_ms)
        return TailAnswer(tail, self._opened)

    def _opened(self, change: int) -> None:
        self._tails += change


def _file(name: str) -> Answering:
    async def answer(request: Request) -> Response:
        return Response(_FILES[name], media_type=_TYPES[name])

    return answer


def _answering(answer: Answering) -> Answering:
    """With streamkit's errors as answers, which say what they say to a program."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except StreamKitError as error:
            status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
            return _json({"error": str(error)}, status)

    return answered


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


async def _body(request: Request, kind: type[T]) -> T:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a request has {MAX_BODY_BYTES:,} bytes at most")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValidationError(f"the request is not understood: {reason}") from None


def _name(request: Request, parameter: str) -> str:
    name = request.query_params.get(parameter)
    if not name:
        raise ValidationError(f"the request names no {parameter}")
    return name


def _number(request: Request, parameter: str) -> int:
    text = request.query_params.get(parameter, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValidationError(f"{parameter} is a number, 0 or more")
    return int(text)
