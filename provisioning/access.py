"""Who may write and read which topics: as little as the bundle's hyperconnections ask for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.mosquitto import ACL, CA, CERTIFICATE, CONFIG, KEY, Access, render_acl, render_secure
from broker.topics import Topics, require_name
from edge_agent.bundle import Manifest
from edge_agent.config import require_topic
from edge_agent.flow import ancestors
from provisioning.certificates import PkiError, fleet_of, load_certificate
from provisioning.pki import FEEDER, OBSERVER, OPERATOR, WATCHER, WITNESS, write_whole


def access_of(manifest: Manifest, fleet: str, heard: Mapping[str, str] | None = None) -> dict[str, Access]:
    """Return the rules of every client of a fleet that runs this bundle, by the name in its certificate.

    `heard` are the topics outside the fleet's own that sensors listen to; the feeder may write them.

    Raises FogError if a name could be read as more than a name, in a rule or a path.
    """
    for name in manifest.names:
        require_name(name, "node")
    topics = Topics(require_name(fleet, "fleet"))
    everything, every = topics.below("#"), "+"
    raw = heard or {}
    rules = {sensor: _sensor_access(topics, sensor, raw.get(sensor)) for sensor in manifest.sensors}
    rules.update({node: _node_access(manifest, topics, node) for node in manifest.nodes})
    rules[OPERATOR] = Access((topics.cmd(every),), (everything,))
    rules[WATCHER] = rules[WITNESS] = Access((), (everything,))
    rules[OBSERVER] = Access((), (topics.metrics(every),))
    sensed = tuple(map(topics.tensor, manifest.sensors))
    told = (topics.result, topics.status(every), topics.beat(every), topics.metrics(every))
    rules[FEEDER] = Access((topics.step, *sensed, *sorted(set(raw.values()))), told)
    return rules


def _sensor_access(topics: Topics, sensor: str, raw: str | None) -> Access:
    """A sensor hears which steps other sensors raise, and the topic that its samples come from if there is one."""
    own = (topics.status(sensor), topics.beat(sensor), topics.metrics(sensor), topics.reply(sensor))
    reads = (topics.step, topics.status(sensor), topics.beat(sensor), topics.cmd(sensor), *filter(None, [raw]))
    return Access((topics.tensor(sensor), topics.step, *own), reads)


def _node_access(manifest: Manifest, topics: Topics, node: str) -> Access:
    """A node hears its sources' vectors, and who among its ancestors lives; the sink, which steps there are."""
    is_sink = node == manifest.sink
    upstream = [each for each in manifest.names if each in ancestors(manifest.inputs, node)]
    outcome = topics.result if is_sink else topics.tensor(node)
    own = (topics.status(node), topics.beat(node), topics.metrics(node), topics.reply(node))
    reads = [*map(topics.tensor, manifest.inputs[node]), *([topics.step] if is_sink else [])]
    for each in upstream:
        reads += [topics.status(each), topics.beat(each)]
    return Access((outcome, *own), (*reads, topics.status(node), topics.beat(node), topics.cmd(node)))


def heard_of(words: Iterable[str], manifest: Manifest) -> dict[str, str]:
    """Return which topic each sensor in `SENSOR=TOPIC` words listens to; raises FogError."""
    found: dict[str, str] = {}
    for word in words:
        sensor, _, topic = word.partition("=")
        if sensor not in manifest.sensors:
            raise PkiError(f"--listen {word!r}: write SENSOR=TOPIC, the sensors are {', '.join(manifest.sensors)}")
        require_topic(topic, f"--listen {word}")
        found[sensor] = topic
    return found


def write_mosquitto(
    folder: Path, manifest: Manifest, pki: Path, host: str, port: int, heard: Mapping[str, str] | None = None
) -> str:
    """Write everything that mosquitto needs for this fleet into `folder`, and return the fleet's name.

    Raises PkiError if `pki` is not a folder that `fogguard pki init` made, for all of the bundle's names.
    """
    fleet = fleet_of(load_certificate(pki / CA))
    rules = access_of(manifest, fleet, heard)
    for name in rules:
        if not (pki / f"{name}.crt").exists():
            raise PkiError(f"{pki} holds no {name}.crt: make it with `fogguard pki init {pki} --bundle …`")
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in (CA, CERTIFICATE, KEY):
            write_whole(folder / name, (pki / name).read_bytes(), 0o600 if name == KEY else 0o644)
        write_whole(folder / ACL, render_acl(rules).encode(), 0o600)
        config = render_secure(host, port, manifest.message_bytes, folder.resolve())
        write_whole(folder / CONFIG, config.encode(), 0o644)
    except OSError as error:
        raise PkiError(f"{folder}: cannot be written ({error.strerror})") from error
    return fleet
