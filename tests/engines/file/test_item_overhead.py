"""What items take in memory counts towards settling."""

from __future__ import annotations

from streamkit.engines.embedded.changes import ItemsWritten, TableDeleted
from streamkit.engines.file.commit_group import CommitGroup


def test_small_items_count_with_what_they_take_in_memory() -> None:
    group = CommitGroup()
    group.add(TableDeleted(1), None)
    assert group.overhead == 0
    group.add(ItemsWritten(1, [1, 2], [None, None], [b"a", None]), None)
    two = group.overhead
    # A key, an item's head and an entry of a dict are more than 200 bytes.
    assert two >= 2 * 200
    # An entry of an index is an item as well.
    group.add(ItemsWritten(1, [1, 2], [None, None], [b"a", None], (7,)), None)
    assert group.overhead == 3 * two
