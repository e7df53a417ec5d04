"""Patterns on JSON lines: ``{ $.level = "ERROR" && $.items[*].price > 100 }``.

Follows "Using filter patterns to match terms in JSON log events" of the CloudWatch Logs user guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from streamkit.metrics.filter_tokens import Cursor
from streamkit.metrics.filter_values import Test, plain_text, read_joined, read_test, shown

MAX_WILDCARDS = 3
"""Of the selectors of one pattern; a selector has one at most."""

Wildcard = Literal["any field", "any element"]

_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_IS: dict[str, object] = {"TRUE": True, "FALSE": False, "NULL": None}


class Field(msgspec.Struct, frozen=True):
    """A step to a field of an object, by name."""

    name: str


class Selector(msgspec.Struct, frozen=True):
    """A path into a JSON value, such as ``$.users[0].email``."""

    text: str
    steps: tuple[Field | int | Wildcard, ...]

    @classmethod
    def of(cls, text: str) -> Selector:
        """Compile a selector that stands alone.

        Raises:
            ExpressionError: with the position.
        """
        cursor = Cursor(text)
        selector = read_selector(cursor)
        if cursor.next:
            cursor.fail(f"the selector must end here, found {cursor.found()}")
        return selector

    @property
    def wild(self) -> bool:
        """Whether it may lead to several values."""
        return "any field" in self.steps or "any element" in self.steps

    def values(self, document: Any) -> Iterator[Any]:
        """What it leads to: none, one, or with a wildcard several."""
        found: list[Any] = [document]
        for step in self.steps:
            found = [inner for value in found for inner in _step(value, step)]
        return iter(found)

    def first(self, document: Any) -> str | int | float | bool | None:
        """The first string, number or boolean it leads to."""
        return next((value for value in self.values(document) if shown(value) is not None), None)


class JsonPattern(msgspec.Struct, frozen=True):
    """A compiled JSON pattern."""

    test: Test
    selectors: tuple[Selector, ...]
    """All that are in it, each once."""

    def extracted(self, document: Any) -> dict[str, str]:
        """The values of its selectors by their text, as text; those that lead to none are not in it."""
        texts = {selector.text: shown(selector.first(document)) for selector in self.selectors}
        return {selector: text for selector, text in texts.items() if text is not None}


def compile_json(text: str) -> JsonPattern:
    """Compile a pattern in braces. A comparison is false for a field that is not there or is null, even ``!=``.

    Raises:
        ExpressionError: with the position.
    """
    cursor = Cursor(text)
    cursor.blanks()
    cursor.need("{", "a JSON pattern begins with {")
    selectors: dict[str, Selector] = {}
    wildcards = 0

    def read_condition() -> Test:
        nonlocal wildcards
        cursor.blanks()
        begin = cursor.at
        selector = read_selector(cursor)
        wildcards += selector.wild
        if wildcards > MAX_WILDCARDS:
            cursor.fail(f"a pattern has at most {MAX_WILDCARDS} selectors with a wildcard", begin)
        selectors[selector.text] = selector
        return _read_question(cursor, selector)

    test = read_joined(cursor, read_condition)
    cursor.blanks()
    cursor.need("}", "&&, || or the closing } must follow")
    cursor.blanks()
    if cursor.next:
        cursor.fail(f"nothing may follow the closing }}, found {cursor.found()}")
    return JsonPattern(test, tuple(selectors.values()))


def read_selector(cursor: Cursor) -> Selector:
    """Read a selector, which begins with ``$``.

    Raises:
        ExpressionError: with the position.
    """
    begin = cursor.at
    cursor.need("$", "a selector such as $.field must be here")
    steps: list[Field | int | Wildcard] = []
    while cursor.next in {".", "["}:
        at = cursor.at
        steps.append(_read_step(cursor))
        if steps.count("any field") + steps.count("any element") > 1:
            cursor.fail("a selector has at most one wildcard", at)
    if not steps:
        cursor.fail("the selector leads nowhere: write $.field")
    return Selector(cursor.text[begin : cursor.at], tuple(steps))


def _read_step(cursor: Cursor) -> Field | int | Wildcard:
    dotted = cursor.take(".")
    if dotted and cursor.next != "[":
        if cursor.take("*"):
            return "any field"
        name = cursor.word(lambda character: character.isalnum() or character in "_-")
        if not name:
            cursor.fail(f"a name must follow the dot, found {cursor.found()}: names with others go in $.['...']")
        return Field(name)
    cursor.need("[", "a bracket must be here")
    if cursor.next in {"'", '"'}:
        step: Field | int | Wildcard = Field(plain_text(cursor.quoted()))
    elif dotted:
        cursor.fail("a name in quotes must follow .[, such as $.['cluster.name']")
    elif cursor.take("*"):
        step = "any element"
    else:
        index = _INDEX.match(cursor.text, cursor.at)
        if index is None:
            cursor.fail(f"an index from 0, * or a name in quotes must be in the brackets, found {cursor.found()}")
        cursor.at = index.end()
        step = int(index[0])
    cursor.need("]", "the bracket must be closed by ]")
    return step


def _read_question(cursor: Cursor, selector: Selector) -> Test:
    cursor.blanks()
    begin = cursor.at
    word = cursor.word(str.isalpha).upper()
    if word == "NOT":
        cursor.blanks()
        at = cursor.at
        if cursor.word(str.isalpha).upper() != "EXISTS":
            cursor.fail("EXISTS must follow NOT", at)
        return lambda document: not any(True for _ in selector.values(document))
    if word == "IS":
        cursor.blanks()
        at = cursor.at
        name = cursor.word(str.isalpha).upper()
        if name not in _IS:
            cursor.fail("TRUE, FALSE or NULL must follow IS", at)
        wanted = _IS[name]
        return lambda document: any(value is wanted for value in selector.values(document))
    if word:
        cursor.fail("IS, NOT EXISTS or an operator must follow the selector", begin)
    test = read_test(cursor, texts_are_numbers=False)
    return lambda document: any(test(value) for value in selector.values(document))


def _step(value: Any, step: Field | int | Wildcard) -> Sequence[Any]:
    if isinstance(value, Mapping):
        if isinstance(step, Field):
            return (value[step.name],) if step.name in value else ()
        return list(value.values()) if step == "any field" else ()
    if isinstance(value, (list, tuple)):
        if isinstance(step, int):
            return (value[step],) if step < len(value) else ()
        return value if step == "any element" else ()
    return ()
