"""An emulated arm64 device among x86-64 ones: the aarch64 wheels there give the same labels."""

import re

import pytest
from fleets import bare_fleet, changes, require_serving

from broker.errors import FogError
from edge_agent.selftest import TOLERANCES
from provisioning.lab import emulation, programs
from provisioning.wheels import Target, wheelhouse

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    """Four devices without certificates, f1 being arm64: the emulation cannot hand credentials to a service."""
    if emulation.host_arch() != "amd64":
        pytest.skip("this machine is arm64 itself: nothing is emulated here")
    try:
        programs.require_root()
        programs.require(programs.PACKAGE)
    except FogError as error:
        pytest.skip(f"no emulated arm64 device here: {error}")
    wheelhouse(Target("3.11", "aarch64"), lambda what: None)
    with bare_fleet(tmp_path_factory.mktemp("mixed"), bundle, "--arch", "f1=arm64", pki_folder="") as found:
        yield found


@pytest.fixture(scope="module")
def applied(fleet):
    return fleet.provision("apply", fleet.bundle.path)


def test_the_device_is_known_as_what_it_says_it_is(fleet):
    doctor = fleet.provision("doctor")
    assert all(device["ok"] for device in doctor["devices"].values())
    found = {each["what"]: each["detail"] for each in doctor["findings"]["f1"]}
    assert found["arch"].startswith("Raspberry Pi 4 Model B")
    assert "aarch64" in found["arch"]


def test_it_gets_the_aarch64_wheels_and_the_others_theirs(fleet, applied):
    assert changes(applied)["f1"] == ["environment", "release", "files", "self-test", "switch"]
    for device, arch in (("f1", "aarch64"), ("f2", "x86_64")):
        (environment,) = fleet.shell(device, "ls /opt/fogguard/venvs").split()
        assert environment == Target("3.11", arch).environment
        libraries = fleet.shell(device, f"ls /opt/fogguard/venvs/{environment}/lib/python3.11/site-packages/msgspec")
        assert f"{arch}-linux-gnu.so" in libraries


def test_its_golden_outputs_are_those_of_x86_64(fleet, applied):
    """Within the tolerance of every self-test, and with the same labels where labels come out."""
    told = fleet.shell("f1", "/opt/fogguard/current/agent --self-test")
    found = re.fullmatch(r"f1: 64 golden rows within ([\d.e+-]+) \(limit ([\d.e-]+)\), .*", told)
    assert found, told
    assert float(found[1]) <= float(found[2]) == TOLERANCES["float32"] == 1e-5


def test_it_serves_as_f1_and_all_labels_are_as_predicted(fleet, applied):
    fleet.require_answers(fleet.bundle)
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    assert fleet.provision("status", fleet.bundle.path)["devices"]["f1"]["ok"]


def test_its_agent_is_hardened_like_the_others_but_for_what_the_emulation_cannot(fleet, applied):
    exposure = fleet.shell("f1", "systemd-analyze security --no-pager fogguard-agent | tail -n 1")
    assert float(re.search(r"service: ([\d.]+)", exposure)[1]) <= 2.0
    assert fleet.shell("f1", "stat -c %U /proc/$(systemctl show -p MainPID --value fogguard-agent)") != "root"


def test_unplugged_it_is_done_without_and_plugged_in_it_serves_again(fleet, applied):
    fleet.lab("unplug", "f1")
    fleet.require_answers(fleet.bundle, "--down", "f1")
    fleet.lab("plug", "f1")
    require_serving(fleet, "f1", timeout_s=90)
    fleet.require_answers(fleet.bundle)


def test_a_second_apply_changes_nothing_there(fleet, applied):
    assert changes(fleet.provision("apply", fleet.bundle.path))["f1"] == []
