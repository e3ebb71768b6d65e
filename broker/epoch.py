"""Which of two lives of a node is the later one: epochs stand on a ring, and the half ahead of one is later.

So there is always a next epoch, whatever anybody claims: a number made up by somebody else bars nobody for ever. The
ring has an odd number of places, so that of any two epochs exactly one is the later.
"""

from typing import Final

_RING: Final = (1 << 53) - 1
MAX_EPOCH: Final = _RING - 1
"""After it comes 0. Every reader of JSON keeps it exact, and a frame holds it."""


def is_later(epoch: int, than: int) -> bool:
    """Whether `epoch` is of a later life."""
    return 0 < (epoch - than) % _RING <= _RING // 2


def following(epoch: int) -> int:
    """Return the epoch after this one."""
    return (epoch + 1) % _RING
