"""A run fits the time that it has, tells what it left out, and has no number when a guarantee did not hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import machine as machines
from benchmarks.__main__ import _packages as packages_of_peers
from benchmarks.__main__ import main
from benchmarks.figures import Checked, Figure, Figures, Latencies, Timeline, WrongResultError, higher_is_better
from benchmarks.measure import ON_DISK, SYNCED, Chart, Lane, Result, Setting, Workload, told
from benchmarks.plan import PASSES, SCALES, at_scale, known_seconds, scale_for, slowdown
from benchmarks.report import document, terminal
from benchmarks.running import Runner, ViolationError
from benchmarks.store import open_store, open_used
from streamkit.errors import NotFoundError

# ---- latencies


def test_quantiles_are_of_all_that_was_measured() -> None:
    found = Latencies(at / 1000 for at in range(1, 101))
    assert found.quantile(0.5) == 0.05
    assert found.quantile(0.99) == 0.099
    assert found.quantile(0.0) == 0.001
    assert found.quantile(1.0) == 0.1
    assert found.curve()[-1] == (1.0, 0.1)
    assert list(found.quantiles()) == [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0], "p99.9 of a hundred is a guess"


def test_rounds_are_merged_and_not_averaged() -> None:
    found = Latencies([0.001] * 99)
    found.merge(Latencies([1.0] * 99))
    assert (found.count, found.least, found.largest) == (198, 0.001, 1.0)
    assert found.quantile(0.5) == 0.001
    assert found.quantile(0.51) == 1.0


@given(st.lists(st.floats(1e-7, 10.0), min_size=1, max_size=2000), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_off_by_little(values: list[float], share: float) -> None:
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    assert Latencies(values).quantile(share) == pytest.approx(exact, rel=0.05)


def test_no_latencies_are_no_result() -> None:
    with pytest.raises(WrongResultError, match="no latency"):
        Latencies([])


@pytest.mark.parametrize(
    ("unit", "higher"),
    [("records/s", True), ("MiB/s", True), ("us", False), ("MiB", False), ("s/minute", False), ("ms/s", False)],
)
def test_what_is_good_news(unit: str, higher: bool) -> None:
    assert higher_is_better(unit) is higher


# ---- how much is done


def test_a_fast_machine_does_all_and_a_slow_one_a_share() -> None:
    assert scale_for(300.0, [10.0] * 10, 1.0) == 1.0
    assert scale_for(299.0, [10.0] * 10, 1.0) == 0.5
    assert scale_for(300.0, [10.0] * 10, 2.0) == 0.2, "half of the counts take two thirds of the time"
    assert scale_for(-5.0, [10.0], 1.0) == SCALES[-1]


@given(st.floats(1.0, 1000.0), st.lists(st.floats(0.1, 50.0), min_size=1, max_size=40), st.floats(0.1, 50.0))
def test_a_scale_fits_if_one_does(remaining: float, expected: list[float], slower: float) -> None:
    scale = scale_for(remaining, expected, slower)
    needed = sum(expected) * slower * PASSES
    assert at_scale(needed, scale) <= remaining or scale == SCALES[-1]
    assert scale == 1.0 or at_scale(needed, SCALES[SCALES.index(scale) - 1]) > remaining, "more would have fitted"


def test_few_rounds_say_little_of_a_machine() -> None:
    assert slowdown([]) == 1.0
    assert slowdown([(0.1, 1.0)]) < 1.1
    assert slowdown([(20.0, 60.0)]) == 3.0


def test_a_document_tells_what_a_round_takes_at_full_counts() -> None:
    workloads = [{"title": "a", "scale": 0.5, "seconds": [3.0, 1.0, 2.0]}, {"title": "b", "scale": 1.0, "seconds": []}]
    workloads.append({"title": "c", "scale": 0.2, "seconds": [1.0]})
    assert known_seconds({"workloads": workloads}) == pytest.approx({"a": 3.0, "c": 3.0})
    assert at_scale(3.0, 0.2) == pytest.approx(1.0)
    assert at_scale(3.0, 1.0) == 3.0
    assert known_seconds(None) == {}


# ---- the run


class Silent:
    """Progress that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def begins(self, name: str, round_number: int, done: float) -> None:
        assert 0.0 <= done <= 1.0
        self.told.append((name, round_number))


def lane(name: str, values: Callable[[], Any] = lambda: Figure(1.0, "records/s"), peer: str = "") -> Lane:
    async def run(setting: Setting) -> Figures:
        return {name: values()}

    return Lane(run, SYNCED, peer)


def runner(tmp_path: Path, workloads: Sequence[Workload], **options: Any) -> Runner:
    return Runner(
        Setting(Path(), Path()), tmp_path, lanes={each.title: list(each.lanes) for each in workloads}, **options
    )


