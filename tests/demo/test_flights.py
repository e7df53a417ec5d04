from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from streamkit import ValidationError
from streamkit.demo.flights import fingerprint, partition_key, rows, shipped

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour"
)
GOOD = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_the_shipped_file_has_january() -> None:
    assert sum(1 for _ in rows(shipped())) == 27_004


def test_a_row_is_read_with_its_line_number_and_na_as_missing(tmp_path: Path) -> None:
    cancelled = GOOD.replace("517", "NA").replace(",2,", ",NA,").replace("N14228", "NA")
    first, second = rows(write(tmp_path / "f.csv", GOOD, cancelled))
    assert (first["line"], first["dep_time"], first["dep_delay"], first["tailnum"]) == (2, 517, 2, "N14228")
    assert (second["line"], second["dep_time"], second["dep_delay"], second["tailnum"]) == (3, None, None, None)
    assert partition_key(first) == "N14228"
    assert partition_key(second) == "UA1545"


def test_gzip_is_told_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "flights.data"
    path.write_bytes(gzip.compress(write(tmp_path / "f.csv", GOOD).read_bytes()))
    assert [row["flight"] for row in rows(path)] == [1545]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not,a,departure", "3 fields where the header has 19"),
        (GOOD.replace("517", "five"), "dep_time is 'five' and not a whole number"),
        (GOOD.replace("517", "5.5"), "dep_time is '5.5' and not a whole number"),
        (GOOD.replace("517", "inf"), "dep_time is 'inf' and not a whole number"),
        (GOOD.replace("UA", "NA"), "carrier is missing"),
        (GOOD.replace(",2,", ",NA,"), "it departed, but dep_delay is missing"),
        (GOOD.replace("EWR", '"EW"R"'), "',' expected after '\"'"),
        (GOOD + ",more", "20 fields where the header has 19"),
    ],
)
def test_a_malformed_row_says_why_and_the_rest_goes_on(tmp_path: Path, line: str, reason: str) -> None:
    first, bad, last = rows(write(tmp_path / "f.csv", GOOD, line, GOOD))
    assert bad == {"line": 3, "malformed": reason, "row": line}
    assert first["flight"] == last["flight"] == 1545
    assert partition_key(bad) == "line 3"


def test_an_unclosed_quote_spoils_one_row_only(tmp_path: Path) -> None:
    _, bad, last = rows(write(tmp_path / "f.csv", GOOD, GOOD.replace("EWR", '"EWR'), GOOD))
    assert "malformed" in bad
    assert last["line"] == 4


def test_bytes_that_are_not_utf_8_are_malformed(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", GOOD)
    path.write_bytes(path.read_bytes() + GOOD.encode().replace(b"EWR", b"\xff\xfe") + b"\n")
    assert [row.get("malformed") for row in rows(path)] == [None, "it is not UTF-8"]


def test_whole_numbers_written_as_floats_are_numbers(tmp_path: Path) -> None:
    (row,) = rows(write(tmp_path / "f.csv", GOOD.replace("517", "517.0")))
    assert row["dep_time"] == 517


def test_columns_may_come_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    names, values = HEADER.split(","), GOOD.split(",")
    path.write_text(",".join(reversed(names)) + "\r\n" + ",".join(reversed(values)) + "\r\n\r\n")
    (row,) = rows(path)
    assert (row["carrier"], row["dep_time"], row["time_hour"]) == ("UA", 517, "2013-01-01T10:00:00Z")


def test_a_missing_file_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"cannot read .*gone\.csv .*: pass --data"):
        fingerprint(tmp_path / "gone.csv")


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValidationError, match="has no column 'year' in its first line: pass --data"):
        list(rows(path))


@pytest.mark.parametrize("keep", [5, 40])
def test_a_truncated_gzip_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "\n" + GOOD + "\n").encode())[:keep])
    with pytest.raises(ValidationError, match=r"is not a readable \.csv or \.csv\.gz file"):
        list(rows(path))
