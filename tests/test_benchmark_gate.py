"""The gate refuses what is slower, and nobody for noise; it compares the right trees, and leaves nothing behind."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as program
from benchmarks.figures import Figure, WrongResultError
from benchmarks.gate import child, running
from benchmarks.gate import main as gate
from benchmarks.gate.base import BACK, Git, NoBaseError, Trees, find, trees
from benchmarks.gate.child import Watch, cost, turn
from benchmarks.gate.decision import (
    ENOUGH,
    LEAST,
    LIMIT,
    MOST,
    SURE,
    WALL_LIMIT,
    Outcome,
    decide,
    following,
    interval,
    judge,
)
from benchmarks.gate.paths import HOT_PATHS, HotPath, Place
from benchmarks.gate.running import Compared, Pair, SideError, measure, pair_of, run
from streamkit.metrics.window import Metrics

ROOT = Path(__file__).parent.parent


# ---- the decision


def logs(*ratios: float) -> list[float]:
    return [math.log(ratio) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "outcome"),
    [
        ([], "undecided"),
        ([1.0] * (LEAST - 1), "undecided"),
        ([1.0] * LEAST, "fine"),
        ([0.5] * LEAST, "fine"),
        ([1.09] * LEAST, "fine"),
        ([1.0, 0.9, 1.05, 1.09, 1.11], "undecided"),
        ([1.0, 0.9, 1.05, 1.09, 1.11, 1.0, 1.0, 1.0], "fine"),
        ([1.25] * 9, "undecided"),
        ([1.25] * 10, "slower"),
        ([1.11] * 10, "slower"),
        ([1.25] * 9 + [0.9], "undecided"),
        ([1.25] * 13 + [0.2], "slower"),
        ([1.25] * 12 + [0.9] * 12, "undecided"),
        ([1.05] * MOST, "fine"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}:{sum(value):.4g}",
)
def test_pairs_decide(ratios: list[float], outcome: Outcome) -> None:
    found = decide(logs(*ratios))
    assert found.outcome == outcome
    assert found.pairs == len(ratios)


def test_what_is_certainly_slower_but_not_by_a_tenth_is_never_refused() -> None:
    assert all(decide(logs(*[1.099] * pairs)).outcome != "slower" for pairs in range(MOST + 1))


@pytest.mark.parametrize("chance", [SURE, ENOUGH, 0.3])
@pytest.mark.parametrize("count", range(1, 13))
def test_the_ends_of_an_interval_are_as_often_wrong_as_was_allowed_and_no_narrower_one_is(
    count: int, chance: float
) -> None:
    """Of all ways in which values can lie about their median, by counting them."""
    low, high = interval(list(range(count)), chance)
    below = Counter(bin(signs).count("1") for signs in range(2**count))

    def wrong(place: int) -> float:
        """How often the median lies below the value at that place: so many or fewer values are below it."""
        return sum(ways for number, ways in below.items() if number <= place) / (1 << count)

    if math.isinf(low):
        assert wrong(0) > chance
        assert high == math.inf
    else:
        assert wrong(int(low)) <= chance < wrong(int(low) + 1)
        assert high == count - 1 - low


pairs_of_logs = st.lists(st.floats(-2, 2, allow_nan=False), min_size=1, max_size=MOST)


@given(pairs_of_logs, st.randoms())
def test_the_order_of_pairs_is_of_no_consequence(values: list[float], chance: random.Random) -> None:
    mixed = chance.sample(values, len(values))
    assert decide(mixed) == decide(values)


@given(pairs_of_logs)
def test_base_and_change_are_treated_alike(values: list[float]) -> None:
    found, other = decide(values), decide([-value for value in values])
    assert found.ratio == pytest.approx(1 / other.ratio)
    assert found.low == pytest.approx(0.0 if math.isinf(other.high) else 1 / other.high)
    assert not (found.outcome == other.outcome == "slower")


@given(pairs_of_logs, st.data())
def test_how_far_off_an_outlier_is_is_of_no_consequence(values: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    far, further = ([*values[:at], off, *values[at + 1 :]] for off in (3.0, 50.0))
    if len(values) > 2:
        assert decide(far).ratio == decide(further).ratio
    assert decide(far).outcome == decide(further).outcome


@given(pairs_of_logs, st.floats(0, 1))
def test_slower_pairs_never_help_a_change(values: list[float], more: float) -> None:
    rank = {"fine": 0, "undecided": 1, "slower": 2}
    assert rank[decide([value + more for value in values]).outcome] >= rank[decide(values).outcome]


def simulated(seed: int, slowdown: float, sigma: float, storms: float) -> Outcome:
    """A path that is looked at after every pair; a storm makes one side of one pair five times as slow."""
    chance = random.Random(seed)

    def took(seconds: float) -> float:
        return seconds * chance.lognormvariate(0, sigma) * (5 if chance.random() < storms else 1)

    pairs: list[float] = []
    while True:
        pairs.append(math.log(took(1 + slowdown) / took(1)))
        if (found := judge(pairs, pairs)).done:
            return found.cpu.outcome


RUNS = 2000


@pytest.mark.parametrize(("sigma", "storms"), [(0.3, 0.05), (0.3, 0.1), (0.3, 0.0), (0.1, 0.05), (0.05, 0.02)])
def test_noise_alone_refuses_less_than_one_in_a_hundred(sigma: float, storms: float) -> None:
    found = Counter(simulated(seed, 0.0, sigma, storms) for seed in range(RUNS))
    assert found["slower"] < RUNS / 100
    if sigma <= 0.05:
        assert found["fine"] > RUNS * 0.99, "on a quiet machine it is known, and not just not refused"


@pytest.mark.parametrize(("sigma", "storms"), [(0.03, 0.0), (0.05, 0.02), (0.06, 0.05)])
def test_a_fifth_slower_is_found(sigma: float, storms: float) -> None:
    found = Counter(simulated(seed, 0.2, sigma, storms) for seed in range(RUNS))
    assert found["slower"] > RUNS * 0.95


def test_a_fifth_slower_does_not_pass_however_noisy_it_is() -> None:
    found = Counter(simulated(seed, 0.2, 0.3, 0.05) for seed in range(RUNS))
    assert found["fine"] < RUNS / 20


def test_what_waits_is_found_by_the_clock_on_the_wall() -> None:
    quick = logs(*[1.0] * 10)
    assert judge(quick, quick).outcome == "fine"
    assert judge(quick, logs(*[1 + WALL_LIMIT + 0.1] * 10)).outcome == "slower"
    few = judge(quick[:LEAST], logs(*[1 + WALL_LIMIT + 0.1] * LEAST))
    assert few.outcome == "undecided", "it takes ten pairs to be sure"
    assert not few.done
    assert judge(quick, logs(*[1 + WALL_LIMIT - 0.1] * 10)).outcome == "fine", "a busy machine is no reason"


def test_each_path_gets_its_least_in_turn_then_what_looks_slowest_is_next() -> None:
    def judged(ratio: float, pairs: int) -> Any:
        return judge(logs(*[ratio] * pairs), logs(*[1.0] * pairs))

    assert following([]) is None
    assert following([judged(1.0, 1), judged(1.0, 0), judged(1.0, 0)]) == 1
    assert following([judged(1.0, 2), judged(2.0, 1), judged(2.0, 2)]) == 1
    assert following([judged(1.0, 2), judged(2.0, 2)]) == 0, "in turn"
    assert following([judged(1.2, LEAST), judged(1.3, LEAST + 2), judged(1.0, LEAST)]) == 1
    assert following([judged(1.2, LEAST), judged(1.3, 10), judged(1.0, LEAST)]) == 0, "one is refused already"
    assert following([judged(1.3, 10), judged(1.0, LEAST)]) is None


# ---- pairs


def test_a_pair_is_the_median_of_neighbouring_turns() -> None:
    base = [(1.0, 10.0), (100.0, 1000.0), (2.0, 20.0)]
    change = [(4.0, 10.0), (200.0, 4000.0), (4.0, 80.0)]
    found = pair_of(base, change)
    assert (found.base, found.change) == (2.0, 4.0)
    assert (found.cpu, found.wall) == pytest.approx((math.log(2), math.log(4)))


class Machine:
    """Pairs of given ratios, each of which takes a second of a clock that moves for nothing else."""

    def __init__(self, ratios: dict[str, float]) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self._ratios = ratios

    def pair(self, name: str, number: int) -> Pair:
        assert number == self.ran.count(name)
        self.now += 1.0
        self.ran.append(name)
        ratio = self._ratios[name]
        if ratio < 0:
            raise SideError("base" if ratio == -1 else "change", "TypeError: no such argument")
        return Pair(1.0, ratio, math.log(ratio), math.log(ratio))

    def run(self, seconds: float) -> tuple[dict[str, Compared], bool]:
        compared = [Compared(name) for name in self._ratios]
        enough = run(compared, self.pair, seconds, lambda _: None, lambda: self.now)
        return {each.name: each for each in compared}, enough


def test_more_pairs_are_made_only_while_it_is_not_decided() -> None:
    machine = Machine({"same": 1.0, "slow": 1.25, "faster": 0.5})
    compared, enough = machine.run(1000)
    assert enough
    assert Counter(machine.ran) == {"same": LEAST, "slow": 10, "faster": LEAST}
    assert machine.ran[:6] == ["same", "slow", "faster"] * 2
    assert {name: each.refused for name, each in compared.items()} == {"same": False, "slow": True, "faster": False}


def test_when_the_time_is_up_what_is_not_decided_is_not_refused() -> None:
    machine = Machine({"same": 1.0, "slow": 1.25})
    compared, enough = machine.run(12)
    assert not enough
    assert machine.now == 12
    assert compared["slow"].judged.outcome == "undecided"
    assert not any(each.refused for each in compared.values())


def test_a_base_that_cannot_run_it_is_left_out_and_a_change_that_cannot_is_refused() -> None:
    machine = Machine({"new": -1, "broken": -2, "same": 1.0})
    compared, enough = machine.run(1000)
    assert enough
    assert Counter(machine.ran) == {"new": 1, "broken": 1, "same": LEAST}
    assert {name: each.refused for name, each in compared.items()} == {"new": False, "broken": True, "same": False}


# ---- hot paths


@pytest.mark.parametrize("name", HOT_PATHS)
def test_path_runs_its_rooms_and_is_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a thirtieth of the calls while it is measured must be among its rooms, or a change there is missed."""
    calls: Counter[str] = Counter()

    class Traced(Watch):
        def perf_counter(self) -> float:
            sys.setprofile(self.called if len(self._read) % 2 == 0 else None)
            return super().perf_counter()

        def called(self, frame: FrameType, event: str, _: object) -> None:
            file = Path(frame.f_code.co_filename)
            if event == "call" and file.is_relative_to(ROOT / "streamkit"):
                calls[str(file.relative_to(ROOT))] += 1

    monkeypatch.setattr(child, "Watch", Traced)
    path = HOT_PATHS[name]
    # A consumer takes its leases once, through tables, and among few calls that would be much.
    share = 1.0 if name == "read" else 0.1
    try:
        cpu, wall = turn(path.lanes, tmp_path, share)
    finally:
        sys.setprofile(None)
    assert cpu > 0
    assert wall > 0
    assert list(tmp_path.iterdir()) == [], "a turn leaves nothing"
    hot = [file for file, times in calls.items() if times >= sum(calls.values()) / 30]
    assert hot
    assert [file for file in hot if not path.touched_by([file])] == []


