"""Fleets of real processes on real brokers whose nodes freeze, whose links are cut, and whose brokers go away."""

import contextlib
import socket
import subprocess
import time

import msgspec
import pytest
from relay import relay
from support import command
from test_agent import agent, listener

from benchmarks.fleet import running_trial
from broker.beat import MAX_INTERVAL_MS, Beat, encode_beat
from broker.embedded import running_broker
from broker.epoch import MAX_EPOCH, is_later
from broker.frame import Frame, encode
from broker.presence import Status, encode_status
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.metrics import Metrics

TOPICS = Topics("test")


def measured(trial, name, alive, steps=100):
    """Settle on a phase, feed it, and return its report; every label must be the predicted one."""
    trial.driver.begin(name, alive, noticed=True)
    trial.driver.settle()
    trial.driver.measure(steps)
    trial.driver.drain()
    report = trial.reports()[-1]
    assert (report.labels_equal, report.lost) == (steps, 0)
    return report


def test_a_frozen_node_costs_no_waiting_and_is_used_again_when_it_thaws(bundle, broker):
    everyone = frozenset(bundle.manifest.order)
    with running_trial(bundle.path, broker=str(broker)) as trial:
        measured(trial, "all alive", everyone)
        trial.agents.freeze(["f1"])
        frozen = measured(trial, "f1 frozen", everyone - {"f1"})
        assert trial.driver.told.metrics["cloud"].view["f1"].layer in ("beat", "will")
        assert frozen.latency_ms.p95 < bundle.manifest.deadlines_ms["cloud"] / 2
        trial.agents.thaw(["f1"])
        measured(trial, "f1 back", everyone)


def test_a_fleet_follows_its_brokers_and_answers_on(bundle):
    """The first dies under load: everyone meets at the second, born again there, and all labels are as predicted."""
    everyone = frozenset(bundle.manifest.order)
    with running_broker() as second, contextlib.ExitStack() as first_ends:
        first = first_ends.enter_context(running_broker())
        with running_trial(bundle.path, broker=f"{first},{second}") as trial:
            measured(trial, "at the first", everyone)
            first_ends.close()
            measured(trial, "at the second", everyone)
            told = trial.driver.told.metrics.values()
            assert all(metrics.counters.reconnects == 1 for metrics in told)
            assert {metrics.epoch for metrics in told} == {2}  # one a connection, not one an attempt


def test_a_fleet_survives_the_restart_of_its_only_broker(bundle):
    everyone = frozenset(bundle.manifest.order)
    with contextlib.ExitStack() as ends:
        url = ends.enter_context(running_broker())
        with running_trial(bundle.path, broker=str(url)) as trial:
            measured(trial, "before", everyone)
            ends.close()
            trial.driver._link.poll_until(lambda: False, 1)
            with running_broker(port=url.port):
                measured(trial, "after", everyone)


def test_a_sink_that_is_gone_for_a_moment_ends_nothing(bundle):
    everyone = frozenset(bundle.manifest.order)
    with running_trial(bundle.path) as trial:
        measured(trial, "before", everyone)
        trial.agents.kill(["cloud"])
        assert trial.driver._link.poll_until(lambda: not trial.driver.is_answerable, 5)
        trial.agents.start(["cloud"])
        measured(trial, "after", everyone)


def test_a_node_whose_link_is_cut_is_suspected_long_before_its_will(tmp_path, broker, bundle):
    with (
        relay(broker) as cable,
        listener(broker, TOPICS.metrics("f2")) as (link, heard),
        agent(tmp_path, broker, bundle.path, "f2"),
        agent(tmp_path, cable.url, bundle.path, "e1", keepalive_s=30),
    ):

        def e1():
            return msgspec.json.decode(heard[-1][1], type=Metrics).view["e1"] if heard else None

        assert link.poll_until(lambda: heard and e1().state == "alive" and e1().layer in ("beat", "birth"), 30)
        link.poll_until(lambda: False, 0.5)
        cable.is_held = True
        cut_ns = time.monotonic_ns()
        assert link.poll_until(lambda: e1().state == "suspect", 10)
        assert (e1().since_ns - cut_ns) / 1e6 < 1000
        cable.is_held = False
        assert link.poll_until(lambda: e1().state == "alive", 10)


def test_the_watchdog_is_not_fed_by_a_loop_to_which_nothing_comes_any_more(tmp_path, broker, bundle):
    with relay(broker) as cable, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        with agent(tmp_path, cable.url, bundle.path, keepalive_s=60, **environment):
            while notify.recv(100) != b"READY=1":
                pass
            while notify.recv(100) != b"WATCHDOG=1":
                pass
            cable.is_held = True
            notify.settimeout(1.5)
            with pytest.raises(TimeoutError):
                for _ in range(20):
                    notify.recv(100)
            cable.is_held = False
            notify.settimeout(10)
            assert notify.recv(100) == b"WATCHDOG=1"


