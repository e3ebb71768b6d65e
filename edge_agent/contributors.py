"""Whose units are in a step, and whether one is missing that its listeners could have had.

Every frame carries its contributors as bits, in the order of the manifest's names.
"""

from collections.abc import Sequence
from functools import lru_cache

from edge_agent.bundle import Manifest

_REMEMBERED = 256  # combinations: few occur, and they occur with every step


class Contributors:
    """The contributors of the steps of one node.

    Args:
        manifest: The fleet's.
        node: Whose steps they are.
        sources: The node's sources, in the order of its graph's inputs.
    """

    def __init__(self, manifest: Manifest, node: str, sources: Sequence[str]) -> None:
        self._manifest = manifest
        self._bits = {source: 1 << position for position, source in enumerate(manifest.names)}
        self._hears = {
            self._bits[node]: sum(self._bits[source] for source in sources) for node, sources in manifest.inputs.items()
        }
        self._own = self._bits[node]
        self._sources = [self._bits[source] for source in sources]
        self.join = lru_cache(_REMEMBERED)(self._join)
        self.describe = lru_cache(_REMEMBERED)(self._describe)

    def _join(self, parts: tuple[int | None, ...]) -> tuple[int, bool]:
        """Return the bits of all whose units are in a step, and whether a node did without one of them that it hears.

        That happens when a source is suspected, or too late, at one node only: its vector comes by another way.

        Args:
            parts: The contributors of each source's vector, None where there is none, in the order of the sources.
        """
        whole = 0 if all(part is None for part in parts) else self._own
        for part in parts:
            whole |= part or 0
        for source, part in zip(self._sources, parts, strict=True):
            if part is None:
                if whole & source:
                    return whole, True
            elif any(heard & whole & ~part for node, heard in self._hears.items() if node & part):
                return whole, True
        return whole, False

    def _describe(self, contributors: int) -> tuple[tuple[str, ...], float | None]:
        """Return the names behind the bits, and the accuracy that is predicted if no other node is alive."""
        names = tuple(name for name, bit in self._bits.items() if bit & contributors)
        return names, self._manifest.accuracy.per_mask.get(self._manifest.mask_key(names))
