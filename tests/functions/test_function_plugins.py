"""Functions published by other packages: distributions made in a directory on ``sys.path``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import streamkit
from streamkit import EventSourceMapping
from streamkit.errors import ValidationError
from streamkit.functions.function import Each
from streamkit.functions.lambda_handler import LambdaHandler
from streamkit.functions.plugins import function_named
from streamkit.testing.clock import ManualClock

SOURCE = """
from streamkit import Put, each
from streamkit.functions.lambda_handler import lambda_handler

@each
async def keep(record):
    return Put({"id": record.sequence_number, "value": record.value}) if record.value % 2 == 0 else None

def bare(event, context):
    return None

wrapped = lambda_handler(bare, function_name="bare")
number = 42
"""

Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """Installs a package as pip would: a module and a ``.dist-info`` beside it."""
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def publish(package: str, **functions: str) -> None:
        module = package.replace("-", "_")
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(SOURCE)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in functions.items()]
        (info / "entry_points.txt").write_text("\n".join(["[streamkit.functions]", *lines]))

    yield publish
    for module in modules:
        sys.modules.pop(module, None)


def test_a_published_function_is_found_by_its_name(publish: Publish) -> None:
    publish("shop-orders", keep_even="shop_orders:keep", handler="shop_orders:wrapped")
    function = function_named("keep-even")
    assert isinstance(function, Each)
    assert function.__name__ == "keep"
    assert isinstance(function_named("handler", package="shop-orders"), LambdaHandler)


async def test_a_published_function_in_a_mapping(publish: Publish, clock: ManualClock) -> None:
    publish("shop-orders", keep_even="shop_orders:keep")
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("numbers")
        table = await kit.create_table("even", partition_key="id")
        await stream.put_batch([("k", n) for n in range(10)])
        mapping = kit.start(EventSourceMapping("m", source=stream, function=function_named("keep-even"), sink=table))
        await mapping.wait_caught_up()
        assert sorted([item["value"] async for item in table.scan()]) == [0, 2, 4, 6, 8]


def test_an_unknown_name_lists_what_there_is(publish: Publish) -> None:
    with pytest.raises(ValidationError, match=r"no function 'keep' is published: .*there are: none"):
        function_named("keep")
    publish("shop-orders", keep_even="shop_orders:keep", handler="shop_orders:wrapped")
    with pytest.raises(ValidationError, match=r"there are: handler \(shop-orders\), keep-even \(shop-orders\)"):
        function_named("keep")
    with pytest.raises(ValidationError, match="no function 'handler' is published by 'other'"):
        function_named("handler", package="other")


def test_a_name_that_two_packages_publish_needs_the_package(publish: Publish) -> None:
    publish("first-one", keep="first_one:keep")
    publish("second-one", keep="second_one:keep")
    with pytest.raises(ValidationError, match="more than once, by first-one, second-one: pass package="):
        function_named("keep")
    function = function_named("keep", package="second-one")
    assert isinstance(function, Each)
    assert function.function.__module__ == "second_one"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("shop_orders:missing", "published by shop-orders as shop_orders:missing, which cannot be imported"),
        ("no_such_module:keep", "which cannot be imported: No module named 'no_such_module'"),
        ("shop_orders:number", r"'broken' of shop-orders \(shop_orders:number\): a mapping needs a function"),
        ("shop_orders:bare", r"shop_orders:bare\): bare takes two arguments: .* say lambda_handler\(bare\)"),
    ],
)
def test_what_is_published_wrongly_is_said(publish: Publish, value: str, message: str) -> None:
    publish("shop-orders", broken=value)
    with pytest.raises(ValidationError, match=message):
        function_named("broken")
