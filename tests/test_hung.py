"""`fogguard-agent --hung` over TLS: what systemd runs when it has ended an agent that hung."""

import contextlib
import json
import subprocess

from secured import FLEET, fleet_keys, link, secured
from support import command
from test_agent import TOPICS, listener

from broker.embedded import running_broker
from broker.presence import Presence, Status, decode_status, encode_status
from broker.process import spawn, stop
from broker.topics import Topics

T = Topics(FLEET)


def configured(folder, node, url, bundle, keys, identity=None):
    """A configuration for `node`, with the certificate of `identity`."""
    identity = identity or node
    tls = {
        "ca": str(keys / "ca.crt"),
        "certificate": str(keys / f"{identity}.crt"),
        "key": str(keys / f"{identity}.key"),
    }
    rest = {"bundle": str(bundle.path), "broker": str(url), "fleet": FLEET, "state": str(folder / "state")}
    file = folder / f"{node}-{identity}.json"
    file.write_text(json.dumps({"node": node, "tls": tls, **rest}))
    return file


def report_hung(file):
    return subprocess.run(
        [command("fogguard-agent"), "--config", file, "--hung"], capture_output=True, text=True, timeout=30
    )


def test_the_watchdog_s_word_comes_through_with_the_node_s_certificate_and_no_other(tmp_path, bundle):
    keys = fleet_keys(tmp_path / "pki", bundle.manifest)
    with secured(bundle.manifest, keys) as url, contextlib.ExitStack() as stack:
        heard = []
        watcher = stack.enter_context(link(url, keys, "watcher", [T.metrics("f2"), T.status("e1")], heard))
        watcher.connect()

        def sees(state):
            told = [json.loads(payload) for topic, payload in heard if topic == T.metrics("f2")]
            return bool(told) and told[-1]["view"]["e1"]["state"] == state

        files = {node: configured(tmp_path, node, url, bundle, keys) for node in ("e1", "f2")}
        agents = {}
        for node, file in files.items():
            log = tmp_path / f"{node}.log"
            agents[node] = spawn([command("fogguard-agent"), "--config", str(file)], log=log, folder=tmp_path)
            stack.callback(stop, agents[node])
        assert watcher.poll_until(lambda: sees("alive"), 30)
        agents["e1"].kill()
        assert watcher.poll_until(lambda: sees("dead"), 5)

        refused = report_hung(configured(tmp_path, "e1", url, bundle, keys, identity="f1"))
        assert (refused.returncode, "did not confirm that e1 hung" in refused.stderr) == (2, True), refused.stderr
        watcher.poll_until(lambda: False, 0.5)
        assert sees("dead")

        done = report_hung(files["e1"])
        assert done.returncode == 0, done.stderr
        assert watcher.poll_until(lambda: sees("hung"), 5)
        last = [json.loads(payload) for topic, payload in heard if topic == T.status("e1")][-1]
        assert (last["online"], last["epoch"], last["reason"]) == (False, 1, "hung")


def test_the_word_is_of_the_life_that_the_broker_knows_if_the_disk_did_not_keep_it(tmp_path, broker, bundle):
    config = {"node": "e1", "bundle": str(bundle.path), "broker": str(broker), "fleet": "test", "state": str(tmp_path)}
    (tmp_path / "e1.json").write_text(json.dumps(config))
    (tmp_path / "e1.epoch").write_text("1")
    seen = Presence(["e1"])
    with listener(broker, TOPICS.status("e1")) as (hears, heard):
        for online in (True, False):
            life = encode_status(Status(online=online, epoch=2, reason="" if online else "lost"))
            hears.publish_confirmed(TOPICS.status("e1"), life, retain=True, timeout_s=2)
        assert report_hung(tmp_path / "e1.json").returncode == 0
        assert hears.poll_until(lambda: len(heard) == 3, 5)
    for _, payload in heard:
        seen.on_status("e1", decode_status(payload), 0)
    assert (seen.view["e1"].state, seen.view["e1"].epoch) == ("hung", 2)


def test_the_word_is_left_wherever_the_fleet_is_at_the_second_broker_of_a_list_too(tmp_path, bundle):
    with running_broker() as first, running_broker() as second, listener(second, TOPICS.status("e1")) as (hears, heard):
        brokers = ["mqtt://127.0.0.1:9", str(first), str(second)]
        config = {"node": "e1", "bundle": str(bundle.path), "broker": brokers, "fleet": "test", "state": str(tmp_path)}
        (tmp_path / "e1.json").write_text(json.dumps(config))
        done = report_hung(tmp_path / "e1.json")
        assert done.returncode == 0, done.stderr
        assert hears.poll_until(lambda: heard, 5)
        assert json.loads(heard[0][1])["reason"] == "hung"
        (tmp_path / "e1.json").write_text(json.dumps({**config, "broker": brokers[:1]}))
        done = report_hung(tmp_path / "e1.json")
        assert (done.returncode, "no broker answers at mqtt://127.0.0.1:9" in done.stderr) == (2, True)
