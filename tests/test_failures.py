from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.failures import (
    GUESS,
    accuracy,
    combinations_of,
    combinations_of_masks,
    masks,
    probabilities,
    sampled_masks,
    weighted_combinations,
)

reliabilities = st.lists(st.floats(0, 1), min_size=0, max_size=8)


@given(reliabilities)
def test_the_probabilities_of_all_combinations_add_up_to_one(reliability):
    assert probabilities(combinations_of(len(reliability)), reliability).sum() == pytest.approx(1)


@given(reliabilities)
def test_a_probability_is_eq_2(reliability):
    found = probabilities(combinations_of(len(reliability)), reliability)
    for bits, p in zip(product([1, 0], repeat=len(reliability)), found, strict=True):
        assert p == pytest.approx(np.prod([b * r + (1 - b) * (1 - r) for b, r in zip(bits, reliability, strict=True)]))


def test_the_example_of_the_paper():
    found = dict(zip(masks(4), probabilities(combinations_of(4), [0.98, 0.98, 0.95, 0.94]), strict=True))
    assert found["1111"] == pytest.approx(0.98 * 0.98 * 0.95 * 0.94)
    assert found["1111"] == pytest.approx(0.8576, abs=5e-5)
    assert found["1011"] == pytest.approx(0.98 * 0.02 * 0.95 * 0.94)
    assert found["0000"] == pytest.approx(0.02 * 0.02 * 0.05 * 0.06)


def test_masks_and_combinations_are_the_same_in_the_same_order():
    assert masks(2) == ["11", "10", "01", "00"]
    assert combinations_of(3).tolist() == combinations_of_masks(masks(3)).tolist()
    assert combinations_of(0).shape == (1, 0)


def test_while_training_the_settings_count_alike():
    settings = {"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.5, "y": 1.0}}
    alive, weights = weighted_combinations(["x", "y"], settings)
    assert alive.tolist() == combinations_of(2).tolist()
    assert weights == pytest.approx([(0.45 + 0.5) / 2, 0.45 / 2, (0.05 + 0.5) / 2, 0.05 / 2])
    assert weighted_combinations(["x", "y"], {})[0].tolist() == [[True, True]]
    many = [f"n{number}" for number in range(12)]
    alive, weights = weighted_combinations(many, {"s": dict.fromkeys(many, 0.75)}, limit=512)
    assert (len(alive), weights.sum()) == (512, pytest.approx(1))
    assert alive.mean() == pytest.approx(0.75, abs=0.03)


def test_a_guess_counts_with_its_expectation():
    labels, truth = np.array([GUESS, 0, 1, GUESS]), np.array([0, 0, 0, 1])
    assert accuracy(labels, truth, [0.75, 0.25]) == pytest.approx((0.75 + 1 + 0 + 0.25) / 4)


def test_too_many_masks_are_sampled_few_failures_first():
    some = sampled_masks(20)
    assert len(some) == len(set(some)) == 1024
    assert some[0] == "1" * 20
    assert some == sampled_masks(20)
    assert sampled_masks(8) == masks(8)
