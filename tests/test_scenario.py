"""What happens when: scenarios and chance, as pure functions of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.drilled import Course, Tally
from benchmarks.scenario import (
    LAB_VERBS,
    LOCAL_VERBS,
    Harm,
    Plan,
    ScenarioError,
    by_chance,
    load_scenario,
    next_change_s,
    wanted,
)
from benchmarks.times import quantile_ms

TEXT = """
seconds = 40
events = [
  { at = 20, do = "back", node = "f1" },
  { at = 10, do = "kill", node = "f1" },
  { at = 15.5, do = "freeze", node = "e1" },
]
"""


def scenario(tmp_path, bundle, text, verbs=LOCAL_VERBS):
    file = tmp_path / "s.toml"
    file.write_text(text)
    return load_scenario(file, bundle.manifest, verbs)


def test_a_scenario_is_played_in_the_order_of_time_and_begins_again(tmp_path, bundle):
    plan = scenario(tmp_path, bundle, TEXT)
    assert [wanted(plan, at) for at in (0, 10, 16, 20, 39.9, 40, 51)] == [
        {},
        {"f1": Harm("kill")},
        {"f1": Harm("kill"), "e1": Harm("freeze")},
        {"e1": Harm("freeze")},
        {"e1": Harm("freeze")},
        {},
        {"f1": Harm("kill")},
    ]
    assert [next_change_s(plan, at) for at in (0, 10, 15.5, 20, 40)] == [10, 15.5, 20, 40, 50]


def test_a_scenario_lasts_ten_seconds_longer_than_its_last_event(tmp_path, bundle):
    assert scenario(tmp_path, bundle, 'events = [{ at = 5, do = "stop", node = "f2" }]').seconds == 15


def test_an_event_says_how_slow_or_lossy_or_it_is_as_usual(tmp_path, bundle):
    text = """events = [
      { at = 0, do = "slow", node = "f1", percent = 2.5 },
      { at = 1, do = "lossy", node = "e1" },
    ]"""
    assert wanted(scenario(tmp_path, bundle, text, LAB_VERBS), 1) == {"f1": Harm("slow", 2.5), "e1": Harm("lossy", 10)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('events = [{ at = 5, do = "kill", node = "f1", percent = 5 }]', "kill has no percent: slow, lossy have"),
        ('events = [{ at = 5, do = "kill", node = "f1", percent = 101 }]', "<= 100"),
        ("events = []", "length >= 1"),
        ('events = [{ at = 5, do = "kill", node = "f9" }]', "f9 is no node that can fail: those are f1, f2, e1"),
        ('events = [{ at = 5, do = "unplug", node = "f1" }]', "unplug cannot be done to this fleet: kill, stop"),
        ('events = [{ at = 5, do = "burn", node = "f1" }]', "burn"),
        ('events = [{ at = -5, do = "kill", node = "f1" }]', ">= 0"),
        ('seconds = 5\nevents = [{ at = 5, do = "kill", node = "f1" }]', "over before the last event, at 5"),
        ("events = ", "not TOML"),
    ],
)
def test_a_scenario_that_cannot_be_played_is_refused(tmp_path, bundle, text, sentence):
    with pytest.raises(ScenarioError, match=r"s\.toml: .*" + sentence):
        scenario(tmp_path, bundle, text)


def test_chance_lets_each_node_be_alive_as_often_as_the_setting_says(bundle):
    plan = by_chance(bundle.manifest, "hazardous", 5.0, Harm("freeze"), 3)
    draws = [wanted(plan, 5.0 * k) for k in range(4000)]
    for node, r in bundle.manifest.settings["hazardous"].items():
        assert sum(node not in each for each in draws) / 4000 == pytest.approx(r, abs=0.025)
    assert {harm for each in draws for harm in each.values()} == {Harm("freeze")}
    both = sum("f1" in each and "e1" in each for each in draws) / 4000
    assert both == pytest.approx(0.1 * 0.2, abs=0.01)  # one does not tell the other


@given(st.integers(0, 1 << 20), st.floats(0, 1e5), st.sampled_from([1.0, 5.0, 60.0]))
def test_chance_is_the_same_for_the_same_seed_until_the_next_change(seed, at_s, every_s):
    plan = Plan(mode="random", reliability={"f1": 0.5, "f2": 0.5}, every_s=every_s, seed=seed)
    until_s = next_change_s(plan, at_s)
    assert at_s < until_s <= at_s + every_s
    assert wanted(plan, at_s) == wanted(plan, at_s) == wanted(plan, max(at_s, until_s - every_s / 4))


def test_an_unknown_setting_is_refused(bundle):
    with pytest.raises(ScenarioError, match="'stormy': the bundle's settings are no_failure, normal, poor, hazardous"):
        by_chance(bundle.manifest, "stormy", 5.0, Harm("kill"), 0)


@given(st.lists(st.tuples(st.floats(0, 50_000), st.booleans()), min_size=1, max_size=40))
def test_the_course_stays_short_and_loses_nothing(steps):
    course = Course()
    for at_s, is_answered in sorted(steps):
        course.add(at_s, 0.5, 1.0, 4.0 if is_answered else None)
    last = len(course.sent) * course.bucket_s
    assert max(at_s for at_s, _ in steps) < last
    assert len(course.sent) <= 3600
    assert sum(course.sent) == len(steps)
    assert sum(course.answered) == sum(answered for _, answered in steps)
    assert sum(course.ms) == 4.0 * sum(course.answered)
    assert course.last(1e6)[:3] == (len(steps), sum(course.answered), sum(course.right))


@given(st.lists(st.floats(0.05, 5000), min_size=1, max_size=200))
def test_quantiles_of_answer_times_are_right_within_an_eighth(times_ms):
    tally = Tally(mask="1")
    for each in times_ms:
        tally.time(each)
    median = sorted(times_ms)[(len(times_ms) - 1) // 2]
    assert median * 0.999 <= quantile_ms(tally.answer_times, 0.5) <= median * 1.13
    assert quantile_ms({}, 0.5) == 0


def test_a_tally_keeps_means():
    tally = Tally(mask="1")
    for right, predicted in ((1.0, 1.0), (0.0, 1.0), (0.25, 0.25), (1.0, 0.0)):
        tally.compare(right, predicted, equal=right == predicted)
    assert (tally.n, tally.labels_equal) == (4, 2)
    assert tally.accuracy_measured == tally.accuracy_predicted == 0.5625
