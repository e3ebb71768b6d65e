"""What a report shows of fleets whose nodes fail while samples flow: demo, run and drill."""

from functools import partial
from typing import Final

import msgspec
from msgspec.structs import astuple

from benchmarks.culprits import Finding
from benchmarks.drilled import Drilled
from benchmarks.figures import Point, draw_accuracy, draw_answer_times, draw_course, draw_latency
from benchmarks.phases import PhaseReport
from benchmarks.sections import GUESS_NOTE, Picture, Report, Result, Section, blame, judged, percent, scatter, to_blame
from benchmarks.timeline import Timeline
from benchmarks.times import quantile_ms

_DRAWN_MASKS: Final = 6


def of_phases(result: Result) -> Report:
    """Return what to show of a demo or a run."""
    phases = msgspec.convert(result["phases"], list[PhaseReport])
    sections = []
    if phases and "timeline" in result:
        steps = msgspec.convert(result["timeline"], Timeline)
        sections = [
            Section(
                "Accuracy over time", Picture("accuracy", (10, 3.4), lambda axes: draw_accuracy(axes, steps, phases))
            ),
            Section("Answer time", Picture("latency", (10, 2.6), lambda axes: draw_latency(axes, steps, phases))),
        ]
    points = [
        Point(each.name, each.accuracy_predicted, each.accuracy_measured, each.labels_compared, each.ok)
        for each in phases
        if each.accuracy_predicted is not None and each.accuracy_measured is not None
    ]
    table = Section(
        "By phase",
        columns=(
            *("phase", "dead", "sent", "answered", "lost", "late", "guesses", "measured %", "predicted %"),
            *("labels as predicted", "p50 ms", "p95 ms", "p99 ms", "death seen after", "under way at the change"),
        ),
        rows=[_phase_row(each) for each in phases],
        bad=frozenset(number for number, each in enumerate(phases) if not each.ok),
        note=f"{GUESS_NOTE} Accuracies are on the same rows. Answer times are from the sensor's publish to the "
        "answer, on one clock. A phase begins once the sink's view shows its nodes and one step has answered under it; "
        "the steps before that are “under way at the change”.",
    )
    ok = judged(sum(each.labels_compared for each in phases), is_bad=not all(each.ok for each in phases))
    verdict = {
        True: "Every steady step was answered, and every label is the one that the bundle predicts.",
        False: "Not as predicted: the rows marked below lost a step or answered otherwise than the bundle predicts.",
        None: "No label was compared.",
    }[ok]
    findings = msgspec.convert(result.get("findings", []), list[Finding])  # a demo names nobody
    if findings:
        verdict, sections = f"{verdict} {to_blame(findings)}", [blame(findings), *sections]
    return Report("Answers while devices are unplugged", ok, verdict, [*sections, scatter(points), table])


def _phase_row(phase: PhaseReport) -> list[str]:
    return [
        phase.name,
        " ".join(node for node, alive in phase.mask.items() if not alive) or "-",
        *map(str, (phase.sent, phase.answered, phase.lost, phase.late, phase.guesses)),
        *(percent(phase.accuracy_measured), percent(phase.accuracy_predicted)),
        f"{phase.labels_equal} of {phase.labels_compared}",
        *(f"{ms:.1f}" if phase.answered else "-" for ms in astuple(phase.latency_ms)),
        ", ".join(f"{node} {ms:.1f} ms" for node, ms in phase.sensed_ms.items()) or "-",
        f"{phase.transition.answered} of {phase.transition.sent} answered",
    ]


def of_drill(result: Result) -> Report:
    """Return what to show of a drill."""
    found = msgspec.convert(result, Drilled, strict=False)
    masks = sorted(found.masks, key=lambda each: -each.sent)
    bad = frozenset(number for number, each in enumerate(masks) if each.lost or each.labels_equal < each.n)
    points = [
        Point(each.mask, each.accuracy_predicted, each.accuracy_measured, each.n, each.labels_equal == each.n)
        for each in masks
        if each.n
    ]
    times = {each.mask: each.answer_times for each in masks[:_DRAWN_MASKS] if each.answer_times}
    over_time = partial(draw_course, course=found.course, stretches=found.stretches)
    tally = Section(
        f"By mask of {', '.join(found.order)}",
        columns=(
            *("mask", "sent", "answered", "lost", "late", "guesses", "changing", "held up", "measured %"),
            *("predicted %", "labels as predicted", "p50 ms", "p99 ms"),
        ),
        rows=[
            [
                each.mask,
                *map(str, (each.sent, each.answered, each.lost, each.late, each.guesses, each.changing, each.held_up)),
                *((percent(each.accuracy_measured), percent(each.accuracy_predicted)) if each.n else ("-", "-")),
                f"{each.labels_equal} of {each.n}",
                *(f"{quantile_ms(each.answer_times, share):.1f}" for share in (0.5, 0.99)),
            ]
            for each in masks
        ],
        bad=bad,
        note=f"{GUESS_NOTE} Steps under way while the mask changed are “changing”; answers that somebody who lives is "
        "missing in are “held up”. Neither is compared.",
    )
    deeds = Section(
        "What was done",
        columns=("at s", "node", "what", "seen by the sink after ms"),
        rows=[
            [f"{each.at_s:.1f}", each.node, each.what, "-" if each.sensed_ms is None else f"{each.sensed_ms:.1f}"]
            for each in found.deeds
        ],
    )
    hand = Section(
        "By hand", columns=("at s", "what", "said"), rows=[[f"{r.at_s:.1f}", r.kind, r.text] for r in found.remarks]
    )
    sections = [
        *([blame(found.findings)] if found.findings else []),
        Section("Over time", Picture("course", (10, 3.4), over_time)),
        scatter(points),
        Section("Answer times", Picture("answer-times", (10, 3), lambda axes: draw_answer_times(axes, times))),
        tally,
        *(section for section in (deeds, hand) if section.rows),
    ]
    sent, answered, right, predicted = found.course.last(found.elapsed_s + found.course.bucket_s)
    share = (
        f"; accuracy over all steps {percent(right / sent)} %, predicted {percent(predicted / sent)} %" if sent else ""
    )
    verdict = (
        f"{found.elapsed_s:.0f} s: {answered} of {sent} steps answered, {found.total('labels_equal')} of "
        f"{found.total('n')} labels as predicted, {found.total('lost')} steps lost, {found.lost_in_outages} in "
        f"outages{share}."
    )
    verdict += f" {to_blame(found.findings)}" if found.findings else ""
    compared = found.total("n")
    ok = judged(compared, is_bad=bool(bad or found.findings or (found.finished and not compared)))
    return Report(f"A drill: {found.plan.mode}", ok, verdict, sections)
