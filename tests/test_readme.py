"""The README's code runs, and it fits one screen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_its_code_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for _ in range(2):  # The directory is there the second time, with a checkpoint in it.
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[{'total': 120}]\n"


def test_it_fits_one_screen_and_gives_two_commands() -> None:
    assert len(README.splitlines()) <= 60
    assert len(re.findall(r"```sh\n", README)) == 2
