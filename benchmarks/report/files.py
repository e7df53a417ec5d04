"""The files that a run leaves: its document, and the page of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import document, page
from benchmarks.report.compare import Comparison

JSON, HTML = Path("report.json"), Path("report.html")
Chosen = tuple[Path | None, Path | None]
"""Where the document and the page go, if they are wanted."""


def chosen(json: Path | None, html: Path | None, *, default: bool) -> Chosen:
    """What was asked for; or both, into the current directory, where ``default`` says so and nothing was asked for."""
    return (JSON, HTML) if default and json is None and html is None else (json, html)


def write(where: Chosen, made: Mapping[str, Any], comparison: Comparison | None = None) -> int:
    """Write them and say where they are; 1 if one cannot be written.

    Without what a page needs there is none, and a sentence about it: then the document is kept even if it was not asked
    for, as the page can be made of it later.
    """
    json, html = where
    why = page.lacks() if html is not None else ""
    if why and html is not None:
        json = json or html.with_suffix(".json")
    path = json or html
    try:
        if json is not None:
            document.save(json, made)
            print(f"the figures are in {json}")
        if html is not None and not why:
            path = html
            page.save(html, made, comparison)
            print(f"the page is {html}")
    except OSError as error:
        print(f"{path} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    if why:
        print(f"there is no page: {why}; then python -m benchmarks page {json}")
    return 0
