"""The pictures of a report, each drawn onto axes from plain data."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import LogFormatter

from benchmarks.drilled import Course, Stretch
from benchmarks.phases import PhaseReport
from benchmarks.timeline import Timeline, Topology, places
from benchmarks.times import BINS_PER_DECADE

_INK, _QUIET, _MEASURED, _PREDICTED, _DEAD, _SKIP = "#1f2933", "#9aa5b1", "#0b6e99", "#e07a1f", "#c0392b", "#7b5ea7"
_SMOOTHED_STEPS: Final = 25
_POINTS: Final = 400
_NAMED: Final = 16
_APART: Final = 0.045  # of the axis: names any nearer would lie on each other


class Point(NamedTuple):
    """One mask or phase: what was predicted, what was measured, over how many rows; `equal`: label for label."""

    name: str
    predicted: float
    measured: float
    n: int
    equal: bool


def draw_scatter(axes: Axes, points: Sequence[Point]) -> None:
    """Draw measured against predicted accuracy, around the diagonal; the area of a point tells its rows."""
    axes.plot([0, 100], [0, 100], color=_QUIET, linewidth=1, zorder=1)
    most = max((point.n for point in points), default=1) or 1
    points = [point for point in points if point.n]
    for is_equal, colour, label in ((True, _MEASURED, "every label as predicted"), (False, _DEAD, "labels differ")):
        some = [point for point in points if point.equal == is_equal]
        if some:
            xs, ys = [100 * each.predicted for each in some], [100 * each.measured for each in some]
            sizes = [20 + 100 * each.n / most for each in some]
            axes.scatter(xs, ys, s=sizes, color=colour, alpha=0.6, linewidth=0, label=label, zorder=2)
    for point, others in _named(points)[:_NAMED]:
        name = point.name + (f" and {others} more" if others else "")
        at, is_left = (100 * point.predicted, 100 * point.measured), point.predicted > 0.4  # beside the diagonal
        offset, ha = (-8, "right") if is_left else (8, "left")
        axes.annotate(
            name, at, xytext=(offset, 0), textcoords="offset points", fontsize=8, color=_INK, ha=ha, va="center"
        )
    axes.set_xlabel("predicted, %")
    axes.set_ylabel("measured, %")
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    axes.set_aspect("equal")
    finish(axes, "upper left")


def _named(points: Sequence[Point]) -> list[tuple[Point, int]]:
    """Return who is named, and for how many that lie too near: those whose labels differ before all others."""
    near: list[list[Point]] = []
    for point in sorted(points, key=lambda each: each.equal):
        for some in near:
            if max(abs(some[0].predicted - point.predicted), abs(some[0].measured - point.measured)) < _APART:
                some.append(point)
                break
        else:
            near.append([point])
    return [(some[0], len(some) - 1) for some in near]


def draw_course(axes: Axes, course: Course, stretches: Sequence[Stretch]) -> None:
    """Draw accuracy over all steps, measured and predicted, and the share answered; failures are shaded."""
    width = max(1, len(course.sent) // _POINTS)
    sent, answered, right, predicted = (
        _summed(column, width) for column in (course.sent, course.answered, course.right, course.predicted)
    )
    times = course.bucket_s * width * (np.arange(len(sent)) + 0.5)
    with np.errstate(invalid="ignore"):
        axes.plot(times, 100 * predicted / sent, color=_PREDICTED, linewidth=3, label="predicted for the mask")
        axes.plot(times, 100 * right / sent, color=_MEASURED, linewidth=1.4, label="measured, lost steps as wrong")
        axes.plot(times, 100 * answered / sent, color=_INK, linewidth=1, linestyle=":", label="answered")
    for each in stretches:
        dead = each.mask.count("0")
        if not each.mask:
            axes.axvspan(each.from_s, each.to_s, color=_QUIET, alpha=0.6, linewidth=0)
        elif dead:
            axes.axvspan(each.from_s, each.to_s, color=_DEAD, alpha=min(0.4, 0.05 + 0.05 * dead), linewidth=0)
    axes.set_ylim(0, 103)
    axes.set_xlabel("time, s")
    axes.set_ylabel("%")
    axes.margins(x=0.01)
    finish(axes, "lower left")


def _summed(column: Sequence[float], width: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    padded = np.array([*column, *[0] * (-len(column) % width)], float)
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = padded.reshape(-1, width).sum(axis=1)
    return found


def draw_answer_times(axes: Axes, answer_times: Mapping[str, Mapping[int, int]]) -> None:
    """Draw how answer times are distributed under each mask: the share of the answers in each bin."""
    for name, counts in answer_times.items():
        bins = range(min(counts), max(counts) + 2)
        total = sum(counts.values())
        shares = [100 * counts.get(k, 0) / total for k in bins]
        axes.step([10 ** (k / BINS_PER_DECADE) for k in bins], shares, where="post", linewidth=1.4, label=name)
    scale_by_decades(axes, axes.xaxis)
    axes.set_xlabel("answer time, ms")
    axes.set_ylabel("% of the answers")
    finish(axes, "upper right")


def draw_quantiles(axes: Axes, spreads: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """Draw named quantiles of each thing on one logarithmic line."""
    for row, (_, quantiles) in enumerate(spreads.items()):
        values = list(quantiles.values())
        axes.plot([min(values), max(values)], [row, row], color=_QUIET, linewidth=2, zorder=1)
        axes.scatter(values, [row] * len(values), color=_MEASURED, zorder=2)
        for label, value in quantiles.items():
            axes.annotate(
                f"{label} {value:.3g}", (value, row), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_yticks(range(len(spreads)), list(spreads))
    axes.set_ylim(len(spreads) - 0.4, -0.6)
    scale_by_decades(axes, axes.xaxis)
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    _open(axes)


def draw_shares(axes: Axes, *, samples: Mapping[str, Sequence[float]], goals: Mapping[str, float], unit: str) -> None:
    """Draw for each class which share was over by when, on a logarithmic axis, its goal dotted.

    Args:
        axes: Where.
        samples: For each class its times, infinite for what never was.
        goals: For a class, what is to be kept.
        unit: Of the times.
    """
    for number, (name, values) in enumerate(samples.items()):
        if not values:
            continue
        colour = f"C{number}"
        times = sorted(value for value in values if np.isfinite(value))
        shares = np.arange(1, len(times) + 1) / len(values)
        axes.step(times, shares, where="post", color=colour, linewidth=1.4, label=f"{name} ({len(values)})")
        axes.plot(times, shares, ".", markersize=3, color=colour)
        if name in goals:
            axes.axvline(goals[name], color=colour, linestyle=":", linewidth=1.2)
    axes.axhline(0.95, color=_QUIET, linewidth=0.8)
    scale_by_decades(axes, axes.xaxis)
    axes.set_xlabel(unit)
    axes.set_ylabel("share by then")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    _open(axes)


class _Plain(LogFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def scale_by_decades(axes: Axes, axis: Axis) -> None:
    """Make one of the axes logarithmic, and write plain numbers along it: 0.5, not 5 x 10^-1."""
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    axis.set_major_formatter(_Plain())
    axis.set_minor_formatter(_Plain(minor_thresholds=(1, 0.4)))


def finish(axes: Axes, corner: Literal["upper left", "upper right", "lower left"]) -> None:
    """Draw the legend, if there is one, and no frame."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=corner, frameon=False, fontsize=9)
    _open(axes)


