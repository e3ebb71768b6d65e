"""What the sensors of a fleet would send: test rows, for whichever bundle the fleet runs."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from broker.frame import Frame, Vector, encode
from broker.topics import Topics
from edge_agent.bundle import Bundle, Manifest
from edge_agent.loading import load_session
from edge_agent.session import Floats


class _Fed(NamedTuple):
    """A bundle that may be fed, and what its sensors make of the raw values."""

    bundle: Bundle
    id: str
    sensed: dict[str, Vector]


class Feed:
    """Turns steps into messages.

    Args:
        fleet: The fleet's name.
        bundle: What it runs.
        raw: Per sensor, the (rows, width) raw values to feed, over and over, in an order of chance that is always the
            same: where a set holds class after class, what a short visit to a mask is fed is to be like the whole.
    """

    def __init__(self, fleet: str, bundle: Bundle, raw: Mapping[str, Floats]) -> None:
        self._topics = Topics(fleet)
        self._raw = raw
        self._known: dict[str, _Fed] = {}
        self.expect(bundle)
        self._now = self._known[bundle.id.hex()]
        self._rows = np.random.default_rng(0).permutation(len(next(iter(raw.values())))).tolist()

    def __contains__(self, bundle: str) -> bool:
        return bundle in self._known

    @property
    def bundle(self) -> str:
        """What is fed, by the hexadecimal digits of its id."""
        return self._now.id

    def expect(self, bundle: Bundle) -> None:
        """Be ready to feed this bundle too, of the same sensors."""
        sensed = {name: load_session(bundle, name).run([self._raw[name]]) for name in bundle.manifest.sensors}
        self._known[bundle.id.hex()] = _Fed(bundle, bundle.id.hex(), sensed)

    def go_over(self, bundle: str) -> None:
        """Feed that bundle from now on."""
        self._now = self._known[bundle]

    def manifest(self, bundle: str) -> Manifest:
        """Return the manifest of a bundle that is or was fed."""
        return self._known[bundle].bundle.manifest

    def row(self, step: int) -> int:
        """Return the row that a step carries."""
        return int(self._rows[step % len(self._rows)])

    def messages(self, step: int, epoch: int, sent_ns: int) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of what opens a step, and of each sensor's vector."""
        head = (step, epoch, self._now.bundle.id)
        yield self._topics.step, encode(Frame(*head, None, 0, sent_ns))
        row = self.row(step)
        for bit, name in enumerate(self._now.bundle.manifest.sensors):
            yield self._topics.tensor(name), encode(Frame(*head, self._now.sensed[name][row], 1 << bit, sent_ns))
