from __future__ import annotations

import json
from pathlib import Path

import pytest

import streamkit
from streamkit import Kit
from streamkit.alarms.actions import Attempts, Trying
from streamkit.alarms.alarm import Alarm
from streamkit.alarms.transition import AlarmTransition
from streamkit.backoff import Retry
from streamkit.cli.main import main
from streamkit.metrics.metric import Metric
from tests.cli.calling import call_aside as run

METRIC = Metric.of("n", "m")


def alarm(name: str) -> Alarm:
    # A day is not over before the test is.
    return Alarm(
        name,
        metric=METRIC,
        statistic="Sum",
        period=86_400,
        threshold=0,
        comparison="GreaterThanThreshold",
        treat_missing_data="notBreaching",
    )


async def fill(kit: Kit) -> None:
    for name in ("web-errors", "web-latency", "db"):
        await kit.start(alarm(name), on_alarm=print).wait_for("OK")
    kit.alarms.set_state("web-errors", "ALARM", "5 of 5 \x1b[31mrequests\nfailed")
    kit.alarms.set_state("web-latency", "INSUFFICIENT_DATA", "nobody knows")


async def make(directory: Path) -> None:
    async with streamkit.open(directory) as kit:
        await fill(kit)


async def test_a_table_of_all(tmp_path: Path) -> None:
    await make(tmp_path)
    done = run("alarms", str(tmp_path), "--text")
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == ["NAME", "STATE", "SINCE", "REASON"]
    assert [line.split()[:2] for line in lines] == [
        ["db", "OK"],
        ["web-errors", "ALARM"],
        ["web-latency", "INSUFFICIENT_DATA"],
    ]
    assert lines[1].endswith("5 of 5 \\u001b[31mrequests\\u000afailed")
    # Columns begin at one place.
    assert {line.index(state) for line, state in zip(lines, ("OK", "ALARM", "INSUF"), strict=True)} == {
        head.index("STATE")
    }


async def test_what_is_left_to_do_and_what_was_switched_by_hand_is_said(tmp_path: Path) -> None:
    def fails(change: AlarmTransition) -> None:
        raise OSError("nobody is there")

    async with streamkit.open(tmp_path) as kit:
        await kit.start(alarm("quiet")).wait_for("OK")
        kit.alarms.disable_actions("quiet")
        late = Trying(fails, Attempts(retry=Retry(first=600, longest=600, jitter=False)))
        await kit.start(alarm("web"), on_alarm=late).wait_for("OK")
        kit.alarms.set_state("web", "ALARM", "down")
    quiet, web = run("alarms", str(tmp_path), "--text").out.splitlines()[1:]
    assert quiet.endswith("(its actions were disabled by hand)")
    assert web.endswith("down (actions for a change are still to be called)")
    history = run("alarms", str(tmp_path), "--history", "quiet", "--text").out
    assert "  its actions were disabled by hand\n" in history


async def test_also_while_its_process_runs(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path) as kit:
        await fill(kit)
        await kit.alarms.history()
        done = run("alarms", str(tmp_path), "--state", "ALARM")
    assert (done.code, done.err) == (0, "")
    assert "web-errors" in done.out
    assert "db" not in done.out


async def test_filters_and_exit_codes(tmp_path: Path) -> None:
    await make(tmp_path)
    done = run("alarms", str(tmp_path), "--prefix", "web", "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0
    assert [(each["AlarmName"], each["StateValue"]) for each in found] == [
        ("web-errors", "ALARM"),
        ("web-latency", "INSUFFICIENT_DATA"),
    ]
    assert found[0]["StateReason"] == "5 of 5 \x1b[31mrequests\nfailed"
    assert found[0]["Configuration"]["threshold"] == 0
    assert found[0]["StateTransitionedTimestamp"].endswith("Z")
    assert run("alarms", str(tmp_path), "--fail-on-alarm").code == 1
    assert run("alarms", str(tmp_path), "--fail-on-alarm", "--json").code == 1
    assert run("alarms", str(tmp_path), "--fail-on-alarm", "--prefix", "db").code == 0
    done = run("alarms", str(tmp_path), "--prefix", "nothing", "--text")
    assert (done.code, done.out) == (
        0,
        "no alarm is like that: there are 3: db, web-errors, web-latency\n",
    )
    assert run("alarms", str(tmp_path), "--prefix", "nothing", "--json").out == ""


async def test_the_history_of_one(tmp_path: Path) -> None:
    await make(tmp_path)
    done = run("alarms", str(tmp_path), "--history", "web-errors", "--text")
    assert done.code == 0, done.err
    said = done.out.splitlines()
    assert "Action               Successfully executed action builtins.print" in said[0]
    assert "StateUpdate          Alarm updated from OK to ALARM" in said[1]
    assert said[2] == "  5 of 5 \\u001b[31mrequests\\u000afailed"
    assert said[-1].endswith('ConfigurationUpdate  Alarm "web-errors" created')
    said = run("alarms", str(tmp_path), "--history", "web-errors", "--json").out.splitlines()
    found = [json.loads(line) for line in said]
    assert [item["HistoryItemType"] for item in found] == [
        *("Action", "StateUpdate", "StateUpdate", "ConfigurationUpdate")
    ]
    assert found[1]["HistoryData"]["newState"]["stateValue"] == "ALARM"
    assert run("alarms", str(tmp_path), "--history", "web-errors", "--fail-on-alarm").code == 1
    assert run("alarms", str(tmp_path), "--history", "db", "--fail-on-alarm").code == 0


async def test_the_history_of_one_that_was_deleted(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path) as kit:
        await fill(kit)
        await kit.alarms.history()
        await kit.alarms.delete("db")
    done = run("alarms", str(tmp_path), "--history", "db", "--text")
    assert 'Alarm "db" deleted' in done.out.splitlines()[0]
    assert "db" not in run("alarms", str(tmp_path), "--text").out


async def test_what_cannot_be_done_is_one_line(tmp_path: Path) -> None:
    await make(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        (("nothing",), "nothing"),
        (("empty",), "empty"),
        (("data", "--history", "cache"), "there is no alarm 'cache' and no history of one: there are 3: db"),
        (("data", "--history", "db", "--state", "OK"), "leave --state and --prefix out"),
    ):
        done = run("alarms", str(tmp_path / arguments[0]), *arguments[1:])
        assert (done.code, done.out) == (2, "")
        assert says in done.err
        assert done.err.count("\n") == 1


async def test_a_directory_without_alarms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with streamkit.open(tmp_path / "what?mode=rw") as kit:
        await kit.create_queue("emails")
    done = run("alarms", str(tmp_path / "what?mode=rw"), "--fail-on-alarm", "--text")
    assert (done.code, done.out[:25]) == (0, "there are no alarms here:")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["alarms", "--help"])
    assert ended.value.code == 0
    assert "example: streamkit alarms ./data --state ALARM" in capsys.readouterr().out
