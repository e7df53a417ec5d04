"""What stands on two pages: figures of the benchmarks' kept run, the README's table of them, and who imports whom.

``python -m tests.pages.figures`` writes them anew, after ``python -m benchmarks readme`` has made the README's table.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.pages.blocks import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / "docs" / "contributing.md"
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "full.json"
_ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<figure>[^|]+) \| `(?P<name>[\w-]+)`: `(?P<row>[^`]+)`(?: \((?P<nth>\d)\))? \|$", re.M
)
_IMPORTS = re.compile(r"^\| room \| may import \|\n(?:\|.*\n)+", re.MULTILINE)
_MADE = re.compile(r"<!-- made by `python -m benchmarks readme` -->.*?<!-- until here -->", re.DOTALL)


def operations(text: str, results: dict[str, Any]) -> str:
    """The page, each row of it that names a benchmark with that benchmark's figure, to two digits.

    Raises:
        LookupError: the run has no such figure.
    """

    def told(match: re.Match[str]) -> str:
        of_name = [each for each in results["workloads"] if each["name"] == match["name"]]
        rows = of_name[int(match["nth"] or 1) - 1]["rows"] if of_name else []
        for row in rows:
            if row["row"] == match["row"] and not row["peer"]:
                figure = f"{_two_digits(row['median'])} {row['unit'] or 'x'}"
                return match[0].replace(f"| {match['figure']} |", f"| {figure} |", 1)
        raise LookupError(f"the kept run has no {match['name']}: {match['row']}")

    return _ROW.sub(told, text)


def _two_digits(value: float) -> str:
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}" if rounded < 1 else f"{rounded:.1f}"


def performance(text: str, readme: str) -> str:
    """The page, with the README's picture and table, whose links lead from ``docs``."""
    (made,) = _MADE.findall(readme)
    table = made.replace('src="benchmarks/', 'src="../benchmarks/').replace("](docs/", "](")
    # Between HTML and a table Markdown wants an empty line.
    return _MADE.sub(lambda _: table.replace('width="100%">\n|', 'width="100%">\n\n|'), text)


def contributing(text: str, architecture: str) -> str:
    """The page, with the architecture's table of imports."""
    (table,) = _IMPORTS.findall(architecture)
    return _IMPORTS.sub(lambda _: table, text)


def main() -> None:
    """Write them."""
    results = json.loads(RESULTS.read_text())
    OPERATIONS.write_text(operations(OPERATIONS.read_text(), results))
    PERFORMANCE.write_text(performance(PERFORMANCE.read_text(), README.read_text()))
    CONTRIBUTING.write_text(contributing(CONTRIBUTING.read_text(), ARCHITECTURE.read_text()))


if __name__ == "__main__":
    main()
