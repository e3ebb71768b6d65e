"""How far clocks are apart: whatever the ways took, the truth lies within the error."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clocks import SAME, Offset, Ping, between, during, offset_of

ways_ns = st.integers(0, 10**9)
offsets_ns = st.integers(-(10**15), 10**15)


def ping(asked_ns, there_ns, back_ns, offset_ns):
    return Ping(asked_ns, asked_ns + there_ns + offset_ns, asked_ns + there_ns + back_ns)


@given(offsets_ns, st.lists(st.tuples(ways_ns, ways_ns), min_size=1))
def test_the_truth_lies_within_the_error_and_the_quickest_reply_decides(offset_ns, ways):
    found = offset_of(ping(1000 * k, there, back, offset_ns) for k, (there, back) in enumerate(ways))
    assert found.low_ns <= offset_ns <= found.high_ns
    assert abs(found.ns - offset_ns) <= found.error_ns == min(there + back for there, back in ways) / 2


@given(offsets_ns, st.integers(-(10**6), 10**6), ways_ns, st.integers(0, 10**6))
def test_a_clock_that_drifts_is_known_in_between(offset_ns, drift_ns, took_ns, share):
    before = offset_of([ping(0, 5, 7, offset_ns)])
    after = offset_of([ping(10**9, 5, 7, offset_ns + drift_ns)])
    meanwhile = during(before, after)
    assert meanwhile.low_ns <= offset_ns + drift_ns * share / 10**6 <= meanwhile.high_ns


@given(st.tuples(offsets_ns, ways_ns, ways_ns), st.tuples(offsets_ns, ways_ns, ways_ns), ways_ns)
def test_how_long_a_wire_took_lies_within_its_error(sender, receiver, took_ns):
    offsets = [offset_of([ping(0, there, back, offset)]) for offset, there, back in (sender, receiver)]
    sent_ns = 10**10
    wire = between(sent_ns + sender[0], offsets[0], sent_ns + took_ns + receiver[0], offsets[1])
    assert wire.ms - wire.error_ms - 1e-6 <= took_ns / 1e6 <= wire.ms + wire.error_ms + 1e-6
    assert wire.ms - wire.error_ms >= -1e-9


def test_nothing_is_less_than_nothing_on_the_wire():
    assert between(100, SAME, 40, SAME) == (0, 0)
    assert between(1_000_000, SAME, 1_500_000, Offset(-100_000, 900_000)) == (0.3, 0.3)
