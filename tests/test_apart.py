"""Hands in a process of their own, pulling smart plugs over a real broker: what was undone, and by whom."""

import signal
import subprocess
import sys
import time

import pytest
from test_agent import listener

from benchmarks.apart import HandFailed, HandsApart
from benchmarks.scenario import Harm
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
