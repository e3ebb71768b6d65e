"""The benchmarks of training and evaluation measure what they say; how fast this machine is, no test asks."""

import numpy as np
import torch

from benchmarks import speed
from benchmarks.speed import chain, evaluation, matrix_rate, plain_loop
from export.evaluation import Composed
from export.failures import combinations_of
from export.network import Network
from export.node import Sensor
from export.variants import Variant


def test_the_plain_loop_gives_the_answers_that_sharing_gives(bundle):
    parts, manifest = Composed(bundle), bundle.manifest
    raw = {"iot": np.random.default_rng(0).normal(size=(5, 36)).astype(np.float32)}
    alive = combinations_of(3)
    shared = parts.shared(alive)
    answers = [None, *parts.logits(raw, shared)]
    for row, state in zip(alive, shared.sink, strict=True):
        said = {}

        def run(name, xs, said=said):
            said[name] = parts.run_node(name, xs)
            return said[name]

        plain_loop(manifest.inputs, manifest.order, parts.sensed(raw), run, row[None])
        if state:
            np.testing.assert_array_equal(said["cloud"], answers[state])
        else:
            assert "cloud" not in said


def test_sharing_runs_ever_fewer_nodes_of_those_that_a_plain_loop_runs():
    ratios = []
    for nodes in (4, 8, 12):
        spec = chain(nodes)
        network = Network(spec, 4, {"iot": Sensor(torch.zeros(32), torch.ones(32))}, Variant(), [0])
        alive = combinations_of(nodes)
        runs = plain_loop(network.inputs, spec.order, {"iot": 0}, lambda _name, _xs: 0, alive)
        ratios.append(runs / network.shared(alive).runs)
    assert 1 < ratios[0] < ratios[1] / 2 < ratios[2] / 4


def test_an_evaluation_is_timed_both_ways(bundle, monkeypatch):
    monkeypatch.setattr(speed, "CHAINS", (3, 5))
    told = []
    found = evaluation(bundle.path, 2, told.append)
    assert (found["fog"], found["masks"], found["rows"]) == ("watch", 8, 237)
    assert min(found["shared_s"], found["plain_s"], found["ratio"]) > 0
    assert [(each["nodes"], each["masks"]) for each in found["growth"]] == [(3, 8), (5, 32)]
    assert told[0] == "8 masks of watch, 237 rows"


def test_the_matrix_rate_counts_operations_not_calls():
    assert matrix_rate(1, 512, 512) > 10 * matrix_rate(1, 2, 2) > 0
    assert torch.get_float32_matmul_precision() == "highest"
