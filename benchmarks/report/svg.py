"""SVG as matplotlib writes it, made a part of a page: in the page's colours, without references to anywhere. Pure."""

from __future__ import annotations

import re
import zlib
from html import escape

COLOURS = 8
"""That tell lines apart: the variables ``--c0`` to ``--c7`` of whatever the picture is in."""
INK, SOFT, GRID = "#f0f2f0", "#f0f2f1", "#f0f2f2"
"""Colours that stand for the page's until the picture is done: of text, of what matters less, of lines behind."""
FONT = "DejaVu Sans"
"""It comes with matplotlib, and is wider than what a page is shown with: nothing is cut off."""

_VARIABLES = {INK: "ink", SOFT: "soft", GRID: "grid"} | {f"#f0f1f{at}": f"c{at}" for at in range(COLOURS)}
_NOT_SHOWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_STYLE = (
    "svg{--sans:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;"
    "--ink:#1b2430;--soft:#7b8796;--grid:#e3e7ec;--c0:#0b62c4;--back:#fff}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e4e9f0;--soft:#7e8b9b;--grid:#2b3543;--c0:#62aeff;--back:#10151c}}"
)


def colour(at: int) -> str:
    """What stands for ``--c0`` to ``--c7``."""
    return f"#f0f1f{at}"


def inline(svg: str, title: str, about: str) -> str:
    """An element of an HTML page. Names in it are made the picture's own, as a page has many pictures.

    Args:
        svg: what matplotlib wrote.
        title: the picture's name.
        about: what those are told who cannot see it.
    """
    body = _NOT_SHOWN.sub("", svg)
    body = body[body.index(">", body.index("<svg")) + 1 :]
    used = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', body))
    own = f"p{zlib.crc32(chr(0).join((title, about)).encode()):08x}-"
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}{found[1]}"' if found[1] in used else "", body)
    body = body.replace('xlink:href="#', f'href="#{own}').replace("url(#", f"url(#{own}")
    body = re.sub(r"<[^>]*>", lambda found: _tag(found[0]), body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><")
    (size,) = re.findall(r'viewBox="([^"]*)"', svg)
    named = f'<title id="{own}t">{escape(title)}</title><desc id="{own}d">{escape(about)}</desc>'
    return (
        f'<svg class="plot" viewBox="{size}" role="img" aria-labelledby="{own}t {own}d" '
        f'stroke-linejoin="round">{named}{body.strip()}'
    )


def _tag(text: str) -> str:
    """With the page's colours and font, and coordinates that are true to a hundredth of a pixel; text is no tag."""
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), text)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text.replace(f"'{FONT}'", "var(--sans)"))


def _variable(found: str) -> str:
    return f"var(--{_VARIABLES[found]})" if found in _VARIABLES else found


def standalone(element: str) -> str:
    """A file of an element: with its own colours, for bright and dark, on a ground of its own."""
    (size,) = re.findall(r'viewBox="([^"]*)"', element)
    _, _, width, height = size.split()
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    ground = f'<style>{_STYLE}</style><rect width="{width}" height="{height}" rx="8" style="fill:var(--back)"/>'
    begun = element.replace("<svg", head, 1)
    end = begun.index("</desc>") + len("</desc>")
    return begun[:end] + ground + begun[end:] + "\n"