def test_hot_paths_run_on_a_streamkit_that_has_no_new_room() -> None:
    """Their workloads load nothing of the command line, which the base may not have as it is now."""
    modules = {place.module for path in HOT_PATHS.values() for place in path.lanes}
    code = (
        f"import sys, {', '.join(modules)}; print(*(name for name in sys.modules if name.startswith('streamkit.cli')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_every_room_of_a_path_is_there() -> None:
    files = [str(file.relative_to(ROOT)) for file in (ROOT / "streamkit").rglob("*.py")]
    for name, path in HOT_PATHS.items():
        for room in path.rooms:
            assert HotPath("", [], [room]).touched_by(files), f"{name} is said to run through {room}"


@pytest.mark.parametrize(
    ("file", "touched"),
    [
        ("streamkit/queues/visibility.py", {"queue", "queue_batches"}),
        ("streamkit/functions/pattern_direct.py", {"pattern", "end_to_end"}),
        ("streamkit/engines/embedded/table_reads.py", {"table_put", "table_get", "end_to_end"}),
        ("streamkit/streams/shard.py", {"append", "puts", "read", "end_to_end"}),
        ("streamkit/engines/file/journal.py", set(HOT_PATHS) - {"pattern", "metrics_put"}),
        ("streamkit/alarms/evaluate.py", set()),
        ("benchmarks/workloads/append.py", set()),
        ("docs/streams.md", set()),
    ],
)
def test_what_a_change_touches(file: str, touched: set[str]) -> None:
    assert {name for name, path in HOT_PATHS.items() if path.touched_by(["README.md", file])} == touched


def test_a_path_that_loses_something_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metrics, "put", lambda *_, **__: None)
    with pytest.raises(WrongResultError):
        turn(HOT_PATHS["metrics_put"].lanes, tmp_path, 0.05)


