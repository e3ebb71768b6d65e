"""A release holds a device's share of a bundle and nothing else, and is named by what is in it."""

import io
import json
import subprocess
import tarfile

import msgspec
import numpy as np
import pytest
from retrained import retrained
from support import ROOT

from edge_agent.bundle import BundleDamaged, load
from edge_agent.config import load_config
from edge_agent.selftest import self_test
from edge_agent.signature import SignatureRefused
from provisioning import pki
from provisioning.carriers import BrokerPlace
from provisioning.certificates import PkiError
from provisioning.deployment import deployment_of, load_for
from provisioning.facts import parse_facts
from provisioning.hosts import KnownHosts
from provisioning.inventory import Device, Inventory, InventoryError
from provisioning.release import release_of
from provisioning.signing import sign_bundle
from provisioning.units import agent_files, broker_files, mode_of


@pytest.fixture
def keys(tmp_path, bundle):
    pki.init(tmp_path / "pki", "house", bundle.manifest.names, ["10.0.0.9"])
    return tmp_path / "pki"


@pytest.fixture
def inventory(keys, bundle):
    devices = {
        node: Device(address=f"10.0.0.{i}", user="pi", node=node) for i, node in enumerate(bundle.manifest.nodes)
    }
    devices["broker"] = Device(address="10.0.0.9", user="pi")
    brokers = (BrokerPlace(device="broker", port=8883, address="10.0.0.9"),)
    return Inventory("house", devices, brokers, {}, KnownHosts(keys / "known_hosts"), keys)


def unpacked(release, folder):
    with tarfile.open(fileobj=io.BytesIO(release.pack())) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_the_same_content_is_the_same_release_and_any_other_is_another(bundle, inventory):
    one, again = (release_of(bundle, inventory, "f1", "env-1") for _ in range(2))
    assert (one.id, one.pack()) == (again.id, again.pack())
    assert release_of(bundle, inventory, "f1", "env-2").id != one.id
    assert release_of(bundle, inventory, "f2", "env-1").id != one.id


def test_a_device_gets_its_own_share_of_the_bundle_and_no_weights_of_others(bundle, inventory):
    names = set(release_of(bundle, inventory, "e1", "env").files)
    share = {name for name in names if name.startswith("bundle/")}
    assert share == {f"bundle/{each}" for each in ("manifest.json", "e1.onnx", "golden/e1.npy", "golden/iot.npy")}
    assert not any("export" in name or "provisioning" in name or name.endswith(".key") for name in names)


def test_an_unpacked_release_is_what_its_sums_say_and_tests_itself(bundle, inventory, tmp_path, monkeypatch):
    folder = unpacked(release_of(bundle, inventory, "f1", "env"), tmp_path / "release")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    config = msgspec.structs.replace(load_config(folder / "agent.json"), verify_key="", bundle=str(folder / "bundle"))
    assert "64 golden rows within" in self_test(config) or "golden rows within" in self_test(config)
    expected = folder / "bundle" / "golden" / "f1.npy"
    np.save(expected, np.load(expected) * 1.5)
    with pytest.raises(BundleDamaged, match=r"golden/f1\.npy was changed"):
        self_test(config)


def test_a_runtime_that_computes_something_else_fails_the_self_test(bundle, inventory, tmp_path):
    other = retrained(bundle.path, tmp_path / "other", "f1", factor=1.5)
    files = dict(other.manifest.files)
    golden = other.manifest.nodes["f1"].golden
    (other.path / golden).write_bytes((bundle.path / golden).read_bytes())
    manifest = json.loads((other.path / "manifest.json").read_text())
    manifest["files"] = {**files, golden: bundle.manifest.files[golden]}
    (other.path / "manifest.json").write_text(json.dumps(manifest))
    folder = unpacked(release_of(load(other.path), inventory, "f1", "env"), tmp_path / "release")
    config = msgspec.structs.replace(load_config(folder / "agent.json"), verify_key="", bundle=str(folder / "bundle"))
    with pytest.raises(BundleDamaged, match="f1 computes something else than its bundle"):
        self_test(config)


def test_a_tampered_bundle_makes_no_release(bundle_copy, inventory):
    (bundle_copy / "f1.onnx").write_bytes(b"another graph")
    with pytest.raises(BundleDamaged, match=r"f1\.onnx was changed"):
        release_of(load(bundle_copy), inventory, "f1", "env")


def test_with_certificates_a_bundle_must_be_signed(bundle_copy, inventory, keys):
    with pytest.raises(SignatureRefused, match="is not signed"):
        load_for(inventory, bundle_copy)
    sign_bundle(bundle_copy, keys / "signing.key")
    assert load_for(inventory, bundle_copy).manifest.sink == "cloud"


