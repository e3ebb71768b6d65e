"""What the generated access rules allow and refuse, on a real mosquitto with TLS and client certificates."""

import contextlib
import time

import msgspec
import pytest
from secured import FLEET, fleet_keys, link, secured

from broker.errors import FogError
from broker.link import Link, LinkError, LinkLost
from broker.topics import Topics
from edge_agent.config import Source
from edge_agent.loading import load_session
from edge_agent.node import Node
from edge_agent.sensor import Sensor
from provisioning import pki
from provisioning.access import access_of, heard_of

T = Topics(FLEET)
NODES = ("e1", "f2", "f1", "cloud")
TENSORS = {T.tensor(name) for name in ("iot", "e1", "f2", "f1")}
RAW = "plant/iot"  # what the sensor's source listens to
EVERY = TENSORS | {T.step, T.result} | {
    make(node) for node in (*NODES, "iot") for make in (T.status, T.beat, T.metrics, T.cmd, T.reply)
}  # fmt: skip


def own(node):
    return {T.status(node), T.beat(node), T.metrics(node), T.reply(node)}


def lives(*nodes):
    return {T.status(node) for node in nodes} | {T.beat(node) for node in nodes}


# The fog of README, by hand: who may write what, and who may read what.
WRITES = {
    "iot": {T.tensor("iot"), T.step} | own("iot"),
    "e1": {T.tensor("e1")} | own("e1"),
    "f2": {T.tensor("f2")} | own("f2"),
    "f1": {T.tensor("f1")} | own("f1"),
    "cloud": {T.result} | own("cloud"),
    "operator": {T.cmd(node) for node in (*NODES, "iot")},
    "feeder": {T.tensor("iot"), T.step},
    "watcher": set(),
    "witness": set(),
    "observer": set(),
}
READS = {
    "iot": {T.step, T.cmd("iot"), RAW} | lives("iot"),
    "e1": {T.tensor("iot"), T.cmd("e1")} | lives("e1", "iot"),
    "f2": {T.tensor("iot"), T.tensor("e1"), T.cmd("f2")} | lives("f2", "e1", "iot"),
    "f1": {T.tensor("e1"), T.tensor("f2"), T.cmd("f1")} | lives("f1", "e1", "f2", "iot"),
    "cloud": {T.tensor("f2"), T.tensor("f1"), T.step, T.cmd("cloud")} | lives("cloud", "e1", "f2", "f1", "iot"),
    "operator": EVERY,
    "feeder": {T.result} | {make(node) for node in (*NODES, "iot") for make in (T.status, T.beat, T.metrics)},
    "watcher": EVERY,
    "witness": EVERY,
    "observer": {T.metrics(node) for node in (*NODES, "iot")},
}


@pytest.fixture(scope="module")
def keys(bundle, tmp_path_factory):
    return fleet_keys(tmp_path_factory.mktemp("access") / "pki", bundle.manifest)


@pytest.fixture(scope="module")
def url(bundle, keys):
    with secured(bundle.manifest, keys, {"iot": RAW}) as url:
        yield url


def said(link, payload=b"x", topics=EVERY):
    for topic in sorted(topics):
        link.publish(topic, payload)


@pytest.mark.parametrize("identity", WRITES)
def test_a_client_writes_its_own_topics_and_no_other(url, keys, identity):
    heard = []
    with link(url, keys, "watcher" if identity != "watcher" else "operator", ["#"], heard) as watcher:
        watcher.connect()
        with link(url, keys, identity) as speaker:
            speaker.connect()
            said(speaker, identity.encode(), EVERY | {"other", f"fog/other/{identity}/tensor", "$SYS/x"})
            speaker.poll_until(lambda: False, 0.1)
        watcher.poll_until(lambda: False, 0.3)
    assert {topic for topic, payload in heard if payload == identity.encode()} == WRITES[identity]


@pytest.mark.parametrize("identity", READS)
def test_a_client_reads_what_it_needs_and_nothing_else_however_it_asks(url, keys, identity):
    heard = []
    asked = ["#", "$SYS/#", "fog/#", RAW, *sorted(EVERY)]
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(link(url, keys, identity, asked, heard))
        listener.connect()
        for writer in WRITES:
            if writer == identity:
                continue
            with link(url, keys, writer) as speaker:
                speaker.connect()
                said(speaker, topics={RAW} if writer == "feeder" else WRITES[writer])
                speaker.poll_until(lambda: False, 0.05)
        listener_says = WRITES[identity]
        said(listener, topics=listener_says)
        listener.poll_until(lambda: False, 0.3)
    assert {topic for topic, _ in heard} == READS[identity]


def test_what_a_sensor_listens_to_the_feeder_alone_may_say(url, keys):
    heard = []
    with link(url, keys, "iot", [RAW, f"{RAW}/more"], heard) as listener:
        listener.connect()
        for identity in WRITES:
            if identity != "iot":
                with link(url, keys, identity) as speaker:
                    speaker.connect()
                    said(speaker, identity.encode(), {RAW, f"{RAW}/more"})
                    speaker.poll_until(lambda: False, 0.05)
        said(listener, b"iot", {RAW})
        listener.poll_until(lambda: False, 0.3)
    assert heard == [(RAW, b"feeder")]


