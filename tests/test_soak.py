"""The soak: its checks find what is wrong, and a real fleet passes them while things go wrong around it."""

import json
import random
import threading
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.books import faults, faults_between
from benchmarks.fleet import FLAT_OUT, running_trial
from benchmarks.malformed import burst
from benchmarks.memory import Life, growth
from benchmarks.options import seconds_of
from benchmarks.soak import Soak
from benchmarks.soaked import Soaked, SoakFailed, Steps, require_ok
from broker.embedded import LocalBroker
from broker.errors import FogError
from broker.frame import Frame, encode
from broker.topics import Topics
from edge_agent.loading import load_session
from edge_agent.metrics import Counters, Metrics, Source, Stages
from edge_agent.node import Node

TOPICS = Topics("test")


def fleet(bundle):
    """All nodes, deaf to each other: what reaches them is what a test says."""
    now_ns = [0]
    nodes = {
        name: Node(name, bundle, load_session(bundle, name), TOPICS, lambda *_: None, lambda: now_ns[0])
        for name in bundle.manifest.nodes
    }
    return nodes, now_ns


def say(nodes, topic, payload):
    for node in nodes.values():
        if topic == TOPICS.cmd(node.name):
            node.on_request(payload)
        elif topic in [subscribed for subscribed, _ in node.subscriptions]:
            node.on_message(topic, payload, 0)


@given(st.integers(0, 1 << 30))
def test_every_malformed_message_is_refused_and_counted_by_whoever_hears_it(bundle, seed):
    nodes, _ = fleet(bundle)
    messages, refused = burst(bundle, TOPICS, 60, random.Random(seed))
    for topic, payload in messages:
        say(nodes, topic, payload)
    for name, node in nodes.items():
        told = node.metrics()
        assert sum(told.rejected.values()) == refused[name]
        assert told.counters.steps == 0
        assert set(node.presence.view.values()) <= {next(iter(nodes["cloud"].presence.view.values()))}
        assert faults(told) == []


def fed_once(bundle):
    """What e1, a node with one sensor, tells after ten steps."""
    nodes, _ = fleet(bundle)
    row = load_session(bundle, "iot").run([None])[0]
    for step in range(10):
        say(nodes, TOPICS.tensor("iot"), encode(Frame(step, 1, bundle.id, row, 1)))
    return nodes["e1"].metrics()


def changed(told: Metrics, **counters: int) -> Metrics:
    return msgspec.structs.replace(told, counters=msgspec.structs.replace(told.counters, **counters))


def test_the_books_of_a_node_come_out_and_each_wrong_entry_is_found(bundle):
    told = fed_once(bundle)
    assert (told.counters.steps, faults(told)) == (10, [])
    for entry in ("steps", "complete", "cut", "dropped", "null", "late", "duplicate"):
        wrong = changed(told, **{entry: getattr(told.counters, entry) + 1})
        assert faults(wrong), entry
    assert faults(changed(told, infer_us=1 << 40))
    assert faults(msgspec.structs.replace(told, stages=Stages()))
    assert faults(msgspec.structs.replace(told, sources={"iot": Source(frames=11)}))
    assert faults(msgspec.structs.replace(told, sources={"iot": Source(frames=10, rejected={"magic": 1})}))


def test_the_books_between_nodes_come_out_and_each_wrong_entry_is_found(bundle):
    after = {"e1": fed_once(bundle)}
    before = {
        "e1": msgspec.structs.replace(after["e1"], counters=Counters(), sources={"iot": Source()}, stages=Stages())
    }
    manifest = bundle.manifest
    assert faults_between(manifest, before, after, 10, {}) == []
    assert len(faults_between(manifest, before, after, 9, {})) == 3
    assert faults_between(manifest, before, after, 10, {"e1": 1}) == [
        "e1, in a calm stretch: rejected 0 = refused 1 does not hold"
    ]
    reborn = {"e1": msgspec.structs.replace(after["e1"], epoch=5)}
    assert faults_between(manifest, before, reborn, 10, {}) == ["e1: began life 5 after 0, though nothing happened"]


