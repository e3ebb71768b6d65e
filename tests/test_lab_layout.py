"""The lab on paper: who gets which name, address and files, and what is refused before anything is made."""

import os
import subprocess
from pathlib import Path

import pytest
from support import command

from broker.errors import FogError
from export.spec import load_spec, tomllib
from provisioning.inventory import load_inventory
from provisioning.lab import programs, store
from provisioning.lab.layout import MAX_DEVICES, new_lab
from provisioning.lab.machine import Places, boot_command, cable_commands, seeds


def lab_of(what=2, name="lab", arch=("amd64",), fleet="/nowhere/fleet.toml", brokers=()):
    return new_lab(what, name, "bookworm", arch, fleet, brokers)


def test_each_node_of_a_specification_gets_a_device_in_its_tier():
    lab = lab_of(load_spec("watch"))
    assert {device.name: (device.node, device.tier) for device in lab.devices} == {
        "e1": ("e1", "edge"),
        "f2": ("f2", "fog"),
        "f1": ("f1", "fog"),
        "cloud": ("cloud", "cloud"),
    }
    assert (lab.brokers, lab.sources) == (("cloud",), {"iot": "e1"})


def test_a_broker_is_on_a_device_of_a_node_or_on_one_more(tmp_path):
    lab = lab_of(load_spec("watch"), fleet=str(tmp_path / "fleet.toml"), brokers=["hub", "cloud"])
    assert [(device.name, device.node) for device in lab.devices][3:] == [("cloud", "cloud"), ("hub", "")]
    store.write_fleet(lab, {device.name: "ssh-ed25519 AAAA" for device in lab.devices})
    found = load_inventory(tmp_path / "fleet.toml")
    assert found.broker_urls == ("mqtt://10.77.0.14:1883", "mqtt://10.77.0.13:1883")
    assert lab_of(1, brokers=["d1", "d2"]).brokers == ("d1", "d2")
    with pytest.raises(FogError, match="the hub: cannot be the name of a device"):
        lab_of(brokers=["the hub"])


def test_a_sensor_of_the_camera_network_is_on_the_node_that_hears_it():
    lab = lab_of(load_spec("camera"))
    assert lab.sources["camera2"] == "e1"
    assert lab.sources["camera6"] == "e4"


def test_a_number_makes_devices_that_carry_no_node_yet():
    lab = lab_of(3)
    assert [(device.name, device.node) for device in lab.devices] == [("d1", ""), ("d2", ""), ("d3", "")]


def test_no_two_devices_of_the_largest_lab_share_an_address():
    devices = lab_of(MAX_DEVICES).devices
    for what in ("address", "mac", "port"):
        assert len({getattr(device, what) for device in devices}) == MAX_DEVICES
    assert all(int(device.address.rpartition(".")[2]) < 255 for device in devices)


def test_an_architecture_is_for_all_or_for_one():
    assert {device.arch for device in lab_of(2, arch=["amd64", "arm64"]).devices} == {"arm64"}
    assert [device.arch for device in lab_of(2, arch=["d2=arm64", "amd64"]).devices] == ["amd64", "arm64"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"what": 0}, "a lab has 1 to 200 devices, not 0"),
        ({"what": 201}, "a lab has 1 to 200 devices"),
        ({"name": "My Lab"}, "--name My Lab: use up to 20 small letters"),
        ({"name": "../x"}, "--name"),
        ({"arch": ["riscv"]}, "--arch riscv: write amd64, arm64"),
        ({"arch": ["d9=arm64"]}, "--arch d9=arm64: .* devices are d1, d2"),
    ],
)
def test_what_cannot_be_a_lab_is_one_sentence(options, sentence):
    with pytest.raises(FogError, match=sentence):
        lab_of(**options)


def test_a_device_is_found_by_its_own_name_or_its_nodes():
    lab = lab_of(load_spec("watch"))
    assert lab.device("f1").node == "f1"
    with pytest.raises(FogError, match=r"lab lab has no device f9: it has e1, f2, f1, cloud"):
        lab.device("f9")


