"""When a gateway seems dead, and how it is found to be back."""

from __future__ import annotations

from ni.sms.health import ACCOUNTS_FAILING_MAX, Health


def failing(health: Health, now: float) -> None:
    """As many accounts fail as it takes."""
    for number in range(ACCOUNTS_FAILING_MAX):
        health.note_failed(f"A{number}", now)


def test_one_account_can_fail_as_often_as_it_likes() -> None:
    health = Health(1_000, 60)
    for _ in range(100):
        health.note_failed("A", 0.0)
    assert not health.seems_dead
    assert health.room(16, 0, 0.0) == 16


def test_accounts_fail_in_a_row_or_not_at_all() -> None:
    health = Health(1_000, 60)
    for number in range(100):
        health.note_failed(f"A{number}", 0.0)
        if number % (ACCOUNTS_FAILING_MAX - 1) == 0:
            health.note_passed()
    assert not health.seems_dead


def test_a_dead_gateway_gets_a_pause_then_one_message() -> None:
    health = Health(1_000, 60)
    failing(health, 100.0)
    assert health.room(16, 0, 100.9) == 0
    assert health.room(16, 0, 101.1) == 1
    assert health.room(15, 1, 101.1) == 0, "one is being tried already"
    health.note_passed()
    assert health.room(16, 0, 101.1) == 16


def test_pauses_grow_to_the_longest_and_begin_anew() -> None:
    health = Health(1_000, 4)
    failing(health, 0.0)
    now = 0.0
    for seconds in (1, 2, 4, 4):
        assert health.room(1, 0, now + seconds - 0.1) == 0
        now += seconds + 0.1
        assert health.room(1, 0, now) == 1
        health.note_failed("A0", now)
    health.note_passed()
    failing(health, 100.0)
    assert health.room(1, 0, 101.1) == 1


def test_what_was_under_way_when_the_pause_began_does_not_lengthen_it() -> None:
    health = Health(1_000, 60)
    failing(health, 0.0)
    for number in range(50):
        health.note_failed(f"B{number}", 0.5)
    assert health.room(1, 0, 1.1) == 1


def test_the_longer_of_two_wishes_holds() -> None:
    health = Health(1_000, 60)
    health.pause(10, 0.0)
    health.pause(2, 1.0)
    assert health.room(16, 0, 9.9) == 0
    assert health.room(16, 0, 10.1) == 16
