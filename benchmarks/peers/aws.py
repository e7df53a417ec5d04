"""What speaks AWS's protocols on this machine: Kinesis as a log, SQS as a queue, called as fast as can be.

With aiohttp and msgspec, over connections that stay open, and with a signature that nobody checks: an SDK would sign
and validate each call and make dicts of the answers, and what that takes would be counted as the peer's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from benchmarks.figures import verify
from benchmarks.order import Pair
from benchmarks.peers.peer import SHARDS, BatchQueue, Delivery, Log

PACKAGES = "pip install 'streamkit[bench,bench-aws]'"
USE = (
    "Called over HTTP by aiohttp and msgspec, on connections that stay open, with a signature that nobody checks: an "
    "SDK would take longer."
)
_NAME = "jobs"
_STREAM = {"StreamName": _NAME}
_PAGE = 10_000
CONNECTIONS = 32
_KINESIS = "Kinesis_20131202"
_SQS = "AmazonSQS"
_FORMATS = {_KINESIS: "application/x-amz-json-1.1", _SQS: "application/x-amz-json-1.0"}
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"

Call = Callable[[str, Any], Any]
"""Of an action with what it is asked: awaited, the body of its answer."""


class _Record(msgspec.Struct):
    PartitionKey: str
    Data: bytes


class _Records(msgspec.Struct):
    Records: list[_Record]
    NextShardIterator: str | None = None


_decode_records = msgspec.json.Decoder(_Records).decode


@asynccontextmanager
async def _calls(port: int, target: str, connections: int) -> AsyncIterator[Call]:
    """How a service of a server is called."""
    import aiohttp

    headers = {
        "Content-Type": _FORMATS[target],
        "Authorization": _SIGNED.format("kinesis" if target == _KINESIS else "sqs"),
        "X-Amz-Date": "20260101T000000Z",
    }
    encode = msgspec.json.Encoder().encode
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, headers=headers) as session:

        async def call(action: str, asked: Any) -> bytes:
            async with session.post("/", data=encode(asked), headers={"X-Amz-Target": f"{target}.{action}"}) as answer:
                said: bytes = await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{action} was answered with {answer.status}: {said[:300]!r}")
                return said

        yield call


class _KinesisLog:
    """A stream of four shards; which one a key belongs to is known to the server."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def append(self, batch: Sequence[Pair]) -> None:
        records = [{"PartitionKey": key, "Data": data} for key, data in batch]
        said = msgspec.json.decode(await self._call("PutRecords", {**_STREAM, "Records": records}))
        verify(said["FailedRecordCount"] == 0, "a record of a batch was refused")

    async def put(self, key: str, data: bytes) -> None:
        await self._call("PutRecord", {**_STREAM, "PartitionKey": key, "Data": data})

    async def read(self) -> Sequence[Any]:
        found: list[_Record] = []
        for shard in msgspec.json.decode(await self._call("ListShards", _STREAM))["Shards"]:
            asked = {**_STREAM, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = msgspec.json.decode(await self._call("GetShardIterator", asked))["ShardIterator"]
            while iterator:
                page = _decode_records(await self._call("GetRecords", {"ShardIterator": iterator, "Limit": _PAGE}))
                if not page.Records:
                    break
                found += page.Records
                iterator = page.NextShardIterator
        return found

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return ((record.PartitionKey, record.Data) for record in raw)


class _SqsQueue:
    """A standard queue with its own visibility timeout, 30 s."""

    def __init__(self, call: Call, url: str) -> None:
        self._call = call
        self._queue = {"QueueUrl": url}

    async def send(self, data: bytes) -> None:
        await self._call("SendMessage", {**self._queue, "MessageBody": data.decode()})

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        await self._batch("SendMessageBatch", [{"MessageBody": data.decode()} for data in batch])

    async def receive(self, most: int) -> Sequence[Delivery]:
        said = msgspec.json.decode(await self._call("ReceiveMessage", {**self._queue, "MaxNumberOfMessages": most}))
        return [(message["ReceiptHandle"], message["Body"].encode()) for message in said.get("Messages", ())]

    async def delete(self, handles: Sequence[Any]) -> None:
        if len(handles) == 1:
            await self._call("DeleteMessage", {**self._queue, "ReceiptHandle": handles[0]})
        else:
            await self._batch("DeleteMessageBatch", [{"ReceiptHandle": handle} for handle in handles])

    async def left(self) -> int:
        said = msgspec.json.decode(await self._call("GetQueueAttributes", {**self._queue, "AttributeNames": ["All"]}))
        return sum(int(said["Attributes"][f"ApproximateNumberOfMessages{which}"]) for which in ("", "NotVisible"))

    async def _batch(self, action: str, entries: Sequence[dict[str, str]]) -> None:
        numbered = [{"Id": str(place), **entry} for place, entry in enumerate(entries)]
        said = msgspec.json.decode(await self._call(action, {**self._queue, "Entries": numbered}))
        verify(not said.get("Failed"), f"a message of a {action} was refused")


@asynccontextmanager
async def kinesis(serving: AbstractAsyncContextManager[int], connections: int = CONNECTIONS) -> AsyncIterator[Log]:
    """The stream on a server, made if it is not there, as long as the server runs; ``serving`` gives its port."""
    async with serving as port, _calls(port, _KINESIS, connections) as call:
        if _NAME not in msgspec.json.decode(await call("ListStreams", {}))["StreamNames"]:
            await call("CreateStream", {**_STREAM, "ShardCount": SHARDS})
        while b'"ACTIVE"' not in await call("DescribeStreamSummary", _STREAM):
            pass
        yield _KinesisLog(call)


@asynccontextmanager
async def sqs(serving: AbstractAsyncContextManager[int], connections: int = CONNECTIONS) -> AsyncIterator[BatchQueue]:
    """The queue on a server, made if it is not there, as long as the server runs; ``serving`` gives its port."""
    async with serving as port, _calls(port, _SQS, connections) as call:
        url = msgspec.json.decode(await call("CreateQueue", {"QueueName": _NAME}))["QueueUrl"]
        yield _SqsQueue(call, url)
