"""The latency benchmark times real agents beside a real relay; how fast they are, no test asks."""

import os
import shlex
import sys
import time

import msgspec
import pytest
from test_agent import listener

from benchmarks.beside import measure_beside
from benchmarks.floor import running_floor
from benchmarks.latency import measure, noise_of
from benchmarks.options import newest_bundle
from benchmarks.probe import AgentWire, FloorWire, Probe
from benchmarks.report import report_of
from broker.embedded import running_broker
from broker.errors import FogError
from edge_agent.session import Floats


def printing(what, *, status=0):
    program = f"import sys; print({what!r}.replace('PORT', sys.argv[1])); sys.exit({status})"
    return shlex.join([sys.executable, "-c", program, "{port}"])


@pytest.mark.slow
def test_a_fleet_the_floor_and_a_yardstick_of_somebody_elses_are_timed_in_turns(bundle, broker):
    told = '{"p50_ms": 1.0, "p95_ms": 2, "p99_ms": 4, "steps_per_s": PORT, "more": "x"}'
    found = measure(bundle.path, str(broker), steps=30, window=4, rounds=2, offered=[50], beside=printing(told))
    keys = {"p50_ms", "p95_ms", "p99_ms", "steps_per_s"}
    assert keys <= found.keys()
    assert keys | {"ratio"} == found["floor"].keys()
    assert keys == found["floor"]["ratio"].keys()
    assert found["beside"]["steps_per_s"] == broker.port
    ratios = [each["p99_ms"] for each in (found["beside"]["ratio"], found)]
    assert ratios[0] == pytest.approx(ratios[1] / 4)
    assert set(found["stages_ms"]["f1"]) == {"wait", "infer", "publish"}
    assert 0 < found["stages_ms"]["f1"]["infer"]["p50"] <= found["stages_ms"]["f1"]["infer"]["p99"]
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert (
        set(found["rss_mb"]) == set(found["ready_s"]) == set(found["idle_cpu_percent"]) == {"e1", "f2", "f1", "cloud"}
    )
    assert 20 < found["rss_mb"]["cloud"] < 300
    assert found["bytes"]["iot>e1"] == {"sent": 72 + 4 * 36, "received": 72 + 4 * 36}
    assert found["bytes"]["e1>f2"]["sent"] + found["bytes"]["e1>f1"]["sent"] == 72 + 4 * 250  # published once
    assert found["bytes"]["e1>f1"]["received"] == 72 + 4 * 250
    require_each_step_explained(found, bundle)
    report = report_of(msgspec.to_builtins({**found, "host": {}}), "here")
    assert "Nobody holds it up" in report.verdict
    assert {section.title for section in report.sections} >= {"Answer times", "Stages, ms", "Wires, ms", "Offered load"}


def require_each_step_explained(found, bundle):
    """Where the time of each step went: stages, wires, waterfall, devices, loads."""
    assert found["n"] == 30
    assert found["findings"] == []
    assert all(clock["shared"] and not clock["error_ms"] for clock in found["clocks"].values())
    took_ms, bars = found["waterfall"]["ms"], found["waterfall"]["bars"]
    assert [bar.node for bar in bars] == list(bundle.manifest.nodes)
    for bar in bars:
        assert 0 <= bar.wire_from_ms <= bar.opened_ms <= bar.closed_ms <= bar.inferred_ms <= bar.published_ms
        assert bar.inferred_ms < took_ms
    assert set(found["wires_ms"]) == {*found["bytes"], "cloud>feeder"}
    assert 0 < found["whole_ms"]["p50"] < found["answers_ms"]["p50"]
    assert set(found["infer_ms"]["there"]) == set(found["infer_ms"]["here"]) == set(bundle.manifest.nodes)
    for device in found["devices"].values():
        assert 20 < device["agent_mb"] < device["memory_mb"]
    assert [(load["offered_per_s"], load["lost"]) for load in found["loads"]] == [(50, 0)]
    assert -1 < found["harness_overhead"] < 3


def test_a_load_counts_from_when_a_step_was_due(bundle, broker, tmp_path):
    """The feeder itself is held up for a moment: the steps that were due meanwhile are late."""
    with running_floor(bundle, broker, tmp_path) as topic:
        wire = FloorWire(topic, bundle, noise_of(bundle))
        with Probe(broker, "probe", wire) as probe:
            probe.round(10, 1)
            messages, held = wire.messages, []

            def held_once(step):
                if not held:
                    held.append(time.sleep(0.3))
                return messages(step)

            wire.messages = held_once
            found = probe.offered(100, 0.5)
    assert (len(found.fed), found.lost) == (50, 0)
    late = [fed.ms for fed in found.fed if fed.ms > 100]
    assert 15 <= len(late) <= 31
    assert found.seconds < 2


def test_a_message_of_somebody_else_is_no_answer(bundle):
    wire = AgentWire("house", bundle, {})
    with running_broker() as url, listener(url) as (link, _):
        assert link.publish_confirmed(wire.answers, b"{}", retain=True, timeout_s=2)
        with Probe(url, "probe", wire) as probe:
            found = probe.offered(10, 0.1)
    assert (found.fed, found.lost) == ([], 1)


@pytest.mark.parametrize(("rate", "seconds", "steps"), [(0.2, 2.0, 1), (10.0, 0.2, 2)])
def test_few_steps_a_second_are_fed_and_answered_no_sooner_than_they_are_due(
    bundle, broker, tmp_path, rate, seconds, steps
):
    with (
        running_floor(bundle, broker, tmp_path) as topic,
        Probe(broker, "probe", FloorWire(topic, bundle, noise_of(bundle))) as probe,
    ):
        found = probe.offered(rate, seconds)
    assert (len(found.fed), found.lost) == (steps, 0)
    assert found.seconds >= steps / rate


def test_the_floor_answers_what_the_graphs_say(bundle, broker, tmp_path):
    import numpy as np

    from export.evaluation import Composed

    raw: dict[str, Floats] = {"iot": np.random.default_rng(0).normal(size=(3, 36)).astype(np.float32)}
    parts = Composed(bundle)
    expected = parts.logits(raw, parts.shared(np.ones((1, 3), bool)))[0]
    answers = {}

    class Kept(FloorWire):
        def step_of(self, payload):
            step = super().step_of(payload)
            answers[step % 3] = np.frombuffer(payload, np.float32, offset=8)
            return step

    with (
        running_floor(bundle, broker, tmp_path) as topic,
        Probe(broker, "probe", Kept(topic, bundle, parts.sensed(raw))) as probe,
    ):
        assert probe.round(6, 2).steps_per_s > 0
    for row in range(3):
        np.testing.assert_allclose(answers[row], expected[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("", "--beside"),
        ("no-such-program {port}", "No such file"),
        ("'unclosed", "No closing quotation"),
        (printing("{}", status=3), "ends with 3"),
        (printing("no figures"), "one JSON object"),
        (printing('{"p50_ms": 1}'), "p95_ms"),
    ],
)
def test_a_yardstick_that_does_not_measure_is_refused(command, complaint, broker):
    with pytest.raises(FogError, match=complaint):
        measure_beside(command, broker)


def test_the_newest_bundle_here_is_the_one_exported_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FogError, match="no bundle"):
        newest_bundle()
    for age, name in enumerate(["demo/bundle", "bundle", "old/bundle"]):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
        os.utime(folder / "manifest.json", (1e9 - age, 1e9 - age))
    assert str(newest_bundle()) == "demo/bundle"
