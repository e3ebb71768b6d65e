"""The operator's questions, and what becomes of one that is lost on its way."""

import pytest

from broker.embedded import running_broker
from provisioning.asking import NoReply, Operator
from provisioning.local import LocalFleet


@pytest.mark.slow
def test_a_node_that_was_not_there_to_hear_the_question_is_asked_again(bundle, tmp_path):
    with running_broker() as url, LocalFleet(bundle, [url], "house", tmp_path) as agents:
        with Operator(url, "house", None) as hasty, pytest.raises(NoReply, match=r"f1 of .* nothing within 5 s"):
            hasty.ask(["f1"], "ping", lambda: agents.start(["f1"]))
        agents.stop(["f1"])
        with Operator(url, "house", None, patience_s=20) as patient:
            answered = patient.ask(["f1"], "ping", lambda: agents.start(["f1"]))["f1"]
    assert (answered.reply.node, answered.reply.command) == ("f1", "ping")
    assert answered.came_ns - answered.asked_ns < 5e9  # timed from the question that it heard
