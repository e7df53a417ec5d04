"""The system may write less than it was asked to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamkit.engines.file.files import DiskFiles


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_a_short_write_goes_on_where_it_ended(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = DiskFiles()
    whole = os.pwrite

    def pwrite(fd: int, data: bytes | memoryview, offset: int) -> int:
        return whole(fd, bytes(data[:most]), offset)

    def pwritev(fd: int, parts: Sequence[bytes], offset: int) -> int:
        return whole(fd, b"".join(parts)[:most], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "pwritev", pwritev)
    fd = files.open(str(tmp_path / "file"), create=True)
    files.write(fd, b"0123456789", 0)
    files.write_parts(fd, (b"header", b"", b"payload", b"\0\0"), 10)
    files.close(fd)
    assert (tmp_path / "file").read_bytes() == b"0123456789headerpayload\0\0"
