"""Functions that other packages publish, as entry points of the group ``streamkit.functions``.

A package says so in its ``pyproject.toml``::

    [project.entry-points."streamkit.functions"]
    keep-big-orders = "shop.orders:keep"

Whoever installs it writes ``EventSourceMapping(..., function=function_named("keep-big-orders"))``.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from streamkit.errors import ValidationError
from streamkit.functions.function import AnyFunction, check_function

GROUP = "streamkit.functions"
"""Where packages publish their functions."""


def function_named(name: str, *, package: str | None = None) -> AnyFunction:
    """The function that an installed package publishes under this name.

    Reads the metadata of installed packages and imports the one: call it while setting up, not on a busy event loop.

    Args:
        name: Of the entry point.
        package: The distribution it is from, where several publish the name.

    Raises:
        ValidationError: none, or several, publish it; or it cannot be imported, or called as a function is.
    """
    published = list(entry_points(group=GROUP))
    found = {
        (point.value, _package(point)): point
        for point in published
        if point.name == name and package in (None, _package(point))
    }
    if not found:
        known = ", ".join(sorted({f"{point.name} ({_package(point)})" for point in published})) or "none"
        raise ValidationError(
            f"no function {name!r} is published{f' by {package!r}' if package else ''}: install the package that does; "
            f"there are: {known}"
        )
    if len(found) > 1:
        packages = ", ".join(sorted(of for _, of in found))
        raise ValidationError(f"function {name!r} is published more than once, by {packages}: pass package=")
    (point,) = found.values()
    try:
        function: AnyFunction = point.load()
    except (ImportError, AttributeError) as error:
        raise ValidationError(
            f"function {name!r} is published by {_package(point)} as {point.value}, which cannot be imported: {error}"
        ) from error
    try:
        check_function(function)
    except ValidationError as error:
        raise ValidationError(f"function {name!r} of {_package(point)} ({point.value}): {error}") from error
    return function


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
