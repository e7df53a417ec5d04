"""Structured logs: every line knows what was being handled when it was logged, and lines can be JSON.

While a consumer's ``run``, a worker or a mapping has records or messages in hand, what is logged, by the handler, by
what it calls, in its tasks and threads and by streamkit itself, belongs to them. ``json_logs()`` shows that in each
line, ``ContextFilter`` to any other formatter::

    {"time": "2026-11-27T08:00:00.000Z", "level": "INFO", "logger": "shop", "message": "charged",
     "service": "worker:orders", "queue": "orders", "message_id": "5fea...", "receive_count": 1}

The fields are names and numbers, never values, partition keys, attributes or receipt handles:

- ``service``: what ``kit.health()`` calls the service that runs the code;
- of a consumer's ``run``: ``consumer``, ``stream``, ``shard``, ``sequence_number`` (of several records
  ``first_sequence_number``, ``last_sequence_number`` and ``records``, how many) and ``attempt``, from 1;
- of a queue's worker: ``worker``, ``queue``, ``message_id`` and ``receive_count`` (of several messages ``message_ids``,
  the first ten, and ``messages``, how many);
- of a mapping: ``mapping``, the source's fields as above, and in its function ``function``, ``request_id`` (the
  context's ``aws_request_id``), and of an ``each`` function the one record or message that it has in hand;
- and what ``bind`` adds.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, TextIO

from streamkit.errors import FunctionError, StreamKitError, ValidationError

Fields = Mapping[str, object]
"""Of a log line: names and values that have a JSON form."""

_What = tuple[Callable[..., Fields], tuple[object, ...]]
_INNERMOST: ContextVar[about | None] = ContextVar("streamkit_logs", default=None)
_MOST_IDS = 10


class about:  # noqa: N801 - it is used as a statement
    """``with about(fields_of, batch):`` around handling; ``fields_of(batch)`` is asked for only when a line is logged.

    Tasks and threads that are started within inherit it until the block is left: what they log later is not about it
    any more. Blocks within blocks add to each other. HOT: `python -m benchmarks --only cycle`.
    """

    __slots__ = ("_outer", "_token", "_what")

    def __init__(self, fields_of: Callable[..., Fields], *arguments: object) -> None:
        self._what: _What | None = (fields_of, arguments)

    def __enter__(self) -> None:
        outer = _INNERMOST.get()
        while outer is not None and outer._what is None:
            # It was left: tasks that start each other would keep ever more of them.
            outer = outer._outer
        self._outer: about | None = outer
        self._token: Token[about | None] | None = _INNERMOST.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # INVARIANT: test_what_a_task_logs_after_the_block_is_not_about_it
        # Nor does such a task keep what was handled in memory.
        self._what = None
        token, self._token = self._token, None  # It has the context, which has this: a circle for the collector.
        assert token is not None
        _INNERMOST.reset(token)


def bind(**fields: object) -> about:
    """``with bind(request_id=...):`` gives fields of your own to all that is logged within.

    What is handled by streamkit within, in a worker that runs already, has fields of its own and not these.
    """
    return about(lambda: fields)


def context() -> dict[str, object]:
    """The fields of what is being handled now; empty outside of all handling."""
    blocks: list[_What] = []
    block = _INNERMOST.get()
    while block is not None:
        what = block._what  # Once: another thread may leave the block meanwhile.
        if what is not None:
            blocks.append(what)
        block = block._outer
    found: dict[str, object] = {}
    for fields_of, arguments in reversed(blocks):
        found.update(fields_of(*arguments))
    return found


# ---- what is in hand


class Numbered(Protocol):
    """A record, as far as a line shows it."""

    @property
    def sequence_number(self) -> int:
        """Its place in the shard."""


class Received(Protocol):
    """A message, as far as a line shows it."""

    @property
    def message_id(self) -> str:
        """Given when it was sent."""

    @property
    def receive_count(self) -> int:
        """How often it was received, this time included."""


def of_records(records: Sequence[Numbered]) -> Fields:
    """The fields of records of one shard."""
    if len(records) == 1:
        return {"sequence_number": records[0].sequence_number}
    if not records:
        return {"records": 0}
    first, last = records[0].sequence_number, records[-1].sequence_number
    return {"first_sequence_number": first, "last_sequence_number": last, "records": len(records)}


def of_messages(messages: Sequence[Received]) -> Fields:
    """The fields of messages of one queue."""
    if len(messages) == 1:
        return {"message_id": messages[0].message_id, "receive_count": messages[0].receive_count}
    return {"message_ids": [message.message_id for message in messages[:_MOST_IDS]], "messages": len(messages)}


# ---- what is said of errors


def said(error: BaseException | None) -> str:
    """What a log line says of an error: its type, and its text unless that may quote data.

    What users' code raises often quotes what it was handling, and so do errors about values. What streamkit says of
    names, numbers and disks does not.
    """
    kind = type(error).__qualname__
    # INVARIANT: test_what_a_handler_raises_is_not_said_whatever_its_type
    is_ours = isinstance(error, StreamKitError) and not error.quotes_data and _was_raised_by_us(error)
    return f"{kind}: {error}" if is_ours else kind


def _was_raised_by_us(error: BaseException) -> bool:
    """Users' code may raise streamkit's errors, too, with a text of its own. One that nobody raised is ours."""
    at = error.__traceback__
    if at is None:
        return True
    while at.tb_next is not None:
        at = at.tb_next
    return str(at.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == __name__.partition(".")[0]


def without_text(error: BaseException) -> FunctionError:
    """What is logged of an error of users' code: what ``said`` says, and where it came from.

    Who wants to see more logs it in the handler.
    """
    kind = type(error).__qualname__
    text = said(error)
    if text == kind:
        text = f"{kind} was raised, and its text is not logged because it may quote the data"
    return FunctionError(text).with_traceback(error.__traceback__)


# ---- lines

_STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})
"""What every record has, and what formatters leave there (uvicorn's, too): all else is a field."""


class _Context(str):
    """All fields of a line as text; a formatter that shows each needs it not."""


class ContextFilter(logging.Filter):
    """Gives each line its context, for handlers whose formatter is not ``JsonFormatter``. It drops nothing.

    Each field becomes an attribute of the ``LogRecord``, unless ``extra=`` gave one of that name, so JSON formatters of
    other libraries show them; and ``context`` is all of them as text, for formats such as
    ``"%(levelname)s %(message)s %(context)s"``. Add it to handlers, not loggers: a logger's filters do not see its
    children's lines. A ``QueueHandler`` needs it, because its listener is another thread.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        if not hasattr(record, "context"):
            fields = context()
            for name, value in fields.items():
                if name not in record.__dict__:
                    setattr(record, name, value)
            record.context = _Context(" ".join(f"{name}={value}" for name, value in fields.items()))
        return True


class JsonFormatter(logging.Formatter):
    """Lines of JSON: ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``, the context, what ``extra=`` gave,
    and of an exception ``exception``, its type, and ``traceback``.

    What it is given it writes: a message, an ``extra`` and an exception's text are what the caller chose to log.
    Values that have no JSON form are written as their ``repr``. Needs no ``ContextFilter``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        for name, value in {**context(), **given}.items():
            if not isinstance(value, _Context):
                line.setdefault(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__qualname__
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)
        elif record.exc_text:
            line["traceback"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return json.dumps(line, allow_nan=False, default=repr)
        except (ValueError, TypeError, RecursionError):
            # A line is never lost to a strange value in it: NaN, a key that is no string, a list within itself.
            return json.dumps({name: value if _is_plain(value) else repr(value) for name, value in line.items()})


def json_logs(
    level: int | str = logging.INFO, *, stream: TextIO | None = None, adopt: Collection[str] = ()
) -> logging.Handler:
    """Log lines of JSON with their context: a program calls it once, at its start.

    The root logger gets one handler in the place of those that it has.

    Args:
        level: The lowest that the root logger logs.
        stream: Where to; ``sys.stderr`` unless given.
        adopt: Loggers with handlers of their own that shall log like all others, such as ``("uvicorn",
            "uvicorn.access")``: they lose their handlers.

    Returns:
        The handler.

    Raises:
        ValidationError: There is no such level.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    try:
        root.setLevel(level)
    except (ValueError, TypeError):
        raise ValidationError(f"{level!r} is no level: use one of logging's, such as logging.INFO or 'INFO'") from None
    root.handlers[:] = [handler]
    for name in adopt:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    return handler


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (str, bool, int))
