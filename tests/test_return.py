"""A fleet with a list of brokers: all go to the next when the first dies, and come back when told to, not before."""

import contextlib
import json
import subprocess
import time

import pytest
from secured import FLEET, fleet_keys, free_port, link, public_folder, running
from support import command
from test_agent import TOPICS, agent, listener
from test_sensing import measured

from benchmarks.fleet import running_trial
from benchmarks.homeward import bring_home
from broker.brokers import Brokers
from broker.embedded import mosquitto, running_broker
from broker.process import spawn, stop
from broker.topics import Topics
from provisioning import access


@pytest.fixture(autouse=True)
def _needs_mosquitto():
    if mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")


def ask(*arguments, json_file=None):
    told = ["--json", json_file] if json_file else []
    return subprocess.run(
        [command("fogguard"), "ask", *map(str, arguments), *map(str, told)], capture_output=True, text=True, timeout=60
    )


def where_alive(url, nodes, fleet):
    """The nodes that a broker knows to be online."""
    topics = Topics(fleet)
    with listener(url, topics.status("+")) as (hears, heard):
        hears.poll_until(lambda: False, 0.4)
    last = {topic.split("/")[2]: json.loads(payload) for topic, payload in heard}
    return {node for node in nodes if node in last and last[node]["online"]}


@pytest.mark.slow
def test_all_move_when_the_first_broker_dies_and_return_together_when_told(bundle, tmp_path):
    manifest = bundle.manifest
    everyone = frozenset(manifest.order)
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(running_broker("mosquitto"))
        dies = stack.enter_context(contextlib.ExitStack())
        first = dies.enter_context(running_broker("mosquitto"))
        where = ["--broker", f"{first},{second}", "--fleet", manifest.name]
        trial = stack.enter_context(running_trial(bundle.path, broker=f"{first},{second}"))
        driver = trial.driver
        measured(trial, "at the first", everyone)
        dies.close()
        went_s = time.monotonic()
        assert driver._link.poll_until(lambda: driver._link.is_up and driver._link.url == second, 5)
        assert time.monotonic() - went_s < 1
        measured(trial, "at the second", everyone)
        refused = ask("all", "return", *where)
        assert (refused.returncode, f"no broker answers at {first}" in " ".join(refused.stderr.split())) == (2, True)

        dies = stack.enter_context(contextlib.ExitStack())
        dies.enter_context(running_broker("mosquitto", port=first.port))
        measured(trial, "the first is there again", everyone, steps=400)
        assert where_alive(first, manifest.nodes, manifest.name) == set()
        assert where_alive(second, manifest.nodes, manifest.name) == set(manifest.nodes)
        probed = ask("f1", "probe", *where, json_file=tmp_path / "p.json")
        assert probed.returncode == 0, probed.stderr
        told = json.loads((tmp_path / "p.json").read_text())
        assert (told["node"], told["broker"], told["refusal"]) == ("f1", str(second), "")

        asking = spawn(
            [command("fogguard"), "ask", "all", "return", *where, "--json", str(tmp_path / "r.json")],
            log=tmp_path / "asked",
            folder=tmp_path,
        )
        stack.callback(stop, asking)
        assert driver._link.poll_until(lambda: driver._link.is_up and driver._link.url == first, 20)
        assert driver._link.poll_until(lambda: asking.poll() is not None, 20)
        assert asking.returncode == 0, (tmp_path / "asked").read_text()
        assert set(json.loads((tmp_path / "r.json").read_text())["nodes"]) == set(manifest.nodes)
        assert where_alive(second, manifest.nodes, manifest.name) == set()
        assert where_alive(first, manifest.nodes, manifest.name) == set(manifest.nodes)
        measured(trial, "back at the first", everyone)
        dies.close()
        assert driver._link.poll_until(lambda: driver.url == second and driver.is_answerable, 5)
        stack.enter_context(running_broker("mosquitto", port=first.port))
        assert [bring_home(driver, 20) for _ in range(2)] == [True, False]
        measured(trial, "at the first once more", everyone)
        again = ask("all", "return", *where)
        assert (again.returncode, f"0 came back to {first}, 4 were there" in again.stdout) == (0, True), again.stderr


