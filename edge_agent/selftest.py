"""Before a device serves: does its onnxruntime reproduce what the bundle's builder saw?"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from broker.frame import Dtype, Layout, Vector
from edge_agent.bundle import Bundle, BundleDamaged, load
from edge_agent.config import Config, Source
from edge_agent.loading import compiled_folder, configured_session, require_member
from edge_agent.provider import provider_of
from edge_agent.sample import Leaf
from edge_agent.session import runtime_versions
from edge_agent.signature import load_public_key
from edge_agent.sources import find

TOLERANCES: Final[dict[Dtype, float]] = {"float32": 1e-5, "float16": 1e-2, "int8": 1e-1}
"""How far outputs may lie apart, by the format in which they travel.

A sum in another order may round the other way; with float32 that stays below what any label shows.
"""
ACCELERATED: Final = 1e-2
"""How far apart if not the CPU computes, which may do it with fewer digits; labels must agree all the same."""


def self_test(config: Config, say: Callable[[str], None] = lambda _: None) -> str:
    """Run the golden inputs of `config.node` and return what was found; raises BundleDamaged if it differs, FogError.

    Needs of the bundle only this node's graph, and the golden outputs of it and its sources. Says it if something is to
    be compiled before, which may take minutes.
    """
    verify_key = load_public_key(Path(config.verify_key)) if config.verify_key else None
    bundle = load(Path(config.bundle), verify_key)
    require_member(config, bundle.manifest)
    if config.source is not None:
        return _sensor_test(config, config.source, bundle)
    entry = bundle.manifest.entry(config.node)
    layouts = bundle.manifest.golden([*entry.inputs, config.node])
    bundle.verify(layouts)
    folder = compiled_folder(config, bundle)
    if folder and not (folder.is_dir() and any(folder.iterdir())):
        say("building the engine")
    session = configured_session(config, bundle)
    *inputs, expected = golden(bundle, layouts)
    found = np.stack([session.step(row).copy() for row in zip(*inputs, strict=True)])  # one by one, as it serves
    error = distance(found, expected)
    versions = f"{session.provider}, {_listed(runtime_versions())}"
    tolerance = max(TOLERANCES[entry.dtype], 0.0 if provider_of(config.provider).is_cpu else ACCELERATED)
    if error > tolerance:
        raise BundleDamaged(
            f"{config.node} computes something else than its bundle {bundle.id.hex()} expects: "
            f"{error:.1e} away, the limit is {tolerance:.0e} ({versions})"
        )
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    if config.node == bundle.manifest.sink and same < len(expected):
        raise BundleDamaged(
            f"{config.node} gives {len(expected) - same} of {len(expected)} labels otherwise ({versions})"
        )
    return f"{config.node}: {len(expected)} golden rows within {error:.0e} (limit {tolerance:.0e}), {versions}"


def _sensor_test(config: Config, source: Source, bundle: Bundle) -> str:
    """Run a sensor's graph, whose golden inputs no bundle holds, and find its source, which is not opened."""
    session = configured_session(config, bundle)
    (layout,) = bundle.manifest.arriving(config.node).values()
    find(source.kind, source.options, Leaf(config.node, layout.shape))
    session.step([np.zeros(layout.shape, layout.numpy)])
    return f"{config.node}: its graph runs, and there is a source of kind {source.kind}, {_listed(runtime_versions())}"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def distance(found: Vector | None, expected: Vector | None) -> float:
    """Return the greatest difference, relative to the greatest expected value if that is over 1.

    Two null vectors are equal; a null vector and any other are infinitely apart, and so is what is not a number.
    """
    if found is None or expected is None:
        return 0.0 if found is expected else math.inf
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return math.inf
    wide = expected.astype(np.float64)
    return float(np.abs(found - wide).max() / max(1.0, np.abs(wide).max()))


def golden(bundle: Bundle, layouts: Mapping[str, Layout]) -> list[Vector]:
    """Return the arrays in these files, each (rows, *shape) and all of the same rows; raises BundleDamaged."""
    found = [_array(bundle.file(name), layout) for name, layout in layouts.items()]
    if len({len(values) for values in found}) > 1:
        raise BundleDamaged(f"{bundle.path}: {', '.join(layouts)} are not of the same rows")
    return found


def _array(file: Path, layout: Layout) -> Vector:
    try:
        values: Vector = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleDamaged(f"{file}: not an array ({error})") from error
    if values.shape[1:] != layout.shape or values.dtype != layout.numpy or not len(values):
        raise BundleDamaged(f"{file}: {values.shape} of {values.dtype}, not rows of {layout}")
    return values
