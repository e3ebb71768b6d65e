"""Eq. (1) to (3) against a computation by hand, on random graphs: shared work changes no answer."""

import numpy as np
import pytest
import torch
from fogs import by_hand, network_of, specs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.speed import chain
from export.average import measure
from export.evaluation import accuracies, chance, logits_by_mask
from export.failures import combinations_of, masks
from export.heldout import HeldOut
from export.spec import load_spec, parse_spec
from export.variants import Variant

variants = st.builds(
    Variant,
    skips=st.booleans(),
    mux=st.booleans(),
    weights=st.sampled_from(["one", "reliability", "normalised", "learned"]),
    maps=st.sampled_from(["none", "widths", "all"]),
    normalise=st.booleans(),
)


def raw_for(spec, rows=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(rows, width, generator=generator) for name, width in spec.sensors.items()}


def numpied(raw):
    return {name: x.numpy() for name, x in raw.items()}


DEAD = """
name = "dead"
[data]
set = "none"
[sensors]
s = 2
[nodes.a]
simple = ["s"]
partition = { kind = "dense", layers = [2] }
[nodes.b]
simple = ["a"]
partition = { kind = "dense", layers = [2] }
[nodes.c]
simple = ["b"]
partition = { kind = "dense", layers = [2] }
[settings]
hazardous = { a = 0.0, b = 1e-129 }
"""


@settings(max_examples=60)
@given(specs(), variants)
@example(parse_spec(DEAD), Variant(weights="normalised"))
def test_under_every_mask_the_answer_is_the_one_by_hand(spec, variant):
    network, raw = network_of(spec, variant, seeds=(0, 1)), raw_for(spec)
    order = masks(len(spec.order))
    shared = logits_by_mask(network, numpied(raw), order)
    alive = torch.from_numpy(combinations_of(len(spec.order))).repeat_interleave(4, dim=0)
    with torch.inference_mode():
        rowwise, informed = network({name: x.repeat(len(order), 1) for name, x in raw.items()}, alive)
        for position, mask in enumerate(order):
            rows = slice(4 * position, 4 * position + 4)
            for seed in (0, 1):
                expected = by_hand(network, raw, mask, seed)
                assert (shared[mask] is None) == (expected is None)
                assert bool(informed.expand(len(order) * 4)[rows].all()) == (expected is not None)
                if expected is not None:
                    torch.testing.assert_close(torch.from_numpy(shared[mask][seed]), expected, rtol=1e-4, atol=1e-4)
                    torch.testing.assert_close(rowwise[seed, rows], expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(specs(), st.integers(0, 9))
def test_the_average_accuracy_is_eq_3_by_hand(spec, seed):
    network, raw = network_of(spec, Variant()), raw_for(spec, 6, seed)
    truth, prior = np.random.default_rng(seed).integers(0, 3, 6), (0.5, 0.3, 0.2)
    held_out = HeldOut(numpied(raw), truth)
    expected = 0.0
    for mask in masks(len(spec.order)):
        reliability = spec.settings["hazardous"]
        r = [reliability[node] for node in spec.order]
        p = np.prod([each if bit == "1" else 1 - each for each, bit in zip(r, mask, strict=True)])
        with torch.inference_mode():
            logits = by_hand(network, raw, mask)
        right = [prior[each] for each in truth] if logits is None else logits.argmax(-1).numpy() == truth
        expected += p * np.mean(right)
    found = measure(network, held_out, prior, spec.order, spec.settings, [0])
    assert found.average["hazardous"].mean == pytest.approx(expected, abs=2e-6)
    assert found.seeds[0].average["hazardous"] == found.average["hazardous"].mean


@given(specs())
def test_no_node_is_run_twice_for_the_same_inputs(spec):
    network = network_of(spec, Variant())
    shared = network.shared(combinations_of(len(spec.order)))
    for states in shared.states.values():
        assert len(states) == len(set(states))
        assert all(any(state) for state in states)
    plain = sum(mask.count("1") + 1 for mask in masks(len(spec.order)))
    assert shared.runs <= plain


def test_the_paper_s_cameras_need_few_runs():
    spec = load_spec("camera")
    network = network_of(spec, Variant())
    assert network.shared(combinations_of(8)).runs < 256 * 9 / 4


def test_rows_are_measured_in_portions_without_a_difference(monkeypatch):
    spec = load_spec("health")
    network, raw = network_of(spec, Variant(), classes=5), raw_for(spec, 300)
    held_out = HeldOut(numpied(raw), np.arange(300) % 5)
    told = []
    whole = accuracies(network, held_out, (0.2,) * 5, combinations_of(3))
    monkeypatch.setattr("export.evaluation.BYTES_AT_ONCE", 1)
    portions = accuracies(network, held_out, (0.2,) * 5, combinations_of(3), progress=lambda *done: told.append(done))
    np.testing.assert_allclose(whole, portions, atol=1 / 299)  # a tie of two logits may fall otherwise
    assert told == [(64, 300), (128, 300), (192, 300), (256, 300), (300, 300)]
    assert portions[-1] == pytest.approx(chance(held_out, (0.2,) * 5))


def test_beyond_twenty_nodes_a_sample_says_how_sure_it_is():
    spec = chain(22, width=4)
    settings_ = {"poor": dict.fromkeys(spec.order, 0.9), "always": dict.fromkeys(spec.order, 1.0)}
    network, raw = network_of(spec, Variant()), raw_for(spec, 40)
    held_out = HeldOut(numpied(raw), np.arange(40) % 3)
    found = measure(network, held_out, (0.2, 0.3, 0.5), spec.order, settings_, [0])
    assert 0 < found.average["poor"].ci95 < 0.02
    assert found.average["always"].ci95 == 0
    assert found.average["always"].mean == pytest.approx(found.seeds[0].per_mask["1" * 22])
    assert len(found.seeds[0].per_mask) == 1024
