"""Load what an agent runs: the graph of its node, for what is to compute it."""

from pathlib import Path

from edge_agent.bundle import Bundle, Manifest
from edge_agent.config import Config, ConfigError
from edge_agent.provider import CPU, Provider, provider_of
from edge_agent.session import Session


def load_session(
    bundle: Bundle, node: str, threads: int = 1, provider: Provider = CPU, cache: Path | None = None
) -> Session:
    """Load the graph of `node`, its hash checked first; raises BundleError, BundleDamaged or SessionError."""
    entry = bundle.manifest.entry(node)
    bundle.verify([entry.file])
    return Session(bundle.file(entry.file), bundle.manifest.arriving(node), entry.layout, threads, provider, cache)


def configured_session(config: Config, bundle: Bundle) -> Session:
    """Load the graph of the agent's node, for what is to compute it; raises as `load_session`."""
    provider = provider_of(config.provider)
    return load_session(bundle, config.node, config.threads, provider, compiled_folder(config, bundle))


def compiled_folder(config: Config, bundle: Bundle) -> Path | None:
    """Return where the provider keeps what it makes of the node's graph, if it makes anything."""
    graph = bundle.manifest.files[bundle.manifest.entry(config.node).file]
    return Path(config.state) / "engines" / graph[:16] if provider_of(config.provider).compiles else None


def require_member(config: Config, manifest: Manifest) -> None:
    """Raise ConfigError unless the bundle has such a node, or such a sensor and the configuration a source for it."""
    if config.node not in manifest.names:
        raise ConfigError(f"node {config.node!r} is not in bundle {config.bundle}: it has {', '.join(manifest.names)}")
    if config.node in manifest.sensors and config.source is None:
        raise ConfigError(f"{config.node} is a sensor: say where its samples come from, `source` in its configuration")
    if config.node in manifest.nodes and config.source is not None:
        raise ConfigError(
            f"{config.node} is a node, and `source` is for a sensor ({', '.join(manifest.sensors)}): "
            "run another agent for that one"
        )
