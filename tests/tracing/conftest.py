from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tracing.seen import Seen


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What was exported; in none of it may be anything of what was sent, whose every text has "s3cret" in it."""
    found = Seen()
    yield found
    for span in found.all():
        assert "s3cret" not in span.to_json(), span.name
