"""Vectors that travel as halves or bytes: what is chosen is what is sent, and what is sent is what was predicted."""

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from inprocess import fed_under

from edge_agent.bundle import MANIFEST, encode_manifest
from export.check import check
from export.data import load_data
from export.data.rows import split_rows
from export.failures import masks
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
@example([1.401298464324817e-45])
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
    fog, predicted = fed_under(narrow, mask, rows)
    assert fog.labels == predicted


def test_narrow_vectors_take_fewer_bytes(narrow, bundle):
    assert narrow.manifest.entry("f2").layout.bytes * 4 == bundle.manifest.entry("f2").layout.bytes
    assert np.load(narrow.file(narrow.manifest.entry("f2").golden)).dtype == np.int8


def test_a_graph_is_held_to_the_limit_of_its_own_format(narrow, tmp_path):
    path = Path(shutil.copytree(narrow.path, tmp_path / "bundle"))
    entry = narrow.manifest.entry("cloud")  # float32, though others send bytes
    golden = np.load(path / entry.golden)
    np.save(path / entry.golden, golden + 1e-3 * max(1.0, float(np.abs(golden).max())))
    digest = hashlib.sha256((path / entry.golden).read_bytes()).hexdigest()
    files = {**narrow.manifest.files, entry.golden: digest}
    (path / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(narrow.manifest, files=files)))
    _, findings = check(path)
    assert [finding.name for finding in findings if not finding.ok] == ["parts"]
