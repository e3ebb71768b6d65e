"""Who raises steps: the first sensor that lives, and nobody's number is another's."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.pace import Pace, raiser, step_number

MS = 1_000_000


def raised(places, until_ms, interval_ms=100, alive=lambda place, ms: True):
    """Who raises when, in a simulation by milliseconds of sensors that hear each other at once."""
    paces = {place: Pace(place, interval_ms * MS) for place in places}
    for pace in paces.values():
        pace.on_start(0)
    found = []
    for ms in range(until_ms):
        for place, pace in paces.items():
            if alive(place, ms) and ms * MS >= pace.due_ns:
                pace.on_raised(ms * MS)
                found.append((ms, place))
                for other, heard in paces.items():
                    if other != place and alive(other, ms):
                        heard.on_heard(place, ms * MS)
    return found


def test_the_first_sensor_alone_raises_steps_at_its_rate():
    assert raised([0, 1, 2], 1000) == [(ms, 0) for ms in range(0, 1000, 100)]


def test_when_the_first_dies_the_next_takes_over_and_gives_way_when_it_is_back():
    found = raised([0, 1, 2], 3000, alive=lambda place, ms: place or not 950 < ms < 2000)
    assert {place for ms, place in found if ms < 950} == {0}
    second = [ms for ms, place in found if place == 1]
    assert second[0] == 900 + 500
    assert second[-1] <= 2000
    assert not [ms for ms, place in found if place == 2]
    assert [place for ms, place in found if ms > 2010] == [0] * 9


def test_without_the_first_ones_the_last_raises_steps():
    found = raised([4], 3000)
    assert found[0] == (1100, 4)
    assert len(found) == 19


def test_a_sensor_that_was_held_up_does_not_make_up_for_lost_steps():
    pace = Pace(0, 100 * MS)
    pace.on_start(0)
    pace.on_raised(0)
    pace.on_raised(5000 * MS)
    assert pace.due_ns == 5000 * MS


@given(st.integers(0, (1 << 53) - 2), st.integers(0, 63), st.integers(0, 1 << 40))
def test_a_step_number_is_a_u64_that_names_its_raiser(epoch, place, count):
    step = step_number(epoch, place, count)
    assert 0 <= step < 1 << 64
    assert raiser(step) == place


def test_no_two_sensors_lives_or_steps_share_a_number_and_those_fed_by_hand_name_nobody():
    numbers = {step_number(epoch, place, count) for epoch in range(5) for place in range(64) for count in range(50)}
    assert len(numbers) == 5 * 64 * 50
    assert raiser(1_764_000_000 << 32 | 1000) is None
