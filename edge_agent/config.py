"""What a device is told: its own file, written by whoever sets it up."""

import re
from pathlib import Path
from typing import Final

import msgspec

from broker.beat import MAX_INTERVAL_MS
from broker.errors import FogError
from broker.presence import MISSED
from broker.tls import Tls
from broker.topics import require_name
from broker.url import BrokerUrl, parse_url
from edge_agent.provider import Provider, known_names, provider_of
from edge_agent.sample import Options

_TOPIC: Final = re.compile(r"[^\s\0+#$][^\s\0+#]{0,254}")
_MAX_RATE: Final = 1000.0


class ConfigError(FogError):
    """The agent's configuration file is missing or wrong."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Where a sensor's samples come from: a kind of `edge_agent.sources`, and its options.

    `rate` is how many steps a second it raises, 0 for one with each sample as it comes. An option `topic` names an MQTT
    topic outside the fleet's own: the sensor reads it, and the source gets what comes there.
    """

    kind: str
    rate: float | None = None
    options: Options = {}

    @property
    def topic(self) -> str:
        """The topic that this source listens to, if it does."""
        return str(self.options.get("topic", ""))


def require_source(source: Source, where: str) -> None:
    """Raise ConfigError if a rate or a topic cannot be what a source says."""
    if source.rate is not None and not 0 <= source.rate <= _MAX_RATE:
        raise ConfigError(f"{where}: rate {source.rate} does not lie between 0 and {_MAX_RATE:.0f} steps a second")
    if "topic" in source.options:
        require_topic(source.topic, where)


def require_provider(setting: str | Provider, where: str) -> None:
    """Raise ConfigError unless this can be a provider's name."""
    provider = provider_of(setting)
    if not provider.is_known:
        raise ConfigError(f"{where}: there is no provider {provider.name!r}: write {known_names()}")


def require_topic(topic: str, where: str) -> None:
    """Raise ConfigError unless this is one topic, outside every fleet's own, that cannot be more in an access rule."""
    if not _TOPIC.fullmatch(topic) or topic.startswith("fog/"):
        raise ConfigError(
            f"{where}: topic {topic!r}: write one topic without spaces, '+' and '#', that does not begin with "
            "'$' or 'fog/'"
        )


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The device's own file, JSON: which node of which bundle, and which broker, or several in the order of choice.

    With `tls` it shows the broker its certificate, the same to each of several; with `verify_key` (a file, PEM) it
    takes only a bundle that is signed with that key. `node` may be a sensor's name; then `source` feeds it. `provider`
    computes its graph.

    On SIGHUP the agent of a node looks again which bundle lies in `bundle`, and which one in `next`, if there is such a
    folder, to be held beside it.
    """

    node: str
    bundle: str
    broker: str | tuple[str, ...]
    fleet: str
    state: str
    keepalive_s: int = 2
    threads: int = 1
    beat_ms: int = 50
    missed_beats: int = MISSED
    tls: Tls | None = None
    verify_key: str = ""
    next: str = ""
    source: Source | None = None
    provider: str | Provider = "cpu"


def load_config(file: Path) -> Config:
    """Read and check `file`; raises ConfigError."""
    try:
        config = msgspec.json.decode(file.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}") from error
    require_name(config.fleet, f"{file}: fleet")
    require_name(config.node, f"{file}: node")
    if not 1 <= config.keepalive_s <= 3600 or config.threads < 1:
        raise ConfigError(f"{file}: keepalive_s lies between 1 and 3600, threads is at least 1")
    if not config.broker:
        raise ConfigError(f"{file}: broker names none: write mqtt://HOST:PORT")
    if not 5 <= config.beat_ms <= MAX_INTERVAL_MS or not 1 <= config.missed_beats <= 1000:
        raise ConfigError(f"{file}: beat_ms lies between 5 and {MAX_INTERVAL_MS}, missed_beats between 1 and 1000")
    if config.source:
        require_source(config.source, f"{file}: source")
    require_provider(config.provider, f"{file}: provider")
    return config


def brokers_of(config: Config) -> list[BrokerUrl]:
    """Return the brokers, the first of choice first; raises UrlError."""
    return [parse_url(each) for each in ([config.broker] if isinstance(config.broker, str) else config.broker)]