def test_memory_that_grows_is_found_within_a_life_and_between_lives():
    def life(pid, *sizes_mb):
        found = Life(pid=pid)
        for age_s, mb in zip((1.0, 5.2, 11.0, 21.0, 41.0), sizes_mb, strict=False):
            found.take(age_s, mb, warm_up_s=10)
        return found

    assert growth("f1", [life(1, 40, 70, 71, 72, 73), life(2, 40, 72, 73)]) == []
    assert growth("f1", [life(1, 40, 70, 71, 73, 77)]) == [
        "f1, life 1: 71.0 MB resident after 11 s, 77.0 MB after 41 s"
    ]
    assert growth("f1", [life(1, 40, 70), life(2, 40, 76)]) == [
        "f1: 70.0 to 76.0 MB resident in lives that are 5 s old"
    ]


def test_durations():
    assert [seconds_of(text) for text in ("45s", "30m", "8h")] == [45, 1800, 28800]
    for wrong in ("", "s", "45", "0s", "1d", "-3m", "٣s"):
        with pytest.raises(FogError, match="write seconds, minutes or hours"):
            seconds_of(wrong)


def test_a_soak_that_is_over_and_compared_nothing_fails():
    found = Soaked(planned_s=1, seed=0, steps=Steps(sent=9, answered=9, held_up=9))
    require_ok(found)  # as it stands while the soak goes on
    found.finish()
    assert found.finished
    with pytest.raises(SoakFailed, match="no label could be compared: 9 of 9 steps were answered, none by exactly"):
        require_ok(found)


def soaked(bundle, kind, seconds, seed, *, calm=False, at_first=lambda _trial: None, **changes):
    told = []
    with (
        LocalBroker(kind) as own,
        running_trial(bundle.path, broker=str(own.url), rate=FLAT_OUT, window=16) as trial,
    ):
        trial = replace(trial, **changes)
        timer = threading.Timer(2, at_first, [trial])
        timer.start()
        found = Soak(trial, own, seconds, seed, lambda each: told.append(each.steps.sent), calm=calm).run()
        timer.join()
    assert found.finished
    assert told == sorted(told)
    return found


@pytest.mark.slow
def test_a_wrong_label_is_a_violation(bundle):
    rows = bundle.manifest.accuracy.n
    predicted = {mask: [-7] * rows for mask in bundle.manifest.accuracy.per_mask}
    found = soaked(bundle, None, 3, 0, predicted=predicted)
    assert found.steps.wrong == found.steps.compared == found.violated > 0
    assert len(found.violations) <= 100
    with pytest.raises(SoakFailed, match=r"violations: calm: row \d+ is \d+, not -7"):
        require_ok(found)


@pytest.mark.slow
def test_in_a_calm_soak_a_suspicion_is_a_violation(bundle):
    frozen = []

    def freeze(trial):
        trial.agents.freeze(["f1"])
        frozen.append(threading.Timer(1, trial.agents.thaw, [["f1"]]))
        frozen[0].start()

    found = soaked(bundle, None, 4, 0, calm=True, at_first=freeze)
    frozen[0].join()
    assert found.events == {}
    assert found.suspicions is not None
    assert found.suspicions > 0
    assert any("suspicions though nothing went wrong" in text for text in found.violations)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_fleet_passes_45_seconds(fogguard, bundle, tmp_path, kind):
    done = fogguard("bench", "soak", bundle.path, "--for", "45s", "--broker", kind, "--json", "soak.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["ok"]
    assert found["finished"]
    assert found["elapsed_s"] >= 45
    assert set(found["events"]) == {"kill", "freeze", "broker", "malformed"}
    steps = found["steps"]
    assert steps["sent"] == steps["answered"] + steps["lost_in_outages"]
    assert (steps["lost"], steps["wrong"]) == (0, 0)
    assert steps["compared"] > 0.5 * steps["sent"]
    assert found["books"] > 5
    assert found["memory"]["cloud"][0]["age_s"] > 40
    assert len(found["memory"]["cloud"]) == 1
