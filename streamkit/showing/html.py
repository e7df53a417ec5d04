"""HTML for notebooks: cards, tables, badges. Pure.

A notebook's theme is known to its page alone: JupyterLab and VS Code do not tell ``prefers-color-scheme``. So text has
the colour that is there already (``currentColor``), lines and grounds are translucent grey, and what has a colour of
its own has one that reads on white and on black.

Everything that is not ``Html`` already is escaped, so that a payload shows as it is and does nothing.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from streamkit.showing.words import one_line, value

Tone = Literal["good", "bad", "warn", "quiet"]
COLORS: dict[Tone, str] = {"good": "#2f9e6b", "bad": "#e5484d", "warn": "#d98a1f", "quiet": "#8b8d98"}

# The class is there three times to weigh more than the rules that notebooks have for every table.
_STYLE = """<style>
.sk.sk.sk{font:13px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:inherit;max-width:100%;margin:.2em 0}
.sk.sk.sk .sk-head{display:flex;flex-wrap:wrap;align-items:baseline;gap:.15em .6em}
.sk.sk.sk .sk-kind{opacity:.65}
.sk.sk.sk .sk-name{font-weight:600;font-size:14px}
.sk.sk.sk .sk-facts{display:flex;flex-wrap:wrap;gap:.15em 1.6em;margin:.25em 0}
.sk.sk.sk .sk-label{opacity:.65;margin-right:.45em}
.sk.sk.sk .sk-scroll{overflow:auto;max-height:28em;margin:.4em 0}
.sk.sk.sk table{border-collapse:collapse;border:0;margin:0;font-size:12.5px;font-variant-numeric:tabular-nums}
.sk.sk.sk caption{caption-side:top;text-align:left;color:inherit;opacity:.75;padding:0 0 .2em;font-weight:600}
.sk.sk.sk tr{background:none;border:0}
.sk.sk.sk th,.sk.sk.sk td{text-align:left;vertical-align:baseline;padding:.22em 1.1em .22em 0;border:0;
border-bottom:1px solid rgba(128,128,128,.25);background:none;color:inherit;max-width:44em;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
.sk.sk.sk th{font-weight:600;opacity:.7}
.sk.sk.sk .sk-n{text-align:right}
.sk.sk.sk tbody tr:hover td{background:rgba(128,128,128,.12)}
.sk.sk.sk .sk-quiet{opacity:.65}
.sk.sk.sk .sk-hint{opacity:.65;margin:.3em 0;font-size:12px}
.sk.sk.sk code{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:rgba(128,128,128,.14);
color:inherit;padding:.05em .35em;border-radius:4px}
.sk.sk.sk .sk-badge{white-space:nowrap}
.sk.sk.sk .sk-badge::before{content:"";display:inline-block;width:.62em;height:.62em;border-radius:50%;
margin-right:.45em;background:var(--sk-tone)}
.sk.sk.sk svg{display:block;max-width:100%;height:auto;overflow:visible}
</style>"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = object
"""``Html`` as it is; a number to the right, with separators; None as a dash; anything else as text."""


def escaped(text: object) -> Html:
    """Text as HTML."""
    return Html(html.escape(str(text)))


def badge(text: str, tone: Tone) -> Html:
    """A coloured dot and a word: never a colour alone."""
    return Html(f'<span class="sk-badge" style="--sk-tone:{COLORS[tone]}">{escaped(text)}</span>')


def code(text: str) -> Html:
    """Source, or anything that is to be read letter by letter."""
    return Html(f"<code>{escaped(text)}</code>")


def quiet(text: str) -> Html:
    """What is said by the way."""
    return Html(f'<span class="sk-quiet">{escaped(text)}</span>')


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    left_out: int = 0,
    separators: bool = True,
) -> Html:
    """Rows below a header; ``left_out`` says how many more there are. Empty if there are none.

    Counts have separators; without ``separators`` numbers are as they are, which may be years.
    """
    made = [[_cell(cell, separators=separators) for cell in row] for row in rows]
    if not made:
        return Html("")
    right = [all(cell[0] for cell in column) for column in zip(*made, strict=True)]
    head = "".join(f"<th{_NUMBER if at else ''}>{escaped(name)}</th>" for name, at in zip(header, right, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{_NUMBER if at else ''}>{cell[1]}</td>" for cell, at in zip(row, right, strict=True))
        + "</tr>"
        for row in made
    )
    named = f"<caption>{escaped(caption)}</caption>" if caption else ""
    more = f'<div class="sk-hint">and {left_out:,} more</div>' if left_out > 0 else ""
    return Html(
        f'<div class="sk-scroll"><table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'
    )


def card(kind: str, name: str, facts: Mapping[str, Cell] | None = None, *parts: str, hint: str = "") -> str:
    """A whole output: what it is, what is to be known of it in a line, and parts below.

    Args:
        kind: What it is, such as ``Stream``.
        name: What it is called.
        facts: By label; those that are None are left out.
        parts: ``Html`` that stands below; what is empty is left out.
        hint: What to do next, as text in which `` `...` `` is source.
    """
    told = "".join(
        f"<span>{_label(label)}{_cell(fact)[1]}</span>" for label, fact in (facts or {}).items() if fact is not None
    )
    head = "".join(
        f'<span class="{look}">{escaped(one_line(text))}</span>'
        for look, text in (("sk-kind", kind), ("sk-name", name))
        if text
    )
    lines = [f'<div class="sk-head">{head}</div>']
    if told:
        lines.append(f'<div class="sk-facts">{told}</div>')
    lines += [part if isinstance(part, Html) else escaped(part) for part in parts if part]
    if hint:
        lines.append(f'<div class="sk-hint">{_hint(hint)}</div>')
    return f'{_STYLE}<div class="sk">{"".join(lines)}</div>'


_NUMBER = ' class="sk-n"'


def _label(text: str) -> str:
    return f'<span class="sk-label">{escaped(text)}</span>' if text else ""


def _cell(of: Cell, *, separators: bool = True) -> tuple[bool, str]:
    """Whether it stands to the right, and its HTML."""
    if isinstance(of, Html):
        return False, of
    if of is None:
        return True, quiet("–")
    if isinstance(of, bool):
        return False, "yes" if of else "no"
    if isinstance(of, int):
        return True, f"{of:,}" if separators else str(of)
    if isinstance(of, float):
        return True, (f"{of:,.6g}" if abs(of) < 1e6 else f"{of:,.0f}") if separators else f"{of!r}"
    if isinstance(of, datetime):
        return False, escaped(value(of))
    text = str(of)
    # Of long text a reader has the beginning, and all of it under the pointer.
    title = f' title="{html.escape(text[:2000])}"' if len(text) > _LONG else ""
    return False, f"<span{title}>{html.escape(one_line(text, _MOST))}</span>"


_LONG = 48
_MOST = 200


def _hint(text: str) -> str:
    parts = text.split("`")
    return "".join(code(part) if at % 2 else escaped(part) for at, part in enumerate(parts))
