"""Which skips there could be, and what they are worth."""

from itertools import combinations, product

import numpy as np
import pytest
from fogs import specs
from hypothesis import given, settings

from benchmarks.speed import chain
from broker.frame import HEADER_BYTES
from export.skips import Planner, choose_skips, legal_skips, with_skips
from export.spec import SpecError, load_spec, parse_spec

HEALTH = load_spec("health")
CAMERA = load_spec("camera")


def lives_by_hand(spec, setting, skips):
    """The probability that a living path leads from a sensor to the sink."""
    total = 0.0
    for bits in product([True, False], repeat=len(spec.order)):
        alive = {name for name, bit in zip(spec.order, bits, strict=True) if bit} | {spec.sink}
        speaking = set(spec.sensors)
        for name, node in spec.nodes.items():
            sources = {*node.simple, *(source for source, target in skips if target == name)}
            if name in alive and sources & speaking:
                speaking.add(name)
        reliability = spec.settings[setting]
        p = np.prod([reliability[n] if bit else 1 - reliability[n] for n, bit in zip(spec.order, bits, strict=True)])
        total += p * (spec.sink in speaking)
    return total


def test_the_skips_of_health_are_all_that_go_past_a_node():
    assert legal_skips(HEALTH) == [
        ("iot", "f2"), ("iot", "f1"), ("e1", "f1"), ("iot", "cloud"), ("e1", "cloud"), ("f2", "cloud"),
    ]  # fmt: skip
    assert choose_skips(HEALTH, "one") == [("iot", "f2"), ("e1", "f1"), ("f2", "cloud")]
    assert sorted(choose_skips(HEALTH, "specified")) == sorted(choose_skips(HEALTH, "one"))
    assert choose_skips(HEALTH, "nodes") == [("e1", "f1"), ("e1", "cloud"), ("f2", "cloud")]
    assert len(choose_skips(CAMERA, "specified")) == 7
    assert set(choose_skips(CAMERA, "specified")) < set(choose_skips(CAMERA, "one"))


def test_skips_can_be_named_and_replace_those_of_the_specification():
    changed = with_skips(HEALTH, choose_skips(HEALTH, "iot>cloud, e1>f1"))
    assert {name: node.skip for name, node in changed.nodes.items()} == {
        "e1": (), "f2": (), "f1": ("e1",), "cloud": ("iot",),
    }  # fmt: skip
    assert changed.settings == HEALTH.settings
    assert parse_spec(changed.text).nodes == changed.nodes
    with pytest.raises(SpecError, match=r"cycle|skips nothing"):
        with_skips(HEALTH, choose_skips(HEALTH, "f1>f2"))
    with pytest.raises(SpecError, match="write SOURCE>NODE"):
        choose_skips(HEALTH, "iot-cloud")


def test_the_probabilities_of_the_paper_s_fogs():
    """The published ones, of Camera: .727 and .970 in the hazardous setting, .960 and .9994 in the poor one."""
    specified = choose_skips(CAMERA, "specified")
    for setting, without, with_them in (("hazardous", 0.727, 0.970), ("poor", 0.960, 0.9994)):
        planner = Planner(CAMERA, setting)
        assert planner.judge(()).lives == pytest.approx(without, abs=5e-4)
        assert planner.judge(specified).lives == pytest.approx(with_them, abs=5e-4)
    assert Planner(HEALTH, "hazardous").judge(()).lives == pytest.approx(0.9 * 0.85 * 0.8)


@settings(max_examples=30)
@given(specs(most_nodes=4))
def test_a_set_is_judged_exactly_and_the_best_is_found(spec):
    planner = Planner(spec, "hazardous", most=2)
    skips = choose_skips(spec, "specified")
    assert planner.judge(skips).lives == pytest.approx(lives_by_hand(spec, "hazardous", skips))
    legal = legal_skips(spec)
    every = [chosen for size in range(3) for chosen in combinations(legal, size)]
    best = max(lives_by_hand(spec, "hazardous", chosen) for chosen in every)
    assert planner.best(1)[0].lives == pytest.approx(best)


def test_a_budget_is_kept():
    assert all(len(plan.skips) <= 1 for plan in Planner(HEALTH, "poor", most=1).best(9))
    cheap = Planner(HEALTH, "poor", most_bytes=500).best(99)
    assert max(plan.bytes_per_step for plan in cheap) <= 500
    assert cheap[0].skips == (("iot", "cloud"),)
    assert cheap[0].bytes_per_step == HEADER_BYTES + 4 * 12
    assert cheap[0].lives == pytest.approx(1)


def test_many_candidates_are_searched_by_growing_the_best():
    told = []
    planner = Planner(CAMERA, "hazardous", most=4, most_bytes=2000)
    assert not planner.exhaustive
    (best,) = planner.best(1, lambda *done: told.append(done))
    assert told == [(size, 4) for size in range(1, 5)]
    assert best.lives > planner.judge(choose_skips(CAMERA, "specified")).lives
    assert best.bytes_per_step <= 2000
    three = Planner(CAMERA, "hazardous", most=3, most_bytes=2000)
    assert three.exhaustive
    assert best.lives >= three.best(1)[0].lives


def test_each_skip_s_worth_is_what_is_lost_without_it():
    planner = Planner(HEALTH, "hazardous")
    plan = planner.judge(choose_skips(HEALTH, "specified"))
    for skip, worth in planner.worth(plan).items():
        without = [other for other in plan.skips if other != skip]
        assert worth == pytest.approx(plan.lives - lives_by_hand(HEALTH, "hazardous", without))


def test_more_nodes_than_can_be_enumerated_are_refused():
    many = chain(21)
    text = many.text + "\n[settings]\npoor = { " + ", ".join(f"{name} = 0.9" for name in many.order) + " }"
    with pytest.raises(SpecError, match="21 nodes can fail, skips are planned for up to 20"):
        Planner(parse_spec(text), "poor")


def test_an_unknown_setting_is_refused():
    with pytest.raises(SpecError, match="setting 'stormy': health has no_failure, normal, poor, hazardous"):
        Planner(HEALTH, "stormy")
