"""`fogguard drill` and `bench` on virtual devices, by real power and cables: what they find, and what they survive."""

import json
import subprocess
import sys
import time

import pytest
from fleets import NAME, bare_fleet
from support import ROOT, command
from terminals import terminal

from broker.embedded import running_broker

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
def fleet(tmp_path_factory, bundle):
    """A fleet with agents on its devices."""
    with bare_fleet(tmp_path_factory.mktemp("fleet"), bundle) as found:
        found.provision("apply", found.bundle.path)
        yield found


def bench(fleet, kind, *arguments):
    (fleet.folder / "bench.json").unlink(missing_ok=True)
    fleet.command("bench", kind, fleet.bundle.path, "--lab", NAME, *arguments, "--json", "bench.json")
    return told(fleet)


def told(fleet, name="bench.json"):
    return json.loads((fleet.folder / name).read_text())


def test_a_device_is_unplugged_behind_the_drills_back(fleet):
    arguments = ("--by-hand", "--lab", NAME, "--hold", "3s", "--for", "40s", "--json", "hand.json")
    with terminal(("drill", fleet.bundle.path, *arguments), fleet.folder) as shown:
        node = shown.wait_for(r"s: unplug (\w+) now")[1]
        fleet.lab("unplug", node)
        shown.wait_for(rf"{node} is gone, \d+\.\d s after you were asked")
        shown.wait_for(f"plug {node} back in now")
        fleet.lab("plug", node)
        shown.wait_for(rf"{node} is back, \d+\.\d s after you were asked")
        assert shown.end() == 0, shown.shown[-3000:]
    found = told(fleet, "hand.json")
    manifest = fleet.bundle.manifest
    alone = manifest.mask_key(set(manifest.order) - {node})
    (tally,) = [each for each in found["masks"] if each["mask"] == alone]
    assert tally["labels_equal"] == tally["n"] > 100
    assert sum(each["lost"] for each in found["masks"]) == 0


def test_a_scenario_pulls_the_plugs_and_cables_of_a_lab_and_leaves_it_whole(fleet):
    (fleet.folder / "s.toml").write_text(SCENARIO)
    said = fleet.command("drill", fleet.bundle.path, "s.toml", "--lab", NAME, "--json", "lab.json")
    found = told(fleet, "lab.json")
    by_mask = {each["mask"]: each for each in found["masks"]}
    for mask in ("111", "011", "110", "101"):
        assert by_mask[mask]["labels_equal"] == by_mask[mask]["n"] > 100, said
    assert all(deed["sensed_ms"] is not None for deed in found["deeds"])
    assert found["findings"] == []
    status = fleet.command("lab", "status", "--name", NAME)
    assert "off" not in status
    assert "frozen" not in status
    fleet.require_answers(fleet.bundle)


@pytest.mark.parametrize("by", ["cut", "freeze", "kill"])
def test_every_mask_of_a_labs_devices_is_as_predicted(fleet, by):
    found = bench(fleet, "accuracy", "--by", by, "--rows", 150)
    assert len(found["masks"]) == 8
    for each in found["masks"]:
        assert (each["n"], each["labels_equal"], each["lost"]) == (150, 150, 0), each
    for average in found["average"].values():
        assert average["measured"] == pytest.approx(average["predicted"], abs=1e-3)
    fleet.require_answers(fleet.bundle)


def test_where_the_time_goes_on_a_labs_devices_with_clocks_that_must_be_estimated(fleet):
    found = bench(fleet, "latency", "--steps", 300, "--min-seconds", 2, "--offered", "50")
    assert found["findings"] == []
    assert set(found["stages_ms"]) == set(found["clocks"]) == set(found["devices"]) == {"e1", "f2", "f1", "cloud"}
    for clock in found["clocks"].values():
        assert not clock["shared"]
        assert abs(clock["offset_ms"]) <= clock["error_ms"] < 10  # the truth is nought: it is one kernel
    for wire in found["wires_ms"].values():
        assert wire["error"] > 0
    (load,) = found["loads"]
    assert load["lost"] == 0


