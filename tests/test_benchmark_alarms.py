"""Alarms are measured only if each was in the state that it should be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measure import Setting, WrongResultError
from benchmarks.workloads.alarms import ALARMS
from streamkit.alarms.evaluate import Reading
from streamkit.alarms.watcher import AlarmWatcher

(WORKLOAD,) = ALARMS


@pytest.mark.parametrize("lane", range(len(WORKLOAD.lanes)))
async def test_alarms_that_do_not_change_have_no_number(
    lane: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all but the first evaluations were left out."""
    evaluated = AlarmWatcher._evaluated
    monkeypatch.setattr(
        AlarmWatcher,
        "_evaluated",
        lambda self, reading, now_ms: evaluated(self, reading, now_ms) if self.state != "OK" else None,
    )
    with pytest.raises(WrongResultError, match="alarm-0 is OK and not ALARM, minute 2"):
        await WORKLOAD.lanes[lane].run(Setting(tmp_path, tmp_path, small=True))


async def test_alarms_that_change_too_often_have_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = AlarmWatcher._evaluated

    def flap(self: AlarmWatcher, reading: Reading, now_ms: int) -> None:
        if self.state == "OK":
            self._change("INSUFFICIENT_DATA", "", None, now_ms)
            self._by_hand = True
        evaluated(self, reading, now_ms)

    monkeypatch.setattr(AlarmWatcher, "_evaluated", flap)
    with pytest.raises(WrongResultError, match="too often"):
        await WORKLOAD.lanes[1].run(Setting(tmp_path, tmp_path, small=True))
