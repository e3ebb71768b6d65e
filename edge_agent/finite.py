"""What a partition makes of the vectors that came, and of those that are not numbers all through.

A broken memory or an overflow makes a value NaN or infinite, and that makes nearly all that the next layer puts out so,
in this node or the next. To save time it is looked for only in what comes out: the sink looks at all of its logits,
other nodes at their first value.
"""

import math

import numpy as np

from broker.frame import Frame, Vector
from edge_agent.session import Session

Frames = tuple[Frame | None, ...]


def is_finite(vector: Vector) -> bool:
    """Whether no value is NaN or infinite; in half the time that `.all()` takes."""
    return b"\0" not in np.isfinite(vector).tobytes()


def compute(session: Session, frames: Frames, *, is_sink: bool) -> tuple[Frames, Vector | None]:
    """Return the frames that were used, and what the partition makes of them; Φ if there is no vector among them.

    If that is not finite, it is computed again without the vectors that are not; Φ if it is no better then.
    """
    output = _step(session, frames)
    if output is None or (is_finite(output) if is_sink else math.isfinite(output.item(0))):
        return frames, output
    used = tuple(map(_without_what_is_not_finite, frames))
    output = _step(session, used)
    return used, output if output is not None and is_finite(output) else None


def _step(session: Session, frames: Frames) -> Vector | None:
    values = [None if frame is None else frame.values for frame in frames]
    return None if all(value is None for value in values) else session.step(values)


def _without_what_is_not_finite(frame: Frame | None) -> Frame | None:
    if frame is None or frame.values is None or is_finite(frame.values):
        return frame
    return frame._replace(values=None)
