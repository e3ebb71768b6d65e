from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.frame import Frame
from edge_agent.gather import Gather

DEADLINE = 100


def frame(step, origin_ns=0):
    return Frame(step, 1, b"bundle00", None, 0, origin_ns)


def gather(awaited=("f2", "e1"), sources=("f2", "e1"), **options):
    return Gather(sources, lambda: frozenset(awaited), DEADLINE, **options)


def test_a_step_is_complete_when_every_living_source_has_delivered():
    steps = gather()
    assert steps.offer("e1", frame(1), 0) is None
    done = steps.offer("f2", frame(1), 5)
    assert not done.missing
    assert [each.step for each in done.frames] == [1, 1]


def test_a_dead_source_is_not_waited_for():
    done = gather(awaited=["f2"]).offer("f2", frame(1), 0)
    assert not done.missing
    assert done.frames[1] is None


def test_a_source_that_dies_completes_the_steps_that_waited_for_it_alone():
    steps = gather()
    steps.offer("e1", frame(1), 0)
    steps.offer("e1", frame(2), 1)
    steps.offer("f2", frame(3), 2)
    assert [done.step for done in steps.bury("f2")] == [1, 2]
    assert steps.next_deadline_ns == 2 + DEADLINE


def test_a_living_source_is_cut_off_at_the_deadline_and_not_before():
    steps = gather()
    steps.offer("e1", frame(1), 0)
    assert steps.expire(DEADLINE - 1) == []
    (cut,) = steps.expire(DEADLINE)
    assert cut.missing == {"f2"}
    assert steps.counters.cut == 1


def test_what_comes_late_is_counted_and_never_used():
    steps = gather()
    steps.offer("e1", frame(1), 0)
    steps.expire(DEADLINE)
    assert steps.offer("f2", frame(1), DEADLINE + 1) is None
    assert steps.counters.late == 1
    assert steps.next_deadline_ns is None


def test_a_vector_that_comes_twice_counts_once():
    steps = gather()
    steps.offer("e1", frame(1), 0)
    assert steps.offer("e1", frame(1), 1) is None
    assert steps.counters.duplicate == 1


def test_under_overload_the_oldest_step_is_dropped():
    steps = gather(capacity=2)
    for step in (1, 2, 3):
        steps.offer("e1", frame(step), step)
    assert steps.counters.dropped == 1
    assert steps.offer("f2", frame(1), 9) is None
    assert steps.offer("f2", frame(2), 9).step == 2


def test_an_announced_step_waits_for_the_living_and_closes_at_once_without_them():
    assert gather().announce(1, 7, 0) is None
    done = gather(awaited=()).announce(1, 7, 0)
    assert not done.missing
    assert done.frames == (None, None)
    assert done.origin_ns == 7


def test_a_source_that_comes_back_is_awaited_from_the_next_step_on():
    awaited = {"f2"}
    steps = Gather(("f2", "e1"), lambda: frozenset(awaited), DEADLINE)
    steps.announce(1, 0, 0)
    awaited.add("e1")
    assert not steps.offer("f2", frame(1), 1).missing
    assert steps.offer("f2", frame(2), 2) is None


def test_a_step_forgotten_long_ago_is_still_late(monkeypatch):
    monkeypatch.setattr("edge_agent.gather.REMEMBERED_STEPS", 3)
    steps = gather(awaited=["e1"])
    for step in range(10):
        steps.offer("e1", frame(step), step)
    assert steps.offer("f2", frame(0), 20) is None
    assert steps.counters.late == 1


def run_two(steps, first, last):
    """Feed steps that both sources deliver in time; return how many were complete."""
    done = 0
    for step in range(first, last):
        steps.offer("e1", frame(step), step)
        done += steps.offer("f2", frame(step), step) is not None
    return done


@pytest.mark.parametrize("ahead", [3, 1000, 1 << 40, (1 << 64) - 200])
def test_a_wild_step_number_of_one_source_blocks_nothing(ahead, monkeypatch):
    monkeypatch.setattr("edge_agent.gather.REMEMBERED_STEPS", 8)
    steps = gather()
    assert run_two(steps, 0, 50) == 50
    steps.offer("f2", frame(50 + ahead), 50)
    steps.expire(50 + DEADLINE)
    assert run_two(steps, 50, 150) == 100 - (ahead < 100)  # the one that was forged is spoiled, no other


def test_a_source_that_opens_steps_without_end_flushes_its_own_only():
    steps = gather(capacity=8)
    steps.offer("e1", frame(1), 0)
    steps.announce(2, 0, 0)
    for wild in range(100):
        steps.offer("f2", frame(1000 + wild), 0)
    assert steps.counters.dropped == 94
    assert not steps.offer("f2", frame(1), 1).missing
    steps.offer("e1", frame(2), 1)
    assert not steps.offer("f2", frame(2), 1).missing


def test_a_sender_whose_clock_was_set_back_is_heard(monkeypatch):
    monkeypatch.setattr("edge_agent.gather.REMEMBERED_STEPS", 8)
    steps = gather()
    assert run_two(steps, 1 << 40, (1 << 40) + 20) == 20
    assert run_two(steps, 1 << 20, (1 << 20) + 20) == 20


def test_a_frame_that_keeps_the_deadline_is_in_time_though_the_step_is_closed():
    steps = gather(awaited=["f2"])
    steps.offer("f2", frame(1), 0)
    assert steps.is_in_time(1, DEADLINE - 1)
    assert not steps.is_in_time(1, DEADLINE)
    assert not steps.is_in_time(2, 0)


def test_what_each_source_did_is_counted():
    steps = gather()
    steps.offer("e1", frame(1), 0)
    steps.expire(DEADLINE)
    steps.offer("f2", frame(1), DEADLINE)
    steps.offer("e1", frame(1), DEADLINE)
    f2, e1 = steps.sources["f2"], steps.sources["e1"]
    assert (f2.frames, f2.null, f2.cut, f2.late) == (1, 1, 1, 1)
    assert (e1.frames, e1.cut, e1.late, e1.duplicate) == (2, 0, 1, 0)
    assert sum(f2.wait.counts) == 1


moves = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from("abc"), st.integers(0, 12)),
    st.tuples(st.just("announce"), st.just(""), st.integers(0, 12)),
    st.tuples(st.just("bury"), st.sampled_from("abc"), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 2 * DEADLINE)),
)


@given(st.lists(moves, max_size=80), st.sets(st.sampled_from("abc")))
def test_every_step_closes_once_and_holds_only_its_own_vectors(history, living):
    steps = Gather("abc", lambda: frozenset(living), DEADLINE, capacity=4)
    now, offered, closed = 0, set(), Counter()
    for kind, source, number in history:
        now += number if kind == "wait" else 1
        done = {
            "offer": lambda s=source, n=number, t=now: [steps.offer(s, frame(n), t)],
            "announce": lambda n=number, t=now: [steps.announce(n, 0, t)],
            "bury": lambda s=source: steps.bury(s),
            "wait": lambda t=now: steps.expire(t),
        }[kind]()
        if kind == "offer":
            offered.add((source, number))
        for each in filter(None, done):
            closed[each.step] += 1
            for name, held in zip("abc", each.frames, strict=True):
                assert held is None or (held.step == each.step and (name, each.step) in offered)
    assert max(closed.values(), default=1) == 1
    counters = steps.counters
    assert counters.complete + counters.cut == sum(closed.values())
    assert counters.steps == counters.complete + counters.cut + counters.dropped + len(steps._open)