def test_agents_that_wait_for_their_broker_feed_the_watchdog(tmp_path, bundle):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "6000000"}
        with agent(tmp_path, BrokerUrl(*taken.getsockname()), bundle.path, **environment):
            heard = (said for said in iter(lambda: notify.recv(300), b"") if not said.startswith(b"STATUS="))
            assert [next(heard) for _ in range(2)] == [b"WATCHDOG=1"] * 2


def test_a_node_that_its_watchdog_ended_is_seen_as_hung(tmp_path, broker, bundle):
    with listener(broker, TOPICS.metrics("f2")) as (link, heard), agent(tmp_path, broker, bundle.path, "f2"):

        def sees(state):
            return heard and msgspec.json.decode(heard[-1][1], type=Metrics).view["e1"].state == state

        with agent(tmp_path, broker, bundle.path, "e1") as process:
            assert link.poll_until(lambda: sees("alive"), 20)
            process.kill()  # what systemd does when it is not fed
            assert link.poll_until(lambda: sees("dead"), 5)
        hung = [command("fogguard-agent"), "--config", tmp_path / "e1.json", "--hung"]
        assert subprocess.run(hung, timeout=20).returncode == 0
        assert link.poll_until(lambda: sees("hung"), 5)
        with agent(tmp_path, broker, bundle.path, "e1"):
            assert link.poll_until(lambda: sees("alive"), 20)


def test_malformed_beats_are_counted_and_forged_ones_revive_nobody_dead(tmp_path, broker, bundle):
    with listener(broker, TOPICS.metrics("f2")) as (link, heard), agent(tmp_path, broker, bundle.path, "f2"):

        def told():
            return msgspec.json.decode(heard[-1][1], type=Metrics)

        assert link.poll_until(lambda: heard, 20)
        for payload in (b"", b"x" * 19, bytes(20), b"\xff" * 20):
            link.publish(TOPICS.beat("e1"), payload)
            link.publish(TOPICS.beat("f2"), payload)
        link.publish(TOPICS.status("e1"), b'{"online":false,"epoch":7,"reason":"hung"}')
        # Some brokers let one topic overtake another: only what is known to have come is known to come before the beat.
        assert link.poll_until(lambda: told().view["e1"].state == "hung", 5), told()
        link.publish(TOPICS.beat("e1"), encode_beat(Beat(7, 1, 50)))
        link.publish(TOPICS.beat("e1"), b"the last one")
        assert link.poll_until(lambda: told().rejected == {"beat": 9}, 5), told()
        assert (told().view["e1"].state, told().view["e1"].layer) == ("hung", "watchdog")


def test_the_death_of_an_earlier_life_is_not_the_last_word(tmp_path, broker, bundle):
    with listener(broker, TOPICS.status("e1")) as (link, heard), agent(tmp_path, broker, bundle.path, "e1"):
        assert link.poll_until(lambda: heard, 30)
        born = heard[-1]
        link.publish(TOPICS.status("e1"), encode_status(Status(online=False, epoch=0, reason="lost")), retain=True)
        assert link.poll_until(lambda: len(heard) == 3, 5), heard
        assert heard[-1] == born


@pytest.mark.parametrize("broker", ["mosquitto", pytest.param("embedded", marks=pytest.mark.slow)], indirect=True)
def test_a_made_up_epoch_locks_no_node_out(tmp_path, broker, bundle):
    with (
        listener(broker, TOPICS.metrics("f2"), TOPICS.metrics("e1")) as (link, heard),
        agent(tmp_path, broker, bundle.path, "f2"),
        agent(tmp_path, broker, bundle.path, "e1") as process,
    ):

        def last(node):
            told = [payload for topic, payload in heard if topic == TOPICS.metrics(node)]
            return msgspec.json.decode(told[-1], type=Metrics) if told else None

        def sees(state):
            """Whether f2 sees e1 in this state, in the epoch that e1 itself tells."""
            f2, e1 = last("f2"), last("e1")
            return f2 and e1 and (f2.view["e1"].state, f2.view["e1"].epoch) == (state, e1.epoch)

        assert link.poll_until(lambda: sees("alive"), 30)
        first = last("e1").epoch
        for epoch in (first + 1, 1 << 40, MAX_EPOCH // 2, MAX_EPOCH):
            link.publish(TOPICS.beat("e1"), encode_beat(Beat(epoch, 1, MAX_INTERVAL_MS)))
            link.publish(TOPICS.tensor("e1"), encode(Frame(1, epoch, bundle.id, None)))
        assert link.poll_until(lambda: sees("alive"), 5), last("f2")
        assert last("e1").epoch == first
        for epoch in (1 << 40, MAX_EPOCH // 2, MAX_EPOCH, 3):
            for online in (True, False):
                status = Status(online=online, epoch=epoch, bundle=bundle.id.hex(), reason="" if online else "lost")
                link.publish(TOPICS.status("e1"), encode_status(status), retain=True)
            assert link.poll_until(lambda n=epoch: is_later(last("e1").epoch, n) and sees("alive"), 10), last("f2")
        process.kill()
        assert link.poll_until(lambda: sees("dead"), 10), last("f2")