def test_a_lane_that_is_no_longer_there_is_missed() -> None:
    with pytest.raises(LookupError, match="no lane 9"):
        Place("benchmarks.gate.paths", "METRIC_PUTS", "metrics put", 9, [], 1.0).find()
    with pytest.raises(LookupError, match="'of old'"):
        Place("benchmarks.gate.paths", "METRIC_PUTS", "of old", 0, [], 1.0).find()


def test_a_cost_is_the_time_of_an_operation_of_each_row() -> None:
    figures = {"a": Figure(1000.0, "records/s"), "b": Figure(500.0, "us"), "other": Figure(7.0, "ms")}
    assert cost(figures, ["a", "b"]) == pytest.approx(0.0015)


def test_the_watch_tells_cpu_time_and_counts_the_wall_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, wall = iter([1.0, 2.0, 5.0, 7.0]), iter([10.0, 14.0, 100.0, 108.0])
    monkeypatch.setattr("time.process_time", lambda: next(cpu))
    monkeypatch.setattr("time.perf_counter", lambda: next(wall))
    watch = Watch()
    assert [watch.perf_counter() for _ in range(4)] == [1.0, 2.0, 5.0, 7.0]
    assert watch.wall_over_cpu == (4.0 + 8.0) / (1.0 + 2.0)


