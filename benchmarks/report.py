"""A result as pictures and pages: drawn from its JSON alone, so that any result can be drawn again."""

import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from benchmarks.phases import PhaseReport
from benchmarks.timeline import Timeline, Topology
from broker.errors import FogError

_INK, _QUIET, _MEASURED, _PREDICTED, _DEAD, _SKIP = "#1f2933", "#9aa5b1", "#0b6e99", "#e07a1f", "#c0392b", "#7b5ea7"
_SMOOTHED_STEPS = 25


class ReportError(FogError):
    """A report cannot be written."""


def write_report(result: Mapping[str, Any], folder: Path) -> None:
    """Write `report.html`, one page that needs nothing else, and `report.png` into `folder`."""
    phases = msgspec.convert(result["phases"], list[PhaseReport])
    steps = msgspec.convert(result["timeline"], Timeline)
    fog = msgspec.convert(result["topology"], Topology)
    try:
        summary = Figure(figsize=(12, 8), layout="constrained")
        upper, middle, lower = summary.subplots(3, 1, height_ratios=[1.4, 2, 1.2])
        draw_topology(upper, fog)
        draw_accuracy(middle, steps, phases)
        draw_latency(lower, steps, phases)
        summary.savefig(folder / "report.png", dpi=110)
        (folder / "report.html").write_text(_page(result, phases, steps, fog), encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{error.filename or folder}: cannot write the report ({error.strerror})") from error


def draw_topology(axes: Axes, fog: Topology) -> None:
    """Draw sensors and nodes from left to right, simple hyperconnections straight and skips curved."""
    places = _places(fog)
    for each in fog.hyperconnections:
        is_skip = each.kind == "skip"
        axes.add_patch(
            FancyArrowPatch(
                places[each.source],
                places[each.target],
                connectionstyle=f"arc3,rad={-0.35 if is_skip else 0}",
                arrowstyle="-|>",
                mutation_scale=14,
                shrinkA=24,
                shrinkB=24,
                color=_SKIP if is_skip else _INK,
                linestyle="--" if is_skip else "-",
            )
        )
    for name, (x, y) in places.items():
        face = "#e8f1f5" if name in fog.sensors else "#fdebd8" if name == fog.sink else "white"
        circle = {"boxstyle": "round,pad=0.6,rounding_size=0.9", "facecolor": face, "edgecolor": _INK}
        axes.text(x, y, name, ha="center", va="center", fontsize=11, color=_INK, bbox=circle)
    axes.plot([], [], color=_INK, label="simple hyperconnection")
    axes.plot([], [], color=_SKIP, linestyle="--", label="skip hyperconnection")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    xs, ys = zip(*places.values(), strict=True)
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
    axes.set_yscale("log")
    axes.set_ylabel("answer time, ms")
    axes.set_xlabel("time, s")
    axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=3)


def _shade(axes: Axes, steps: Timeline, phases: Sequence[PhaseReport]) -> None:
    for number, (begin, end) in _spans(steps).items():
        dead = sum(not alive for alive in phases[number].mask.values())
        if dead:
            axes.axvspan(begin, end, color=_DEAD, alpha=0.05 + 0.05 * dead, linewidth=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.margins(x=0.01)


def _spans(steps: Timeline, *, steady: bool = False) -> dict[int, tuple[float, float]]:
    """Return when each phase's first and last step were sent, of all steps or of the steady ones."""
    spans: dict[int, tuple[float, float]] = {}
    for at, number, is_steady in zip(steps.sent_s, steps.phase, steps.steady, strict=True):
        if is_steady or not steady:
            begin, _ = spans.get(number, (at, at))
            spans[number] = (begin, at)
    return spans


def _places(fog: Topology) -> dict[str, tuple[float, float]]:
    """Return where each sensor and node stands: one column per simple hop from the sensors."""
    column = dict.fromkeys(fog.sensors, 0)
    for node in fog.nodes:
        before = [e.source for e in fog.hyperconnections if e.target == node and e.kind == "simple"]
        column[node] = 1 + max(column[source] for source in before)
    places = {}
    for number in sorted(set(column.values())):
        names = [name for name in (*fog.sensors, *fog.nodes) if column[name] == number]
        for row, name in enumerate(names):
            places[name] = (float(number), (len(names) - 1) / 2 - row)
    return places


def _page(result: Mapping[str, Any], phases: Sequence[PhaseReport], steps: Timeline, fog: Topology) -> str:
    template = (resources.files("benchmarks") / "templates" / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(
        result=result,
        phases=phases,
        topology=_svg((10, 2.4), lambda axes: draw_topology(axes, fog)),
        accuracy=_svg((10, 3.4), lambda axes: draw_accuracy(axes, steps, phases)),
        latency=_svg((10, 2.6), lambda axes: draw_latency(axes, steps, phases)),
    )


def _svg(size: tuple[float, float], draw: Any) -> str:
    """Return a drawing as an <svg> element whose text stays text."""
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    output = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fogguard"}):
        figure.savefig(output, format="svg", metadata={"Date": None})
    text = output.getvalue()
    return text[text.index("<svg") :]
