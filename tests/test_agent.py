"""Real agents: processes on a real broker."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager

import msgspec
import numpy as np
import pytest
from altered import slowed
from support import command

from broker.beat import Beat, encode_beat
from broker.embedded import running_broker
from broker.frame import Frame, encode
from broker.link import Link
from broker.topics import Topics
from edge_agent.config import Config
from edge_agent.metrics import Metrics
from edge_agent.service import Supervisor

TOPICS = Topics("test")


@contextmanager
def agent(tmp_path, broker, bundle, node="e1", keepalive_s=1, **environment):
    config = Config(
        node=node,
        bundle=str(bundle),
        broker=broker if isinstance(broker, list) else str(broker),
        fleet="test",
        state=str(tmp_path / "state"),
        keepalive_s=keepalive_s,
    )
    file = tmp_path / f"{node}.json"
    file.write_bytes(msgspec.json.encode(config))
    process = subprocess.Popen(
        [command("fogguard-agent"), "--config", str(file)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def listener(broker, *topics):
    heard = []
    with Link(
        broker, "listener", subscriptions=[(t, 1) for t in topics], on_message=lambda t, p: heard.append((t, p))
    ) as link:
        link.connect()
        yield link, heard


def statuses(heard):
    return [json.loads(payload) for topic, payload in heard if topic.endswith("status")]


def test_an_agent_is_born_and_says_farewell_on_sigterm(tmp_path, broker, bundle):
    with listener(broker, TOPICS.status("e1")) as (link, heard), agent(tmp_path, broker, bundle.path) as process:
        assert link.poll_until(lambda: heard, 20)
        process.terminate()
        assert link.poll_until(lambda: len(heard) == 2, 5)
        assert process.wait(5) == 0
    born, died = statuses(heard)
    assert (born["online"], born["epoch"], born["bundle"]) == (True, 1, bundle.id.hex())
    assert (died["online"], died["epoch"], died["reason"]) == (False, 1, "stopped")
    with listener(broker, TOPICS.status("e1")) as (link, kept):
        assert link.poll_until(lambda: kept, 3)
    assert statuses(kept) == [died]


def test_a_killed_agent_leaves_its_last_will_and_comes_back_in_a_new_epoch(tmp_path, broker, bundle):
    with listener(broker, TOPICS.status("e1")) as (link, heard):
        for life in (1, 2):
            with agent(tmp_path, broker, bundle.path) as process:
                assert link.poll_until(lambda n=2 * life - 1: len(heard) == n, 20)
                process.kill()
                assert link.poll_until(lambda n=2 * life: len(heard) == n, 5)
    assert [(s["online"], s["epoch"], s["reason"]) for s in statuses(heard)] == [
        (True, 1, ""), (False, 1, "lost"), (True, 2, ""), (False, 2, "lost"),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["lost", "stopped"])
@pytest.mark.parametrize("remembered", [1, 57, 1 << 51])
def test_an_agent_whose_state_was_lost_rises_above_the_epoch_that_the_broker_remembers(
    tmp_path, broker, bundle, remembered, reason
):
    old = json.dumps({"online": False, "epoch": remembered, "reason": reason}).encode()
    risen = {"online": True, "epoch": remembered + 1, "bundle": bundle.id.hex(), "beside": [], "reason": ""}
    with listener(broker, TOPICS.status("e1")) as (link, heard):
        link.publish_confirmed(TOPICS.status("e1"), old, retain=True, timeout_s=2)
        with agent(tmp_path, broker, bundle.path):
            assert link.poll_until(lambda: risen in statuses(heard), 20), heard


def test_an_agent_whose_card_becomes_read_only_goes_on_and_is_born_anew_all_the_same(tmp_path, broker, bundle):
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", state], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        with listener(broker, TOPICS.status("e1")) as (link, heard), agent(tmp_path, broker, bundle.path):
            assert link.poll_until(lambda: heard, 20)
            subprocess.run(["mount", "-o", "remount,ro", state], check=True)
            for remembered in (57, 58, 90):  # each is a reason to begin anew
                link.publish_confirmed(TOPICS.status("e1"), death(remembered), retain=True, timeout_s=2)
                expected = (True, remembered + 1)
                assert link.poll_until(lambda e=expected: last_said(heard) == e, 20), heard
        assert (state / "e1.epoch").read_text() == "1"
    finally:
        subprocess.run(["umount", "--lazy", state], check=True)


def death(epoch):
    return json.dumps({"online": False, "epoch": epoch, "reason": "lost"}).encode()


def last_said(heard):
    said = statuses(heard)[-1]
    return said["online"], said["epoch"]


@pytest.mark.parametrize("broker", ["mosquitto", pytest.param("embedded", marks=pytest.mark.slow)], indirect=True)
def test_a_frozen_agent_is_given_up_by_the_broker(tmp_path, broker, bundle):
    with listener(broker, TOPICS.status("e1")) as (link, heard), agent(tmp_path, broker, bundle.path) as process:
        assert link.poll_until(lambda: heard, 20)
        process.send_signal(signal.SIGSTOP)
        assert link.poll_until(lambda: len(heard) == 2, 15)
    assert statuses(heard)[1]["reason"] == "lost"


def test_an_agent_tells_systemd_that_it_is_ready_alive_and_stopping(tmp_path, broker, bundle):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with agent(tmp_path, broker, bundle.path, **environment) as process:
            told = []
            while told.count("WATCHDOG=1") < 5:
                told.append(notify.recv(100).decode())
            assert "READY=1" in told
            process.terminate()
            while told[-1] != "STOPPING=1":
                told.append(notify.recv(100).decode())


def test_the_watchdog_is_not_fed_while_the_loop_stands_still(tmp_path, broker, bundle):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with agent(tmp_path, broker, bundle.path, **environment) as process:
            while notify.recv(100) != b"READY=1":
                pass
            process.send_signal(signal.SIGSTOP)
            notify.settimeout(0.6)
            with pytest.raises(TimeoutError):
                for _ in range(1000):
                    notify.recv(100)


@pytest.mark.parametrize("sources", [("iot", "e1"), ("iot",)])
def test_the_watchdog_is_fed_while_a_burst_of_inferences_takes_longer_than_its_patience(tmp_path, bundle, sources):
    """One step is overdue, so what has come is read before it is cut off: 32 steps of 60 ms; or all are overdue."""
    patience_s, steps, fed_s = 1.2, 40, []
    slow = slowed(bundle.path, tmp_path, "f2", 60)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(round(patience_s * 1e6))}

    def take():
        while (told := notify.recv(500)) != b"OVER":
            if told == b"WATCHDOG=1":
                fed_s.append(time.monotonic())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, running_broker() as url, ExitStack() as stack:
        notify.bind(environment["NOTIFY_SOCKET"])
        taking = threading.Thread(target=take)
        taking.start()
        stack.callback(taking.join)
        stack.callback(Supervisor(environment).notify, "OVER")
        link, heard = stack.enter_context(listener(url, TOPICS.tensor("f2"), TOPICS.metrics("f2")))
        link.publish_confirmed(TOPICS.status("e1"), birth(1), retain=True, timeout_s=2)
        stack.enter_context(agent(tmp_path, url, slow.path, "f2", keepalive_s=10, **environment))
        assert link.poll_until(lambda: e1_is_alive(heard), 20)
        link.publish(TOPICS.beat("e1"), encode_beat(Beat(1, 1, 10_000)))
        began_s = time.monotonic()
        for step in range(steps):
            for source in sources if step else ("iot",):
                width = slow.manifest.entry(source).shape
                link.publish(TOPICS.tensor(source), encode(Frame(step, 1, slow.id, np.ones(width, np.float32), 1)))
        assert link.poll_until(lambda: sum(topic == TOPICS.tensor("f2") for topic, _ in heard) == steps, 30)
        ended_s = time.monotonic()
    marks_s = [began_s, *(each for each in fed_s if began_s < each < ended_s), ended_s]
    assert ended_s - began_s > patience_s
    assert max(np.diff(marks_s)) < patience_s


def birth(epoch):
    return json.dumps({"online": True, "epoch": epoch}).encode()


def e1_is_alive(heard):
    told = [msgspec.json.decode(payload, type=Metrics) for topic, payload in heard if topic == TOPICS.metrics("f2")]
    return bool(told) and told[-1].view["e1"].state == "alive"


def test_an_agent_waits_for_its_broker(tmp_path, bundle):
    with running_broker() as url:
        pass
    with agent(tmp_path, url, bundle.path) as process:
        time.sleep(1.5)
        assert process.poll() is None
        with running_broker(port=url.port), listener(url, TOPICS.status("e1")) as (link, heard):
            assert link.poll_until(lambda: heard, 10)


def test_what_arrived_while_an_agent_was_held_up_counts(tmp_path, broker, bundle):
    """Frozen past a step's deadline, the sink finds the vectors in its socket, and cuts nothing off."""
    with (
        listener(broker, TOPICS.result, TOPICS.metrics("cloud")) as (link, heard),
        agent(tmp_path, broker, bundle.path, "cloud", keepalive_s=10) as process,
    ):

        def cloud_sees_both():
            told = [
                msgspec.json.decode(payload, type=Metrics).view for topic, payload in heard if topic != TOPICS.result
            ]
            return told and told[-1]["f1"].state == told[-1]["f2"].state == "alive"

        for node in ("f1", "f2"):
            born = json.dumps({"online": True, "epoch": 1}).encode()
            link.publish_confirmed(TOPICS.status(node), born, retain=True, timeout_s=2)
            link.publish(TOPICS.beat(node), encode_beat(Beat(1, 1, 10_000)))
        assert link.poll_until(cloud_sees_both, 20)
        link.publish(TOPICS.step, encode(Frame(1, 1, bundle.id, None)))
        link.poll_until(lambda: False, 0.2)
        process.send_signal(signal.SIGSTOP)
        for node in ("f1", "f2"):
            link.publish(TOPICS.tensor(node), encode(Frame(1, 1, bundle.id, np.ones(250, np.float32), 1 << 3)))
        link.poll_until(lambda: False, bundle.manifest.deadlines_ms["cloud"] / 1e3)
        process.send_signal(signal.SIGCONT)
        assert link.poll_until(lambda: any(topic == TOPICS.result for topic, _ in heard), 5)
    (answer,) = [json.loads(payload) for topic, payload in heard if topic == TOPICS.result]
    assert answer["complete"]


