"""Departures from a CSV file, row by row."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from streamkit import ValidationError

_NUMBERS = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "flight", "air_time", "distance", "hour", "minute",
)  # fmt: skip
_TEXTS = ("carrier", "tailnum", "origin", "dest", "time_hour")
_REQUIRED = ("carrier", "flight", "origin", "dest")
_MISSING = ("NA", "")

Row = dict[str, Any]
"""``line`` (its number in the file, the header's is 1) and either the columns, or ``malformed`` (why) and ``row``."""


def shipped() -> Path:
    """The data file that comes with the package."""
    return Path(str(files("streamkit.demo") / "data" / "flights-2013-01.csv.gz"))


def fingerprint(path: Path) -> str:
    """What tells this file from another one.

    Raises:
        ValidationError: the file cannot be read; one sentence that says what to do.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValidationError(
            f"cannot read {path} ({error.strerror}): pass --data with a .csv or .csv.gz file of its columns"
        ) from None


def rows(path: Path) -> Iterator[Row]:
    """Every row of the file, also the malformed ones.

    Raises:
        ValidationError: the file is not a CSV file of these columns; one sentence that says what to do.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            # Line by line, so that a stray quote spoils one row and not the rest of the file.
            source: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            with io.TextIOWrapper(source, encoding="utf-8-sig", errors="replace", newline="\n") as lines:
                columns = _columns(path, lines.readline())
                for line, text in enumerate(lines, 2):
                    if text.strip():
                        yield _row(columns, line, text.rstrip("\r\n"))
    except (OSError, EOFError) as error:
        raise ValidationError(f"{path} is not a readable .csv or .csv.gz file ({error}): get it again") from None


def partition_key(row: Row) -> str:
    """The tail number, or carrier and flight number where it is missing."""
    if "malformed" in row:
        return f"line {row['line']}"
    return row["tailnum"] or f"{row['carrier']}{row['flight']}"


def _columns(path: Path, header: str) -> list[str]:
    columns = [name.strip().strip('"') for name in header.strip().split(",")]
    absent = [name for name in (*_NUMBERS, *_TEXTS) if name not in columns]
    if absent:
        raise ValidationError(
            f"{path} has no column {absent[0]!r} in its first line: pass --data with a file of the nycflights13 columns"
        )
    return columns


def _row(columns: list[str], line: int, text: str) -> Row:
    try:
        values = next(csv.reader([text], strict=True))
        if len(values) != len(columns):
            raise ValueError(f"{len(values)} fields where the header has {len(columns)}")
        if "\ufffd" in text:
            raise ValueError("it is not UTF-8")
        found = dict(zip(columns, values, strict=True))
        row: Row = {"line": line}
        for name in _NUMBERS:
            row[name] = _number(name, found[name])
        for name in _TEXTS:
            row[name] = None if found[name] in _MISSING else found[name]
        for name in _REQUIRED:
            if row[name] is None:
                raise ValueError(f"{name} is missing")
        if row["dep_time"] is not None and row["dep_delay"] is None:
            raise ValueError("it departed, but dep_delay is missing")
    except (ValueError, csv.Error, StopIteration) as error:
        return {"line": line, "malformed": str(error), "row": text[:1000]}
    return row


def _number(name: str, text: str) -> int | None:
    if text in _MISSING:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)  # As spreadsheets and data frames write a whole number once a column has gaps.
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is {text[:40]!r} and not a whole number")