def test_certificates_of_another_fleet_of_another_broker_and_expired_ones_are_refused(
    bundle_copy, inventory, keys, monkeypatch
):
    from dataclasses import replace

    from provisioning import certificates

    sign_bundle(bundle_copy, keys / "signing.key")
    with pytest.raises(PkiError, match="is of the fleet 'house', the inventory's is 'home'"):
        load_for(replace(inventory, fleet="home"), bundle_copy)
    with pytest.raises(PkiError, match=r"/none is not there: make it with `fogguard pki init .*/none --fleet house"):
        load_for(replace(inventory, pki=keys / "none"), bundle_copy)
    more = (BrokerPlace(device="cloud", port=8883, address=address) for address in ("10.0.0.77", "10.0.0.78"))
    sentence = r"is not for 10\.0\.0\.77, 10\.0\.0\.78: remove it, .* --host 10\.0\.0\.9 --host 10\.0\.0\.77 --host 10"
    with pytest.raises(PkiError, match=sentence):
        load_for(replace(inventory, brokers=(*inventory.brokers, *more)), bundle_copy)
    monkeypatch.setattr(certificates, "_LEAF_DAYS", -1)
    (keys / "f1.crt").unlink()
    pki.init(keys, "house", load(bundle_copy).manifest.names, ["10.0.0.9"])
    with pytest.raises(PkiError, match=r"f1\.crt expired on .*: remove it, and run `fogguard pki init` again"):
        load_for(inventory, bundle_copy)


def test_an_inventory_that_lacks_a_node_is_refused(bundle, inventory):
    from dataclasses import replace

    few = {name: device for name, device in inventory.devices.items() if name != "f1"}
    with pytest.raises(InventoryError, match="no device carries f1"):
        load_for(replace(inventory, devices=few, pki=None), bundle.path)


def test_a_list_of_brokers_does_not_begin_on_the_sinks_device(bundle, inventory):
    from dataclasses import replace

    last = replace(inventory, brokers=(*inventory.brokers, BrokerPlace(device="cloud", port=8883, address="10.0.0.3")))
    last.require_fits(bundle.manifest)
    with pytest.raises(InventoryError, match=r"first of several brokers is on cloud, the sink's device: .*put it last"):
        replace(last, brokers=last.brokers[::-1]).require_fits(bundle.manifest)


def test_keys_are_roots_alone_and_units_name_where_they_lie(bundle, inventory):
    files = {**agent_files(inventory, "f1"), **broker_files(inventory, bundle.manifest, "/usr/sbin/mosquitto", 8883)}
    secret = [path for path in files if mode_of(path) == 0o600]
    assert sorted(path.rsplit("/", 1)[1] for path in secret) == ["acl", "broker.key", "f1.key"]
    for service in ("agent", "broker"):
        unit = files[f"/etc/systemd/system/fogguard-{service}.service"].decode()
        named = [line.partition(":")[2] for line in unit.splitlines() if line.startswith("LoadCredential=")]
        assert named
        assert set(named) <= files.keys()
        assert list(files).index(f"/etc/systemd/system/fogguard-{service}.service") > max(map(list(files).index, named))


def test_each_device_that_carries_a_broker_gets_one_at_its_own_port_and_agents_know_all(bundle, inventory):
    from dataclasses import replace

    second = BrokerPlace(device="f1", port=8884, address="10.0.0.2")
    both = replace(inventory, brokers=(*inventory.brokers, second))
    facts = parse_facts((ROOT / "tests" / "facts" / "composed-pi4-bookworm.txt").read_text())
    devices = {name: deployment_of(bundle, both, name, facts) for name in ("broker", "f1", "e1")}
    assert {name: each.wanted.has_broker for name, each in devices.items()} == {"broker": True, "f1": True, "e1": False}
    configs = [
        text for each in devices.values() for name, text in each.files.items() if name.endswith("mosquitto.conf")
    ]
    assert [b"listener 8883" in text for text in configs] == [True, False]
    assert [b"listener 8884" in text for text in configs] == [False, True]
    told = json.loads(devices["e1"].release.files["agent.json"])
    assert told["broker"] == ["mqtts://10.0.0.9:8883", "mqtts://10.0.0.2:8884"]
    alone = deployment_of(bundle, inventory, "e1", facts).wanted
    assert alone.base != devices["e1"].wanted.base  # so all agents are started anew when a broker is added


def test_a_renewed_certificate_is_another_folder_and_the_same_release(bundle, inventory, keys):
    before, release = agent_files(inventory, "f1"), release_of(bundle, inventory, "f1", "env").id
    (keys / "f1.crt").unlink()
    pki.init(keys, "house", bundle.manifest.names, ["10.0.0.9"])
    after = agent_files(inventory, "f1")
    assert release_of(bundle, inventory, "f1", "env").id == release
    assert set(before) & set(after) == {"/etc/fogguard/signing.pub", "/etc/systemd/system/fogguard-agent.service"}


def test_an_agent_on_a_pi_5_may_ask_its_firmware_what_it_draws_and_no_other_device_is_less_hard(bundle, inventory):
    def unit(facts):
        said = parse_facts((ROOT / "tests" / "facts" / f"composed-{facts}.txt").read_text())
        return deployment_of(bundle, inventory, "f1", said).files["/etc/systemd/system/fogguard-agent.service"].decode()

    elsewhere = unit("pi4-bookworm")
    assert unit("orin-jetpack6") == elsewhere == agent_files(inventory, "f1")[
        "/etc/systemd/system/fogguard-agent.service"
    ].decode()  # fmt: skip
    added = set(unit("pi5-trixie-hot").splitlines()) - set(elsewhere.splitlines())
    assert added == {
        "SupplementaryGroups=video",
        "DeviceAllow=/dev/vcio_gencmd rw",
        "BindPaths=-/dev/vcio_gencmd",
    }
