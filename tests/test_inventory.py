"""The inventory: what it says about the fleet, and the sentence for everything that it cannot say."""

import pytest

from broker.errors import FogError
from provisioning.hosts import HostError, Login
from provisioning.inventory import InventoryError, load_inventory
from provisioning.new_inventory import new_file, write_inventory

GOOD = """
fleet = "house"
[broker]
device = "cloud"
port = 1883
[devices.cloud]
address = "10.0.0.9"
user = "fog"
node = "cloud"
[devices.e1]
address = "10.0.0.1"
user = "pi"
key = "keys/id"
node = "e1"
tier = "edge"
[sources.iot]
device = "e1"
kind = "replay"
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "fleet.toml").write_text(text)
        return tmp_path / "fleet.toml"

    return write


def test_paths_are_relative_to_the_file_and_the_broker_is_where_its_device_is(written, tmp_path):
    found = load_inventory(written('pki = "pki"\n' + GOOD))
    assert found.devices["e1"].key == str(tmp_path / "keys/id")
    assert found.devices["cloud"].key == ""
    assert found.known_hosts.file == tmp_path / "known_hosts"
    assert (found.pki, found.broker_urls) == (tmp_path / "pki", ("mqtts://10.0.0.9:1883",))
    assert load_inventory(written(GOOD)).broker_urls == ("mqtt://10.0.0.9:1883",)


ONE = """[broker]
device = "cloud"
port = 1883
"""
TWO = """[[broker]]
device = "e1"
port = 1884
[[broker]]
device = "cloud"
port = 1883
address = "fd00::9"
"""


def test_several_brokers_stand_in_the_order_of_choice_each_on_its_device(written):
    found = load_inventory(written(GOOD.replace(ONE, TWO)))
    assert found.broker_urls == ("mqtt://10.0.0.1:1884", "mqtt://[fd00::9]:1883")
    assert found.broker_hosts == ("10.0.0.1", "fd00::9")
    assert [found.broker_on(name) for name in ("e1", "cloud")] == list(found.brokers)
    lone = load_inventory(written(GOOD.replace(ONE, TWO.partition('[[broker]]\ndevice = "cloud"')[0])))
    assert (lone.broker_urls, lone.broker_on("cloud")) == (("mqtt://10.0.0.1:1884",), None)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (TWO, "", "missing required field `broker`"),
        (TWO, "broker = []\n", r"fleet\.toml: broker is empty: write \[broker\] with device"),
        (TWO, 'broker = "cloud"\n', r"Expected `object \| array`, got `str` - at `\$\.broker`"),
        ('device = "e1"', 'device = "sky"', r"broker\[0\]\.device is 'sky', and there is no \[devices\.sky\]"),
        ('device = "e1"', 'device = "cloud"', "cloud carries two brokers: give each a device of its own"),
        ("port = 1883", "prt = 1883", r"unknown field `prt` - at `\$\.broker\[1\]`"),
        ("port = 1884", "port = 0", r"Expected `int` >= 1 - at `\$\.broker\[0\]\.port`"),
        ('"fd00::9"', '"[fd00::9]"', r"broker\[1\]\.address '\[fd00::9\]': .*without brackets"),
        (
            'port = 1883\naddress = "fd00::9"',
            'port = 1884\naddress = "10.0.0.1"',
            r"two brokers have .*1 port 1884: ch",
        ),
    ],
)
def test_brokers_that_cannot_be_are_one_sentence(written, old, new, sentence):
    assert old in TWO
    top, rest = GOOD.split(ONE)
    with pytest.raises(FogError, match=sentence):
        load_inventory(written(top + TWO.replace(old, new, 1) + rest))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("fleet = ", "flet = ", "unknown field `flet`"),
        ('fleet = "house"', 'fleet = "a/b"', "fleet 'a/b': use letters"),
        ("port = 1883", "port = 70000", "Expected `int` <= 65535"),
        ('device = "cloud"', 'device = "sky"', r"broker\.device is 'sky', and there is no \[devices\.sky\]"),
        ('device = "e1"', 'device = "e7"', r"sources\.iot\.device is 'e7'"),
        ('node = "e1"', 'node = "cloud"', "cloud and e1 both carry node cloud"),
        ('address = "10.0.0.1"', 'address = "10.0.0.9"', r"two devices have the address 10\.0\.0\.9 port 22"),
        ('tier = "edge"', 'tier = "roof"', r"Invalid enum value 'roof'.*devices"),
        ('kind = "replay"', "", "missing required field `kind`"),
        ('tier = "edge"', 'plug = "10.0.0.2/x"', r"fleet\.toml: devices\.e1\.plug '10\.0\.0\.2/x': write mqtt://HOST"),
        ('tier = "edge"', 'plug = "mqtt://h:x/y"', r"devices\.e1\.plug .*broker 'mqtt://h:x'"),
        ("[broker]", "[broker", "Expected ']'"),
        ('user = "pi"', "", r"missing required field `user` - at `\$\.devices\.e1`"),
        ('key = "keys/id"', "port = true", r"got `bool` - at `\$\.devices\.e1\.port`"),
        ('key = "keys/id"', 'proxy = "x"', r"unknown field `proxy` - at `\$\.devices\.e1`"),
        ('kind = "replay"', 'kind = "csv"\nrate = "10"', r"got `str` - at `\$\.sources\.iot\.rate`"),
        ('address = "10.0.0.1"', 'address = "10.0.0.1:2222"', r"devices\.e1\.address '10\.0\.0\.1:2222': .*port = …"),
        ('address = "10.0.0.1"', 'address = "pi@10.0.0.1"', r"devices\.e1\.address 'pi@10\.0\.0\.1': .*user = …"),
        ('address = "10.0.0.1"', 'address = "ssh://10.0.0.1"', r"devices\.e1\.address 'ssh://10\.0\.0\.1': write"),
        ('address = "10.0.0.1"', 'address = "10.0.0.256"', r"devices\.e1\.address '10\.0\.0\.256': write"),
        ('address = "10.0.0.1"', 'address = "[fd00::1]"', r"devices\.e1\.address '\[fd00::1\]': .*without brackets"),
        ("port = 1883", 'port = 1883\naddress = "mqtt://10.0.0.9"', r"broker\.address 'mqtt://10\.0\.0\.9': write"),
        ('key = "keys/id"', 'key = "~nobody-here/id"', r"fleet\.toml: '~nobody-here/id': there is no such user"),
        (
            'fleet = "house"',
            'fleet = "house"\nknown_hosts = "~nobody-here/k"',
            r"'~nobody-here/k': there is no such",
        ),
        ('fleet = "house"', 'fleet = "house"\npki = "~nobody-here/pki"', r"'~nobody-here/pki': there is no such user"),
        ('key = "keys/id"', 'jump = "bastion"', r"devices\.e1\.jump 'bastion': write USER@HOST"),
        ('key = "keys/id"', 'jump = "pi@fd00::1"', r"devices\.e1\.jump 'pi@fd00::1': write"),
    ],
)
def test_a_wrong_inventory_is_one_sentence(written, old, new, sentence):
    assert old in GOOD
    with pytest.raises(FogError, match=sentence):
        load_inventory(written(GOOD.replace(old, new, 1)))


@pytest.mark.parametrize(
    "address", ["e1.local", "pi-4_kitchen", "10.0.0.1", "fd00::1", "fe80::1%eth0", "xn--kche-0ra.lan"]
)
def test_a_host_is_known_by_its_name_or_address(written, address):
    found = load_inventory(written(GOOD.replace("10.0.0.1", address)))
    assert found.devices["e1"].address == address


def test_an_inventory_written_on_windows_is_read(tmp_path):
    (tmp_path / "fleet.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_inventory(tmp_path / "fleet.toml").fleet == "house"


def test_a_folder_of_host_keys_is_one_sentence(written):
    with pytest.raises(InventoryError, match=r"known_hosts '\.' is a folder"):
        load_inventory(written('known_hosts = "."\n' + GOOD))


SITES = """
[devices.barn]
address = "10.0.0.1"
user = "pi"
jump = "pi@barn.example:2222"
[devices.shed]
address = "10.0.0.1"
user = "pi"
jump = "pi@10.0.0.9"
"""


def test_devices_of_one_address_behind_different_jumps_are_told_apart_by_these(written):
    found = load_inventory(written(GOOD + SITES))
    names = {name: found.known_hosts.name_of(each.place, each.jump_place) for name, each in found.devices.items()}
    assert names == {
        "cloud": "10.0.0.9",
        "e1": "10.0.0.1",
        "barn": "10.0.0.1%[barn.example]:2222",
        "shed": "10.0.0.1%10.0.0.9",
    }
    with pytest.raises(InventoryError, match=r"two devices have the address 10\.0\.0\.1 port 22"):
        load_inventory(written(GOOD + SITES.replace("pi@barn.example:2222", "fog@10.0.0.9:22")))


def test_a_jump_does_not_change_the_name_of_a_device_that_has_its_address_alone(written):
    found = load_inventory(written(GOOD.replace('key = "keys/id"', 'jump = "pi@barn.example"')))
    e1 = found.devices["e1"]
    assert found.known_hosts.name_of(e1.place, e1.jump_place) == "10.0.0.1"


def test_a_node_that_the_bundle_does_not_have_is_named_even_if_another_is_missing(written, bundle):
    with pytest.raises(InventoryError, match=r"no device carries e1, .*the bundle has no node e9"):
        load_inventory(written(GOOD.replace('node = "e1"', 'node = "e9"'))).require_fits(bundle.manifest)


def test_a_missing_inventory_says_how_to_write_one(tmp_path):
    with pytest.raises(InventoryError, match="fogguard provision init"):
        load_inventory(tmp_path / "none.toml")


def test_an_inventory_must_have_a_device_for_each_node_of_the_bundle(written, bundle):
    with pytest.raises(InventoryError, match="no device carries f"):
        load_inventory(written(GOOD)).require_fits(bundle.manifest)


def test_what_init_writes_is_read_again_and_fits_the_bundle(tmp_path, bundle):
    nodes = bundle.manifest.nodes
    logins = {node: Login("pi", f"10.0.0.{position}", 22) for position, node in enumerate(nodes, 1)}
    file = tmp_path / "fleet.toml"
    write_inventory(file, new_file("house", logins, ["cloud"], "", "pki", bundle.manifest))
    found = load_inventory(file)
    found.require_fits(bundle.manifest)
    assert {device.node for device in found.devices.values()} == set(nodes)
    assert found.broker_urls == ("mqtts://10.0.0.4:8883",)
    assert file.read_text().count("[broker]") == 1
    assert found.sources["iot"].device == "e1"
    with pytest.raises(InventoryError, match="is there already"):
        write_inventory(file, new_file("house", logins, ["cloud"], "", "pki", bundle.manifest))
    several = tmp_path / "several.toml"
    write_inventory(several, new_file("house", logins, ["f1", "cloud"], "", "", bundle.manifest))
    assert [each.device for each in load_inventory(several).brokers] == ["f1", "cloud"]


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("pi@10.0.0.1", ("pi", "10.0.0.1", 22)),
        ("pi@10.0.0.1:2222", ("pi", "10.0.0.1", 2222)),
        ("pi@[fe80::1]:2222", ("pi", "fe80::1", 2222)),
        ("pi@[fe80::1]", ("pi", "fe80::1", 22)),
    ],
)
def test_a_login_is_read(text, login):
    found = Login.parse(text, "--device")
    assert (found.user, found.host, found.port) == login


@pytest.mark.parametrize("text", ["10.0.0.1", "@host", "pi@", "pi@host:", "pi@host:0", "pi@host:x", "pi@fd00::1"])
def test_what_is_no_login_is_refused(text):
    with pytest.raises(HostError, match="write USER@HOST"):
        Login.parse(text, "--device")


def test_leaving_out_a_device_that_is_not_there_is_refused(written):
    found = load_inventory(written(GOOD))
    assert list(found.only(["e1"])) == ["cloud"]
    with pytest.raises(InventoryError, match=r"--without e9: the inventory has cloud, e1"):
        found.only(["e9"])
