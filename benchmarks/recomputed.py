"""Does each node compute what its graph says? Vectors that were overheard, computed again on this machine."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.culprits import Judged
from broker.frame import Dtype, Frame
from edge_agent.agent import load_session
from edge_agent.answer import Answer, softmax
from edge_agent.bundle import Bundle
from edge_agent.session import Session

_ALLOWED: Final[dict[Dtype, float]] = {"float32": 1e-3, "float16": 5e-3, "int8": 1.5 / 127}
"""How far two processors may differ, as a share of the largest value; a byte may be rounded the other way."""
_ALLOWED_SCORE: Final = 1e-2


class Overheard:
    """The vectors and answers of some steps, by whom they are from."""

    def __init__(self) -> None:
        self.frames: dict[int, dict[str, Frame]] = {}
        self.answers: dict[int, Answer] = {}


def judge(bundle: Bundle, overheard: Overheard) -> dict[str, Judged]:
    """Return how each node's vectors, and the sink's scores, compare with what its graph makes of its sources'.

    Only where it says itself that it had all of them.
    """
    manifest = bundle.manifest
    bits = {name: 1 << position for position, name in enumerate(manifest.names)}
    found = {}
    for node, sources in manifest.inputs.items():
        session = load_session(bundle, node)
        errors, allowed = [], _ALLOWED[manifest.entry(node).dtype]
        for step, frames in overheard.frames.items():
            if any(source not in frames for source in sources):
                continue
            contributors = bits[node]
            for source in sources:
                contributors |= frames[source].contributors
            if node == manifest.sink:
                allowed = _ALLOWED_SCORE
                error = _of_answer(overheard.answers.get(step), session, [frames[each] for each in sources])
                if error is not None and _bits_of(overheard.answers[step], bits) == contributors:
                    errors.append(error)
            elif node in frames and frames[node].contributors == contributors and not frames[node].is_cut:
                errors.append(_of_vector(frames[node], session, [frames[each] for each in sources]))
        wrong = sum(error > allowed for error in errors)
        found[node] = Judged(n=len(errors), wrong=wrong, worst=max(errors, default=0.0))
    return found


def _bits_of(answer: Answer, bits: Mapping[str, int]) -> int:
    return sum(bits[name] for name in answer.contributors)


def _of_vector(frame: Frame, session: Session, sources: list[Frame]) -> float:
    if frame.values is None:
        return 1.0
    return _distance(_floats(frame.values), _floats(session.step([source.values for source in sources])))


def _of_answer(answer: Answer | None, session: Session, sources: list[Frame]) -> float | None:
    if answer is None or answer.guess or not answer.complete:
        return None
    return float(np.abs(np.asarray(answer.scores) - softmax(session.step([each.values for each in sources]))).max())


def _distance(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Return the largest difference as a share of the largest value; what is no number is all wrong."""
    error = np.abs(found - expected).max() / max(1e-6, np.abs(expected).max())
    return float(error) if np.isfinite(error) else 1.0


def _floats(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(values, np.float64)
