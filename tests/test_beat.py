import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.beat import MAX_INTERVAL_MS, Beat, BeatError, Pulse, decode_beat, encode_beat
from broker.epoch import MAX_EPOCH

MS = 1_000_000


@given(st.integers(0, MAX_EPOCH), st.integers(0, 2**64 - 1), st.integers(1, MAX_INTERVAL_MS))
def test_a_beat_survives_the_wire(epoch, sequence, interval_ms):
    assert decode_beat(encode_beat(Beat(epoch, sequence, interval_ms))) == Beat(epoch, sequence, interval_ms)


@given(st.binary(max_size=40))
def test_whatever_the_bytes_are_a_beat_or_a_refusal_comes_of_them(payload):
    with contextlib.suppress(BeatError):
        assert 1 <= decode_beat(payload).interval_ms <= MAX_INTERVAL_MS


@pytest.mark.parametrize("interval_ms", [0, MAX_INTERVAL_MS + 1])
def test_an_interval_out_of_bounds_is_refused(interval_ms):
    with pytest.raises(BeatError, match="interval"):
        decode_beat(encode_beat(Beat(1, 1, interval_ms)))


def test_an_epoch_out_of_bounds_is_refused():
    with pytest.raises(BeatError, match="epoch"):
        decode_beat(encode_beat(Beat(MAX_EPOCH + 1, 1, 50)))


def steady(pulse, until_ms, every_ms=50, from_ms=0):
    for now_ms in range(from_ms, until_ms + 1, every_ms):
        pulse.hear(now_ms * MS, 50 * MS)


def test_a_node_that_beats_on_time_may_miss_three():
    pulse = Pulse(3)
    steady(pulse, 1000)
    assert not pulse.is_overdue(1150 * MS)
    assert pulse.is_overdue(1151 * MS)


def test_frames_in_between_do_not_make_it_stricter():
    pulse = Pulse(3)
    steady(pulse, 1000, every_ms=1)
    assert not pulse.is_overdue(1150 * MS)


def test_a_node_that_was_late_may_be_as_late_again_and_is_forgiven_in_time():
    pulse = Pulse(3)
    steady(pulse, 1000)
    pulse.hear(1150 * MS, 50 * MS)  # 100 ms late
    assert pulse.limit_ns == pytest.approx(250 * MS)
    steady(pulse, 11_150, from_ms=1200)
    assert pulse.limit_ns == pytest.approx(200 * MS, rel=0.01)  # ten seconds later


def test_a_freeze_adds_half_of_what_is_tolerated_however_long_it_is_and_however_often_it_comes():
    pulse = Pulse(3)
    steady(pulse, 1000)
    for freeze in range(1, 10):
        pulse.hear((1000 + 700 * freeze) * MS, 50 * MS)
        assert pulse.limit_ns == pytest.approx(225 * MS, rel=0.01)
    pulse.hear(60_000 * MS, 50 * MS)
    assert pulse.limit_ns == pytest.approx(225 * MS, rel=0.01)


def test_a_promise_of_long_silence_is_waited_for():
    pulse = Pulse(3)
    pulse.hear(0, 400 * MS)
    assert not pulse.is_overdue(1200 * MS)
    assert pulse.is_overdue(1201 * MS)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, MAX_INTERVAL_MS)), max_size=50))
def test_silence_is_suspected_sooner_or_later_whatever_came_before(signs):
    pulse = Pulse(3)
    now = 0
    for silence, interval_ms in signs:
        now += silence
        pulse.hear(now, interval_ms * MS)
        assert 0 < pulse.limit_ns <= 2 * 3 * MAX_INTERVAL_MS * MS + pulse._slack_ns
    assert pulse.is_overdue(now + int(pulse.limit_ns) + 1)
