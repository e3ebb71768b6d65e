"""What a device is told: its own file, written by whoever sets it up."""

from pathlib import Path

import msgspec

from broker.beat import MAX_INTERVAL_MS
from broker.errors import FogError
from broker.presence import MISSED
from broker.tls import Tls
from broker.topics import require_name
from broker.url import BrokerUrl, parse_url


class ConfigError(FogError):
    """The agent's configuration file is missing or wrong."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The device's own file, JSON: which node of which bundle, and which broker, or several in the order of choice.

    With `tls` it shows the broker its certificate, the same to each of several; with `verify_key` (a file, PEM) it
    takes only a bundle that is signed with that key. On SIGHUP the agent looks again which bundle lies in `bundle`, and
    which one in `next`, if there is such a folder, to be held beside it.
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
    return config


def brokers_of(config: Config) -> list[BrokerUrl]:
    """Return the brokers, the first of choice first; raises UrlError."""
    return [parse_url(each) for each in ([config.broker] if isinstance(config.broker, str) else config.broker)]