@pytest.mark.parametrize(
    ("how", "stage"), [(("--cpu", "10"), "infer"), (("--rate", "200"), "wire")], ids=["processor", "cable"]
)
def test_the_slow_one_of_a_labs_devices_is_named(fleet, how, stage):
    fleet.lab("slow", "f2", *how)
    try:
        words = ("--lab", NAME, "--steps", 200, "--min-seconds", 0, "--offered", "50", "--json", "bench.json")
        said = fleet.command("bench", "latency", fleet.bundle.path, *words, code=1)
    finally:
        fleet.lab("heal", "f2")
    findings = told(fleet)["findings"]
    assert [(each["culprit"], each["stage"]) for each in findings] == [("f2", stage)], said


def test_every_class_of_failure_is_survived_and_the_lab_is_whole_afterwards(fleet):
    found = bench(fleet, "failover", "--by", "all", "--times", 2, "--steps", 50, "--hold", 1)["classes"]
    assert len(found) == 10
    for name in ("kill", "freeze", "cut", "unplug", "restart", "reboot"):
        each = found[name]
        assert each["sensed_ms"]["n"] == 3, name  # f1 feeds one node, f2 two
        assert (each["lost"], each["wrong"], each["unsensed"]) == (0, 0, 0), name
        assert each["sensed_ms"]["p50"] < 1500
        assert each["new_mask_ms"] is not None or name in ("restart", "reboot")
    for name in ("slow=5", "lossy=10"):
        assert found[name]["gap_steps"] > 20  # answers meanwhile
        assert found[name]["wrong"] == 0
    for each in found.values():
        assert each["back_ms"]["n"] == 2
    fleet.require_answers(fleet.bundle)
    status = fleet.command("lab", "status", "--name", NAME)
    assert not any(word in status for word in ("off", "frozen", "cut", "loss", "processor"))


def test_a_benchmark_that_is_killed_leaves_the_fleet_running(fleet):
    words = ("bench", "accuracy", fleet.bundle.path, "--lab", NAME, "--by", "cut", "--rows", 5000)
    command_line = [command("fogguard"), *map(str, words), "--json", "bench.json"]
    (fleet.folder / "bench.json").unlink(missing_ok=True)
    with subprocess.Popen(command_line, cwd=fleet.folder, stderr=subprocess.DEVNULL) as running:
        ends_s = time.monotonic() + 60
        while "cut off" not in fleet.command("lab", "status", "--name", NAME):
            assert time.monotonic() < ends_s
        running.kill()
    found = told(fleet)
    assert found["finished"] is False
    fleet.command("report", "bench.json", "--out", "bench.html")
    assert "Cut short after" in (fleet.folder / "bench.md").read_text()
    ends_s = time.monotonic() + 20
    while "cut off" in fleet.command("lab", "status", "--name", NAME):
        assert time.monotonic() < ends_s
    fleet.require_answers(fleet.bundle)


def test_a_smart_plug_cuts_the_power_of_a_device(fleet):
    with running_broker() as url:
        plug = [sys.executable, ROOT / "tests" / "plug.py", str(url), "cmnd/plug1/POWER", NAME, "f1"]
        with subprocess.Popen(plug, stdout=subprocess.PIPE) as switched:
            try:
                assert switched.stdout.readline() == b"ready\n"
                words = ("--by", "power", "--mask", "111", "--mask", "011", "--rows", 100)
                found = bench(fleet, "accuracy", *words, "--plug", f"f1={url}/cmnd/plug1/POWER")
                assert [switched.stdout.readline() for _ in range(2)] == [b"unplug\n", b"plug\n"]
            finally:
                switched.kill()
    assert [(each["mask"], each["labels_equal"]) for each in found["masks"]] == [("111", 100), ("011", 100)]
    fleet.require_answers(fleet.bundle)
