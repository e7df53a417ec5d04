"""What is made of a run's document: the page, the comparison with an earlier run, the README's table and picture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.figures import Checked, Figure, Latencies, Timeline
from benchmarks.measure import Chart, Lane, Result, Setting, Target, Workload
from benchmarks.report import document, files, page, plots, readme, terminal
from benchmarks.report.compare import Beside, beside, compare, summary
from benchmarks.report.pictures import pictures
from benchmarks.report.story import HEADLINES, story, weaker
from benchmarks.report.svg import COLOURS
from benchmarks.report.words import amount, duration, number, percentile_name, roughly, short, size, times
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent.parent
drawn = pytest.mark.skipif(bool(page.lacks()), reason=page.lacks() or "nothing is missing")
SYNCED = "synced before the answer"
APPEND = HEADLINES[0].title
HOSTILE = "</title><script>alert('&')</script>"


async def nothing(_: Setting) -> dict[str, Figure]:
    return {}


def lane(durability: str = SYNCED, peer: str = "") -> Lane:
    return Lane(nothing, durability, peer)


def result(workload: Workload, rounds: Sequence[dict[str, tuple[Lane, Figure]]]) -> Result:
    made = Result(workload)
    for each in rounds:
        for name, (of, figure) in each.items():
            made.add(of, {name: figure})
        made.seconds.append(1.0)
    return made


def append(ours: Sequence[float] = (100e3, 110e3, 90e3), theirs: Sequence[float] = (50e3, 44e3, 60e3)) -> Result:
    """A headline with a peer that syncs, one that does not, a limit, and targets."""
    workload = Workload(
        "append", APPEND, [], [Target("lmdb", at_least=2.5), Target("bare loop", at_least=0.5)], ["lmdb", "moto"]
    )
    return result(
        workload,
        [
            {
                "streamkit": (lane(), Figure(mine, "records/s")),
                "bare loop": (lane("a limit: fdatasync per batch"), Figure(150e3, "records/s")),
                "lmdb": (lane("sync=True", "lmdb"), Figure(other, "records/s")),
                "moto": (lane("in memory: gone with the server", "moto"), Figure(1e3, "records/s")),
            }
            for mine, other in zip(ours, theirs, strict=True)
        ],
    )


def scaling(name: str = "scaling", label: str = "put") -> Result:
    """A chart, bars of what is in none, distributions, timelines, and guarantees."""
    rows = {float(shards): f"{label}, {shards} shards" for shards in (1, 4, 16, 64)}
    workload = Workload(name, f"{name} by shards", [], charts=[Chart(f"per record, {label}", "shards", {label: rows})])
    figures = {row: (lane(), Figure(1000 + shards, "ns/record")) for shards, row in rows.items()}
    figures |= {f"{label} memory {at}": (lane(), Figure(at + 0.5, "MiB")) for at in range(2)}
    made = result(workload, [figures, figures])
    made.add(
        lane(),
        {
            f"{label} latency": Latencies([at / 1e6 for at in range(1, 5001)]),
            f"{label} memory over time": Timeline("MiB", [(float(at), 50.0 + at % 7) for at in range(60)]),
            "order": Checked(f"order per {label}", "kill -9", 1234567),
        },
    )
    return made


def made(*results: Result, **options: object) -> dict[str, Any]:
    asked = {"engine": "file", "durability": "fsync", "small": False, **options}
    machine = {
        "when": "2026-11-27 04:00 UTC",
        "commit": "abc1234",
        "processor": "a processor",
        "cores": 2,
        "memory_gib": 8.0,
        "disk": "ext4 on /dev/vda",
        "sync_4_kib_us": 100.0,
        "versions": "streamkit 0.1.0",
    }
    run = document.Run(machine, asked, {"nats": "no server"}, {"lmdb": "a commit is synced", "ghost": "all"}, 321.0)
    return document.document(run, results or (append(), scaling()))


class Read(HTMLParser):
    """What a browser finds: balanced elements, identities, references, and text."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            elif name == "aria-labelledby":
                self.refers += (value or "").split()
            elif name == "href":
                assert value is not None
                assert value.startswith("#"), "a page refers to itself only"
                self.refers.append(value[1:])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- words


