"""A bundle in which the graph of one node ends otherwise, or takes its time."""

import hashlib
import shutil

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import MANIFEST, encode_manifest, load
from edge_agent.loading import load_session


def altered(folder, node, nodes, constants=()):
    """Let onnx `nodes`, which take "before" and give "after", end the graph of a node of the bundle in `folder`."""
    bundle = load(folder)
    file = folder / bundle.manifest.entry(node).file
    model = onnx.load(file)
    graph, (output,) = model.graph, model.graph.output
    rename(graph.node, output.name, "before")
    rename(nodes, "after", output.name)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    file.write_bytes(model.SerializeToString())
    files = {**bundle.manifest.files, file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    (folder / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(bundle.manifest, files=files)))
    return load(folder)


def rename(nodes, old, new):
    for node in nodes:
        node.output[:] = [new if name == old else name for name in node.output]


def slowed(source, folder, node, ms):
    """Copy the bundle in `source`, with a node that computes the same, in about so many milliseconds."""
    per_ms = 1000 / load_session(delayed(source, folder / "timed", node, 1000), node).mean_ms()
    return delayed(source, folder / "slow", node, round(ms * per_ms))


def delayed(source, target, node, times):
    """Copy the bundle in `source`; what a node puts out is multiplied by one so many times, however wide it is."""
    shutil.copytree(source, target)
    (width,) = load(target).manifest.entry(node).shape
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["x", "one"], ["same"])],
        "body",
        [value("n", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("same", TensorProto.FLOAT, None)],
    )
    constants = {"one": np.eye(width, dtype=np.float32), "times": np.array(times)}
    loop = helper.make_node("Loop", ["times", "", "before"], ["after"], body=body)
    return altered(target, node, [loop], [numpy_helper.from_array(array, name) for name, array in constants.items()])
