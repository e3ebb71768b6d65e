"""The specification: `fog.toml`, parsed once into plain typed data.

    name = "health"

    [data]                      # which data set, and how it is split
    set = "mhealth"

    [sensors]                   # what feeds the fog: values per row
    iot = 12

    [nodes.cloud]               # one table per physical node; the one that feeds no other is the sink
    simple = ["f1"]             # hyperconnections from the nodes before it
    skip = ["f2"]               # hyperconnections past one or more nodes
    partition = { kind = "dense", layers = [250, 250] }

    [settings]                  # reliability settings: how often each node is up
    poor = { f1 = 0.98, f2 = 0.96, e1 = 0.92 }

Every node but the sink may fail. Their order in the file is the order of the bits of a node failure combination.
"""

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import tomli_w

from broker.errors import FogError
from broker.topics import require_name
from edge_agent.bundle import Hyperconnection
from edge_agent.flow import ancestors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_NAMES = 64  # contributor bits in a frame
RESERVED = "whole"
MAX_NUMBER = 1 << 31


class SpecError(FogError):
    """A specification that cannot be read, or that describes no fog."""


class Dense(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dense"):
    """A stack of fully connected layers with ReLU, of these widths."""

    layers: tuple[int, ...]


Partition = Dense
"""The kinds of partition: a tagged union, to which convolutions and others will be added."""


Split = Literal["row", "group", "given"]
"""Which rows train, validate and test: by row, by whole groups (subjects), or as the data set itself says."""


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data set, and how it is split."""

    set: str
    split: Split = "row"
    split_seed: int = 0


class TrainingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adam's settings.

    `class_weights` makes each class count the same in the loss, however rare; `draws` failure combinations are
    simulated for each row and step, where the variant leaves it open: many help where rows are few.
    """

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 0.001
    class_weights: bool = False
    draws: int = 1


class NodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One physical node: what it hears, and the layers it carries."""

    simple: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    partition: Partition
    deadline_ms: float | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    data: DataSpec
    sensors: dict[str, int]
    nodes: dict[str, NodeSpec]
    settings: dict[str, dict[str, float]] = {}
    training: TrainingSpec = TrainingSpec()
    deadline_ms: float = 100.0


@dataclass(frozen=True)
class Spec:
    """A checked specification; nodes stand in topological order.

    `order` names the nodes that may fail, as in the file; `text` is the file itself.
    """

    name: str
    data: DataSpec
    sensors: dict[str, int]
    nodes: dict[str, NodeSpec]
    order: tuple[str, ...]
    sink: str
    settings: dict[str, dict[str, float]]
    training: TrainingSpec
    deadline_ms: float
    text: str

    @cached_property
    def hyperconnections(self) -> tuple[Hyperconnection, ...]:
        """Every hyperconnection, simple before skip at each node."""
        joined: list[Hyperconnection] = []
        for target, node in self.nodes.items():
            joined += [Hyperconnection(source=source, target=target, kind="simple") for source in node.simple]
            joined += [Hyperconnection(source=source, target=target, kind="skip") for source in node.skip]
        return tuple(joined)

    def inputs(self, *, skips: bool = True) -> dict[str, tuple[str, ...]]:
        """Return the sources of each node in topological order, with or without its skips."""
        return {name: node.simple + (node.skip if skips else ()) for name, node in self.nodes.items()}

    def skips_past(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return, for each skip into a node, the simple inputs of that node that it goes past."""
        simple = {each: node.simple for each, node in self.nodes.items()}
        node = self.nodes[name]
        return {
            source: tuple(parent for parent in node.simple if source in ancestors(simple, parent))
            for source in node.skip
        }

    def deadlines_ms(self) -> dict[str, float]:
        """Return each node's deadline from a step's first arrival.

        A node's is its slowest source's and one hop's more, so that what a source sends when it is itself cut
        off still arrives in time.
        """
        deadlines: dict[str, float] = {}
        for name, node in self.nodes.items():
            slowest = max((deadlines.get(source, 0.0) for source in node.simple + node.skip), default=0.0)
            deadlines[name] = slowest + self.deadline_ms if node.deadline_ms is None else node.deadline_ms
        return deadlines


def load_spec(where: str) -> Spec:
    """Read the specification in the file `where`, or the built-in one of that name; raises SpecError."""
    path = Path(where)
    built_in = resources.files("export") / "specs" / f"{where}.toml"
    try:
        if path.is_file() or not re.fullmatch(r"[\w-]+", where):
            return parse_spec(path.read_text(encoding="utf-8"), where)
        if built_in.is_file():
            return parse_spec(built_in.read_text(encoding="utf-8"), where)
    except OSError as error:
        raise SpecError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{where}: not a text file ({error.reason} at byte {error.start})") from error
    raise SpecError(f"{where}: no such file, and no built-in specification: those are {', '.join(built_in_specs())}")


def built_in_specs() -> list[str]:
    """Return the names of the specifications that come with fogguard."""
    return sorted(file.name.removesuffix(".toml") for file in (resources.files("export") / "specs").iterdir())


def parse_spec(text: str, where: str = "specification") -> Spec:
    """Return the specification in TOML `text`; raises SpecError, whose sentence begins with `where`."""
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}: {error}") from error
    try:
        return _check(file, text)
    except FogError as error:
        raise SpecError(f"{where}: {error}") from error


def changed(
    spec: Spec,
    *,
    skips: Mapping[str, Sequence[str]] | None = None,
    split: Split | None = None,
    epochs: int | None = None,
) -> Spec:
    """Return the specification with other skips (sources per node), another split or other epochs."""
    file = tomllib.loads(spec.text)
    if skips is not None:
        for name, node in file["nodes"].items():
            node["skip"] = list(skips.get(name, ()))
    if split is not None:
        file["data"]["split"] = split
    if epochs is not None:
        file.setdefault("training", {})["epochs"] = epochs
    return parse_spec(tomli_w.dumps(file), spec.name)