def test_malformed_messages_are_counted_and_kill_nothing(tmp_path, broker, bundle):
    with listener(broker, TOPICS.metrics("f2")) as (link, heard), agent(tmp_path, broker, bundle.path, "f2") as process:
        assert link.poll_until(lambda: heard, 20)
        for payload in (b"", b"garbage", bytes(72), os.urandom(5000)):
            for topic in (TOPICS.tensor("iot"), TOPICS.tensor("e1"), TOPICS.status("e1")):
                link.publish(topic, payload)

        def counted():
            rejected = msgspec.json.decode(heard[-1][1], type=Metrics).rejected
            return rejected == {"length": 4, "magic": 4, "status": 3}

        assert link.poll_until(counted, 5), heard[-1]
        assert process.poll() is None


def test_two_agents_for_one_node_do_not_throw_each_other_out_for_ever(tmp_path, broker, bundle):
    (tmp_path / "other").mkdir()
    with listener(broker, TOPICS.status("e1")) as (link, heard), agent(tmp_path, broker, bundle.path) as first:
        assert link.poll_until(lambda: heard, 20)
        with agent(tmp_path / "other", broker, bundle.path) as second:
            assert link.poll_until(lambda: first.poll() is not None or second.poll() is not None, 20)
            ended = second if first.poll() is None else first
            assert ended.returncode == 1
            assert "another client is there as 'test-e1'" in ended.stderr.read()


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"node": "f9"}, 2, "node 'f9' is not in bundle"),
        ({"node": "a/b"}, 2, "use letters"),
        ({"bundle": "nowhere"}, 2, "no bundle at nowhere"),
        ({"broker": "http://x"}, 2, "write mqtt://HOST:PORT"),
        ({"keepalive_s": 0}, 2, "keepalive_s lies between"),
        ({"beat_ms": 1}, 2, "beat_ms lies between"),
        ({"missed_beats": 0}, 2, "missed_beats between"),
        ({"broker": []}, 2, "broker names none"),
        ({"broker": ["mqtt://127.0.0.1:9", "x"]}, 2, "write mqtt://HOST:PORT"),
        ({"surprise": 1}, 2, "surprise"),
        ({"node": 3}, 2, "Expected `str`"),
        ({"state": "/dev/null/x"}, 2, "choose another `state`"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path, bundle, change, code, sentence):
    config = {
        "node": "e1",
        "bundle": str(bundle.path),
        "broker": "mqtt://127.0.0.1:9",
        "fleet": "test",
        "state": str(tmp_path),
    }
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({**config, **change}))
    ended = subprocess.run(
        [command("fogguard-agent"), "--config", file], capture_output=True, text=True, timeout=20, cwd=tmp_path
    )
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_changed_graph_is_not_loaded(tmp_path, bundle_copy):
    graph = bundle_copy / "e1.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    config = {
        "node": "e1",
        "bundle": str(bundle_copy),
        "broker": "mqtt://127.0.0.1:9",
        "fleet": "test",
        "state": str(tmp_path),
    }
    file = tmp_path / "agent.json"
    file.write_text(json.dumps(config))
    ended = subprocess.run([command("fogguard-agent"), "--config", file], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert "e1.onnx was changed" in ended.stderr


def test_a_missing_configuration_is_one_sentence(tmp_path):
    ended = subprocess.run(
        [command("fogguard-agent"), "--config", tmp_path / "no.json"], capture_output=True, text=True, timeout=20
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        f"fogguard-agent: {tmp_path}/no.json: cannot be read (No such file or directory)\n",
    )
