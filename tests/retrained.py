"""A bundle as if one of its nodes had been trained a little more."""

import hashlib
import shutil

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from edge_agent.bundle import MANIFEST, encode_manifest, load
from edge_agent.session import Session
from edge_agent.signature import SIGNATURE
from export.check import raw_file


def retrained(source, target, node, factor=1.01):
    """Copy the bundle in `source` to `target`, with other weights in `node`, and golden outputs to match."""
    shutil.copytree(source, target)
    (target / SIGNATURE).unlink(missing_ok=True)
    bundle = load(target)
    graph = onnx.load(target / f"{node}.onnx")
    for weights in graph.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1:
            weights.CopyFrom(numpy_helper.from_array(np.asarray(values * np.float32(factor)), weights.name))
    (target / f"{node}.onnx").write_bytes(graph.SerializeToString())
    outputs = {}
    for name in bundle.manifest.names:
        entry = bundle.manifest.entry(name)
        sensor = name in bundle.manifest.sensors
        inputs = [np.load(target / raw_file(name))] if sensor else [outputs[source] for source in entry.inputs]
        outputs[name] = Session(target / entry.file, bundle.manifest.arriving(name), entry.layout).run(inputs)
        np.save(target / entry.golden, outputs[name])
    files = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in bundle.manifest.files}
    (target / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(bundle.manifest, files=files)))
    return load(target)
