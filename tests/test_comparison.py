"""`fogguard bench compare`: what is worse beyond noise is found, what is noise is not, and the rest is left out."""

import copy
import io
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support import ROOT

from benchmarks.comparison import NothingComparable, Regression, compare, require_no_worse
from benchmarks.drilled import Deed, Stretch
from benchmarks.failover import Episode, summary
from benchmarks.kinds import NoResult
from benchmarks.noise import Count, by_chance, by_rank, ratio_interval
from benchmarks.terminal import print_table

HOST = {"machine": "x86_64", "cores": 2}


def committed(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


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


def failure(ms, **changes):
    usual = {"node": "f1", "feeds": 1, "sensed_ms": {"cloud": ms}, "layers": {"cloud": "will"}, "back_ms": 400.0}
    usual |= {"first_answer_ms": ms, "new_mask_ms": ms, "gap_steps": 8, "gap_right": 8.0, "gap_as_predicted": 8}
    usual |= dict.fromkeys(("incomplete", "lost", "late", "wrong", "false_suspicions"), 0)
    return Episode(**{**usual, **changes})


def failover(failures, host=HOST, by="kill"):
    found = summary(by, failures, [1.5] * 500)
    return {"classes": {by: msgspec.to_builtins(found)}, "host": host}


def drill(deeds, stretches=()):
    entries = accuracy(100)["masks"]
    done = [Deed(at_s=5.0 * number, node="f1", what=what, sensed_ms=ms) for number, (what, ms) in enumerate(deeds)]
    told = msgspec.to_builtins({"deeds": done, "stretches": stretches})
    return {"course": {}, "plan": {}, "masks": entries, "host": HOST, **told}


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


def test_masks_of_other_nodes_are_not_compared_though_they_are_called_alike():
    before = {**accuracy(30), "order": ["f1", "f2", "e1"]}
    after = {**accuracy(90), "order": ["gate", "barn", "attic"]}
    with pytest.raises(NothingComparable, match="a has the nodes f1, f2, e1, b gate, barn, attic: their masks are not"):
        compare(before, after, "a", "b")


def test_steps_that_a_switch_lost_are_found():
    calm = committed("switch")
    lossy = copy.deepcopy(calm)
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
    assert found.left_out == [
        "answer times: the steps of one run are not independent of each other",
        *("000: labels wrong: in one of them only", "011: labels wrong: in one of them only"),
    ]


def test_times_of_different_machines_are_left_out():
    fast, slow = ([failure(ms + k / 10) for k in range(30)] for ms in (5.0, 9.0))
    assert worse(failover(fast), failover(slow)) == ["kill: sensed, ms", "kill: first answer, ms"]
    elsewhere = compare(failover(fast), failover(slow, {"cores": 4}), "a", "b")
    assert not any(each.name.endswith(", ms") for each in elsewhere.compared)
    assert "kill: sensed, ms: times of different machines" in elsewhere.left_out


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sensed_ms": {}}, "not sensed by all"),
        ({"false_suspicions": 1}, "with false alarms"),
        ({"late": 3}, "with late answers"),
        ({"incomplete": 3}, "with incomplete answers"),
    ],
)
def test_failures_that_cost_more_than_before_are_found_and_one_of_them_is_not(changes, name):
    calm, costly = failure(5.0), failure(5.0, **changes)
    assert worse(failover([calm] * 32), failover([calm] * 12 + [costly] * 20)) == [f"kill: failures {name}"]
    assert worse(failover([calm] * 32), failover([calm] * 31 + [costly])) == []
    assert worse(failover([costly] * 32), failover([calm] * 32)) == []


def test_a_burst_within_one_failure_is_no_regression():
    calm, burst = failure(5.0), failure(5.0, false_suspicions=500, late=1000)
    assert worse(failover([calm] * 32), failover([calm] * 31 + [burst])) == []


def test_labels_that_are_wrong_in_the_gap_are_found():
    calm, blind = failure(5.0), failure(5.0, gap_right=0.0)
    assert worse(failover([calm] * 32), failover([blind] * 32)) == ["kill: right in the gap"]


@pytest.mark.parametrize("by", ["slow=5", "lossy=10"])
def test_who_keeps_up_though_slowed_need_not_be_noticed(by):
    noticed, unnoticed = [failure(900.0)] * 30, [failure(900.0, sensed_ms={})] * 30
    assert worse(failover(noticed, by=by), failover(unnoticed, by=by)) == []


