"""Is this bundle whole, and do torch, the whole graph and the composed parts say the same under every mask?"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from broker.errors import FogError
from broker.frame import Layout
from edge_agent.bundle import Bundle, BundleDamaged, Manifest, file_problem, load
from edge_agent.loading import load_session
from edge_agent.selftest import TOLERANCES, distance, golden
from edge_agent.session import Floats, open_graph
from edge_agent.signature import SignatureRefused, is_valid, key_id, read_signature, require_signed
from export.evaluation import Composed, labels, logits_by_mask
from export.failures import average_accuracy, sampled_masks
from export.graph import ALIVE
from export.network import Network
from export.runs import WEIGHTS, load_network
from export.spec import DataSpec, Spec, parse_spec
from export.variants import Variant
from export.wire import Wire

SAME_LABELS: Final = 0.999
"""The share of labels that must be equal where vectors are rounded on the way; all, where they are not."""
WHOLE = "whole.onnx"


class Finding(NamedTuple):
    """One line of the checklist."""

    name: str
    ok: bool
    detail: str


class Comparison(NamedTuple):
    """How far torch, the whole graph and the composed parts lie apart, over every mask.

    `error` is the greatest difference of two logits, as a share of the greatest logit where that is over 1.
    """

    rows: int
    masks: int
    error: float
    tolerance: float
    labels_equal: int
    labels_compared: int

    @property
    def ok(self) -> bool:
        """Whether they agree as closely as the formats of the vectors allow."""
        share = 1.0 if self.tolerance == TOLERANCES["float32"] else SAME_LABELS
        return self.error <= self.tolerance and self.labels_equal >= share * self.labels_compared


def check(path: Path, verify_key: bytes | None = None) -> tuple[Bundle, list[Finding]]:
    """Check the bundle in the folder `path`; raises BundleError if there is none of this version.

    With `verify_key` it must be signed with that key; without, a signature is only reported, unless it is wrong.
    """
    bundle = load(path)
    files = bundle.manifest.files
    names = dict.fromkeys([*files, *_needed(bundle.manifest)])
    findings = [Finding("file", False, found) for name in names if (found := file_problem(path, name, files))]
    if findings:
        return bundle, findings
    findings.append(Finding("files", True, f"{len(files)} files have the hashes of the manifest"))
    findings.append(_signature(bundle, verify_key))
    try:
        _require_consistent(bundle)
    except FogError as error:
        return bundle, [*findings, Finding("manifest", False, str(error))]
    return bundle, [
        *findings,
        *_outcome("parts", _check_parts, bundle),
        *_outcome("masks", _check_masks, bundle),
        *_check_wire(bundle),
    ]


def _needed(manifest: Manifest) -> list[str]:
    """Return the files that a whole bundle has."""
    graphs = [manifest.entry(name).file for name in manifest.names]
    return [WHOLE, WEIGHTS, *graphs, *manifest.golden(manifest.names), *map(raw_file, manifest.sensors)]


def _require_consistent(bundle: Bundle) -> None:
    """Raise BundleDamaged if the manifest says otherwise than its own specification, or leaves out what is needed."""
    manifest, spec = bundle.manifest, _spec(bundle)
    inputs = spec.inputs(skips=_variant(bundle).skips)
    heard = [each for each in spec.hyperconnections if each.source in inputs[each.target]]
    data, waits, predicted = manifest.data, manifest.deadlines_ms, manifest.accuracy.per_mask
    right = {
        "sensors": [(name, entry.inputs) for name, entry in manifest.sensors.items()]
        == [(name, {"raw": (width,)}) for name, width in spec.sensors.items()],
        "nodes": list(manifest.inputs.items()) == list(inputs.items()),
        "hyperconnections": list(manifest.hyperconnections) == heard,
        "sink": manifest.sink == spec.sink,
        "order": manifest.order == spec.order,
        "settings": manifest.settings == spec.settings,
        "data": DataSpec(set=data.name, split=data.split, split_seed=data.split_seed) == spec.data,
        "deadlines_ms": waits.keys() == spec.nodes.keys() and all(each > 0 for each in waits.values()),
        "golden": len(manifest.golden(manifest.names)) == len(manifest.names),
        "prior": len(manifest.prior) == len(manifest.labels) and all(each >= 0 for each in manifest.prior),
        "accuracy": list(predicted) == sampled_masks(len(spec.order))
        and all(0 <= each <= 1 for each in predicted.values()),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise BundleDamaged(f"{bundle.path}: not what its specification says, or not whole: {', '.join(wrong)}")


def _spec(bundle: Bundle) -> Spec:
    return parse_spec(bundle.manifest.spec, f"{bundle.path}: spec")


def _variant(bundle: Bundle) -> Variant:
    try:
        return msgspec.convert(bundle.manifest.options, Variant)
    except msgspec.ValidationError as error:
        raise BundleDamaged(f"{bundle.path}: options: {error}") from error


def _signature(bundle: Bundle, verify_key: bytes | None) -> Finding:
    try:
        if verify_key is not None:
            require_signed(bundle.path, bundle.sha256, verify_key)
            return Finding("signature", True, f"the manifest is signed with key {key_id(verify_key)}")
        found = read_signature(bundle.path)
    except SignatureRefused as error:
        return Finding("signature", False, str(error))
    if found is None:
        return Finding("signature", True, "none: `fogguard sign` makes one")
    key = bytes.fromhex(found.key)
    if not is_valid(found, bundle.sha256, key):
        return Finding("signature", False, f"not of this manifest, though it names key {key_id(key)}")
    return Finding("signature", True, f"by key {key_id(key)}; whether that is yours, --verify-key tells")


def _outcome(name: str, run: Callable[[Bundle], Iterator[Finding]], bundle: Bundle) -> list[Finding]:
    try:
        return list(run(bundle))
    except FogError as error:
        return [Finding(name, False, str(error))]


def compare(bundle: Bundle, network: Network, raw: Mapping[str, Floats]) -> Comparison:
    """Compare the three on raw (rows, width) values per sensor."""
    whole = open_graph(bundle.file(WHOLE))
    order = bundle.manifest.order
    rows = len(next(iter(raw.values())))
    some = sampled_masks(len(order))
    composed, torched = logits_by_mask(Composed(bundle), raw, some), logits_by_mask(network, raw, some)
    error, equal = 0.0, 0
    for mask in some:
        alive = np.tile([bit == "1" for bit in mask], (rows, 1))
        logits, informed = whole.run(None, {**raw, ALIVE: alive})
        from_whole = logits if informed.all() else None
        from_torch, from_parts = torched[mask], composed[mask]
        error = max(error, distance(from_parts, from_torch), distance(from_whole, from_torch))
        expected = labels(from_torch, rows)
        equal += int(((labels(from_parts, rows) == expected) & (labels(from_whole, rows) == expected)).sum())
    return Comparison(rows, len(some), error, tolerance(bundle.manifest), equal, rows * len(some))


def tolerance(manifest: Manifest) -> float:
    """Return how far torch, the whole graph and the parts may lie apart: as the coarsest format allows."""
    return max(TOLERANCES[manifest.entry(name).dtype] for name in manifest.names)


def _check_parts(bundle: Bundle) -> Iterator[Finding]:
    """Each graph takes and puts out what the manifest says, and its golden outputs."""
    manifest = bundle.manifest
    worst, are_right = 0.0, True
    for name in manifest.names:
        entry = manifest.entry(name)
        session = load_session(bundle, name)
        told = session.metadata().get("fogguard.node")
        if told != name:
            yield Finding("parts", False, f"{entry.file} says that it is {told}, the manifest says {name}")
            continue
        is_sensor = name in manifest.sensors
        arriving = _raw(manifest, [name]) if is_sensor else manifest.golden(entry.inputs)
        *inputs, expected = golden(bundle, {**arriving, **manifest.golden([name])})
        error = distance(session.run(inputs), expected)
        worst = max(worst, error)
        if error > TOLERANCES[entry.dtype]:
            are_right = False
            yield Finding("parts", False, f"{entry.file} is {error:.1e} away from its golden output")
    if are_right:
        yield Finding("parts", True, f"{len(manifest.names)} graphs reproduce their golden outputs ({worst:.0e})")


def _check_masks(bundle: Bundle) -> Iterator[Finding]:
    manifest = bundle.manifest
    network = load_network(bundle.file(WEIGHTS), _spec(bundle), _variant(bundle), len(manifest.labels))
    entries = {**manifest.sensors, **manifest.nodes}
    network.wires = {name: Wire(entry.dtype, entry.scale) for name, entry in entries.items()}
    values = golden(bundle, _raw(manifest, manifest.sensors))
    raw = {name: np.asarray(each, np.float32) for name, each in zip(manifest.sensors, values, strict=True)}
    found = compare(bundle, network, raw)
    detail = (
        f"torch, whole graph and parts agree within {found.error:.0e} (limit {found.tolerance:.0e}) and on "
        f"{found.labels_equal} of {found.labels_compared} labels, {found.masks} masks x {found.rows} rows"
    )
    yield Finding("masks", found.ok, detail)


def raw_file(sensor: str) -> str:
    """Return where a bundle keeps the raw values behind its golden outputs."""
    return f"golden/{sensor}.raw.npy"


def _raw(manifest: Manifest, sensors: Iterable[str]) -> dict[str, Layout]:
    """Return the files with the raw values behind the golden outputs, and what they look like."""
    return {raw_file(sensor): manifest.arriving(sensor)["raw"] for sensor in sensors}


def _check_wire(bundle: Bundle) -> Iterator[Finding]:
    """Tell how vectors travel if not as float32, and what that costs; it fails nothing."""
    manifest = bundle.manifest
    if not manifest.accuracy.unrounded:
        return
    senders = [manifest.entry(name) for name in manifest.names if name != manifest.sink]
    sent_bytes = sum(entry.layout.bytes for entry in senders)
    wide_bytes = sum(Layout(entry.shape).bytes for entry in senders)
    found, order = manifest.accuracy, manifest.order
    points = {
        name: 100 * (average_accuracy(found.per_mask, order, r) - average_accuracy(found.unrounded, order, r))
        for name, r in manifest.settings.items()
    }
    costs = ", ".join(f"{each:+.3f} in {name}" for name, each in points.items())
    formats = ", ".join(f"{name} {manifest.entry(name).dtype}" for name in manifest.names if name != manifest.sink)
    yield Finding(
        "wire",
        True,
        f"{formats}: {sent_bytes} instead of {wide_bytes} bytes a step; average accuracy against float32, on "
        f"{manifest.accuracy.n} test rows: {costs} points",
    )
