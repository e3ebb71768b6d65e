"""Until when certificates are valid: all that a device has are looked at, and what ends comes with a way out."""

import datetime

import pytest

from provisioning import pki
from provisioning.carriers import BrokerPlace
from provisioning.certificates import now
from provisioning.hosts import KnownHosts
from provisioning.inventory import Device, Inventory
from provisioning.places import Place
from provisioning.validity import examine_certificates

DEVICES = {
    "cloud": Device(address="10.0.0.9", user="pi", node="cloud"),
    "shed": Device(address="10.0.0.1", user="pi"),
}
SOURCES = {"iot": Place(device="shed", kind="csv", rate=10, options={"file": "/srv/iot"})}
YEAR = datetime.timedelta(days=365)


@pytest.fixture
def inventory(tmp_path):
    return Inventory(
        "house", DEVICES, (BrokerPlace(device="cloud", port=8883),), SOURCES, KnownHosts(tmp_path / "known"), tmp_path
    )


@pytest.fixture(autouse=True)
def _keys(tmp_path):
    pki.init(tmp_path, "house", ["cloud", "iot"], ["10.0.0.9"])


def found(inventory, device, years):
    """What is said of each certificate after so many years."""
    findings = examine_certificates(inventory, device, now() + years * YEAR)
    return {each.detail.rpartition("/")[2].partition(".")[0]: each for each in findings}


def test_a_device_that_carries_sensors_alone_is_told_when_their_certificates_end(inventory):
    assert {name: each.level for name, each in found(inventory, "shed", 1).items()} == {"ca": "fits", "iot": "fits"}
    assert {name: each.level for name, each in found(inventory, "shed", 3).items()} == {"ca": "fits", "iot": "unfit"}
    assert found(inventory, "cloud", 3).keys() == {"ca", "broker", "cloud"}


@pytest.mark.parametrize(("name", "years"), [("iot", 3), ("ca", 11)])
def test_what_is_said_of_an_ended_certificate_helps(inventory, tmp_path, name, years):
    ended = found(inventory, "shed", years)[name]
    assert ended.level == "unfit"
    folder = tmp_path
    if "remove it" in ended.remedy:
        (tmp_path / f"{name}.crt").unlink()
    else:
        assert "make a new folder" in ended.remedy
        folder = tmp_path / "pki2"
    assert f"{name}.crt" in pki.init(folder, "house", ["cloud", "iot"], ["10.0.0.9"]).made
