"""Torch modules as ONNX graphs: one file each, old enough for every runtime in a fleet, the same bytes each time."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import onnx
import torch
from torch import Tensor, nn

from broker.errors import FailureFound
from broker.frame import Layout
from export.network import Network

OPSET: Final = 18
IR_VERSION: Final = 10
MINIMUM_ONNXRUNTIME: Final = "1.18"
ALIVE: Final = "fogguard.alive"
INFORMED: Final = "fogguard.informed"
_OURS: Final = "fogguard.end."


class GraphError(FailureFound):
    """A module that torch cannot put into one ONNX file."""


class Whole(nn.Module):
    """The network with plain tensors for inputs: the sensors in order, then which nodes are alive."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.names = list(network.spec.sensors)

    def forward(self, *xs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (batch, classes) logits and (batch,) whether any information reached the sink."""
        logits, informed = self.network(dict(zip(self.names, xs[:-1], strict=True)), xs[-1])
        return logits, informed


def to_onnx(module: nn.Module, name: str, inputs: Mapping[str, Layout], metadata: Mapping[str, str]) -> bytes:
    """Return the graph of a module that takes one (batch, *shape) tensor per input.

    Args:
        module: Its forward takes the inputs in this order.
        name: Of the output: the node's or sensor's own.
        inputs: Name and layout of each.
        metadata: Goes into the file under `fogguard.`, for onnxruntime to read.
    """
    example = [torch.zeros(2, *layout.shape, dtype=getattr(torch, layout.dtype)) for layout in inputs.values()]
    return _export(module, example, list(inputs), [name], metadata)


def whole_to_onnx(network: Network, metadata: Mapping[str, str]) -> bytes:
    """Return the graph of the whole network: raw sensors and ALIVE in, the sink's logits and INFORMED out."""
    spec = network.spec
    xs = [torch.zeros(2, width) for width in spec.sensors.values()]
    alive = torch.ones(2, len(spec.order), dtype=torch.bool)
    return _export(Whole(network), [*xs, alive], [*spec.sensors, ALIVE], [spec.sink, INFORMED], metadata)


def _export(
    module: nn.Module,
    example: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    batch = torch.export.Dim("batch")
    for chatty in ("torch.onnx._internal.exporter._registration", "onnx_ir.passes.common.initializer_deduplication"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            dynamo=True,
            input_names=[f"{_OURS}{name}" for name in inputs],
            output_names=[f"{_OURS}{name}" for name in outputs],
            opset_version=OPSET,
            dynamic_shapes={"xs": tuple({0: batch} for _ in example)},
            verbose=False,
        )
    if program is None:
        raise GraphError(f"torch put out no graph for {outputs[0]}")
    return _cleaned(_renamed(program.model_proto), metadata)


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give inputs and outputs their names; what torch calls by one of these in between (`add`, `relu`) makes way."""
    graph = model.graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    names = {name: name.removeprefix(_OURS) for name in ends}
    for taken in list(names.values()):
        names.setdefault(taken, f"{taken}.")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def _cleaned(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Strip what depends on the machine: stack traces, build paths, producer."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "fogguard", "", ""
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=f"fogguard.{key}", value=value)
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        graph.doc_string = ""
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
