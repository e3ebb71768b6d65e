"""Steps sent to a fleet or to the bare relay, with as little else as there can be, and the time until their answers."""

import contextlib
import time
from collections.abc import Callable, Mapping
from itertools import count
from math import inf
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from benchmarks.floor import STEP
from broker.errors import FailureFound
from broker.frame import Frame, Vector, encode
from broker.link import Link
from broker.tls import Tls
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.answer import Answer
from edge_agent.bundle import Bundle

_LOST_S: Final = 5.0
_DRAIN_S: Final = 2.0
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


class Fed(NamedTuple):
    """One answered step: when it was due, had been sent, and was answered, on this machine's monotonic clock."""

    step: int
    due_ns: int
    sent_ns: int
    answered_ns: int

    @property
    def ms(self) -> float:
        """How long it took from when it was due."""
        return (self.answered_ns - self.due_ns) / 1e6


class Offered(NamedTuple):
    """What became of steps that were due at a steady rate: the answered ones, how many were lost, how long it took."""

    fed: list[Fed]
    lost: int
    seconds: float


class Probe:
    """Feeds steps and takes their answers, with as little else as there can be.

    Args:
        broker: Where the fleet is.
        name: The client's.
        wire: How it speaks.
        tls: The feeder's certificate.
    """

    def __init__(self, broker: BrokerUrl, name: str, wire: Wire, tls: Tls | None = None) -> None:
        self._wire = wire
        # A new range for each probe, and none of a live sensor's (edge_agent/pace.py).
        self._steps = count((time.time_ns() // 1_000_000 & 0xFFFFFFFF) << 32)
        self._answered_ns: dict[int, int] = {}
        self._link = Link(
            broker, name, subscriptions=[(wire.answers, 0)], on_message=self._on_message, keepalive_s=_QUIET_S, tls=tls
        )

    def __enter__(self) -> "Probe":
        self._link.connect()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._link.__exit__(*exception)

    def round(self, steps: int, window: int) -> Round:
        """Time `steps` steps one by one, then as many with `window` of them under way; raises StepLost."""
        times_ms = [fed.ms for fed in self.one_by_one(steps)]
        self._answered_ns.clear()
        begun_s = time.perf_counter()
        for sent in range(steps):
            self._poll_until(lambda sent=sent: sent - len(self._answered_ns) < window)  # type: ignore[misc]
            self._send()
        self._poll_until(lambda: len(self._answered_ns) == steps)
        return Round(times_ms, steps / (time.perf_counter() - begun_s))

    def one_by_one(self, steps: int, seconds: float = inf) -> list[Fed]:
        """Feed `steps` steps, fewer if it takes longer than `seconds`, each when the last is answered.

        Raises StepLost.
        """
        self._answered_ns.clear()
        fed: list[Fed] = []
        ends_ns = time.monotonic_ns() + seconds * 1e9
        while len(fed) < steps and time.monotonic_ns() < ends_ns:
            due_ns, step = time.monotonic_ns(), self._send()
            sent_ns = time.monotonic_ns()
            self._poll_until(lambda step=step: step in self._answered_ns)  # type: ignore[misc]
            fed.append(Fed(step, due_ns, sent_ns, self._answered_ns[step]))
        return fed

    def offered(self, rate: float, seconds: float) -> Offered:
        """Feed `rate` steps a second, one at the least, each when it is due whatever has become of the others.

        Who is late with sending is late with answering: times count from when a step was due. It takes until the last
        answer, or until one more step would be due.
        """
        self._answered_ns.clear()
        began_ns = time.monotonic_ns()
        sent: list[tuple[int, int, int]] = []
        for number in range(max(1, round(rate * seconds))):
            due_ns = began_ns + round(1e9 * number / rate)
            self._link.poll(0.0)
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                self._link.poll(left_ns / 1e9)
            step = self._send()
            sent.append((step, due_ns, time.monotonic_ns()))
        self._link.poll_until(lambda: len(self._answered_ns) >= len(sent), _DRAIN_S)
        answered = self._answered_ns
        fed = [Fed(*each, answered[each[0]]) for each in sent if each[0] in answered]
        last_ns = max((each.answered_ns for each in fed), default=time.monotonic_ns())
        took_s = max((last_ns - began_ns) / 1e9, len(sent) / rate)
        return Offered(fed, len(sent) - len(fed), took_s)

    def _send(self) -> int:
        step = next(self._steps)
        for topic, payload in self._wire.messages(step):
            self._link.publish(topic, payload)
        return step

    def _poll_until(self, condition: Callable[[], bool]) -> None:
        if not self._link.poll_until(condition, _LOST_S):
            raise StepLost(f"a step was not answered within {_LOST_S:.0f} s: is every node alive?")

    def _on_message(self, _topic: str, payload: bytes) -> None:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # no answer of the sink's
            self._answered_ns[self._wire.step_of(payload)] = time.monotonic_ns()
