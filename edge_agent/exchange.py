"""Exchange what an agent runs without ending it: on SIGHUP it looks again which bundles it is to have.

    what lies at `bundle` is run, what lies at `next` is held beside it, the rest is dropped: see generations.py

So whoever exchanges the bundle of a fleet lets all agents hold the next one, and only then lets them run it; a link
that is moved is all that either takes, and an agent that is started anew in between does what the links say. New
bundles are read, verified and warmed up in a thread of their own: the agent serves and beats meanwhile. If anything is
wrong with one, nothing changes, and `refusal` tells what.
"""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from broker.errors import FogError
from edge_agent.bundle import Bundle, BundleError, load
from edge_agent.config import Config
from edge_agent.generations import Generations
from edge_agent.node import Node
from edge_agent.session import first_line
from edge_agent.signature import load_public_key

_log = logging.getLogger("fogguard.exchange")


class _Found(NamedTuple):
    """The bundles to have, the one to run first, and the nodes of those that were not held."""

    wanted: tuple[bytes, ...]
    nodes: dict[bytes, Node]


def load_current(config: Config) -> Bundle:
    """Return the bundle to run, from where its links lead now; raises FogError."""
    return _load(config, config.bundle)


def _load(config: Config, path: str) -> Bundle:
    verify_key = load_public_key(Path(config.verify_key)) if config.verify_key else None
    # Where a link leads now: manifest and graph are of one bundle though it moves. What is not there keeps its name.
    return load(Path(path).resolve() if _is_there(path) else Path(path), verify_key)


def _is_there(path: str) -> bool:
    """Whether there is such a folder; if nobody can tell, to read it will say why."""
    try:
        return bool(path) and bool(Path(path).stat())
    except FileNotFoundError:
        return False
    except OSError:
        return True


class Exchange:
    """Brings an agent the bundles that its configuration says.

    Args:
        config: Where they lie.
        wiring: What they must have in common with what the agent has subscribed to.
        held: What is changed; by the thread that calls `poll` alone.
        node_of: Loads and warms up the node of a bundle; called in another thread.
    """

    def __init__(self, config: Config, wiring: str, held: Generations[Node], node_of: Callable[[Bundle], Node]) -> None:
        self.refusal = ""
        self.looks = 0
        """How often it has looked: who asked can tell that the answer is to that."""
        self._config = config
        self._wiring = wiring
        self._held = held
        self._node_of = node_of
        self._is_asked = _is_there(config.next)
        self._found: Future[_Found] | None = None

    def ask(self) -> None:
        """Look again what the agent is to have."""
        self._is_asked = True

    def drop(self, now_ns: int) -> bool:
        """Drop what nobody needs any more, but nothing while it looks; return whether there was anything."""
        return self._found is None and self._held.drop(now_ns)

    def poll(self, now_ns: int) -> bool:
        """Take over what was loaded meanwhile; return whether a look is over."""
        if self._found is not None and self._found.done():
            found, self._found = self._found, None
            self._take(found, now_ns)
            return True
        if self._is_asked and self._found is None:
            self._is_asked = False
            pool = ThreadPoolExecutor(1, thread_name_prefix="bundle")
            self._found = pool.submit(self._look, frozenset((self._held.bundle, *self._held.beside)))
            pool.shutdown(wait=False)
        return False

    def _take(self, loaded: "Future[_Found]", now_ns: int) -> None:
        self.looks += 1
        try:
            found = loaded.result()
        except Exception as error:  # noqa: BLE001, what a graph or its memory raises is no reason to end what works
            self.refusal = str(error) if isinstance(error, FogError) else f"cannot be loaded: {first_line(error)}"
            _log.warning("goes on with bundle %s: %s", self._held.bundle.hex(), self.refusal)
            return
        self.refusal = ""
        for bundle, node in found.nodes.items():
            self._held.hold(bundle, node)
        self._held.run(found.wanted[0])
        self._held.keep(found.wanted, now_ns)
        _log.info("runs bundle %s beside %s", self._held.bundle.hex(), [each.hex() for each in self._held.beside])

    def _look(self, held: Collection[bytes]) -> _Found:
        paths = [self._config.bundle]
        if _is_there(self._config.next):
            paths.append(self._config.next)
        bundles = {bundle.id: bundle for bundle in (_load(self._config, path) for path in paths)}
        for bundle in bundles.values():
            if bundle.manifest.wiring != self._wiring:
                raise BundleError(f"bundle {bundle.path} has other nodes or hyperconnections: restart the agent for it")
        new = {id_: self._node_of(bundle) for id_, bundle in bundles.items() if id_ not in held}
        return _Found(tuple(bundles), new)
