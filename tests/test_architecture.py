"""Holds the house: who may import whom, and what a room looks like (docs/architecture.md).

``violations`` looks at sources only, so that it can be shown planted faults (``test_a_planted_fault_is_found``).
Imports within functions and under TYPE_CHECKING count like all others.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import streamkit

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "streamkit"

GROUND = ("errors", "limits", "clock", "backoff", "service", "words", "logs", "trace_context", "spans", "showing")
PORTS = ("streams.store", "queues.store", "tables.store", "functions.effects", "functions.sink")
PURE = (
    *("streams.record", "streams.keyspace", "streams.shard", "streams.state", "streams.reshard", "streams.throughput"),
    "streams.record_attributes",
    *("queues.message", "queues.attributes", "queues.content", "queues.stored", "queues.order", "queues.groups"),
    *("queues.deduplication", "queues.attempts", "queues.receipt", "queues.visibility"),
    *("queues.backlog", "queues.window", "queues.ages", "queues.deliveries", "queues.looking", "queues.settled"),
    "queues.carried",
    *("tables.item", "tables.condition", "tables.write", "tables.transaction", "tables.number", "tables.path"),
    *("tables.transact_get", "tables.idempotency"),
    *("tables.attributes", "tables.index", "tables.feed", "tables.ttl", "tables.size", "tables.capacity"),
    *("metrics.math_tokens", "metrics.math_parser", "metrics.math_series", "metrics.math_functions"),
    *("metrics.math_kinds", "metrics.expression", "metrics.math_query"),
    *("metrics.unit", "metrics.statistic_set", "metrics.statistic", "metrics.distribution", "metrics.samples"),
    *("metrics.periods", "metrics.datum", "metrics.buckets", "metrics.series", "metrics.forgetting", "metrics.rows"),
)
SERVICES = (*GROUND, "codecs", "metrics", "monitoring", "alarms", "tables", "queues", "streams", "functions")
ENGINE = (*GROUND, *PORTS, *PURE, "engines.base")

TABLES_FOR_ALARMS = ("tables.store", "tables.item", "tables.write", "tables.attributes", "tables.index")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(GROUND, GROUND),
    "codecs": GROUND,
    "metrics": (*GROUND, "codecs"),
    "tables": (*GROUND, "codecs", "metrics"),
    "queues": (*GROUND, "codecs", "metrics"),
    "alarms": (*GROUND, "codecs", "metrics", *TABLES_FOR_ALARMS),
    "monitoring": (*GROUND, "codecs", "metrics", "tables.store", "tables.attributes", "tables.item", "tables.write"),
    "streams": (*GROUND, "codecs", "metrics", "tables.store", "tables.item", "tables.condition", "tables.write"),
    "functions": (*GROUND, "codecs", "metrics", "streams", "queues", "tables"),
    "engines": (),
    "engines.base": (*GROUND, *PORTS),
    "engines.embedded": ENGINE,
    "engines.memory": (*ENGINE, "engines.embedded"),
    "engines.file": (*ENGINE, "engines.embedded"),
    "engines.registry": (*GROUND, "engines"),
    "recording": (*GROUND, "codecs", "streams"),
    "supervisor": SERVICES,
    "starting": (*SERVICES, "engines", "supervisor"),
    "creating": (*SERVICES, "engines"),
    "transactions": (*SERVICES, "engines"),
    "overview": (*SERVICES, "engines.base", "supervisor"),
    "kit": (*SERVICES, "engines", "overview", "supervisor", "starting", "creating", "transactions"),
    "opening": (*GROUND, "engines", "kit", "creating", "tables.item"),
    "streamkit": (*SERVICES, "kit", "opening"),
    "testing": (*SERVICES, "engines", "supervisor", "kit", "opening"),
    "demo": ("streamkit",),
    "dashboard": (*SERVICES, "engines", "kit", "opening", "overview"),
    "tracing": (*SERVICES, "kit"),
    "cli": (*SERVICES, "engines", "kit", "opening", "overview", "dashboard", "supervisor", "streamkit", "demo"),
    "__main__": ("cli",),
}
"""By the longest name that fits. A room may always import itself; a name stands for all that is in it."""

THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "msgspec": tuple(MAY_IMPORT),
    "anyio": (
        "service",
        "alarms",
        "queues",
        "streams",
        "functions",
        "recording",
        "supervisor",
        "kit",
        "testing",
        "dashboard.tail",
        "demo",
        "cli",
    ),
    "prometheus_client": ("metrics.prometheus",),
    # The doctor asks whether it is the fast one.
    "google_crc32c": ("engines.file", "cli.checks"),
    "rich": ("demo",),
    "shtab": ("cli.completion",),
    "watchfiles": ("cli.reloading",),
    "sqlite3": ("engines.file",),
    "pyarrow": ("functions.parquet", "showing.arrow"),
    "pandas": ("showing.arrow",),
    "polars": ("showing.arrow",),
    "IPython": ("showing.progress",),
    "opentelemetry": ("tracing",),
    "pytest": ("testing",),
    "pytest_asyncio": ("testing.plugin",),
    "starlette": ("dashboard.app", "dashboard.tail"),
    "uvicorn": ("dashboard.serving",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}
"""Where each may be used; anything else must be of the standard library."""

FORBIDDEN_CALLS: dict[str, tuple[str, ...]] = {
    "eval": (),
    # What comes from users is in its source as literals of strings alone.
    "exec": ("functions.pattern_direct",),
    "os.getenv": ("cli",),
    "os.environ.get": ("cli",),
    "asyncio.sleep": ("clock",),
    "anyio.sleep": ("demo",),
    "time.sleep": (),
    "time.time": ("clock",),
    "datetime.now": ("clock",),
    "datetime.utcnow": (),
}
"""Calls that have a room of their own, or none."""

MOST_LINES = 400
MOST_NAMES = 40
MOST_METHODS = 11
SAYS_NOTHING = ("Manager", "Helper", "Helpers", "Util", "Utils", "Base")

_FACE = """
Alarm AlreadyExistsError Batch Batching Check ConditionFailedError Consumer Delete EventSourceMapping Item Kit
LeaseLostError Leasing Limits Message Metric NotFoundError Pattern Producer Put Queue Record RedrivePolicy Retry Send
Service SortKeyRange Stop StorageError Stream StreamKitError Table TransactionCanceledError Update ValidationError
Worker attribute each errors open
"""
FACE = sorted(_FACE.split())
"""What users may import from ``streamkit``. Adding a name is a decision: make it here too."""


# ---- the checker


def violations(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with these modules, given by their names and sources."""
    trees = {module: ast.parse(source) for module, source in sources.items()}
    graph = {module: set(_imports(tree, trees)) for module, tree in trees.items()}
    found: list[str] = []
    for module, tree in trees.items():
        if not _room(module):
            found.append(f"{module} has no room: give it one in MAY_IMPORT and in docs/architecture.md")
        for imported in sorted(graph[module]):
            found.extend(_wrong_import(module, imported))
        found.extend(f"{module} {fault}" for fault in _faults(module, tree, sources[module]))
    try:
        TopologicalSorter({module: graph[module] & set(trees) for module in trees}).prepare()
    except CycleError as error:
        found.append(f"imports go in a circle: {' <- '.join(error.args[1])}")
    return found