def test_deeds_that_the_sink_no_longer_sees_are_found():
    seen = [("kill", 20.0 + k % 3) if k % 2 else ("back", 900.0 + k % 5) for k in range(120)]
    unseen = [(what, None if what == "kill" and k > 40 else ms) for k, (what, ms) in enumerate(seen)]
    assert worse(drill(seen), drill(unseen)) == ["kill: never seen"]
    assert worse(drill(seen), drill([*seen, ("kill", None)])) == []  # the last one, as the drill ends
    away = Stretch(mask="", from_s=100.0, to_s=600.0)  # nobody could have seen these
    assert worse(drill(seen), drill(unseen, [away])) == []
    slowed = [("slow 5 %", 900.0), ("back", 20.0)] * 60
    assert worse(drill(slowed), drill([(what, None) for what, _ in slowed])) == []


def test_a_lower_average_accuracy_is_found_where_no_mask_alone_shows_it():
    before, after = committed("accuracy-camera"), committed("accuracy-camera")
    for each in after["masks"]:
        each["accuracy_measured"] -= 0.1
    for each in after["average"].values():
        each["measured"] -= 0.1
    assert worse(before, after) == [f"{name}: Eq. (3)" for name in ("normal", "poor", "hazardous")]
    assert "no_failure: Eq. (3): has no interval in one of them" in compare(before, after, "a", "b").left_out
    assert worse(after, before) == []
    for name, each in after["average"].items():  # well within the interval
        each["measured"] = before["average"][name]["measured"] - each["ci95"] / 2
    assert worse(before, after) == []


def test_averages_over_other_masks_are_left_out():
    before, after = committed("accuracy-health"), committed("accuracy-health")
    del after["masks"][0]
    found = compare(before, after, "a", "b")
    assert "hazardous: Eq. (3): over other masks" in found.left_out
    assert not any("Eq. (3)" in each.name for each in found.compared)


def test_what_one_run_has_but_once_is_told_and_not_judged():
    before, after = committed("lab-latency"), committed("lab-latency")
    for name in after["answers_ms"]:
        after["answers_ms"][name] *= 10
    for load in after["loads"]:
        load["borne"] = False
    del after["answers_ms"]["p99.9"]
    found = compare(before, after, "a", "b")
    assert not any(each.worse for each in found.compared)
    assert "answers one by one, p50 ms: 1.618, now 16.18: of one run each, and runs differ" in found.left_out
    assert "answers one by one, p99.9 ms: 3.563, now none: of one run each, and runs differ" in found.left_out
    assert "load borne, steps a second: 800, now none: of one run each, and runs differ" in found.left_out


def test_wrong_vectors_of_a_fleet_beside_the_bare_relay_are_found_and_five_rounds_still_tell():
    before, after = committed("latency"), committed("latency")
    for each in after["judged"].values():
        each["wrong"] = each["n"]
    assert worse(before, after) == ["vectors computed wrong"]
    before["each_round"], after = before["each_round"][:5], copy.deepcopy(before)
    after["each_round"] = [{name: 2 * each for name, each in found.items()} for found in before["each_round"]]
    assert "p50_ms, times the bare relay's" in worse(before, after)


NAMES = ("accuracy-camera", "accuracy-health", "lab-accuracy-camera-cut", "lab-failover", "failover", "latency")


@pytest.mark.parametrize("name", [*NAMES, "lab-latency", "demo", "soak", "switch", "health"])
def test_no_committed_result_is_worse_than_itself(name):
    assert worse(committed(name), committed(name)) == []


def test_two_runs_of_one_state_are_seldom_called_worse():
    """Each of two runs draws its failures from all that were measured in the lab, class by class."""
    chance = np.random.default_rng(4)
    found = committed("lab-failover")["classes"]
    pool = {name: msgspec.convert(each["each"], list[Episode]) for name, each in found.items()}

    def run():
        drawn = {name: [some[k] for k in chance.integers(len(some), size=30)] for name, some in pool.items()}
        classes = {name: msgspec.to_builtins(summary(name, some, [1.5] * 3000)) for name, some in drawn.items()}
        return {"classes": classes, "host": HOST}

    assert sum(bool(worse(run(), run())) for _ in range(20)) <= 2


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
    for name, result in (("a", accuracy(30)), ("b", accuracy(90)), ("c", failover([failure(1.0)]))):
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
