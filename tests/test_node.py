"""All nodes of a fog in one process, joined by an honest in-process transport: a queue of messages."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from inprocess import TOPICS, Fog, fed_under

from broker.frame import Frame, decode, encode
from broker.presence import Status, encode_status
from edge_agent.answer import guess
from edge_agent.metrics import Metrics
from edge_agent.pace import step_number
from export.data import load_data
from export.data.rows import split_rows
from export.evaluation import Composed
from export.failures import masks


@pytest.fixture(scope="module")
def rows(bundle):
    data = load_data("watch")
    return {"iot": data.sensors["iot"][split_rows(data, "row", 0).test]}


@pytest.mark.parametrize("mask", masks(3))
def test_under_every_mask_every_label_is_the_predicted_one(bundle, rows, mask):
    fog, predicted = fed_under(bundle, mask, rows)
    assert [answer.step for answer in fog.answers] == list(range(len(predicted)))
    assert fog.labels == predicted
    assert all(answer.complete for answer in fog.answers)
    assert {answer.expected_accuracy for answer in fog.answers} == {bundle.manifest.accuracy.per_mask[mask]}


def test_contributors_are_the_nodes_whose_units_are_in_the_answer(bundle, rows):
    fog = Fog(bundle, {"f2", "f1"})
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    assert fog.answers[0].contributors == ("iot", "f2", "f1", "cloud")


def test_without_information_the_answer_is_the_flagged_guess(bundle, rows):
    fog = Fog(bundle, {"f1"})
    fog.sense(5, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    (answer,) = fog.answers
    assert answer.guess
    assert answer.contributors == ()
    assert answer.label == guess(5, bundle.manifest.prior)
    assert answer.expected_accuracy == bundle.manifest.accuracy.chance


def test_a_source_that_hangs_is_cut_off_and_the_answer_says_so(bundle, rows):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    del fog.nodes["f1"]  # alive for all the others, and silent
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    assert fog.answers == []
    fog.wait(bundle.manifest.deadlines_ms["cloud"] - 1)
    assert fog.answers == []
    fog.wait(1)
    (answer,) = fog.answers
    assert not answer.complete
    assert set(answer.contributors) == {"iot", "e1", "f2", "cloud"}


def test_a_dead_source_is_not_waited_for(bundle, rows):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    del fog.nodes["f1"]
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    fog.say(TOPICS.status("f1"), encode_status(Status(online=False, epoch=1, reason="lost")))
    fog.settle()
    assert [answer.complete for answer in fog.answers] == [True]


DEAD = encode_status(Status(online=False, epoch=1, reason="lost"))


def test_a_source_that_one_node_alone_does_without_makes_the_answer_incomplete(bundle, rows):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    fog.nodes["f2"].on_message(TOPICS.status("e1"), DEAD, 0)  # nobody else believes it
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    (answer,) = fog.answers
    assert set(answer.contributors) == {"iot", "e1", "f2", "f1", "cloud"}
    assert not answer.complete


@pytest.mark.parametrize(("through", "is_cut"), [(("iot", "f2"), False), (("iot", "e1", "f2"), True)])
def test_a_node_that_did_without_a_source_says_so_if_that_one_lives(bundle, rows, through, is_cut):
    fog = Fog(bundle, {"f1", "f2"})
    sent = []
    f1 = fog.nodes["f1"]
    f1._publish = lambda topic, payload: sent.append(payload)
    bits = sum(1 << bundle.manifest.names.index(name) for name in through)
    vector = np.ones(bundle.manifest.entry("f2").shape, np.float32)
    f1.on_message(TOPICS.tensor("f2"), encode(Frame(1, 1, bundle.id, vector, bits)), 0)
    assert decode(sent[-1]).is_cut is is_cut


def test_a_node_waits_for_each_of_its_sensors_though_no_other_node_hears_them(bundle, rows):
    nodes = dict(bundle.manifest.nodes)
    sensors = {**bundle.manifest.sensors, "e1": nodes.pop("e1")}  # f2 is then fed by two sensors, and by nothing else
    manifest = msgspec.structs.replace(bundle.manifest, nodes=nodes, sensors=sensors, order=("f1", "f2"))
    fog = Fog(replace(bundle, manifest=manifest), ["f2", "f1"])
    hidden = fog.nodes["f2"]._expected["e1"][0]
    fog.sense(7, {"iot": Composed(bundle).sensed(rows)["iot"][0], "e1": np.ones(hidden, np.float32)})
    fog.settle()
    assert set(fog.answers[0].contributors) >= {"iot", "e1"}
    assert fog.nodes["f2"].counters.late == 0


def test_a_sensor_is_waited_for_as_long_as_its_agent_lives_or_the_fleet_is_fed_by_hand(bundle):
    f1 = Fog(bundle, {"e1", "f1", "f2"}).nodes["f1"]  # which hears of the sensor through others alone
    place, late_ns = 0, 10_000_000_000

    def waits_after(status=None, step=None, now_ns=0):
        if status:
            f1.on_message(TOPICS.status("iot"), encode_status(status), now_ns)
        if step is not None:
            f1.on_message(TOPICS.tensor("e1"), encode(Frame(step, 1, bundle.id, None, 0)), now_ns)
        return f1._awaited == {"e1", "f2"}

    born, dead = Status(online=True, epoch=3), Status(online=False, epoch=3, reason="stopped")
    assert waits_after()  # nobody was heard of
    assert waits_after(born)
    assert waits_after(step=step_number(3, place, 1))
    assert not waits_after(dead)
    assert not waits_after(step=step_number(3, place, 2))  # one that was under way
    assert waits_after(step=1)
    assert waits_after(step=step_number(3, place, 3))  # the two may mingle
    assert not waits_after(step=step_number(3, place, 4), now_ns=late_ns)
    assert f1.counters.suspicions == 0


def test_a_node_born_again_is_not_asked_for_what_its_last_life_owed(bundle, rows):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    del fog.nodes["f1"]
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    fog.say(TOPICS.status("f1"), encode_status(Status(online=True, epoch=2)))
    fog.settle()
    assert [answer.complete for answer in fog.answers] == [True]
    assert "f1" not in fog.answers[0].contributors


def beat_for(fog, milliseconds, silent=()):
    """Every node beats each 50 ms, but for the silent ones."""
    for _ in range(milliseconds // 50):
        fog.now_ns += 50_000_000
        for name, node in fog.nodes.items():
            if name not in silent:
                node.beat(fog.now_ns)
        fog.settle()


def states(fog, name="cloud"):
    return {node: sensed.state for node, sensed in fog.nodes[name].presence.view.items()}


def test_a_node_that_falls_silent_is_suspected_and_costs_no_more_waiting(bundle, rows):
    sensed = {"iot": Composed(bundle).sensed(rows)["iot"][0]}
    fog = Fog(bundle, {"e1", "f1", "f2"})
    beat_for(fog, 500)
    frozen = fog.nodes.pop("f1")
    fog.sense(1, sensed)
    beat_for(fog, 250)
    (first,) = fog.answers  # the step under way was let go as soon as f1 was suspected
    assert first.complete
    assert states(fog) == {"e1": "alive", "f2": "alive", "f1": "suspect"}
    fog.sense(2, sensed)
    fog.settle()
    assert [answer.step for answer in fog.answers] == [1, 2]
    assert set(fog.answers[1].contributors) == {"iot", "e1", "f2", "cloud"}
    fog.nodes["f1"] = frozen
    beat_for(fog, 100)
    fog.sense(3, sensed)
    fog.settle()
    assert set(fog.answers[2].contributors) == {"iot", "e1", "f2", "f1", "cloud"}


def test_nobody_waits_for_a_node_behind_those_that_fell_silent(bundle, rows):
    """With e1 and f2 frozen nothing reaches f1, and the cloud, which hears f1 beat, does not wait for it."""
    fog = Fog(bundle, {"e1", "f1", "f2"})
    beat_for(fog, 500)
    del fog.nodes["e1"], fog.nodes["f2"]
    beat_for(fog, 250)
    fog.sense(1, {"iot": Composed(bundle).sensed(rows)["iot"][0]})
    fog.settle()
    assert [answer.guess for answer in fog.answers] == [True]


def test_a_node_that_misses_one_deadline_after_the_other_is_slow_until_it_keeps_one(bundle, rows):
    sensed = {"iot": Composed(bundle).sensed(rows)["iot"][0]}
    deadline_ms = int(bundle.manifest.deadlines_ms["cloud"])
    fog = Fog(bundle, {"e1", "f1", "f2"})
    slow = fog.nodes["f1"]
    for step in range(3):
        del fog.nodes["f1"]
        fog.sense(step, sensed)
        fog.settle()
        for _ in range(deadline_ms // 50):
            slow.beat(fog.now_ns)  # it beats, and computes nothing
            beat_for(fog, 50)
            fog.wait(0)
        fog.nodes["f1"] = slow
    assert states(fog)["f1"] == "slow"
    assert [answer.complete for answer in fog.answers] == [False] * 3
    del fog.nodes["f1"]
    fog.sense(3, sensed)
    fog.settle()
    assert len(fog.answers) == 4  # without waiting
    fog.nodes["f1"] = slow
    fog.sense(4, sensed)
    fog.settle()
    assert states(fog)["f1"] == "alive"


def test_the_counters_of_a_node_add_up(bundle, rows):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    for step in range(10):
        fog.sense(step, {"iot": Composed(bundle).sensed(rows)["iot"][step]})
    fog.settle()
    fog.queue.clear()
    fog.nodes["cloud"].publish_metrics()
    ((_, payload),) = fog.queue
    told = msgspec.json.decode(payload, type=Metrics)
    assert (told.counters.steps, told.counters.complete, told.counters.null) == (10, 10, 0)
    assert {name: source.frames for name, source in told.sources.items()} == {"f1": 10, "f2": 10}
    for stage in (told.stages.wait, told.stages.infer, told.stages.publish):
        assert sum(stage.counts) == 10


def test_what_does_not_fit_is_counted_and_dropped(bundle):
    fog = Fog(bundle, {"e1"})
    node = fog.nodes["e1"]
    tensor, status = TOPICS.tensor("iot"), TOPICS.status("e1")
    node.on_message(tensor, b"garbage", 0)
    node.on_message(tensor, encode(Frame(1, 1, b"another0", np.zeros(36, np.float32))), 0)
    node.on_message(tensor, encode(Frame(1, 1, bundle.id, np.zeros(35, np.float32))), 0)
    node.on_message(tensor, encode(Frame(1, 1, bundle.id, np.zeros(36, np.float16))), 0)
    changed = bytearray(encode(Frame(1, 1, bundle.id, np.zeros(36, np.float32))))
    changed[100] ^= 1
    node.on_message(tensor, bytes(changed), 0)
    fog.nodes["cloud"].on_message(status, b"{", 0)
    assert node._rejected == {"length": 1, "bundle": 1, "shape": 2, "checksum": 1}
    assert node.metrics().sources["iot"].rejected == node._rejected
    assert fog.nodes["cloud"]._rejected == {"status": 1}
    assert not fog.queue


def test_a_node_publishes_its_vector_once_for_parent_and_skip_target(bundle):
    fog = Fog(bundle, {"e1"})
    fog.queue.clear()
    fog.nodes["e1"].on_message(TOPICS.tensor("iot"), encode(Frame(1, 1, bundle.id, np.zeros(36, np.float32), 1)), 0)
    ((topic, payload),) = fog.queue
    assert topic == TOPICS.tensor("e1")
    assert decode(payload).values.shape == (250,)
