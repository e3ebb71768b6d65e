"""`fogguard bench provisioning`: real devices are provisioned, everything is timed, and nothing is left."""

import json
import os

import pytest

from provisioning.lab import store

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def test_what_takes_how_long_is_written_with_its_conditions(fogguard, bundle, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("virtual devices need root")
    done = fogguard("bench", "provisioning", bundle.path, "--rounds", 1, "--json", "p.json", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["command"].startswith("fogguard bench provisioning")
    assert found["bundle"] == bundle.id.hex()
    assert "virtual" in found["emulated"]
    seconds = found["seconds"]
    assert list(seconds) == list(found["rounds"])
    assert all(found["rounds"][what] == [median] for what, median in seconds.items())
    assert 0 < seconds["again"] < seconds["one node's weights"] < seconds["bare"] < 60
    assert [step["name"] for step in found["steps"]["f1"]][:3] == ["facts", "environment", "release"]
    assert max(found["exposure"].values()) <= 2.0
    assert "bench" not in store.names()


def test_without_a_bundle_it_is_one_sentence(fogguard):
    done = fogguard("bench", "provisioning", "nowhere")
    assert done.returncode == 2
    assert "no bundle at nowhere" in done.stderr