def _open(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_topology(axes: Axes, fog: Topology) -> None:
    """Draw sensors and nodes from left to right, simple hyperconnections straight and skips curved."""
    spots = places(fog)
    for each in fog.hyperconnections:
        is_skip = each.kind == "skip"
        axes.add_patch(
            FancyArrowPatch(
                spots[each.source],
                spots[each.target],
                connectionstyle=f"arc3,rad={-0.35 if is_skip else 0}",
                arrowstyle="-|>",
                mutation_scale=14,
                shrinkA=24,
                shrinkB=24,
                color=_SKIP if is_skip else _INK,
                linestyle="--" if is_skip else "-",
            )
        )
    for name, (x, y) in spots.items():
        face = "#e8f1f5" if name in fog.sensors else "#fdebd8" if name == fog.sink else "white"
        circle = {"boxstyle": "round,pad=0.6,rounding_size=0.9", "facecolor": face, "edgecolor": _INK}
        axes.text(x, y, name, ha="center", va="center", fontsize=11, color=_INK, bbox=circle)
    axes.plot([], [], color=_INK, label="simple hyperconnection")
    axes.plot([], [], color=_SKIP, linestyle="--", label="skip hyperconnection")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9, ncols=2)
    xs, ys = zip(*spots.values(), strict=True)
    axes.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    axes.set_ylim(min(ys) - 0.4, max(ys) + 0.8)
    axes.axis("off")


