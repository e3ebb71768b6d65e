"""A bundle: the folder with everything that a fleet runs, described by `manifest.json`.

    manifest.json        this file's structs; its sha256 names the bundle
    manifest.sig         its signature, if it is signed (see signature.py)
    <node>.onnx          one graph per node and per sensor
    golden/<node>.npy    what each of them puts out for a few rows of data while all are alive
    whole.onnx           the network as one graph, and
    weights.safetensors  the trained weights: for `fogguard check`, never sent to a device

`export` writes bundles; a device reads the manifest and its own graph.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from broker.errors import FailureFound, FogError
from broker.frame import HEADER_BYTES, Dtype, Layout
from edge_agent.signature import require_signed

SCHEMA_VERSION: Final = 3
MANIFEST: Final = "manifest.json"
ID_BYTES: Final = 8
MAX_MANIFEST_BYTES: Final = 16 << 20
_JSON_BYTES, _OVERHEAD_BYTES = (
    64 << 10,
    1 << 10,
)  # metrics and answers; topic and properties


class BundleError(FogError):
    """There is no bundle here that this version can read."""


class BundleDamaged(FailureFound):
    """The bundle is not what its manifest says."""


class Hyperconnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An edge of the fog: to the next node (simple), or past one or more nodes (skip)."""

    source: str
    target: str
    kind: Literal["simple", "skip"]


class GraphEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ONNX graph: its file, its inputs with their shapes, and the layout of its output, no batch counted.

    An int8 output counts in units of `scale`; the graphs round and scale, an agent passes on what they put out.
    """

    file: str
    golden: str
    inputs: dict[str, tuple[int, ...]]
    shape: tuple[int, ...]
    dtype: Dtype = "float32"
    scale: float = 1.0

    @property
    def layout(self) -> Layout:
        """What its output looks like."""
        return Layout(self.shape, self.dtype)


class DataEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows the network was trained and is measured on."""

    name: str
    sha256: str
    split: Literal["row", "group", "given"]
    split_seed: int
    rows: dict[str, int]


class AccuracyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Predicted accuracy for each node failure combination, on `n` test rows; bits as in `order`, 1 = alive.

    `unrounded` is what it would be if every vector travelled as float32; empty if every one does.
    """

    n: int
    chance: float
    per_mask: dict[str, float]
    unrounded: dict[str, float]


class ParityEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How closely torch, the whole graph and the composed parts agreed at export, over every mask."""

    rows: int
    masks: int
    tolerance: float
    labels_equal: int
    labels_compared: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle holds. Nodes and sensors stand in topological order; that is also their contributor bit.

    `variant` is a name for people, `options` what the network was built and trained with.
    """

    schema_version: int
    name: str
    variant: str
    options: dict[str, bool | int | float | str | None]
    seed: int
    spec: str
    sensors: dict[str, GraphEntry]
    nodes: dict[str, GraphEntry]
    hyperconnections: tuple[Hyperconnection, ...]
    sink: str
    order: tuple[str, ...]
    deadlines_ms: dict[str, float]
    settings: dict[str, dict[str, float]]
    labels: tuple[str, ...]
    prior: tuple[float, ...]
    data: DataEntry
    accuracy: AccuracyEntry
    parity: ParityEntry
    opset: int
    ir_version: int
    minimum_onnxruntime: str
    built_with: dict[str, str]
    files: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Sensors, then nodes: the order of the contributor bits."""
        return (*self.sensors, *self.nodes)

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """The sources of each node."""
        return {name: tuple(entry.inputs) for name, entry in self.nodes.items()}

    @property
    def message_bytes(self) -> int:
        """What the largest message of this fleet takes: a frame, or JSON with a score for each class."""
        vector_bytes = max(entry.layout.bytes for entry in (*self.sensors.values(), *self.nodes.values()))
        json_bytes = _JSON_BYTES + 32 * len(self.labels) + 256 * len(self.names)
        return _OVERHEAD_BYTES + max(HEADER_BYTES + vector_bytes, json_bytes)

    @property
    def wiring(self) -> str:
        """What bundles have in common that one agent can hold at once: who hears whom, and how large messages get."""
        fixed = (tuple(self.sensors), self.inputs, self.sink, self.message_bytes)
        return hashlib.sha256(msgspec.json.encode(fixed)).hexdigest()

    def entry(self, name: str) -> GraphEntry:
        """Return the graph of a node or sensor; raises BundleError if there is none of that name."""
        entry = self.nodes.get(name) or self.sensors.get(name)
        if entry is None:
            raise BundleError(f"bundle {self.name!r} has no node {name!r}: it has {', '.join(self.names)}")
        return entry

    def arriving(self, name: str) -> dict[str, Layout]:
        """Return the layout of each input of a node or sensor; a sensor's raw values are float32."""
        entry = self.entry(name)
        if name in self.sensors:
            return {source: Layout(shape) for source, shape in entry.inputs.items()}
        return {source: self.entry(source).layout for source in entry.inputs}

    def golden(self, names: Iterable[str]) -> dict[str, Layout]:
        """Return the files with the golden outputs of nodes and sensors, and what they look like."""
        entries = [self.entry(name) for name in names]
        return {entry.golden: entry.layout for entry in entries}

    def mask_key(self, alive: Iterable[str]) -> str:
        """Return a node failure combination as text, `1` for each node of `order` that is in `alive`."""
        up = frozenset(alive)
        return "".join("1" if node in up else "0" for node in self.order)


class _Version(msgspec.Struct):
    schema_version: int


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest has been read."""

    path: Path
    manifest: Manifest
    sha256: str

    @property
    def id(self) -> bytes:
        """The first bytes of the manifest's hash, which every frame carries."""
        return bytes.fromhex(self.sha256)[:ID_BYTES]

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files."""
        return self.path / name

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare the files (all by default) with their hashes; raises BundleDamaged at the first that differs."""
        for name in self.manifest.files if names is None else names:
            problem = file_problem(self.path, name, self.manifest.files)
            if problem:
                raise BundleDamaged(f"bundle {self.path}: {problem}; export it again, or copy it again")


def file_problem(folder: Path, name: str, files: Mapping[str, str]) -> str | None:
    """Return what is wrong with the file `name` of a bundle, or None."""
    if name not in files:
        return f"{name} is not in the manifest"
    path = folder / name
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    if found != files[name]:
        return f"{name} was changed (sha256 {found[:12]}…, the manifest says {files[name][:12]}…)"
    return None


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes, the same for the same content."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def load(path: Path, verify_key: bytes | None = None) -> Bundle:
    """Read the bundle in the folder `path`; raises BundleError if there is none or it is of another version.

    With `verify_key`, an Ed25519 public key, raises SignatureRefused unless the manifest is signed with it.
    """
    file = path / MANIFEST
    try:
        if file.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{file}: larger than any manifest ({MAX_MANIFEST_BYTES} bytes)")
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"no bundle at {path} ({error.strerror}: {MANIFEST}): make one with `fogguard export RUN --out {path}`"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if verify_key is not None:
        require_signed(path, sha256, verify_key)
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{file}: schema version {version}, this fogguard reads {SCHEMA_VERSION}: "
                "export the bundle again, or install the fogguard it was made with"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: not a manifest ({error})") from error
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{file}: {name!r} points outside the bundle")
    return Bundle(path, manifest, sha256)
