"""A local fleet: one agent process per node of a bundle, on this machine."""

import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from broker.errors import FailureFound
from broker.process import spawn, stop
from broker.url import BrokerUrl
from edge_agent.bundle import Bundle
from edge_agent.config import Config


class AgentDied(FailureFound):
    """An agent ended though nobody told it to."""


class LocalFleet:
    """Starts, kills, freezes and stops agents; none is left when the block ends.

    Args:
        bundle: What they run.
        brokers: Where they meet; when the first dies, the next.
        fleet: The fleet's name, which begins its topics.
        folder: Takes their configurations, logs and states.
        keepalive_s: After 1.5 times this silence the broker publishes an agent's last will.
    """

    def __init__(
        self, bundle: Bundle, brokers: Sequence[BrokerUrl], fleet: str, folder: Path, keepalive_s: int = 2
    ) -> None:
        self._bundle = bundle
        self._brokers = tuple(map(str, brokers))
        self._fleet = fleet
        self._folder = folder
        self._keepalive_s = keepalive_s
        self._agents: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "LocalFleet":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for agent in self._agents.values():
            if agent.poll() is None:
                agent.terminate()
        for agent in self._agents.values():
            stop(agent)

    @property
    def pids(self) -> dict[str, int]:
        """The process of each agent that was started and not killed."""
        return {node: agent.pid for node, agent in self._agents.items()}

    def start(self, nodes: Iterable[str]) -> None:
        """Start an agent for each of `nodes`; returns at once, their births tell when they are ready."""
        for node in nodes:
            links = self._folder / f"{node}.links"
            if not links.exists():
                links.mkdir()
                (links / "current").symlink_to(self._bundle.path.resolve())
            config = Config(
                node=node,
                bundle=str(links / "current"),
                next=str(links / "next"),
                broker=self._brokers,
                fleet=self._fleet,
                state=str(self._folder / "state"),
                keepalive_s=self._keepalive_s,
            )
            file = self._folder / f"{node}.json"
            file.write_bytes(msgspec.json.encode(config))
            command = [sys.executable, "-m", "edge_agent.command", "--config", str(file)]
            self._agents[node] = spawn(command, log=self._log(node), folder=self._folder)

    def kill(self, nodes: Iterable[str]) -> None:
        """SIGKILL the agents of `nodes`, as if each had been unplugged; waits for none of them to say farewell."""
        dying = [self._agents.pop(node) for node in nodes]
        for agent in dying:
            agent.kill()
        for agent in dying:
            agent.wait()

    def stop(self, nodes: Iterable[str]) -> None:
        """SIGTERM the agents of `nodes` and wait until each has said farewell."""
        leaving = [self._agents.pop(node) for node in nodes]
        for agent in leaving:
            agent.terminate()
        for agent in leaving:
            stop(agent)

    def freeze(self, nodes: Iterable[str]) -> None:
        """SIGSTOP the agents of `nodes`: they fall silent, and their connections stay."""
        for node in nodes:
            self._agents[node].send_signal(signal.SIGSTOP)

    def thaw(self, nodes: Iterable[str]) -> None:
        """Let frozen agents go on."""
        for node in nodes:
            self._agents[node].send_signal(signal.SIGCONT)

    def prepare(self, bundle: Bundle) -> None:
        """Let all agents hold another bundle beside the one that they run; their statuses tell when they do."""
        for node in self._agents:
            links = self._folder / f"{node}.links"
            (links / ".next").symlink_to(bundle.path.resolve())
            (links / ".next").rename(links / "next")
        self._signal(signal.SIGHUP)

    def abandon(self) -> None:
        """Let all agents hold nothing but what they run."""
        for node in self._agents:
            (self._folder / f"{node}.links" / "next").unlink(missing_ok=True)
        self._signal(signal.SIGHUP)

    def commit(self) -> None:
        """Let all agents run what they hold beside; their statuses tell when they do."""
        for node in self._agents:
            links = self._folder / f"{node}.links"
            (links / "next").rename(links / "current")
        self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        for agent in self._agents.values():
            agent.send_signal(number)

    def require_running(self) -> None:
        """Raise AgentDied if an agent ended by itself, with the last lines of its log."""
        for node, agent in self._agents.items():
            if agent.poll() is not None:
                lines = self._log(node).read_text(errors="replace").strip().splitlines()[-3:]
                raise AgentDied(f"agent {node} ended with code {agent.returncode}: {' | '.join(lines)}")

    def _log(self, node: str) -> Path:
        return self._folder / f"{node}.log"
