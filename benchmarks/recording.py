"""What was fed to a fleet and what came back, step by step; plain data, written by the driver."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class StepRecord:
    """One step: which test row it carried, when it was sent, and what came back.

    `label` is None until there is an answer, and GUESS where it was the random guess that the step draws. `bundle` is
    what the step was fed for, `answered_by` what answered.
    """

    row: int
    sent_ns: int
    answered_ns: int = 0
    label: int | None = None
    complete: bool = False
    contributors: frozenset[str] = frozenset()
    bundle: str = ""
    answered_by: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether an answer came."""
        return self.label is not None

    @property
    def latency_ms(self) -> float:
        """From the sensor's publish to the answer, on one clock."""
        return (self.answered_ns - self.sent_ns) / 1e6


@dataclass
class Phase:
    """A stretch with one node failure combination.

    Attributes:
        name: For people.
        alive: The nodes that can fail and have not.
        transition: Steps under way when the combination changed, or sent before the fleet had settled on it.
        steady: Steps sent after that; each must be answered as predicted.
        sensed_ms: For each node killed at its beginning, how long until the sink's view showed it.
    """

    name: str
    alive: frozenset[str]
    began_ns: int
    transition: list[StepRecord] = field(default_factory=list)
    steady: list[StepRecord] = field(default_factory=list)
    sensed_ms: dict[str, float] = field(default_factory=dict)
