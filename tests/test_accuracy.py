"""The accuracy benchmark: which masks, in which order, and a real fleet put into each of them."""

import itertools
import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import operated

from benchmarks.accuracy import NotAsPredicted, chosen_masks, gray_order, half_width, require_as_predicted
from benchmarks.fleet import FLAT_OUT, running_trial
from benchmarks.hands import LocalHands
from benchmarks.measuring import Measuring
from broker.errors import FogError
from export.failures import combinations_of, masks, probabilities

ORDER = ("f1", "f2", "e1")
SETTINGS = [(0.9, 0.85, 0.8), (1.0, 1.0, 1.0)]


@given(st.integers(0, 9))
def test_all_masks_follow_each_other_with_one_node_changed(nodes):
    ordered = gray_order(masks(nodes))
    assert ordered[0] == "1" * nodes
    assert sorted(ordered) == sorted(masks(nodes))
    for before, after in itertools.pairwise(ordered):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@given(st.integers(1, 8), st.integers(0, 5))
def test_masks_are_drawn_without_repetition_and_the_same_for_the_same_seed(count, seed):
    found = chosen_masks(ORDER, SETTINGS, count, seed)
    assert len(set(found)) == len(found) == count
    assert found == chosen_masks(ORDER, SETTINGS, count, seed)


@given(st.integers(0, 30))
def test_a_draw_has_each_node_alive_and_dead_however_reliable_it_is(seed):
    order = tuple("abcdefgh")
    settings = [(0.995, 0.99, 0.98, 0.97, 0.95, 0.95, 0.95, 0.95), (1.0,) * 8]
    for count in (9, 30):
        drawn = chosen_masks(order, settings, count, seed)
        assert len(set(drawn)) == count
        for position in range(8):
            assert {mask[position] for mask in drawn} == {"0", "1"}


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("rows", [60, 123, 2000])
def test_nineteen_of_twenty_intervals_hold_the_share_that_rows_are_drawn_from(share, rows):
    drawn = (np.random.default_rng(0).random((2000, rows)) < share).astype(float)
    held = [abs(each.mean() - share) <= half_width(each) for each in drawn]
    assert np.mean(held) > 0.93


def test_likely_masks_are_drawn_first():
    drawn = [mask for seed in range(200) for mask in chosen_masks(ORDER, SETTINGS, 1, seed)]
    assert drawn.count("111") > 100
    assert drawn.count("000") < 10


def test_a_mask_that_does_not_fit_is_refused():
    for wrong in ("11", "1x1", ""):
        with pytest.raises(FogError, match="for each of f1, f2, e1"):
            chosen_masks(ORDER, SETTINGS, None, 0, [wrong])
    assert chosen_masks(ORDER, SETTINGS, None, 0, ["000", "101", "000"]) == ["101", "000"]


def measure(trial, by, some, progress=lambda *_: None, told=lambda _: None, known=None):
    return Measuring(trial, LocalHands(trial.agents), by, known).run(some, progress, told, 60.0)


@pytest.fixture(scope="module")
def prediction(bundle):
    """Eq. (3) as `fogguard evaluate` has it."""
    from export.average import evaluate

    return evaluate(bundle.path).variants["failout"].average


@pytest.mark.parametrize("by", ["kill", *(pytest.param(by, marks=pytest.mark.slow) for by in ("stop", "freeze"))])
@pytest.mark.parametrize("broker", ["mosquitto", pytest.param("embedded", marks=pytest.mark.slow)], indirect=True)
def test_a_fleet_answers_as_predicted_under_every_mask(bundle, prediction, by, broker):
    some = gray_order(masks(3))
    seen = []
    with running_trial(bundle.path, broker=str(broker), rate=FLAT_OUT, window=16) as trial:
        found = measure(trial, by, some, lambda done, total, mask: seen.append((done, mask)))
    require_as_predicted(found)
    assert found.findings == []
    assert [each.mask for each in found.masks] == some
    assert seen == [*enumerate(some), (8, "")]
    per_mask = bundle.manifest.accuracy.per_mask
    for each in found.masks:
        assert each.n == each.labels_equal == found.rows == bundle.manifest.accuracy.n
        assert each.accuracy_measured == each.accuracy_predicted == pytest.approx(per_mask[each.mask], abs=1e-6)
        assert each.guesses == (each.n if each.mask in ("000", "001", "100") else 0)
    for name, average in found.average.items():
        assert average.measured == pytest.approx(prediction[name].mean, abs=1e-5)
        assert average.covered == 1
    assert json.loads(msgspec.json.encode(found))["average"]["hazardous"]["ci95"] > 0