@pytest.mark.slow
def test_nobody_moves_if_one_of_them_cannot(bundle, tmp_path):
    """f1 has another first broker in its list, which is not there."""
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(running_broker("mosquitto"))
        with running_broker("mosquitto") as first:
            pass
        (tmp_path / "f1").mkdir()
        hears, heard = stack.enter_context(listener(second, TOPICS.status("e1"), TOPICS.status("f1")))
        for node, brokers in (("e1", [str(first), str(second)]), ("f1", ["mqtt://127.0.0.1:9", str(second)])):
            stack.enter_context(agent(tmp_path / "f1" if node == "f1" else tmp_path, brokers, bundle.path, node))
        assert hears.poll_until(lambda: {topic for topic, _ in heard} == {TOPICS.status("e1"), TOPICS.status("f1")}, 30)
        stack.enter_context(running_broker("mosquitto", port=first.port))
        done = ask("all", "return", "--broker", f"{first},{second}", "--fleet", "test")
        said = " ".join(done.stderr.split())
        assert (done.returncode, f"f1 stays at {second}, and nobody was told to move" in said) == (1, True), said
        assert "no broker answers at mqtt://127.0.0.1:9" in said
        one = ask("e1", "return", "--broker", f"{first},{second}", "--fleet", "test")
        assert (one.returncode, f"1 came back to {first}, 0 were there" in one.stdout) == (0, True), one.stderr
        lives = [json.loads(payload) for topic, payload in heard if topic == TOPICS.status("e1")]
        assert hears.poll_until(lambda: True, 1)
        assert lives[0]["online"]
        nobody = ask("f2", "return", "--broker", f"{first},{second}", "--fleet", "test")
        assert (nobody.returncode, "f2 of fleet test is not online" in " ".join(nobody.stderr.split())) == (1, True)


@pytest.mark.slow
def test_only_the_operator_makes_a_node_go_back(bundle, tmp_path):
    """Two brokers with TLS and access rules; the command of another certificate is not heard."""
    keys = fleet_keys(tmp_path / "pki", bundle.manifest)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(public_folder()) for _ in range(2)]
        for folder in folders:
            access.write_mosquitto(folder, bundle.manifest, keys, "127.0.0.1", free_port())
        second = stack.enter_context(running(folders[1]))
        with running(folders[0]) as first:
            pass
        tls = {"ca": str(keys / "ca.crt"), "certificate": str(keys / "f1.crt"), "key": str(keys / "f1.key")}
        config = {"node": "f1", "bundle": str(bundle.path), "broker": [str(first), str(second)], "fleet": FLEET}
        (tmp_path / "f1.json").write_text(json.dumps({**config, "state": str(tmp_path / "state"), "tls": tls}))
        process = spawn(
            [command("fogguard-agent"), "--config", str(tmp_path / "f1.json")], log=tmp_path / "log", folder=tmp_path
        )
        stack.callback(stop, process)
        heard = []
        watcher = stack.enter_context(link(second, keys, "watcher", [Topics(FLEET).status("f1")], heard))
        watcher.connect()
        assert watcher.poll_until(lambda: heard, 30), (tmp_path / "log").read_text()
        stack.enter_context(running(folders[0]))
        with link(second, keys, "feeder") as other:
            other.connect()
            other.publish(Topics(FLEET).cmd("f1"), b'{"command":"return"}', qos=1)
            other.poll_until(lambda: False, 0.5)
        watcher.poll_until(lambda: False, 1)
        assert len(heard) == 1
        done = ask("all", "return", "--broker", f"{first},{second}", "--fleet", FLEET, "--tls", keys)
        assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
        assert watcher.poll_until(lambda: len(heard) > 1, 3)
        assert json.loads(heard[1][1])["reason"] == "moved"


def test_the_first_is_home_again_only_when_told():
    brokers = Brokers("ab")
    brokers.on_up("b")
    assert (brokers.home, brokers.first) == ("b", "a")
    brokers.candidates(10.0)
    brokers.go_back()
    assert brokers.candidates(20.0) == ["a"]
    assert brokers.candidates(20.4) == ["a", "b"]