def test_numbers_have_as_many_digits_as_people_read() -> None:
    assert [short(value) for value in (0, 0.1234, 9.5, 999.4, 1000, 14_284, 999_700, 1.07e6, 2e9)] == [
        "0",
        "0.123",
        "9.5",
        "999",
        "1 k",
        "14.3 k",
        "1 M",
        "1.07 M",
        "2 G",
    ]
    assert [number(value) for value in (1234.5, 123.45, 1.2345)] == ["1,234", "123.5", "1.23"]
    assert [duration(seconds) for seconds in (2.5, 0.0123, 4.2e-5, 3e-9)] == ["2.5 s", "12.3 ms", "42 us", "3 ns"]
    assert [amount(4322, "us"), amount(190_000, "records/s")] == ["4.32 ms", "190 k records/s"]
    assert [times(2.345), times(1200), roughly(0.834), roughly(123)] == ["2.35 x", "1,200 x", "0.83 x", "120 x"]
    assert [size(count) for count in (100, 1024, 102_400, 2**20)] == ["100", "1 Ki", "100 Ki", "1 Mi"]
    assert [percentile_name(share) for share in (0.0, 0.999, 1.0)] == ["min", "p99.9", "max"]


@pytest.mark.parametrize(
    ("durability", "says"),
    [
        (SYNCED, ""),
        ("WAL, synchronous=FULL", ""),
        ("JetStream file, sync_interval always", ""),
        ("WAL, NORMAL: not synced", "not synced"),
        ("JetStream file, synced every 2 min", "not synced"),
        ("synced within 50 ms", "not synced"),
        ("in memory: gone with the server", "in memory"),
        ("a limit: nothing is stored", "limit"),
    ],
)
def test_who_promises_less_is_known_by_its_durability(durability: str, says: str) -> None:
    assert weaker(durability) == says


# ---- the page


@drawn
def test_a_page_has_every_section_and_all_that_was_measured() -> None:
    found = Read(page.page(made()))
    for anchor in ("machine", "glance", "guarantees", "targets", "workloads", "promises", "left", "how"):
        assert anchor in found.ids
    for said in ("a processor", "ext4 on /dev/vda", "abc1234", "streamkit 0.1.0", "--engine file --durability fsync"):
        assert said in found.text, "what it was measured on"
    assert "100 k records/s" in found.text, "the headline"
    assert "1,234,567" in found.text, "the events"
    assert "1 of 2 met , and 1 missed:" in " ".join(found.text.split())
    assert "3 rounds" in found.text
    assert found.text.count("a commit is synced") == 2, "beside the table, and with all"
    assert "ghost" not in found.text, "what a peer promises that did not run"
    assert "no server" in found.text
    for workload in made()["workloads"]:
        assert workload["title"] in found.text
        for row in workload["rows"]:
            assert row["row"] in found.text
    assert [name for name in ("p50", "p99", "p99.9") if name in found.text] == ["p50", "p99", "p99.9"]


@drawn
def test_a_page_is_well_formed_and_needs_nothing_else() -> None:
    text = page.page(made(), compare(made(append(), scaling()), made()))
    found = Read(text)
    assert len(found.ids) == len(set(found.ids))
    assert set(found.refers) <= set(found.ids)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(found.ids)
    assert "http" not in text.replace("http-equiv", "")
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name == "src" or name.startswith("on")]
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and name == "content")
    assert policy.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in text
    assert found.tags.count("svg") == len([plot for each in made()["workloads"] for plot in pictures(each)])
    assert found.tags.count("title") == found.tags.count("desc") + 1 == found.tags.count("svg") + 1


@drawn
def test_a_page_escapes_whatever_it_is_told() -> None:
    hostile = made(append(), scaling(HOSTILE, HOSTILE))
    hostile["machine"]["processor"] = hostile["options"]["dir"] = HOSTILE
    hostile["machine"]["when"] = hostile["machine"]["commit"] = HOSTILE
    hostile["left_out"] = hostile["promises"] = {HOSTILE: HOSTILE, "lmdb": HOSTILE, "moto": HOSTILE}
    hostile["guarantees"][0] |= {"under": HOSTILE, "first": HOSTILE}
    for workload in hostile["workloads"]:
        for row in workload["rows"]:
            row["unit"] = row["durability"] = HOSTILE
        for chart in workload["charts"]:
            chart["x"] = HOSTILE
        for timeline in workload["timelines"].values():
            timeline["unit"] = HOSTILE
    found = Read(page.page(hostile, compare(hostile, hostile)))
    assert "script" not in found.tags
    assert HOSTILE in found.text


