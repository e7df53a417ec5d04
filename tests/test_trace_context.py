from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.trace_context import as_header, carried_in, of_header, short

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADER = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
"""The trace id is that of the W3C's example, cut as X-Ray cuts one: 8 and 24 digits."""


def test_a_context_is_found_among_attributes() -> None:
    assert carried_in({"traceparent": PARENT, "other": "x"}) == {"traceparent": PARENT}
    both = {"traceparent": PARENT, "tracestate": "a=1"}
    assert carried_in({**both, "other": "x"}) == both
    assert carried_in({"traceparent": PARENT, "tracestate": ""}) == {"traceparent": PARENT}
    # W3C: of a later version what is known of this one counts.
    assert carried_in({"traceparent": f"01{PARENT[2:]}-more"}) is not None


@pytest.mark.parametrize("bad", ["", "x", PARENT[:-1], PARENT.upper(), PARENT.replace("-", "_"), f"{PARENT}\n"])
def test_what_is_none_is_not_taken_for_one(bad: str) -> None:
    assert carried_in({"traceparent": bad}) is None


@pytest.mark.parametrize(
    "state",
    [
        "s3cret",
        "a=1=2",
        "a=1,A=2",
        "a=é",
        "=1",
        "a=",
        "a= ",
        "a=1\n",
        f"a={'1' * 257}",
        f"a=1{' ' * 600}",
        "," * 1_000_000,
        "a" * 1_000_000,
        " " * 1_000_000,
    ],
)
def test_a_state_that_is_none_is_left_behind(state: str) -> None:
    """Anybody may have sent it, and OpenTelemetry's API logs it, and in some versions takes minutes for a long one."""
    assert carried_in({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}


@pytest.mark.parametrize("state", ["a=1", "a=1, b=2 ,,c=3", "0t@sys=!x y", "a_-*/9=<;>", "rojo=00f067aa0ba902b7"])
def test_a_state_of_the_w3c_goes_along(state: str) -> None:
    assert carried_in({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT, "tracestate": state}


def test_a_parent_that_is_too_long_is_none() -> None:
    assert carried_in({"traceparent": f"01{PARENT[2:]}-{'x' * 1_000_000}"}) is None


def test_none_is_found_where_there_is_none() -> None:
    assert carried_in(None) is None
    assert carried_in({}) is None
    assert carried_in({"tracestate": "a=1"}) is None


def test_a_long_state_is_left_behind() -> None:
    fits = {"traceparent": PARENT, "tracestate": "s" * 512}
    assert short(fits) == fits
    assert short({"traceparent": PARENT, "tracestate": "s" * 513}) == {"traceparent": PARENT}


def test_the_header_is_the_one_of_x_ray() -> None:
    assert as_header({"traceparent": PARENT, "tracestate": "a=1"}) == HEADER
    assert of_header(HEADER) == {"traceparent": PARENT}
    assert of_header(HEADER.replace("Sampled=1", "Sampled=0")) == {"traceparent": PARENT[:-1] + "0"}
    # As Lambda writes it.
    assert of_header(f"Self=1-1-2; {HEADER.replace(';', '; ')}; Lineage=a:1") == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        "Root=1-5759e988",
        "Root=1-5759e988-bd862e3fe1be46a994272793",
        HEADER.replace("Parent=b", "Parent="),
    ],
)
def test_a_header_without_a_span_is_no_context(header: str | None) -> None:
    assert of_header(header) is None


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_there_and_back(trace: bytes, span: bytes, sampled: bool) -> None:
    parent = f"00-{trace.hex()}-{span.hex()}-{int(sampled):02x}"
    header = as_header({"traceparent": parent})
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]", header)
    assert of_header(header) == {"traceparent": parent}
