"""For pytest: a kit, its clock and its faults as fixtures; and a test that leaves kits open, or failed services, fails.

============================  ==========================================================================================
``streamkit_kit``             a ``TrialKit``: opened for the test on its event loop, closed after it
``streamkit_clock``           its ``ManualClock``
``streamkit_faults``          its ``Faults``
``streamkit_url``             what is opened: a directory within ``tmp_path``. Override it: ``return "memory:"``
============================  ==========================================================================================

Works with pytest-asyncio, strict and auto, and with anyio's plugin. pytest imports this at its start, also where no
test needs it: so all of streamkit is imported in fixtures, and what no test imported is not looked at.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import pytest

if TYPE_CHECKING:
    from streamkit.kit import Kit
    from streamkit.testing.clock import ManualClock
    from streamkit.testing.failing import Faults
    from streamkit.testing.trial import TrialKit

_OF_ASYNCIO = "_streamkit_kit_of_asyncio_"
_LOOP_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...]
_LOOP_SCOPES = ("function", "class", "module", "package", "session")
_OF_ANYIO = "_streamkit_kit_of_anyio"

_told: WeakKeyDictionary[Kit, set[str]] = WeakKeyDictionary()
_during = pytest.StashKey["list[Kit]"]()

_LEFT_OPEN = "the test left kits open, which keep tasks and a directory: use `async with`, or `await kit.close()`"


def pytest_configure(config: pytest.Config) -> None:
    """Make the kit's fixture once for each event loop that tests may run on, since a kit belongs to one."""
    made = ModuleType("streamkit.testing.kits")
    setattr(made, _OF_ANYIO, pytest.fixture(name=_OF_ANYIO)(_opening()))
    if config.pluginmanager.has_plugin("asyncio"):
        import pytest_asyncio

        for scope in _LOOP_SCOPES:
            name = _OF_ASYNCIO + scope
            setattr(made, name, pytest_asyncio.fixture(name=name, loop_scope=scope)(_opening()))
    config.pluginmanager.register(made, made.__name__)


# ---- fixtures


@pytest.fixture
def streamkit_url(tmp_path: Path) -> str | Path:
    """What ``streamkit_kit`` opens; override it to open something else, such as "memory:"."""
    return tmp_path / "streamkit"


@pytest.fixture
def streamkit_clock() -> ManualClock:
    """The clock of ``streamkit_kit``, which stands still until the test advances it."""
    from streamkit.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def streamkit_kit(request: pytest.FixtureRequest) -> TrialKit:
    """A kit to test with: ``await streamkit_kit.drain()``; closed after the test, as is what came of its crashes."""
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None:
        fixture = _OF_ASYNCIO + _loop_scope(marker, request.config)
    elif "anyio_backend" in request.fixturenames:
        fixture = _OF_ANYIO
        backend = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            pytest.fail(
                f"streamkit runs on asyncio, and this test on {backend!r}: override the fixture anyio_backend with one "
                "that returns 'asyncio'",
                pytrace=False,
            )
    else:
        pytest.fail(
            "streamkit_kit is for tests that are `async def`, run by pytest-asyncio (in its strict mode marked with "
            "@pytest.mark.asyncio) or by anyio's plugin (@pytest.mark.anyio)",
            pytrace=False,
        )
    kit: TrialKit = request.getfixturevalue(fixture)
    return kit


@pytest.fixture
def streamkit_faults(streamkit_kit: TrialKit) -> Faults:
    """What goes wrong with the disk of ``streamkit_kit``."""
    return streamkit_kit.faults


def _loop_scope(marker: pytest.Mark, config: pytest.Config) -> str:
    """With which tests one of pytest-asyncio shares its event loop."""
    # INVARIANT: test_a_kit_is_of_its_tests_event_loop_whatever_its_scope
    said = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
    if said is None:
        with suppress(ValueError):  # pytest-asyncio 0.24 and 0.25 have no such setting.
            said = config.getini("asyncio_default_test_loop_scope")
    return str(said or "function")


def _opening() -> Callable[..., AsyncIterator[TrialKit]]:
    """A function of its own for each fixture, since they are marked with what was made of them."""

    async def opening(streamkit_url: str | Path, streamkit_clock: ManualClock) -> AsyncIterator[TrialKit]:
        async for kit in _kit(streamkit_url, streamkit_clock):
            yield kit

    return opening


async def _kit(streamkit_url: str | Path, streamkit_clock: ManualClock) -> AsyncIterator[TrialKit]:
    from streamkit.errors import ServiceFailedError
    from streamkit.testing.trial import open as open_trial

    kit = await open_trial(streamkit_url, clock=streamkit_clock)
    yield kit
    failures = await kit._close()
    # A service that failed during the test has failed the test already.
    names = {name for each in _lives(kit) for name in _told.get(each, ())}
    failures = [each for each in failures if not (isinstance(each, ServiceFailedError) and each.service in names)]
    if failures:
        raise failures[0] if len(failures) == 1 else ExceptionGroup("services of streamkit_kit failed", failures)


def _lives(kit: TrialKit | None) -> Iterator[TrialKit]:
    """A kit, and what came of its crashes."""
    while kit is not None:
        yield kit
        kit = kit._reopened


# ---- what a test leaves behind


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test has failed if its trial kit's services have, unless it looked after them: stopped, or closed its kit."""
    before = {id(kit) for kit in _open_kits()}
    try:
        result = yield
    except BaseException:
        if failures := _failures():
            item.add_report_section("call", "streamkit", failures)
        raise
    finally:
        item.stash[_during] = [kit for kit in _open_kits() if id(kit) not in before]
    if failures := _failures():
        pytest.fail(failures, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that opened a kit has closed it, or has a fixture that does."""
    result = yield
    opened, item.stash[_during] = item.stash.get(_during, []), []
    left = [kit for kit in _open_kits() if any(kit is each for each in opened)]
    if left:
        places = "\n".join(_forget(kit) for kit in left)
        pytest.fail(f"{_LEFT_OPEN}\n{places}", pytrace=False)
    return result


def _open_kits() -> list[Kit]:
    opening = sys.modules.get("streamkit.opening")
    if opening is None:
        return []
    trial = sys.modules.get("streamkit.testing.trial")
    kits = {*opening.OPENED, *(trial.OPEN if trial is not None else ())}
    return [kit for kit in kits if not kit._closed]


def _failures() -> str:
    """The services that failed since one was last told of, in trial kits that are open.

    A kit of the program under test raises them itself when it is closed, and the program may have looked after them.
    """
    lines: list[str] = []
    for kit in filter(_is_trial, _open_kits()):
        told = _told.setdefault(kit, set())
        for name, error in kit.health().errors.items():
            if name not in told:
                told.add(name)
                lines.append(f"  {name} of {kit!r}: {error}")
    if not lines:
        return ""
    advice = "expect it with `pytest.raises(ServiceFailedError)` around `await kit.close()`, or see why in the log"
    return "\n".join([f"a service failed during the test: {advice}", *lines])


def _forget(kit: Kit) -> str:
    """Say where it was opened, once."""
    place = sys.modules["streamkit.testing.trial"].OPEN.pop(kit, None) if _is_trial(kit) else None
    sys.modules["streamkit.opening"].OPENED.discard(kit)
    return f"  {kit!r}" + (f", opened at {place}" if place else "")


def _is_trial(kit: Kit) -> bool:
    trial = sys.modules.get("streamkit.testing.trial")
    return trial is not None and kit in trial.OPEN
