import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.metrics import Histogram, Source


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_at_most_twice_too_large(durations_ns, share):
    histogram = Histogram()
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    exact_ms = sorted(durations_ns)[max(0, -int(-share * len(durations_ns) // 1) - 1)] / 1e6
    assert exact_ms <= histogram.quantile_ms(share) <= max(2 * exact_ms, 0.001)


def test_nothing_took_no_time():
    assert Histogram().quantile_ms(0.99) == 0


def test_what_takes_for_ever_still_counts():
    histogram = Histogram()
    histogram.add(10**18)
    histogram.add(-1)
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 1)


def test_counters_survive_the_wire_and_are_shared_by_nobody():
    Source().rejected["length"] = 1
    assert msgspec.json.decode(msgspec.json.encode(Source()), type=Source) == Source(rejected={})
    assert Histogram().counts == pytest.approx([0] * 25)
