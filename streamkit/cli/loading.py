"""From ``module:app`` or ``path/file.py:app`` to what is to be run, and what of a traceback is its author's."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from streamkit.errors import ValidationError

_OURS = os.path.dirname(__file__)
_DEFAULT = "app"


class PipelineError(Exception):
    """The pipeline's own code raised something, which is the ``__cause__``."""


def load(target: str) -> Callable[[Any], Any]:
    """What ``target`` names; without a name behind the colon: ``app``.

    The working directory, or a file's own one, is where its imports are found first.

    Raises:
        ValidationError: there is no such module or file, or no such name in it, or it cannot be called.
        PipelineError: its code raised something while it was imported.
    """
    place, _, name = target.rpartition(":") if ":" in target else (target, "", _DEFAULT)
    if not place or not name.isidentifier():
        raise ValidationError(f"{target!r} is no pipeline: give module:app or path/to/file.py:app")
    found = _module(place)
    app = getattr(found, name, None)
    if app is None:
        there = sorted(each for each, value in vars(found).items() if not each.startswith("_") and callable(value))
        names = f"it has {', '.join(there[:10])}" if there else "it has no function"
        raise ValidationError(f"{place} has no {name!r}: {names}; `async def {name}(kit): ...` is what runs")
    if not callable(app):
        raise ValidationError(
            f"{name!r} of {place} is a {type(app).__name__}: `async def {name}(kit): ...` is what runs"
        )
    called: Callable[[Any], Any] = app
    return called


def users_traceback(error: BaseException) -> str:
    """The traceback from where the pipeline's code begins."""
    return "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__))).rstrip()


def _users_part(at: TracebackType | None) -> TracebackType | None:
    while at is not None and _is_machinery(at.tb_frame.f_code.co_filename):
        at = at.tb_next
    return at


def _is_machinery(file: str) -> bool:
    return file.startswith(("<frozen importlib", _OURS)) or file == importlib.__file__


def _module(place: str) -> ModuleType:
    is_file = place.endswith(".py") or os.sep in place
    path = Path(place)
    if is_file and not path.is_file():
        raise ValidationError(f"there is no file {place}")
    sys.path.insert(0, str(path.parent.absolute()) if is_file else os.getcwd())
    try:
        return _of_file(path) if is_file else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not is_file and error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise ValidationError(f"there is no module {place!r} in {os.getcwd()} or where Python looks") from None
        raise PipelineError(place) from error
    except Exception as error:
        raise PipelineError(place) from error


def _of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    if spec is None or spec.loader is None:
        raise ValidationError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