class Clock:
    """``time`` for the runner: a round takes what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("benchmarks.running.time.monotonic", lambda: self.now)
        monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: self.now)

    def takes(self, seconds: float) -> Callable[[], Figure]:
        def measure() -> Figure:
            self.now += seconds
            return Figure(1.0, "records/s")

        return measure


def test_rounds_of_all_workloads_take_turns_until_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    workloads = [Workload(name, name, [lane(name, clock.takes(seconds))]) for name, seconds in (("a", 2.0), ("b", 5.0))]
    made = runner(tmp_path, workloads, seconds=25.0, known={"a": 2.0, "b": 5.0})
    made.run(workloads, shown := Silent())
    assert shown.told == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3), ("a", 4)]
    assert [len(result.seconds) for result in made.results] == [4, 3]
    assert [result.scale for result in made.results] == [1.0, 1.0]
    assert list(tmp_path.iterdir()) == [], "directories are removed"


def test_a_machine_that_is_slower_than_known_does_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    workloads = [Workload(str(at), str(at), [lane("x", clock.takes(40.0))]) for at in range(5)]
    made = runner(tmp_path, workloads, seconds=400.0, known={str(at): 20.0 for at in range(5)})
    made.run(workloads, Silent())
    scales = [result.scale for result in made.results]
    assert scales[0] == 1.0
    assert scales[1:] == sorted(scales[1:], reverse=True)
    assert scales[-1] < 0.5


def test_what_no_time_is_left_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    workloads = [Workload(name, name, [lane(name, clock.takes(60.0))]) for name in ("a", "b", "c")]
    made = runner(tmp_path, workloads, seconds=100.0)
    made.run(workloads, Silent())
    assert [result.workload.name for result in made.results] == ["a", "b"]
    assert made.left_out == {"c": "the time was used up; --minutes gives more"}


def test_as_many_rounds_as_were_asked_for_are_done(tmp_path: Path) -> None:
    workload = Workload("a", "a", [lane("a")])
    made = runner(tmp_path, [workload], rounds=3)
    made.run([workload], Silent())
    assert made.results[0].rows["a"].values == [1.0] * 3


def test_a_peer_that_fails_is_left_out_with_its_reason_and_has_no_half_figures(tmp_path: Path) -> None:
    calls: Iterator[Figure | Exception] = iter([Figure(2.0, "records/s"), RuntimeError("its server died")])

    def fails() -> Figure:
        found = next(calls)
        if isinstance(found, Exception):
            raise found
        return found

    workload = Workload("a", "a", [lane("ours"), lane("ghost", fails, "ghost")], compared=["ghost"])
    made = runner(tmp_path, [workload], rounds=3)
    made.run([workload], Silent())
    assert made.left_out == {"a: ghost": "RuntimeError: its server died"}
    assert list(made.results[0].rows) == ["ours"]
    assert len(made.results[0].rows["ours"].values) == 3


def test_what_of_ours_fails_is_a_failure(tmp_path: Path) -> None:
    def fails() -> Figure:
        raise RuntimeError("ours")

    workload = Workload("a", "a", [lane("ours", fails)])
    with pytest.raises(RuntimeError, match="ours"):
        runner(tmp_path, [workload], rounds=1).run([workload], Silent())


CHECKED = Checked("order per shard", "load", 1000)
BROKEN = Checked("order per shard", "load", 1000, 2, "shard 1: record 7 was to come next, and 9 came")


def test_what_was_checked_adds_up_over_rounds(tmp_path: Path) -> None:
    workload = Workload("a", "a", [lane("ours"), lane("order", lambda: CHECKED)])
    made = runner(tmp_path, [workload], rounds=3)
    made.run([workload], Silent())
    assert list(made.results[0].checked.values()) == [Checked("order per shard", "load", 3000)]
    table = terminal.guarantees(list(made.results[0].checked.values()))
    assert table.splitlines()[1].split() == ["order", "per", "shard", "load", "3,000", "0"]


def test_a_violation_is_told_with_its_guarantee(tmp_path: Path) -> None:
    workload = Workload("a", "a", [lane("order", lambda: BROKEN)])
    with pytest.raises(ViolationError, match="a: order per shard, under load: shard 1: record 7"):
        runner(tmp_path, [workload], rounds=1).run([workload], Silent())


def test_a_run_with_a_violation_has_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workloads = [Workload("fast", "fast", [lane("ours")]), Workload("order", "order", [lane("o", lambda: BROKEN)])]
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", workloads)
    file = tmp_path / "figures.json"
    assert main(["--small", "--json", str(file)]) == 1
    said = capsys.readouterr()
    assert "WRONG, so there are no numbers: order: order per shard" in said.err
    assert "records/s" not in said.out
    assert not file.exists()


def test_an_interrupted_run_tells_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> Figure:
        raise KeyboardInterrupt

    workloads = [Workload("one", "one", [lane("ours")]), Workload("two", "two", [lane("ours", interrupted)])]
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", workloads)
    assert main(["--small"]) == 130
    said = capsys.readouterr()
    assert "interrupted" in said.err
    assert "one: one" in said.out


def test_what_an_engine_has_no_answer_to_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk = Lane(lane("ours").run, SYNCED, engines=ON_DISK)
    workloads = [Workload("files", "about files", [on_disk]), Workload("both", "about both", [lane("ours"), on_disk])]
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", workloads)
    assert main(["--small", "--engine", "memory"]) == 0
    said = capsys.readouterr().out
    assert "left out: about files: it is not about this engine" in said
    assert "in memory: gone with the process" in said


def test_a_profile_is_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", [Workload("one", "One thing", [lane("ours")])])
    assert main(["--profile", str(tmp_path / "profiles"), "--small"]) == 0
    assert [path.name for path in (tmp_path / "profiles").iterdir()] == ["one-thing-0.prof"]
    assert "ncalls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rounds", "0"], "--rounds is at least 1"),
        (["--gigabytes", "nan"], "--gigabytes is above 0"),
        (["--minutes", "-1"], "--minutes is above 0"),
        (["--dir", "/nowhere/at/all"], "is no directory"),
        (["--compare", "/nowhere.json"], "cannot be read"),
    ],
)
def test_options_that_make_no_sense(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert says in capsys.readouterr().err


# ---- the document


def result() -> Result:
    chart = Chart("by shards", "shards", {"ours": {1.0: "ours", 4.0: "did not run"}})
    made = Result(Workload("a", "a title", [], charts=[chart]))
    made.add(
        lane("ours"),
        {
            "ours": Figure(2.0, "records/s"),
            "latency": Latencies([at / 1e6 for at in range(1, 5001)]),
            "memory": Timeline("MiB", [(float(at), 1.0) for at in range(1000)]),
            "order": CHECKED,
        },
    )
    made.seconds.append(1.5)
    return made


def test_a_document_has_everything_and_comes_back(tmp_path: Path) -> None:
    run = document.Run({"cores": 2}, {"engine": "file"}, {"ghost": "not here"}, {"ghost": "nothing"}, 12.34)
    made = document.document(run, [result()])
    document.save(tmp_path / "new" / "report.json", made)
    found = document.load(tmp_path / "new" / "report.json")
    assert found == json.loads(json.dumps(made))
    (workload,) = found["workloads"]
    assert workload["rows"][0]["median"] == 2.0
    assert workload["charts"] == [{"title": "by shards", "x": "shards", "lines": {"ours": [[1.0, "ours"]]}}]
    latency = workload["latencies"]["latency"]
    assert latency["count"] == 5000
    assert latency["curve"][-1] == [1.0, 0.005]
    assert len(workload["timelines"]["memory"]["points"]) <= 400
    assert found["guarantees"] == [
        {"guarantee": "order per shard", "under": "load", "events": 1000, "violations": 0, "first": ""}
    ]


@pytest.mark.parametrize(
    ("text", "says"), [("[]", "no report of format"), ("{", "no JSON"), ('{"format": 0}', "format")]
)
def test_a_file_that_is_no_document_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=says):
        document.load(tmp_path / "file")


def test_the_terminal_tells_a_latency_as_far_as_it_is_known() -> None:
    line = terminal.table(result(), judge=False).splitlines()[-1]
    assert line.startswith("  latency: 5,000 calls, min 1 us")
    assert "p99.9 " in line
    assert "p99.99 " not in line


# ---- the machine and the store


def test_a_machine_is_described(tmp_path: Path) -> None:
    found = machines.machine(tmp_path, ["no-such-package"])
    assert all(found[name] for name in ("when", "processor", "cores", "system", "python", "disk", "sync_4_kib_us"))
    assert "msgspec " in str(found["versions"])
    assert "no-such-package" not in str(found["versions"])


@pytest.mark.parametrize("engine", ["file", "memory"])
async def test_a_store_is_opened_again_with_what_it_had(engine: Any, tmp_path: Path) -> None:
    setting = Setting(tmp_path, tmp_path, small=True, engine=engine)
    async with open_used(setting) as kit:
        stream = await kit.create_stream("orders", type=bytes)
        await stream.put(b"one", partition_key="a")
    async with open_store(setting) as kit:
        assert [record.data async for record in kit.stream("orders", type=bytes).records()] == [b"one"]
    async with open_store(setting, "another") as kit:
        with pytest.raises(NotFoundError):
            await kit.stream("orders").describe()


@pytest.mark.parametrize("engine", ["file", "memory"])
async def test_another_lane_has_another_store(engine: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        async with open_store(Setting(tmp_path / name, tmp_path, engine=engine)) as kit:
            await kit.create_stream("orders")


def test_what_acknowledgements_mean_is_what_was_asked_for() -> None:
    ours = Lane(lane("ours").run, SYNCED)
    assert told(ours, Setting(Path(), Path())) == SYNCED
    assert told(ours, Setting(Path(), Path(), durability="interval")) == "synced within 50 ms"
    assert told(ours, Setting(Path(), Path(), engine="memory")).startswith("in memory")
    assert told(Lane(ours.run, "WAL"), Setting(Path(), Path(), engine="memory")) == "WAL"


def test_the_versions_of_peers_are_stamped() -> None:
    found = dict.fromkeys(packages_of_peers())
    assert all(metadata.version(name) for name in found)
