"""Smart plugs: what each kind says and understands, over a real broker with a program that stands for them."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from support import ROOT
from test_agent import listener

from benchmarks.meters import Meters
from benchmarks.place import place_of, require_reach, within_reach
from benchmarks.plug_kinds import Kind, kind_of, watts
from benchmarks.plugs import Plugs, plug_of
from benchmarks.scenario import Harm
from broker.embedded import running_broker
from broker.errors import FogError
from broker.link import LinkError
from broker.url import BrokerUrl
from provisioning.local import LocalFleet
from provisioning.plug import Plug

TASMOTA, SHELLY_1, SHELLY, ZIGBEE = SWITCHES = (
    "cmnd/plug1/POWER",
    "shellies/shellyplug-s-B0D3AE/relay/0/command",
    "shellyplusplugs-80646fd031f8/command/switch:0",
    "zigbee2mqtt/desk/left plug/set",
)
SENSOR = (
    '{"Time":"2023-05-19T20:52:56","ENERGY":{"TotalStartTime":"2022-03-20T15:20:48","Total":514.153,"Yesterday":1.495,'
    '"Today":0.537,"Period":0,"Power":56,"ApparentPower":92,"ReactivePower":73,"Factor":0.61,"Voltage":234,'
    '"Current":0.392}}'
)


@contextmanager
def plugs_at(url, *switches):
    """Yield a program that stands for the plugs that are switched at these topics."""
    words = [sys.executable, ROOT / "tests" / "metered_plug.py", str(url), *switches]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def heard(meters, nodes):
    """What the plugs of these nodes said first."""
    found, ends_s = {}, time.monotonic() + 30
    while found.keys() < set(nodes):
        assert time.monotonic() < ends_s, found
        for node, said in meters.read_w().items():
            found.setdefault(node, said[0])
        time.sleep(0.05)
    return found


def test_a_plug_of_each_kind_is_asked_what_it_draws_and_switched_in_its_own_words(broker):
    plugs = {f"n{number}": Plug(broker, switch) for number, switch in enumerate(SWITCHES)}
    with plugs_at(broker, *SWITCHES) as said:
        with Meters(plugs) as meters:
            assert heard(meters, plugs) == {"n0": 4.0, "n1": 34.2, "n2": 4.1, "n3": 4.6}
        hands = Plugs(plugs)
        for node in plugs:
            hands.do(Harm("power"), node)
            hands.undo(Harm("power"), node)
        assert [said.stdout.readline().rstrip("\n") for _ in range(8)] == [
            *(f"{switch} {word}" for switch in (TASMOTA, SHELLY_1, SHELLY) for word in ("off", "on")),
            *(f'{ZIGBEE} {{"state": "{word}"}}' for word in ("OFF", "ON")),
        ]


def test_what_a_plug_says_by_itself_counts_and_what_its_broker_has_kept_does_not():
    with running_broker("embedded") as url, listener(url, "cmnd/#") as (link, asked):
        assert link.publish_confirmed("tele/plug1/SENSOR", SENSOR.encode(), retain=True, timeout_s=5)
        with Meters({"f1": Plug(url, TASMOTA)}) as meters:
            assert meters.read_w() == {}
            assert link.poll_until(lambda: bool(asked), 20)
            assert asked == [("cmnd/plug1/STATUS", b"10")]
            assert link.publish_confirmed("tele/plug1/SENSOR", SENSOR.encode(), retain=False, timeout_s=5)
            assert heard(meters, ["f1"]) == {"f1": 56.0}


@pytest.mark.parametrize(
    ("switch", "topic", "payload", "told_w"),
    [
        (TASMOTA, "tele/plug1/SENSOR", SENSOR, 56.0),
        ("plug1/cmnd/POWER2", "plug1/tele/SENSOR", SENSOR, 56.0),
        (TASMOTA, "stat/plug1/STATUS10", f'{{"StatusSNS":{SENSOR}}}', 56.0),
        (TASMOTA, "stat/plug1/STATUS10", SENSOR, None),
        (TASMOTA, "tele/plug2/SENSOR", SENSOR, None),
        (TASMOTA, "tele/plug1/SENSOR", SENSOR.replace("56", "[52,5]"), None),
        (TASMOTA, "tele/plug1/SENSOR", '{"Time":"2024-02-24T22:20:38","Switch1":"ON"}', None),
        (SHELLY_1, "shellies/shellyplug-s-B0D3AE/relay/0/power", "0.00", 0.0),
        (SHELLY_1, "shellies/shellyplug-s-B0D3AE/relay/0/energy", "1256", None),
        (SHELLY, "shellyplusplugs-80646fd031f8/status/switch:0", '{"id":0, "apower":10.7}', 10.7),
        (SHELLY, "shellyplusplugs-80646fd031f8/status/switch:0", '{"id":0, "output":true}', None),
        (ZIGBEE, "zigbee2mqtt/desk/left plug", '{"power":4.6,"state":"ON"}', 4.6),
        (ZIGBEE, "zigbee2mqtt/desk/left plug", '{"power":null,"state":"ON"}', None),
        ("plugs/f1", "plugs/f1", "34.2", None),
        *(
            (SHELLY_1, "shellies/shellyplug-s-B0D3AE/relay/0/power", wrong, None)
            for wrong in ("", "on", "true", "{", "\xff")
        ),
    ],
)
def test_the_watts_in_a_message_are_those_of_its_kind_and_nonsense_is_none(switch, topic, payload, told_w):
    assert watts(kind_of(switch), topic, payload.encode("latin-1")) == told_w


def test_a_plug_of_a_kind_that_nobody_knows_is_switched_and_not_read():
    assert kind_of("plugs/f1") == Kind()
    with Meters({"f1": Plug(BrokerUrl("127.0.0.1", 1), "plugs/f1")}) as meters:
        assert meters.read_w() == {}


def test_the_broker_of_a_plug_that_does_not_answer_is_a_sentence():
    with (
        pytest.raises(LinkError, match=r"no broker answers at mqtt://127\.0\.0\.1:1 "),
        Meters({"f1": Plug(BrokerUrl("127.0.0.1", 1), TASMOTA)}),
    ):
        pass


def test_a_plug_is_named_by_node_broker_and_topic():
    found = plug_of("f1=mqtt://10.0.0.2:1884/cmnd/plug1/POWER")
    assert found == ("f1", Plug(BrokerUrl("10.0.0.2", 1884), "cmnd/plug1/POWER"))
    assert str(found[1]) == "mqtt://10.0.0.2:1884/cmnd/plug1/POWER"
    for wrong in ("f1", "=mqtt://h/x"):
        with pytest.raises(FogError, match="write NODE=mqtt://HOST:PORT/TOPIC"):
            plug_of(wrong)
    for wrong in (
        "10.0.0.2/x",
        "mqtt://10.0.0.2",
        "mqtt://h/a/+/b",
        "mqtt://h/#",
        "mqtt://me:secret@h/x",
        "http://h/x",
    ):
        with pytest.raises(FogError, match=r"--plug f1: '.*write mqtt://HOST:PORT"):
            plug_of(f"f1={wrong}")


INVENTORY = """
fleet = "house"
[broker]
device = "cloud"
port = {port}
[devices.cloud]
address = "127.0.0.1"
user = "pi"
node = "cloud"
[devices.f1]
address = "127.0.0.2"
user = "pi"
node = "f1"
plug = "{plug}"
[devices.e1]
address = "127.0.0.3"
user = "pi"
node = "e1"
plug = "{url}/cmnd/silent/POWER"
[devices.f2]
address = "127.0.0.4"
user = "pi"
node = "f2"
"""


def test_what_an_inventory_says_holds_where_no_option_says_something_else(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(INVENTORY.format(port=1884, url="mqtt://10.0.0.2", plug=f"mqtts://10.0.0.2/{TASMOTA}"))
    silent = Plug(BrokerUrl("10.0.0.2", 1883), "cmnd/silent/POWER")
    place = place_of(inventory=file)
    assert (place.broker, place.fleet, place.tls, place.local) == ("mqtt://127.0.0.1:1884", "house", None, False)
    assert place.plugs == {"f1": Plug(BrokerUrl("10.0.0.2", 8883, secure=True), TASMOTA), "e1": silent}
    assert place.verbs == ("power",)
    other = place_of(inventory=file, broker="mqtt://10.0.0.9", fleet="home", plugs=["f1=mqtt://10.0.0.9/x"])
    assert (other.broker, other.fleet) == ("mqtt://10.0.0.9", "home")
    assert other.plugs == {"f1": Plug(BrokerUrl("10.0.0.9", 1883), "x"), "e1": silent}
    for more in ({"lab": "lab"}, {"lab": "lab", "external": True}):
        with pytest.raises(FogError, match="leave one out"):
            place_of(inventory=file, **more)


def test_the_broker_s_device_is_spared_but_its_agent_is_not(tmp_path):
    file = tmp_path / "fleet.toml"
    text = INVENTORY.format(port=1884, url="mqtt://10.0.0.2", plug=f"mqtts://10.0.0.2/{TASMOTA}")
    file.write_text(text.replace('device = "cloud"', 'device = "e1"', 1))
    place, order = place_of(inventory=file), ("f1", "f2", "e1")
    assert place.carriers == {"e1"}
    assert within_reach(place, "power", order) == ["f1"]
    assert within_reach(place, "cut", order) == ["f1", "f2"]
    assert within_reach(place, "kill", order) == list(order)
    require_reach(place, "stop", ["e1"], order, "choose masks")
    for by, nodes, why in (
        ("cut", ["f1", "e1"], "e1 is on a device with a broker"),
        ("power", ["f2"], "name the plug of f2"),
    ):
        with pytest.raises(FogError, match=f"{by}: {why}.*; or choose masks"):
            require_reach(place, by, nodes, order, "choose masks")
    with pytest.raises(FogError, match="--by freeze: e1 is on a device with a broker"):
        within_reach(place, "freeze", ["e1"])


def test_several_brokers_are_all_named_and_their_devices_all_spared(tmp_path):
    file = tmp_path / "fleet.toml"
    text = INVENTORY.format(port=1884, url="mqtt://10.0.0.2", plug=f"mqtts://10.0.0.2/{TASMOTA}")
    second = '[[broker]]\ndevice = "f1"\nport = 1885\n'
    file.write_text(text.replace("[broker]", "[[broker]]").replace("[devices.cloud]", f"{second}[devices.cloud]"))
    place = place_of(inventory=file)
    assert place.broker == "mqtt://127.0.0.1:1884,mqtt://127.0.0.2:1885"
    assert within_reach(place, "cut", ("f1", "f2", "e1")) == ["f2", "e1"]


@pytest.mark.slow
def test_one_path_names_a_fleet_and_its_plugs_and_each_step_costs_what_a_plug_tells(bundle, fogguard, tmp_path):
    with running_broker() as url, LocalFleet(bundle, [url], "house", tmp_path) as agents:
        agents.start(bundle.manifest.nodes)
        file = tmp_path / "fleet.toml"
        file.write_text(INVENTORY.format(port=url.port, url=url, plug=f"{url}/{TASMOTA}"))
        fed = fogguard("run", bundle.path, "--inventory", file, "--steps", 50)
        assert fed.returncode == 0, fed.stderr
        latency = ("bench", "latency", bundle.path, "--inventory", file)
        strange = fogguard(*latency, "--plug", f"f9={url}/{TASMOTA}")
        assert strange.returncode == 2
        assert "f9 has a plug, and the bundle no such node" in strange.stderr
        few = ("--steps", 50, "--min-seconds", 3, "--offered", 20, "--json", "latency.json")
        with plugs_at(url, TASMOTA):
            done = fogguard(*latency, *few)
    assert "f1" in done.stdout, done.stderr  # on a busy machine somebody may be found slow
    found = json.loads((tmp_path / "latency.json").read_text())["devices"]
    assert found["f1"]["power_w"]["plug"] == 4.0
    assert found["f1"]["power_readings"]["plug"] >= 2
    assert found["f1"]["joules_per_step"]["plug"] > 0
    for silent in ("e1", "f2", "cloud"):
        assert "plug" not in found[silent].get("power_w", {})


def test_a_plug_that_is_none_is_refused_with_where_it_stands(fogguard, tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(INVENTORY.format(port=1883, url="mqtt://10.0.0.2", plug="http://10.0.0.2/cmnd"))
    done = fogguard("bench", "latency", "bundle", "--inventory", file)
    assert done.returncode == 2
    assert f"{file}: devices.f1.plug 'http://10.0.0.2/cmnd': " in " ".join(done.stderr.split())
