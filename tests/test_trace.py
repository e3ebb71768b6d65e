"""When what happened to a node's last steps, told to the operator who asks."""

import numpy as np
import pytest
from inprocess import Fog

from edge_agent.commands import decode_reply, encode_ask, encode_reply, reply_of
from edge_agent.trace import REMEMBERED, Trace


class Member:
    name, epoch = "f1", 3


def asked(node, command="trace"):
    return decode_reply(encode_reply(node.on_request(encode_ask(command))))


@pytest.fixture
def vector():
    return {"iot": np.zeros(36, np.float32)}


def test_a_node_tells_when_each_vector_came_and_each_stage_ended(bundle, vector):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    fog.now_ns = 1000
    fog.sense(7, vector)
    fog.settle()
    told = asked(fog.nodes["cloud"])
    (step,) = told.trace
    assert (step.step, step.opened_ns) == (7, 1000)
    assert step.arrived == {"f1": 0, "f2": 0}
    assert 0 <= step.closed <= step.inferred <= step.published
    assert told.now_ns == fog.now_ns
    assert asked(fog.nodes["cloud"], "ping").trace is None


def test_a_vector_that_did_not_come_in_time_is_missing_in_the_trace(bundle, vector):
    fog = Fog(bundle, {"e1", "f1", "f2"})
    del fog.nodes["f1"]
    fog.sense(1, vector)
    fog.settle()
    deadline_ns = round(bundle.manifest.deadlines_ms["cloud"] * 1e6)
    fog.wait(deadline_ns / 1e6)
    (step,) = asked(fog.nodes["cloud"]).trace
    assert step.arrived == {"f2": 0}
    assert step.closed == deadline_ns


def test_a_trace_holds_the_last_steps_and_no_more(bundle, vector):
    fog = Fog(bundle, {"e1"})
    for step in range(REMEMBERED + 5):
        fog.sense(step, vector)
        fog.settle()
    told = asked(fog.nodes["e1"]).trace
    assert [each.step for each in told] == list(range(5, REMEMBERED + 5))


@pytest.mark.parametrize("sources", [1, 40])
def test_a_reply_is_cut_to_what_a_message_may_take(sources):
    trace = Trace()
    arrived = {f"a-node-with-a-long-name-{number}": (1 << 62) + 10**9 for number in range(sources)}
    for step in range(REMEMBERED):
        trace.add(((1 << 63) + step, 1 << 62, arrived, *3 * [(1 << 62) + 10**9]))
    payload = encode_reply(reply_of("trace", Member(), b"bundle00", 1, trace, None))
    assert len(payload) < 64 << 10
    told = decode_reply(payload).trace
    assert told[-1].step == (1 << 63) + REMEMBERED - 1
    assert len(told) == REMEMBERED if sources == 1 else 10 < len(told) < REMEMBERED


def test_a_node_tells_how_long_its_graph_takes_and_computes_the_same_after_it(bundle, vector):
    fog, other = Fog(bundle, {"e1", "f1", "f2"}), Fog(bundle, {"e1", "f1", "f2"})
    for each in (fog, other):
        each.sense(1, vector)
        each.settle()
    assert 0 < asked(fog.nodes["f1"], "speed").infer_ms < 30
    for each in (fog, other):
        each.sense(2, vector)
        each.settle()
    assert fog.answers == other.answers
