"""What was measured, as a notebook shows it: ``Report.load()`` is the run that is kept beside the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.document import load
from benchmarks.report.story import is_ours
from benchmarks.report.words import amount, duration, number, percentile_name, times
from streamkit.showing.html import Html, badge, card, table
from streamkit.showing.listing import Listing
from streamkit.showing.svg import Bar, Line, bars, plot

KEPT = Path(__file__).parent.parent / "results" / "full.json"
_MOST_BARS = 12


class Rows(Listing[Mapping[str, Any]]):
    """Every row of every workload: a table for pandas, polars and DuckDB."""

    kind = "Benchmark rows"

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name."""
        names = ("workload", "about", "row", "peer", "unit", "median", "least", "largest", "times", "durability")
        return {name: [row[name] for row in self] for name in names}


class WorkloadShown:
    """One workload: its rows side by side, how its latencies are spread, and what it looked like over time."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.name: str = found["name"]
        self.title: str = found["title"]
        self._found = found

    def __repr__(self) -> str:
        return f"{self.name}: {self.title} ({len(self._found['rows'])} rows)"

    def _repr_html_(self) -> str:
        rows: Sequence[Mapping[str, Any]] = self._found["rows"]
        told = [
            (
                row["row"],
                Html(amount(row["median"], row["unit"])),
                Html(f"{amount(min(row['rounds']), row['unit'])} to {amount(max(row['rounds']), row['unit'])}"),
                "" if row["ratio"] is None else times(row["ratio"]),
                "" if row["met"] is None else badge("met", "good") if row["met"] else badge("missed", "bad"),
                row["durability"],
            )
            for row in rows
        ]
        header = ["", "median", "least to largest", "streamkit is", "target", "synced"]
        said = [at for at in range(len(header)) if any(row[at] for row in told)]
        shown = table([header[at] for at in said], [[row[at] for at in said] for row in told])
        return card(self.name, self.title, None, *self._bars(rows), shown, *self._plots())

    def _bars(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
        for unit in dict.fromkeys(row["unit"] for row in rows):
            same = [row for row in rows if row["unit"] == unit and row["higher_is_better"]][:_MOST_BARS]
            if len(same) > 1:
                yield bars(
                    [Bar(row["row"], row["median"], amount(row["median"], unit), is_ours(row, rows)) for row in same],
                    told=f"{self.title}, {unit}",
                )

    def _plots(self) -> Iterator[Html]:
        if found := self._found["latencies"]:
            header = [
                "latency",
                "calls",
                *(percentile_name(share) for share, _ in next(iter(found.values()))["quantiles"]),
            ]
            rows = [
                (name, one["count"], *(Html(duration(seconds)) for _, seconds in one["quantiles"]))
                for name, one in found.items()
            ]
            yield table(header[: len(rows[0])], [row[: len(header)] for row in rows])
            lines = [
                Line(name, [(share * 100, seconds * 1e3) for share, seconds in one["curve"]])
                for name, one in found.items()
            ]
            yield plot(lines, unit="ms", of_time=False, x_unit="% of calls are as fast")
        for name, one in self._found["timelines"].items():
            yield plot([Line(name, one["points"])], unit=one["unit"], of_time=False, x_unit="s")
        medians = {row["row"]: row["median"] for row in self._found["rows"]}
        for chart in self._found["charts"]:
            lines = [Line(label, [(x, medians[row]) for x, row in line]) for label, line in chart["lines"].items()]
            yield plot(lines, unit=chart["title"], of_time=False, x_unit=chart["x"])


class Report:
    """A run of the benchmarks."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        """``found``: a document, as ``document.load`` gives it."""
        self._found = found
        self.workloads = [WorkloadShown(each) for each in found["workloads"]]

    @classmethod
    def load(cls, path: Path | str = KEPT) -> Report:
        """Read a run's document; the one that is kept unless another is named.

        Raises:
            ValueError: there is no file, or none that this version can read; the message says what to do.
        """
        return cls(load(Path(path)))

    def __repr__(self) -> str:
        return f"Report({len(self.workloads)} workloads, {self._found['machine'].get('when', '')})"

    def __getitem__(self, name: str) -> WorkloadShown:
        """The first workload that is called so.

        Raises:
            KeyError: there is none.
        """
        return self.all(name)[0]

    def all(self, name: str) -> list[WorkloadShown]:
        """Every workload that is called so: one was measured at several sizes.

        Raises:
            KeyError: there is none; the message has all names.
        """
        found = [each for each in self.workloads if each.name == name]
        if not found:
            raise KeyError(f"no workload {name!r}: {', '.join(dict.fromkeys(each.name for each in self.workloads))}")
        return found

    def rows(self) -> Rows:
        """Every row of every workload."""
        return Rows(
            [
                {
                    "workload": each["name"],
                    "about": each["title"],
                    "row": row["row"],
                    "peer": row["peer"] or "streamkit",
                    "unit": row["unit"],
                    "median": float(row["median"]),
                    "least": float(min(row["rounds"])),
                    "largest": float(max(row["rounds"])),
                    "times": row["ratio"],
                    "durability": row["durability"],
                }
                for each in self._found["workloads"]
                for row in each["rows"]
            ]
        )

    def _repr_html_(self) -> str:
        machine = self._found["machine"]
        names = ("when", "processor", "cores", "disk", "python")
        events = sum(each["events"] for each in self._found["guarantees"])
        violations = sum(each["violations"] for each in self._found["guarantees"])
        held = badge(f"{number(events)} events, {violations:,} violations", "bad" if violations else "good")
        facts = {**{name: str(machine[name]) for name in names if name in machine}, "guarantees held against": held}
        told: list[tuple[object, ...]] = []
        for each in self._found["workloads"]:
            if not each["rows"]:
                continue  # It holds a guarantee, and measures nothing.
            first = each["rows"][0]
            told.append(
                (
                    each["name"],
                    each["title"],
                    first["row"],
                    Html(amount(first["median"], first["unit"])),
                    len(each["rows"]),
                )
            )
        hint = '`report["append"]` shows a workload, `report.rows().to_pandas()` has all rows'
        return card(
            "Benchmarks", "", facts, table(["workload", "about", "its first row", "median", "rows"], told), hint=hint
        )