def test_masks_that_were_left_out_are_told_by_what_is_covered(bundle, broker):
    with running_trial(bundle.path, broker=str(broker), rate=FLAT_OUT, rows=20) as trial:
        found = measure(trial, "kill", ["111", "011"])
        hazardous = [bundle.manifest.settings["hazardous"][node] for node in bundle.manifest.order]
    share = probabilities(combinations_of(3), hazardous)[[0, 4]]
    assert found.average["hazardous"].covered == pytest.approx(share.sum(), abs=1e-5)
    weighted = np.average([each.accuracy_predicted for each in found.masks], weights=share)
    assert found.average["hazardous"].predicted == pytest.approx(weighted, abs=1e-5)
    assert found.rows == 20


def test_rows_are_fed_in_an_order_of_chance_for_some_sets_hold_class_after_class(bundle):
    with running_trial(bundle.path, rate=FLAT_OUT, rows=40) as trial:
        measure(trial, "kill", ["111"])
        rows = [record.row for record in trial.driver.phases[-1].steady]
    assert sorted(rows) == list(range(40))
    assert sum((b - a) % 40 == 1 for a, b in itertools.pairwise(rows)) < 10


def test_a_label_that_was_not_predicted_is_found(bundle, broker):
    with running_trial(bundle.path, broker=str(broker), rate=FLAT_OUT, rows=30) as trial:
        wrong = {**trial.predicted, "110": (trial.predicted["110"] + 1) % len(bundle.manifest.labels)}
        found = measure(replace(trial, predicted=wrong), "kill", ["111", "110"])
    with pytest.raises(NotAsPredicted, match="1 of 2 masks are not as predicted: 110: 30 of 30 labels differ"):
        require_as_predicted(found)


def test_what_was_as_predicted_is_not_measured_again_and_what_was_not_is(bundle, broker):
    some = ["111", "110", "101"]
    with running_trial(bundle.path, broker=str(broker), rate=FLAT_OUT, rows=30) as trial:
        stages = []
        first = measure(trial, "kill", some, told=stages.append)
        assert [len(each.masks) for each in stages] == [0, 1, 2, 3]
        known = {each.mask: each for each in first.masks}
        known["110"] = msgspec.structs.replace(known["110"], labels_equal=29)
        known["111"] = msgspec.structs.replace(known["111"], settled_ms=-1.0)
        stages.clear()
        second = measure(trial, "kill", some, told=stages.append, known=known)
        assert [len(each.masks) for each in stages] == [2, 3]  # nothing known is ever missing from the file
    assert second.average == first.average
    assert [each.mask for each in second.masks] == some
    by_mask = {each.mask: each for each in second.masks}
    assert by_mask["111"].settled_ms == -1.0
    assert by_mask["110"].labels_equal == 30


def test_the_command_writes_what_it_prints(fogguard, bundle, tmp_path):
    options = ("--rows", 25, "--masks", 3, "--json", "accuracy.json")
    done = fogguard("bench", "accuracy", bundle.path, *options, PYTHONIOENCODING="ascii")  # which knows no ±
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "accuracy.json").read_text())
    assert len(found["masks"]) == 3
    assert sum(each["labels_equal"] for each in found["masks"]) == 75
    assert "75 of 75 labels equal, 0 steps lost" in done.stdout
    assert found["bundle"] == bundle.id.hex()
    refused = fogguard("bench", "accuracy", bundle.path, "--mask", "10")
    assert refused.returncode == 2
    assert "--mask '10'" in refused.stderr


def test_by_hand_the_operator_is_asked_for_each_mask(bundle, tmp_path):
    options = ("--by", "hand", "--mask", "111", "--mask", "011", "--mask", "110", "--rows", "50", "--json", "a.json")
    assert operated(tmp_path, "bench", "accuracy", bundle.path, *options) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert [(each["mask"], each["labels_equal"]) for each in found["masks"]] == [("111", 50), ("110", 50), ("011", 50)]
