"""What the sink says about a step: a label, or a flagged random guess when no information came, or no numbers."""

import random
from collections.abc import Sequence

import msgspec
import numpy as np

from broker.frame import Vector
from edge_agent.session import Floats


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One message on the result topic.

    `contributors` are the nodes and sensors whose units are in the answer; `complete` says that no living node
    was cut off on the way; `expected_accuracy` is the predicted one for exactly these contributors. A guess that has
    contributors is one because what the sink made of them was not finite.
    """

    step: int
    label: int
    name: str
    scores: tuple[float, ...]
    contributors: tuple[str, ...]
    complete: bool
    guess: bool
    expected_accuracy: float | None
    bundle: str
    origin_ns: int


def softmax(logits: Vector) -> Floats:
    """Return the probabilities of one row of finite logits, (classes,) -> (classes,)."""
    shifted = np.exp(np.subtract(logits, logits.max(), dtype=np.float64))
    return np.asarray(shifted / shifted.sum(), np.float32)


def guess(step: int, prior: Sequence[float]) -> int:
    """Draw a label from the training class frequencies; the same step draws the same label everywhere."""
    return random.Random(step).choices(range(len(prior)), prior)[0]
