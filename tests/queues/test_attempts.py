"""What an attempt id got, and when a retry gets it again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.queues.attempts import WINDOW_MS, Attempts
from streamkit.queues.stored import StoredMessage

NOW = 1_000_000


def in_flight(number: int, now_ms: int = NOW, timeout_ms: int = 30_000, receive_count: int = 1) -> StoredMessage:
    message = StoredMessage(number, f"m{number}", b"", now_ms, "in flight", now_ms + timeout_ms, timeout_ms)
    message.receive_count = receive_count
    return message


def held(count: int = 2) -> tuple[Attempts, dict[int, StoredMessage]]:
    messages = {number: in_flight(number) for number in range(1, count + 1)}
    attempts = Attempts()
    attempts.add("a", list(messages.values()), NOW)
    return attempts, messages


def numbers(found: list[StoredMessage] | None) -> list[int] | None:
    return None if found is None else [message.number for message in found]


def test_a_retry_gets_the_very_same_in_their_order() -> None:
    messages = {number: in_flight(number) for number in (1, 2, 3)}
    attempts = Attempts()
    attempts.add("a", [messages[3], messages[1]], NOW)
    assert numbers(attempts.again("a", messages, NOW + 1)) == [3, 1]
    assert attempts.again("b", messages, NOW + 1) is None


def test_one_that_was_deleted_ends_it() -> None:
    attempts, messages = held()
    del messages[2]
    assert attempts.again("a", messages, NOW) is None


def test_one_whose_visibility_was_changed_ends_it() -> None:
    attempts, messages = held()
    messages[1].visible_at_ms += 5
    assert attempts.again("a", messages, NOW) is None


def test_one_that_is_visible_again_ends_it() -> None:
    attempts, messages = held()
    messages[1].place = "ready"
    assert attempts.again("a", messages, NOW + 30_000) is None


def test_one_that_somebody_else_received_ends_it() -> None:
    attempts, messages = held()
    messages[2].receive_count = 2
    assert attempts.again("a", messages, NOW) is None


def test_five_minutes_from_the_receive_and_no_retry_extends_them() -> None:
    messages = {1: in_flight(1, timeout_ms=10 * WINDOW_MS)}
    attempts = Attempts()
    attempts.add("a", [messages[1]], NOW)
    messages[1].visible_at_ms += WINDOW_MS - 1
    attempts.add("a", [messages[1]], NOW + WINDOW_MS - 1)
    assert numbers(attempts.again("a", messages, NOW + WINDOW_MS - 1)) == [1]
    assert attempts.again("a", messages, NOW + WINDOW_MS) is None


def test_other_deliveries_under_the_same_id_begin_anew() -> None:
    attempts, messages = held(1)
    messages[2] = in_flight(2, NOW + WINDOW_MS - 1)
    attempts.add("a", [messages[2]], NOW + WINDOW_MS - 1)
    assert numbers(attempts.again("a", messages, NOW + 2 * WINDOW_MS - 2)) == [2]
    assert attempts.again("a", messages, NOW + 2 * WINDOW_MS - 1) is None


def test_a_receive_of_nothing_leaves_nothing() -> None:
    attempts, messages = held()
    attempts.add("a", [], NOW)
    assert attempts.again("a", messages, NOW) is None
    assert len(attempts) == 0


def test_over_the_most_the_oldest_is_forgotten() -> None:
    messages = {number: in_flight(number) for number in (1, 2, 3)}
    attempts = Attempts(most=2)
    for number, message in messages.items():
        attempts.add(f"a{number}", [message], NOW)
    assert [numbers(attempts.again(f"a{n}", messages, NOW)) for n in (1, 2, 3)] == [None, [2], [3]]


def test_what_is_too_old_is_forgotten_at_the_next_receive() -> None:
    attempts = Attempts()
    for number in range(1, 1001):
        attempts.add(f"a{number}", [in_flight(number)], NOW + number)
    attempts.add("last", [in_flight(2000)], NOW + 500 + WINDOW_MS)
    assert len(attempts) == 501


def test_a_snapshot_keeps_what_is_current() -> None:
    attempts, messages = held()
    attempts.add("b", [in_flight(9)], NOW + WINDOW_MS - 1)
    messages[9] = in_flight(9)
    again = Attempts()
    again.adopt(attempts.entries(NOW + WINDOW_MS))
    assert len(again) == 1
    assert numbers(again.again("b", messages, NOW + WINDOW_MS)) == [9]


def test_a_clock_that_was_set_back_keeps_nothing_for_longer() -> None:
    attempts, messages = held()
    assert attempts.again("a", messages, NOW - 1) is None
    attempts.add("b", [messages[1]], NOW - 3_600_000)
    assert len(attempts) == 1


def test_one_that_reached_nobody_is_forgotten() -> None:
    attempts, messages = held()
    attempts.forget("another")
    assert numbers(attempts.again("a", messages, NOW)) == [1, 2]
    attempts.forget("a")
    assert attempts.again("a", messages, NOW) is None


def test_purged() -> None:
    attempts, messages = held()
    attempts.clear()
    assert attempts.again("a", messages, NOW) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.sampled_from("ab"), st.lists(st.integers(1, 4), unique=True)),
        st.tuples(st.just("delete"), st.integers(1, 4)),
        st.tuples(st.just("change"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.integers(1, WINDOW_MS)),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(steps)
def test_attempts_are_those_of_the_model(steps: list[tuple[object, ...]]) -> None:
    """The model marks an attempt as ended when it happens; ours reads it off the messages."""
    messages = {number: in_flight(number, 0) for number in range(1, 5)}
    attempts, now = Attempts(), 0
    model: dict[str, tuple[int, list[int]]] = {}

    def ended(number: int) -> None:
        for attempt_id in [a for a, (_, got) in model.items() if number in got]:
            del model[attempt_id]

    for serial, step in enumerate(steps):
        match step:
            case ("pass", int(by)):
                now += by
            case ("delete", int(number)):
                messages.pop(number, None)
                ended(number)
            case ("change", int(number)) if number in messages:
                messages[number].visible_at_ms = 10**9 + serial
                ended(number)
            case ("receive", str(attempt_id), list(wanted)):
                got = [number for number in wanted if number in messages]
                for number in got:
                    ended(number)
                    messages[number].receive_count += 1
                    messages[number].visible_at_ms = 10**9 + serial
                attempts.add(attempt_id, [messages[number] for number in got], now)
                model.pop(attempt_id, None)
                if got:
                    model[attempt_id] = (now, got)
        for attempt_id in "ab":
            began, want = model.get(attempt_id, (-WINDOW_MS, []))
            expected = want if now - began < WINDOW_MS else None
            assert numbers(attempts.again(attempt_id, messages, now)) == expected
