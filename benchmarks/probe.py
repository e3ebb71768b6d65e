"""Steps sent to a fleet or to the bare relay, with as little else as there can be, and the time until their answers."""

import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from benchmarks.floor import STEP
from broker.errors import FailureFound
from broker.frame import Frame, Vector, encode
from broker.link import Link
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.answer import Answer
from edge_agent.bundle import Bundle

_LOST_S: Final = 5.0
_QUIET_S: Final = 600  # nobody drives a probe's link while others have their turn
_decode_answer = msgspec.json.Decoder(Answer).decode


class StepLost(FailureFound):
    """No answer came though everybody is alive."""


class Wire(Protocol):
    """How steps are sent and answers read."""

    answers: str

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return topics and payloads of one step."""

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""


class AgentWire:
    """Frames, as the fleet speaks."""

    def __init__(self, fleet: str, bundle: Bundle, sensed: Mapping[str, Vector]) -> None:
        self._topics = Topics(fleet)
        self._bundle = bundle
        self._sensed = sensed
        self.answers = self._topics.result

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return the announcement of the step and one frame per sensor."""
        head = (step, 1, self._bundle.id)
        sent = [(self._topics.step, encode(Frame(*head, None)))]
        for bit, (name, rows) in enumerate(self._sensed.items()):
            sent.append((self._topics.tensor(name), encode(Frame(*head, rows[step % len(rows)], 1 << bit))))
        return sent

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""
        return _decode_answer(payload).step


class FloorWire:
    """The step's number and raw floats."""

    def __init__(self, topic: str, bundle: Bundle, sensed: Mapping[str, Vector]) -> None:
        self._topic = topic
        self._sensed = sensed
        self.answers = topic + bundle.manifest.sink

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return one payload per sensor."""
        return [
            (self._topic + name, STEP.pack(step) + rows[step % len(rows)].tobytes())
            for name, rows in self._sensed.items()
        ]

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""
        found: int = STEP.unpack_from(payload)[0]
        return found


class Round(NamedTuple):
    """One round's figures: milliseconds of each step that was alone under way, and steps a second of many."""

    times_ms: list[float]
    steps_per_s: float


class Probe:
    """Feeds steps and takes their answers, with as little else as there can be."""

    def __init__(self, broker: BrokerUrl, name: str, wire: Wire) -> None:
        self._wire = wire
        self._steps = count(time.time_ns())
        self._answered_ns: dict[int, int] = {}
        self._link = Link(
            broker, name, subscriptions=[(wire.answers, 0)], on_message=self._on_message, keepalive_s=_QUIET_S
        )

    def __enter__(self) -> "Probe":
        self._link.connect()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._link.__exit__(*exception)

    def round(self, steps: int, window: int) -> Round:
        """Time `steps` steps one by one, then as many with `window` of them under way; raises StepLost."""
        self._answered_ns.clear()
        times_ms = []
        for _ in range(steps):
            begun_ns, step = time.perf_counter_ns(), self._send()
            self._poll_until(lambda step=step: step in self._answered_ns)  # type: ignore[misc]
            times_ms.append((self._answered_ns[step] - begun_ns) / 1e6)
        self._answered_ns.clear()
        begun_s = time.perf_counter()
        for sent in range(steps):
            self._poll_until(lambda sent=sent: sent - len(self._answered_ns) < window)  # type: ignore[misc]
            self._send()
        self._poll_until(lambda: len(self._answered_ns) == steps)
        return Round(times_ms, steps / (time.perf_counter() - begun_s))

    def _send(self) -> int:
        step = next(self._steps)
        for topic, payload in self._wire.messages(step):
            self._link.publish(topic, payload)
        return step

    def _poll_until(self, condition: Callable[[], bool]) -> None:
        if not self._link.poll_until(condition, _LOST_S):
            raise StepLost(f"a step was not answered within {_LOST_S:.0f} s: is every node alive?")

    def _on_message(self, _topic: str, payload: bytes) -> None:
        self._answered_ns[self._wire.step_of(payload)] = time.perf_counter_ns()
