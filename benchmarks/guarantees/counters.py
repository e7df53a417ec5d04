"""A mapping that counts records into a table, exactly once, and the lane in which it does so under load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from random import Random

from benchmarks.figures import Checked
from benchmarks.guarantees.counts import Count, compare
from benchmarks.guarantees.findings import Findings
from benchmarks.guarantees.scenes import beside, everything, place_of, put_batches, reshard, together
from benchmarks.guarantees.streams import seed
from benchmarks.measure import Setting
from benchmarks.store import open_store
from benchmarks.stream import NAME, SHARDS
from streamkit import EventSourceMapping, Record, Stream, Table, Update, each

TABLE = "counters"
_TASKS = 8


@each
async def counted(record: Record[bytes]) -> Update:
    """What a record adds to the counter of its key."""
    place = place_of(record.data)
    return Update(key={"key": record.partition_key}, add={"seen": 1, "places": place, "squares": place * place})


def mapping(stream: Stream[bytes], table: Table) -> EventSourceMapping:
    """Counts all records of a stream."""
    return EventSourceMapping("counting", source=stream, function=counted, sink=table, batch_size=500)


async def compared(findings: Findings, table: Table, there: Iterable[tuple[str, int, str, int]]) -> None:
    """Hold the table's counters against the stream's records: (shard, number, key, place)."""
    records: dict[str, list[int]] = defaultdict(list)
    for _, _, key, place in there:
        records[key].append(place)
    counters = {
        str(item["key"]): Count(int(item["seen"]), int(item["places"]), int(item["squares"]))
        async for item in table.scan()
    }
    compare(findings, counters, records)


async def exactly_once(setting: Setting) -> Mapping[str, Checked]:
    """Records are counted while they are put, and while shards split and merge."""
    drawn = seed()
    findings = Findings()
    batches = setting.sized(100, 4)

    def tell(*_: object) -> None:
        """What was put is in the stream; nothing else is asked here."""

    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes)
        table = await kit.create_table(TABLE, partition_key="key")
        service = kit.start(mapping(stream, table))
        async with beside(reshard(stream, Random(f"{drawn}-reshard"), 0.2)):
            await together(
                *(
                    put_batches(
                        stream, tell, [f"{task}/{at}" for at in range(16)], Random(f"{drawn}-{task}"), {}, batches
                    )
                    for task in range(_TASKS)
                )
            )
        await service.wait_caught_up()
    async with open_store(setting) as kit:
        _, there = await everything(kit.stream(NAME, type=bytes))
        await compared(findings, kit.table(TABLE), there)
    if len(there) != (wanted := _TASKS * 50 * batches):
        findings.wrong(f"the stream has {len(there)} records, and {wanted} were acknowledged", abs(len(there) - wanted))
    return {"counters": findings.checked("exactly-once counters", "load, splits and merges", drawn)}
