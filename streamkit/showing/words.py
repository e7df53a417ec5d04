"""Amounts, ages and anybody's text as people read them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_SHORTENED = "…"


def one_line(text: str, most: int | None = None) -> str:
    """Anybody's text, so that it neither breaks a line nor tells the terminal anything; ``most`` characters of it."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if most is None or len(line) <= most else line[: most - 1] + _SHORTENED


def count(number: float, noun: str = "", plural: str | None = None) -> str:
    """Such as ``27,004``, or with a noun ``1 record``, ``27,004 records``."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def short(number: float) -> str:
    """Three digits and a letter at most, for axes: ``250``, ``1.2k``, ``27k``, ``3.4M``."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor * 0.9995:
            return f"{number / factor:.3g}{letter}"
    return f"{number:.3g}"


def age(millis: float) -> str:
    """Such as ``0.4 s``, ``12 s``, ``5 min``, ``3.5 h``, ``12 d``."""
    seconds = max(0, millis) / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.0f} d"


def kept(millis: int | None) -> str:
    """How long something stays; None: for ever."""
    if millis is None:
        return "for ever"
    return age(millis).replace(".0 ", " ")


def size(number: float) -> str:
    """Bytes, such as ``812 B``, ``1.4 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def instant(millis: int) -> str:
    """In UTC, to the millisecond if it has some: ``2026-11-27 07:31:05``."""
    when = datetime.fromtimestamp(millis / 1000, UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}" + (f".{millis % 1000:03d}" if millis % 1000 else "")


def type_name(type_: Any) -> str:
    """What a handle's values are: ``JSON``, ``bytes``, ``Order``."""
    return "JSON" if type_ is Any else getattr(type_, "__name__", None) or str(type_)


def value(of: object, most: int = 60) -> str:
    """Any value in one line: text as it is, an instant without its zone, all else as Python writes it."""
    if isinstance(of, datetime):
        return instant(round(of.timestamp() * 1000))
    return one_line(of if isinstance(of, str) else repr(of), most)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> list[str]:
    """A table as lines for a terminal; the columns named in ``numbers`` are set to the right."""
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
