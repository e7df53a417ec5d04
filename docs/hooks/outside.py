"""What the site has that is not in ``docs``: the sources that pages link to, and the list of decision records.

A page links to ``../tests/streams/test_shard.py`` as it would on any forge. For the site that file is made a page of
its own under ``source/``, plain HTML with numbered lines; a link whose text is a test's name goes to its line.
"""

from __future__ import annotations

import html
import json
import os
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import markdown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
AS_THEY_ARE = (".svg", ".png", ".html", ".css")
"""Files that a browser shows by itself."""
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_IMAGE = re.compile(r'\bsrc="(?P<target>[^"#]+)"')
_CODE = re.compile(r"(^ *`{3,}.*?^ *`{3,}$)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """``adr/`` in the nav stands for all decision records."""
    config.nav = _filled(config.nav)
    return config


def _filled(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_filled(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: _filled(entry) for title, entry in nav.items()}
    if nav == "adr/":
        records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
        return ["adr/README.md", *(f"adr/{name}" for name in records)]
    return nav


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of ``docs`` to pages that are made of what they lead to."""
    docs = Path(config.docs_dir)
    here = docs / page.file.src_uri

    def made_of(target: str) -> tuple[Path, str] | None:
        path = Path(os.path.normpath(here.parent / target))
        if re.match(r"[a-z]+:", target) or path.is_relative_to(docs) or not path.is_relative_to(ROOT):
            return None
        if not path.exists():
            return None  # Which is mkdocs's to complain of.
        made = _page_of(path, config, files)
        return path, quote(posixpath.relpath(made, posixpath.dirname(page.file.src_uri) or "."))

    def linked(match: re.Match[str]) -> str:
        if (made := made_of(match["target"])) is None:
            return match[0]
        path, link = made
        return f"[{match['text']}]({link}{match['anchor'] or _line_of(path, match['text'])})"

    def pictured(match: re.Match[str]) -> str:
        made = made_of(match["target"])
        return match[0] if made is None else f'src="{made[1]}"'

    # What is between fences is code, also where it looks like a link.
    parts = _CODE.split(markdown)
    return "".join(part if at % 2 else _IMAGE.sub(pictured, _LINK.sub(linked, part)) for at, part in enumerate(parts))


def _page_of(path: Path, config: MkDocsConfig, files: Files) -> str:
    name = path.relative_to(ROOT).as_posix()
    shown = path.suffix in AS_THEY_ARE
    made = f"source/{name}" if shown else f"source/{name}{'/index' if path.is_dir() else ''}.html"
    if files.get_file_from_path(made) is None:
        if shown:
            files.append(File.generated(config, made, abs_src_path=str(path)))
        else:
            files.append(File.generated(config, made, content=_listed(path) if path.is_dir() else _shown(path)))
        if path.is_dir():
            for inner in sorted(path.iterdir()):
                if inner.is_file() and not inner.name.startswith("."):
                    _page_of(inner, config, files)
    return made


def _line_of(path: Path, text: str) -> str:
    name = text.strip("`")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or path.is_dir():
        return ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.match(rf"\s*(async def|def|class) {name}\b", line):
            return f"#L-{number}"
    return ""


def _shown(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == ".ipynb":
        return _document(name, "".join(map(_cell, json.loads(path.read_text())["cells"])))
    lines = [
        f'<a id="L-{number}" href="#L-{number}">{number}</a>{html.escape(line, quote=False)}'
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]
    return _document(name, f"<pre>{chr(10).join(lines)}</pre>")


def _cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook, with its outputs as they are kept."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return f"<section>{markdown.markdown(source, extensions=['tables', 'fenced_code'])}</section>\n"
    outputs = "".join(f"<div class=output>{_output(output)}</div>" for output in cell.get("outputs", ()))
    return f"<pre class=source>{html.escape(source, quote=False)}</pre>{outputs}\n"


def _output(output: dict[str, Any]) -> str:
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            return data[kind]
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"]}">'
    text = data.get("text/plain") or "".join(output.get("text", ()))
    return f"<pre>{html.escape(text, quote=False)}</pre>"


def _listed(path: Path) -> str:
    names = sorted(inner.name for inner in path.iterdir() if inner.is_file() and not inner.name.startswith("."))
    links = [
        f'<li><a href="{quote(name)}{"" if Path(name).suffix in AS_THEY_ARE else ".html"}">{html.escape(name)}</a></li>'
        for name in names
    ]
    return _document(path.relative_to(ROOT).as_posix(), f"<ul>{''.join(links)}</ul>")


def _document(title: str, body: str) -> str:
    up = "../" * (title.count("/") + (1 if "." in posixpath.basename(title) else 2))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{html.escape(title)} - streamkit</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 0 1rem 3rem }}
h1 {{ font-size: 1.1rem }} a {{ color: #00796b; text-decoration: none }} pre {{ font-size: 13px; line-height: 1.5 }}
pre a {{ color: #888; display: inline-block; width: 3.5em; padding-right: 1em; text-align: right; user-select: none }}
pre.source, div.output {{ max-width: 62rem; overflow-x: auto }} section {{ max-width: 50rem }}
pre.source {{ background: #8882; border-radius: 4px; padding: .7em }} div.output {{ margin: 0 0 1.2em 1em }}
pre a:target {{ background: #00897b; color: #fff; scroll-margin: 6rem }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16181d; color: #d8dbe2 }} h1 a, li a {{ color: #4db6ac }} }}
</style></head><body><h1><a href="{up}index.html">streamkit</a> / {html.escape(title)}</h1>
{body}</body></html>
"""
