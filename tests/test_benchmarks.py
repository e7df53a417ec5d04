"""Every workload runs; no number comes from a wrong run; the table says what was met."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bare
from benchmarks.__main__ import main
from benchmarks.measure import (
    Figure,
    Figures,
    Lane,
    Result,
    Setting,
    Target,
    Workload,
    WrongResultError,
    chunks,
    percentile,
    sit,
)
from benchmarks.options import parser
from benchmarks.order import Pair, Records, shard_of
from benchmarks.peers import Log, known, logs
from benchmarks.peers.peer import SHARDS
from benchmarks.report import terminal
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.append import APPEND

ROOT = Path(__file__).parent.parent
PEER_NAMES = {peer.name for peer in known()}
NAMES = list(dict.fromkeys(workload.name for workload in WORKLOADS))


# ---- verification


def found(records: Records, count: int) -> list[Pair]:
    """What a right run of four shards gives back: by shard, each in order."""
    pairs = records.batch(range(count))
    return [pair for shard in range(SHARDS) for pair in pairs if shard_of(pair[0]) == shard]


def test_verification_accepts_a_right_run() -> None:
    records = Records(100, keys=16)
    records.verify(found(records, 200), 200)
    records.verify([], 0)


def lost(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[51:]


def lost_at_the_end(pairs: list[Pair]) -> list[Pair]:
    return pairs[:-1]


def doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:]


def lost_and_doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:50] + pairs[51:]


def swapped(pairs: list[Pair]) -> list[Pair]:
    of_one_key = [place for place, pair in enumerate(pairs) if pair[0] == pairs[0][0]]
    first, second = of_one_key[:2]
    changed = list(pairs)
    changed[first], changed[second] = pairs[second], pairs[first]
    return changed


def under_another_key(pairs: list[Pair]) -> list[Pair]:
    other = next(key for key, _ in pairs if key != pairs[50][0])
    return [*pairs[:50], (other, pairs[50][1]), *pairs[51:]]


def under_no_key(pairs: list[Pair]) -> list[Pair]:
    return [*pairs[:50], ("stranger", pairs[50][1]), *pairs[51:]]


def a_byte_flipped(pairs: list[Pair]) -> list[Pair]:
    key, data = pairs[50]
    return [*pairs[:50], (key, data[:-1] + b"y"), *pairs[51:]]


SPOILED = [lost, lost_at_the_end, doubled, lost_and_doubled, swapped, under_another_key, under_no_key, a_byte_flipped]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: str(spoil.__name__))
def test_verification_catches(spoil: Callable[[list[Pair]], list[Pair]]) -> None:
    records = Records(100, keys=16)
    with pytest.raises(WrongResultError):
        records.verify(spoil(found(records, 200)), 200)


class SpoilingLog:
    """A peer that keeps everything in a list, and gives it back spoiled."""

    kept: list[Pair]

    def __init__(self, kept: list[Pair], spoil: Callable[[list[Pair]], list[Pair]]) -> None:
        self.kept = kept
        self._spoil = spoil

    async def append(self, batch: Sequence[Pair]) -> None:
        self.kept += batch

    async def put(self, key: str, data: bytes) -> None:
        self.kept.append((key, data))

    async def read(self) -> Sequence[Any]:
        return self._spoil(self.kept)

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return raw


def spoiling(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[list[Pair]], list[Pair]]) -> None:
    """Put a peer that spoils where sqlite is, and run only that."""
    kept: list[Pair] = []

    @asynccontextmanager
    async def opened(_: Path) -> AsyncIterator[Log]:
        yield SpoilingLog(kept, spoil)

    sqlite = next(peer for peer in logs() if peer.name == "sqlite")
    monkeypatch.setitem(vars(sqlite), "open", opened)
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", APPEND[:1])
    monkeypatch.setattr("benchmarks.__main__.known", lambda: [sqlite])
    monkeypatch.setattr(
        "benchmarks.__main__._lanes",
        lambda workload, missing, peers, engine: [lane for lane in workload.lanes if lane.peer == "sqlite"],
    )


@pytest.mark.parametrize("spoil", [lost, doubled, swapped], ids=lambda spoil: str(spoil.__name__))
def test_a_peer_that_spoils_gets_no_number(
    spoil: Callable[[list[Pair]], list[Pair]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiling(monkeypatch, spoil)
    assert main(["--small", "--peers"]) == 1
    said = capsys.readouterr()
    assert "WRONG, so there are no numbers: append: " in said.err
    assert "records/s" not in said.out


def test_a_peer_that_does_not_gets_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spoiling(monkeypatch, lambda pairs: pairs)
    assert main(["--small", "--peers"]) == 0
    assert re.search(r"sqlite +[\d,]+ records/s", capsys.readouterr().out)


# ---- figures


def one_round(values: Iterable[float], name: str) -> Callable[[Setting], Any]:
    following = iter(values)

    async def run(setting: Setting) -> Figures:
        assert not list(setting.directory.iterdir())
        (setting.directory / "left").touch()
        return {name: Figure(next(following), "records/s")}

    return run


def sitting(target: Target, ours: Sequence[float], theirs: Sequence[float], tmp_path: Path) -> Result:
    lanes = [Lane(one_round(ours, "ours"), "synced"), Lane(one_round(theirs, "theirs"), "at times")]
    workload = Workload("race", "who is faster", lanes, [target])
    return sit(workload, lanes, len(ours), tmp_path, Setting(Path(), Path()))


def test_ratios_are_of_neighbours_and_medians_of_rounds(tmp_path: Path) -> None:
    result = sitting(Target("theirs", at_least=2.0), [100.0, 10.0, 300.0], [50.0, 1.0, 300.0], tmp_path)
    theirs = result.rows["theirs"]
    assert result.headline is not None
    assert (result.headline.median, theirs.median) == (100.0, 50.0)
    assert result.ratio(theirs) == 2.0
    assert result.judged(theirs) == (Target("theirs", at_least=2.0), True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("theirs", at_least=4.0), True),
        (Target("theirs", at_least=4.1), False),
        (Target("theirs", at_most=4.0), True),
        (Target("theirs", at_most=3.9), False),
        (Target("theirs", at_most=25.0, ratio=False), True),
        (Target("theirs", at_most=24.0, ratio=False), False),
    ],
    ids=str,
)
def test_targets(target: Target, met: bool, tmp_path: Path) -> None:
    result = sitting(target, [100.0], [25.0], tmp_path)
    judged = result.judged(result.rows["theirs"])
    assert judged is not None
    assert judged[1] is met
    line = terminal.table(result, judge=True).splitlines()[-1]
    assert (" met " in line) is met
    assert ("MISSED" in line) is not met
    assert "MISSED" not in terminal.table(result, judge=False)
    assert terminal.summary([result]).startswith(f"{int(met)} of 1 targets met")


def test_a_target_about_much_is_judged_only_where_there_was_much(tmp_path: Path) -> None:
    result = sitting(Target("theirs", at_most=9.0, ratio=False, all_counts=True), [100.0], [25.0], tmp_path)
    assert terminal.summary([result]).startswith("0 of 1 targets met")
    result.scale = 0.5
    assert terminal.summary([result]) == "0 of 0 targets met"


def test_a_target_of_a_peer_that_did_not_run_is_not_judged(tmp_path: Path) -> None:
    result = sitting(Target("redis", at_least=15.0), [100.0], [25.0], tmp_path)
    assert terminal.summary([result]) == "0 of 0 targets met"


def test_every_target_and_comparison_names_a_row_there_is() -> None:
    """Rows have the names of peers, or are in what a small run prints; see the test of the whole run."""
    for workload in WORKLOADS:
        peers = {lane.peer for lane in workload.lanes}
        for name in [target.row for target in workload.targets] + list(workload.compared):
            if name in PEER_NAMES:
                assert name in peers, f"{workload.name} compares with {name}, which does not run there"


def test_percentiles_and_chunks() -> None:
    assert [percentile(range(100), share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert list(chunks(5, 2)) == [range(2), range(2, 4), range(4, 5)]


def test_bare_figures(tmp_path: Path) -> None:
    assert bare.append_seconds(tmp_path / "file", [b"a" * 5000, b"b" * 100]) > 0
    assert len(times := bare.sync_seconds(tmp_path, count=5)) == 5
    assert times == sorted(times)
    assert bare.read_seconds(tmp_path)[1] == 5100


def test_evicted_files_are_not_in_the_page_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1024 * 1024))
    if not bare.evict(tmp_path):
        pytest.skip("this file system keeps its files in memory")
    assert not bare.is_cached(tmp_path / "file")
    (tmp_path / "file").read_bytes()
    assert bare.is_cached(tmp_path / "file")


# ---- the program

OVER_TIME = {"memory", "table_scale", "mixed"}
"""What must tell how something went while it ran."""
DISTRIBUTED = {"deliver", "commit", "open_loop", "mixed"}
"""What must tell all latencies, not only some percentiles."""


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a small run of everything says of its workloads; one process, since each takes a second to begin."""
    directory = tmp_path_factory.mktemp("small")
    file = directory / "figures.json"
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "benchmarks",
        "--small",
        "--dir",
        str(directory),
        "--json",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in directory.iterdir()] == [file.name], "nothing is left of the stores"
    workloads: list[dict[str, Any]] = json.loads(file.read_text())["workloads"]
    return workloads


