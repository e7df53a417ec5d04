"""The bytes of the journal: what is read is what was written, in order, and every damage is noticed or harmless."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.engines.file.frame import (
    DATA,
    FRAME_HEADER_SIZE,
    MOST_UNSYNCED,
    SEAL,
    SEGMENT_HEADER_SIZE,
    Tail,
    check_segment_header,
    frame,
    frames,
    refuse_damage,
    segment_header,
)
from streamkit.errors import CorruptLogError, UnknownFormatError

SEGMENT = 7
FIRST = 40
STORE = 0x1234_5678_9ABC_DEF0
PATH = "000000000007.log"
_CHECKED_HEADER_BYTES = 36

# The same examples in every run.
examples = settings(derandomize=True, deadline=None, max_examples=300)


class Written(msgspec.Struct):
    """A segment as it should be, and where its frames are."""

    data: bytes
    payloads: list[bytes]
    places: list[tuple[int, int]]
    """First byte and the one after the last, without padding; of the data frames and then of the seal, if any."""
    sealed: bool

    @property
    def end(self) -> int:
        return self.places[-1][1] + -self.places[-1][1] % 8 if self.places else SEGMENT_HEADER_SIZE


def written(payloads: list[bytes], *, sealed: bool = False, zeros: int = 200, unsynced: int = 0) -> Written:
    kinds = [DATA] * len(payloads) + [SEAL] * sealed
    body = b""
    places = []
    for index, (kind, payload) in enumerate(zip(kinds, [*payloads, b""], strict=False)):
        start = SEGMENT_HEADER_SIZE + len(body)
        body += frame(kind, SEGMENT, FIRST + index, payload, store_id=STORE, unsynced=min(index, unsynced))
        places.append((start, start + FRAME_HEADER_SIZE + len(payload)))
    size = SEGMENT_HEADER_SIZE + len(body) + zeros
    return Written(segment_header(SEGMENT, STORE, size) + body + bytes(zeros), payloads, places, sealed)


def read(data: bytes) -> tuple[list[bytes], Tail]:
    """All payloads and the tail; the numbers are as they should be."""
    check_segment_header(data, PATH, SEGMENT, STORE)
    return read_frames(data)


def read_frames(data: bytes) -> tuple[list[bytes], Tail]:
    found = frames(data, PATH, SEGMENT, FIRST, SEGMENT_HEADER_SIZE, STORE)
    payloads: list[bytes] = []
    while True:
        try:
            each = next(found)
        except StopIteration as stopped:
            tail: Tail = stopped.value
            assert tail.number == FIRST + len(payloads)
            return payloads, tail
        assert each.number == FIRST + len(payloads)
        payloads.append(each.payload)


segments = st.builds(
    written,
    st.lists(st.binary(max_size=40), max_size=4),
    sealed=st.booleans(),
    zeros=st.integers(0, 100),
)


@examples
@given(segments)
def test_what_was_written_is_read(segment: Written) -> None:
    assert read(segment.data) == (
        segment.payloads,
        Tail(segment.end, FIRST + len(segment.payloads), segment.sealed, segment.end),
    )


@examples
@given(segments, st.data())
def test_a_flipped_byte_is_noticed_or_harmless(segment: Written, data: st.DataObject) -> None:
    """In the last frame it looks like a torn commit; anywhere before it is an error that says where."""
    at = data.draw(st.integers(0, len(segment.data) - 1), label="at")
    damaged = bytearray(segment.data)
    damaged[at] ^= data.draw(st.integers(1, 255), label="flip")
    hit = next((index for index, (start, end) in enumerate(segment.places) if start <= at < end), None)
    if at < _CHECKED_HEADER_BYTES:
        with pytest.raises((CorruptLogError, UnknownFormatError)):
            read(bytes(damaged))
    elif hit is None:
        payloads, tail = read(bytes(damaged))
        assert (payloads, tail.sealed) == (segment.payloads, segment.sealed)
        assert tail.torn == (segment.end <= at < segment.end + FRAME_HEADER_SIZE)
    elif hit < len(segment.places) - 1:
        with pytest.raises(CorruptLogError) as caught:
            read(bytes(damaged))
        assert (caught.value.path, caught.value.offset) == (PATH, segment.places[hit][0])
    else:
        payloads, tail = read(bytes(damaged))
        assert payloads == segment.payloads[:hit]
        assert (tail.offset, tail.sealed, tail.torn) == (segment.places[hit][0], False, True)


@examples
@given(segments, st.data())
def test_a_segment_that_was_cut_is_noticed(segment: Written, data: st.DataObject) -> None:
    """A file is made whole before it is used, so a shorter one lost something. Its frames are read all the same."""
    cut = segment.data[: data.draw(st.integers(0, len(segment.data) - 1), label="cut")]
    with pytest.raises(CorruptLogError) as caught:
        read(cut)
    assert caught.value.offset == len(cut)
    payloads, tail = read_frames(cut)
    whole = sum(end <= len(cut) for _, end in segment.places)
    assert payloads == segment.payloads[:whole]
    assert tail.sealed == (segment.sealed and whole == len(segment.places))


@examples
@given(segments, st.binary(min_size=1, max_size=200).filter(lambda tail: tail[:FRAME_HEADER_SIZE].strip(b"\0")))
def test_garbage_after_the_end_is_a_torn_tail(segment: Written, garbage: bytes) -> None:
    payloads, tail = read(segment.data[: segment.end] + garbage + segment.data[segment.end :])
    assert (payloads, tail.offset, tail.torn) == (segment.payloads, segment.end, True)


@examples
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.data())
def test_frames_of_another_place_are_never_read(payloads: list[bytes], data: st.DataObject) -> None:
    """Left over from before, of another segment or of another store: whole, but not the next frame."""
    segment = written(payloads)
    number = FIRST + len(payloads)
    stranger = data.draw(
        st.sampled_from(
            [
                frame(DATA, SEGMENT, data.draw(st.integers(0, number - 1)), b"before", store_id=STORE),
                frame(DATA, SEGMENT + 1, number, b"segment", store_id=STORE),
                frame(DATA, SEGMENT, number, b"store", store_id=STORE + 1),
                frame(DATA, SEGMENT, number + 5, b"later", store_id=STORE + 1),
            ]
        )
    )
    found, tail = read(segment.data[: segment.end] + stranger + bytes(300))
    assert (found, tail.offset, tail.torn) == (payloads, segment.end, True)


@examples
@given(
    st.lists(st.binary(max_size=20), max_size=2),
    st.binary(max_size=1500),
    st.sampled_from([8, 64, 512]),
    st.randoms(use_true_random=False),
)
def test_a_torn_write_is_there_whole_or_not_at_all(
    payloads: list[bytes], last: bytes, sector: int, random: Random
) -> None:
    """Any of its sectors may be missing, also when the record that it holds is itself a piece of a journal."""
    before = written(payloads, zeros=4096)
    inner = frame(DATA, SEGMENT, FIRST + 9, b"other", store_id=STORE + 1)
    if payloads:
        inner += frame(DATA, SEGMENT, FIRST, b"old", store_id=STORE)
    wanted = inner + last + inner
    new = frame(DATA, SEGMENT, FIRST + len(payloads), wanted, store_id=STORE)
    data = bytearray(before.data)
    for start in range(0, len(new), sector):
        if random.random() < 0.7:
            piece = new[start : start + sector]
            data[before.end + start : before.end + start + len(piece)] = piece
    found, tail = read(bytes(data))
    is_there = bytes(data[before.end : before.end + len(new)]) == new
    assert found == ([*payloads, wanted] if is_there else payloads)
    assert tail.offset == before.end + (len(new) if is_there else 0)


@pytest.mark.parametrize("unsynced", [1, 2, MOST_UNSYNCED])
def test_a_hole_among_unsynced_frames_is_a_torn_tail(unsynced: int) -> None:
    """A power loss takes what it likes of the frames that were not synced; those after a hole go with it."""
    segment = written([b"a", b"b", b"c"], unsynced=unsynced)
    start, end = segment.places[-2]
    payloads, tail = read(segment.data[:start] + bytes(end - start) + segment.data[end:])
    assert (payloads, tail.torn) == ([b"a"], True)


def test_a_hole_before_the_unsynced_frames_is_damage() -> None:
    """What frame 3 knew to be on disk does not vanish in a power loss."""
    segment = written([b"a", b"b", b"c"], unsynced=1)
    start, end = segment.places[0]
    with pytest.raises(CorruptLogError, match="frame 40 is damaged, but frame 42 after it is whole"):
        read(segment.data[:start] + bytes(end - start) + segment.data[end:])


def test_more_unsynced_frames_than_can_be_counted() -> None:
    many = frame(DATA, SEGMENT, FIRST + MOST_UNSYNCED + 9, b"x", store_id=STORE, unsynced=MOST_UNSYNCED + 9)
    data = segment_header(SEGMENT, STORE, 0) + b"lost" * 4 + many
    refuse_damage(data, PATH, SEGMENT, SEGMENT_HEADER_SIZE, FIRST, STORE)


def test_a_segment_of_another_store_or_number_is_refused() -> None:
    data = segment_header(SEGMENT, STORE, SEGMENT_HEADER_SIZE)
    check_segment_header(data, PATH, SEGMENT, STORE)
    for number, store in ((SEGMENT + 1, STORE), (SEGMENT, STORE + 1)):
        with pytest.raises(CorruptLogError, match="a file was misplaced"):
            check_segment_header(data, PATH, number, store)


def test_a_segment_of_another_version_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.engines.file.frame.FORMAT", 2)
    data = segment_header(SEGMENT, STORE, SEGMENT_HEADER_SIZE)
    monkeypatch.undo()
    with pytest.raises(UnknownFormatError, match="has storage format 2, and this streamkit reads 1"):
        check_segment_header(data, PATH, SEGMENT, STORE)
