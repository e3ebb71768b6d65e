"""The demo: a fleet on this machine, unplugged node by node while samples flow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.fleet import Trial, running_trial
from benchmarks.phases import PhaseReport
from broker.errors import FailureFound
from edge_agent.bundle import Bundle

MINIMUM_STEPS = 200
EMULATED = "every node is a process on this machine and the network is loopback; unplugging is SIGKILL"


class Act(NamedTuple):
    """One phase of the demo: who is killed or started at its beginning."""

    name: str
    killed: tuple[str, ...] = ()
    started: tuple[str, ...] = ()


ACTS: Sequence[Act] = (
    Act("all alive"),
    Act("f1 dead", killed=("f1",)),
    Act("f1 back", started=("f1",)),
    Act("two dead", killed=("f1", "e1")),
    Act("all dead", killed=("f2",)),
    Act("all back", started=("f1", "f2", "e1")),
)


class NotAsPredicted(FailureFound):
    """A running fleet lost a step or answered otherwise than the bundle predicts."""

    def __init__(self, bad: Sequence[PhaseReport]) -> None:
        details = "; ".join(
            f"{each.name}: {each.labels_compared - each.labels_equal} of {each.labels_compared} labels differ, "
            f"{each.lost + each.transition.lost} steps lost"
            for each in bad
        )
        super().__init__(f"not as predicted: {details or 'no step was fed to a fleet that had settled'}")


class Performance(NamedTuple):
    """What the demo leaves: the bundle, its trial's phases, and the figures."""

    bundle: Bundle
    trial: Trial
    reports: list[PhaseReport]


def perform(
    bundle: Path, broker: str | None = None, progress: Callable[[str], None] = lambda _what: None
) -> Performance:
    """Run every act on the bundle in the folder `bundle`."""
    with running_trial(bundle, broker=broker, progress=progress) as trial:
        steps = max(MINIMUM_STEPS, len(trial.held_out.truth))
        alive = frozenset(trial.bundle.manifest.order)
        for act in ACTS:
            progress(f"{act.name}: {steps} steps")
            alive = alive - set(act.killed) | set(act.started)
            run_act(trial, act, alive, steps)
            if act is ACTS[-1]:
                trial.driver.drain()
            else:
                trial.driver.finish()
    return Performance(trial.bundle, trial, trial.reports())


def run_act(trial: Trial, act: Act, alive: frozenset[str], steps: int) -> None:
    """Kill and start agents while samples flow, let the fleet settle, and measure `steps` steps."""
    trial.driver.begin(act.name, alive)
    if trial.agents is not None:
        trial.agents.kill(act.killed)
        trial.agents.start(act.started)
    trial.driver.settle(act.killed)
    trial.driver.measure(steps)


def require_as_predicted(reports: Sequence[PhaseReport]) -> None:
    """Raise NotAsPredicted if a phase lost a step or has a label that was not predicted, or if there is no label."""
    bad = [report for report in reports if not report.ok]
    if bad or not any(report.labels_compared for report in reports):
        raise NotAsPredicted(bad)
