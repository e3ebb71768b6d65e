"""Feed a fleet and follow what happens to it: a new phase whenever the sink sees a node die or come back."""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.evidence import Evidence
from benchmarks.fleet import Trial
from benchmarks.phases import latency
from benchmarks.witness import Witness
from broker.errors import FailureFound
from export.failures import accuracy


def follow(
    trial: Trial,
    steps: int,
    down: frozenset[str],
    report: Callable[[str], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Feed `steps` steady steps, or for ever if 0; `report` is told about every change and once a second.

    Args:
        trial: The running fleet.
        steps: How many.
        down: The nodes that were not started.
        report: Takes one line.
        meanwhile: Called again and again while steady steps are fed.
    """
    driver = trial.driver
    driver.watch = lambda: None  # from here on a node that dies is what we came for
    alive = frozenset(trial.bundle.manifest.order) - down
    left = steps
    while True:
        driver.begin(_name(trial, alive), alive, noticed=True)
        changed = _changed(trial, alive, report)

        def over(changed: Callable[[], bool] = changed) -> bool:
            meanwhile()
            return changed()

        if driver.settle(until=changed):
            driver.measure(left or 1 << 62, until=over)
        left -= len(driver.phases[-1].steady) if steps else 0
        if steps and left <= 0:
            driver.drain()
            return
        alive = driver.told.sink_alive()


def follow_witnessed(
    trial: Trial, evidence: Evidence, steps: int, down: frozenset[str], report: Callable[[str], None]
) -> BaseException | None:
    """Follow a fleet, and take in whom the evidence speaks against; return what has ended that, if it was too soon."""
    try:
        with Witness(trial, evidence) as witness:
            follow(trial, steps, down, report, witness.ask_suspects)
    except KeyboardInterrupt as interrupt:  # the way to end it, unless a number of steps was asked for
        trial.driver.drain()
        return interrupt if steps else None
    except FailureFound as failure:
        return failure
    return None


def _changed(trial: Trial, alive: frozenset[str], report: Callable[[str], None]) -> Callable[[], bool]:
    """Return whether the sink sees others alive than `alive`; a call of it reports, once a second."""
    next_s = time.monotonic() + 1

    def changed() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s += 1
            report(_line(trial))
        return trial.driver.told.sink_alive() != alive

    return changed


def _name(trial: Trial, alive: frozenset[str]) -> str:
    """Return who is out of it, and how the sink sees them."""
    states = trial.driver.told.sink_states()
    out: dict[str, list[str]] = {}
    for node in trial.bundle.manifest.order:
        if node not in alive:
            out.setdefault(states.get(node, "dead"), []).append(node)
    return "; ".join(f"{', '.join(nodes)} {state}" for state, nodes in out.items()) or "all alive"


def _line(trial: Trial) -> str:
    """Return the state of the phase in one line."""
    phase = trial.driver.phases[-1]
    answered = [record for record in phase.steady if record.is_answered]
    if not answered:
        return f"{phase.name}: no answer yet"
    rows = np.array([record.row for record in answered])
    found = np.array([record.label for record in answered])
    prior, truth = trial.bundle.manifest.prior, trial.held_out.truth[rows]
    expected = trial.predicted[trial.bundle.manifest.mask_key(phase.alive)][rows]
    return (
        f"{phase.name}: {len(answered)} answered, accuracy {100 * accuracy(found, truth, prior):.2f} % "
        f"(predicted {100 * accuracy(expected, truth, prior):.2f} %), "
        f"{int((found != expected).sum())} labels differ, p50 {latency(answered).p50:.1f} ms"
    )
