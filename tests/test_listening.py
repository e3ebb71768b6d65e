"""On which addresses a device's broker listens: on all, for the inventory may name any of them."""

import pytest
from secured import free_port, public_folder

from broker.embedded import mosquitto
from broker.link import Link
from broker.process import spawn, stop
from broker.url import parse_url
from provisioning.carriers import BrokerPlace
from provisioning.hosts import KnownHosts
from provisioning.inventory import Device, Inventory
from provisioning.units import broker_files


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_device_s_broker_is_found_at_the_address_of_the_inventory(tmp_path, bundle, address):
    if mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    port = free_port()
    inventory = Inventory(
        fleet="house",
        devices={"cloud": Device(address=address, user="pi", node="cloud")},
        brokers=(BrokerPlace(device="cloud", port=port, address=address),),
        sources={},
        known_hosts=KnownHosts(tmp_path / "known_hosts"),
        pki=None,
    )
    (config,) = (
        data
        for name, data in broker_files(inventory, bundle.manifest, "/usr/sbin/mosquitto", port).items()
        if name.endswith("mosquitto.conf")
    )
    with public_folder() as folder:
        (folder / "mosquitto.conf").write_bytes(config)
        child = spawn([mosquitto(), "-c", str(folder / "mosquitto.conf")], log=folder / "log", folder=folder)
        try:
            with Link(parse_url(*inventory.broker_urls), "asks") as link:
                assert link.poll_until(lambda: link.is_up, 5), (folder / "log").read_text()
        finally:
            stop(child)
