"""An alarm's change as an HTTP request."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from streamkit.alarms.actions import ATTEMPTS, Attempts
from streamkit.alarms.notification import Document, sns_message
from streamkit.alarms.transition import AlarmTransition
from streamkit.backoff import Retry
from streamkit.errors import ActionError, ValidationError

TIMEOUT_SECONDS = 10.0
REQUESTS_AT_ONCE = 32
"""Of all webhooks of a process; the others wait for their turn."""
_LONGEST_RETRY_AFTER = 300.0


class Webhook:
    """POSTs each change as JSON, in the form of an SNS message unless ``document`` makes another.

    An answer of 2xx is success. No connection, no answer in time, 429 and 5xx are tried again (no sooner than a
    ``Retry-After`` in seconds says); any other answer is final, and so is a redirection, which is not followed.

    What is secret stays so: logs, histories and errors show scheme and host and never the path, the query, what stands
    before the ``@`` of the URL, which is sent as basic authorization, or a header. The environment's proxies are not
    used.

    ::

        kit.start(alarm, on_alarm=Webhook("https://hooks.example.com/page?token=...", headers={"X-Team": "ops"}))

    Args:
        url: ``http`` or ``https``.
        headers: beside ``Content-Type: application/json``.
        timeout: seconds for one request, all of it.
        attempts: how often it is tried.
        retry: the waits in between.
        document: of the transition; anything that JSON can hold.

    Raises:
        ValidationError: the URL or a header is not valid.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
        retry: Retry | None = None,
        document: Document = sns_message,
    ) -> None:
        parts = _checked_url(url)
        self._connect = (parts.scheme, parts.hostname or "", parts.port)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = _checked_headers(headers or {})
        if parts.username is not None and not any(name.lower() == "authorization" for name in self._headers):
            userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(userinfo.encode()).decode()}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.label = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")
        self.attempts = Attempts(most=attempts, timeout=timeout, retry=retry or Retry(first=1.0, longest=60.0))
        self.document = document

    def __repr__(self) -> str:
        return f"Webhook({self.label!r})"

    async def __call__(self, transition: AlarmTransition) -> None:
        """Send the request, in a thread.

        Cancellation: the connection is closed; whether the other side has seen the request is open.

        Raises:
            ActionError: there was no answer, or one that is no success.
        """
        try:
            body = msgspec.json.encode(self.document(transition))
        except (TypeError, ValueError) as error:
            raise ActionError(f"what is to be sent to {self.label} cannot be written as JSON: {error}") from None
        request = _Request(self._connect, self._target, self._headers, self.attempts.timeout)
        try:
            status, retry_after = await asyncio.get_running_loop().run_in_executor(_threads(), request.send, body)
        except _UNANSWERED as error:
            # Neither its text nor its cause: some of these errors tell the whole request.
            raise ActionError(f"no answer from {self.label}: {_why(error)}", retryable=True) from None
        finally:
            request.abort()
        if 200 <= status < 300:
            return
        again = status == 429 or status >= 500
        raise ActionError(
            f"{self.label} answered {status} {http.client.responses.get(status, '')}".rstrip(),
            retryable=again,
            retry_after=retry_after if again else None,
        )


_UNANSWERED = (OSError, http.client.HTTPException, ValueError)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="streamkit webhook")


class _Request:
    """One request; ``send`` runs in a thread, ``abort`` ends it from the loop."""

    def __init__(
        self, connect: tuple[str, str, int | None], target: str, headers: Mapping[str, str], timeout: float
    ) -> None:
        self._connect = connect
        self._target = target
        self._headers = headers
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._aborted = False

    def send(self, body: bytes) -> tuple[int, float | None]:
        """The status of the answer, and after how many seconds it asks to be tried again."""
        scheme, host, port = self._connect
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=_tls())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            connection.connect()
            self._socket = connection.sock
            if self._aborted:
                raise TimeoutError
            connection.request("POST", self._target, body, headers=self._headers)
            answer = connection.getresponse()
            return answer.status, _seconds(answer.getheader("Retry-After"))
        finally:
            self._socket = None
            connection.close()

    def abort(self) -> None:
        """Let a thread that still waits for the other side fail at once. Harmless when it is done."""
        self._aborted = True
        held = self._socket
        if held is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(held, socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _seconds(text: str | None) -> float | None:
    # AWS and most others give seconds; a date would be one of their clock.
    return min(float(text), _LONGEST_RETRY_AFTER) if text is not None and text.isascii() and text.isdigit() else None


def _checked_url(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise ValidationError(f"url of a webhook is {type(url).__name__}: give text")
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise ValidationError("url of a webhook has a character that must be percent-encoded (xn-- in a host name)")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # Not its text, which may tell what is secret.
        raise ValidationError("url of a webhook is not valid: check its host and port") from None
    if parts.scheme not in ("http", "https"):
        raise ValidationError("url of a webhook begins neither with http:// nor with https://")
    if not parts.hostname:
        raise ValidationError("url of a webhook names no host")
    return parts


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = {"Content-Type": "application/json", "User-Agent": "streamkit"}
    for name, value in headers.items():
        if (
            not isinstance(name, str)
            or not name
            or not name.isascii()
            or set(name) & _NO_TOKEN
            or not name.isprintable()
        ):
            raise ValidationError(f"{name!r:.80} is no name of a header of a webhook")
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise ValidationError(f"header {name} of a webhook: its value has to be text of printable ASCII")
        checked = {known: kept for known, kept in checked.items() if known.lower() != name.lower()}
        checked[name] = value
    return checked


_NO_TOKEN = frozenset(' "(),/:;<=>?@[\\]{}')