# ---- what is compared

NO_DIFFERENCE = "COST = 1.0\n"
CHILD = """
import json, os, sys
from pathlib import Path
import streamkit
cost = streamkit.COST
assert Path.cwd() in Path(streamkit.__file__).parents
print(json.dumps({"ready": 1}), flush=True)
for at, _ in enumerate(sys.stdin):
    print(json.dumps({"cpu": cost * (1 + at % 3), "wall": cost}), flush=True)
"""


class Repository:
    """A small one with a library that says what an operation costs, and benchmarks that ask it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        self.write("streamkit/__init__.py", NO_DIFFERENCE)
        self.write("streamkit/streams/shard.py", "")
        for package in ("benchmarks", "benchmarks/gate", "benchmarks/workloads"):
            self.write(f"{package}/__init__.py", "")
        self.write("benchmarks/gate/child.py", CHILD)
        self.first = self.commit("first")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *words], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def clone(self, where: Path, *words: str) -> Repository:
        subprocess.run(["git", "clone", "-q", *words, f"file://{self.root}", str(where)], check=True)
        cloned = object.__new__(Repository)
        cloned.root = where
        return cloned

    @property
    def worktrees(self) -> list[str]:
        return self.git("worktree", "list", "--porcelain").split("\n\n")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.delenv(gate.VARIABLE, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(gate, "_IN_MEMORY", tmp_path / "no-such-place")
    return Repository(tmp_path / "repository")


def test_a_branch_is_compared_with_where_it_left_main(repository: Repository, tmp_path: Path) -> None:
    repository.git("checkout", "-q", "-b", "feature")
    for number in range(3):
        repository.commit(f"feature {number}")
    repository.git("checkout", "-q", "main")
    repository.commit("main goes on")
    repository.git("checkout", "-q", "feature")
    found = find(Git(repository.root), None)
    assert found is not None
    assert (found.commit, found.why) == (repository.first, "the merge base with main")
    # In a clone there is no main but the other's.
    cloned = find(Git(repository.clone(tmp_path / "clone", "--branch", "feature").root), None)
    assert cloned is not None
    assert cloned.commit == repository.first
    assert cloned.why.startswith("the merge base with origin/")


def test_commits_of_main_that_were_not_pushed_are_the_change(repository: Repository, tmp_path: Path) -> None:
    clone = repository.clone(tmp_path / "clone")
    clone.commit("not pushed")
    clone.commit("nor this")
    found = find(Git(clone.root), None)
    assert found is not None
    assert found.commit == repository.first


def test_on_main_itself_the_last_few_commits_are_judged_together(repository: Repository, tmp_path: Path) -> None:
    commits = [repository.first, *(repository.commit(f"{number}") for number in range(BACK + 2))]
    for root in (repository.root, repository.clone(tmp_path / "clone").root):
        found = find(Git(root), None)
        assert found is not None
        assert found.commit == commits[-1 - BACK]
    short = find(Git(repository.clone(tmp_path / "shallow", "--depth=3").root), None)
    assert short is not None
    assert short.commit == commits[-3], "as far back as the clone goes"


def test_a_merge_is_compared_with_what_main_was(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "feature")
    for number in range(BACK + 3):
        repository.commit(f"feature {number}")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merged", "feature")
    found = find(Git(repository.root), None)
    assert found is not None
    assert found.commit == repository.first


def test_on_main_what_is_not_committed_is_compared_with_head(repository: Repository) -> None:
    head = repository.commit("second")
    repository.write("streamkit/__init__.py", "COST = 2.0\n")
    found = find(Git(repository.root), None)
    assert found is not None
    assert found.commit == head


def test_a_hook_of_another_repository_may_call_it(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/no/such/place")
    assert find(Git(repository.root), None) is None


def test_what_is_asked_for_is_where_it_was_left(repository: Repository) -> None:
    second = repository.commit("second")
    repository.git("tag", "v1")
    repository.commit("third")
    found = find(Git(repository.root), "v1")
    assert found is not None
    assert (found.commit, found.why) == (second, "the merge base with v1")
    with pytest.raises(NoBaseError, match="there is no commit 'v2' here; `git fetch` it"):
        find(Git(repository.root), "v2")


def test_both_trees_have_the_benchmarks_of_the_change_and_their_own_library(repository: Repository) -> None:
    repository.write("benchmarks/workloads/__init__.py", "import streamkit.what_only_the_change_has\n")
    repository.write("benchmarks/new.py", "")
    repository.write("streamkit/__init__.py", "COST = 3.0\n")
    (repository.root / "streamkit" / "streams" / "shard.py").unlink()
    base = find(Git(repository.root), "HEAD")
    assert base is not None
    with trees(Git(repository.root), base) as made:
        assert len(repository.worktrees) == 2
        for tree in (made.base, made.change):
            assert (tree / "benchmarks" / "new.py").exists()
            assert (tree / "benchmarks" / "workloads" / "__init__.py").read_text() == ""
        assert (made.base / "streamkit" / "__init__.py").read_text() == NO_DIFFERENCE
        assert (made.base / "streamkit" / "streams" / "shard.py").exists()
        assert (made.change / "streamkit" / "__init__.py").read_text() == "COST = 3.0\n"
        assert not (made.change / "streamkit" / "streams" / "shard.py").exists()
    assert not made.base.parent.exists()
    assert len(repository.worktrees) == 1
    assert repository.git("status", "--porcelain", "benchmarks/workloads") == "M benchmarks/workloads/__init__.py"


# ---- the program


def ran(repository: Repository, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """What it returns and prints; whatever it is asked, it leaves no worktree and no file."""
    code = gate.main(words, repository.root)
    said = capsys.readouterr()
    assert len(repository.worktrees) == 1
    assert [each.name for each in repository.root.parent.iterdir() if each.name.startswith("streamkit-gate")] == []
    return code, said.out + said.err


def test_a_slower_change_is_refused_by_the_name_of_its_path(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    repository.write("streamkit/__init__.py", "COST = 1.25\n")
    repository.commit("slower")
    file = tmp_path / "verdicts.json"
    code, said = ran(repository, capsys, "--base", "HEAD~1", "--only", "append", "--json", str(file))
    assert code == 1
    assert "SLOWER, by 25%" in said
    assert "REFUSED because of append: " in said
    told = json.loads(file.read_text())
    assert told["base"] == repository.first
    assert told["paths"]["append"]["refused"] is True
    assert told["paths"]["append"]["cpu"]["ratio"] == pytest.approx(1.25)
    assert len(told["paths"]["append"]["pairs"]) == 10


def test_a_change_that_is_as_fast_passes(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ran(repository, capsys, "--base", "HEAD", "--only", "append", "--only", "pattern")
    assert code == 0
    assert said.count(" fine\n") == 2
    assert "No hot path is slower by more than 10%." in said


def test_a_base_that_cannot_run_the_benchmarks_is_no_reason_to_refuse(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("streamkit/__init__.py", "RATE = 1.0\n")
    repository.write("benchmarks/gate/child.py", CHILD.replace("streamkit.COST", "1 / streamkit.RATE"))
    repository.commit("another interface")
    code, said = ran(repository, capsys, "--base", "HEAD~1", "--only", "append")
    assert code == 0
    assert "not compared: the base cannot run this benchmark: " in said
    assert "AttributeError: module 'streamkit' has no attribute 'RATE'" in said
    assert "not known of append" in said


def test_a_change_that_cannot_run_its_own_benchmarks_is_refused(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("streamkit/__init__.py", "raise OSError('broken')\n")
    repository.commit("broken")
    code, said = ran(repository, capsys, "--base", "HEAD~1", "--only", "append")
    assert code == 1
    assert "FAILED with the change: its process ended: OSError: broken" in said


@pytest.mark.parametrize(("side", "code"), [("base", 0), ("change", 1)])
def test_a_wrong_result_is_refused_if_it_is_of_the_change(
    side: str, code: int, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = CHILD.replace('{"cpu"', '{"wrong": "record 7 is lost"} if cost == 9 else {"cpu"')
    repository.write("benchmarks/gate/child.py", wrong)
    repository.write("streamkit/__init__.py", "COST = 9\n" if side == "base" else NO_DIFFERENCE)
    repository.commit("base")
    repository.write("streamkit/__init__.py", NO_DIFFERENCE if side == "base" else "COST = 9\n")
    repository.commit("change")
    found, said = ran(repository, capsys, "--base", "HEAD~1", "--only", "append")
    assert found == code
    assert "record 7 is lost" in said


def test_only_what_is_touched_runs(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.write("docs/page.md", "words")
    repository.write("streamkit/alarms/evaluate.py", "")
    repository.commit("nothing hot")
    code, said = ran(repository, capsys, "--base", "HEAD~1", "--touched")
    assert code == 0
    assert "Nothing is compared: of 2 files that differ no hot path runs through any." in said
    repository.write("streamkit/queues/new.py", "")  # Not even added.
    code, said = ran(repository, capsys, "--base", "HEAD~1", "--touched")
    assert code == 0
    assert "queue runs through streamkit/queues/new.py" in said
    verdicts = [line.split()[0] for line in said.splitlines() if line.endswith(" fine")]
    assert verdicts == ["queue", "queue_batches"]


def test_the_base_can_be_named_in_the_environment(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.git("tag", "v1")
    repository.commit("second")
    monkeypatch.setenv(gate.VARIABLE, "v1")
    _, said = ran(repository, capsys, "--touched")
    assert f"base {repository.first[:10]}: the merge base with v1" in said
    _, said = ran(repository, capsys, "--touched", "--base", "HEAD")
    assert "the merge base with HEAD" in said


def test_one_commit_has_nothing_to_be_compared_with(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ran(repository, capsys) == (0, "Nothing is compared: there is one commit only.\n")
    repository.commit("second")
    code, said = ran(repository.clone(tmp_path / "shallow", "--depth=1"), capsys)
    assert code == 0
    assert said == "Nothing is compared: this clone has one commit only; `git fetch --deepen=100` gives it a base.\n"


def test_no_repository_and_no_such_base_are_said_in_a_sentence(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, said = ran(repository, capsys, "--base", "nowhere")
    assert (code, said.count("\n")) == (2, 1)
    assert "there is no commit 'nowhere' here" in said
    (tmp_path / "empty").mkdir()
    assert gate.main([], tmp_path / "empty") == 2
    assert "not a git repository" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--only", "nothing"], ["--dir", "/no/such/place"]])
def test_options_that_make_no_sense(words: Sequence[str], repository: Repository) -> None:
    with pytest.raises(SystemExit) as ended:
        gate.main(words, repository.root)
    assert ended.value.code == 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda each: str(each.name))
def test_interrupted_it_leaves_nothing(
    how: signal.Signals,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes: list[running._Side] = []
    turned = running._Side.turn

    def turn(side: running._Side) -> tuple[float, float]:
        processes.append(side)
        if len(processes) == 3:
            os.kill(os.getpid(), how)
        return turned(side)

    monkeypatch.setattr(running._Side, "turn", turn)
    code, said = ran(repository, capsys, "--base", "HEAD", "--only", "append")
    assert code == 130
    assert "interrupted; the worktree is gone again" in said
    assert all(side.process.poll() is not None for side in processes)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_process_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.0)
    with pytest.raises(SideError, match="it did not answer for 0 s") as failed:
        measure(Trees(ROOT, ROOT), tmp_path, "pattern", 0)
    assert failed.value.side == "base"


def test_a_real_pair_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TURNS", 1)
    found = measure(Trees(ROOT, ROOT), tmp_path, "metrics_put", 0)
    assert found.base > 0
    assert found.cpu == pytest.approx(math.log(found.change / found.base))
    assert list(tmp_path.iterdir()) == []


def test_the_library_must_be_that_of_the_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An installed streamkit would be compared with itself."""
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert child.main("pattern", str(tmp_path)) == 1
    finally:
        os.chdir(before)
    assert f"ImportError: streamkit is that of {ROOT}, and not that of {tmp_path}" in capsys.readouterr().out


def test_turns_change_who_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def turn(side: running._Side) -> tuple[float, float]:
        order.append(side.name[0])
        return 1.0, 1.0

    monkeypatch.setattr(running._Side, "ready", lambda _: None)
    monkeypatch.setattr(running._Side, "turn", turn)
    monkeypatch.setattr(running, "TURNS", 4)
    for number in range(2):
        measure(Trees(ROOT, ROOT), tmp_path, "pattern", number)
    assert "".join(order) == "bccbbccb" + "cbbccbbc"


def test_the_command_is_one_of_the_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["gate", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "python -m benchmarks gate --touched" in said
    assert "130  it was interrupted" in said


def test_the_page_names_every_hot_path_and_how_it_decides() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    _, _, part = page.partition("\n## The gate\n")
    part = part.partition("\n## ")[0]
    assert [name for name in HOT_PATHS if f"| `{name}` |" not in part] == []
    for number in (f"{LIMIT:.0%}".replace("%", " %"), f"{WALL_LIMIT:.0%}".replace("%", " %"), gate.VARIABLE):
        assert number in part