@pytest.mark.parametrize("name", NAMES)
def test_workload_runs(name: str, small_run: list[dict[str, Any]]) -> None:
    said = [workload for workload in small_run if workload["name"] == name]
    rows = {workload["title"]: {row["row"]: row for row in workload["rows"]} for workload in said}
    assert set(rows) == {workload.title for workload in WORKLOADS if workload.name == name}
    for title, of_workload in rows.items():
        for row in of_workload.values():
            assert all(value > 0 or row["unit"] == "syncs" for value in row["rounds"])
        workload = next(each for each in WORKLOADS if each.title == title)
        named = {target.row for target in workload.targets} | set(workload.compared)
        assert named - PEER_NAMES <= set(of_workload), "a target or a comparison is of a row that does not exist"
        shown = {row for chart in workload.charts for line in chart.lines.values() for row in line.values()}
        assert shown - PEER_NAMES <= set(of_workload), "a chart shows a row that does not exist"
    for told in said:
        assert told["timelines"] or name not in OVER_TIME
        assert told["latencies"] or name not in DISTRIBUTED


def test_help_names_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in NAMES)


def test_the_page_describes_every_workload_and_option() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in NAMES:
        assert f"`{name}`" in page, f"docs/benchmarks.md does not say what {name} measures"
    for option in re.findall(r"--[a-z]+", parser(NAMES).format_usage()):
        assert option in page
