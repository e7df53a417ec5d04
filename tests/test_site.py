"""The site builds without a warning, its links lead somewhere, and its reference has whatever users touch.

``mkdocs build --strict`` is run once for all tests of this file; ``mkdocs serve`` shows the same.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import streamkit
from tests.pages.blocks import ROOT, blocks_of, pages

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None and os.environ.get("CI") != "true",
    reason="needs mkdocs: pip install 'streamkit[docs]'",
)


class Read(HTMLParser):
    """The ids of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in found:
            self.loads.append(found["src"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "preload", "preconnect", "modulepreload", "icon"):
            self.loads.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once."""
    directory = tmp_path_factory.mktemp("site")
    said = _built(directory)
    assert said.startswith("0\n"), said
    assert "WARNING" not in said
    return directory


def _built(directory: Path) -> str:
    """Build it; the exit code, and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return f"{done.returncode}\n{done.stdout}"


@pytest.fixture(scope="module")
def read(site: Path) -> dict[str, Read]:
    files = [path for path in site.rglob("*.html") if not path.is_relative_to(site / "source" / "benchmarks")]
    return {path.relative_to(site).as_posix(): Read(path.read_text()) for path in files}


def test_every_link_and_anchor_leads_somewhere(site: Path, read: dict[str, Read]) -> None:
    broken = []
    for page, found in read.items():
        if page == "404.html":
            continue  # Its links begin at the root of wherever the site is.
        for link in found.links:
            address, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", link):
                continue
            target = (site / page).parent / unquote(address) if address else site / page
            name = os.path.relpath(target, site)
            if not target.is_file():
                broken.append(f"{page}: {link}: there is no {name}")
            elif anchor and name in read and unquote(anchor) not in read[name].ids:
                broken.append(f"{page}: {link}: {name} has no such anchor")
    assert broken == []


def test_a_promise_leads_to_the_line_of_its_test(site: Path, read: dict[str, Read]) -> None:
    links = [link for link in read["semantics.html"].links if link.startswith("source/")]
    assert len(links) > 400
    for link in links[:: len(links) // 20]:
        address, anchor = urldefrag(link)
        line = int(anchor.removeprefix("L-"))
        source = (ROOT / address.removeprefix("source/").removesuffix(".html")).read_text().splitlines()
        assert re.match(r"\s*(async )?def test_", source[line - 1])


def test_nothing_is_loaded_from_any_other_place(site: Path, read: dict[str, Read]) -> None:
    elsewhere = {load for found in read.values() for load in found.loads if re.match(r"([a-z]+:)?//", load)}
    assert elsewhere == set()
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", styles) == []


def test_every_page_is_built(read: dict[str, Read]) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix().replace("README.html", "index.html")
        assert name in read


# ---- the reference


@cache
def touched() -> frozenset[tuple[str, str]]:
    """What users import: in a code block of a page or in an example; modules and names."""
    sources = [block.text for page in pages() for block in blocks_of(page.read_text()) if block.language == "python"]
    sources += [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    found = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamkit."):
                found |= {(node.module or "", alias.name) for alias in node.names}
    return frozenset(found)


def anchors(read: dict[str, Read]) -> set[str]:
    return set().union(*(found.ids for page, found in read.items() if page.startswith("api/")))


@pytest.mark.parametrize("name", streamkit.__all__)
def test_every_name_of_the_face_is_in_the_reference(read: dict[str, Read], name: str) -> None:
    home = streamkit._HOME.get(name)
    where = "streamkit.errors" if home is None else f"streamkit.{home}.{name}"
    assert where in anchors(read)
    assert any(link.endswith(f"#{where}") for link in read["api/index.html"].links), "api/index.md does not list it"


def test_whatever_a_page_or_an_example_imports_is_in_the_reference(read: dict[str, Read]) -> None:
    found = anchors(read)
    public = {(module, name) for module, name in touched() if not _is_module(f"{module}.{name}")}
    missing = {f"{module}.{name}" for module, name in public} - found
    # A name that a package passes on is described where it lives.
    missing = {each for each in missing if _home(each) not in found}
    assert sorted(missing) == []
    assert len(public) >= 25


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None if name.count(".") == 1 else False


def _home(name: str) -> str:
    module, _, inner = name.rpartition(".")
    value = getattr(importlib.import_module(module), inner)
    return f"{getattr(value, '__module__', module)}.{inner}"


def test_every_error_is_in_the_reference(read: dict[str, Read]) -> None:
    errors = [name for name in vars(streamkit.errors) if name.endswith("Error") and not name.startswith("_")]
    assert {f"streamkit.errors.{name}" for name in errors} <= anchors(read)


# ---- pages that are made of sources


def test_a_notebook_is_shown_with_its_outputs() -> None:
    spec = importlib.util.spec_from_file_location("outside", ROOT / "docs" / "hooks" / "outside.py")
    assert spec is not None
    assert spec.loader is not None
    outside = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(outside)
    assert outside._cell({"cell_type": "markdown", "source": ["# A\n", "*b*"]}) == (
        "<section><h1>A</h1>\n<p><em>b</em></p></section>\n"
    )
    outputs = [
        {"output_type": "stream", "text": ["1 < 2\n"]},
        {"output_type": "execute_result", "data": {"text/html": ["<b>x</b>"], "text/plain": ["x"]}},
        {"output_type": "display_data", "data": {"image/png": "AAAA"}},
    ]
    assert outside._cell({"cell_type": "code", "source": ["a < b"], "outputs": outputs}) == (
        "<pre class=source>a &lt; b</pre>"
        "<div class=output><pre>1 &lt; 2\n</pre></div>"
        "<div class=output><b>x</b></div>"
        '<div class=output><img alt="" src="data:image/png;base64,AAAA"></div>\n'
    )