def draw_accuracy(axes: Axes, steps: Timeline, phases: Sequence[PhaseReport]) -> None:
    """Draw measured accuracy over time beside each phase's prediction; phases with dead nodes are shaded."""
    times, right = np.array(steps.sent_s), np.array(steps.right)
    width = min(_SMOOTHED_STEPS, max(1, len(right)))
    smooth = np.convolve(right, np.ones(width) / width, mode="valid")
    axes.plot(times[width - 1 :], 100 * smooth, color=_MEASURED, linewidth=1.4, label=f"measured, last {width} steps")
    for number, (begin, end) in _spans(steps, steady=True).items():
        phase = phases[number]
        if phase.accuracy_predicted is None or phase.accuracy_measured is None:  # none of its steps was answered
            continue
        named = number == 0  # once in the legend
        axes.hlines(
            100 * phase.accuracy_predicted,
            begin,
            end,
            color=_PREDICTED,
            lw=3,
            label="predicted for the phase" if named else "_",
        )
        axes.hlines(
            100 * phase.accuracy_measured,
            begin,
            end,
            color=_INK,
            lw=1.5,
            ls=":",
            label="measured in the phase" if named else "_",
        )
        axes.annotate(phase.name, ((begin + end) / 2, 104), ha="center", fontsize=9, color=_INK, annotation_clip=False)
    _shade(axes, steps, phases)
    axes.set_ylim(0, 103)
    axes.set_xlabel("time, s")
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="lower left", frameon=False, fontsize=9)


def draw_latency(axes: Axes, steps: Timeline, phases: Sequence[PhaseReport]) -> None:
    """Draw each step's answer time, guesses and lost steps marked."""
    times, latency = np.array(steps.sent_s), np.array(steps.latency_ms)
    for outcome, colour, label in (("answer", _MEASURED, "answer"), ("guess", _PREDICTED, "random guess")):
        chosen = np.array([each == outcome for each in steps.outcome], dtype=bool)
        axes.plot(times[chosen], latency[chosen], ".", markersize=3, color=colour, label=label)
    for position, at in enumerate(time for time, each in zip(times, steps.outcome, strict=True) if each == "lost"):
        axes.axvline(at, color=_DEAD, linewidth=0.8, label=None if position else "lost")
    _shade(axes, steps, phases)
    scale_by_decades(axes, axes.yaxis)
    axes.set_ylabel("answer time, ms")
    axes.set_xlabel("time, s")
    axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=3)


def _shade(axes: Axes, steps: Timeline, phases: Sequence[PhaseReport]) -> None:
    for number, (begin, end) in _spans(steps).items():
        dead = sum(not alive for alive in phases[number].mask.values())
        if dead:
            axes.axvspan(begin, end, color=_DEAD, alpha=0.05 + 0.05 * dead, linewidth=0)
    _open(axes)
    axes.margins(x=0.01)


def _spans(steps: Timeline, *, steady: bool = False) -> dict[int, tuple[float, float]]:
    """Return when each phase's first and last step were sent, of all steps or of the steady ones."""
    spans: dict[int, tuple[float, float]] = {}
    for at, number, is_steady in zip(steps.sent_s, steps.phase, steps.steady, strict=True):
        if is_steady or not steady:
            begin, _ = spans.get(number, (at, at))
            spans[number] = (begin, at)
    return spans
