"""`fogguard drill` on virtual devices with real power cuts and cables."""

import json

import pytest
from terminals import terminal
from test_provision import NAME, fleet  # noqa: F401

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
SCENARIO = """
seconds = 40
events = [
  { at = 3, do = "unplug", node = "f1" },
  { at = 8, do = "back", node = "f1" },
  { at = 16, do = "cut", node = "e1" },
  { at = 20, do = "back", node = "e1" },
  { at = 28, do = "freeze", node = "f2" },
  { at = 32, do = "back", node = "f2" },
]
"""


@pytest.fixture(scope="module")
def answering(fleet):  # noqa: F811
    """The fleet, with agents on its devices."""
    fleet.provision("apply", fleet.bundle.path)
    return fleet


def told(fleet, name):  # noqa: F811
    return json.loads((fleet.folder / name).read_text())


def test_a_device_is_unplugged_behind_the_drills_back(answering):
    arguments = ("--by-hand", "--lab", NAME, "--hold", "3s", "--for", "40s", "--json", "hand.json")
    with terminal(("drill", answering.bundle.path, *arguments), answering.folder) as shown:
        node = shown.wait_for(r"s: unplug (\w+) now")[1]
        answering.lab("unplug", node)
        shown.wait_for(rf"{node} is gone, \d+\.\d s after you were asked")
        shown.wait_for(f"plug {node} back in now")
        answering.lab("plug", node)
        shown.wait_for(rf"{node} is back, \d+\.\d s after you were asked")
        assert shown.end() == 0, shown.shown[-3000:]
    found = told(answering, "hand.json")
    manifest = answering.bundle.manifest
    alone = manifest.mask_key(set(manifest.order) - {node})
    (tally,) = [each for each in found["masks"] if each["mask"] == alone]
    assert tally["labels_equal"] == tally["n"] > 100
    assert sum(each["lost"] for each in found["masks"]) == 0


def test_a_scenario_pulls_the_plugs_and_cables_of_a_lab_and_leaves_it_whole(answering):
    (answering.folder / "s.toml").write_text(SCENARIO)
    said = answering.command("drill", answering.bundle.path, "s.toml", "--lab", NAME, "--json", "lab.json")
    found = told(answering, "lab.json")
    by_mask = {each["mask"]: each for each in found["masks"]}
    for mask in ("111", "011", "110", "101"):
        assert by_mask[mask]["labels_equal"] == by_mask[mask]["n"] > 100, said
    assert all(deed["sensed_ms"] is not None for deed in found["deeds"])
    assert found["findings"] == []
    status = answering.command("lab", "status", "--name", NAME)
    assert "off" not in status
    assert "frozen" not in status
    answering.require_answers(answering.bundle)
