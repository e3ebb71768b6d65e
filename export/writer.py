"""Write a bundle: one graph per node, verified against torch under every mask before it appears."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnx
import safetensors.torch
import torch

from broker.errors import FailureFound
from broker.frame import Dtype, Layout
from edge_agent.bundle import (
    MANIFEST,
    SCHEMA_VERSION,
    AccuracyEntry,
    Bundle,
    DataEntry,
    GraphEntry,
    Manifest,
    ParityEntry,
    encode_manifest,
    load,
)
from edge_agent.session import PRESENT, runtime_versions
from export.check import WHOLE, Comparison, compare, raw_file
from export.data.rows import Rows, Split, split_rows
from export.deadlines import load_deadlines
from export.evaluation import Composed, Model, accuracies, chance
from export.failures import combinations_of_masks, sampled_masks
from export.folder import written_folder
from export.graph import IR_VERSION, MINIMUM_ONNXRUNTIME, OPSET, to_onnx, whole_to_onnx
from export.heldout import HeldOut, require_same
from export.network import Network
from export.runs import WEIGHTS, Run, load_network, load_run, one_seed
from export.wire import FLOAT32, Part, parse_choices, wires

GOLDEN_ROWS: Final = 64
Progress = Callable[[str], None]
"""Told what is being done next."""


class ParityError(FailureFound):
    """What onnxruntime computes is not what torch computes."""

    def __init__(self, found: Comparison) -> None:
        super().__init__(
            f"not exported: torch, whole graph and parts lie {found.error:.1e} apart (limit {found.tolerance:.0e}) and "
            f"agree on {found.labels_equal} of {found.labels_compared} labels"
        )


def export_bundle(
    run_path: Path,
    out: Path,
    progress: Progress = lambda _what: None,
    seed: int | None = None,
    wire: Sequence[str] = (),
    deadlines: Path | None = None,
) -> Bundle:
    """Export one seed of the run in `run_path`, the one that validates best if not told, as a bundle in `out`.

    `wire` tells how vectors travel: `float16` for all, `f1=int8` for those of one node, the last word counts.
    `deadlines` is a file by `fogguard deadlines`; without it they are the specification's.
    The folder appears whole or not at all.
    Raises RunError, DataError, DeadlinesError, FolderError, WireError, and ParityError if the graphs do not answer as
    torch does.
    """
    run = load_run(run_path)
    spec = run.parsed_spec()
    seed = run.best_seed if seed is None else seed
    seeds = load_network(run_path / WEIGHTS, spec, run.variant, len(run.labels), run.seeds)
    network = one_seed(seeds, seed)
    rows = require_same(spec.data.set, run.data_sha256, str(run_path))
    split = split_rows(rows, spec.data.split, spec.data.split_seed)
    deadlines_ms = load_deadlines(deadlines, spec.nodes) if deadlines else spec.deadlines_ms()
    dtypes = parse_choices(wire, [name for name in network.widths if name != spec.sink])
    unrounded = _with_wires(network, dtypes, rows, split, run.prior)
    with written_folder(out, MANIFEST) as folder:
        _write_graphs(folder, network, progress)
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(network.state_dict()))
        progress("golden outputs")
        _write_golden(folder, network, rows, split)
        manifest = _manifest(folder, run, seed, network, deadlines_ms, rows, split)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
        progress("every mask in torch, the whole graph and the parts")
        verified = _with_measurements(load(folder), network, rows, split, unrounded)
        (folder / MANIFEST).write_bytes(encode_manifest(verified))
    return load(out)


def _write_graphs(folder: Path, network: Network, progress: Progress) -> None:
    spec = network.spec
    for name, width in spec.sensors.items():
        progress(f"graph of {name}")
        graph = to_onnx(_part(network, name, ()), name, {"raw": Layout((width,))}, {"spec": spec.name, "node": name})
        (folder / f"{name}.onnx").write_bytes(graph)
    for name, sources in network.inputs.items():
        progress(f"graph of {name}")
        layouts = {source: _layout(network, source) for source in sources}
        if network.variant.told:
            layouts[PRESENT] = Layout((len(sources),))
        graph = to_onnx(_part(network, name, sources), name, layouts, {"spec": spec.name, "node": name})
        (folder / f"{name}.onnx").write_bytes(graph)
    progress("graph of the whole network")
    (folder / WHOLE).write_bytes(whole_to_onnx(network, {"spec": spec.name}))


def _part(network: Network, name: str, sources: Sequence[str]) -> torch.nn.Module:
    """Return the module behind a graph: a sensor or node, between the formats in which vectors travel."""
    module = network.nodes[name] if sources else network.sensors[name]
    arriving = [network.wires.get(source, FLOAT32) for source in sources]
    leaving = network.wires.get(name, FLOAT32)
    return module if {*arriving, leaving} == {FLOAT32} else Part(module, arriving, leaving)


def _layout(network: Network, name: str) -> Layout:
    return Layout((network.widths[name],), network.wires.get(name, FLOAT32).dtype)


@torch.inference_mode()
def _write_golden(folder: Path, network: Network, rows: Rows, split: Split) -> None:
    """Save what torch puts out at every sensor and node for some test rows while all are alive."""
    (folder / "golden").mkdir()
    chosen = split.test[:GOLDEN_ROWS]
    values: dict[str, torch.Tensor] = {}
    for name in network.spec.sensors:
        raw = rows.sensors[name][chosen]
        np.save(folder / raw_file(name), raw)
        values[name] = _part(network, name, ())(torch.from_numpy(raw))
    for name, sources in network.inputs.items():
        told = [torch.ones(len(chosen), len(sources))] if network.variant.told else []
        values[name] = _part(network, name, sources)(*(values[source] for source in sources), *told)
    for name, value in values.items():
        np.save(folder / _golden_file(name), value.numpy())


def _golden_file(name: str) -> str:
    return f"golden/{name}.npy"


def _entry(network: Network, name: str, inputs: Mapping[str, int]) -> GraphEntry:
    return GraphEntry(
        file=f"{name}.onnx",
        golden=_golden_file(name),
        inputs={source: (width,) for source, width in inputs.items()},
        shape=(network.widths[name],),
        dtype=network.wires.get(name, FLOAT32).dtype,
        scale=network.wires.get(name, FLOAT32).scale,
    )


def _manifest(
    folder: Path,
    run: Run,
    seed: int,
    network: Network,
    deadlines_ms: dict[str, float],
    rows: Rows,
    split: Split,
) -> Manifest:
    """Describe the files in `folder`; what must be measured on them is still empty."""
    spec = network.spec
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    heard = {(source, target) for target, sources in network.inputs.items() for source in sources}
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=spec.name,
        variant=run.name,
        options=msgspec.to_builtins(run.variant),
        seed=seed,
        spec=run.spec,
        sensors={name: _entry(network, name, {"raw": width}) for name, width in spec.sensors.items()},
        nodes={
            name: _entry(network, name, {source: network.widths[source] for source in sources})
            for name, sources in network.inputs.items()
        },
        hyperconnections=tuple(each for each in spec.hyperconnections if (each.source, each.target) in heard),
        sink=spec.sink,
        order=spec.order,
        deadlines_ms=deadlines_ms,
        settings=spec.settings,
        labels=run.labels,
        prior=run.prior,
        data=DataEntry(
            name=rows.name,
            sha256=rows.sha256,
            split=spec.data.split,
            split_seed=spec.data.split_seed,
            rows={part: len(numbers) for part, numbers in split._asdict().items()},
        ),
        accuracy=AccuracyEntry(n=0, chance=0.0, per_mask={}, unrounded={}),
        parity=ParityEntry(rows=0, masks=0, tolerance=0, labels_equal=0, labels_compared=0),
        opset=OPSET,
        ir_version=IR_VERSION,
        minimum_onnxruntime=MINIMUM_ONNXRUNTIME,
        built_with={**runtime_versions(), "torch": str(torch.__version__), "onnx": onnx.__version__},
        files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    )


def _with_wires(
    network: Network, dtypes: Mapping[str, Dtype], rows: Rows, split: Split, prior: Sequence[float]
) -> dict[str, float]:
    """Let the network's vectors travel as `dtypes` say; return its accuracy per mask before, if that changes it.

    What an int8 counts in follows from the largest magnitudes on validation rows.
    """
    if set(dtypes.values()) == {"float32"}:
        return {}
    raw = {name: torch.from_numpy(rows.sensors[name][split.validation]) for name in network.spec.sensors}
    masks = sampled_masks(len(network.spec.order))
    unrounded = _per_mask(network, _held_out(network, rows, split), prior, masks)
    network.wires = wires(dtypes, network.greatest(raw, network.shared(combinations_of_masks(masks))))
    return unrounded


def _held_out(network: Network, rows: Rows, split: Split) -> HeldOut:
    return HeldOut({name: rows.sensors[name][split.test] for name in network.spec.sensors}, rows.labels[split.test])


def _per_mask(model: Model, held_out: HeldOut, prior: Sequence[float], masks: Sequence[str]) -> dict[str, float]:
    found = accuracies(model, held_out, prior, combinations_of_masks(masks))
    return {mask: float(each) for mask, each in zip(masks, found[:, 0], strict=True)}


def _with_measurements(
    bundle: Bundle, network: Network, rows: Rows, split: Split, unrounded: dict[str, float]
) -> Manifest:
    """Return the manifest with parity and predicted accuracy on the whole test set; raises ParityError."""
    held_out = _held_out(network, rows, split)
    found = compare(bundle, network, held_out.raw)
    if not found.ok:
        raise ParityError(found)
    prior, masks = bundle.manifest.prior, sampled_masks(len(bundle.manifest.order))
    return msgspec.structs.replace(
        bundle.manifest,
        accuracy=AccuracyEntry(
            n=len(held_out.truth),
            chance=chance(held_out, prior),
            per_mask=_per_mask(Composed(bundle), held_out, prior, masks),
            unrounded=unrounded,
        ),
        parity=ParityEntry(
            rows=found.rows,
            masks=found.masks,
            tolerance=found.tolerance,
            labels_equal=found.labels_equal,
            labels_compared=found.labels_compared,
        ),
    )
