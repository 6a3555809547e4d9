"""Does the pause before a restart grow, start anew, and end in giving up?"""

from infra.restarts import Deaths, RestartPolicy

POLICY = RestartPolicy(delays_s=(1, 2, 5), healthy_s=60, most=4, within_s=30)


def pauses(*deaths: tuple[float, float | None]) -> list[float | None]:
    counted = Deaths(POLICY)
    return [counted.add(now, ready_s) for now, ready_s in deaths]


def test_pauses_grow_and_the_last_repeats() -> None:
    assert pauses((0, 1), (100, 1), (200, 1), (300, 1)) == [1, 2, 5, 5]


def test_a_healthy_while_starts_the_row_anew() -> None:
    assert pauses((0, 1), (100, 59), (200, 60), (300, 0)) == [1, 2, 1, 2]


def test_too_many_deaths_in_too_short_a_time_are_the_end() -> None:
    assert pauses((0, 1), (10, 1), (20, 1), (30, 1)) == [1, 2, 5, None]


def test_only_the_latest_deaths_count() -> None:
    assert pauses((0, 1), (10, 1), (20, 1), (31, 1), (40, 1)) == [1, 2, 5, 5, None]


def test_so_many_failed_starts_in_a_row_are_the_end_however_long_each_took() -> None:
    assert pauses((0, None), (900, None), (1800, None), (2700, None)) == [1, 2, 5, None]


def test_a_start_that_succeeds_begins_the_count_of_failed_ones_anew() -> None:
    failed = [(900.0 * number, None) for number in range(3)]
    assert pauses(*failed, (3600, 1), *((3700 + at, None) for at, _ in failed))[-1] == 5


def test_a_death_now_and_then_never_adds_up() -> None:
    day_s, every_s = 86_400, 31
    assert None not in pauses(*((number * day_s, day_s - 60) for number in range(1000)))
    assert None not in pauses(*((number * every_s, 6.0) for number in range(1000)))


def test_what_was_too_much_is_said() -> None:
    crashing, failing = Deaths(POLICY), Deaths(POLICY)
    for number in range(4):
        assert crashing.too_many == failing.too_many == ""
        crashing.add(number, 1.0)
        failing.add(number * 100, None)
    assert crashing.too_many == "died 4 times within 30 s"
    assert failing.too_many == "failed to start 4 times in a row"
