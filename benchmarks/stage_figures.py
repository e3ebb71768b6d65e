"""The pictures of where time goes: the waterfall of one step, and what load a fleet bears."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from matplotlib.axes import Axes

from benchmarks.figures import finish, scale_by_decades
from benchmarks.stages import Bar

_COLOURS: Final = {"wire": "#9aa5b1", "wait": "#e8d5b5", "infer": "#0b6e99", "publish": "#7b5ea7"}
_ERROR: Final = "#c0392b"


def draw_waterfall(axes: Axes, bars: Sequence[Bar], took_ms: float) -> None:
    """Draw a row for each node: its wire with the error of the clocks, its wait, inference and publishing."""
    for row, bar in enumerate(bars):
        moments = (bar.wire_from_ms, bar.opened_ms, bar.closed_ms, bar.inferred_ms, bar.published_ms)
        for (stage, colour), (begin, end) in zip(_COLOURS.items(), pairwise(moments), strict=True):
            axes.barh(row, end - begin, left=begin, height=0.55, color=colour, label=None if row else stage)
        if bar.error_ms:
            label = None if any(each.error_ms for each in bars[:row]) else "where it may lie"
            axes.errorbar(bar.opened_ms, row - 0.36, xerr=bar.error_ms, color=_ERROR, capsize=3, label=label)
    axes.axvline(took_ms, color=_ERROR, linewidth=1, linestyle=":", label="answered")
    axes.set_yticks(range(len(bars)), [bar.node for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.7)
    axes.set_xlim(0, 1.2 * max(took_ms, *(bar.published_ms for bar in bars)))
    axes.set_xlabel("ms since the step was fed")
    finish(axes, "upper right")


def draw_loads(axes: Axes, loads: Sequence[Mapping[str, Any]]) -> None:
    """Draw answer times against the offered load; a load that was not borne is marked."""
    answered = [each for each in loads if each["answers_ms"]]
    rates = [each["offered_per_s"] for each in answered]
    for name, colour in (("p50", _COLOURS["infer"]), ("p99", _COLOURS["publish"])):
        axes.plot(rates, [each["answers_ms"][name] for each in answered], "o-", color=colour, label=name)
    for number, each in enumerate(each for each in loads if not each["borne"]):
        label = None if number else "not borne"
        axes.axvline(each["offered_per_s"], color=_ERROR, linewidth=1, linestyle=":", label=label)
    for axis in (axes.xaxis, axes.yaxis):
        scale_by_decades(axes, axis)
    axes.set_xlabel("offered steps a second")
    axes.set_ylabel("answer time since due, ms")
    finish(axes, "upper left")
