"""An agent that holds two bundles at once: each step is answered by the one that it names, and by no other."""

import time

import msgspec
import numpy as np
import pytest
from altered import altered
from inprocess import TOPICS, Fog
from onnx import helper, numpy_helper
from retrained import retrained

from broker.frame import Frame, encode
from edge_agent.config import Config
from edge_agent.exchange import Exchange
from edge_agent.generations import IDLE_NS, Generations
from edge_agent.loading import load_session
from edge_agent.metrics import Metrics
from edge_agent.node import Node
from export.data import load_data
from export.data.rows import split_rows
from export.evaluation import Composed, labels, logits_by_mask


@pytest.fixture(scope="module")
def other(bundle, tmp_path_factory):
    return retrained(bundle.path, tmp_path_factory.mktemp("other") / "bundle", "f1", -1.5)


@pytest.fixture(scope="module")
def rows(bundle):
    data = load_data("watch")
    return {"iot": data.sensors["iot"][split_rows(data, "row", 0).test][:100]}


class TwoFold(Fog):
    """A fog in which every node is held by an agent that can hold several bundles."""

    def __init__(self, bundle):
        super().__init__(bundle, bundle.manifest.order)
        self.nodes = {
            name: Generations(bundle.id, node, TOPICS, lambda *m: self.queue.append(m))
            for name, node in self.nodes.items()
        }

    def node_of(self, name, bundle):
        session = load_session(bundle, name)
        node = Node(name, bundle, session, TOPICS, lambda *m: self.queue.append(m), lambda: self.now_ns)
        node.warm_up()
        return node

    def hold(self, bundle):
        for name, held in self.nodes.items():
            held.hold(bundle.id, self.node_of(name, bundle))

    def feed(self, step, bundle, sensed):
        head = (step, 1, bundle.id)
        self.say(TOPICS.step, encode(Frame(*head, None)))
        self.say(TOPICS.tensor("iot"), encode(Frame(*head, sensed["iot"][step], 1)))


def predictions(bundle, rows):
    return labels(logits_by_mask(Composed(bundle), rows, ["111"])["111"], 100).tolist()


