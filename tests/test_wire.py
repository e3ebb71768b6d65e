"""Vectors that travel as halves or bytes: what is chosen is what is sent, and what is sent is what was predicted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inprocess import Fog

from export.check import check
from export.data import load_data
from export.data.rows import split_rows
from export.evaluation import Composed, labels, logits_by_mask
from export.failures import GUESS, masks
from export.wire import Wire, WireError, parse_choices, wires
from export.writer import export_bundle

SENDERS = ["iot", "e1", "f2", "f1"]
rows_of_floats = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def narrow(run_path, tmp_path_factory):
    """A bundle with each format in it."""
    return export_bundle(
        run_path, tmp_path_factory.mktemp("narrow") / "bundle", wire=["int8", "f1=float16", "iot=float32"]
    )


@given(rows_of_floats)
def test_a_byte_is_off_by_half_a_unit_at_most(values):
    x = torch.tensor(values)
    wire = wires({"f1": "int8"}, {"f1": float(x.abs().max())})["f1"]
    assert wire.encode(x).dtype == torch.int8
    assert ((wire.rounded(x) - x).abs() <= wire.scale * 0.501).all()


@given(rows_of_floats)
def test_a_half_is_off_by_a_two_thousandth_at_most(values):
    x = torch.tensor(values)
    wire = Wire("float16")
    assert wire.encode(x).dtype == torch.float16
    assert ((wire.rounded(x) - x).abs() <= x.abs() / 2048 + 1e-7).all()


@pytest.mark.parametrize("wire", [Wire(), Wire("float16"), Wire("int8", 0.1)])
def test_no_value_becomes_infinite_and_the_null_vector_stays_null(wire):
    assert torch.isfinite(wire.rounded(torch.tensor([3e38, -3e38]))).all()
    assert wire.rounded(torch.zeros(3)).tolist() == [0, 0, 0]


def test_the_last_word_counts():
    assert parse_choices(["int8", "f1=float16"], SENDERS) == {
        "iot": "int8",
        "e1": "int8",
        "f2": "int8",
        "f1": "float16",
    }
    assert set(parse_choices([], SENDERS).values()) == {"float32"}


@pytest.mark.parametrize(
    ("choice", "word"), [("int4", "formats are float32, float16, int8"), ("cloud=int8", "nothing called 'cloud' sends")]
)
def test_a_choice_that_cannot_be_is_said(choice, word):
    with pytest.raises(WireError, match=word):
        parse_choices([choice], SENDERS)


def test_the_manifest_tells_formats_and_the_check_their_cost(narrow):
    entries = {name: narrow.manifest.entry(name) for name in narrow.manifest.names}
    formats = {name: entry.dtype for name, entry in entries.items()}
    assert formats == {"iot": "float32", "e1": "int8", "f2": "int8", "f1": "float16", "cloud": "float32"}
    assert 0 < entries["e1"].scale < 1 < 1 + entries["f1"].scale
    _, findings = check(narrow.path)
    assert all(finding.ok for finding in findings)
    told = next(finding.detail for finding in findings if finding.name == "wire")
    assert "e1 int8" in told
    assert "points" in told
    assert set(narrow.manifest.accuracy.unrounded) == set(narrow.manifest.accuracy.per_mask)


@pytest.mark.parametrize("mask", masks(3))
def test_under_every_mask_agents_answer_as_predicted(narrow, mask):
    data = load_data("watch")
    rows = {"iot": data.sensors["iot"][split_rows(data, "row", 0).test]}
    parts = Composed(narrow)
    sensed = parts.sensed(rows)["iot"]
    predicted = labels(logits_by_mask(parts, rows, [mask])[mask], len(sensed))
    fog = Fog(narrow, {node for node, bit in zip(narrow.manifest.order, mask, strict=True) if bit == "1"})
    for step, vector in enumerate(sensed):
        fog.sense(step, {"iot": vector})
    fog.settle()
    assert [GUESS if answer.guess else answer.label for answer in fog.answers] == predicted.tolist()


def test_narrow_vectors_take_fewer_bytes(narrow, bundle):
    assert narrow.manifest.entry("f2").layout.bytes * 4 == bundle.manifest.entry("f2").layout.bytes
    assert np.load(narrow.file(narrow.manifest.entry("f2").golden)).dtype == np.int8
