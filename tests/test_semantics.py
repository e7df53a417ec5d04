"""docs/semantics.md: behind each promise stand tests that exist, and nothing that is promised elsewhere is missing."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "semantics.md"
_LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./((?:tests|streamkit/testing/contract)/[\w/]+\.py)\)")


def promises(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each promise of the page: its sentence, and the names and files of its tests."""
    found = []
    for block in re.findall(r'<div class="promises" markdown>\n(.*?)\n</div>', text, re.DOTALL):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        found += [(_LINK.sub("", item).strip(), _LINK.findall(item)) for item in items]
    return found


@cache
def those_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, kinds) and n.name.startswith("test_"))


def faults(text: str) -> list[str]:
    """What is wrong with the page."""
    found = []
    for sentence, tests in promises(text):
        if not tests:
            found.append(f"no test holds this: {sentence}")
        if not re.fullmatch(r"[^\[\]]+\.", sentence, re.DOTALL):
            found.append(f"a promise is a sentence and links to tests alone: {sentence}")
        for name, path in tests:
            if not (ROOT / path).exists():
                found.append(f"there is no {path}: {sentence}")
            elif name not in those_of(path):
                found.append(f"{path} has no {name}: {sentence}")
    sentences = [sentence for sentence, _ in promises(text)]
    twice = sorted({each for each in sentences if sentences.count(each) > 1})
    return found + [f"said twice: {sentence}" for sentence in twice]


def test_each_promise_has_tests_that_exist() -> None:
    assert faults(PAGE.read_text()) == []
    assert len(promises(PAGE.read_text())) >= 200


def test_every_test_of_the_engine_contract_holds_a_promise() -> None:
    held = {test for _, tests in promises(PAGE.read_text()) for test in tests}
    contract = {
        (name, path.relative_to(ROOT).as_posix())
        for path in (ROOT / "streamkit" / "testing" / "contract").glob("*.py")
        for name in those_of(path.relative_to(ROOT).as_posix())
    }
    assert sorted(contract - held) == []


def test_every_invariant_that_the_code_names_is_a_promise() -> None:
    held = {name for _, tests in promises(PAGE.read_text()) for name, _ in tests}
    sources = "\n".join(path.read_text() for path in (ROOT / "streamkit").rglob("*.py"))
    assert sorted(set(re.findall(r"# INVARIANT: (test_\w+)", sources)) - held) == []


def test_whatever_the_page_says_in_a_list_is_a_promise() -> None:
    text = PAGE.read_text()
    assert len(re.findall(r"^- ", text, re.MULTILINE)) == len(promises(text))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("- It holds.", "no test holds this"),
        ("- It holds [`test_it`](../tests/test_none.py)", "a promise is a sentence"),
        ("- It holds.\n  [`test_it`](../tests/test_none.py)", "there is no tests/test_none.py"),
        ("- It holds.\n  [`test_it`](../tests/test_semantics.py)", "tests/test_semantics.py has no test_it"),
    ],
)
def test_a_promise_without_its_test_is_found(item: str, said: str) -> None:
    (fault, *_) = faults(f'<div class="promises" markdown>\n\n{item}\n\n</div>')
    assert said in fault


def test_a_promise_with_its_test_is_fine() -> None:
    link = "[`test_a_promise_with_its_test_is_fine`](../tests/test_semantics.py)"
    assert faults(f'<div class="promises" markdown>\n\n- It holds.\n  {link}\n\n</div>') == []
