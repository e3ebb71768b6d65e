"""A bundle, and what `check` finds in a damaged one."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from support import command

from broker.frame import Layout
from edge_agent.bundle import SCHEMA_VERSION, BundleDamaged, BundleError, load
from edge_agent.selftest import TOLERANCES, distance
from export.average import evaluate
from export.check import WHOLE, check
from export.data import load_data
from export.data.rows import split_rows
from export.evaluation import Composed, labels, logits_by_mask
from export.failures import masks
from export.graph import ALIVE, INFORMED, to_onnx, whole_to_onnx
from export.network import Network
from export.node import Sensor
from export.runs import WEIGHTS, load_network, one_seed, save_run
from export.skips import chosen_spec
from export.spec import load_spec, parse_spec
from export.training import train
from export.variants import VARIANTS, Choice
from export.writer import export_bundle


def change_manifest(path, change):
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def rehash(path, name):
    digest = hashlib.sha256((path / name).read_bytes()).hexdigest()
    change_manifest(path, lambda manifest: manifest["files"].update({name: digest}))


def change_weight(path, by):
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if each.name.endswith("weight"))
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] += by
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


def test_a_fresh_bundle_passes(bundle):
    _, findings = check(bundle.path)
    assert [finding.name for finding in findings] == ["files", "signature", "parts", "masks"]
    assert all(finding.ok for finding in findings)


def test_each_graph_has_one_input_per_hyperconnection_named_after_its_source(bundle):
    for name, sources in bundle.manifest.inputs.items():
        session = onnxruntime.InferenceSession(bundle.file(f"{name}.onnx"))
        assert [value.name for value in session.get_inputs()] == list(sources)
        assert session.get_modelmeta().custom_metadata_map["fogguard.node"] == name


def test_graphs_are_one_file_for_old_runtimes_without_build_paths(bundle):
    for file in bundle.path.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
        assert model.ir_version == 10
        assert not any(each.data_location for each in model.graph.initializer)
        data = file.read_bytes()
        assert b"site-packages" not in data
        assert str(Path.cwd()).encode() not in data


def test_an_absent_source_contributes_exactly_nothing(bundle):
    session = onnxruntime.InferenceSession(bundle.file("f1.onnx"))
    x = np.random.default_rng(0).normal(size=(3, 250)).astype(np.float32)
    zeros = np.zeros_like(x)
    (left,) = session.run(None, {"f2": x, "e1": zeros})
    (right,) = session.run(None, {"f2": zeros, "e1": x})
    np.testing.assert_array_equal(left, right)


@pytest.mark.slow
@pytest.mark.compute
def test_exporting_twice_gives_the_same_bytes(bundle, run_path, tmp_path):
    other_process = [command("fogguard"), "export", str(run_path), "--out", "again"]
    subprocess.run(other_process, cwd=tmp_path, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert load(tmp_path / "again").sha256 == bundle.sha256


def test_torch_and_the_parts_give_the_same_labels_under_every_mask(bundle, run_path):
    manifest = bundle.manifest
    variant, spec = VARIANTS["failout"], parse_spec(manifest.spec)
    network = one_seed(load_network(run_path / WEIGHTS, spec, variant, len(manifest.labels), [0]), 0)
    rows = load_data("watch")
    raw = {"iot": rows.sensors["iot"][split_rows(rows, "row", 0).test]}
    shared, torched = logits_by_mask(Composed(bundle), raw, masks(3)), logits_by_mask(network, raw, masks(3))
    for mask in masks(3):
        expected, alone = torched[mask], logits_by_mask(Composed(bundle), raw, [mask])[mask]
        assert distance(shared[mask], expected) <= 1e-5
        assert distance(shared[mask], alone) == 0
        assert (labels(shared[mask], 237) == labels(expected, 237)).all()


def test_the_manifest_predicts_what_evaluate_measures(bundle, run_path):
    from_bundle, from_run = evaluate(bundle.path), evaluate(run_path)
    per_mask = from_bundle.variants["failout"].seeds[0].per_mask
    assert per_mask == from_run.variants["failout"].seeds[0].per_mask
    assert per_mask == pytest.approx(bundle.manifest.accuracy.per_mask, abs=1e-6)
    assert from_bundle.chance == bundle.manifest.accuracy.chance
    average = from_bundle.variants["failout"].average
    assert average["no_failure"].mean == per_mask["111"]
    assert average["no_failure"].mean > average["poor"].mean > average["hazardous"].mean > per_mask["000"]


@pytest.mark.slow
@pytest.mark.compute
@pytest.mark.parametrize(
    "changes", [{"normalise": True, "weights": "learned", "maps": "all"}, {"weights": "normalised", "mux": True}]
)
def test_every_option_is_in_the_graphs(tmp_path, quick_spec, changes):
    choice = Choice.of("failout", changes, epochs=1)
    trained = train(chosen_spec(quick_spec, choice), load_data("watch"), choice.variant, [4, 5])
    save_run(trained, choice.name, tmp_path / "run")
    exported = export_bundle(tmp_path / "run", tmp_path / "bundle")
    parity = exported.manifest.parity
    assert parity.labels_equal == parity.labels_compared == 237 * 8
    assert all(finding.ok for finding in check(tmp_path / "bundle")[1])


@pytest.mark.slow
@pytest.mark.compute
def test_nodes_may_be_called_what_torch_calls_a_step_of_a_graph():
    text = load_spec("watch").text
    for name, other in {"iot": "sub", "e1": "relu", "f2": "add", "f1": "linear", "cloud": "matmul"}.items():
        text = re.sub(rf"\b{name}\b", other, text)
    spec = parse_spec(text)
    network = Network(spec, 7, {"sub": Sensor(torch.zeros(36), torch.ones(36))}, VARIANTS["fogguard"]).eval()
    graph = onnx.load_from_string(whole_to_onnx(network, {})).graph
    assert [value.name for value in graph.input] == ["sub", ALIVE]
    assert [value.name for value in graph.output] == ["matmul", INFORMED]
    layouts = {source: Layout((network.widths[source],)) for source in network.inputs["linear"]}
    graph = onnx.load_from_string(to_onnx(network.nodes["linear"], "linear", layouts, {})).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["add", "relu", "linear"]


def failed(path):
    return [finding.detail for finding in check(path)[1] if not finding.ok]


def test_a_changed_weight_is_found_by_its_hash(bundle_copy):
    change_weight(bundle_copy / "f2.onnx", 0.01)
    (detail,) = failed(bundle_copy)
    assert "f2.onnx was changed" in detail


@pytest.mark.parametrize("name", ["f2.onnx", "whole.onnx"])
def test_a_changed_weight_is_found_by_its_answers_though_the_hash_was_mended(bundle_copy, name):
    change_weight(bundle_copy / name, 0.01)
    rehash(bundle_copy, name)
    assert any("torch, whole graph and parts" in detail for detail in failed(bundle_copy))


def test_a_missing_and_a_swapped_file_are_found(bundle_copy):
    (bundle_copy / "f1.onnx").unlink()
    (bundle_copy / "e1.onnx").rename(bundle_copy / "spare")
    (bundle_copy / "f2.onnx").rename(bundle_copy / "e1.onnx")
    (bundle_copy / "spare").rename(bundle_copy / "f2.onnx")
    assert [detail.split()[:3] for detail in failed(bundle_copy)] == [
        ["e1.onnx", "was", "changed"], ["f1.onnx", "is", "missing"], ["f2.onnx", "was", "changed"],
    ]  # fmt: skip


def test_a_graph_under_another_s_name_is_found_though_its_hash_was_mended(bundle_copy):
    (bundle_copy / "f1.onnx").write_bytes((bundle_copy / "f2.onnx").read_bytes())
    rehash(bundle_copy, "f1.onnx")
    assert any("f1.onnx: takes" in detail for detail in failed(bundle_copy))


def test_a_wrong_shape_in_the_manifest_is_found(bundle_copy):
    change_manifest(bundle_copy, lambda manifest: manifest["nodes"]["f1"].update(shape=[249]))
    assert any("the manifest says (249,)" in detail for detail in failed(bundle_copy))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("order", lambda manifest: manifest["order"].pop()),
        ("sink", lambda manifest: manifest.update(sink="f1")),
        ("settings", lambda manifest: manifest["settings"]["poor"].update(f1=0.5)),
        ("hyperconnections", lambda manifest: manifest["hyperconnections"].pop()),
        ("data", lambda manifest: manifest["data"].update(split_seed=7)),
        ("deadlines_ms", lambda manifest: manifest["deadlines_ms"].update(f1=0)),
        ("golden", lambda manifest: manifest["nodes"]["f1"].update(golden="golden/f2.npy")),
        ("prior", lambda manifest: manifest["prior"].pop()),
        ("accuracy", lambda manifest: manifest["accuracy"]["per_mask"].pop("111")),
        ("nodes", lambda manifest: manifest["nodes"].pop("f1")),
        ("sensors", lambda manifest: manifest["sensors"]["iot"].update(inputs={"other": [36]})),
    ],
)
def test_a_manifest_that_says_otherwise_than_its_specification_is_found(bundle_copy, part, change):
    change_manifest(bundle_copy, change)
    assert any(f"not what its specification says, or not whole: {part}" in detail for detail in failed(bundle_copy))


@pytest.mark.parametrize("name", [WHOLE, WEIGHTS, "golden/f1.npy", "golden/iot.raw.npy"])
def test_a_file_that_the_manifest_does_not_vouch_for_is_found(bundle_copy, name):
    change_manifest(bundle_copy, lambda manifest: manifest["files"].pop(name))
    assert failed(bundle_copy) == [f"{name} is not in the manifest"]


@pytest.mark.parametrize("name", ["golden/f1.npy", "golden/cloud.npy", "golden/iot.raw.npy"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda values: values * np.float32("nan"), "is inf away"),
        (lambda values: values[:, :1], "not rows of"),
        (lambda values: values.astype(np.float64), "not rows of"),
        (lambda values: values[:0], "not rows of"),
        (lambda values: values[:5], "are not of the same rows"),
    ],
)
def test_golden_outputs_that_can_be_none_are_found_though_their_hash_was_mended(bundle_copy, name, change, sentence):
    np.save(bundle_copy / name, change(np.load(bundle_copy / name)))
    rehash(bundle_copy, name)
    assert any(sentence in detail for detail in failed(bundle_copy))


def test_a_graph_that_is_none_is_found(bundle_copy):
    (bundle_copy / "cloud.onnx").write_bytes(b"\x08\x0a garbage")
    rehash(bundle_copy, "cloud.onnx")
    assert any("cannot load it" in detail for detail in failed(bundle_copy))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda manifest: manifest.update(schema_version=1), f"schema version 1, this fogguard reads {SCHEMA_VERSION}"),
        (lambda manifest: manifest.pop("nodes"), "missing required field `nodes`"),
        (lambda manifest: manifest.update(surprise=1), "unknown field `surprise`"),
        (lambda manifest: manifest["files"].update({"../../etc/passwd": "0"}), "points outside the bundle"),
    ],
)
def test_a_bundle_of_another_version_or_form_is_one_sentence(bundle_copy, change, sentence):
    change_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=sentence.replace("`", ".")):
        load(bundle_copy)


def test_no_bundle_is_one_sentence(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle at .*fogguard export"):
        load(tmp_path)


def test_a_device_verifies_its_own_files_only(bundle_copy):
    (bundle_copy / "weights.safetensors").unlink()
    loaded = load(bundle_copy)
    loaded.verify(["f1.onnx"])
    with pytest.raises(BundleDamaged, match=r"weights\.safetensors is missing"):
        loaded.verify()


@pytest.mark.slow
@pytest.mark.compute
def test_an_export_that_fails_leaves_the_old_bundle_and_no_rest(bundle_copy, run_path, tmp_path, monkeypatch):
    before = load(bundle_copy).sha256
    monkeypatch.setitem(TOLERANCES, "float32", -1.0)
    with pytest.raises(Exception, match="not exported: torch, whole graph and parts"):
        export_bundle(run_path, bundle_copy)
    assert load(bundle_copy).sha256 == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_only_a_bundle_is_replaced(tmp_path, run_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(Exception, match=r"holds no manifest\.json"):
        export_bundle(run_path, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"