def test_the_rules_are_what_the_agents_subscribe_to(bundle):
    rules = access_of(bundle.manifest, FLEET)
    for name in NODES:
        node = Node(name, bundle, load_session(bundle, name), T, lambda *_: None, lambda: 0)
        agents_own = {T.status(name), T.cmd(name)}
        assert set(rules[name].reads) == {topic for topic, _ in node.subscriptions} | agents_own
    rules, source = access_of(bundle.manifest, FLEET, {"iot": RAW}), Source(kind="mqtt", options={"topic": RAW})
    sensor = Sensor("iot", bundle, load_session(bundle, "iot"), T, lambda *_: None, lambda: 0, source=source)
    assert set(rules["iot"].reads) == {topic for topic, _ in sensor.subscriptions} | {T.status("iot"), T.cmd("iot")}


def test_without_a_certificate_nobody_comes_in(url, keys, monkeypatch):
    stranger = Link(url, "stranger")
    with pytest.raises(LinkError, match="another CA than those that this system trusts"):
        stranger.connect()
    monkeypatch.setenv("SSL_CERT_FILE", str(keys / "ca.crt"))  # what this system trusts
    naked = Link(url, "naked")
    with pytest.raises(LinkError, match="lets nobody in without a certificate"):
        naked.connect()
    assert not naked.is_up
    plain = Link(url._replace(secure=False), "plain")
    with pytest.raises(LinkError, match=r"does not answer as an MQTT 5 broker: does it want TLS, mqtts://\?"):
        plain.connect(timeout_s=1)


def test_no_client_throws_another_out_by_taking_its_client_id(url, keys):
    with link(url, keys, "f1") as victim, link(url, keys, "e1") as attacker:
        victim.connect()
        attacker._client._client_id = b"test-f1"
        attacker.connect()
        victim.poll_until(lambda: False, 0.3)
        assert victim.is_up
        assert attacker.is_up


def test_a_second_client_with_the_same_certificate_takes_the_place_of_the_first(url, keys):
    with link(url, keys, "e1") as first, link(url, keys, "e1") as second:
        first.connect()
        second.connect()
        assert first.poll_until(lambda: not first.is_up, 2)
        with pytest.raises(LinkLost, match=r"is there as 'test-e1', or with .*e1\.crt; stop one of the two"):
            for _ in range(3000):
                first.poll(0.01)
                second.poll(0.01)


def test_a_message_that_is_larger_than_any_of_the_fleet_ends_the_connection(url, keys, bundle):
    heard = []
    limit = bundle.manifest.message_bytes
    assert limit < 80_000
    with link(url, keys, "watcher", ["#"], heard) as watcher, link(url, keys, "e1") as speaker:
        watcher.connect()
        speaker.connect()
        speaker.publish(T.tensor("e1"), bytes(limit - 200))
        assert watcher.poll_until(lambda: heard, 2)
        speaker.publish(T.tensor("e1"), bytes(limit + 1))
        assert speaker.poll_until(lambda: not speaker.is_up, 2)
        watcher.poll_until(lambda: False, 0.2)
    assert len(heard) == 1


def test_many_messages_in_one_record_are_all_heard_at_once(url, keys):
    """TLS decrypts several at a time: select sees none of those that wait in its buffer."""
    heard = []
    with link(url, keys, "watcher", [T.tensor("e1")], heard) as watcher, link(url, keys, "e1") as speaker:
        watcher.connect()
        speaker.connect()
        for number in range(500):
            speaker.publish(T.tensor("e1"), number.to_bytes(2, "big"))
        speaker.poll_until(lambda: not speaker._client.want_write(), 2)
        began = time.monotonic()
        assert watcher.poll_until(lambda: len(heard) == 500, 5)
        assert time.monotonic() - began < 2
    assert [int.from_bytes(payload, "big") for _, payload in heard] == list(range(500))


def test_a_fleet_whose_certificates_are_not_all_there_is_one_sentence(tmp_path, bundle, keys):
    from provisioning.access import write_mosquitto

    few = tmp_path / "few"
    pki.init(few, FLEET, ["e1"])
    with pytest.raises(pki.PkiError, match=r"holds no iot\.crt: make it with `fogguard pki init"):
        write_mosquitto(tmp_path / "conf", bundle.manifest, few, "127.0.0.1", 1)
    with pytest.raises(pki.PkiError, match=r"ca\.crt: cannot be read"):
        write_mosquitto(tmp_path / "conf", bundle.manifest, tmp_path / "none", "127.0.0.1", 1)
    assert not (tmp_path / "conf").exists()


def test_a_name_cannot_smuggle_in_a_rule(bundle):
    manifest = bundle.manifest
    for name in ("x\ntopic write #", "../ca", "+", "#", "a b"):
        nodes = {**manifest.nodes, name: manifest.nodes["e1"]}
        with pytest.raises(FogError, match="use letters"):
            access_of(msgspec.structs.replace(manifest, nodes=nodes), FLEET)
    with pytest.raises(FogError, match="use letters"):
        access_of(manifest, "house/#")


@pytest.mark.parametrize(
    "word",
    ["iot", "iot=", "iot=a b", "iot=a/#", "iot=+", "iot=a\ntopic write #", "iot=$SYS/x", "iot=fog/x/e1"],
)
def test_a_topic_cannot_smuggle_in_a_rule_either(bundle, word):
    with pytest.raises(FogError, match="write one topic without spaces"):
        heard_of([word], bundle.manifest)
    with pytest.raises(FogError, match=r"write SENSOR=TOPIC, the sensors are iot"):
        heard_of(["e1=a"], bundle.manifest)
    assert heard_of(["iot=plant/7/raw"], bundle.manifest) == {"iot": "plant/7/raw"}
