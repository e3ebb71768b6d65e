"""A bundle as if one of its nodes had been trained a little more: what a fleet gets when a network was improved."""

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from broker.frame import Vector
from edge_agent.bundle import MANIFEST, Bundle, encode_manifest, load
from edge_agent.session import Session
from edge_agent.signature import SIGNATURE
from export.check import raw_file


def retrained(source: Path, target: Path, node: str, factor: float = 1.01) -> Bundle:
    """Copy the bundle in `source` to `target`, with the weights of `node` times `factor`, and golden outputs to match.

    Its predicted accuracies are those of `source`; it is not signed.
    """
    shutil.copytree(source, target)
    (target / SIGNATURE).unlink(missing_ok=True)
    bundle = load(target)
    graph = onnx.load(target / f"{node}.onnx")
    for weights in graph.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1:
            weights.CopyFrom(numpy_helper.from_array(np.asarray(values * np.float32(factor)), weights.name))
    (target / f"{node}.onnx").write_bytes(graph.SerializeToString())
    outputs: dict[str, Vector] = {}
    for name in bundle.manifest.names:
        entry = bundle.manifest.entry(name)
        is_sensor = name in bundle.manifest.sensors
        inputs = [np.load(target / raw_file(name))] if is_sensor else [outputs[each] for each in entry.inputs]
        outputs[name] = Session(target / entry.file, bundle.manifest.arriving(name), entry.layout).run(inputs)
        np.save(target / entry.golden, outputs[name])
    files = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in bundle.manifest.files}
    (target / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(bundle.manifest, files=files)))
    return load(target)
