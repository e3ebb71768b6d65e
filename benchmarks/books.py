"""Whether the counters of nodes add up: within a life, and over a calm stretch between a node and its sources.

All of it holds when no step is under way. Within a node, with closed = complete + cut:

    steps = closed + dropped                         each step that was opened has ended, in one way
    closed = waits = publishes = inferences + null   each step that was closed was timed and told
    infer_us = what all inferences took              as far as the bounds of their histogram tell
    late = Σ late of the sources, duplicate likewise
    frames of a source - late - duplicate <= steps   a step takes one frame of each source
    cut <= Σ cut of the sources, each <= cut         a step that is cut off lacks somebody
    Σ rejected >= Σ rejected of the sources          the rest came on other topics

Over a stretch in which everybody lives and nothing fails, as differences of two readings:

    steps = closed = sent                            every step reaches every node, and ends there
    frames of a sensor = sent                        what is sent arrives
    frames of a node = closed at that node - unsent  whatever a node says, each that it feeds hears
    rejected = what was sent that must be refused
"""

from collections.abc import Mapping

from edge_agent.bundle import Manifest
from edge_agent.metrics import Metrics

Readings = Mapping[str, Metrics]


def faults(told: Metrics) -> list[str]:
    """Return which of the sums within a node's life do not come out, in words."""
    counters, sources, stages = told.counters, told.sources, told.stages
    closed = counters.complete + counters.cut
    late = sum(source.late for source in sources.values())
    duplicate = sum(source.duplicate for source in sources.values())
    cut = sum(source.cut for source in sources.values())
    rejected = sum(told.rejected.values())
    took_us = range(
        sum(n * (1 << k >> 1) for k, n in enumerate(stages.infer.counts)),
        1 + sum(n * ((1 << k) - 1) for k, n in enumerate(stages.infer.counts)),
    )
    of_sources = sum(sum(source.rejected.values()) for source in sources.values())
    sums = {
        f"steps {counters.steps} = complete + cut {closed} + dropped {counters.dropped}": (
            counters.steps == closed + counters.dropped
        ),
        f"waits {sum(stages.wait.counts)} = closed {closed}": sum(stages.wait.counts) == closed,
        f"publishes {sum(stages.publish.counts)} = closed {closed}": sum(stages.publish.counts) == closed,
        f"inferences {sum(stages.infer.counts)} + null {counters.null} = closed {closed}": (
            sum(stages.infer.counts) + counters.null == closed
        ),
        f"inferences took {counters.infer_us} µs, from {took_us.start} to below {took_us.stop}": (
            counters.infer_us in took_us or bool(stages.infer.counts[-1])  # that one has no end
        ),
        f"late {counters.late} = of sources {late}": counters.late == late,
        f"duplicate {counters.duplicate} = of sources {duplicate}": counters.duplicate == duplicate,
        f"cut {counters.cut} <= of sources {cut}": counters.cut <= cut,
        f"rejected {rejected} >= of sources {of_sources}": rejected >= of_sources,
    }
    for name, source in sources.items():
        kept = source.frames - source.late - source.duplicate
        sums[f"0 <= frames kept of {name} {kept} <= steps {counters.steps}"] = 0 <= kept <= counters.steps
        sums[f"cut of {name} {source.cut} <= cut {counters.cut}"] = source.cut <= counters.cut
    return [f"{told.node}: {text} does not hold" for text, holds in sums.items() if not holds]


def faults_between(
    manifest: Manifest, before: Readings, after: Readings, sent: int, refused: Mapping[str, int]
) -> list[str]:
    """Return which of the sums over a calm stretch do not come out, in words.

    Args:
        manifest: Of the bundle that runs.
        before: Every node, no step under way.
        after: The same later, no step under way.
        sent: Steps that were sent between.
        refused: For each node, how many messages between must have been refused.
    """
    found = []
    for node, now in after.items():
        then = before[node]
        if now.epoch != then.epoch:
            found.append(f"{node}: began life {now.epoch} after {then.epoch}, though nothing happened")
            continue
        sums = {
            f"steps {(steps := now.counters.steps - then.counters.steps)} = sent {sent}": steps == sent,
            f"closed {(closed := _closed(now) - _closed(then))} = sent {sent}": closed == sent,
            f"rejected {(count := _rejected(now) - _rejected(then))} = refused {refused.get(node, 0)}": (
                count == refused.get(node, 0)
            ),
        }
        for source, tally in now.sources.items():
            frames = tally.frames - then.sources[source].frames
            least = most = sent
            if source in manifest.nodes:
                most = _closed(after[source]) - _closed(before[source])
                least = most - (after[source].counters.unsent - before[source].counters.unsent)
            sums[f"frames of {source} {frames} = what it sent {most}"] = least <= frames <= most
        found += [f"{node}, in a calm stretch: {text} does not hold" for text, holds in sums.items() if not holds]
    return found


def _closed(told: Metrics) -> int:
    return told.counters.complete + told.counters.cut


def _rejected(told: Metrics) -> int:
    return sum(told.rejected.values())