@drawn
def test_the_same_document_makes_the_same_page_and_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 7.0, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        text = page.page(made())
        assert dict(matplotlib.rcParams) == before
    assert page.page(made()) == text, "whatever matplotlib was told by others"
    pyplot = sys.modules.get("matplotlib.pyplot")  # It keeps figures until somebody closes them.
    assert pyplot is None or pyplot.get_fignums() == []


def test_matplotlib_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, benchmarks.__main__, benchmarks.report.readme; print({'matplotlib', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout == "set()\n"


@drawn
@pytest.mark.parametrize("options", [{"small": True}, {"durability": "interval"}, {"engine": "memory"}], ids=str)
def test_no_target_is_judged_of_a_run_that_is_no_answer_to_one(options: dict[str, object]) -> None:
    text = " ".join(Read(page.page(made(**options))).text.split())
    assert "None was judged in this run" in text
    assert "missed" not in text
    assert ("Its figures mean nothing" in text) is ("small" in options)
    assert ("no target is judged" in text) is ("small" not in options)


@drawn
def test_a_page_of_nothing_is_a_page() -> None:
    empty = document.document(document.Run({}, {}, {}, {}, 0.0), [])
    text = Read(page.page(empty)).text
    assert "Nothing." in text
    assert "events checked" not in text, "none is not a good result"


@drawn
def test_a_workload_has_the_plots_that_there_is_something_to_see_in() -> None:
    first, second = made()["workloads"]
    assert [plot.title for plot in pictures(first)] == ["records/s"]
    assert [plot.title for plot in pictures(second)] == [
        "per record, put",
        "MiB, less is better",
        "Latency, every call counted",
        "Over time, in the last round",
    ]
    chart, _, latency, _ = pictures(second)
    assert chart.legend == ["put"]
    assert "1.06 k at 64" in chart.about
    assert "p50 2.5 ms, p99 4.9" in latency.about
    second["charts"][0]["lines"]["put"] = second["charts"][0]["lines"]["put"][:1]
    assert pictures(second)[0].title == "ns/record, less is better", "one point is no line"


def test_labels_of_an_axis_do_not_run_into_each_other() -> None:
    assert plots.apart([1, 4, 16, 64, 256]) == [1, 4, 16, 64, 256]
    assert plots.apart([0.01, 9.78, 90, 100]) == [0.01, 9.78, 100]
    assert plots.apart([1, 1.2, 1.95, 2]) == [1, 1.2, 2]
    assert plots.apart([3]) == [3]


@drawn
def test_a_table_has_the_columns_that_it_needs() -> None:
    found = page.page(made())
    first, second = (each.partition("</table>")[0] for each in found.split('<section class="card"')[1:3])
    for head in ("ours/this", "target", "reached", "durability"):
        assert f">{head}</th>" in first
        assert (f">{head}</th>" in second) is (head == "durability")
    for table in (first, second):
        row = table.rpartition("<tr")[2]
        assert row.count("<td") + row.count("<th") == table.count('scope="col"')


@drawn
def test_more_lines_than_a_plot_can_tell_apart_are_in_several() -> None:
    many = scaling()
    for at in range(COLOURS + 1):
        many.add(lane(), {f"latency {at}": Latencies([0.001 * (at + 1), 0.002])})
    drawn = [plot for plot in pictures(made(many)["workloads"][0]) if plot.title.startswith("Latency")]
    assert [len(plot.legend) for plot in drawn] == [COLOURS, 2]


@drawn
def test_bars_that_would_be_hairs_are_dots_on_a_logarithmic_axis() -> None:
    close = [plots.Bar(str(at), plots.Spread(at, at, at), ours=True) for at in (1.0, 200.0)]
    wide = [plots.Bar(str(at), plots.Spread(at, at, at), ours=True) for at in (1.0, 400.0)]
    assert [plots.bars("us", each).title for each in (close, wide)] == ["us", "us, on a logarithmic axis"]


@drawn
def test_what_is_written_in_a_plot_is_as_it_was_said() -> None:
    bars = [plots.Bar("0.12345 #f0f1f0", plots.Spread(0.2641, 0.2641, 0.2641), ours=True)] * 2
    text = plots.bars("0.98765", bars).svg
    _, _, shown = text.partition("</desc>")
    assert ">0.12345 #f0f1f0</text>" in shown
    assert ">0.264</text>" in shown
    assert "<title" in text
    assert ">0.98765</title>" in text
    assert re.search(r"\d\.\d{3}", re.sub(r">[^<]*<", "><", shown)) is None, "coordinates have two digits"


# ---- which files a run leaves


def without(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("module", ["jinja2", "matplotlib.figure"])
def test_without_what_a_page_needs_there_is_a_sentence(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(module)
    without(module, monkeypatch)
    assert files.write((None, tmp_path / "report.html"), made()) == 0
    said = capsys.readouterr().out
    assert f"there is no page: {module.partition('.')[0]} is not installed; {page.INSTALL}; then python -m" in said
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"], "what was measured is kept"
    assert page.main([str(tmp_path / "report.json")]) == 1
    assert "is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("json_", "html", "default", "chosen"),
    [
        (None, None, True, (files.JSON, files.HTML)),
        (None, None, False, (None, None)),
        (Path("a"), None, True, (Path("a"), None)),
        (None, Path("b"), False, (None, Path("b"))),
    ],
)
def test_what_is_written_is_what_was_asked_for(
    json_: Path | None, html: Path | None, default: bool, chosen: tuple[Path | None, Path | None]
) -> None:
    assert files.chosen(json_, html, default=default) == chosen


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert files.write((tmp_path / "file" / "report.json", None), made()) == 1
    assert f"{tmp_path}/file/report.json cannot be written: " in capsys.readouterr().err


def run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> set[str]:
    """The names of the files that a run of one workload leaves."""

    async def ours(_: Setting) -> dict[str, Figure]:
        return {"ours": Figure(2.0, "records/s")}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.__main__.WORKLOADS", [Workload("race", "who is faster", [Lane(ours, SYNCED)])])
    assert main([*words, "--no-peers"]) == 0
    return {path.name for path in tmp_path.iterdir()}


@drawn
def test_a_run_leaves_its_report_and_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(monkeypatch, tmp_path, "--rounds", "1") == {"report.json", "report.html"}
    said = capsys.readouterr().out
    assert "the figures are in report.json\nthe page is report.html\n" in said
    assert "who is faster" in (tmp_path / "report.html").read_text()
    assert page.main(["report.json", "--out", "again.html"]) == 0
    assert (tmp_path / "again.html").read_text() == (tmp_path / "report.html").read_text()


def test_a_small_run_leaves_nothing_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run_here(monkeypatch, tmp_path, "--small") == set()
    assert run_here(monkeypatch, tmp_path, "--small", "--json", "a.json") == {"a.json"}


# ---- beside an earlier run


def row(rounds: Sequence[float], *, higher: bool = True) -> dict[str, Any]:
    return {"median": sorted(rounds)[len(rounds) // 2], "rounds": list(rounds), "higher_is_better": higher}


@pytest.mark.parametrize(
    ("base", "now", "higher", "gain", "verdict"),
    [
        ([100, 101, 102], [201, 202, 203], True, 2.0, "better"),
        ([100, 101, 102], [201, 202, 203], False, 0.5, "worse"),
        ([201, 202, 203], [100, 101, 102], True, 0.5, "worse"),
        ([201, 202, 203], [100, 101, 102], False, 2.0, "better"),
        ([100, 101, 150], [149, 202, 203], True, 2.0, "same"),  # They overlap.
        ([100, 101, 102], [103, 103.5, 104], True, 103.5 / 101, "same"),  # Steady, and too little.
        ([100, 101], [201, 202, 203], True, 2.0, "unknown"),
        ([100, 101, 102], [201, 202], True, 2.0, "unknown"),
        ([0, 0, 0], [0, 0, 0], False, 1.0, "same"),
        ([0, 0, 0], [1, 1, 1], False, None, "worse"),
        ([1, 1, 1], [0, 0, 0], False, None, "better"),
    ],
)
def test_a_change_counts_by_its_direction_and_beyond_noise(
    base: list[float], now: list[float], higher: bool, gain: float | None, verdict: str
) -> None:
    found = beside(row(base, higher=higher), row(now, higher=higher))
    assert found.verdict == verdict
    assert found.gain == (None if gain is None else pytest.approx(gain, rel=0.02))
    assert found.base == row(base)["median"]


def test_how_likely_chance_alone_would_mark_a_figure() -> None:
    assert beside(row([1, 2, 3]), row([1, 2, 3])).by_chance == pytest.approx(0.1)  # 2 of the 20 ways to deal six
    assert beside(row([1, 2]), row([1, 2, 3])).by_chance == 0


def test_a_summary_has_the_geometric_mean_and_what_the_machine_did() -> None:
    base = made(append([100, 100, 100], [50, 50, 50]), scaling())
    now = made(append([400, 400, 400], [25, 25, 25]), scaling())
    found = compare(base, now)
    assert found.warnings == []
    assert found.rows[APPEND, "streamkit"] == Beside(100, 4.0, "better", 0.1)
    said = summary(found)
    # One of seven is four times as good: 4 ** (1 / 7).
    assert said[0].startswith(
        "streamkit's figures (7): geometric mean 1.22 x as good as the base; 1 better and 0 worse"
    )
    assert "about 0.1 of these would be by chance alone" in said[0]
    # Of lmdb, moto and the bare loop one is half as good: 0.5 ** (1 / 3).
    assert said[1].startswith("others' figures (3): geometric mean 0.794 x as good as the base; 0 better and 1 worse")
    assert "do not overlap" in said[-1]


def test_what_only_one_of_the_runs_has_is_counted_and_not_compared() -> None:
    said = summary(compare(made(append()), made(scaling())))
    assert said[:3] == [
        "the two runs have no figure in common",
        "6 figures are not in the base",
        "4 figures are only in the base",
    ]
    other = made(append())
    other["workloads"][0]["rows"][0]["unit"] = "MiB/s"
    assert (APPEND, "streamkit") not in compare(made(append()), other).rows, "another unit is another figure"


def test_runs_that_are_not_alike_are_warned_of() -> None:
    base, now = made(), made(engine="memory", durability="interval")
    now["machine"] |= {"processor": "another", "sync_4_kib_us": 140.0}
    now["workloads"][0]["scale"] = 0.2
    now["workloads"][0]["rows"][2]["durability"] = "NOSYNC"
    warnings = "\n".join(compare(base, now).warnings)
    for said in (
        "processor: a processor then, another now",
        "engine: file then, memory now",
        "durability: fsync then, interval now",
        "sync_4_kib_us was 100.0 then, is 140.0 now",
        "counts of 1 workloads, as append: 1 of the full ones then, 0.2 now",
        "durability of 1 figures, as of lmdb",
    ):
        assert said in warnings
    assert compare(base, made()).warnings == []


def test_the_terminal_shows_the_base_beside_each_figure() -> None:
    base = made(append([100, 100, 100]))
    now = append([400, 400, 400])
    found = compare(base, made(now))
    lines = terminal.table(now, judge=True, comparison=found).splitlines()
    assert re.search(r"streamkit .* 100\.0 +4 x better +synced before the answer$", lines[1])
    assert re.search(r"lmdb .* MISSED|met", lines[3])
    assert re.search(r" 1 x +sync=True$", lines[3]), "unchanged, and not marked"
    assert re.search(r" base +gain +durability", terminal.header(small=False, compared=True))
    assert "base" not in terminal.header(small=False)
    lone = terminal.table(now, judge=True, comparison=compare(made(scaling()), made(now))).splitlines()[1]
    assert lone.endswith("  synced before the answer")


@drawn
def test_the_page_shows_the_base_and_what_changed_worst_first() -> None:
    base = made(append([100, 100, 100], [50, 50, 50]))
    now = made(append([400, 400, 400], [25, 25, 25]))
    text = " ".join(Read(page.page(now, compare(base, now))).text.split())
    _, _, said = text.partition("Beside the base")
    changed, _, _ = said.partition("Workloads")
    assert "geometric mean" in changed
    assert changed.index("append lmdb 50 25 records/s 0.5 x ▼ worse") < changed.index(
        "append streamkit 100.0 400.0 records/s 4 x ▲ better"
    )
    assert "Beside the base" not in Read(page.page(now)).text


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("{", "is no JSON"), ("{}", "no report of format")]
)
def test_a_base_that_is_none_is_refused_before_anything_runs(
    text: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.json"
    if text is not None:
        base.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["--small", "--compare", str(base)])
    said = capsys.readouterr()
    assert says in said.err
    assert f"a run with --json {base} makes it" in said.err
    assert said.out == ""


def test_a_base_that_the_run_would_write_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    document.save(files.JSON, made())
    for words in (["--rounds", "1"], ["--small", "--json", str(tmp_path / "report.json")]):
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--compare", "report.json"])
        assert "this run would write over report.json; --json FILE" in capsys.readouterr().err


def test_a_run_is_put_beside_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, tmp_path, "--small", "--json", "base.json")
    capsys.readouterr()
    run_here(monkeypatch, tmp_path, "--small", "--compare", "base.json")
    assert "streamkit's figures (1): geometric mean 1 x as good as the base" in capsys.readouterr().out


# ---- the document's numbers


def test_a_document_is_small_and_each_list_of_numbers_is_a_line(tmp_path: Path) -> None:
    workload = Workload("a", "[\n 1 ]", [])
    found = result(workload, [{"[\n 2\n]": (lane(), Figure(1 / 3 * 1e6, "records/s"))}] * 2)
    found.add(lane(), {"latency": Latencies([at / 3e6 for at in range(1, 50_001)])})
    made_ = made(found)
    document.save(tmp_path / "report.json", made_)
    text = (tmp_path / "report.json").read_text()
    assert "[333333.0, 333333.0]" in text
    assert len(text) < 12_000
    assert document.load(tmp_path / "report.json") == json.loads(json.dumps(made_))
    shares = [share for share, _ in made_["workloads"][0]["latencies"]["latency"]["curve"]]
    assert shares == sorted(set(shares)), "rounding leaves the tail apart"


# ---- the README


def test_headlines_are_of_workloads_that_there_are() -> None:
    titles = {workload.title for workload in WORKLOADS}
    assert {headline.title for headline in HEADLINES} <= titles


def test_a_headline_is_told_with_its_neighbours() -> None:
    (told,) = story(made())
    assert told.figure == ("100 k", "records/s")
    assert [(each.name, round(each.ratio, 2), each.weaker) for each in told.neighbours] == [
        ("bare loop", 0.67, "limit"),
        ("lmdb", 2.0, ""),
        ("moto", 100.0, "in memory"),
    ]


def repository(tmp_path: Path) -> tuple[Path, Path]:
    """A README without a table, and results."""
    text = tmp_path / "README.md"
    text.write_text(f"before\n\n{readme.BEGIN}\n{readme.END}\n\nafter\n")
    (tmp_path / "results").mkdir()
    document.save(tmp_path / "results" / "full.json", made())
    return text, tmp_path / "results" / "full.json"


@drawn
def test_the_readme_says_what_the_results_say_until_either_is_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, results = repository(tmp_path)
    picture = tmp_path / "results" / readme.PICTURE
    asked = ["--readme", str(text), "--results", str(results)]
    assert readme.main(asked) == 0
    said = text.read_text()
    assert said.startswith("before\n\n")
    assert said.endswith("\n\nafter\n")
    assert "| append, 500 x 1 KiB a batch | 100 k records/s | 2 x LMDB |" in said, "others are on the page"
    assert 'src="results/throughput.svg"' in said
    assert "1.23 M events held against their guarantees, 0 violations" in said
    assert readme.main([*asked, "--check"]) == 0
    before = text.read_text(), picture.read_text()
    assert readme.main(asked) == 0
    assert (text.read_text(), picture.read_text()) == before, "once more is the same"
    capsys.readouterr()

    text.write_text(said.replace("100 k records/s |", "200 k records/s |"))
    assert readme.main([*asked, "--check"]) == 1
    assert "the README's table is not what the results say; python -m benchmarks readme" in capsys.readouterr().err
    text.write_text(said)
    picture.write_text(before[1].replace("LMDB 50 k", "LMDB 5 k"))
    assert readme.main([*asked, "--check"]) == 1
    assert "the README's picture is not what the results say" in capsys.readouterr().err


@drawn
def test_the_readmes_picture_is_one_file_for_bright_and_dark() -> None:
    text = readme.picture(made())
    found = Read(text)
    assert found.tags[:4] == ["svg", "title", "desc", "style"]
    assert "streamkit 100 k; LMDB 50 k" in found.text
    assert "moto" not in found.text, "who does not sync is not in it"
    assert "prefers-color-scheme:dark" in text
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--\w+):", text))


def test_a_readme_without_a_place_for_it_or_results_without_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, results = repository(tmp_path)
    asked = ["--readme", str(text), "--results", str(results), "--check"]
    (tmp_path / "results" / readme.PICTURE).touch()
    text.write_text("nothing")
    assert readme.main(asked) == 1
    assert "the README has no place for the table" in capsys.readouterr().err
    document.save(results, made(scaling()))
    assert readme.main(asked) == 1
    assert "none of the README's figures" in capsys.readouterr().err
    results.unlink()
    assert readme.main(asked) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_repositorys_readme_is_what_the_kept_results_say() -> None:
    assert readme.main(["--check"]) == 0
    assert readme.RESULTS.stat().st_size < 400_000
