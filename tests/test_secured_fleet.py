"""A whole fleet with TLS, access rules and a signed bundle, by the commands that docs/security.md shows."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time

import msgspec
import pytest
from secured import free_port, link, public_folder, running
from support import command

from broker.message import Request
from broker.process import spawn, stop
from broker.topics import Topics
from edge_agent.commands import decode_reply, encode_ask
from edge_agent.config import Config

T = Topics("house")


@pytest.fixture(scope="module")
def fleet(bundle, tmp_path_factory):
    """Yields the broker's URL and the folder of keys, bundle and configurations, while four agents run."""
    folder = tmp_path_factory.mktemp("fleet")

    def fogguard(*arguments):
        done = subprocess.run([command("fogguard"), *map(str, arguments)], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    with contextlib.ExitStack() as stack:
        conf = stack.enter_context(public_folder())
        subprocess.run(["cp", "-r", bundle.path, folder / "bundle"], check=True)
        fogguard("pki", "init", "pki", "--fleet", "house", "--bundle", "bundle")
        fogguard("sign", "bundle", "--key", "pki/signing.key")
        port = free_port()
        told = fogguard("broker", "--render-mosquitto", conf, "--bundle", "bundle", "--pki", "pki", "--port", port)
        assert f"mosquitto -c {conf}/mosquitto.conf" in " ".join(told.split())
        url = stack.enter_context(running(conf))
        for node in bundle.manifest.nodes:
            tls = {"ca": "pki/ca.crt", "certificate": f"pki/{node}.crt", "key": f"pki/{node}.key"}
            rest = {"fleet": "house", "state": "state", "tls": tls, "verify_key": "pki/signing.pub"}
            config = {"node": node, "bundle": "bundle", "broker": str(url), **rest}
            (folder / f"{node}.json").write_text(json.dumps(config))
            msgspec.json.decode((folder / f"{node}.json").read_bytes(), type=Config)
            agent = spawn(
                [command("fogguard-agent"), "--config", f"{node}.json"], log=folder / f"{node}.log", folder=folder
            )
            stack.callback(stop, agent)
        yield url, folder


def test_a_fleet_with_certificates_answers_as_predicted(fleet):
    url, folder = fleet
    arguments = ["run", "bundle", "--external", "--broker", str(url), "--fleet", "house", "--tls", "pki"]
    done = subprocess.run(
        [command("fogguard"), *arguments, "--steps", "237", "--rate", "400", "--json", "r.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr + "".join(log.read_text() for log in folder.glob("*.log"))
    (phase,) = json.loads((folder / "r.json").read_text())["phases"]
    assert (phase["answered"], phase["lost"]) == (237, 0)
    assert phase["labels_equal"] == phase["labels_compared"] == 237


def test_a_watcher_sees_the_fleet_beside_its_feeder(fleet):
    url, folder = fleet
    arguments = ["watch", "bundle", "--broker", str(url), "--fleet", "house", "--tls", "pki"]
    with subprocess.Popen([command("fogguard"), *arguments], cwd=folder, stderr=subprocess.PIPE, text=True) as watching:
        for line in watching.stderr:
            if "mask 111" in line:
                break
        with link(url, folder / "pki", "feeder") as feeder:
            feeder.connect()
        watching.send_signal(signal.SIGINT)
        said = watching.stderr.read()
    assert (watching.returncode, "Traceback" in said) == (0, False), said


@pytest.mark.slow
def test_an_observer_records_beside_feeder_and_watcher(fleet):
    url, folder = fleet
    where = ["--broker", str(url), "--fleet", "house", "--tls", "pki", "--for", "6s", "--json", "seen.json"]
    observe = [command("fogguard"), "observe", "bundle", *where]
    with subprocess.Popen(observe, cwd=folder, stderr=subprocess.PIPE, text=True) as observing:
        for line in observing.stderr:
            if "tells who is up" in line:
                break
        with link(url, folder / "pki", "feeder") as feeder, link(url, folder / "pki", "watcher") as watcher:
            feeder.connect()
            watcher.connect()
            said = observing.stderr.read()
    assert observing.returncode == 0, said
    assert json.loads((folder / "seen.json").read_text())["finished"]


def test_the_operator_asks_a_node_and_hears_its_reply(fleet):
    url, folder = fleet
    where = ["--broker", str(url), "--fleet", "house"]
    for asked in ("ping", "metrics", "trace", "host", "speed"):
        done = subprocess.run(
            [command("fogguard"), "ask", "f1", asked, *where, "--tls", "pki", "--json", "a.json"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        reply = json.loads((folder / "a.json").read_text())
        assert (reply["node"], reply["command"], reply["epoch"] > 0) == ("f1", asked, True)
        told = {"metrics": "metrics", "trace": "trace", "host": "host", "infer_ms": "speed"}
        assert [what for name, what in told.items() if reply[name] is not None] == [asked] * (asked != "ping")
    done = subprocess.run(
        [command("fogguard"), "ask", "f9", *where, "--tls", "pki"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(r"f9 of fleet house says nothing within 5 s", " ".join(done.stderr.split()))


@pytest.mark.slow
def test_the_latency_of_a_secured_fleet_is_measured_as_feeder_operator_and_witness(fleet):
    url, folder = fleet
    where = ["--external", "--broker", str(url), "--fleet", "house", "--tls", "pki"]
    how = ["--steps", "30", "--min-seconds", "0", "--offered", "50", "--json", "latency.json"]
    done = subprocess.run(
        [command("fogguard"), "bench", "latency", "bundle", *where, *how], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Nobody holds it up." in done.stdout
    found = json.loads((folder / "latency.json").read_text())
    assert (found["n"], found["findings"]) == (30, [])
    assert {node: judged["wrong"] for node, judged in found["judged"].items()} == dict.fromkeys(found["judged"], 0)
    report = subprocess.run(
        [command("fogguard"), "report", "latency.json", "--out", "latency.html"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert report.returncode == 0, report.stderr
    assert (folder / "latency-waterfall.png").exists()
    assert "| node | opened by | sent at ms | wire |" in (folder / "latency.md").read_text()


@pytest.mark.slow
def test_a_drill_of_a_secured_fleet_overhears_as_its_witness_and_does_without_one(fleet):
    url, folder = fleet
    where = ["--external", "--broker", str(url), "--fleet", "house", "--by-hand", "--hold", "60s", "--for", "3s"]
    shutil.copytree(folder / "pki", folder / "few", ignore=shutil.ignore_patterns("witness.*"))
    judged = []
    for keys in ("pki", "few"):
        drill = [command("fogguard"), "drill", "bundle", *where, "--tls", keys, "--json", f"{keys}.json"]
        done = subprocess.run(drill, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        judged.append(json.loads((folder / f"{keys}.json").read_text())["evidence"]["judged"]["cloud"]["n"])
    assert judged[0] > judged[1] == 0
    assert "few holds no witness.crt" in " ".join(done.stderr.split())


def replies_to(fleet, asker, payload, reply_to):
    """What a watcher hears after `asker` sent a request to f1."""
    url, folder = fleet
    heard = []
    with link(url, folder / "pki", "watcher", [T.below("#")], heard) as watcher:
        watcher.connect()
        with link(url, folder / "pki", asker) as sender:
            sender.connect()
            sender.request(T.cmd("f1"), Request(payload, reply_to, b"c"))
            sender.poll_until(lambda: False, 0.1)
        watcher.poll_until(lambda: False, 0.5)
    return [decode_reply(payload) for topic, payload in heard if topic == reply_to and b'"command"' in payload]


def test_a_command_of_anybody_else_does_not_reach_a_node(fleet):
    ask = encode_ask("ping")
    assert len(replies_to(fleet, "operator", ask, T.reply("f1"))) == 1
    for other in ("e1", "f1", "iot", "feeder", "cloud"):
        assert replies_to(fleet, other, ask, T.reply("f1")) == []


def test_a_node_replies_only_where_its_replies_belong(fleet):
    for elsewhere in (T.tensor("e1"), T.reply("e1"), T.status("f1"), T.reply("f1") + "/x"):
        assert replies_to(fleet, "operator", encode_ask("ping"), elsewhere) == []


def test_what_is_no_request_is_counted(fleet):
    url, folder = fleet

    def rejected():
        heard = []
        with link(url, folder / "pki", "watcher", [T.metrics("f1")], heard) as watcher:
            watcher.connect()
            assert watcher.poll_until(lambda: heard, 3)
        return json.loads(heard[-1][1])["rejected"].get("command", 0)

    before = rejected()
    for payload in (b"", b"{}", b'{"command":"reboot"}', b"\xff" * 2000):
        assert replies_to(fleet, "operator", payload, T.reply("f1")) == []
    time.sleep(1.1)
    assert rejected() == before + 4


def test_an_agent_that_is_shut_out_says_why_and_waits(fleet, tmp_path):
    _, folder = fleet
    subprocess.run([command("fogguard"), "pki", "init", "other", "--fleet", "house", "--nodes", "e1"], cwd=tmp_path)
    config = json.loads((folder / "e1.json").read_text())
    config["tls"] = {"ca": str(folder / "pki/ca.crt"), "certificate": "other/e1.crt", "key": "other/e1.key"}
    config |= {"bundle": str(folder / "bundle"), "verify_key": "", "state": "state"}
    (tmp_path / "e1.json").write_text(json.dumps(config))
    log = tmp_path / "log"
    agent = spawn([command("fogguard-agent"), "--config", "e1.json"], log=log, folder=tmp_path)
    try:
        ends = time.monotonic() + 10
        while "trying again" not in log.read_text() and time.monotonic() < ends:
            time.sleep(0.05)
        assert "does not know the CA of other/e1.crt" in log.read_text()
        assert agent.poll() is None
    finally:
        stop(agent)
