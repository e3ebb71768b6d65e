from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.failures import GUESS, accuracy, alive_nodes, average_accuracy, masks, probability, sampled_masks

reliabilities = st.lists(st.floats(0, 1), min_size=0, max_size=8)


@given(reliabilities)
def test_the_probabilities_of_all_masks_add_up_to_one(reliability):
    assert sum(probability(mask, reliability) for mask in masks(len(reliability))) == pytest.approx(1)


@given(reliabilities, st.randoms())
def test_the_average_accuracy_is_the_sum_over_all_combinations(reliability, random):
    per_mask = {mask: random.random() for mask in masks(len(reliability))}
    expected = 0.0
    for bits in product([0, 1], repeat=len(reliability)):
        p = np.prod([b * r + (1 - b) * (1 - r) for b, r in zip(bits, reliability, strict=True)])
        expected += p * per_mask["".join(map(str, bits))]
    assert average_accuracy(per_mask, reliability) == pytest.approx(expected)


def test_masks_begin_with_everybody_alive():
    assert masks(2) == ["11", "10", "01", "00"]
    assert alive_nodes("101", ["f1", "f2", "e1"]) == {"f1", "e1"}


def test_a_guess_counts_with_its_expectation():
    labels, truth = np.array([GUESS, 0, 1, GUESS]), np.array([0, 0, 0, 1])
    assert accuracy(labels, truth, [0.75, 0.25]) == pytest.approx((0.75 + 1 + 0 + 0.25) / 4)


def test_too_many_masks_are_sampled_few_failures_first():
    some = sampled_masks(20)
    assert len(some) == len(set(some)) == 1024
    assert some[0] == "1" * 20
    assert some == sampled_masks(20)
    assert sampled_masks(8) == masks(8)
