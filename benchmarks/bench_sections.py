"""What a report shows of benchmarks and evaluations."""

import msgspec

from benchmarks import memory
from benchmarks.accuracy import AverageAccuracy, MaskAccuracy
from benchmarks.culprits import Finding
from benchmarks.figures import Point, draw_quantiles
from benchmarks.running_sections import stages_of
from benchmarks.sections import GUESS_NOTE, Picture, Report, Result, Section, blame, judged, percent, scatter, to_blame
from benchmarks.soaked import Soaked
from benchmarks.switched import COLUMNS, Switch
from export.average import Evaluation


def of_accuracy(result: Result) -> Report:
    """Return what to show of `bench accuracy`."""
    masks = msgspec.convert(result["masks"], list[MaskAccuracy])
    averages = msgspec.convert(result["average"], dict[str, AverageAccuracy])
    bad = frozenset(k for k, each in enumerate(masks) if each.lost or not result["rows"] == each.n == each.labels_equal)
    points = [
        Point(each.mask, each.accuracy_predicted, each.accuracy_measured, each.n, each.labels_equal == each.n)
        for each in masks
    ]
    by_setting = Section(
        "Average accuracy, Eq. (3)",
        columns=("setting", "measured %", "predicted %", "± rows", "probability covered"),
        rows=[
            [
                *(name, percent(each.measured), percent(each.predicted), percent(each.ci95)),
                f"{each.covered:.4f}",
            ]
            for name, each in averages.items()
        ],
    )
    by_mask = Section(
        f"By mask of {', '.join(result['order'])}",
        columns=("mask", "rows", "measured %", "predicted %", "labels as predicted", "guesses", "cut", "lost"),
        rows=[
            [
                *(each.mask, str(each.n), percent(each.accuracy_measured), percent(each.accuracy_predicted)),
                *(f"{each.labels_equal} of {each.n}", *map(str, (each.guesses, each.cut, each.lost))),
            ]
            for each in masks
        ],
        bad=bad,
        note=GUESS_NOTE,
    )
    findings = msgspec.convert(result.get("findings", []), list[Finding])  # measured before there were any
    equal, compared = sum(each.labels_equal for each in masks), sum(each.n for each in masks)
    verdict = f"{len(masks)} masks, nodes fail by {result['by']}: {equal} of {compared} labels as predicted."
    verdict += f" {to_blame(findings)}" if findings else ""
    sections = [*([blame(findings)] if findings else []), scatter(points), by_setting, by_mask]
    ok = judged(compared, is_bad=bool(bad or findings))
    return Report("Average accuracy, measured on a running fleet", ok, verdict, sections)


def of_latency(result: Result) -> Report:
    """Return what to show of `bench latency`."""
    names = ("p50_ms", "p95_ms", "p99_ms")
    spreads = {
        who: {name.removesuffix("_ms"): float(figures[name]) for name in names}
        for who, figures in (("fleet", result), ("bare relay", result["floor"]))
    }
    picture = Picture("latency", (10, 2.4), lambda axes: draw_quantiles(axes, spreads, "answer time, ms"))
    times = Section(
        "Answer times",
        picture,
        ("", "fleet", "bare relay", "ratio"),
        [
            [name, *(f"{each[name]:.2f}" for each in (result, result["floor"], result["floor"]["ratio"]))]
            for name in (*names, "steps_per_s")
        ],
        note="The bare relay is the barest chain of the same graphs on the same broker, timed in turns with the fleet.",
    )
    keys = ("rss_mb", "ready_s", "idle_cpu_percent")
    costs = Section(
        "What the agents cost",
        columns=("agent", "resident MB", "ready after s", "idle, % of a core"),
        rows=[[node, *(f"{result[key][node]:.1f}" for key in keys)] for node in result["rss_mb"]],
    )
    verdict = f"Medians of {result['rounds']} rounds of {result['steps']} steps."
    if "waterfall" not in result:  # measured before agents could tell
        return Report("How fast a fleet answers", None, verdict, [times, costs])
    ok, blamed, sections = stages_of(result)
    return Report("How fast a fleet answers", ok, f"{verdict} {blamed}", [times, costs, *sections])


def of_soak(result: Result) -> Report:
    """Return what to show of `bench soak`."""
    found = msgspec.convert(result, Soaked, strict=False)
    steps = Section(
        "Steps",
        columns=("", "n"),
        rows=[[name.replace("_", " "), str(getattr(found.steps, name))] for name in found.steps.__struct_fields__]
        + [[f"{event} events", str(count)] for event, count in sorted(found.events.items())],
    )
    held = Section("Resident memory", columns=memory.COLUMNS, rows=memory.rows_of(found.memory))
    violations = Section("Violations", columns=("what",), rows=[[text] for text in found.violations])
    verdict = f"{found.elapsed_s:.0f} s at full load, {found.violated} violations."
    ok = judged(found.steps.compared, is_bad=not found.ok)
    return Report("A soak", ok, verdict, [steps, held, *([violations] if found.violations else [])])


def of_switch(result: Result) -> Report:
    """Return what to show of `bench switch`."""
    found = msgspec.convert(result["switches"], list[Switch])
    sections = [Section(f"{each.old} to {each.new}", columns=COLUMNS, rows=each.rows) for each in found]
    held = [
        (f"{each.old} to {each.new}, {when}", node, f"{mb:.1f}")
        for each in found
        for when, by_node in each.rss_mb.items()
        for node, mb in by_node.items()
    ]
    sections.append(Section("Resident memory", columns=("when", "agent", "MB"), rows=held))
    faults = [fault for each in found for fault in each.faults]
    whole = "No step was lost or answered by another bundle, and every label is the predicted one."
    compared = sum(stretch.labels_compared for each in found for stretch in each.stretches)
    ok = judged(compared, is_bad=bool(faults))
    verdict = "; ".join(faults) or (whole if compared else "No label was compared.")
    return Report("From one bundle to another, under load", ok, verdict, sections)


def of_evaluation(result: Result) -> Report:
    """Return what to show of `train`, `evaluate` and the result tables."""
    found = msgspec.convert(result, Evaluation)
    rows = [
        [name, *(f"{percent(variant.average[setting].mean)}" for setting in found.settings)]
        for name, variant in found.variants.items()
    ]
    table = Section("Average accuracy, Eq. (3), %", columns=("variant", *found.settings), rows=rows)
    verdict = f"{found.n} {found.part} rows; a random guess is right in {percent(found.chance)} %."
    return Report("Accuracy under node failures", None, verdict, [table])
