"""The main job, against a truth that is derived without the library: csv and a loop."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamkit.demo.flights import shipped

Figures = dict[str, Any]


def truth(text: str) -> Figures:
    """What the demo must find, by other means."""
    carriers: dict[str, dict[str, int]] = {}
    rebooked = dead = 0
    for row in csv.DictReader(io.StringIO(text)):
        carrier = carriers.setdefault(row["carrier"], {"flights": 0, "cancelled": 0, "late": 0, "delay_minutes": 0})
        carrier["flights"] += 1
        if row["dep_time"] == "NA":
            carrier["cancelled"] += 1
            if row["tailnum"] == "NA":
                dead += 1
            else:
                rebooked += 1
        if row["dep_delay"] != "NA":
            carrier["delay_minutes"] += int(row["dep_delay"])
            if int(row["dep_delay"]) >= 60:
                carrier["late"] += 1
    return {
        "flights": sum(carrier["flights"] for carrier in carriers.values()),
        "late": sum(carrier["late"] for carrier in carriers.values()),
        "cancelled": sum(carrier["cancelled"] for carrier in carriers.values()),
        "rebooked": rebooked,
        "dead_lettered": dead,
        "alarm_state": "ALARM" if dead > 100 else "OK",
        "order_violations": 0,
        "carriers": carriers,
    }


@pytest.fixture(scope="module")
def january() -> str:
    return gzip.decompress(shipped().read_bytes()).decode()


@pytest.fixture(scope="module")
def some_days(january: str) -> str:
    """A tenth of January."""
    lines = january.splitlines(keepends=True)
    return "".join([lines[0], *lines[1::10]])


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "streamkit", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def figures(directory: Path, *arguments: str | Path) -> Figures:
    path = directory / "figures.json"
    path.unlink(missing_ok=True)
    done = demo("--json", path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found: Figures = json.loads(path.read_text())
    return found


def test_january(tmp_path: Path, january: str) -> None:
    expected = truth(january)
    assert (expected["flights"], expected["late"], expected["cancelled"]) == (27_004, 1_852, 521)
    assert (expected["rebooked"], expected["dead_lettered"]) == (366, 155)
    assert figures(tmp_path) == expected


def test_another_file_and_what_is_printed(tmp_path: Path, some_days: str) -> None:
    data = tmp_path / "days.csv"
    data.write_text(some_days)
    expected = truth(some_days)
    assert expected["alarm_state"] == "OK"
    assert figures(tmp_path, "--data", data, "--dir", tmp_path / "data") == expected
    again = demo("--data", data, "--dir", tmp_path / "data", "--text")
    assert again.returncode == 0
    assert f"{expected['flights']:,} rows put, {expected['flights']:,} of them by an earlier run" in again.stdout
    assert "everything adds up" in again.stdout
    assert "fsync: every record synced to disk before it was acknowledged" in again.stdout


def test_malformed_rows_are_reported_set_aside_and_accounted_for(tmp_path: Path, some_days: str) -> None:
    lines = some_days.splitlines(keepends=True)
    lines[100:100] = ["this is no departure\n"]
    lines[200:200] = [lines[200].replace("2013", "MMXIII")]
    data = tmp_path / "days.csv"
    data.write_text("".join(lines))
    done = demo("--data", data, "--json", tmp_path / "figures.json", "--text")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "figures.json").read_text()) == truth(some_days)
    assert "days.csv line 101 is malformed and set aside: 1 fields where the header has 19" in done.stdout
    assert "days.csv line 201 is malformed and set aside: year is 'MMXIII' and not a whole number" in done.stdout
    assert "2 malformed" in done.stdout


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    done = demo("--data", tmp_path / "gone.csv")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pass --data" in done.stderr


def test_a_file_that_is_no_departures_is_one_sentence(tmp_path: Path) -> None:
    data = tmp_path / "other.csv"
    data.write_text("a,b\n1,2\n")
    done = demo("--data", data)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no column 'year'" in done.stderr


def test_a_directory_of_another_file_is_refused(tmp_path: Path, some_days: str) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(some_days)
    second.write_text(some_days + some_days.splitlines(keepends=True)[1])
    figures(tmp_path, "--data", first, "--dir", tmp_path / "data")
    done = demo("--data", second, "--dir", tmp_path / "data")
    assert done.returncode == 2
    assert "this directory was filled from" in done.stderr


def test_killed_at_random_instants_and_resumed_it_ends_as_if_never_killed(tmp_path: Path, january: str) -> None:
    random_instant = random.Random(20130101)
    command = [sys.executable, "-m", "streamkit", "demo", "--dir", str(tmp_path / "data")]
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                process.wait(timeout=random_instant.uniform(0.3, 3.0))
            except subprocess.TimeoutExpired:
                process.kill()
            else:
                assert process.returncode == 0, process.stderr.read().decode() if process.stderr else ""
    assert figures(tmp_path, "--dir", tmp_path / "data") == truth(january)
