"""A node that computes no numbers is done without, as if it were dead; a sink that does guesses, and says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import TOPICS, Fog, fed_under
from retrained import retrained

from benchmarks.books import faults
from benchmarks.recomputed import Overheard, judge, sessions_of
from broker.frame import Frame, decode, encode
from edge_agent.answer import guess
from edge_agent.finite import is_finite
from edge_agent.loading import load_session
from export.data import load_data
from export.data.rows import split_rows
from export.evaluation import Composed

STEPS = 20


@pytest.fixture(scope="module")
def rows(bundle):
    data = load_data("watch")
    return {"iot": data.sensors["iot"][split_rows(data, "row", 0).test][:STEPS]}


@given(st.lists(st.floats(width=16), max_size=9), st.sampled_from([np.float16, np.float32]))
def test_a_vector_is_finite_if_each_of_its_values_is(values, dtype):
    assert is_finite(np.array(values, dtype)) == all(map(np.isfinite, values))


def fed(bundle, rows, broken, folder):
    """The fog after some steps in which the memory of one node is broken, and who computes wrong, and how often."""
    fog, overheard = Fog(bundle, {"e1", "f2", "f1"}), Overheard()
    fog.nodes[broken]._session = load_session(retrained(bundle.path, folder / "broken", broken, np.nan), broken)
    for step, row in enumerate(Composed(bundle).sensed(rows)["iot"]):
        fog.sense(step, {"iot": row})
        fog.settle()
    names = {TOPICS.tensor(name): name for name in bundle.manifest.names}
    for frame, name in ((decode(payload), names[topic]) for topic, payload in fog.heard if topic in names):
        overheard.frames.setdefault(frame.step, {})[name] = frame
    overheard.answers.update({answer.step: answer for answer in fog.answers})
    judged = judge(bundle.manifest, sessions_of(bundle), overheard)
    for node in fog.nodes.values():
        assert faults(node.metrics()) == []
    return fog, {node: found.wrong for node, found in judged.items() if found.wrong}


def test_a_node_whose_vectors_are_no_numbers_is_done_without_and_named(bundle, rows, tmp_path):
    fog, wrong = fed(bundle, rows, "f1", tmp_path)
    mask = "".join("0" if name == "f1" else "1" for name in bundle.manifest.order)
    without, predicted = fed_under(bundle, mask, rows)
    assert fog.answers == without.answers
    assert fog.labels == predicted
    assert all(answer.complete and not answer.guess for answer in fog.answers)
    assert fog.nodes["f1"].counters.null == STEPS
    assert fog.nodes["cloud"].metrics().sources["f1"].null == STEPS
    assert wrong == {"f1": STEPS}


def test_a_sink_that_makes_no_numbers_of_what_it_heard_guesses_says_so_and_is_named(bundle, rows, tmp_path):
    fog, wrong = fed(bundle, rows, "cloud", tmp_path)
    assert [answer.guess for answer in fog.answers] == [True] * STEPS
    assert [answer.label for answer in fog.answers] == [guess(step, bundle.manifest.prior) for step in range(STEPS)]
    assert {answer.expected_accuracy for answer in fog.answers} == {bundle.manifest.accuracy.chance}
    assert {answer.contributors for answer in fog.answers} == {("iot", "e1", "f2", "f1", "cloud")}
    assert fog.nodes["cloud"].counters.null == STEPS
    assert wrong == {"cloud": STEPS}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_no_numbers_is_refused_by_whoever_hears_it_and_the_others_are_used(bundle, rows, value):
    sensed = Composed(bundle).sensed(rows)["iot"][0]
    fog, without = (Fog(bundle, alive) for alive in ({"e1", "f2", "f1"}, {"f2", "f1"}))
    fog.nodes["e1"]._publish = lambda topic, payload: None
    broken = np.full(bundle.manifest.entry("e1").shape, 0, np.float32)
    broken[3] = value
    fog.say(TOPICS.tensor("e1"), encode(Frame(1, 1, bundle.id, broken, 3)))
    for each in (fog, without):
        each.sense(1, {"iot": sensed})
        each.settle()
    assert fog.answers == without.answers
    refused = {name: node.metrics().rejected for name, node in fog.nodes.items()}
    assert refused == {"e1": {}, "f2": {"finite": 1}, "f1": {"finite": 1}, "cloud": {}}
    assert fog.nodes["f2"].metrics().sources["e1"].rejected == {"finite": 1}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_without_any_number_the_answer_is_a_guess(bundle, rows, value):
    vector = Composed(bundle).sensed(rows)["iot"][0].copy()
    vector[3] = value
    fog = Fog(bundle, {"e1", "f2", "f1"})
    fog.sense(1, {"iot": vector})
    fog.settle()
    (answer,) = fog.answers
    assert (answer.guess, answer.label) == (True, guess(1, bundle.manifest.prior))
