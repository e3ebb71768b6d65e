"""Hands in a process of their own, pulling smart plugs over a real broker: what was undone, and by whom."""

import io
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from test_agent import listener

from benchmarks.apart import HandFailed, HandsApart, Order, serve
from benchmarks.scenario import Harm
from broker.errors import FailureFound
from provisioning.plug import Plug

POWER = Harm("power")


@pytest.fixture
def heard(broker):
    """What is said to the plugs, in order."""
    with listener(broker, "plugs/#") as (link, said):

        def heard(count):
            assert link.poll_until(lambda: len(said) >= count, 20), said
            return [(topic, word.decode()) for topic, word in said]

        yield heard


def hands_of(broker):
    return HandsApart("", {node: Plug(broker, f"plugs/{node}") for node in ("f1", "e1")})


def test_plugs_are_switched_in_order_and_what_is_still_off_at_the_end_is_switched_on(broker, heard):
    hands = hands_of(broker)
    asked_ns = time.monotonic_ns()
    hands.do(POWER, "f1")
    hands.do(POWER, "e1")
    hands.undo(POWER, "f1")
    assert heard(3) == [("plugs/f1", "off"), ("plugs/e1", "off"), ("plugs/f1", "on")]
    while hands.began_ns() is None:
        time.sleep(0.01)
    assert asked_ns < hands.began_ns() < time.monotonic_ns()
    hands.finish()
    assert heard(4)[3:] == [("plugs/e1", "on")]


def test_what_cannot_be_done_is_said(broker):
    hands = hands_of(broker)
    hands.do(POWER, "f2")
    with pytest.raises(HandFailed, match="f2 has no plug"):
        hands.finish()


HARNESS = """
import sys, time
from benchmarks.apart import HandsApart
from benchmarks.plugs import plug_of
from benchmarks.scenario import Harm
hands = HandsApart("", dict([plug_of(sys.argv[1])]))
hands.do(Harm("power"), "f1")
time.sleep(60)
"""


def test_a_harness_that_is_killed_leaves_nothing_switched_off(broker, heard):
    harness = subprocess.Popen([sys.executable, "-c", HARNESS, f"f1={broker}/plugs/f1"])
    assert heard(1) == [("plugs/f1", "off")]
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert heard(2)[1:] == [("plugs/f1", "on")]


class Devices:
    """Devices of which each deed in `failing` fails the first time that it is tried."""

    def __init__(self, failing):
        self.failing, self.tried = dict(failing), []

    def do(self, harm, node):
        return self.tries("do", node)

    def undo(self, harm, node):
        return self.tries("undo", node)

    def finish(self):
        self.tried.append("finish")

    def tries(self, what, node):
        self.tried.append(f"{what} {node}")
        if error := self.failing.pop(f"{what} {node}", None):
            raise error
        return 1


def served(devices, *orders):
    """What went wrong while these orders were carried out."""
    answers = io.BytesIO()
    serve(devices, io.BytesIO(b"".join(msgspec.json.encode(order) + b"\n" for order in orders)), answers)
    return [told["error"] for told in map(msgspec.json.decode, answers.getvalue().splitlines()) if told["error"]]


def test_what_the_system_refuses_is_said_and_all_is_undone():
    devices = Devices({"do e1": ProcessLookupError(3, "No such process")})
    said = served(devices, Order(POWER, "f1"), Order(POWER, "e1"))
    assert said == ["power of e1 cannot be done: [Errno 3] No such process"]
    assert devices.tried == ["do f1", "do e1", "undo e1", "undo f1", "finish"]


def test_what_could_not_be_undone_is_tried_again_at_the_end():
    devices = Devices({"undo f1": FailureFound("the broker did not take 'on' for f1's plug")})
    said = served(devices, Order(POWER, "f1"), Order(POWER, "e1"), Order(POWER, "f1", undo=True))
    assert said == ["the broker did not take 'on' for f1's plug"]
    assert devices.tried == ["do f1", "do e1", "undo f1", "undo e1", "undo f1", "finish"]


def test_a_bug_leaves_nothing_undone():
    devices = Devices({"do e1": ValueError("a bug")})
    with pytest.raises(ValueError, match="a bug"):
        served(devices, Order(POWER, "f1"), Order(POWER, "e1"))
    assert devices.tried == ["do f1", "do e1", "undo e1", "undo f1", "finish"]
