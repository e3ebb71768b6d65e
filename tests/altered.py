"""A bundle in which the graph of one node ends otherwise."""

import hashlib

import msgspec
import onnx

from edge_agent.bundle import MANIFEST, encode_manifest, load


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
