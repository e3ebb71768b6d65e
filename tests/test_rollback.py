"""Going back: when agents can do it without being started anew."""

from pathlib import Path

import msgspec
import pytest

from provisioning.actions import sink_to_return_by
from provisioning.facts import Service, parse_facts

BARE = parse_facts(Path(__file__).with_name("facts").joinpath("composed-pi4-bookworm.txt").read_text())
RUNNING = {"fogguard-agent": Service("active", is_enabled=True, restarts=0)}
NODE = msgspec.structs.replace(BARE, sink="cloud", current_base="one", previous_base="one", services=RUNNING)
STOPPED = msgspec.structs.replace(NODE, services={})
REBUILT = msgspec.structs.replace(NODE, previous_base="two")
OF_ANOTHER_SINK = msgspec.structs.replace(NODE, sink="hub")


@pytest.mark.parametrize(
    ("nodes", "sink"),
    [
        ([NODE, NODE], "cloud"),
        ([NODE, STOPPED], ""),
        ([NODE, REBUILT], ""),
        ([NODE, OF_ANOTHER_SINK], ""),
        ([], ""),
    ],
    ids=["all can", "one is stopped", "one had other packages", "they run bundles with two sinks", "no node is left"],
)
def test_agents_go_back_together_or_are_started_anew(nodes, sink):
    assert sink_to_return_by(nodes) == sink
