"""`bench failover`: which classes there are, what becomes of single failures, and real fleets that go through them."""

import json

import pytest
from support import operated

from benchmarks.episodes import sensed_by
from benchmarks.failover import Episode, NotAsPredicted, Way, layers, require_as_predicted, summary, ways
from benchmarks.place import place_of
from benchmarks.scenario import LAB_VERBS, LOCAL_VERBS, Harm
from benchmarks.told import Noticed
from broker.errors import FogError

BROKER_VERBS = ("kill", "unplug")


def test_classes_are_named_with_commas_percentages_and_all():
    found = ways(["kill,slow=2.5", "broker-unplug", "kill"], LAB_VERBS, BROKER_VERBS)
    assert found == [Way(Harm("kill")), Way(Harm("slow", 2.5)), Way(Harm("unplug"), at_broker=True)]
    assert [each.name for each in found] == ["kill", "slow=2.5", "broker-unplug"]
    with pytest.raises(FogError, match="none of these can be done to this fleet; power, hand can"):
        ways(["all"], ("power", "hand"), ())
    every = [each.name for each in ways(["all"], LAB_VERBS, BROKER_VERBS)]
    assert every == [
        *("kill", "freeze", "cut", "unplug", "slow=5", "lossy=10", "restart", "reboot"),
        *("broker-kill", "broker-unplug"),
    ]
    local = place_of()
    assert [each.name for each in ways(["all"], local.verbs, local.broker_verbs)] == [
        *("kill", "freeze", "restart", "broker-kill"),
    ]
    assert place_of(broker="mqtt://127.0.0.1:1883").broker_verbs == ()  # that one is somebody else's


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cut", "--by cut cannot be done to this fleet: kill, stop, freeze, restart, broker-kill can"),
        ("broker-freeze", "--by broker-freeze cannot be done"),
        ("kill=5", "kill: there is no more and no less of that"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(text, sentence):
    with pytest.raises(FogError, match=sentence):
        ways([text], LOCAL_VERBS, ("kill",))


@pytest.mark.parametrize("text", ["slow=", "slow=much", "lossy=0", "lossy=101", "slow=nan"])
def test_an_amount_is_a_percentage(text):
    with pytest.raises(FogError, match="write a percentage, such as slow=5"):
        ways([text], LAB_VERBS, ())


def test_a_failure_is_sensed_by_the_first_that_a_node_knows_of_it_after_it_happened():
    def noticed(observer, node, state, since_ns, layer="beat"):
        return Noticed(observer, node, "alive", state, layer, since_ns, since_ns + 1)

    seen = [
        noticed("cloud", "f1", "suspect", 90),  # a false alarm before
        noticed("cloud", "f1", "alive", 95),
        noticed("cloud", "f2", "suspect", 105),  # somebody else
        noticed("f1", "cloud", "suspect", 106),  # by somebody that it does not feed
        noticed("cloud", "f1", "suspect", 110),
        noticed("cloud", "f1", "dead", 120, "will"),
    ]
    assert sensed_by({"cloud", "g"}, "f1", seen, 100, one_clock=True) == {"cloud": (110, "beat")}
    assert sensed_by({"cloud", "g"}, "f1", seen, 100, one_clock=False) == {"cloud": (111, "beat")}


def episode(**changes):
    usual = {
        "node": "f1",
        "feeds": 2,
        "sensed_ms": {"f2": 5.0, "cloud": 7.0},
        "layers": {"f2": "will", "cloud": "beat"},
        "first_answer_ms": 9.0,
        "new_mask_ms": 9.5,
        "back_ms": 400.0,
        "gap_steps": 4,
        "gap_right": 3.0,
        "gap_as_predicted": 4,
        "incomplete": 0,
        "lost": 0,
        "late": 0,
        "wrong": 0,
        "false_suspicions": 0,
    }
    return Episode(**{**usual, **changes})


def test_what_a_class_comes_to():
    unsensed = episode(sensed_ms={"cloud": 9.0}, layers={"cloud": "beat"}, new_mask_ms=None, gap_right=0.0)
    found = summary("kill", [episode(), unsensed], [1.0, 3.0])
    assert (found.sensed_ms.n, found.sensed_first_ms.max, found.sensed_all_ms.p50) == (3, 9.0, 8.0)
    assert (found.unsensed, found.goal_ms) == (1, 30.0)
    assert layers(found) == "will 1, beat 2"
    assert (found.gap_steps, found.gap_accuracy, found.gap_as_predicted) == (8, 0.375, 1.0)
    assert (found.new_mask_ms.n, found.answer_ms.n) == (1, 2)
    nothing = summary("broker-kill", [episode(feeds=0, sensed_ms={}, layers={})], [])
    assert (nothing.sensed_ms, nothing.answer_ms, nothing.unsensed, nothing.goal_ms) == (None, None, 0, None)


def test_a_label_that_is_wrong_or_a_step_lost_but_with_the_broker_is_a_failure():
    of_broker = {"feeds": 0, "sensed_ms": {}, "layers": {}}
    fine = {
        "kill": summary("kill", [episode(late=4, incomplete=2, false_suspicions=1)], []),
        "broker-kill": summary("broker-kill", [episode(**of_broker, lost=3)], []),
    }
    require_as_predicted(fine)
    for lost, wrong, changes in ((3, 0, {}), (0, 1, {}), (3, 1, of_broker)):
        bad = summary("freeze", [episode(lost=lost, wrong=wrong, **changes)], [])
        with pytest.raises(NotAsPredicted, match=f"1 of 3 classes.*: freeze: {lost} steps lost, {wrong} labels wrong"):
            require_as_predicted({**fine, "freeze": bad})


@pytest.mark.slow
def test_failures_are_sensed_soon_and_nothing_is_lost(fogguard, bundle, tmp_path):
    options = ("--by", "all", "--times", 3, "--steps", 50, "--broker", "mosquitto")
    done = fogguard("bench", "failover", bundle.path, *options, "--json", "f.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text())
    classes = found["classes"]
    assert found["finished"]
    assert set(classes) == {"kill", "freeze", "restart", "broker-kill"}
    for name in ("kill", "freeze", "restart"):
        each = classes[name]
        assert each["sensed_ms"]["n"] == 6  # f1 feeds one node, f2 two, e1 three
        assert [episode["node"] for episode in each["each"]] == ["f1", "f2", "e1"]
        assert (each["unsensed"], each["lost"], each["cut"], each["wrong"]) == (0, 0, 0, 0)
        assert each["gap_as_predicted"] == 1 or not each["gap_steps"]
        assert each["sensed_first_ms"]["p50"] <= each["sensed_all_ms"]["p50"]
    assert classes["kill"]["sensed_ms"]["p50"] < 100
    assert 100 < classes["freeze"]["sensed_ms"]["p50"] < 1000
    assert classes["restart"]["layers"] == {"farewell": 6}
    assert set(classes["freeze"]["layers"]) <= {"beat", "deadline"}
    assert classes["broker-kill"]["back_ms"]["n"] == 3
    assert classes["broker-kill"]["wrong"] == 0


def test_by_hand_the_operator_is_asked_and_what_he_does_is_timed(bundle, tmp_path):
    options = ("--by", "hand", "--times", "3", "--steps", "20", "--json", "f.json")
    assert operated(tmp_path, "bench", "failover", bundle.path, *options) == 0
    found = json.loads((tmp_path / "f.json").read_text())["classes"]["hand"]
    assert [each["node"] for each in found["each"]] == ["f1", "f2", "e1"]
    assert (found["sensed_ms"]["n"], found["unsensed"], found["lost"], found["wrong"]) == (6, 0, 0, 0)
    assert found["sensed_first_ms"]["p50"] >= 0
