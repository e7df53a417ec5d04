"""Numbers and times as people read them. Pure."""

from __future__ import annotations


def number(value: float) -> str:
    """All of a count, three digits of anything smaller."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def short(value: float) -> str:
    """Three digits at most, with k, M or G: for axes, bars and headlines."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor * 0.9995:
            return f"{_three(value / factor)}{letter}"
    return _three(value)


def _three(value: float) -> str:
    return f"{value:.0f}" if 100 <= abs(value) < 1000 else f"{value:.3g}"


def size(count: float) -> str:
    """Of so many bytes: "100", "1 Ki", "100 Ki"."""
    for factor, letters in ((2.0**30, " Gi"), (2.0**20, " Mi"), (2.0**10, " Ki")):
        if count >= factor:
            return f"{_three(count / factor)}{letters}"
    return _three(count)


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def amount(value: float, unit: str) -> str:
    """A value with its unit: "571 k records/s", "4.32 ms"."""
    return duration(value * _SECONDS[unit]) if unit in _SECONDS else f"{short(value)} {unit}"


def times(ratio: float) -> str:
    """A ratio: "2.5 x", "120 x"."""
    return f"{_three(ratio) if ratio < 1000 else number(ratio)} x"


def roughly(ratio: float) -> str:
    """A ratio with two digits: "2.5 x", "120 x"."""
    return f"{float(f'{ratio:.2g}'):,g} x"


def duration(seconds: float) -> str:
    """A time with the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= factor * 0.9995:
            return f"{_three(seconds / factor)} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def percentile_name(share: float) -> str:
    """What people call it: "p99.9"; the extremes are "min" and "max"."""
    return {0.0: "min", 1.0: "max"}.get(share, f"p{share * 100:.6g}")
