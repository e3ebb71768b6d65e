"""A fleet's figures in the text format of Prometheus, version 0.0.4.

Written by hand, as the figures are kept elsewhere: by the agents, whose histograms hold no sums, so there is no `_sum`.
A node's counters begin anew with its agent, as counters may. While the broker is away nothing is claimed of the nodes.
"""

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from benchmarks.watched import STAGES, Snapshot
from broker.presence import State
from edge_agent.metrics import Histogram, Metrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float]]


def exposition(now: Snapshot, metrics: Mapping[str, Metrics]) -> str:
    """Return the page of a fleet."""
    return "".join((*_of_fleet(now), *_of_nodes(now), *_of_work(metrics)))


def _of_fleet(now: Snapshot) -> Iterable[str]:
    answers, expected = now.answers, now.expected_accuracy
    yield _family("fogguard_info", "gauge", "What is watched.", [({"bundle": now.bundle, "fleet": now.fleet}, 1)])
    yield _family("fogguard_broker_up", "gauge", "Whether the fleet's broker is there.", [({}, int(now.broker_up))])
    counts: Samples = [({"complete": "true"}, answers.complete), ({"complete": "false"}, answers.incomplete)]
    about = "Answers since watching began; complete: no living node was cut off on the way."
    yield _family("fogguard_answers_total", "counter", about, counts)
    about = "Answers that were random guesses, because nothing came."
    yield _family("fogguard_guesses_total", "counter", about, [({}, answers.guesses)])
    about = "The accuracy that the bundle predicts for the nodes that are alive."
    samples: Samples = [] if expected is None else [({}, expected)]
    yield _family("fogguard_expected_accuracy_ratio", "gauge", about, samples)


def _of_nodes(now: Snapshot) -> Iterable[str]:
    known = [(each.name, each.state) for each in now.nodes if each.state] if now.broker_up else []
    up: Samples = [({"node": name}, int(state == "alive")) for name, state in known]
    yield _family("fogguard_node_up", "gauge", "Whether a node is alive and well.", up)
    states: Samples = [
        ({"node": name, "state": each}, int(state == each)) for name, state in known for each in get_args(State)
    ]
    yield _family("fogguard_node_state", "gauge", "1 for the state that a node is in.", states)


def _of_work(metrics: Mapping[str, Metrics]) -> Iterable[str]:
    sources = [
        ({"node": node, "source": name}, source)
        for node, told in metrics.items()
        for name, source in told.sources.items()
    ]
    for name, field, about in (
        ("frames", "frames", "Frames that came from a source."),
        ("late_frames", "late", "Frames that came after their step was over."),
        ("missed_frames", "cut", "Steps that waited for a source in vain."),
    ):
        samples: Samples = [(labels, getattr(source, field)) for labels, source in sources]
        yield _family(f"fogguard_{name}_total", "counter", about, samples)
    steps: Samples = [
        ({"node": node, "outcome": outcome}, getattr(told.counters, outcome))
        for node, told in metrics.items()
        for outcome in ("complete", "cut", "dropped")
    ]
    yield _family("fogguard_steps_total", "counter", "Steps that ended: complete, cut off, dropped at overload.", steps)
    for name, field, about in (
        ("null_steps", "null", "Steps for which the null vector was put out."),
        ("suspicions", "suspicions", "How often an ancestor fell silent."),
        ("reconnects", "reconnects", "Connections to the broker after the first."),
        ("unsent_messages", "unsent", "Messages not sent because the link was down or stuck."),
    ):
        samples = [({"node": node}, getattr(told.counters, field)) for node, told in metrics.items()]
        yield _family(f"fogguard_{name}_total", "counter", about, samples)
    rejected: Samples = [
        ({"node": node, "reason": reason}, count)
        for node, told in metrics.items()
        for reason, count in told.rejected.items()
    ]
    yield _family("fogguard_rejected_total", "counter", "Messages that were refused.", rejected)
    stages = [
        ({"node": node, "stage": stage}, getattr(told.stages, stage))
        for node, told in metrics.items()
        for stage in STAGES
    ]
    yield _histogram("fogguard_stage_duration_seconds", "How long a step spent in each stage of a node.", stages)


def _family(name: str, kind: str, about: str, samples: Samples) -> str:
    return _page(name, kind, about, [_sample(name, *sample) for sample in samples])


def _histogram(name: str, about: str, samples: Iterable[tuple[Labels, Histogram]]) -> str:
    lines = []
    for labels, histogram in samples:
        below = 0
        for power, count in enumerate(histogram.counts):
            below += count
            is_last = power == len(histogram.counts) - 1
            bound = "+Inf" if is_last else repr((1 << power) / 1e6)
            lines.append(_sample(f"{name}_bucket", {**labels, "le": bound}, below))
        lines.append(_sample(f"{name}_count", labels, below))
    return _page(name, "histogram", about, lines)


def _page(name: str, kind: str, about: str, lines: list[str]) -> str:
    return "\n".join([f"# HELP {name} {about}", f"# TYPE {name} {kind}", *lines, ""]) if lines else ""


def _sample(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{written}}} {value}" if written else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