def test_the_inventory_says_how_to_reach_each_device(tmp_path):
    lab = lab_of(load_spec("watch"), arch=["amd64", "f1=arm64"], fleet=str(tmp_path / "fleet.toml"))
    store.write_fleet(lab, {device.name: f"ssh-ed25519 AAAA{device.name} comment\n" for device in lab.devices})
    fleet = tomllib.loads((tmp_path / "fleet.toml").read_text())
    assert fleet["broker"] == {"device": "cloud", "port": 1883}
    f1 = lab.device("f1")
    assert fleet["devices"]["f1"] == {
        "address": f1.address,
        "port": 22,
        "user": "fog",
        "key": "id_ed25519",
        "node": "f1",
        "tier": "fog",
        "arch": "aarch64",
    }
    assert fleet["sources"] == {"iot": {"device": "e1", "kind": "replay"}}
    assert f"{f1.address} ssh-ed25519 AAAAf1\n" in (tmp_path / "known_hosts").read_text()


def test_what_to_type_next_is_for_this_lab_and_not_for_another(tmp_path, monkeypatch):
    monkeypatch.setenv("FOGGUARD_LAB", str(tmp_path))
    with pytest.raises(FogError, match=r"no lab shed: `fogguard lab up --name shed` makes one$"), store.opened("shed"):
        pass
    for name, told in (("shed", "`fogguard lab run --name shed COMMAND…`"), ("lab", "`fogguard lab run COMMAND…`")):
        lab = lab_of(name=name, fleet=str(tmp_path / "fleet.toml"))
        store.write_fleet(lab, {device.name: "ssh-ed25519 AAAA\n" for device in lab.devices})
        assert f"Reach the devices with {told}\n" in (tmp_path / "fleet.toml").read_text()


@pytest.mark.parametrize("name", ["fleet.toml", "known_hosts", "id_ed25519", "id_ed25519.pub"])
def test_a_file_that_is_not_the_lab_s_is_neither_overwritten_nor_removed(tmp_path, name):
    lab = lab_of(fleet=str(tmp_path / "fleet.toml"))
    store.require_vacant(lab)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FogError, match=rf"{name} is there already"):
        store.require_vacant(lab)


def test_a_device_boots_in_its_own_namespaces_with_the_base_below_its_disk(tmp_path):
    lab = lab_of()
    places = Places(tmp_path / "base", tmp_path / "d1", (Path("/sys/fs/cgroup/fogguard-lab/d1"),))
    *_, script = boot_command(lab, lab.devices[0], places, emulated=False)
    assert script.startswith("echo $$ > /sys/fs/cgroup/fogguard-lab/d1/cgroup.procs\n")
    assert f"lowerdir={places.base},upperdir={places.disk}/upper,workdir={places.disk}/work" in script
    assert "--network-namespace-path=/run/netns/fogguard-lab.d1" in script
    assert "--kill-signal" not in script
    assert "--kill-signal" in boot_command(lab, lab.devices[0], places, emulated=True)[-1]


def test_a_device_keeps_its_hardware_address_whenever_its_cable_is_made_anew():
    lab = lab_of()
    made = " ".join(" ".join(command) for command in cable_commands(lab, lab.devices[1]))
    assert "peer name eth0 address 02:66:6f:67:00:02 netns fogguard-lab.d2" in made
    assert "addr add 10.77.0.11/24 dev eth0" in made


def test_private_files_of_a_device_are_private():
    lab = lab_of()
    files = {seed.path: seed for seed in seeds(lab, lab.devices[0], "0" * 32, ("PRIVATE", "PUBLIC"), "LOGIN")}
    assert files["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert files["home/fog/.ssh/authorized_keys"].owner == 1000


def test_missing_programs_are_named_with_their_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_PATH", str(tmp_path))
    with pytest.raises(FogError, match=r"apt-get install --no-install-recommends iproute2 systemd-container$"):
        programs.require(["ip", "tc", "systemd-nspawn"])


@pytest.mark.parametrize("words", ["up 2", "status", "down", "unplug f1", "run true"])
def test_without_root_it_says_so_in_one_sentence(words):
    # in a user namespace of its own, root is nobody, and can still read the files of this environment
    nobody = ["unshare", "--user"] if os.geteuid() == 0 else []
    done = subprocess.run([*nobody, command("fogguard"), "lab", *words.split()], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ("fogguard: the lab makes network namespaces, mounts and disks: run it as root, with sudo\n")
