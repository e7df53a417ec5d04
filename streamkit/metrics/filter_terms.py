"""Patterns of terms: ``ERROR -"time out"``, ``?ERROR ?WARN``, ``%regex%``.

Follows "Using filter patterns to match terms in unstructured log events" of the CloudWatch Logs user guide.
"""

from __future__ import annotations

from collections.abc import Callable

from streamkit.metrics.filter_tokens import Cursor, Search
from streamkit.metrics.filter_values import plain_text


def compile_terms(text: str) -> Callable[[str], bool]:
    """Compile terms into a question about a line.

    All plain terms must be in the line, and none of those with a minus; a line matches terms with question marks if
    it has one of them. Question marks beside other terms are ignored, as documented. Terms are case-sensitive and
    match within words too; what is not of letters, digits and underscores stands in quotes.

    Raises:
        ExpressionError: with the position.
    """
    cursor = Cursor(text)
    terms: dict[str, list[Search]] = {"": [], "?": [], "-": []}
    cursor.blanks()
    while cursor.next:
        sign = cursor.take_any("?-")
        terms[sign].append(_read_term(cursor))
        if cursor.next and not cursor.next.isspace():
            cursor.fail(f"a blank must follow the term, found {cursor.found()}: put the whole term in quotes")
        cursor.blanks()
    needed, excluded, optional = terms[""], terms["-"], terms["?"]
    if optional and not (needed or excluded):
        return lambda line: any(term(line) for term in optional)
    return lambda line: all(term(line) for term in needed) and not any(term(line) for term in excluded)


def _read_term(cursor: Cursor) -> Search:
    if cursor.next == "%":
        return cursor.regex()
    if cursor.next == '"':
        phrase = plain_text(cursor.quoted())
        # INVARIANT: test_a_phrase_of_blanks_matches_everything
        return _within(phrase if phrase.strip() else "")
    word = cursor.word(lambda character: character.isalnum() or character == "_")
    if not word:
        cursor.fail(f"a term must be here, found {cursor.found()}: put terms with such characters in quotes")
    return _within(word)


def _within(word: str) -> Search:
    return lambda line: word in line
