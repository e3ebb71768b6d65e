"""The latency benchmark times real agents beside a real relay; how fast they are, no test asks."""

import json

from benchmarks.floor import running_floor
from benchmarks.latency import FloorWire, Probe, measure
from edge_agent.session import Floats


def test_a_fleet_and_the_floor_are_timed_in_turns(bundle, broker):
    found = measure(bundle.path, str(broker), steps=30, window=4, rounds=2)
    keys = {"p50_ms", "p95_ms", "p99_ms", "steps_per_s"}
    assert keys <= found.keys()
    assert keys == found["floor"].keys() == found["ratio"].keys()
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert (
        set(found["rss_mb"]) == set(found["ready_s"]) == set(found["idle_cpu_percent"]) == {"e1", "f2", "f1", "cloud"}
    )
    assert 20 < found["rss_mb"]["cloud"] < 300
    assert found["bytes"]["iot>e1"] == 72 + 4 * 36
    assert json.dumps(found)


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
