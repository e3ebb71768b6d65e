"""Eq. (3) from a sample: the sum is right, and the interval is honest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.failures import combinations_of, probabilities
from export.strata import stratified


def accuracy_of(alive):
    """Something that depends on the combination, and not linearly."""
    dead = ~alive
    return (0.97 - 0.05 * dead.sum(1) - 0.2 * (dead[:, 0] & dead[:, 1]) - 0.1 * (dead[:, 2] ^ dead[:, 3]))[:, None]


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=10))
def test_with_room_for_all_combinations_it_is_exact(reliability):
    sample = stratified(reliability, 100_000)
    every = combinations_of(len(reliability))
    (found,), ci95 = sample.estimate(accuracy_of(sample.alive))
    assert found == pytest.approx(probabilities(every, reliability) @ accuracy_of(every)[:, 0])
    assert ci95 == 0
    assert sum(stratum.probability for stratum in sample.strata) == pytest.approx(1)


def test_drawn_combinations_are_as_likely_as_the_setting_says():
    reliability = np.linspace(0.5, 0.95, 12)
    sample = stratified(reliability, 20_000)
    every = combinations_of(12)
    start = 0
    for dead, stratum in enumerate(sample.strata):
        these = sample.alive[start : start + len(stratum.weights)]
        start += len(stratum.weights)
        assert ((~these).sum(1) == dead).all()
        given_dead = every[(~every).sum(1) == dead]
        p = probabilities(given_dead, reliability)
        assert stratum.probability == pytest.approx(p.sum())
        if len(these) > 500:
            expected = p @ given_dead / p.sum()
            np.testing.assert_allclose(stratum.weights @ these, expected, atol=0.06)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    reliability = np.linspace(0.6, 0.95, 14)
    every = combinations_of(14)
    truth = float(probabilities(every, reliability) @ accuracy_of(every)[:, 0])
    held = 0
    for seed in range(200):
        sample = stratified(reliability, 400, seed)
        (found,), ci95 = sample.estimate(accuracy_of(sample.alive))
        assert 0 < ci95 < 0.01
        held += abs(found - truth) <= ci95
    assert held >= 180


def test_what_never_happens_is_not_measured():
    sample = stratified([1.0] * 30, 1000)
    assert sample.alive.tolist() == [[True] * 30]
    assert sample.estimate(np.array([[0.75]])) == (pytest.approx([0.75]), 0.0)
