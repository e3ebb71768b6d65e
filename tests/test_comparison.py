"""`fogguard bench compare`: what is worse beyond noise is found, what is noise is not, and the rest is left out."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support import ROOT

from benchmarks.comparison import NothingComparable, Regression, compare, require_no_worse
from benchmarks.kinds import NoResult
from benchmarks.noise import Count, by_chance, by_rank, ratio_interval
from benchmarks.terminal import print_table

HOST = {"machine": "x86_64", "cores": 2}


def accuracy(wrong, n=1000, lost=0, equal=None, masks=("111", "011")):
    entries = [
        {
            "mask": mask,
            "n": n,
            "lost": lost,
            "labels_equal": n if equal is None else equal,
            "accuracy_measured": 1 - wrong / n,
        }
        for mask in masks
    ]
    return {"masks": entries, "average": {}, "rows": n, "host": HOST}


def latency(*p50, steps_per_s=(0.5, 0.51, 0.49, 0.5, 0.52)):
    rounds = [{"p50_ms": ms, "steps_per_s": per_s} for ms, per_s in zip(p50, steps_per_s, strict=True)]
    return {"floor": {}, "rounds": len(rounds), "each_round": rounds, "host": HOST}


def failover(sensed, host=HOST):
    entry = {"answer_ms": {"n": 500}, "lost": 0, "wrong": 0, "each_sensed_ms": sensed, "each_first_answer_ms": sensed}
    return {"classes": {"kill": entry}, "host": host}


def worse(before, after):
    return [each.name for each in compare(before, after, "a", "b").compared if each.worse]


def test_one_wrong_label_more_is_noise_and_many_are_not():
    assert worse(accuracy(30), accuracy(31)) == []
    assert worse(accuracy(30), accuracy(90)) == ["111: labels wrong", "011: labels wrong"]
    assert worse(accuracy(90), accuracy(30)) == []


def test_a_mask_that_comes_back_counts_each_time():
    assert worse(accuracy(30, masks=("111", "111")), accuracy(90, masks=("111", "111"))) == ["111: labels wrong"]
    worse_at_first = accuracy(90, masks=("111",))
    worse_at_first["masks"] += accuracy(30, masks=("111",))["masks"]
    assert worse(accuracy(10, masks=("111", "111")), worse_at_first) == ["111: labels wrong"]
    assert compare(accuracy(30), worse_at_first, "a", "b").compared[-1].after == 0.06


def test_steps_that_a_switch_lost_are_found():
    calm = json.loads((ROOT / "benchmarks" / "results" / "switch.json").read_text())
    lossy = json.loads(json.dumps(calm))
    lossy["switches"][1]["stretches"][3].update(lost=30)
    assert worse(calm, calm) == []
    assert worse(calm, lossy) == ["steps lost"]


def test_labels_that_differ_from_the_predicted_ones_and_lost_steps_are_found():
    assert worse(accuracy(30), accuracy(30, equal=980)) == ["labels not as predicted"]
    assert worse(accuracy(30), accuracy(30, lost=20)) == ["steps lost"]


def test_slower_rounds_are_found_and_faster_ones_or_a_single_slow_one_are_not():
    calm = latency(1.5, 1.52, 1.49, 1.51, 1.55)
    name = "p50_ms, times the bare relay's"
    assert worse(calm, latency(1.8, 1.82, 1.79, 1.81, 1.75)) == [name]
    assert worse(calm, latency(1.2, 1.22, 1.19, 1.21, 1.25)) == []
    assert worse(calm, latency(1.5, 1.52, 3.9, 1.51, 1.48)) == []
    slower = latency(1.5, 1.52, 1.49, 1.51, 1.55, steps_per_s=(0.3, 0.31, 0.29, 0.3, 0.32))
    assert worse(calm, slower) == ["steps_per_s, times the bare relay's"]
    (found, _) = compare(calm, latency(1.8, 1.82, 1.79, 1.81, 1.75), "a", "b").compared
    assert found.ratio[0] < 1.8 / 1.51 < found.ratio[1]
    with pytest.raises(Regression, match=r"1 of 2 are worse beyond noise: p50_ms, times .*: 1.51, now 1.8"):
        require_no_worse(compare(calm, latency(1.8, 1.82, 1.79, 1.81, 1.75), "a", "b"))


def test_what_cannot_be_compared_is_said():
    with pytest.raises(NothingComparable, match="a is of kind accuracy, b of kind latency"):
        compare(accuracy(3), latency(1, 1, 1, 1, 1), "a", "b")
    with pytest.raises(NothingComparable, match="measured too few times to tell"):
        compare(latency(1.5, 1.5, steps_per_s=(1, 1)), latency(1.5, 1.5, steps_per_s=(1, 1)), "a", "b")
    with pytest.raises(NoResult, match="b: no result that is known here"):
        compare(accuracy(3), {"plans": []}, "a", "b")
    found = compare(accuracy(3), accuracy(3, masks=("111", "000")), "a", "b")
    assert found.left_out == ["000: labels wrong: in one of them only", "011: labels wrong: in one of them only"]


def test_times_of_different_machines_are_left_out():
    fast, slow = [5.0 + k / 10 for k in range(30)], [9.0 + k / 10 for k in range(30)]
    assert worse(failover(fast), failover(slow)) == ["kill: sensed, ms", "kill: first answer, ms"]
    elsewhere = compare(failover(fast), failover(slow, {"cores": 4}), "a", "b")
    assert [each.name for each in elsewhere.compared] == ["kill: steps lost", "kill: labels wrong"]
    assert "kill: sensed, ms: times of different machines" in elsewhere.left_out


def test_two_samples_of_one_thing_are_seldom_called_worse():
    chance = np.random.default_rng(3)
    found = [by_rank(*(chance.gamma(2.0, 5.0, 30).tolist() for _ in range(2))) for _ in range(1000)]
    assert sum(p < 0.02 for p in found) == pytest.approx(20, abs=14)
    assert sum(p < 0.5 for p in found) == pytest.approx(500, abs=50)


@given(st.integers(0, 30), st.integers(1, 60), st.integers(0, 30), st.integers(1, 60))
def test_fishers_test_is_a_probability_and_falls_with_more_bad_ones(bad, good, more_bad, more_good):
    old = Count(bad, bad + good)
    p = by_chance(old, Count(more_bad, more_bad + more_good))
    assert 0 <= p <= 1
    assert by_chance(old, Count(more_bad + 1, more_bad + more_good)) <= p + 1e-9 or more_good == 0


def test_fishers_test_is_that_of_the_textbook():
    assert by_chance(Count(1, 10), Count(8, 10)) == pytest.approx(0.00273, abs=1e-4)


def test_ranks_exact_and_approximate_agree():
    chance = np.random.default_rng(1)
    old, new = chance.normal(0, 1, 8).tolist(), chance.normal(1, 1, 8).tolist()
    exact = by_rank(old, new)  # 12,870 ways
    assert by_rank([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 1 / 252
    assert by_rank([1.0] * 5, [1.0] * 5) == 1
    ten_times = by_rank(old * 2, new * 2)
    assert ten_times < exact
    assert by_rank(list(range(50)), list(range(50))) == pytest.approx(0.5, abs=0.02)


def test_the_interval_of_a_ratio_holds_the_truth():
    chance = np.random.default_rng(2)
    held = 0
    for _ in range(60):
        low, high = ratio_interval(chance.normal(10, 1, 25).tolist(), chance.normal(12, 1, 25).tolist())
        held += low <= 1.2 <= high
    assert held >= 51


def test_the_command_ends_with_1_only_if_something_is_worse(fogguard, tmp_path):
    for name, result in (("a", accuracy(30)), ("b", accuracy(90)), ("c", failover([1.0]))):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (tmp_path / "d.json").write_text("[]")
    worse = fogguard("bench", "compare", "a.json", "b.json", "--json", "w.json")
    assert worse.returncode == 1
    assert "2 of 4 are worse beyond noise: 111: labels wrong: 0.03, now 0.09" in worse.stderr
    assert "WORSE" in worse.stdout
    assert [each["worse"] for each in json.loads((tmp_path / "w.json").read_text())["compared"]].count(True) == 2
    assert fogguard("bench", "compare", "b.json", "a.json").returncode == 0
    for other, sentence in (("c", "of kind failover"), ("d", "no JSON object"), ("e", "cannot be read")):
        refused = fogguard("bench", "compare", "a.json", f"{other}.json")
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr


def test_a_narrow_terminal_cuts_no_figure(monkeypatch):
    narrow = Console(width=40, file=io.StringIO())
    monkeypatch.setattr("benchmarks.terminal.results", narrow)
    columns = ("mask", "steps", "answered", "measured %", "predicted %", "labels equal", "p50 ms")
    row = ("11111111", "123456", "123455", "95.78", "96.20", "123455 of 123456", "12.5")
    print_table("Masks", columns, [row])
    shown = narrow.file.getvalue()
    assert all(text in shown for text in (*columns, *row))
