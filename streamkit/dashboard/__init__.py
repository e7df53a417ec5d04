"""One page that shows how everything in a kit is: served by the kit, for a directory, or within an application.

Needs the extra ``dashboard``. Names load when they are first used::

    from streamkit.dashboard import Dashboard, dashboard, serve

    kit.start(Dashboard(kit))                    # at http://127.0.0.1:8787/ until the kit closes
    app.mount("/streamkit", dashboard(kit))      # within a Starlette or FastAPI application
    asyncio.run(serve("./data"))                 # a directory that another process owns, looked at only
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamkit.errors import MissingExtraError

if TYPE_CHECKING:
    from streamkit.dashboard.app import dashboard
    from streamkit.dashboard.serving import Dashboard, serve

_HOME = {"dashboard": "app", "Dashboard": "serving", "serve": "serving"}
_EXTRA = ("starlette", "uvicorn")

__all__ = ["Dashboard", "dashboard", "serve"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'streamkit.dashboard' has no attribute {name!r}")
    try:
        module = import_module(f"streamkit.dashboard.{home}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise MissingExtraError("the dashboard", "dashboard") from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