def test_each_step_is_answered_by_the_bundle_that_it_names_whatever_the_agents_run(bundle, other, rows):
    fog = TwoFold(bundle)
    fog.hold(other)
    predicted = {each.id.hex(): predictions(each, rows) for each in (bundle, other)}
    assert predicted[bundle.id.hex()] != predicted[other.id.hex()]
    sensed = {each.id: Composed(each).sensed(rows) for each in (bundle, other)}
    for step in range(100):
        if step in (30, 40, 50, 60):  # one agent after the other is told to run the new one
            fog.nodes[("cloud", "e1", "f2", "f1")[step // 10 - 3]].run(other.id)
        each = other if step % 3 else bundle
        fog.feed(step, each, sensed[each.id])
    fog.settle()
    assert [answer.step for answer in fog.answers] == list(range(100))
    assert [answer.bundle for answer in fog.answers] == [(other if s % 3 else bundle).id.hex() for s in range(100)]
    assert [answer.label for answer in fog.answers] == [predicted[a.bundle][a.step] for a in fog.answers]
    assert all(answer.complete for answer in fog.answers)
    metrics = fog.nodes["cloud"].current.metrics()
    assert (metrics.counters.steps, metrics.counters.complete) == (100, 100)
    assert metrics.rejected == {}


def test_only_what_the_agent_runs_beats_and_tells_metrics_and_both_sense_a_death(bundle, other, rows):
    fog = TwoFold(bundle)
    fog.hold(other)
    held = fog.nodes["cloud"]
    held.run(other.id)
    for _ in range(3):
        fog.now_ns += 50_000_000
        for each in fog.nodes.values():
            each.beat(fog.now_ns)
        assert [topic for topic, _ in fog.queue] == [TOPICS.beat(name) for name in fog.nodes]
        fog.settle()
    for _ in range(8):  # e1 has fallen silent
        fog.now_ns += 50_000_000
        for name, each in fog.nodes.items():
            if name != "e1":
                each.beat(fog.now_ns)
        fog.settle()
    told = [node.presence.view["e1"].state for node in (held.current, held._nodes[bundle.id])]
    assert told == ["suspect", "suspect"]
    held.current.publish_metrics()
    held._nodes[bundle.id].publish_metrics()
    assert len([msgspec.json.decode(payload, type=Metrics) for _, payload in fog.queue]) == 1


def test_a_frame_of_a_third_bundle_is_refused_once(bundle, other, rows):
    fog = TwoFold(bundle)
    fog.hold(other)
    fog.say(TOPICS.tensor("iot"), encode(Frame(1, 1, b"another!", None)))
    fog.say(TOPICS.tensor("iot"), b"short")
    fog.settle()
    assert fog.nodes["e1"].current.metrics().rejected == {"bundle": 1, "length": 1}


def test_an_old_bundle_stays_while_something_comes_for_it_and_an_unused_one_goes_at_once(bundle, other, rows):
    fog = TwoFold(bundle)
    held = fog.nodes["e1"]
    fog.hold(other)
    held.keep([bundle.id], 0)
    assert held.drop(0)
    assert held.beside == ()
    held.hold(other.id, fog.node_of("e1", other))
    held.run(other.id)
    held.keep([other.id], 1)
    sensed = Composed(bundle).sensed(rows)
    for step, second in enumerate((1, 3, 6, 10)):
        fog.now_ns = second * 1_000_000_000
        assert not held.drop(fog.now_ns)
        fog.feed(step, bundle, sensed)
        fog.settle()
    assert held.drop(fog.now_ns + IDLE_NS + 1)
    assert (held.bundle, held.beside) == (other.id, ())


def wait_for(exchange):
    ends_s = time.monotonic() + 20
    while not exchange.poll(time.monotonic_ns()):
        assert time.monotonic() < ends_s
        time.sleep(0.01)


@pytest.fixture
def exchanged(bundle, tmp_path):
    """The node f1 with its links, and what exchanges its bundles."""
    (tmp_path / "current").symlink_to(bundle.path)
    fog = TwoFold(bundle)
    held = fog.nodes["f1"]
    links = {"bundle": str(tmp_path / "current"), "next": str(tmp_path / "next")}
    config = Config(node="f1", broker="mqtt://127.0.0.1:1", fleet="test", state=str(tmp_path), **links)
    return Exchange(config, bundle.manifest.wiring, held, lambda each: fog.node_of("f1", each)), held, tmp_path


def test_links_say_what_an_agent_holds_and_runs(bundle, other, exchanged):
    exchange, held, folder = exchanged
    assert not exchange.poll(0)
    (folder / "next").symlink_to(other.path)
    exchange.ask()
    wait_for(exchange)
    assert (held.bundle, held.beside, exchange.refusal) == (bundle.id, (other.id,), "")
    (folder / "next").rename(folder / "current")
    exchange.ask()
    wait_for(exchange)
    assert (held.bundle, held.beside, exchange.refusal) == (other.id, (bundle.id,), "")
    assert held.drop(time.monotonic_ns() + 2 * IDLE_NS)
    (folder / "next").symlink_to(bundle.path)
    exchange.ask()
    wait_for(exchange)
    (folder / "next").unlink()
    exchange.ask()
    wait_for(exchange)
    assert held.drop(time.monotonic_ns())
    assert (held.bundle, held.beside) == (other.id, ())


def test_a_bundle_that_cannot_be_held_is_refused_in_words_and_nothing_changes(bundle, other, bundle_copy, exchanged):
    exchange, held, folder = exchanged
    (bundle_copy / "f1.onnx").write_bytes((other.path / "f1.onnx").read_bytes())
    manifest = (bundle_copy / "manifest.json").read_text()
    (bundle_copy / "manifest.json").write_text(manifest + "\n")
    (folder / "next").symlink_to(bundle_copy)
    exchange.ask()
    wait_for(exchange)
    assert (held.bundle, held.beside) == (bundle.id, ())
    assert "f1.onnx was changed" in exchange.refusal
    (bundle_copy / "manifest.json").write_text(manifest.replace('"e1"', '"e9"'))
    exchange.ask()
    wait_for(exchange)
    assert "other nodes or hyperconnections: restart the agent" in exchange.refusal
    (folder / "next").unlink()
    exchange.ask()
    wait_for(exchange)
    assert exchange.refusal == ""


def test_a_bundle_whose_graph_cannot_run_is_refused_and_nothing_changes(bundle, bundle_copy, exchanged):
    exchange, held, folder = exchanged
    nowhere = numpy_helper.from_array(np.full(250, 1000), "nowhere")
    altered(bundle_copy, "f1", [helper.make_node("Gather", ["before", "nowhere"], ["after"], axis=1)], [nowhere])
    (folder / "next").symlink_to(bundle_copy)
    exchange.ask()
    wait_for(exchange)
    assert (held.bundle, held.beside) == (bundle.id, ())
    assert "cannot be loaded: " in exchange.refusal
    assert "idx=1000" in exchange.refusal
