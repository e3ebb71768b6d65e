"""Does each node compute what its graph says? Vectors that were overheard, computed again on this machine."""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.culprits import Judged
from broker.frame import Dtype, Frame, Vector
from edge_agent.answer import Answer, softmax
from edge_agent.bundle import Bundle, Manifest
from edge_agent.finite import is_finite
from edge_agent.loading import load_session
from edge_agent.session import Session

_ALLOWED: Final[dict[Dtype, float]] = {"float32": 1e-3, "float16": 5e-3, "int8": 1.5 / 127}
"""How far two processors may differ, as a share of the largest value; a byte may be rounded the other way."""
_ALLOWED_SCORE: Final = 1e-2


class Overheard:
    """The vectors and answers of some steps, by whom they are from; of each the first, as their receivers have it."""

    def __init__(self) -> None:
        self.frames: dict[int, dict[str, Frame]] = {}
        self.answers: dict[int, Answer] = {}

    def answered(self, sensors: Collection[str]) -> int:
        """Return how many steps were heard from their sensors' vectors to their answers."""
        return sum(all(sensor in self.frames.get(step, ()) for sensor in sensors) for step in self.answers)


def sessions_of(bundle: Bundle) -> dict[str, Session]:
    """Load the graph of each node, to compute again here what it computed; raises as `load_session`."""
    return {node: load_session(bundle, node) for node in bundle.manifest.nodes}


def judge(
    manifest: Manifest, sessions: Mapping[str, Session], overheard: Overheard, dead: frozenset[str] = frozenset()
) -> dict[str, Judged]:
    """Return how each node's vectors, and the sink's scores, compare with what its graph makes of its sources'.

    Only where it says itself that it had all of them, but for those that were `dead` and said nothing.
    """
    bits = {name: 1 << position for position, name in enumerate(manifest.names)}
    found = {}
    for node, sources in manifest.inputs.items():
        session, errors, allowed = sessions[node], [], _ALLOWED[manifest.entry(node).dtype]
        for step, frames in overheard.frames.items():
            silent = {source for source in sources if source not in frames}
            if not silent <= dead or (silent and not frames.keys() >= manifest.sensors.keys()):
                continue  # it may have spoken before anybody listened
            heard = [frames.get(source) for source in sources]
            values = [frame and frame.values for frame in heard]
            contributors = bits[node]
            for frame in heard:
                contributors |= frame.contributors if frame else 0
            if node == manifest.sink:
                allowed = _ALLOWED_SCORE
                answer = overheard.answers.get(step)
                if answer is not None and answer.complete and _bits_of(answer, bits) == contributors:
                    errors.append(_of_answer(answer, session, values))
            elif node in frames and frames[node].contributors == contributors and not frames[node].is_cut:
                errors.append(_of_vector(frames[node], session, values))
        wrong = sum(error > allowed for error in errors)
        found[node] = Judged(n=len(errors), wrong=wrong, worst=max(errors, default=0.0))
    return found


def _bits_of(answer: Answer, bits: Mapping[str, int]) -> int:
    return sum(bits[name] for name in answer.contributors)


def _of_vector(frame: Frame, session: Session, values: list[Vector | None]) -> float:
    if frame.values is None:
        return 1.0
    return _distance(_floats(frame.values), _floats(session.step(values)))


def _of_answer(answer: Answer, session: Session, values: list[Vector | None]) -> float:
    logits = session.step(values)
    if answer.guess or not is_finite(logits):  # what the sink made of these was not finite, or should not have been
        return 1.0
    return float(np.abs(np.asarray(answer.scores) - softmax(logits)).max())


def _distance(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Return the largest difference as a share of the largest value; what is no number is all wrong."""
    error = np.abs(found - expected).max() / max(1e-6, np.abs(expected).max())
    return float(error) if np.isfinite(error) else 1.0


def _floats(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(values, np.float64)
