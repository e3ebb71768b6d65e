"""Debian 13, as Raspberry Pi OS is made of it now: its systemd, its sudo and its Python do what Debian 12's do."""

import pytest
from fleets import NODES, bare_fleet, other_bundle, require_serving

from provisioning.inventory import load_inventory
from provisioning.units import AGENT, agent_files, unit_file

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    with bare_fleet(tmp_path_factory.mktemp("trixie"), bundle, "--suite", "trixie") as found:
        yield found


def test_a_fleet_of_debian_13_answers_over_tls_is_changed_and_goes_back(fleet):
    doctor = fleet.provision("doctor")
    assert all(device["ok"] for device in doctor["devices"].values())
    fleet.provision("apply", fleet.bundle.path)
    fleet.require_answers(fleet.bundle)
    other = other_bundle(fleet)
    fleet.provision("apply", other.path)
    fleet.require_answers(other)
    fleet.provision("rollback")
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    fleet.require_answers(fleet.bundle)
    for node in NODES:
        (environment,) = fleet.shell(node, "ls /opt/fogguard/venvs").split()
        assert environment.startswith("python3.13-")
    fleet.lab("unplug", "f1")
    fleet.lab("plug", "f1")
    require_serving(fleet, "f1")
    fleet.provision("status", fleet.bundle.path)


def test_an_agent_on_a_pi_5_sees_the_node_of_its_firmware_for_text_and_no_other(fleet):
    nodes = "for node in vcio vcio_gencmd; do mknod -m 660 /dev/$node c 1 5; chgrp video /dev/$node; done"
    unit = agent_files(load_inventory(fleet.file), "f1", has_power_chip=True)[unit_file(AGENT)].decode()
    service = unit.partition("[Service]\n")[2].partition("[Install]")[0].splitlines()
    others = ("#", "Type", "Exec", "Restart", "Watchdog", "Timeout", "State", "Load")
    rights = " ".join(f"-p '{line}'" for line in service if line and not line.startswith(others))
    reads = "head -c 1 /dev/vcio_gencmd | wc -c; ls /dev | grep vcio"
    said = fleet.shell("f1", f"{nodes}; systemd-run -q --collect --wait --pipe {rights} sh -c '{reads}'")
    assert said.split() == ["1", "vcio_gencmd"]