def _imports(tree: ast.Module, modules: Mapping[str, object]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                # `from streamkit import errors` means the module and not the face.
                inner = f"{origin}.{alias.name}"
                yield inner if inner in modules else origin
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("import_module"):
            yield from (str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant))


def _wrong_import(module: str, imported: str) -> Iterator[str]:
    if imported.startswith("."):
        yield f"{module} imports {imported}: use the whole name"
    elif imported.split(".")[0] == "streamkit":
        room = _room(module)
        inner = _inner(imported)
        if _room(imported) != room and not any(_within(inner, allowed) for allowed in MAY_IMPORT.get(room, ())):
            yield f"{module} may not import {imported}"
    else:
        package = imported.split(".")[0]
        if package in THIRD_PARTY:
            if not any(_within(_inner(module), room) for room in THIRD_PARTY[package]):
                yield f"{module} may not use {package}"
        elif package not in sys.stdlib_module_names:
            yield f"{module} uses {package}, which is no dependency"


def _faults(module: str, tree: ast.Module, source: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > MOST_LINES:
        yield f"has {lines} lines: what is it two of?"
    if not module.split(".")[-1].startswith("_") and not (ast.get_docstring(tree) or "").strip():
        yield "has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if node.name.endswith(SAYS_NOTHING):
                yield f"has a class {node.name}: say what it is"
            methods = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
            if _inner(module) in (*PORTS, "engines.base") and len(methods) > MOST_METHODS:
                yield f"has a port {node.name} with {len(methods)} methods"
        elif isinstance(node, ast.Call):
            name = _dotted(node.func)
            rooms = FORBIDDEN_CALLS.get(name)
            # sleep(0) is a turn of the loop, and no time.
            if rooms is not None and not any(_within(_inner(module), room) for room in rooms) and not _is_zero(node):
                yield f"calls {name}"


def _inner(module: str) -> str:
    """The name within the package; the face is called as the package is."""
    return module.removeprefix("streamkit.")


def _within(inner: str, room: str) -> bool:
    return inner == room or inner.startswith(room + ".")


def _room(module: str) -> str:
    inner = _inner(module)
    return max((room for room in MAY_IMPORT if _within(inner, room)), key=len, default="")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


# ---- the house


def sources() -> dict[str, str]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def test_the_house_is_as_it_is_drawn() -> None:
    found = violations(sources())
    assert not found, "\n".join(found)


def test_every_room_of_the_table_is_there() -> None:
    """A rule about nothing protects nothing."""
    modules = {_inner(module) for module in sources()}
    named = {*MAY_IMPORT, *PORTS, *PURE, *(room for rooms in MAY_IMPORT.values() for room in rooms)}
    assert named - modules == set()


def test_every_module_is_on_the_map() -> None:
    drawn = (ROOT / "docs" / "architecture.md").read_text().split("## Plan", 1)[1].split("\n## ", 1)[0]
    words = set(re.findall(r"\w+", drawn))
    # What the contract has is told in its own first lines.
    modules = [module for module in sources() if not module.startswith("streamkit.testing.contract.")]
    missing = [module for module in modules if module.split(".")[-1].strip("_") not in {*words, "main"}]
    assert not missing, f"draw them in docs/architecture.md: {', '.join(missing)}"


def test_the_face_is_pinned() -> None:
    assert sorted(streamkit.__all__) == sorted(FACE)
    assert len(streamkit.__all__) <= MOST_NAMES


def test_every_invariant_names_its_test() -> None:
    tests = [*(ROOT / "tests").rglob("*.py"), *(PACKAGE / "testing").rglob("*.py")]
    defined = {name for path in tests for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert missing_tests(sources(), defined) == []


def missing_tests(modules: Mapping[str, str], defined: set[str]) -> list[str]:
    """The marks whose test is not there, and those that name none."""
    missing: list[str] = []
    for module, source in modules.items():
        for mark in re.findall(r"# INVARIANT:(.*)", source):
            names = re.findall(r"test_\w+", mark)
            missing.extend(f"{module}: {name}" for name in names or ["(none)"] if name not in defined)
    return missing


# ---- the checker itself

PLANTED: dict[str, tuple[dict[str, str], str]] = {
    "upwards": ({"queues.message": "from streamkit.kit import Kit"}, "may not import streamkit.kit"),
    "a module without a room": ({"misc": ""}, "has no room"),
    "upwards for types only": (
        {"tables.item": "import typing as t\nif t.TYPE_CHECKING:\n    from streamkit.streams.stream import S"},
        "may not import streamkit.streams.stream",
    ),
    "upwards in a function": (
        {"metrics.window": "def f():\n    import streamkit.alarms.alarm as a"},
        "may not import streamkit.alarms.alarm",
    ),
    "upwards by name": (
        {"errors": "from importlib import import_module\nimport_module('streamkit.kit')"},
        "may not import streamkit.kit",
    ),
    "a module from the package": (
        {"alarms.alarm": "from streamkit.queues import queue", "queues.queue": ""},
        "may not import streamkit.queues.queue",
    ),
    "more of tables than streams may": (
        {"streams.lease": "from streamkit.tables.table import Table"},
        "may not import streamkit.tables.table",
    ),
    "an engine with a handle": (
        {"engines.file.streams": "from streamkit.streams.producer import Producer"},
        "may not import streamkit.streams.producer",
    ),
    "an engine with another": (
        {"engines.memory": "from streamkit.engines.file.engine import FileEngine"},
        "may not import streamkit.engines.file.engine",
    ),
    "the floor with what stands on it": (
        {"engines.embedded.log": "import streamkit.engines.memory"},
        "may not import streamkit.engines.memory",
    ),
    "the demo behind the face": ({"demo.run": "from streamkit.kit import open"}, "may not import streamkit.kit"),
    "the workshop": (
        {"kit": "from streamkit.testing.clock import ManualClock"},
        "may not import streamkit.testing.clock",
    ),
    "the face within": ({"streams.stream": "from streamkit import Record"}, "may not import streamkit"),
    "a relative import": ({"streams.stream": "from .record import Record"}, "imports .record"),
    "another's library": ({"metrics.window": "import prometheus_client"}, "may not use prometheus_client"),
    "a library within the ground": ({"clock": "from anyio import sleep"}, "may not use anyio"),
    "SQLite outside the file engine": ({"engines.memory": "import sqlite3"}, "may not use sqlite3"),
    "no dependency": ({"cli.main": "import click"}, "uses click"),
    "pickle": ({"codecs": "import pickle"}, "may not use pickle"),
    "eval": ({"functions.pattern": "eval('1')"}, "calls eval"),
    "the environment": ({"kit": "import os\nos.getenv('HOME')"}, "calls os.getenv"),
    "the wall clock": ({"queues.queue": "import time\ntime.time()"}, "calls time.time"),
    "a sleep": ({"queues.worker": "import asyncio\nasync def f(): await asyncio.sleep(0.1)"}, "calls asyncio.sleep"),
    "a circle of three": (
        {
            "streams.a": "import streamkit.streams.b",
            "streams.b": "def f():\n    from streamkit.streams import c",
            "streams.c": "from streamkit.streams.a import x",
        },
        "imports go in a circle",
    ),
    "a long file": ({"streams.shard": "x = 1\n" * 401}, "has 401 lines"),
    "no docstring": ({"streams.shard": "# a comment is none"}, "has no docstring"),
    "a name that says nothing": ({"streams.shard": "class ShardManager: ..."}, "has a class ShardManager"),
    "a wide port": (
        {"streams.store": "class Store:\n" + "".join(f"    async def f{i}(self): ...\n" for i in range(12))},
        "has a port Store with 12 methods",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    planted, message = PLANTED[fault]
    documented = fault != "no docstring"
    modules = {f"streamkit.{name}": '"""Doc."""\n' * documented + source for name, source in planted.items()}
    if fault == "a long file":
        modules = {module: source.removeprefix('"""Doc."""\n') + '"""Doc."""' for module, source in modules.items()}
    found = violations(modules)
    assert any(message in each for each in found), found


def test_what_is_allowed_is_not_found() -> None:
    allowed = {
        "streams.lease": "from streamkit.tables import condition, item\nfrom streamkit.errors import LeaseLostError",
        "tables.condition": "import math, msgspec",
        "tables.item": "",
        "engines.file.engine": "import sqlite3, google_crc32c\nfrom streamkit.engines.embedded.stores import S",
        "queues.worker": "import asyncio, anyio\nasync def f(): await asyncio.sleep(0)",
        "demo.run": "from streamkit import open\nfrom streamkit.demo.report import R\nimport rich.table",
        "clock": "import time\ntime.time()",
        "engines.file._private": "",
    }
    assert violations({f"streamkit.{name}": f'"""Doc."""\n{source}' for name, source in allowed.items()}) == []


def test_an_invariant_without_its_test_is_found() -> None:
    modules = {"m": "# INVARIANT: test_there, test_missing\n    # INVARIANT: it holds\n"}
    assert missing_tests(modules, {"test_there"}) == ["m: test_missing", "m: (none)"]