def _check(file: _File, text: str) -> Spec:
    for name in (file.name, *file.sensors, *file.nodes):
        require_name(name, "name")
    if len(file.sensors) + len(file.nodes) > MAX_NAMES:
        raise SpecError(f"{len(file.sensors) + len(file.nodes)} sensors and nodes, at most {MAX_NAMES} fit in a frame")
    if both := sorted(file.sensors.keys() & file.nodes.keys()):
        raise SpecError(f"{both[0]} is both a sensor and a node: give one another name")
    if RESERVED in file.sensors or RESERVED in file.nodes:
        raise SpecError(f"{RESERVED!r} is what a bundle calls the graph of all nodes: choose another name")
    if not file.nodes:
        raise SpecError("no nodes: nothing would answer")
    _check_numbers(file)
    _check_sources(file)
    nodes = {name: file.nodes[name] for name in _topological(file)}
    sink = _sink(nodes)
    _check_reach(file, nodes, sink)
    _check_skips(nodes)
    order = tuple(name for name in file.nodes if name != sink)
    _check_settings(file, order)
    return Spec(
        file.name, file.data, file.sensors, nodes, order, sink, file.settings, file.training, file.deadline_ms, text
    )


def _check_numbers(file: _File) -> None:
    if not file.sensors:
        raise SpecError("no sensors: nothing would feed the nodes")
    for sensor, width in file.sensors.items():
        if width < 1:
            raise SpecError(f"sensor {sensor}: {width} values per row, at least 1 is needed")
    for name, node in file.nodes.items():
        if not node.partition.layers or min(node.partition.layers) < 1:
            raise SpecError(f"node {name}: layers {list(node.partition.layers)}: give one width or more, all positive")
        if node.deadline_ms is not None and not 0 < node.deadline_ms < math.inf:
            raise SpecError(f"node {name}: deadline_ms {node.deadline_ms} must be positive")
    training = file.training
    for value in (training.epochs, training.batch, training.draws, training.learning_rate, file.deadline_ms):
        if not 0 < value < MAX_NUMBER:
            raise SpecError("deadline_ms, epochs, batch, draws and learning_rate must be positive, and no wild number")
    if file.data.split_seed < 0:
        raise SpecError(f"split_seed {file.data.split_seed}: give 0 or more")


def _check_sources(file: _File) -> None:
    known = [*file.sensors, *file.nodes]
    for name, node in file.nodes.items():
        sources = node.simple + node.skip
        for source in sources:
            if source not in known:
                raise SpecError(f"node {name}: unknown source {source!r}: there are {', '.join(known)}")
        if twice := [source for source in dict.fromkeys(sources) if sources.count(source) > 1]:
            raise SpecError(f"node {name}: {twice[0]} is named twice among its sources")
        if not node.simple:
            raise SpecError(f"node {name}: no simple hyperconnection: name the node or sensor before it")


def _topological(file: _File) -> list[str]:
    """Order the nodes so that each stands after its sources; raises SpecError with the cycle if there is one."""
    ordered: list[str] = []
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in ordered or name in file.sensors:
            return
        if name in trail:
            raise SpecError(f"cycle: {' → '.join([*trail[trail.index(name) :], name])}")
        trail.append(name)
        for source in file.nodes[name].simple + file.nodes[name].skip:
            visit(source)
        trail.pop()
        ordered.append(name)

    for name in file.nodes:
        visit(name)
    return ordered


def _sink(nodes: dict[str, NodeSpec]) -> str:
    heard = {source for node in nodes.values() for source in node.simple + node.skip}
    sinks = [name for name in nodes if name not in heard]
    if len(sinks) > 1:
        raise SpecError(f"no single sink: {' and '.join(sinks)} feed no other node; only the one that answers may")
    return sinks[0]


def _check_reach(file: _File, nodes: dict[str, NodeSpec], sink: str) -> None:
    inputs = {name: node.simple + node.skip for name, node in nodes.items()}
    reaching = ancestors(inputs, sink)
    if idle := [sensor for sensor in file.sensors if sensor not in reaching]:
        raise SpecError(f"sensor {idle[0]} is unreachable: no node hears it")
    simple = {name: node.simple for name, node in nodes.items()}
    for name in nodes:
        if name != sink and name not in ancestors(simple, sink):
            raise SpecError(f"node {name} is unreachable: no simple hyperconnections lead from it to {sink}")


def _check_skips(nodes: dict[str, NodeSpec]) -> None:
    simple = {name: node.simple for name, node in nodes.items()}
    for name, node in nodes.items():
        past = {source for parent in node.simple for source in ancestors(simple, parent)}
        for source in node.skip:
            if source not in past:
                raise SpecError(
                    f"skip {source} → {name} skips nothing: simple hyperconnections must lead from {source} "
                    f"to {name} past at least one node"
                )


def _check_settings(file: _File, order: Iterable[str]) -> None:
    for setting, reliability in file.settings.items():
        if missing := [name for name in order if name not in reliability]:
            raise SpecError(f"setting {setting}: no reliability for {', '.join(missing)}")
        if unknown := [name for name in reliability if name not in order]:
            raise SpecError(f"setting {setting}: {unknown[0]} is no node that can fail")
        for name, value in reliability.items():
            if not 0 <= value <= 1:
                raise SpecError(f"setting {setting}: {name} = {value} is no probability")
