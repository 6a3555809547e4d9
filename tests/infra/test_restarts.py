"""Does the pause before a restart grow, start anew, and end in giving up?"""

from infra.restarts import Deaths, RestartPolicy

POLICY = RestartPolicy(delays_s=(1, 2, 5), healthy_s=60, most=4, within_s=30)


def pauses(*deaths: tuple[float, float]) -> list[float | None]:
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
